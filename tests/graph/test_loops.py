"""Recurrences written as loops: layers where they are ones, with the same results always."""

import itertools

import numpy as np
import pytest

import vledge
from tests.graph.handwritten_loops import FEATURES, HIDDEN, Recurrence
from tests.graph.models import helper, model_bytes, node, onnx
from tests.graph.test_passes import operators
from tests.peers import peer
from vledge.formats.onnx.model import read
from vledge.graph.plan import simplified

FLOAT = onnx.TensorProto.FLOAT
CELLS = ["lstm", "gru", "gru_before", "tanh", "relu"]
LOOPS = ["trips", "while", "backwards", "scan", "scan_reverse"]
KINDS = {"lstm": "LSTM", "gru": "GRU", "gru_before": "GRU", "tanh": "RNN", "relu": "RNN"}


def kinds(model):
    """The operators of the top graph that are no element-wise or moving ones."""
    return {
        n.op_type
        for n in simplified(read(model)).graph.nodes
        if n.op_type in ("LSTM", "GRU", "RNN", "Loop", "Scan", "MatMul")
    }


def same(model, feed, tolerance=2e-6):
    """As onnxruntime has it, natively and by the plan of Python operators."""
    expected = peer("onnxruntime").InferenceSession(model).run(None, feed)
    session = vledge.InferenceSession(model)
    plan = session._plan
    for actual in (
        session.run(None, feed),
        plan.function(*(feed[name] for name in plan.inputs)),
    ):
        for ours, theirs in zip(actual, expected, strict=True):
            if theirs.size or ours.size:
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("product", ["matmul", "gemm", "joined", "split"])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_that_is_a_layer(cell, loop, product):
    recurrence = Recurrence(cell, loop, product)
    model = recurrence.model()
    assert kinds(model) == {KINDS[cell]}
    for steps, rows in [(7, 3), (1, 1), (4, 1)]:
        same(model, recurrence.feed(steps, rows))


