"""``out`` at every door: a view that would hold the last number written to it is refused."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

import vledge
from tests.graph.models import model_bytes, node
from vledge import nn
from vledge._ext.arrays import overlaps_itself
from vledge.out_arrays import misfit

RNG = np.random.default_rng(0)
FLOAT = np.dtype(np.float32)


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def loaded(module):
    module.load_state_dict({n: noise(*d.shape) for n, _, _, d in module._named_declared()})
    return module


class OwnModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4)

    def forward(self, x):
        return self.rnn(x)[0]


def session():
    """A GRU of 4 units over [T, 2, 3], and its output twice over."""
    arrays = {
        "w": noise(1, 12, 3),
        "r": noise(1, 12, 4),
        "two": np.float32([2]),
        "d": np.array([1]),
    }
    nodes = [
        node("GRU", ["x", "w", "r"], ["all", ""], hidden_size=4),
        node("Squeeze", ["all", "d"], ["y"]),
        node("Mul", ["y", "two"], ["z"]),
    ]
    x = {"x": (1, (None, 2, 3))}  # of floats
    return vledge.InferenceSession(model_bytes(nodes, x, ["y", "z"], arrays))


def bound(session, feed, outs):
    binding = session.io_binding()
    binding.bind_cpu_input("x", feed["x"])
    for name, array in outs.items():
        binding.bind_ortvalue_output(name, vledge.OrtValue.ortvalue_from_numpy(array))
    session.run_with_iobinding(binding)


def doors():
    """Name → a function of an ``out``, and the shape of what it is for."""
    frame, chunk = noise(2, 3), noise(5, 2, 3)
    layer, first = loaded(nn.GRU(3, 4)), loaded(nn.GRU(3, 4, batch_first=True))
    both, stack = loaded(nn.GRU(3, 4, bidirectional=True)), nn.RecurrentStack(layer)
    model, ahead = session(), both.stream(batch=2, lookahead=1)
    ahead.push(chunk)
    flushed = both.stream(batch=2, lookahead=5)
    flushed.push(chunk)
    made = {
        "layer step": (lambda out: layer.stream(batch=2).step(frame, out=out), (2, 4)),
        "layer push": (lambda out: layer.stream(batch=2).push(chunk, out=out), (5, 2, 4)),
        "batch first": (
            lambda out: first.stream(batch=2).push(chunk.swapaxes(0, 1), out=out),
            (2, 5, 4),
        ),
        "stack step": (lambda out: stack.stream(batch=2).step(frame, out=out), (2, 4)),
        "module step": (lambda out: loaded(OwnModule()).stream(2).step(frame, out=out), (2, 4)),
        "module push": (lambda out: loaded(OwnModule()).stream(2).push(chunk, out=out), (5, 2, 4)),
        "lookahead step": (lambda out: ahead.step(frame, out=out), (2, 8)),
        "lookahead push": (lambda out: ahead.push(chunk, out=out), (5, 2, 8)),
        "flush": (lambda out: flushed.flush(out=out), (5, 2, 8)),
        "run": (lambda out: model.run(None, {"x": chunk}, out=[out, None]), (5, 2, 4)),
        "run by name": (lambda out: model.run(["z"], {"x": chunk}, out={"z": out}), (5, 2, 4)),
        "binding": (lambda out: bound(model, {"x": chunk}, {"y": out}), (5, 2, 4)),
    }
    for call, given, shape in (("step", frame, (2, 4)), ("push", chunk, (5, 2, 4))):
        stream = model.stream(batch=2)

        def into(out, stream=stream, call=call, given=given, shape=shape):
            return getattr(stream, call)(given, out={"y": out, "z": np.zeros(shape, np.float32)})

        made[f"session {call}"] = (into, shape)
    return made


@pytest.mark.parametrize("program", ["1", "0"])
def test_an_out_that_shares_memory_with_itself_is_refused_everywhere(monkeypatch, program):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    for name, (call, shape) in doors().items():
        whole = np.zeros(shape, np.float32)
        for axis in range(len(shape)):
            strides = list(whole.strides)
            strides[axis] = 0
            out = as_strided(np.full(shape, 7, np.float32), shape, strides)
            with pytest.raises(ValueError, match=r"share memory|C-contiguous"):
                call(out)
            assert (out == 7).all(), f"{name}: it was written to"
        call(whole)
        assert whole.any(), name


@pytest.mark.parametrize("program", ["1", "0"])
def test_two_outs_that_share_memory_are_refused(monkeypatch, program):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    model, x = session(), noise(5, 2, 3)
    memory = np.full((6, 2, 4), 7, np.float32)
    outs = [memory[:5], memory[1:]]
    for call in (
        lambda: model.run(None, {"x": x}, out=outs),
        lambda: model.run(["y", "z"], {"x": x}, out=dict(zip("yz", outs, strict=True))),
        lambda: bound(model, {"x": x}, dict(zip("yz", outs, strict=True))),
        lambda: model.stream(batch=2).push(x, out=dict(zip("yz", outs, strict=True))),
        lambda: model.stream(batch=2).step(x[0], out=dict(zip("yz", [memory[0]] * 2, strict=True))),
    ):
        with pytest.raises(ValueError, match="share memory"):
            call()
        assert (memory == 7).all()
    # side by side in one block they share nothing
    block = np.zeros((5, 2, 8), np.float32)
    y, z = model.run(None, {"x": x})
    for call in (
        lambda: model.run(None, {"x": x}, out=[block[..., ::2], block[..., 1::2]]),
        lambda: model.stream(batch=2).push(x, out={"y": block[..., ::2], "z": block[..., 1::2]}),
    ):
        block[:] = 0
        call()
        np.testing.assert_allclose(block[..., ::2], y, rtol=0, atol=1e-6)
        np.testing.assert_allclose(block[..., 1::2], z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("program", ["1", "0"])
def test_a_name_that_is_asked_for_twice_gives_two_arrays(monkeypatch, program):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    first, z, again = session().run(["y", "z", "y"], {"x": noise(5, 2, 3)})
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(z, 2 * first)
    before = first.copy()
    again[:] = 0
    np.testing.assert_array_equal(first, before)


def test_views_that_numpy_makes():
    base = noise(4, 5, 6)
    for view in (
        base,
        base[::2, ::-1, 1:4],
        base.transpose(2, 0, 1)[::-1],
        base.reshape(20, 6).T,
        base[:, None, 2],
        np.zeros((3, 4), np.complex64).real,
        np.einsum("ii->i", np.zeros((4, 4))),
        as_strided(base, (1, 4), (0, 4)),
        np.zeros((0, 3)),
        np.zeros(()),
    ):
        assert not overlaps_itself(view)
    for view in (
        np.broadcast_to(base, (2, 4, 5, 6)),
        sliding_window_view(base[0, 0], 3),
        as_strided(base, (4, 3), (8, 4)),
        as_strided(base, (2, 3), (4, -4)),
        as_strided(base, (4,), (2,)),
    ):
        assert overlaps_itself(view)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"out is nothing, expected an array of float32 \[2, 3\]"),
        ([[0, 0, 0]] * 2, "out is a list, expected"),
        (np.zeros((2, 3)), r"out is float64 \[2, 3\], expected an array of float32"),
        (np.zeros((3, 2), np.float32), r"out is float32 \[3, 2\]"),
        (np.zeros((2, 3), ">f4"), "out is >f4"),
        (np.broadcast_to(np.float32(0), (2, 3)), "out is read-only"),
    ],
)
def test_what_an_out_must_be(given, message):
    with pytest.raises(AssertionError, match=message):
        assert not (problem := misfit({"out": (FLOAT, (2, 3))}, {"out": given})), problem
