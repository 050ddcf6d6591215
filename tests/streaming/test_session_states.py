"""Every way in which a graph can keep a state: carried with the whole run's numbers, or refused
with the node at which frames part from it. No sentence without a trial."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.streaming.test_layers import frames
from tests.streaming.test_sessions import constants, convolution, recurrent, weights
from vledge.graph.registry import find

onnx = peer("onnx")
onnxruntime = peer("onnxruntime")
helper = onnx.helper
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL

FRAMES, FEATURES = 21, 3
X = {"x": ["T", "N", FEATURES]}


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(","), outputs.split(","), **attributes)


def value(name, shape=None, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs, arrays=()):
    made = helper.make_graph(nodes, "g", inputs, [value(o) for o in outputs], list(arrays))
    for info in made.output:
        info.ClearField("type")
    return made


def model(nodes, arrays=(), inputs=X, outputs=("y",), opset=17, kinds=None, domains=()):
    declared = [value(n, s, (kinds or {}).get(n, FLOAT)) for n, s in inputs.items()]
    whole = graph(nodes, declared, outputs, arrays)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(whole, opset_imports=imports, ir_version=8).SerializeToString()


# x_t and the state before to the state after, which is the output: a leaky sum
STEP = [
    node("Mul", "s,decay", "kept"),
    node("Add", "kept,xt", "s_next"),
    node("Identity", "s_next", "out"),
]
DECAY = constants(decay=np.float32(0.9))
# zeros [N, FEATURES] by the batch of x
ZEROS = [
    node("Shape", "x", "shape"),
    node("Slice", "shape,one,three", "row_shape"),
    node("ConstantOfShape", "row_shape", "zeros"),
]
ROW_SHAPE = constants(one=[1], three=[3])


def scan(**attributes):
    outputs = ["s_next", "out"]
    body = graph(STEP, [value("s", ["N", 3]), value("xt", ["N", 3])], outputs)
    return node("Scan", "zeros,x", "last,y", body=body, num_scan_inputs=1, **attributes)


def of_scan():
    return model([*ZEROS, scan()], [*DECAY, *ROW_SHAPE])


def of_scan_by_channels():
    """Time is the last axis of what is scanned and of what comes out."""
    body = graph(STEP, [value("s"), value("xt")], ["s_next", "out"])
    turned = node("Transpose", "x", "turned", perm=[1, 2, 0])
    axes = {"scan_input_axes": [-1], "scan_output_axes": [2]}
    made = node("Scan", "zeros,turned", "last,z", body=body, num_scan_inputs=1, **axes)
    back = node("Transpose", "z", "y", perm=[2, 0, 1])
    return model([*ZEROS, turned, made, back], [*DECAY, *ROW_SHAPE])


def of_scan_in_opset_8():
    body = graph(STEP, [value("s", [3]), value("xt", [3])], ["s_next", "out"])
    turned = node("Transpose", "x", "turned", perm=[1, 0, 2])
    made = helper.make_node(
        "Scan", ["", "zeros", "turned"], ["last", "z"], body=body, num_scan_inputs=1
    )
    zeros = [
        ZEROS[0],
        node("Slice", "shape", "row_shape", starts=[1], ends=[3], axes=[0]),
        node("Expand", "nothing,row_shape", "zeros"),
    ]
    back = node("Transpose", "z", "y", perm=[1, 0, 2])
    arrays = [*DECAY, *constants(nothing=np.zeros((1, 1), np.float32))]
    return model([*zeros, turned, made, back], arrays, opset=8)


def loop_body(extra_inputs=(), extra_outputs=(), place="i", nodes=()):
    picked = [node("Gather", f"x,{place}", "xt"), node("Identity", "going", "still")]
    inputs = [value("i", [], INT64), value("going", [], BOOL), *extra_inputs, value("s")]
    outputs = ["still", *extra_outputs, "s_next", "out"]
    return graph([*nodes, *picked, *STEP], inputs, outputs)


COUNT = [node("Gather", "shape,nought", "count")]
LOOP_ARRAYS = constants(nought=0, true=True)


def of_loop():
    made = node("Loop", "count,true,zeros", "last,y", body=loop_body())
    return model([*ZEROS, *COUNT, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS])


def of_loop_with_a_counter():
    """As tf2onnx writes a Keras layer: the place in time is a state, and ends the loop."""
    counting = [node("Add", "t,unit", "t_next"), node("Less", "t_next,count", "goes_on")]
    body = loop_body([value("t", [], INT64)], ["t_next"], "t", counting)
    body.output[0].name = "goes_on"
    made = node("Loop", "most,true,nought,zeros", "t_last,last,y", body=body)
    arrays = constants(most=np.iinfo(np.int64).max, unit=1)
    return model([*ZEROS, *COUNT, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS, *arrays])


def of_loop_over_what_it_is_given():
    """The frames are a state of the loop, which no step changes."""
    body = loop_body([value("frames")], ["same"], "i", [node("Identity", "frames", "same")])
    body.node[1].input[0] = "frames"
    made = node("Loop", "count,true,x,zeros", "all,last,y", body=body)
    return model([*ZEROS, *COUNT, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS])


def of_loop_that_hands_weights_through():
    """The decay is a state that no step changes, under another name on the way."""
    through = [node("Identity", "d", "same"), node("Identity", "same", "again")]
    body = loop_body([value("d")], ["again"], "i", through)
    body.node[4].input[1] = "d"
    made = node("Loop", "count,true,decay,zeros", "all,last,y", body=body)
    return model([*ZEROS, *COUNT, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS])


def of_loop_that_joins_what_comes_out():
    """The outputs grow in a state of the loop, as scripted torch writes them."""
    joined = [
        node("Unsqueeze", "out,first", "out_t"),
        node("Concat", "so_far,out_t", "more", axis=0),
    ]
    body = loop_body([value("so_far")], ["more"])
    body.node.extend(joined)
    del body.output[-1]
    empty = [
        node("Concat", "none,row_shape", "empty_shape", axis=0),
        node("ConstantOfShape", "empty_shape", "empty"),
    ]
    made = node("Loop", "count,true,empty,zeros", "y,last", body=body)
    arrays = constants(none=[0], first=[0])
    return model([*ZEROS, *COUNT, *empty, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS, *arrays])


def of_loop_that_collects_a_sequence():
    """As scripted torch writes a list that is appended to."""
    body = loop_body([value("so_far")], ["more"])
    body.input[2].CopyFrom(helper.make_tensor_sequence_value_info("so_far", FLOAT, None))
    body.node.append(node("SequenceInsert", "so_far,out", "more"))
    del body.output[-1]
    made = [
        helper.make_node("SequenceEmpty", [], ["empty"]),
        node("Loop", "count,true,empty,zeros", "outs,last", body=body),
        node("ConcatFromSequence", "outs", "y", axis=0, new_axis=1),
    ]
    return model([*ZEROS, *COUNT, *made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS])


def of_running_mean():
    """Two states, a sum and how many frames it is of; the last is the same for all streams."""
    step = [
        node("Add", "s,xt", "s_next"),
        node("Add", "n,unit", "n_next"),
        node("Div", "s_next,n_next", "out"),
    ]
    body = graph(step, [value("s"), value("n"), value("xt")], ["s_next", "n_next", "out"])
    made = node("Scan", "zeros,none,x", "last,all,y", body=body, num_scan_inputs=1)
    arrays = constants(none=np.float32([0]), unit=np.float32([1]))
    return model([*ZEROS, made], [*ROW_SHAPE, *arrays])


def of_running_maximum():
    step = [node("Max", "s,xt", "s_next"), node("Identity", "s_next", "out")]
    body = graph(step, [value("s"), value("xt")], ["s_next", "out"])
    zeros = [*ZEROS[:2], node("ConstantOfShape", "row_shape", "zeros", value=LOW)]
    made = node("Scan", "zeros,x", "last,y", body=body, num_scan_inputs=1)
    return model([*zeros, made], ROW_SHAPE)


LOW = onnx.numpy_helper.from_array(np.array([-1e3], np.float32))


def of_sum(**attributes):
    return lambda: model([node("CumSum", "x,axis", "y", **attributes)], constants(axis=-3))


def of_shift():
    """Each frame less the one before."""
    made = [
        node("Shape", "x", "shape"),
        node("Slice", "shape,one,three", "row_shape"),
        node("Concat", "unit,row_shape", "frame_shape", axis=0),
        node("ConstantOfShape", "frame_shape", "nothing"),
        node("Concat", "nothing,x", "late", axis=0),
        node("Slice", "late,nought,minus", "before"),
        node("Sub", "x,before", "y"),
    ]
    return model(made, [*ROW_SHAPE, *constants(unit=[1], nought=[0], minus=[-1])])


def of_chomp():
    """A causal convolution as TCNs write it: padded on both sides, and cut off behind."""
    made = [
        node("Transpose", "x", "turned", perm=[1, 2, 0]),
        node("Conv", "turned,w", "long", pads=[4, 4], dilations=[2]),
        node("Slice", "long,nought,minus,axis", "cut"),
        node("Transpose", "cut", "y", perm=[2, 0, 1]),
    ]
    arrays = [*weights(w=(4, FEATURES, 3)), *constants(nought=[0], minus=[-4], axis=[2])]
    return model(made, arrays)


def in_a_branch(condition, then=True, arrays=()):
    """A GRU in one branch of an If; the other one gives zeros."""
    made, more = recurrent("GRU")
    layer = helper.make_node(made[0], made[1], ["Y"], "gru", **made[3])
    one = graph([layer, node("Squeeze", "Y,axis1", "h")], [], ["h"])
    other = graph([node("Mul", "x,zero", "g"), node("Gather", "g,five", "g5", axis=2)], [], ["g5"])
    branches = (one, other) if then else (other, one)
    chosen = node("If", "condition", "y", then_branch=branches[0], else_branch=branches[1])
    more += constants(axis1=[1], zero=np.float32(0), five=[0, 1, 2, 0, 1])
    return [*condition, chosen], [*more, *arrays]


def of_branch_by_the_shape():
    """As torch writes squeeze: which branch is asked of a size."""
    condition = [
        node("Shape", "x", "shape"),
        node("Gather", "shape,two", "size"),
        node("Equal", "size,features", "condition"),
    ]
    return model(*in_a_branch(condition, arrays=constants(two=2, features=FEATURES)))


def of_branch_in_a_branch():
    """A Scan in a branch of a branch."""
    inner = graph(
        [
            node(
                "If",
                "true",
                "z",
                then_branch=graph([scan()], [], ["y"]),
                else_branch=graph([node("Neg", "x", "n")], [], ["n"]),
            )
        ],
        [],
        ["z"],
    )
    outer = node("If", "true2", "y", then_branch=inner,
                 else_branch=graph([node("Neg", "x", "m")], [], ["m"]))  # fmt: skip
    same = [node("Equal", "shape,shape", "all"), node("Cast", "all", "ints", to=INT64)]
    least = [node("ReduceMin", "ints", "least", keepdims=0), node("Cast", "least", "true", to=BOOL)]
    again = [node("Identity", "true", "true2")]
    return model([*ZEROS, *same, *least, *again, outer], [*DECAY, *ROW_SHAPE])


def of_cells_in_a_loop():
    """torch's scripted loop over an LSTMCell: the gates are products in the loop's body."""
    step = [
        node("Gather", "x,i", "xt"),
        node("Gemm", "xt,w,b", "gx", transB=1),
        node("Gemm", "h,r", "gh", transB=1),
        node("Add", "gx,gh", "gates"),
        node("Split", "gates", "gi,gf,gg,go", axis=1),
        node("Sigmoid", "gi", "i_"), node("Sigmoid", "gf", "f_"),
        node("Tanh", "gg", "g_"), node("Sigmoid", "go", "o_"),
        node("Mul", "f_,c", "fc"), node("Mul", "i_,g_", "ig"), node("Add", "fc,ig", "c_next"),
        node("Tanh", "c_next", "ct"), node("Mul", "o_,ct", "h_next"),
        node("Identity", "going", "still"), node("Identity", "h_next", "out"),
    ]  # fmt: skip
    inputs = [value("i", [], INT64), value("going", [], BOOL), value("h"), value("c")]
    body = graph(step, inputs, ["still", "h_next", "c_next", "out"])
    states = [
        node("Slice", "shape,one,two", "batch"),
        node("Concat", "batch,hidden", "sizes", axis=0),
        node("ConstantOfShape", "sizes", "start"),
    ]
    made = node("Loop", "count,true,start,start", "h_n,c_n,y", body=body)
    arrays = [*weights(w=(20, FEATURES), r=(20, 5), b=(20,)), *constants(two=[2], hidden=[5])]
    nodes = [ZEROS[0], *COUNT, *states, made]
    return model(nodes, [*arrays, *ROW_SHAPE, *LOOP_ARRAYS], opset=17)


# Kinds that need an operator which this version may not have.
NEEDED = {"Loop that collects a sequence": "SequenceEmpty"}

CARRIED = {
    "Scan": (of_scan, 1),
    "Scan over the last axis": (of_scan_by_channels, 1),
    "Scan of opset 8": (of_scan_in_opset_8, 1),
    "Loop": (of_loop, 1),
    "Loop with a counter": (of_loop_with_a_counter, 1),
    "Loop that is given the frames": (of_loop_over_what_it_is_given, 1),
    "Loop that hands weights through": (of_loop_that_hands_weights_through, 1),
    "Loop that joins its outputs": (of_loop_that_joins_what_comes_out, 1),
    "Loop that collects a sequence": (of_loop_that_collects_a_sequence, 1),
    "Loop of LSTM cells": (of_cells_in_a_loop, 2),
    "running maximum": (of_running_maximum, 1),
    "CumSum": (of_sum(), 1),
    "CumSum, exclusive": (of_sum(exclusive=1), 1),
    "shift by a frame": (of_shift, 1),
    "padded and cut off": (of_chomp, 1),
    "branch by a size": (of_branch_by_the_shape, 1),
    "Scan in two branches": (of_branch_in_a_branch, 1),
}


@pytest.fixture(autouse=True)
def the_operators_are_there(request):
    kind = getattr(request.node, "callspec", None) and request.node.callspec.params.get("kind")
    if kind in NEEDED and find(NEEDED[kind], "", 17) is None:
        pytest.skip(f"no {NEEDED[kind]}")


def both(made, x, **options):
    """The whole run's numbers and the session."""
    session = vledge.InferenceSession(made)
    (expected,) = session.run(None, {"x": x})
    theirs = onnxruntime.InferenceSession(made).run(None, {"x": x})[0]
    np.testing.assert_allclose(expected, theirs, rtol=0, atol=1e-5)
    return expected, session