@pytest.mark.parametrize("masked", ["zero", "hold", "last"])
@pytest.mark.parametrize("mask", ["where", "inverted", "arithmetic"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_mask_that_carries_the_states(cell, mask, masked):
    for loop in LOOPS:
        recurrence = Recurrence(cell, loop, mask=mask, masked=masked, seed=len(loop))
        model = recurrence.model()
        assert kinds(model) == {KINDS[cell]}, loop
        for own, (steps, rows) in itertools.product(
            ["holes", "none", "all", "padded"], [(6, 3), (5, 1)]
        ):
            same(model, recurrence.feed(steps, rows, own))


@pytest.mark.parametrize("loop", ["trips", "while", "scan"])
def test_states_without_declared_shapes(loop):
    recurrence = Recurrence("lstm", loop, "matmul", declared=False)
    model = recurrence.model()
    assert kinds(model) == {"LSTM"}
    same(model, recurrence.feed(5, 2))


@pytest.mark.parametrize("mask", ["", "where"])
@pytest.mark.parametrize("cell", CELLS)
def test_no_step_at_all(cell, mask):
    """The final states are the initial ones."""
    recurrence = Recurrence(cell, "trips", mask=mask)
    feed = recurrence.feed(0, 2)
    y, h, *c = vledge.InferenceSession(recurrence.model()).run(None, feed)
    assert y.shape[0] == 0
    np.testing.assert_array_equal(h, feed["h0"])
    if c:
        np.testing.assert_array_equal(c[0], feed["c0"])


def test_one_state_for_every_row():
    for mask in ("", "where"):
        recurrence = Recurrence("lstm", "trips", mask=mask)
        feed = recurrence.feed(5, 3)
        narrow = {**feed, "h0": feed["h0"][:1], "c0": feed["c0"][:1]}
        same(recurrence.model(), narrow)


def test_a_mask_for_units_is_run_step_by_step():
    recurrence = Recurrence("gru", "trips", mask="where")
    model = onnx.load_from_string(recurrence.model())
    for info in model.graph.input:
        if info.name == "M":
            info.type.tensor_type.shape.dim[2].Clear()
    feed = recurrence.feed(5, 3)
    feed["M"] = np.random.default_rng(0).random((5, 3, HIDDEN)) < 0.5
    body = model.graph.node[-1].attribute[0].g
    for info in (*body.input, *body.output):
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            info.type.tensor_type.ClearField("shape")
    same(model.SerializeToString(), feed)


@pytest.mark.parametrize("loop", ["trips", "while", "scan"])
@pytest.mark.parametrize("extra", ["feedback", "clipped", "peeked", "swapped"])
def test_what_looks_like_a_layer_and_is_none(extra, loop):
    cell = "lstm" if extra != "clipped" else "gru"
    recurrence = Recurrence(cell, loop)
    model = recurrence.model(extra)
    assert not kinds(model) & set(KINDS.values())
    assert kinds(model) & {"Loop", "Scan"}
    same(model, recurrence.feed(6, 2))


def test_masks_that_differ_are_no_layer():
    """h is carried by one mask, c by another."""
    recurrence = Recurrence("lstm", "scan", mask="where", masked="hold")
    model = onnx.load_from_string(recurrence.model())
    body = next(a.g for a in model.graph.node[-1].attribute if a.name == "body")
    place, choice = next((k, n) for k, n in enumerate(body.node) if n.output[0] == "c_next")
    choice.input[0] = "other"
    body.node.insert(place, node("Not", ["m"], ["other"]))
    model = model.SerializeToString()
    assert "Scan" in kinds(model)
    same(model, recurrence.feed(6, 2))


def test_a_float_for_a_mask_is_no_mask():
    """m * new + (1 - m) * old with any m is a mean of both."""
    recurrence = Recurrence("gru", "scan", mask="arithmetic", masked="hold")
    model = onnx.load_from_string(recurrence.model())
    body = next(a.g for a in model.graph.node[-1].attribute if a.name == "body")
    for each in body.node:
        if each.op_type == "Cast":
            each.op_type = "Identity"
            del each.attribute[:]
        elif each.op_type == "Not":
            each.op_type = "Sub"
            each.input.insert(0, "one")
    for info in (*body.input, *model.graph.input):
        if info.name in ("m", "M"):
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    feed = recurrence.feed(6, 2)
    feed["M"] = np.random.default_rng(0).random((6, 2, 1)).astype(np.float32)
    model = model.SerializeToString()
    assert "Scan" in kinds(model)
    same(model, feed)


def loop_of(nodes, states, outputs, constants, feed, columns=("column",), trips="n"):
    """A Loop over the frames of X, by its trip count; ``states`` are name → (initial, next)."""
    info = helper.make_tensor_value_info
    floats = onnx.TensorProto.FLOAT
    body = helper.make_graph(
        [*nodes, node("Identity", ["going"], ["going_out"])],
        "body",
        [
            info("i", onnx.TensorProto.INT64, []),
            info("going", onnx.TensorProto.BOOL, []),
            *(info(name, floats, None) for name in states),
        ],
        [
            info("going_out", onnx.TensorProto.BOOL, []),
            *(info(following, floats, None) for _, following in states.values()),
            *(info(name, floats, None) for name in columns),
        ],
    )
    outer = [
        node("Shape", ["X"], ["shape"]),
        node("Gather", ["shape", "zero"], [trips], axis=0),
        node(
            "Loop",
            [trips, "", *(begin for begin, _ in states.values())],
            [*(f"{name}_n" for name in states), *(f"{name}s" for name in columns)],
            body=body,
        ),
    ]
    return model_bytes(outer, feed, outputs, {"zero": np.array(0), **constants})


RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 2, FEATURES)).astype(np.float32)
W = RNG.standard_normal((FEATURES, 4)).astype(np.float32)


