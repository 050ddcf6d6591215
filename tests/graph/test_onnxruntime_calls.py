"""Calls beside ``run`` that programs written for onnxruntime make, and inputs as they give them."""

import queue
import threading

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def session():
    return vledge.InferenceSession(model_bytes([node("Relu", ["x"], ["y"])], {"x": X}, ["y"]))


def test_run_with_ort_values(session):
    value = vledge.OrtValue.ortvalue_from_numpy(X)
    (y,) = session.run_with_ort_values(["y"], {"x": value})
    np.testing.assert_array_equal(y.numpy(), X)
    assert value.element_type() == 1
    assert vledge.OrtValue.ortvalue_from_numpy(np.zeros(2, np.int64)).element_type() == 7


def test_an_ort_value_is_an_array_to_run_and_an_array_no_ort_value(session):
    value = vledge.OrtValue.ortvalue_from_numpy(X)
    np.testing.assert_array_equal(session.run(None, {"x": value})[0], X)
    for given in (X, X.tolist(), None):
        with pytest.raises(TypeError, match=r"input 'x' is a \w+, expected an OrtValue"):
            session.run_with_ort_values(None, {"x": given})
    with pytest.raises(TypeError, match="input_dict_ort_values is a list, expected a dict"):
        session.run_with_ort_values(None, [value])


def test_an_ort_values_type():
    texts = vledge.OrtValue.ortvalue_from_numpy(np.array(["a", "bc"]))
    assert (texts.data_type(), texts.element_type()) == ("tensor(string)", 8)
    times = vledge.OrtValue.ortvalue_from_numpy(np.zeros(2, "M8[s]"))
    for ask in (times.data_type, times.element_type):
        with pytest.raises(TypeError, match=r"ONNX has no tensors of datetime64\[s\]"):
            ask()


def test_run_async_says_at_once_that_it_cannot_call_back(session):
    with pytest.raises(TypeError, match="callback is None, expected a function of results"):
        session.run_async(None, {"x": X}, None, None)


def test_run_async_calls_back_from_another_thread(session):
    told = queue.Queue()

    def callback(results, user_data, error):
        told.put((results, user_data, error, threading.get_ident()))

    assert session.run_async(["y"], {"x": X}, callback, "mine") is None
    results, user_data, error, thread = told.get(timeout=60)
    np.testing.assert_array_equal(results[0], X)
    assert (user_data, error) == ("mine", "")
    assert thread != threading.get_ident()
    session.run_async(["y"], {"x": X[0]}, callback, None)
    results, _, error, _ = told.get(timeout=60)
    assert results == []
    assert "input 'x' has the shape (3,)" in error


def test_what_profiling_and_optimizers_have_no_part_in(session):
    assert session.end_profiling() == ""
    model = model_bytes([node("Relu", ["x"], ["y"])], {"x": X}, ["y"])
    other = vledge.InferenceSession(model, disabled_optimizers=["ConstantFolding"])
    np.testing.assert_array_equal(other.run(None, {"x": X})[0], X)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"input 'x' is None, expected tensor\(float\)"),
        ([[1, 2, 3], [4]], "input 'x' is no array: .*inhomogeneous"),
        ([["a", "b", "c"]], "input 'x' is no array: could not convert"),
    ],
)
def test_what_is_no_array_is_named(session, value, message):
    with pytest.raises(ValueError, match=message):
        session.run(None, {"x": value})


def test_tensors_keep_their_dtype(session):
    """Lists become what the model takes, as in onnxruntime; tensors are refused as arrays are."""
    torch = peer("torch")
    np.testing.assert_array_equal(session.run(None, {"x": X.astype(int).tolist()})[0], X)
    np.testing.assert_array_equal(session.run(None, {"x": torch.from_numpy(X)})[0], X)
    with pytest.raises(ValueError, match="input 'x' has the dtype float64"):
        session.run(None, {"x": torch.from_numpy(X).double()})
