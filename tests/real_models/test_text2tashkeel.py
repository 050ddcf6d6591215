"""text2tashkeel's five models, quantised dynamically by onnxruntime: LSTMs in int8."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.registry import registry_file
from vledge._ext import isa

PACKAGE = "text2tashkeel==0.1.0"
MODELS = ["bilstm", "rawi", "rawi_v2", "rawi_v3", "rawi_ensemble"]
SENTENCES = 10


def marks(results):
    """The most likely mark of each letter, where the model gives scores."""
    scores = max(results, key=lambda array: array.ndim)
    return scores.argmax(-1) if scores.dtype == np.float32 else scores


@pytest.mark.parametrize("name", MODELS)
def test_every_node_is_native_and_marks_agree(name):
    """Of thousands of roundings to bytes some fall otherwise where an activation differs in its
    last bit: the scores are then a few hundredths apart, and as often not at all."""
    peer("onnx")
    path = str(registry_file(PACKAGE, f"text2tashkeel/models/{name}.int8.onnx"))
    session = vledge.InferenceSession(path)
    plan = session._plan
    references = [lambda feed: plan.run(*(feed[name] for name in plan.inputs))]
    if "dots" in isa.integer_ways():  # without VNNI its own sums saturate
        onnxruntime = peer("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        theirs = onnxruntime.InferenceSession(path, options)
        references.append(lambda feed: theirs.run(None, feed))
    rng = np.random.default_rng(0)
    same, close, count = np.zeros((3, len(references)))
    for _ in range(SENTENCES):
        feed = {key.name: rng.integers(1, 30, (1, 40)) for key in session.get_inputs()}
        declined = np.zeros(len(plan.native.handlers), np.int32)
        arrays = [feed[key] for key in plan.inputs]
        ours = plan.native.program.run(arrays, (np.zeros(len(declined), np.int64), declined))
        assert not declined.any()
        for k, reference in enumerate(references):
            expected = reference(feed)
            same[k] += (marks(ours) == marks(expected)).sum()
            count[k] += marks(ours).size
            errors = [np.abs(a - b).max() for a, b in zip(ours, expected, strict=True)]
            close[k] += max(errors) < 0.1
    assert (same / count > 0.99).all()
    assert (close > SENTENCES / 2).all()