def test_a_product_of_the_step_alone_is_one_product():
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=0),
        node("MatMul", ["x", "W"], ["p"]),
        node("Add", ["p", "b"], ["q"]),
        node("Tanh", ["q"], ["r"]),
        node("Mul", ["s", "r"], ["sr"]),
        node("Add", ["sr", "q"], ["s_next"]),
        node("Identity", ["s_next"], ["column"]),
    ]
    feed = {"X": X, "s0": np.ones((2, 4), np.float32)}
    constants = {"W": W, "b": RNG.standard_normal(4).astype(np.float32)}
    model = loop_of(nodes, {"s": ("s0", "s_next")}, ["s_n", "columns"], constants, feed)
    names = operators(model)
    assert "MatMul" in names
    assert not any("MatMul" in name for name in names if name.startswith("Loop"))
    same(model, feed)


@pytest.mark.parametrize("axis", [1, -2, 2])
def test_frames_along_another_axis(axis):
    moved = np.moveaxis(X, 0, 1 if axis != 2 else 2).copy()
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=axis),
        node("MatMul", ["x", "W"], ["p"]),
        node("Add", ["s", "p"], ["s_next"]),
        node("Identity", ["p"], ["column"]),
    ]
    weight = W if axis != 2 else W[: moved.shape[1]]
    feed = {"X": moved, "s0": np.ones((1, 4), np.float32)}
    model = loop_of(
        nodes,
        {"s": ("s0", "s_next")},
        ["s_n", "columns"],
        {"W": weight if axis != 2 else RNG.standard_normal((FEATURES, 4)).astype(np.float32)},
        feed,
    )
    model = onnx.load_from_string(model)
    next(n for n in model.graph.node if n.output[0] == "n").input[1] = "at"
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(1 if axis != 2 else 2), "at")
    )
    model = model.SerializeToString()
    assert "MatMul" in operators(model)
    same(model, feed)


def test_values_of_fewer_axes_are_aligned():
    """A vector of a step beside a matrix of the step."""
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=0),
        node("Gather", ["V", "i"], ["v"], axis=0),
        node("MatMul", ["x", "W"], ["p"]),
        node("Mul", ["p", "v"], ["pv"]),
        node("Unsqueeze", ["v", "zero1"], ["row"]),
        node("Add", ["pv", "row"], ["q"]),
        node("Transpose", ["q"], ["t"], perm=[1, 0]),
        node("Split", ["t"], ["left", "right"], axis=0),
        node("Concat", ["right", "left"], ["joined"], axis=0),
        node("Add", ["s", "joined"], ["s_next"]),
        node("Identity", ["joined"], ["column"]),
    ]
    feed = {
        "X": X,
        "V": RNG.standard_normal((6, 4)).astype(np.float32),
        "s0": np.ones((4, 2), np.float32),
    }
    constants = {"W": W, "zero1": np.array([0])}
    model = loop_of(nodes, {"s": ("s0", "s_next")}, ["s_n", "columns"], constants, feed)
    (loop,) = (name for name in operators(model) if name.startswith("Loop"))
    assert "Concat" not in loop
    same(model, feed)


