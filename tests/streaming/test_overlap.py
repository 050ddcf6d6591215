"""Results written where the input lies, or where anything else of the caller's does."""

import numpy as np
import pytest

from tests.test_array_like import Chain, filled, layer
from vledge import nn

B, T, I = 2, 6, 70  # noqa: E741 - the sizes' names of the field


def square(kind, **options):
    """A layer with as many features out as in: its output fits over its input."""
    built = getattr(nn, kind)(I, I // 2 if options.get("bidirectional") else I, **options)
    return filled_like(built)


def filled_like(module):
    rng = np.random.default_rng(0)
    shapes = {name: d.shape for name, _, _, d in module._named_declared()}
    module.load_state_dict({n: rng.uniform(-0.2, 0.2, s) for n, s in shapes.items()})
    return module


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(I, 8), nn.Linear(8, I)

    def forward(self, x):
        return self.fc(self.gru(x)[0])


STREAMS = {
    **{kind: lambda k=kind: square(k).stream(batch=B) for kind in ("RNN", "LSTM", "GRU", "IndRNN")},
    "two layers": lambda: square("LSTM", num_layers=2).stream(batch=B),
    "projected": lambda: filled_like(nn.LSTM(35, 90, proj_size=35)).stream(batch=B),
    "module": lambda: filled_like(Stacked()).stream(batch=B),
    "lookahead": lambda: square("GRU", bidirectional=True).stream(batch=B, lookahead=2),
}


@pytest.mark.parametrize("offset", [-33, -1, 0, 1, 70])
@pytest.mark.parametrize("name", STREAMS)
def test_out_over_the_input(name, offset):
    features = 35 if name == "projected" else I
    plain, over = STREAMS[name](), STREAMS[name]()
    rng = np.random.default_rng(1)
    for shape in ((B, features), (T, B, features), (B, features)):
        size = int(np.prod(shape))
        memory = np.zeros(size + 256, np.float32)
        x = memory[128 : 128 + size].reshape(shape)
        x[...] = rng.uniform(-1, 1, shape)
        call = "step" if len(shape) == 2 else "push"
        expected = getattr(plain, call)(x.copy())
        if expected is None:  # none is ready
            assert getattr(over, call)(x) is None
            continue
        out = memory[128 + offset : 128 + offset + expected.size].reshape(expected.shape)
        assert getattr(over, call)(x, out=out) is out
        np.testing.assert_array_equal(out, expected)
    for key, array in plain.state.items():
        np.testing.assert_array_equal(over.state[key], array)


def test_batch_first():
    plain, over = (square("GRU", batch_first=True).stream(batch=B) for _ in range(2))
    x = np.random.default_rng(2).uniform(-1, 1, (B, T, I)).astype(np.float32)
    expected = plain.push(x.copy())
    assert over.push(x, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((B, T, I)),
        np.zeros((B, T, I + 1), np.float32),
        np.zeros((1, T, I), np.float32),
        np.zeros((B, T, I), ">f4"),
        np.broadcast_to(np.float32(0), (B, T, I)),
        [0.0],
    ],
)
def test_an_out_that_does_not_fit_changes_no_state(out):
    for batch_first in (False, True):
        stream = square("GRU", batch_first=batch_first).stream(batch=B)
        chunk = np.ones((B, T, I) if batch_first else (T, B, I), np.float32)
        if not batch_first and isinstance(out, np.ndarray):
            out = out.swapaxes(0, 1)
        with pytest.raises(ValueError, match="out"):
            stream.push(chunk, out=out)
        assert not stream.state["h"].any()


def test_a_caller_who_uses_the_input_again():
    """No stream keeps the caller's array: it may hold the next frame already."""
    for stream in (
        layer("GRU").stream(),
        Chain().stream(),
        layer("GRU", bidirectional=True).stream(lookahead=2),
        filled(nn.Conv1d(4, 4, 3)).stream(),
    ):
        x = np.ones((1, 4), np.float32)
        for _ in range(4):
            stream.step(x)
        before = {name: array.copy() for name, array in stream.state.items()}
        x[...] = 99
        for name, array in stream.state.items():
            np.testing.assert_array_equal(array, before[name])
