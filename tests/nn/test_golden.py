"""Recurrent layers against torch's committed results: what a board without torch can check."""

import numpy as np
import pytest

import vledge
from tests.golden.nn import make
from vledge import nn


@pytest.mark.parametrize("case", range(len(make.CASES)), ids=lambda i: str(make.CASES[i]))
def test_layers(case):
    kind, input_size, hidden_size, options = make.CASES[case]
    path = make.Path(make.__file__).with_name("layers.npz")
    with np.load(path, allow_pickle=False) as file:
        found = {name.partition(".")[2]: file[name] for name in file if name.startswith(f"{case}.")}
    layer = getattr(nn, kind)(input_size, hidden_size, **options)
    layer.load_state_dict(
        {n.removeprefix("weights."): a for n, a in found.items() if n.startswith("weights.")}
    )
    hx = (found["h_0"], found["c_0"]) if kind == "LSTM" else found["h_0"]
    packed = vledge.pack_padded_sequence(found["x"], make.LENGTHS, layer.batch_first, False)
    for given, output, state in (
        (found["x"], "padded", "state"),
        (packed, "packed", "packed_state"),
    ):
        got, got_state = layer(given, hx)
        got = got.data if output == "packed" else got
        np.testing.assert_allclose(got, found[output], rtol=0, atol=2e-6)
        parts = got_state if kind == "LSTM" else (got_state,)
        for n, part in enumerate(parts):
            np.testing.assert_allclose(part, found[f"{state}{n}"], rtol=0, atol=2e-6)