@pytest.mark.parametrize("kind", CARRIED)
def test_a_state_is_carried(kind):
    make, count = CARRIED[kind]
    x = frames((FRAMES, 2, FEATURES))
    expected, session = both(make(), x)
    assert np.abs(expected).max() > 0.1
    stream = session.stream(batch=2, time_axis=0)
    assert len(stream.state) == count
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps.reshape(expected.shape), expected, rtol=0, atol=1e-5)
    stream.reset()
    chunks = [stream.push(chunk) for chunk in np.split(x, [1, 8, 8])]
    np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CARRIED)
def test_streams_of_a_state_come_and_go(kind):
    x = frames((9, 3, FEATURES))
    session = vledge.InferenceSession(CARRIED[kind][0]())
    alone = [session.stream(time_axis=0) for _ in range(3)]
    stream = session.stream(time_axis=0)
    one = alone[0].step(x[0, :1])
    np.testing.assert_allclose(stream.step(x[0, :1]), one, rtol=0, atol=1e-6)
    assert stream.join(2) == [1, 2]
    for t in (1, 2, 3):
        each = [alone[row].step(x[t, row : row + 1]) for row in range(3)]
        np.testing.assert_allclose(stream.step(x[t]), np.concatenate(each), rtol=0, atol=1e-6)
    stream.leave(1)
    stream.reset([1])
    alone[2].reset()
    for t in (4, 5):
        each = [alone[row].step(x[t, row : row + 1]) for row in (0, 2)]
        got = stream.step(x[t, [0, 2]])
        np.testing.assert_allclose(got, np.concatenate(each), rtol=0, atol=1e-6)


