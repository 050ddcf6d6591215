"""`vledge.quantize`: which layers become small, that they run everywhere, and what comes back."""

import pickle

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.lengths import STRATEGIES
from vledge.quantization import report
from vledge.small_matrix import FORMS, SmallMatrix

STORAGES = list(FORMS)


def random_state(module, seed=0):
    rng = np.random.default_rng(seed)
    state = {}
    for name, _, _, declared in module._named_declared():
        bound = 1 / np.sqrt(max(declared.shape[-1], 1))
        state[name] = rng.uniform(-bound, bound, declared.shape).astype(declared.dtype)
    return state


def loaded(module, seed=0):
    module.load_state_dict(random_state(module, seed))
    return module


def layers():
    return {
        "lstm": lambda: nn.LSTM(5, 19, num_layers=2, bidirectional=True),
        "projected": lambda: nn.LSTM(5, 24, proj_size=7),
        "gru": lambda: nn.GRU(5, 33, batch_first=True),
        "reset_before": lambda: nn.GRU(5, 20, reset_after=False),
        "rnn": lambda: nn.RNN(5, 40, nonlinearity="relu", bias=False),
        "asked": lambda: nn.LSTM(5, 12, recurrent_activation=("hard_sigmoid", 0.2, 0.5)),
        "indrnn": lambda: nn.IndRNN(5, 30),
    }


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.encoder = nn.GRU(6, 16)
        self.decoder = nn.LSTM(16, 12)
        self.cell = nn.LSTMCell(12, 9)
        self.head = nn.Linear(9, 4)

    def forward(self, ids):
        x, _ = self.encoder(self.embedding(ids))
        x, _ = self.decoder(x)
        h, _ = self.cell(x[-1])
        return self.head(h)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", layers())
def test_a_layer_by_every_way_of_running(kind, storage):
    layer = loaded(layers()[kind]())
    small = vledge.quantize(layer, storage)
    assert type(small) is type(layer)
    assert (layer.storage, small.storage) == ("float32", storage)
    assert small.nbytes <= layer.nbytes
    rng = np.random.default_rng(1)
    sequences = [rng.standard_normal((n, 5)).astype(np.float32) for n in (7, 3, 7, 1)]
    wanted, _ = layer(sequences)
    got, _ = small(sequences)
    bound = {"int8": 0.02, "int16": 1e-3, "int8-fast": 0.1}[storage]
    for one, other in zip(got, wanted, strict=True):
        assert 0 < np.abs(one - other).max() < bound * max(1, np.abs(other).max())
    padded = vledge.pad_sequence(sequences, batch_first=layer.batch_first)
    for strategy in [*STRATEGIES, "auto"]:
        if strategy in ("streaming", "lanes") and layer.backwards:
            continue
        options = {"window": 2} if strategy == "streaming" else {}
        output, _ = small(padded, lengths=[7, 3, 7, 1], strategy=strategy, **options)
        for row, one in enumerate(got):
            again = output[row] if layer.batch_first else output[:, row]
            assert np.array_equal(again[: len(one)], one), strategy
    copy = pickle.loads(pickle.dumps(small))
    assert all(np.array_equal(a, b) for a, b in zip(copy(sequences)[0], got, strict=True))
    if not layer.backwards:
        stream = small.stream()
        frames = np.stack([stream.step(frame[None]) for frame in sequences[0]])[:, 0]
        assert np.array_equal(frames, got[0])


def test_a_model_with_other_layers():
    model = loaded(Tagger())
    ids = np.arange(8)[:, None] % 11
    wanted = model(ids)
    small = vledge.quantize(model, "int16")
    assert isinstance(small, Tagger)
    assert small.encoder.storage == small.decoder.storage == "int16"
    assert isinstance(small.state_dict()["cell.weight_hh"], SmallMatrix)
    assert isinstance(small.state_dict()["head.weight"], SmallMatrix)
    assert isinstance(small.state_dict()["embedding.weight"], SmallMatrix)
    assert not isinstance(model.state_dict()["embedding.weight"], SmallMatrix)
    assert model.encoder.storage == "float32"
    assert np.array_equal(model(ids), wanted)
    assert 0 < np.abs(small(ids) - wanted).max() < 1e-4
    told = report(model.state_dict(), small.state_dict())
    held = {entry.name: entry.storage for entry in told.entries}
    assert held["head.weight"] == held["embedding.weight"] == "int16"
    assert held["head.bias"] == "float32"
    assert held["encoder.weight_hh_l0"] == "int16"
    assert "8 of " in told.summary
    assert "encoder.weight_hh_l0  int16" in str(told)


