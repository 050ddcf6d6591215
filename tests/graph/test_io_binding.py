"""Outputs in arrays of the caller's: ``run(out=)`` and onnxruntime's I/O binding."""

import ctypes
import threading

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer

onnxruntime = peer("onnxruntime")

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def step_model():
    """s' = x * w + s, y = s' + s, and the old state handed through."""
    nodes = [
        node("Mul", ["x", "w"], ["xw"]),
        node("Add", ["xw", "s"], ["s_n"]),
        node("Add", ["s_n", "s"], ["y"]),
        node("Identity", ["s"], ["before"]),
    ]
    return model_bytes(
        nodes, {"x": X, "s": X}, ["y", "s_n", "before"], {"w": np.array([2, 3, 4], np.float32)}
    )


@pytest.fixture(params=["program", "python"])
def running(request, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", "1" if request.param == "program" else "0")
    return vledge.InferenceSession(step_model())


FEED = {"x": X, "s": np.ones((2, 3), np.float32)}


def like(expected):
    return [np.full_like(array, np.nan) for array in expected]


def test_outputs_are_written_where_they_are_wanted(running):
    expected = running.run(None, FEED)
    outs = like(expected)
    results = running.run(None, FEED, out=outs)
    for result, out, right in zip(results, outs, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, right)
    named = {"s_n": np.zeros((2, 3), np.float32)}
    y, s_n = running.run(["y", "s_n"], FEED, out=named)
    assert s_n is named["s_n"]
    np.testing.assert_array_equal(s_n, expected[1])
    np.testing.assert_array_equal(y, expected[0])
    wide = np.zeros((2, 2, 3, 2), np.float32)  # strided, and one of the two left to be new
    before, y = running.run(["before", "y"], FEED, out=[None, wide[1, :, ::-1, 1]])
    np.testing.assert_array_equal(wide[1, :, ::-1, 1], expected[0])
    np.testing.assert_array_equal(before, FEED["s"])
    assert not wide[0].any()
    assert not wide[..., 0].any()


def test_an_input_may_be_an_output(running):
    """Also where another output is the input as it was."""
    s, sums = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    for _ in range(4):
        before = np.full((2, 3), np.nan, np.float32)
        running.run(None, {"x": X, "s": s}, out={"s_n": s, "before": before})
        np.testing.assert_array_equal(before, sums)
        sums = sums + X * np.array([2, 3, 4], np.float32)
        np.testing.assert_array_equal(s, sums)
    x = X.copy()
    running.run(None, {"x": x, "s": x}, out={"before": x[::-1]})  # overlaps what it is a view of
    np.testing.assert_array_equal(x, X[::-1])


@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        (np.zeros((2, 3), np.float32), TypeError, "list of arrays or a dict"),
        ([np.zeros((2, 3), np.float32)], ValueError, "1 arrays for 3 outputs"),
        ({"z": None}, ValueError, "no output named 'z'"),
        ({"y": np.zeros((2, 3))}, ValueError, "out for 'y' is float64"),
        ({"y": np.zeros((3, 2), np.float32)}, ValueError, "expected an array of float32"),
        ({"y": [[0.0] * 3] * 2}, ValueError, "is a list, expected an array"),
        ({"y": np.zeros((2, 3), ">f4")}, ValueError, "out for 'y' is >f4"),
        ({"y": np.broadcast_to(np.float32(0), (2, 3))}, ValueError, "'y' is read-only"),
    ],
)
def test_an_out_that_does_not_fit(running, out, error, match):
    good = np.full((2, 3), 7, np.float32)
    if isinstance(out, dict) and "z" not in out:
        out = {**out, "s_n": good}
    with pytest.raises(error, match=match):
        running.run(None, FEED, out=out)
    assert (good == 7).all()


def test_large_outputs_and_other_types():
    """Large enough to be handed over otherwise, unaligned, of no axes, and made by Python."""
    x = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    nodes = [
        node("Relu", ["x"], ["y"]),
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["x", "m"], ["b"]),
        node("Det", ["square"], ["d"]),
    ]
    square = np.eye(3, dtype=np.float32) * 2
    outputs = ["y", "t", "m", "b", "d"]
    running = vledge.InferenceSession(model_bytes(nodes, {"x": x, "square": square}, outputs))
    feed = {"x": x, "square": square}
    expected = running.run(None, feed)
    outs = [np.ones(a.shape, a.dtype) for a in expected]
    memory = np.zeros(x.nbytes + 1, np.uint8)
    outs[0] = memory[1:].view(np.float32).reshape(x.shape)
    for result, out, right in zip(running.run(None, feed, out=outs), outs, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, right)


