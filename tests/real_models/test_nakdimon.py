"""piper-tts's nakdimon: a Keras model whose masked LSTMs tf2onnx wrote as loops."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.registry import registry_file
from vledge.formats.onnx.model import read
from vledge.graph.plan import simplified


def path():
    return str(registry_file("piper-tts==1.8.0", "piper/hebrew/nakdimon.onnx"))


def test_its_loops_are_layers():
    peer("onnx")
    operators = [node.op_type for node in simplified(read(path())).graph.nodes]
    assert operators.count("LSTM") == 4
    assert "Loop" not in operators


@pytest.mark.parametrize("zeros", ["none", "padding", "holes", "all"])
def test_against_onnxruntime(zeros):
    """Character 0 is masked, wherever it stands."""
    rng = np.random.default_rng(0)
    theirs = peer("onnxruntime").InferenceSession(path())
    ours = vledge.InferenceSession(path())
    for rows, steps in ((1, 40), (3, 17), (1, 1)):
        text = rng.integers(1, 43, (rows, steps)).astype(np.float32)
        if zeros == "padding":
            text[np.arange(steps) >= rng.integers(0, steps + 1, (rows, 1))] = 0
        elif zeros == "holes":
            text[rng.random(text.shape) < 0.4] = 0
        elif zeros == "all":
            text[:] = 0
        expected = theirs.run(None, {"input_1": text})
        for own, other in zip(ours.run(None, {"input_1": text}), expected, strict=True):
            np.testing.assert_allclose(own, other, rtol=0, atol=3e-5)