def test_chosen_layers():
    model = loaded(Tagger())
    one = vledge.quantize(model, layers="enc*")
    assert (one.encoder.storage, one.decoder.storage) == ("int8", "float32")
    assert one.decoder is model.decoder
    kept = vledge.quantize(model, keep=["decoder", "cell"])
    assert (kept.encoder.storage, kept.decoder.storage) == ("int8", "float32")
    both = vledge.quantize(vledge.quantize(model, "int16", layers="decoder"), keep="decoder")
    assert (both.encoder.storage, both.decoder.storage) == ("int8", "int16")
    with pytest.raises(
        ValueError, match="is called 'lstm'; there are 'embedding', 'encoder', 'decoder', 'cell'"
    ):
        vledge.quantize(model, layers="lstm")
    with pytest.raises(ValueError, match="no layer that could be quantized is called 'x'"):
        vledge.quantize(model, keep="x")
    with pytest.raises(ValueError, match="'int4' is not one of int8"):
        vledge.quantize(model, "int4")
    with pytest.raises(ValueError, match="no layer with float32 weights"):
        vledge.quantize(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no layer with float32 weights"):
        vledge.quantize(loaded(nn.LSTM(2, 3, dtype=np.float64)))
    with pytest.raises(
        vledge.UnsupportedError, match=r"expected a Module .* found a value of the type list"
    ):
        vledge.quantize([model])


def test_a_layer_that_is_shared_stays_shared():
    gru = loaded(nn.GRU(4, 4))
    model = nn.Sequential(gru, gru)
    small = vledge.quantize(model)
    assert small[0] is small[1]
    assert small[0].storage == "int8"


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", layers())
def test_through_a_file(tmp_path, kind, storage):
    layer = loaded(layers()[kind]())
    small = vledge.quantize(layer, storage)
    path = tmp_path / "small.safetensors"
    vledge.save_weights(path, small.state_dict())
    weights = vledge.load_weights(path)
    twin = layers()[kind]()
    twin.load_state_dict(weights)
    assert twin.storage == storage
    x = np.random.default_rng(2).standard_normal((3, 2, 5)).astype(np.float32)
    assert np.array_equal(twin(x)[0], small(x)[0])
    for name, weight in small.state_dict().items():
        if isinstance(weight, SmallMatrix):
            assert np.array_equal(weights[name].values, weight.values)
            assert np.array_equal(weights[name].scales, weight.scales)
            assert np.array_equal(getattr(twin, name), np.asarray(weight))
    # quantizing bare weights gives the same
    rounded = vledge.quantize(layer.state_dict(), storage)
    twin.load_state_dict(rounded)
    assert np.array_equal(twin(x)[0], small(x)[0])
    # small weights in a float64 layer are the numbers that they stand for
    if kind == "asked":  # which weights do not tell
        return
    wide = type(twin).from_weights(weights, dtype=np.float64)
    assert wide.storage == "float64"
    assert np.array_equal(wide.weight_ih_l0, twin.weight_ih_l0.astype(np.float64))


def test_floats_again():
    small = vledge.quantize(loaded(nn.GRU(3, 8)))
    weight = small.weight_hh_l0
    small.weight_hh_l0 = weight * 2  # one of its weights as floats: rounded as the others are
    assert small.storage == "int8"
    np.testing.assert_allclose(small.weight_hh_l0, weight * 2, rtol=1e-6)
    assert small.double().storage == "float64"
    assert vledge.quantize(loaded(nn.GRU(3, 8))).float().storage == "int8"
    dense = {name: np.asarray(array) for name, array in small.state_dict().items()}
    small.load_state_dict(dense)
    assert small.storage == "float64"


def test_weights_of_no_number():
    layer = nn.GRU(3, 8)
    state = random_state(layer)
    state["weight_hh_l0"][3, 2] = np.nan
    layer.load_state_dict(state)
    with pytest.raises(ValueError, match="NaN or infinite"):
        vledge.quantize(layer)
    with pytest.raises(ValueError, match=r"layer '': .*NaN or infinite"):
        vledge.quantize(state)


@pytest.mark.parametrize("storage", STORAGES)
def test_threads(storage):
    small = vledge.quantize(loaded(nn.LSTM(40, 256)), storage)
    x = np.random.default_rng(3).standard_normal((20, 1, 40)).astype(np.float32)
    before = vledge.get_num_threads()
    try:
        vledge.set_num_threads(1)
        alone = small(x)[0]
        vledge.set_num_threads(2)
        assert np.array_equal(small(x)[0], alone)
    finally:
        vledge.set_num_threads(before)


def test_a_report_tells_what_was_rounded_anew():
    """Small integers that become others take as many bytes, and are not what they were."""
    rng = np.random.default_rng(0)
    sizes = {"weight_ih_l0": (32, 30), "weight_hh_l0": (32, 32)}
    weights = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    once = vledge.quantize(weights, "int8")
    told = vledge.quantization.report(once, vledge.quantize(once, "int8-fast"))
    assert told.bytes_after == told.bytes_before
    assert told.summary.startswith("2 of 2 arrays are small")
    assert told.summary.endswith("of which 0 stay as they were")