def test_two_cells_in_one_loop_are_two_layers():
    own = Recurrence("lstm", seed=1)
    other = Recurrence("gru", seed=2)
    h, c = own.step("x", "h", "c")
    nodes = [*own.nodes]
    weights = dict(own.constants.items())
    w = RNG.uniform(-0.5, 0.5, (3, HIDDEN, HIDDEN)).astype(np.float32)
    other.w = w
    _g, _ = other.step(h, "u", "")
    renamed = []
    local = {name for each in other.nodes for name in each.output} | set(other.constants)
    for each in other.nodes:
        clone = node(
            each.op_type,
            [f"2{n}" if n in local else n for n in each.input],
            [f"2{n}" for n in each.output],
        )
        clone.attribute.extend(each.attribute)
        renamed.append(clone)
    # the first cell's output is the second one's input
    for each in renamed:
        each.input[:] = [
            "h_new" if n == "2h_new" and each.op_type == "MatMul" else n for n in each.input
        ]
    weights |= {f"2{k}": v for k, v in other.constants.items()}
    nodes = [node("Gather", ["X", "i"], ["x"], axis=0), *nodes, *renamed]
    nodes.append(node("Identity", ["2h_new"], ["column"]))
    states = {"h": ("h0", h), "c": ("c0", c), "u": ("u0", "2h_new")}
    feed = {"X": X} | {
        name: RNG.uniform(-1, 1, (2, HIDDEN)).astype(np.float32) for name in ("h0", "c0", "u0")
    }
    model = loop_of(nodes, states, ["h_n", "c_n", "u_n", "columns"], weights, feed)
    assert kinds(model) == {"LSTM", "GRU"}
    same(model, feed)


def test_states_handed_on_unchanged_are_captured():
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=0),
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["s", "p"], ["s_next"]),
        node("Identity", ["w"], ["w_next"]),
        node("Mul", ["unread", "unread"], ["unread_next"]),
        node("Identity", ["s_next"], ["column"]),
    ]
    states = {
        "w": ("W", "w_next"),
        "s": ("s0", "s_next"),
        "unread": ("s0", "unread_next"),
    }
    feed = {"X": X, "s0": np.ones((2, 4), np.float32)}
    model = loop_of(nodes, states, ["w_n", "s_n"], {"W": W}, feed)
    loop = next(n for n in simplified(read(model)).graph.nodes if n.op_type == "Loop")
    assert len(loop.inputs) == 3
    assert len([name for name in loop.outputs if name]) == 1
    same(model, feed)
    same(model, {**feed, "X": X[:0]})


def test_a_condition_that_depends_on_the_state_keeps_the_loop():
    recurrence = Recurrence("gru", "while")
    model = onnx.load_from_string(recurrence.model())
    body = model.graph.node[-1].attribute[0].g
    less = next(n for n in body.node if n.op_type == "Less")
    less.output[0] = "counted"
    place = list(body.node).index(less) + 1
    body.node.insert(place, node("ReduceMax", ["h_new"], ["largest"], keepdims=0))
    body.node.insert(place + 1, node("Less", ["largest", "threshold"], ["small"]))
    body.node.insert(place + 2, node("And", ["counted", "small"], ["going_out"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.7), "threshold"))
    model = model.SerializeToString()
    assert kinds(model) == {"Loop"}
    same(model, recurrence.feed(9, 2))


@pytest.mark.parametrize("most", [3, 100])
def test_the_lower_of_two_bounds_ends_the_loop(most):
    recurrence = Recurrence("gru", "while")
    model = onnx.load_from_string(recurrence.model())
    model.graph.node[-1].input[0] = "most"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(most), "most"))
    model = model.SerializeToString()
    assert kinds(model) == {"GRU"}
    same(model, recurrence.feed(6, 2))


def test_a_condition_that_is_false_to_begin_with():
    recurrence = Recurrence("gru", "trips")
    model = onnx.load_from_string(recurrence.model())
    model.graph.node[-1].input[1] = "begins"
    model.graph.input.append(helper.make_tensor_value_info("begins", onnx.TensorProto.BOOL, []))
    model = model.SerializeToString()
    assert kinds(model) == {"GRU"}
    feed = recurrence.feed(6, 2)
    same(model, {**feed, "begins": np.array(True)})
    same(model, {**feed, "begins": np.array(False)})


