"""A Keras LSTM as tf2onnx writes it, a Loop: nakdimon's first one, whose state a stream carries."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.registry import registry_file

onnx = peer("onnx")
onnxruntime = peer("onnxruntime")

STEPS = 30


@pytest.fixture(scope="module")
def model():
    """The package's model."""
    return onnx.load(registry_file("piper-tts==1.8.0", "piper/hebrew/nakdimon.onnx"))


def cut(model, name):
    """The model with one value inside as its only output, and the nodes that it needs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return made.SerializeToString()


def last_state(model, direction):
    (loop,) = [
        node
        for node in model.graph.node
        if node.op_type == "Loop" and f"bidirectional/{direction}_lstm/" in node.name
    ]
    return loop.output[2]


def test_the_state_is_carried(model):
    made = cut(model, last_state(model, "forward"))
    ids = np.random.default_rng(0).integers(0, 40, (2, STEPS)).astype(np.float32)
    name = model.graph.input[0].name
    (expected,) = onnxruntime.InferenceSession(made).run(None, {name: ids})
    assert np.abs(expected).max() > 0.1
    stream = vledge.InferenceSession(made).stream(2, time_axis=1)
    for t in range(STEPS):
        got = stream.step(ids[:, t])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_the_other_direction_is_refused_by_the_node_that_turns_it(model):
    session = vledge.InferenceSession(cut(model, last_state(model, "backward")))
    with pytest.raises(vledge.UnsupportedError, match=r"ReverseSequence.*first node whose result"):
        session.stream(time_axis=1)
