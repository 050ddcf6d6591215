"""What a file may say of a node that no operator can mean: each an error of ours with the node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vledge
from vledge.budget import Limits
from vledge.errors import FormatError, LimitError, VledgeError
from vledge.formats.onnx.model import read_proto
from vledge.graph.arity import outputs_of
from vledge.graph.plan import Plan
from vledge.graph.registry import known_operators
from vledge.model.definition import Graph, Model, Node, ValueInfo

F, I8 = np.float32, np.int8


def ran(
    op_type: str,
    inputs: tuple[str, ...],
    feed: dict[str, Any],
    known: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
    **attributes: Any,
) -> list[Any]:
    """The outputs of a model of one node."""
    node = Node(op_type, list(inputs), list(outputs), attributes, "n")
    graph = Graph(
        [node],
        [ValueInfo(name, "", None) for name in feed],
        [ValueInfo(name, "", None) for name in outputs],
        {name: np.asarray(value) for name, value in (known or {}).items()},
    )
    plan = Plan(Model(graph, {"": 21}), {})
    return plan.run(*(np.asarray(feed[name]) for name in plan.inputs))


@pytest.mark.parametrize(
    ("op_type", "count"),
    [("QLinearMatMul", 3), ("MatMulInteger", 1), ("QLinearConv", 4), ("ConvInteger", 1),
     ("MatMul", 1), ("Gemm", 1), ("And", 1), ("Where", 2)],
)  # fmt: skip
@pytest.mark.parametrize("absent", [False, True])
def test_too_few_inputs(op_type: str, count: int, absent: bool) -> None:
    names = tuple(f"x{i}" for i in range(count))
    feed = {name: np.zeros((2, 2), I8) for name in names}
    with pytest.raises(FormatError, match=rf"node 'n' \({op_type}\): .*(inputs?|absent)"):
        ran(op_type, (*names, "") if absent else names, feed)


@pytest.mark.parametrize(("op_type", "dtype"), [("Identity", F), ("Relu", F), ("Add", F)])
def test_more_outputs_than_there_are(op_type: str, dtype: type) -> None:
    feed = {"x": np.zeros(3, dtype)}
    with pytest.raises(FormatError, match="the node has 2 outputs, the operator 1"):
        ran(op_type, ("x",) * (2 if op_type == "Add" else 1), feed, outputs=("y", "z"))


def test_outputs_are_those_of_the_specification() -> None:
    defs = pytest.importorskip("onnx").defs
    most: dict[str, int] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            most[schema.name] = max(most.get(schema.name, 0), schema.max_output)
    for domain, op_type in known_operators():
        if not domain and op_type in most:
            wanted = None if most[op_type] > 1_000 else most[op_type]
            assert outputs_of(op_type) == wanted, op_type


@pytest.mark.parametrize("axis", [2**30, -(2**31), 65])
@pytest.mark.parametrize(
    ("op_type", "inputs", "known"),
    [
        ("Gather", ("x", "i"), {"i": np.array([0])}),
        ("LayerNormalization", ("x", "s"), {"s": np.ones(3, F)}),
        ("Softmax", ("x",), {}),
        ("Concat", ("x", "x"), {}),
        ("Flatten", ("x",), {}),
    ],
)
def test_axes_that_no_array_has(
    op_type: str, inputs: tuple[str, ...], known: dict[str, Any], axis: int
) -> None:
    with pytest.raises(FormatError, match=r"attribute .* no array has so many axes"):
        ran(op_type, inputs, {"x": np.zeros(3, F)}, known, axis=axis)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("lengths", [[7, 0], [-3, 0], [0, 0, 0]])
def test_lengths_of_no_steps(kind: str, lengths: list[int]) -> None:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    known = {"w": np.zeros((1, 4 * gates, 5), F), "r": np.zeros((1, 4 * gates, 4), F)}
    feed = {"x": np.zeros((0, 2, 5), F), "l": np.array(lengths, np.int32)}
    with pytest.raises(ValueError, match=rf"node 'n' \({kind}\): sequence_lens"):
        ran(kind, ("x", "w", "r", "", "l"), feed, known, hidden_size=4)


@pytest.mark.parametrize(
    ("op_type", "inputs", "known"),
    [
        ("MatMulInteger", ("x", "x", "za", "zb"), {"za": (3, 1, 4), "zb": (7,)}),
        ("DequantizeLinear", ("x", "s", "z"), {"s": (5,), "z": (3,)}),
        ("QLinearMatMul", ("x", "s", "z", "x", "s", "z", "s", "z"), {"s": (0,), "z": (0,)}),
    ],
)
def test_zero_points_of_other_shapes(
    op_type: str, inputs: tuple[str, ...], known: dict[str, tuple[int, ...]]
) -> None:
    made = {name: np.ones(shape, F if name == "s" else I8) for name, shape in known.items()}
    with pytest.raises((ValueError, VledgeError), match=rf"node 'n' \({op_type}\)"):
        ran(op_type, inputs, {"x": np.zeros((2, 2), I8)}, made)


def test_a_tensor_without_elements_that_is_too_large() -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[0, 2**62, 2**62], raw_data=b"")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["t"], ["y"])],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
        [tensor],
    )
    with pytest.raises(FormatError, match=r"initializer 't': .* too large"):
        read_proto(onnx.helper.make_model(graph))


def limited(nodes: list[Node], constants: dict[str, Any], limits: Limits) -> list[Any]:
    """A model's outputs under limits of its own."""
    from vledge.budget import Budget

    graph = Graph(
        nodes,
        [ValueInfo("x", "float", (3,))],
        [ValueInfo("y", "", None)],
        {name: np.asarray(value) for name, value in constants.items()},
    )
    plan = Plan(Model(graph, {"": 17}, budget=Budget(0, limits)), {})
    return plan.run(np.ones(3, F))