def one_step_nodes(kind, form):
    """The body of a loop around a recurrent node that runs one step."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    constants = {
        "W": RNG.uniform(-0.5, 0.5, (1, gates * HIDDEN, FEATURES)).astype(np.float32),
        "R": RNG.uniform(-0.5, 0.5, (1, gates * HIDDEN, HIDDEN)).astype(np.float32),
        "B": RNG.uniform(-0.5, 0.5, (1, 2 * gates * HIDDEN)).astype(np.float32),
        "axis": np.array([0]),
        "axes": np.array([0, 1]),
    }
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    nodes = [
        node("Gather", ["X", "i"], ["row"], axis=0),
        node("Unsqueeze", ["row", "axis"], ["x"]),
    ]
    if form == "index":
        nodes = [
            node("Unsqueeze", ["i", "axis"], ["at"]),
            node("Gather", ["X", "at"], ["x"], axis=0),
        ]
    given = states
    if form != "whole":
        nodes += [node("Unsqueeze", [s, "axis"], [f"{s}_in"]) for s in states]
        given = [f"{s}_in" for s in states]
    made = [f"{s}_out" for s in states]
    nodes.append(
        node(kind, ["x", "W", "R", "B", "", *given], ["y", *made], hidden_size=HIDDEN, **attributes)
    )
    if form != "whole":
        nodes += [node("Squeeze", [name, "axis"], [f"{name}_row"]) for name in made]
        made = [f"{name}_row" for name in made]
    nodes.append(node("Squeeze", ["y", "axes"], ["column"]))
    return nodes, dict(zip(states, made, strict=True)), constants


@pytest.mark.parametrize("form", ["rows", "index", "whole"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_loop_around_a_node_of_one_step(kind, form):
    """As torch's TorchScript exporter writes cells."""
    nodes, following, constants = one_step_nodes(kind, form)
    shape = (1, 2, HIDDEN) if form == "whole" else (2, HIDDEN)
    feed = {"X": X} | {
        f"{name}0": RNG.uniform(-1, 1, shape).astype(np.float32) for name in following
    }
    states = {name: (f"{name}0", end) for name, end in following.items()}
    outputs = [*(f"{name}_n" for name in states), "columns"]
    model = loop_of(nodes, states, outputs, constants, feed)
    left = simplified(read(model)).graph.nodes
    assert [n.domain for n in left if n.op_type == kind] == ["vledge"]
    assert "Loop" not in {n.op_type for n in left}
    same(model, feed)


@pytest.mark.parametrize("cell", CELLS)
def test_the_layer_of_a_loop_alone(cell):
    """nn's layers are taken out of it as out of a node."""
    recurrence = Recurrence(cell, "while")
    model, feed = recurrence.model(), recurrence.feed(5, 2)
    layer = getattr(vledge.nn, KINDS[cell]).from_onnx(model)
    states = [feed[name][None] for name in ("h0", "c0") if name in feed]
    output, final = layer(feed["X"], tuple(states) if len(states) > 1 else states[0])
    expected = vledge.InferenceSession(model).run(["Y", "h_n"], feed)
    np.testing.assert_allclose(output, expected[0], rtol=0, atol=1e-6)
    h_n = final[0] if cell == "lstm" else final
    np.testing.assert_allclose(h_n[0], expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_outputs_that_a_loop_joins_one_by_one(axis):
    """torch.cat([out, h.unsqueeze(axis)], axis) in a scripted loop."""
    own = Recurrence("gru")
    h, _ = own.step("x", "h", "")
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=0),
        *own.nodes,
        node("Unsqueeze", [h, "axis"], ["more"]),
        node("Concat", ["out", "more"], ["out_next"], axis=axis),
    ]
    shape = [2, HIDDEN]
    shape.insert(axis if axis >= 0 else 2, 1)
    feed = {
        "X": X,
        "h0": RNG.uniform(-1, 1, (2, HIDDEN)).astype(np.float32),
        "out0": RNG.uniform(-1, 1, shape).astype(np.float32),
    }
    states = {"h": ("h0", h), "out": ("out0", "out_next")}
    constants = {**own.constants, "axis": np.array([axis])}
    model = loop_of(nodes, states, ["h_n", "out_n"], constants, feed, columns=())
    assert kinds(model) == {"GRU"}
    same(model, feed)
    same(model, {**feed, "X": X[:0]})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_outputs_that_a_loop_collects_in_a_sequence(axis):
    """As torch exports a scripted loop that appends to a list, and stacks it in the end."""
    own = Recurrence("gru")
    h, _ = own.step("x", "h", "")
    nodes = [
        node("Gather", ["X", "i"], ["x"], axis=0),
        *own.nodes,
        node("SequenceInsert", ["list", h], ["list_next"]),
    ]
    feed = {"X": X, "h0": RNG.uniform(-1, 1, (2, HIDDEN)).astype(np.float32)}
    states = {"h": ("h0", h), "list": ("list0", "list_next")}
    model = onnx.load_from_string(
        loop_of(nodes, states, ["h_n", "Y"], own.constants, feed, columns=())
    )
    graph = model.graph
    body = graph.node[-1].attribute[0].g
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    for info in (*body.input, *body.output):
        if info.name.startswith("list"):
            info.type.CopyFrom(kind)
    graph.node.insert(0, node("SequenceEmpty", [], ["list0"]))
    graph.node.append(node("ConcatFromSequence", ["list_n"], ["Y"], axis=axis, new_axis=1))
    model = model.SerializeToString()
    assert kinds(model) == {"GRU"}
    same(model, feed)