def bound(module, model, outputs):
    """A few steps by the I/O binding of either module, whose state is an input and an output."""
    running = module.InferenceSession(model, providers=["CPUExecutionProvider"])
    binding = running.io_binding()
    s = np.ones((2, 3), np.float32)
    state = module.OrtValue.ortvalue_from_numpy(s)
    y = np.zeros((2, 3), np.float32)
    binding.bind_cpu_input("x", X)
    binding.bind_ortvalue_input("s", state)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    for name in outputs:
        binding.bind_output(name)
    found = []
    for _ in range(3):
        running.run_with_iobinding(binding)
        copies = binding.copy_outputs_to_cpu()
        np.testing.assert_array_equal(copies[0], y)
        assert [list(value.shape()) for value in binding.get_outputs()] == [[2, 3]] * len(copies)
        assert binding.get_outputs()[0].data_type() == "tensor(float)"
        found.append([y.copy(), *copies])
        s[...] = copies[1]
    return found


def test_io_binding_is_as_onnxruntime_s():
    outputs = ["s_n", "before"]
    ours, theirs = (bound(module, step_model(), outputs) for module in (vledge, onnxruntime))
    for mine, right in zip(ours, theirs, strict=True):
        for a, b in zip(mine, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_bound_arrays_are_results_themselves(running):
    binding = running.io_binding()
    s, y = np.ones((2, 3), np.float32), vledge.OrtValue.ortvalue_from_shape_and_type([2, 3])
    binding.bind_input("x", "cpu", 0, 1, X.shape, X.ctypes.data)
    binding.bind_cpu_input("s", s)
    binding.bind_ortvalue_output("s_n", vledge.OrtValue.ortvalue_from_numpy(s))
    binding.bind_ortvalue_output("y", y)
    for turn in (1, 2):
        running.run_with_iobinding(binding)
        np.testing.assert_array_equal(s, 1 + turn * X * np.array([2, 3, 4], np.float32))
    assert binding.get_outputs()[0].numpy() is s
    assert binding.get_outputs()[1].numpy() is y.numpy()
    y.update_inplace(X)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[1], X)
    binding.clear_binding_outputs()
    with pytest.raises(ValueError, match="no outputs are bound"):
        running.run_with_iobinding(binding)


def test_bindings_that_cannot_be(running):
    binding = running.io_binding()
    with pytest.raises(vledge.UnsupportedError, match="no device 'cuda'"):
        binding.bind_output("y", "cuda")
    with pytest.raises(ValueError, match="no output named 'z'"):
        binding.bind_output("z")
    with pytest.raises(ValueError, match="buffer_ptr is 0"):
        binding.bind_input("x", "cpu", 0, np.float32, (2, 3), 0)
    with pytest.raises(ValueError, match="goes with element_type and shape"):
        binding.bind_output("y", buffer_ptr=ctypes.addressof(ctypes.c_float()))
    with pytest.raises(ValueError, match="element_type 99"):
        binding.bind_input("x", "cpu", 0, 99, (2, 3), 8)
    with pytest.raises(TypeError, match="a list"):
        vledge.OrtValue.ortvalue_from_numpy([1.0])
    binding.bind_output("y")
    with pytest.raises(ValueError, match="are missing"):
        running.run_with_iobinding(binding)
    binding.bind_cpu_input("x", X.astype(np.float64))
    binding.bind_cpu_input("s", X)
    with pytest.raises(ValueError, match="'x' has the dtype float64"):
        running.run_with_iobinding(binding)


def test_with_threads_of_its_own_and_an_output_asked_for_twice():
    options = vledge.SessionOptions()
    options.intra_op_num_threads = 1
    running = vledge.InferenceSession(step_model(), options)
    y = np.zeros((2, 3), np.float32)
    assert running.run(["y"], FEED, out=[y])[0] is y
    assert y.any()
    twice = [np.zeros((2, 3), np.float32)] * 2
    with pytest.raises(ValueError, match="asked for twice"):
        running.run(["y", "y"], FEED, out=twice)


def test_threads_with_arrays_of_their_own_share_a_session(running):
    feeds = [{"x": X * scale, "s": X + scale} for scale in np.linspace(0.5, 2, 6, dtype="f4")]
    expected = [running.run(None, feed) for feed in feeds]
    problems = []

    def work(at):
        try:
            outs, binding = like(expected[at]), running.io_binding()
            y = vledge.OrtValue.ortvalue_from_shape_and_type([2, 3])
            binding.bind_ortvalue_output("y", y)
            for name, array in feeds[at].items():
                binding.bind_cpu_input(name, array)
            for _ in range(200):
                for array in outs:
                    array.fill(np.nan)
                running.run(None, feeds[at], out=outs)
                running.run_with_iobinding(binding)
                np.testing.assert_array_equal(y.numpy(), expected[at][0])
                for out, right in zip(outs, expected[at], strict=True):
                    np.testing.assert_array_equal(out, right)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