def test_a_state_of_no_batch_is_one_stream():
    """The running sum of the issue, and a running mean, whose count all streams would share."""
    body = graph(
        [node("Add", "s,xt", "n"), node("Identity", "n", "y")],
        [value("s", [1]), value("xt", [1])],
        ["n", "y"],
    )
    made = model(
        [node("Scan", "z,x", "last,y", body=body, num_scan_inputs=1)],
        constants(z=np.zeros(1, np.float32)),
        {"x": ["T", 1]},
    )
    stream = vledge.InferenceSession(made).stream()
    got = [stream.step(np.ones(1, np.float32)).item() for _ in range(3)]
    assert got == [1, 2, 3]
    stream.reset()
    assert stream.push(np.ones((3, 1), np.float32)).ravel().tolist() == [1, 2, 3]
    with pytest.raises(vledge.UnsupportedError, match="batch is fixed"):
        stream.join()

    x = frames((FRAMES, 1, FEATURES))
    expected, session = both(of_running_mean(), x)
    stream = session.stream(time_axis=0)
    assert len(stream.state) == 2
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    with pytest.raises(
        vledge.UnsupportedError, match="is one for all streams, and there cannot be 2"
    ):
        session.stream(2, time_axis=0)


def test_a_fixed_input_decides_a_branch():
    """As published voice detectors do: the rate picks the branch that the layer is in."""
    nodes, arrays = in_a_branch(
        [node("Equal", "sr,rate", "condition")], arrays=constants(rate=16000)
    )
    made = model(nodes, arrays, {**X, "sr": []}, kinds={"sr": INT64})
    x = frames((FRAMES, 2, FEATURES))
    session = vledge.InferenceSession(made)
    (expected,) = session.run(None, {"x": x, "sr": np.array(16000)})
    stream = session.stream(2, time_axis=0, fixed={"sr": 16000})
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    assert stream.state.keys() == {"gru.h"}
    with pytest.raises(vledge.UnsupportedError, match="keeps no state over time, and gives"):
        session.stream(2, time_axis=0, fixed={"sr": 8000})


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_lengths_are_as_many_as_the_frames(kind):
    """A layer that is given the lengths of its sequences, through a Cast, as torch packs them."""
    made, arrays = recurrent(kind, extra_inputs=["lens"])
    nodes = [
        node("Cast", "lengths", "lens", to=onnx.TensorProto.INT32),
        helper.make_node(made[0], made[1], ["y"], "layer", **made[3]),
    ]
    whole = model(nodes, arrays, {**X, "lengths": ["N"]}, kinds={"lengths": INT64})
    x = frames((FRAMES, 2, FEATURES))
    session = vledge.InferenceSession(whole)
    (expected,) = session.run(None, {"x": x, "lengths": np.array([FRAMES] * 2)})
    stream = session.stream(2, time_axis=0)
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    stream.reset()
    np.testing.assert_allclose(stream.push(x), expected, rtol=0, atol=1e-5)
    with pytest.raises(vledge.UnsupportedError, match="leave lengths out of fixed="):
        session.stream(2, time_axis=0, fixed={"lengths": [5, 5]})


