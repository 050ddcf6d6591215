"""copy, deepcopy and pickle of what keeps a state or weights: a copy of its own, or a refusal."""

import copy
import pickle
import re

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge._ext.streaming import StreamingStack
from vledge.graph.io_binding import IOBinding

RNG = np.random.default_rng(0)
FRAMES = RNG.standard_normal((9, 2, 3)).astype(np.float32)
COPIES = [copy.copy, copy.deepcopy]


def lstm(bidirectional=False):
    size = 5
    weights = {}
    for suffix in ("", "_reverse") if bidirectional else ("",):
        for name, shape in {
            "weight_ih": (4 * size, 3),
            "weight_hh": (4 * size, size),
            "bias_ih": (4 * size,),
            "bias_hh": (4 * size,),
        }.items():
            weights[f"{name}_l0{suffix}"] = RNG.uniform(-1, 1, shape).astype(np.float32)
    return nn.LSTM.from_weights(weights)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.below = lstm()

    def forward(self, x):
        return self.below(x)[0] * 2


def session():
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    info = helper.make_tensor_value_info
    shapes = {"w": (1, 5, 3), "r": (1, 5, 5)}
    graph = helper.make_graph(
        [helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=5)],
        "g",
        [info("x", 1, ["T", "B", 3])],
        [info("y", 1, None)],
        [
            onnx.numpy_helper.from_array(RNG.uniform(-1, 1, shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return vledge.InferenceSession(model.SerializeToString())


STREAMS = {
    "layer": lambda: lstm().stream(batch=2),
    "module": lambda: Twice().stream(batch=2),
    "lookahead": lambda: lstm(bidirectional=True).stream(batch=2, lookahead=3),
    "session": lambda: session().stream(batch=2, time_axis=0),
}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", STREAMS)
def test_a_copied_stream_goes_on_by_itself(kind, copied):
    stream = STREAMS[kind]()
    for frame in FRAMES[:5]:
        stream.step(frame)
    twin = copied(stream)
    first = [np.array(stream.step(frame)) for frame in FRAMES[5:]]
    second = [np.array(twin.step(frame)) for frame in FRAMES[5:]]
    np.testing.assert_array_equal(second, first)
    assert type(twin) is type(stream)
    assert twin.batch == stream.batch


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_refuses_to_be_pickled(kind):
    with pytest.raises(TypeError, match=r"not pickled.*pickle stream\.state"):
        pickle.dumps(STREAMS[kind]())


def test_a_compiled_stack_is_not_shared_by_copies():
    stack = StreamingStack([d for (d,) in lstm().stack.layers], 2)
    for make in (*COPIES, pickle.dumps):
        with pytest.raises(TypeError, match="reduce"):
            make(stack)


@pytest.mark.parametrize("copied", COPIES)
def test_a_copied_session_runs(copied):
    ours = session()
    twin = copied(ours)
    (expected,) = ours.run(None, {"x": FRAMES})
    np.testing.assert_array_equal(twin.run(None, {"x": FRAMES})[0], expected)


def test_a_session_refuses_to_be_pickled():
    for kept in (session(), session().io_binding()):
        with pytest.raises(TypeError, match=re.escape("by InferenceSession(path)")):
            pickle.dumps(kept)


@pytest.mark.parametrize("copied", COPIES)
def test_copied_bindings_are_bound_by_themselves(copied):
    binding = session().io_binding()
    binding.bind_cpu_input("x", FRAMES)
    binding.bind_output("y")
    twin = copied(binding)
    assert isinstance(twin, IOBinding)
    twin.bind_cpu_input("x", FRAMES[:2])
    twin.clear_binding_outputs()
    binding.run()
    assert len(binding.get_outputs()[0].numpy()) == 9


@pytest.mark.parametrize("copied", [*COPIES, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_a_plan_is_copied_and_pickled(copied):
    plan = vledge.plan([3, 9, 4], lstm())
    twin = copied(plan)
    assert twin is not plan
    assert str(twin) == str(plan)
