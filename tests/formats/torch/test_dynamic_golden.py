"""Committed files of a net that torch has quantised dynamically, without torch: its answers."""

from pathlib import Path

import numpy as np
import pytest

from vledge import load_weights, nn, quantize

GOLDEN = Path(__file__).parents[2] / "golden" / "dynamic"


@pytest.mark.parametrize("file", ["state.pt", "module.pt", "scripted.pt"])
def test_the_net_answers_as_in_torch(file):
    weights = load_weights(GOLDEN / file)
    lstm = nn.LSTM.from_weights(weights, "lstm.")
    gru = nn.GRU.from_weights(weights, "gru.")
    out = nn.Linear.from_weights(weights, "out.")
    assert (lstm.storage, gru.storage) == ("int8-dynamic-7", "int8-dynamic-7")
    with np.load(GOLDEN / "expected.npz") as expected:
        y = out(gru(lstm(expected["x"])[0])[0])
        np.testing.assert_allclose(y, expected["y"], atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_has_no_scale_spoils_the_call(bad):
    """All sequences of a call have one scale; rows of int8 have their own."""
    lstm = nn.LSTM.from_weights(load_weights(GOLDEN / "state.pt"), "lstm.", batch_first=True)
    x = np.random.default_rng(0).normal(size=(3, 5, lstm.input_size)).astype(np.float32)
    x[1, 2, 0] = bad
    assert np.isnan(lstm(x)[0]).any((1, 2)).all()
    apart = lstm(x, lengths=[5, 5, 5], strategy="bucketed", rows=1)[0]
    assert np.isnan(apart).any((1, 2)).tolist() == [False, True, False]
    floats = {name: np.asarray(array) for name, array in lstm.state_dict().items()}
    for storage in ("int8", "int8-fast", "int16"):
        small = quantize(nn.LSTM.from_weights(floats, batch_first=True), storage)
        assert np.isfinite(small(x)[0][[0, 2]]).all()
