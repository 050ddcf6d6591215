"""Registered operators against onnx's schemas: every operator set, attribute, default and input."""

import inspect

import pytest

from tests.peers import peer
from vledge.graph.native.types import as_first_input
from vledge.graph.plan import NEWEST_OPSET, OLDEST_OPSET
from vledge.graph.registry import find, known_operators

onnx = peer("onnx")

OURS = sorted(op_type for domain, op_type in known_operators() if not domain)
# Deprecated as wrongly defined, but written by exporters for a year and run by onnxruntime.
STILL_RUN = {("GroupNormalization", opset) for opset in (18, 19, 20)}
# onnxruntime's optimizer writes them into ONNX's domain, whatever the operator set.
STILL_RUN |= {("LayerNormalization", opset) for opset in range(OLDEST_OPSET, 17)}
STILL_RUN |= {
    ("SimplifiedLayerNormalization", opset) for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1)
}
# Defaults that depend on the node, or stand for the schema's in another way.
OTHER_DEFAULTS = {("RNN", "activations"), ("MeanVarianceNormalization", "axes")}
# What models with recurrent layers are made of (the union over published files).
IN_REAL_FILES = """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape
    Conv ConvInteger ConvTranspose CumSum DFT DequantizeLinear Div Dropout DynamicQuantizeLinear
    Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool Greater GreaterOrEqual HardSigmoid Identity If InstanceNormalization LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul MatMulInteger Max
    MaxPool MelWeightMatrix Min Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear
    RNN Range ReduceL2 ReduceMax ReduceMean ReduceSum Relu Reshape Resize ReverseSequence STFT
    Scan ScatterElements ScatterND Shape Sigmoid Size Slice Softmax Softplus Split Sqrt Squeeze
    Sub Tanh Tile TopK Transpose Unsqueeze Where
"""


def schema_of(op_type, opset):
    """The schema, or None if the operator set has no such operator."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def test_what_real_files_hold_is_there():
    assert set(IN_REAL_FILES.split()) <= set(OURS)
    assert ("com.microsoft", "DynamicQuantizeLSTM") in known_operators()


@pytest.mark.parametrize("op_type", OURS)
def test_an_operator_is_there_in_every_set_that_has_it(op_type):
    for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1):
        if (op_type, opset) not in STILL_RUN:
            here, there = find(op_type, "", opset), schema_of(op_type, opset)
            assert (here is None) == (there is None), f"operator set {opset}"


@pytest.mark.parametrize("op_type", OURS)
def test_every_attribute_is_known_with_its_default(op_type):
    for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1):
        schema = schema_of(op_type, opset)
        for name, attribute in schema.attributes.items() if schema else ():
            default = find(op_type, "", opset).attributes[name]
            if attribute.required:
                # one of Constant's attributes has to be there, whatever its name is
                assert default is inspect.Parameter.empty or op_type == "Constant", name
                continue
            assert default is not inspect.Parameter.empty, name
            if attribute.default_value.type and (op_type, name) not in OTHER_DEFAULTS:
                wanted = onnx.helper.get_attribute_value(attribute.default_value)
                wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
                assert default == (wanted if isinstance(wanted, str) else pytest.approx(wanted))


@pytest.mark.parametrize("op_type", OURS)
def test_as_many_inputs_as_the_schema_allows(op_type):
    for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1):
        schema, entry = schema_of(op_type, opset), find(op_type, "", opset)
        if schema is not None:
            fewest, most = entry.inputs
            assert fewest <= schema.min_input
            assert most is None or most >= schema.max_input


def test_the_newest_operator_set_is_onnxs():
    assert onnx.defs.onnx_opset_version() == NEWEST_OPSET


# Theirs is another way: bodies' results, sequences', always bool.
TYPES_FROM_ELSEWHERE = {"Not", "Scan", "SequenceErase", "SequenceInsert", "SequenceMap"}


@pytest.mark.parametrize("op_type", OURS)
def test_a_result_of_the_first_inputs_type_is_known_as_such(op_type):
    """What follows an operator whose result is of no known type runs in Python."""
    schema = schema_of(op_type, NEWEST_OPSET)
    if schema is None or not schema.inputs or op_type in TYPES_FROM_ELSEWHERE:
        pytest.skip("of no inputs, or of no type of theirs")
    if schema.outputs[0].type_str == schema.inputs[0].type_str:
        assert as_first_input(op_type)