def quantized(kind):
    """As onnxruntime's quantize_dynamic leaves a layer, or the product behind one."""
    if kind == "DynamicQuantizeLSTM":
        rng = np.random.default_rng(5)
        arrays = constants(
            w=rng.integers(-90, 90, (1, FEATURES, 20)).astype(np.int8),
            r=rng.integers(-90, 90, (1, 5, 20)).astype(np.int8),
            ws=np.float32([0.01]), wz=np.int8([0]), rs=np.float32([0.01]), rz=np.int8([0]),
        )  # fmt: skip
        arrays += weights(b=(1, 40))
        inputs = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
        layer = helper.make_node(
            kind, inputs, ["y"], "quantized", domain="com.microsoft", hidden_size=5
        )
        return model([layer], arrays, domains=["com.microsoft"])
    made, arrays = recurrent("GRU")
    layer = helper.make_node(made[0], made[1], ["Y"], "gru", **made[3])
    rounded = node("DynamicQuantizeLinear", "Y", "q,scale,zero")
    scaled = [
        node("Cast", "ints", "floats", to=FLOAT),
        node("Mul", "scale,ms", "both"),
        node("Mul", "floats,both", "y"),
    ]
    rng = np.random.default_rng(6)
    arrays += constants(mz=np.uint8(128), ms=np.float32(0.01))
    if kind == "ConvInteger":  # with a bias of integers
        arrays += constants(
            m=rng.integers(0, 255, (4, 1, 1, 3)).astype(np.uint8),
            bias=rng.integers(-900, 900, (1, 4, 1, 1)).astype(np.int32),
        )
        product = [node(kind, "q,m,zero,mz", "unbiased"), node("Add", "unbiased,bias", "ints")]
    else:
        arrays += constants(m=rng.integers(0, 255, (5, 4)).astype(np.uint8))
        product = [node(kind, "q,m,zero,mz", "ints")]
    nodes = [layer, rounded, *product, *scaled]
    return model(nodes, arrays)


