"""Committed files of a net that torch has quantised dynamically, without torch: its answers."""

from pathlib import Path

import numpy as np
import pytest

from vledge import load_weights, nn

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
