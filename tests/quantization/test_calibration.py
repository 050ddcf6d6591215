"""Rounding for data: closer on what the model sees, and never beyond what a storage allows."""

import numpy as np
import pytest

import vledge
from tests.quantization.test_quantize import Tagger, loaded
from vledge import nn
from vledge.quantization.calibration import rounded_for
from vledge.shipped import japanese_vowels
from vledge.small_matrix import rounded


def correlated(rng, rows, columns):
    """Inputs that go together, as layers' outputs do."""
    return rng.standard_normal((rows, 6)) @ rng.standard_normal((6, columns))


@pytest.mark.parametrize("storage", ["int8", "int8-fast"])
def test_products_with_what_was_seen_keep_closer(storage):
    rng = np.random.default_rng(0)
    matrix, seen = rng.standard_normal((30, 70)), correlated(rng, 500, 70)
    for given in (seen, correlated(rng, 50, 70) * 0 + seen[:50]):
        nearest = np.asarray(rounded(matrix, storage), np.float64)
        closer = np.asarray(rounded_for(matrix, seen, storage), np.float64)
        errors = [np.mean(((matrix - one) @ given.T) ** 2) for one in (closer, nearest)]
        assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("storage", ["int8", "int8-fast", "int16"])
def test_extreme_weights_and_inputs_keep_to_what_the_storage_allows(storage):
    """SmallMatrix refuses what could saturate or overflow."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        matrix = rng.choice([-1.0, 1.0, 0.0, 1e-3], (9, 67))
        seen = correlated(rng, 40, 67) * rng.choice([0, 1, 1e4], 67)
        small = rounded_for(matrix, seen, storage)
        assert small.storage == storage
    for nothing in (np.zeros((3, 67)), np.full((3, 67), np.nan), np.zeros((0, 67))):
        expected = rounded(matrix, storage)
        assert np.array_equal(rounded_for(matrix, nothing, storage).values, expected.values)


def test_the_shipped_classifier_by_its_own_series():
    """Half of the series to round for, the others to look at."""
    model, test = japanese_vowels.load(), japanese_vowels.load_test_set()
    known = [vledge.pack_sequence(test.series[::2], enforce_sorted=False)]
    unknown = vledge.pack_sequence(test.series[1::2], enforce_sorted=False)
    exact = model(unknown)

    def error(small):
        return np.sqrt(np.mean((small(unknown) - exact) ** 2))

    plain = vledge.quantize(model, "int8")
    small = vledge.quantize(model, "int8", calibrate=known)
    assert error(small) < 0.8 * error(plain)
    assert np.array_equal(model(unknown), exact)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.LSTM(7, 24, num_layers=2, bidirectional=True),
        lambda: nn.LSTM(7, 24, proj_size=5),
        lambda: nn.GRU(7, 24, batch_first=True),
        lambda: nn.GRU(7, 24, reset_after=False),
        lambda: nn.RNN(7, 24, bias=False),
        lambda: nn.IndRNN(7, 24),
    ],
)
def test_every_kind_of_layer(layer):
    layer = loaded(layer())
    rng = np.random.default_rng(2)
    sequences = [correlated(rng, n, 7).astype(np.float32) for n in (50, 3, 80)]
    exact = layer(sequences)[0]
    worst = []
    for calibrate in (None, [sequences]):
        small = vledge.quantize(layer, "int8", calibrate=calibrate)
        assert small.storage == "int8"
        errors = [a - b for a, b in zip(small(sequences)[0], exact, strict=True)]
        worst.append(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    assert worst[1] < worst[0]


def test_inputs_of_a_model_with_several_layers():
    model = loaded(Tagger())
    ids = [np.random.default_rng(n).integers(0, 11, (20, 4)) for n in range(5)]
    exact = model(ids[0])
    small = vledge.quantize(model, calibrate=ids)
    assert small.encoder.storage == small.decoder.storage == "int8"
    assert type(small.encoder) is nn.GRU
    assert np.abs(small(ids[0]) - exact).max() < 0.02
    by_tuples = vledge.quantize(model, calibrate=[(one,) for one in ids])
    assert np.array_equal(by_tuples(ids[0]), small(ids[0]))


def test_a_largest_error():
    model = loaded(Tagger())
    ids = [np.random.default_rng(n).integers(0, 11, (20, 4)) for n in range(3)]
    exact = model(ids[0])
    storages = []
    for bound in (1.0, 8e-6, 1e-9):
        small = vledge.quantize(model, calibrate=ids, max_error=bound)
        assert np.abs(small(ids[0]) - exact).max() <= bound
        storages.append((small.encoder.storage, small.decoder.storage))
    assert storages[0] == ("int8", "int8")
    assert storages[1] == ("int16", "int8")
    assert storages[2] == ("float32", "float32")
    with pytest.raises(ValueError, match="max_error is measured on inputs"):
        vledge.quantize(model, max_error=0.1)
    with pytest.raises(ValueError, match="go with a Module"):
        vledge.quantize(model.state_dict(), calibrate=ids)


class Loop(nn.Module):
    """A cell in a loop, and a Linear: what they see goes together."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(cell.hidden_size, 3)

    def forward(self, x):
        state, outputs = None, []
        for frame in x:
            state = self.cell(frame, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return self.head(np.stack(outputs))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_and_products_are_rounded_for_what_they_see(kind):
    rng = np.random.default_rng(4)
    model = Loop(getattr(nn, kind)(24, 32))
    state = {
        name: rng.uniform(-0.3, 0.3, declared.shape).astype(np.float32)
        for name, _, _, declared in model._named_declared()
    }
    model.load_state_dict(state)
    mixed = rng.standard_normal((4, 24))
    known, unseen = ((rng.standard_normal((60, 2, 4)) @ mixed).astype(np.float32) for _ in range(2))
    exact = model(unseen)

    def error(**options):
        small = vledge.quantize(model, "int8", **options)
        return np.sqrt(np.mean((small(unseen) - exact) ** 2))

    assert error(calibrate=[known]) < 0.8 * error()
    assert error(layers="head", calibrate=[known]) < 0.95 * error(layers="head")
    assert np.array_equal(model(unseen), exact)