@pytest.mark.parametrize("kind", ["DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"])
def test_quantized_models_are_carried_and_round_by_the_frames_of_a_call(kind):
    x = frames((FRAMES, 1, FEATURES))
    session = vledge.InferenceSession(quantized(kind))
    (expected,) = session.run(None, {"x": x})
    stream = session.stream(time_axis=0)
    assert len(stream.state) == (2 if kind.endswith("LSTM") else 1)
    steps = np.stack([stream.step(frame) for frame in x])
    largest = np.abs(expected).max()
    np.testing.assert_allclose(steps, expected, rtol=0, atol=0.03 * largest)
    stream.reset()
    np.testing.assert_array_equal(stream.push(x), expected)  # one call has the whole run's range
    forgetful = np.stack([session.stream(time_axis=0).step(frame) for frame in x])
    assert np.abs(forgetful - expected).max() > 0.1 * largest


def over_time(operator, **attributes):
    return lambda: model([node(operator, "x", "y", **attributes)])


def attention():
    """Every frame looks at every other one."""
    made = [
        node("Transpose", "x", "q", perm=[1, 0, 2]),
        node("Transpose", "x", "k", perm=[1, 2, 0]),
        helper.make_node("MatMul", ["q", "k"], ["scores"], "scores"),
        node("Softmax", "scores", "shares", axis=-1),
        node("MatMul", "shares,q", "mixed"),
        node("Transpose", "mixed", "y", perm=[1, 0, 2]),
    ]
    return model(made)