@pytest.mark.parametrize("program", ["0", "1"])
def test_a_run_has_limits(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    node = Node("Tile", ["x", "r"], ["y"], {}, "n")
    with pytest.raises(LimitError, match=r"node 'n' \(Tile\): .*run_memory="):
        limited([node], {"r": np.array([1000])}, Limits(run_memory=10_000))
    (y,) = limited([node], {"r": np.array([1000])}, Limits(run_memory=100_000))
    assert y.shape == (3000,)


@pytest.mark.parametrize("program", ["0", "1"])
@pytest.mark.parametrize("trips", [10, 200])
def test_loops_have_limits(program: str, trips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    body = Graph(
        [Node("Identity", ["c"], ["d"]), Node("Sin", ["s"], ["t"])],
        [ValueInfo("i", "int64", ()), ValueInfo("c", "bool", ()), ValueInfo("s", "float", (3,))],
        [ValueInfo("d", "bool", ()), ValueInfo("t", "float", (3,))],
    )
    node = Node("Loop", ["n", "", "x"], ["y"], {"body": body}, "n")
    if trips == 10:
        assert limited([node], {"n": np.array(trips)}, Limits(steps=100))[0].shape == (3,)
        return
    with pytest.raises(LimitError, match="more than 100 trips"):
        limited([node], {"n": np.array(trips)}, Limits(steps=100))


def test_what_is_computed_at_load_is_charged() -> None:
    nodes = [
        *(Node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(10)),
        Node("Sum", [f"c{i}" for i in range(10)], ["z"]),
        Node("ReduceMean", ["z"], ["m"]),
        Node("Add", ["m", "x"], ["y"]),
    ]
    with pytest.raises(LimitError, match="computed at load"):
        limited(nodes, {"s": np.array([100_000])}, Limits(memory=1_000_000))
    assert limited(nodes, {"s": np.array([100_000])}, Limits())[0].shape == (3,)


@pytest.mark.parametrize("program", ["0", "1"])
@pytest.mark.parametrize(
    ("starts", "ends", "axes"),
    [([0, 0], [2, 1], []), ([0, 0], [2, 1], [0]), ([0, 0], [2], [0, 1]), ([0], [2, 1], [0])],
)
def test_slices_whose_lists_differ_in_length(
    program: str,
    starts: list[int],
    ends: list[int],
    axes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The native program read behind the shortest."""
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    node = Node("Slice", ["x"], ["y"], {"starts": starts, "ends": ends, "axes": axes}, "slice")
    ends_of = [[ValueInfo("x", "float", ("N", 4))], [ValueInfo("y", "float", None)]]
    whole = Model(Graph([node], *ends_of, {}), {"": 9}, ir_version=8)
    with pytest.raises((ValueError, FormatError), match=r"node 'slice' \(Slice\): .*axes"):
        vledge.InferenceSession(whole).run(None, {"x": np.ones((3, 4), F)})


@pytest.mark.parametrize("program", ["0", "1"])
@pytest.mark.parametrize("known", [False, True], ids=["at run", "at load"])
@pytest.mark.parametrize("op_type", ["Mul", "Add", "MatMul", "Sum", "Max", "CumSum", "ReduceSum"])
def test_texts_are_no_numbers(
    op_type: str, known: bool, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text times 2^31 is one of gigabytes."""
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    given = {"t": np.array([["a"]], object), "n": np.array([[2**31]])}
    if op_type in ("CumSum", "ReduceSum"):
        given["n"] = np.array([0] if op_type == "ReduceSum" else 0)
    feed, constants = ({}, given) if known else (given, {})
    with pytest.raises((ValueError, FormatError), match=r"node 'n' .*tensor of texts"):
        ran(op_type, ("t", "n"), feed, constants)


@pytest.mark.parametrize(("starts", "ends"), [([], [1]), ([0, 1], [1]), ([0], [])])
def test_a_part_of_a_shape_whose_bounds_are_none(starts: list[int], ends: list[int]) -> None:
    """What passes know of shapes they read from such a node, before the operator is asked."""
    nodes = [
        Node("Shape", ["x"], ["s"], {}, "shape"),
        Node("Slice", ["s"], ["y"], {"starts": starts, "ends": ends}, "slice"),
    ]
    ends_of = [[ValueInfo("x", "float", (3, 4))], [ValueInfo("y", "int64", None)]]
    whole = Model(Graph(nodes, *ends_of, {}), {"": 9}, ir_version=8)
    with pytest.raises((ValueError, FormatError), match=r"node 'slice' \(Slice\)"):
        vledge.InferenceSession(whole).run(None, {"x": np.ones((3, 4), F)})


@pytest.mark.parametrize("length", [3, 1])
def test_parts_of_a_vector_are_arrays(length: int) -> None:
    """To NumPy an element of a vector is no array, to a graph it is one without axes."""
    x = np.arange(length, dtype=F)
    (parts,) = ran("SplitToSequence", ("x",), {"x": x}, axis=0, keepdims=0)
    assert [type(part) for part in parts] == [np.ndarray] * length
    np.testing.assert_array_equal(np.stack(parts), x)


@pytest.mark.parametrize("op_type", ["SequenceConstruct", "SequenceInsert"])
def test_a_sequence_of_sequences(op_type: str) -> None:
    nodes = [
        Node("SequenceConstruct", ["x"], ["s"]),
        Node(op_type, ["s"] if op_type == "SequenceConstruct" else ["s", "s"], ["t"], {}, "n"),
        Node("SequenceLength", ["t"], ["y"]),
    ]
    ends = [[ValueInfo("x", "float", (3,))], [ValueInfo("y", "int64", ())]]
    whole = Model(Graph(nodes, *ends, {}), {"": 17}, ir_version=8)
    with pytest.raises(ValueError, match=r"node 'n' .*a sequence is given where a tensor"):
        vledge.InferenceSession(whole).run(None, {"x": np.ones(3, F)})


@pytest.mark.parametrize("program", ["1", "0"])
@pytest.mark.parametrize("op_type", ["Expand", "Reshape", "Tile", "ConstantOfShape"])
def test_an_empty_result_with_lengths_that_no_array_has(
    op_type: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is in it, but no strides step over it either."""
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    shape = np.array([0, 2**62, 2**62])
    inputs = ["s"] if op_type == "ConstantOfShape" else ["x", "s"]
    node = Node(op_type, inputs, ["y"], {"allowzero": 1} if op_type == "Reshape" else {}, "n")
    ends = [
        [ValueInfo("x", "float", None), ValueInfo("s", "int64", (3,))],
        [ValueInfo("y", "float", None)],
    ]
    whole = Model(Graph([node], *ends, {}), {"": 17}, ir_version=8)
    feed = {"x": np.ones((1, 1, 1) if op_type == "Tile" else (0, 1, 1), F), "s": shape}
    with pytest.raises(ValueError, match="node 'n'"):
        vledge.InferenceSession(whole).run(None, feed)


@pytest.mark.parametrize("inputs", [1, 2])
def test_an_empty_value_that_only_the_program_can_hold(inputs: int) -> None:
    """Its handlers count elements, NumPy counts the other axes too: said with the value's shape."""
    nodes = [
        Node("ConstantOfShape", ["s"], ["a"], {}, "n"),
        Node("Concat", ["a"] * inputs, ["y"], {"axis": 1}, "m"),  # of two in Python
    ]
    ends = [[ValueInfo("s", "int64", (2,))], [ValueInfo("y", "float", None)]]
    session = vledge.InferenceSession(Model(Graph(nodes, *ends, {}), {"": 24}, ir_version=8))
    with pytest.raises(ValueError, match=r"float32 \[0, 4611686018427387904\], more than an array"):
        session.run(None, {"s": np.array([0, 2**62])})


ODD = {
    "infinite": np.array(np.inf, F),
    "not a number": np.array([np.nan]),
    "text": np.array("text", object),
    "texts": np.array([["a", ""]], object),
    "empty": np.zeros((0, 3), F),
    "huge": np.array([2**63 - 1, -(2**63)]),
    "bool": np.array(True),
    "complex": np.array([1j, 2]),
}


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("kind", ODD)
def test_constants_that_no_lowering_may_trust(kind: str) -> None:
    """Loading says what is wrong with the node, or leaves it to the run."""
    for domain, op_type in known_operators():
        if domain or op_type in ("If", "Loop", "Scan"):
            continue
        for place in range(5):
            names = [f"x{k}" for k in range(max(place + 1, 2))]
            node = Node(op_type, names, ["y"], {}, "n")
            inputs = [ValueInfo(name, "float", (2, 3)) for name in names if name != f"x{place}"]
            graph = Graph([node], inputs, [ValueInfo("y", "", None)], {f"x{place}": ODD[kind]})
            said = f"({op_type}): "
            try:
                Plan(Model(graph, {"": 21}), {})
            except VledgeError as error:
                said = str(error)
            assert f"({op_type}): " in said
