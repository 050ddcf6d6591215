"""Linear, Conv1d and Embedding with small weights, beside what the weights stand for."""

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.small_matrix import FORMS, SmallMatrix

LEVELS = {"int8": 3e-5, "int16": 3e-5, "int8-fast": 8e-3}  # of the inputs' rounding, relative


def drawn(module, seed=0):
    rng = np.random.default_rng(seed)
    state = {
        name: rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.float32(shape[-1] or 1))
        for name, shape in module.items()
    }
    return state


def close(ours, expected, storage, magnitude):
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=LEVELS[storage] * magnitude + 1e-6)


@pytest.mark.parametrize("storage", FORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(storage, bias, instruction_set):
    rng = np.random.default_rng(1)
    for depth, columns in ((1, 1), (5, 3), (64, 33), (130, 70), (0, 4), (4, 0)):
        state = drawn({"weight": (columns, depth)})
        if bias:
            state["bias"] = rng.standard_normal(columns).astype(np.float32)
        small = vledge.quantize(nn.Linear.from_weights(state), storage)
        weight = small.state_dict()["weight"]
        assert isinstance(weight, SmallMatrix)
        assert np.array_equal(small.weight, np.asarray(weight))
        for shape in ((depth,), (1, depth), (7, depth), (2, 3, depth), (0, depth)):
            x = rng.standard_normal(shape).astype(np.float32)
            exact = x.astype(np.float64) @ np.asarray(weight, np.float64).T
            magnitude = np.abs(x).max(initial=0) * np.abs(small.weight).sum(1).max(initial=0)
            close(small(x), exact + state.get("bias", 0), storage, magnitude)
        assert np.array_equal(small(x[:0]), small(x)[:0])


@pytest.mark.parametrize("storage", FORMS)
def test_rows_and_threads_have_the_same_bits(storage):
    state = drawn({"weight": (600, 300)})
    small = vledge.quantize(nn.Linear.from_weights(state), storage)
    x = np.random.default_rng(2).standard_normal((50, 300)).astype(np.float32)
    before = vledge.get_num_threads()
    try:
        vledge.set_num_threads(1)
        alone = small(x)
        vledge.set_num_threads(3)
        assert np.array_equal(small(x), alone)
        assert np.array_equal(small(x[:2]), alone[:2])  # columns are shared
    finally:
        vledge.set_num_threads(before)
    assert all(np.array_equal(small(row), one) for row, one in zip(x, alone, strict=True))
    turned = np.asfortranarray(x)
    assert np.array_equal(small(turned), alone)


@pytest.mark.parametrize("storage", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 2, "dilation": 2},
        {"stride": 3, "padding": 1},
        {"padding": "same"},
        {"padding": 2, "padding_mode": "reflect"},
    ],
)
def test_convolution(storage, options):
    layer = nn.Conv1d(6, 9, 3, **options)
    layer.load_state_dict(drawn({"weight": (9, 6, 3), "bias": (9,)}))
    small = vledge.quantize(layer, storage)
    assert isinstance(small.state_dict()["weight"], SmallMatrix)
    assert small.weight.shape == (9, 6, 3)
    plain = nn.Conv1d(6, 9, 3, **options)
    plain.load_state_dict({"weight": small.weight, "bias": layer.bias})
    rng = np.random.default_rng(3)
    for shape in ((2, 6, 20), (6, 20), (0, 6, 20), (1, 6, 7)):
        x = rng.standard_normal(shape).astype(np.float32)
        magnitude = np.abs(x).max(initial=0) * np.abs(small.weight).sum((1, 2)).max()
        close(small(x), plain(x), storage, magnitude)


def test_a_convolution_of_groups_stays_as_it_is():
    model = nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(4, 5, 1))
    model.load_state_dict(
        drawn({"0.weight": (4, 2, 3), "0.bias": (4,), "1.weight": (5, 4, 1), "1.bias": (5,)})
    )
    small = vledge.quantize(model)
    assert small[0] is model[0]
    assert isinstance(small.state_dict()["1.weight"], SmallMatrix)


@pytest.mark.parametrize("storage", FORMS)
def test_embedding(storage):
    layer = nn.Embedding.from_weights(drawn({"weight": (50, 40)}))
    before = layer.weight.copy()
    small = vledge.quantize(layer, storage)
    assert np.array_equal(layer.weight, before)
    index = np.random.default_rng(4).integers(0, 50, (3, 4))
    assert np.array_equal(small(index), small.weight[index])
    assert 0 < np.abs(small(index) - layer(index)).max() < 0.05
    with pytest.raises(IndexError, match="index 50 is out of range"):
        small(np.array([50]))


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(3, 8, 3, padding=2)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.front(x.swapaxes(1, 2))[:, :, : x.shape[1]].swapaxes(1, 2)
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("storage", FORMS)
def test_through_a_file_and_a_stream(tmp_path, storage):
    model = Around()
    shapes = {
        "front.weight": (8, 3, 3), "front.bias": (8,), "rnn.weight_ih_l0": (24, 8),
        "rnn.weight_hh_l0": (24, 8), "rnn.bias_ih_l0": (24,), "rnn.bias_hh_l0": (24,),
        "head.weight": (2, 8), "head.bias": (2,),
    }  # fmt: skip
    model.load_state_dict(drawn(shapes))
    small = vledge.quantize(model, storage)
    x = np.random.default_rng(5).standard_normal((1, 12, 3)).astype(np.float32)
    wanted = small(x)
    assert 0 < np.abs(wanted - model(x)).max() < 0.1
    path = tmp_path / "small.safetensors"
    vledge.save_weights(path, small.state_dict())
    twin = Around()
    twin.load_state_dict(vledge.load_weights(path))
    assert np.array_equal(twin(x), wanted)
    stream = small.stream(time_axis=1)
    frames = [stream.step(frame[None]) for frame in x[0]]
    np.testing.assert_allclose(np.stack(frames, 1), wanted, atol=1e-5)
    wide = nn.Linear.from_weights(vledge.load_weights(path), "head.", dtype=np.float64)
    assert wide.weight.dtype == np.float64
    told = vledge.quantization.report(model.state_dict(), small.state_dict())
    assert {e.name for e in told.entries if e.storage == storage} == {
        name for name in shapes if "weight" in name
    }


def test_weights_by_name():
    weights = drawn({"head.weight": (12, 40), "head.bias": (12,), "norm.weight": (40,)})
    small = vledge.quantize(weights, layers="head")
    assert isinstance(small["head.weight"], SmallMatrix)
    assert small["norm.weight"] is weights["norm.weight"]
    layer = nn.Linear.from_weights(small, "head.")
    assert isinstance(layer.state_dict()["weight"], SmallMatrix)
    layer = nn.EmbeddingBag(12, 40)  # which takes floats
    layer.load_state_dict({"weight": small["head.weight"]})
    assert np.array_equal(layer.weight, np.asarray(small["head.weight"]))