def less_the_mean():
    return model(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], "mean", axes=[0]),
            node("Sub", "x,mean", "y"),
        ]
    )


def of_data_branch():
    """Which branch is taken depends on the frames."""
    condition = [
        node("ReduceSum", "x", "total", keepdims=0),
        node("Greater", "total,zero", "condition"),
    ]
    return model(*in_a_branch(condition))


def of_loop_by_number():
    """What a step does depends on its number, which begins anew in every call."""
    step = [
        node("Gather", "x,i", "xi"),
        node("Cast", "i", "place", to=FLOAT),
        node("Mul", "xi,place", "xt"),
        node("Identity", "going", "still"),
        *STEP,
    ]
    inputs = [value("i", [], INT64), value("going", [], BOOL), value("s")]
    body = graph(step, inputs, ["still", "s_next", "out"])
    made = helper.make_node("Loop", ["count", "true", "zeros"], ["last", "y"], "loop", body=body)
    return model([*ZEROS, *COUNT, made], [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS])


def in_an_outer_loop():
    """A Scan over time, twice over: the outer loop's body hides the states."""
    inner = scan()
    body = graph(
        [inner, node("Identity", "going", "still"), node("Identity", "y", "z")],
        [value("i", [], INT64), value("going", [], BOOL)],
        ["still", "z"],
    )
    made = helper.make_node("Loop", ["twice", "true"], ["all"], "outer", body=body)
    last = node("ReduceSum", "all,first", "y", keepdims=0)
    return model(
        [*ZEROS, made, last],
        [*DECAY, *ROW_SHAPE, *LOOP_ARRAYS, *constants(twice=2, first=[0])],
    )


def from_the_first_frame():
    """The state begins with the first frame."""
    first = node("Gather", "x,nought", "zeros")
    return model([first, scan()], [*DECAY, *LOOP_ARRAYS])