@pytest.mark.parametrize("mask", ["", "where"])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_of_loops_run_natively(cell, mask):
    recurrence = Recurrence(cell, "trips", mask=mask)
    session = vledge.InferenceSession(recurrence.model())
    native = session._plan.native
    if native is None:
        pytest.skip("the native program is switched off")
    for own in ("holes", "none"):
        feed = recurrence.feed(6, 3, own)
        declined = np.zeros(len(native.nodes), np.int32)
        native.program.run(
            [feed[name] for name in session._plan.inputs],
            (np.zeros(len(native.nodes), np.int64), declined),
        )
        assert not declined.any()


@pytest.mark.parametrize("shape", ["column", "vector"])
def test_a_mask_by_lengths(shape):
    """Each sequence's states stay as they are past its length, which the body compares with."""
    own = Recurrence("gru", mask="where")
    h, _ = own.step("x", "h", "")
    nodes = [node("Gather", ["X", "i"], ["x"], axis=0), *own.nodes]
    nodes.append(node("Less", ["i", "lengths"], ["inside"]))
    mask = "inside"
    if shape == "vector":
        nodes.append(node("Unsqueeze", ["inside", "axis"], ["on"]))
        mask = "on"
    nodes += [
        node("Where", [mask, h, "h"], ["h_next"]),
        node("Where", [mask, h, "zeros"], ["column"]),
    ]
    feed = {
        "X": X,
        "h0": RNG.uniform(-1, 1, (2, HIDDEN)).astype(np.float32),
        "lengths": np.array([[4], [0]]) if shape == "column" else np.array([4, 6]),
    }
    constants = {
        **own.constants,
        "axis": np.array([1]),
        "zeros": np.zeros((1, HIDDEN), np.float32),
    }
    states = {"h": ("h0", "h_next")}
    model = loop_of(nodes, states, ["h_n", "columns"], constants, feed)
    assert kinds(model) == {"GRU"}
    same(model, feed)


@pytest.mark.parametrize("mask", ["", "where", "arithmetic"])
@pytest.mark.parametrize("loop", LOOPS)
def test_only_the_last_state_is_wanted(loop, mask):
    """As Keras' return_sequences=False."""
    recurrence = Recurrence("lstm", loop, mask=mask)
    model = onnx.load_from_string(recurrence.model())
    for info in [info for info in model.graph.output if info.name != "h_n"]:
        model.graph.output.remove(info)
    model = model.SerializeToString()
    assert kinds(model) == {"LSTM"}
    for steps, rows in ((6, 3), (1, 1)):
        same(model, recurrence.feed(steps, rows))
