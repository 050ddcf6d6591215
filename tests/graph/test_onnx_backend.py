"""onnx's own backend tests of nodes and small models, all, with its data and tolerances.

A test whose model is refused is not claimed and stands by name in docs/records/onnx-operators.md,
so that what runs cannot shrink unseen; every other test has to pass.
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.peers import peer
from vledge.errors import UnsupportedError

onnx = peer("onnx")

from tools import onnx_coverage  # noqa: E402
from vledge.integrations import onnx_backend  # noqa: E402

if f"of onnx {onnx.__version__}," not in onnx_coverage.DOCUMENT.read_text():
    if os.environ.get("VLEDGE_REQUIRE_PEERS") == "1":
        raise RuntimeError(f"onnx-operators.md is of another onnx than {onnx.__version__}")
    pytest.skip("onnx-operators.md is of another onnx", allow_module_level=True)

CASES = onnx_coverage.cases()
NODES = {name for name, case in CASES.items() if case.kind == "node"}
NOT_CLAIMED = onnx_coverage.listed()


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    if name in NOT_CLAIMED:
        with pytest.raises(UnsupportedError, match="cannot run here"):
            onnx_backend.prepare(CASES[name].model)
    else:
        onnx_coverage.run(CASES[name])


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_CLAIMED))
def test_case_without_the_native_program(name, monkeypatch):
    """The plan's Python function, which is what the native program is measured by."""
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    onnx_coverage.run(CASES[name])


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (name, first)
        for name in sorted(NODES - NOT_CLAIMED)
        for first in range(min(len(CASES[name].model.graph.input), 2))
        if not any(
            given is None or isinstance(given, list)
            for given in CASES[name].data_sets[0][0][first:]
        )
    ],
)
def test_what_is_known_at_load_changes_nothing(name, first):
    """The test with its inputs from ``first`` on as constants; sequences are none."""
    case = CASES[name]
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    infos = list(model.graph.input)[first:]
    del model.graph.input[first:]
    for info, given in zip(infos, inputs[first:], strict=True):
        is_proto = isinstance(given, onnx.TensorProto)
        array = onnx.numpy_helper.to_array(given) if is_proto else np.asarray(given)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    onnx_coverage.run(replace(case, model=model, data_sets=[(inputs[:first], outputs)]))


def test_every_recurrent_test_is_claimed():
    prefixes = ("test_gru", "test_lstm", "test_rnn", "test_simple_rnn")
    recurrent = {name for name in NODES if name.startswith(prefixes)}
    assert len(recurrent) == 18
    assert not recurrent & NOT_CLAIMED


def test_most_tests_are_claimed():
    assert CASES.keys() >= NOT_CLAIMED
    assert len(NODES - NOT_CLAIMED) >= 1637
    assert len(CASES.keys() - NODES - NOT_CLAIMED) >= 105


def test_every_test_of_sequences_is_claimed():
    parts = ("sequence_", "_seq", "optional", "_opt", "concat_from", "bernoulli", "multinomial")
    those = {name for name in CASES if any(part in name for part in parts)}
    assert len(those) >= 50
    assert not {name for name in those & NOT_CLAIMED if "linear" not in name}


def test_the_reference_fallback_runs_or_refuses_the_others():
    peer("PIL.Image")  # onnx's reference reads pictures with it
    passed, failed = 0, {}
    for name in NOT_CLAIMED:
        try:
            onnx_coverage.run(CASES[name], fallback="reference")
            passed += 1
        except UnsupportedError:
            pass  # types that no array holds
        except Exception as error:
            failed[name] = error
    assert not failed
    assert passed >= 100


def test_the_document_is_current():
    assert onnx_coverage.DOCUMENT.read_text() == onnx_coverage.document(NOT_CLAIMED), (
        "run python tools/onnx_coverage.py"
    )


def test_a_wrong_result_fails():
    case = CASES["test_relu"]
    inputs, outputs = case.data_sets[0]
    wrong = replace(case, data_sets=[(inputs, [outputs[0] + np.float32(0.01)])])
    onnx_coverage.run(case)
    with pytest.raises(AssertionError):
        onnx_coverage.run(wrong)


def test_the_backend_answers_what_onnx_asks():
    relu, refused = CASES["test_relu"], CASES["test_linear_attention_linear"]
    assert onnx_backend.is_compatible(relu.model)
    assert not onnx_backend.is_compatible(refused.model)
    assert not onnx_backend.is_compatible(relu.model, "CUDA")
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    assert not onnx_backend.supports_device("toaster")
    (x,), (y,) = relu.data_sets[0]
    np.testing.assert_array_equal(onnx_backend.run_model(relu.model, [x])[0], y)
    loaded = onnx_backend.prepare(relu.model)
    np.testing.assert_array_equal(loaded.run(x)[0], y)
    with pytest.raises(ValueError, match="2 inputs are given, the model has 1: x"):
        loaded.run([x, x])
    with pytest.raises(UnsupportedError, match="CUDA"):
        onnx_backend.prepare(relu.model, "CUDA")
