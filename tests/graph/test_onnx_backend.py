"""onnx's own backend tests of single nodes, all of them, with its data and tolerances.

A test whose model is refused is not claimed and stands by name in docs/onnx-operators.md, so that
what runs cannot shrink unseen; every other test has to pass.
"""

import os

import numpy as np
import pytest

from tests.peers import peer
from vledge.errors import UnsupportedError

onnx = peer("onnx")

from tools import onnx_coverage  # noqa: E402
from vledge import onnx_backend  # noqa: E402

if f"of onnx {onnx.__version__}," not in onnx_coverage.DOCUMENT.read_text():
    if os.environ.get("VLEDGE_REQUIRE_PEERS") == "1":
        raise RuntimeError(f"docs/onnx-operators.md is of another onnx than {onnx.__version__}")
    pytest.skip("docs/onnx-operators.md is of another onnx", allow_module_level=True)

CASES = onnx_coverage.cases()
NOT_CLAIMED = onnx_coverage.listed()


@pytest.mark.parametrize("name", CASES)
def test_node(name):
    if name in NOT_CLAIMED:
        with pytest.raises(UnsupportedError, match="cannot run here"):
            onnx_backend.prepare(CASES[name].model)
    else:
        onnx_coverage.run(CASES[name])


def test_every_recurrent_test_is_claimed():
    recurrent = {name for name in CASES if name.startswith(("test_gru", "test_lstm", "test_rnn"))}
    recurrent |= {name for name in CASES if name.startswith("test_simple_rnn")}
    assert len(recurrent) == 18
    assert not recurrent & NOT_CLAIMED


def test_most_tests_are_claimed():
    assert CASES.keys() >= NOT_CLAIMED
    assert len(CASES) - len(NOT_CLAIMED) >= 1363


def test_the_document_is_current():
    assert onnx_coverage.DOCUMENT.read_text() == onnx_coverage.document(NOT_CLAIMED), (
        "run python tools/onnx_coverage.py"
    )


def test_a_wrong_result_fails():
    case = CASES["test_relu"]
    inputs, outputs = case.data_sets[0]
    wrong = type(case)(**{**vars(case), "data_sets": [(inputs, [outputs[0] + np.float32(0.01)])]})
    onnx_coverage.run(case)
    with pytest.raises(AssertionError):
        onnx_coverage.run(wrong)


def test_the_backend_answers_what_onnx_asks():
    relu, refused = CASES["test_relu"], CASES["test_gridsample"]
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