REFUSED = {
    "attention": (attention, r"node 'scores' \(MatMul\) is the first node whose result differs"),
    "less the mean": (less_the_mean, r"node 'mean' \(ReduceMean\) is the first node"),
    "sum from behind": (of_sum(reverse=1), "CumSum node that makes 'y' sums from the last frame"),
    "Scan from behind": (
        lambda: model([*ZEROS, scan(scan_input_directions=[1])], [*DECAY, *ROW_SHAPE]),
        "Scan node that makes 'last' runs from the last frame",
    ),
    "branch by the frames": (of_data_branch, "ReduceSum node that makes 'total' is the first node"),
    "loop by the number": (of_loop_by_number, r"node 'loop' \(Loop\) is the first node"),
    "loop in a loop": (in_an_outer_loop, r"'outer' \(Loop\).*inside of it are not carried"),
    "begun by a frame": (from_the_first_frame, "Gather node that makes 'zeros' is the first node"),
    "no padding": (lambda: convolution([0, 0]), r"\(Conv\) needs 4 frames more"),
    "frames alone": (over_time("Relu"), "keeps no state over time, and gives the same frame by"),
    "the whole, reversed": (
        lambda: model([node("Slice", "x,a,b,c,d", "y")],
                      constants(a=[-1], b=[-(2**40)], c=[0], d=[-1])),
        "the first node whose result differs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_carried_is_refused_by_its_reason(kind):
    make, message = REFUSED[kind]
    session = vledge.InferenceSession(make())
    with pytest.raises(vledge.UnsupportedError, match=message) as caught:
        session.stream(time_axis=2 if kind == "no padding" else 0)
    assert ("keeps no state" in str(caught.value)) == (kind == "frames alone")


def test_integers_prove_something_too():
    """Ids are not all the same in a trial, and integer outputs are compared."""
    table = constants(table=frames((5, FEATURES)))
    ids = {"x": ["T"]}
    mean = [
        node("Gather", "table,x", "e"),
        node("ReduceMean", "e", "m", axes=[0]),
        node("Sub", "e,m", "d"),
        node("CumSum", "d,nought", "y"),
    ]
    made = model(mean, [*table, *constants(nought=0)], ids, kinds={"x": INT64})
    with pytest.raises(vledge.UnsupportedError, match="ReduceMean"):
        vledge.InferenceSession(made).stream()
    behind = [node("CumSum", "x,nought", "y", reverse=1)]
    made = model(behind, constants(nought=0), ids, kinds={"x": INT64})
    with pytest.raises(vledge.UnsupportedError, match="from the last frame"):
        vledge.InferenceSession(made).stream()
    made = model([node("CumSum", "x,nought", "y")], constants(nought=0), ids, kinds={"x": INT64})
    stream = vledge.InferenceSession(made).stream()
    assert [stream.step(np.array(n)).item() for n in (3, 4, 5)] == [3, 7, 12]


def test_a_logarithm_is_tried_on_positive_frames_and_nothing_finite_is_refused():
    logs = [node("Log", "x", "l"), node("CumSum", "l,nought", "y")]
    session = vledge.InferenceSession(model(logs, constants(nought=0)))
    stream = session.stream(time_axis=0)
    x = np.abs(frames((FRAMES, 1, FEATURES))) + 0.1
    np.testing.assert_allclose(stream.push(x), np.cumsum(np.log(x), 0), rtol=0, atol=1e-5)
    nothing = [
        node("Sub", "x,x", "o"),
        node("Div", "o,o", "nan"),
        node("CumSum", "nan,nought", "y"),
    ]
    session = vledge.InferenceSession(model(nothing, constants(nought=0)))
    with pytest.raises(vledge.UnsupportedError, match=r"'y' is not finite.*nothing can be prov"):
        session.stream(time_axis=0)


def test_nodes_of_one_name_keep_states_of_their_own():
    one, arrays = recurrent("RNN")
    first = helper.make_node(one[0], one[1], ["Y"], "rnn", **one[3])
    again = helper.make_node("RNN", ["z", "w2", "r", "b"], ["Y2"], "rnn", hidden_size=5)
    nodes = [first, node("Squeeze", "Y,axis1", "z"), again, node("Squeeze", "Y2,axis1", "y")]
    arrays += [*weights(w2=(1, 5, 5)), *constants(axis1=[1])]
    x = frames((FRAMES, 1, FEATURES))
    session = vledge.InferenceSession(model(nodes, arrays))
    (expected,) = session.run(None, {"x": x})
    stream = session.stream(time_axis=0)
    assert stream.state.keys() == {"rnn.h", "rnn.h~2"}
    np.testing.assert_allclose(stream.push(x), expected, rtol=0, atol=1e-5)
