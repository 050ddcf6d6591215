"""One weight under two names: ``self.out.weight = self.embed.weight``."""

import copy

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.formats import safetensors_file

RNG = np.random.default_rng(0)
IDS = np.array([[3, 1, 4, 1, 5]])


class LanguageModel(nn.Module):
    def __init__(self, tied=True, backwards=False):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.rnn = nn.GRU(4, 4, batch_first=True)
        self.out = nn.Linear(4, 7)
        if tied and backwards:
            self.embed.weight = self.out.weight
        elif tied:
            self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.rnn(self.embed(ids))[0])


def weights_of(model):
    names = {full: declared.shape for full, _, _, declared in model._named_declared()}
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in names.items()}
    weights["out.weight"] = weights["embed.weight"]
    return weights


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("left_out", [None, "out.weight", "embed.weight"])
def test_a_checkpoint_needs_one_of_the_names(left_out, backwards):
    whole = LanguageModel(tied=False)
    weights = weights_of(whole)
    whole.load_state_dict(weights)
    model = LanguageModel(backwards=backwards)
    held = {name: array for name, array in weights.items() if name != left_out}
    for twin in (model, copy.deepcopy(model)):
        result = twin.load_state_dict(held, strict=False)
        assert result == ([], [])
        assert np.array_equal(twin(IDS), whole(IDS))
        assert np.array_equal(twin.out.weight, weights["embed.weight"])
        assert set(twin.state_dict()) == set(weights)


def test_under_a_prefix_and_a_wrapper():
    weights = weights_of(LanguageModel())
    del weights["out.weight"]
    model = LanguageModel()
    model.load_state_dict({f"net._orig_mod.{n}": a for n, a in weights.items()}, prefix="net.")
    assert np.array_equal(model.out.weight, weights["embed.weight"])


def test_two_values_of_one_weight_are_refused():
    model, weights = LanguageModel(), weights_of(LanguageModel())
    weights["out.weight"] = weights["out.weight"] + 1
    with pytest.raises(RuntimeError, match=r'"embed.weight" and "out.weight" are one weight'):
        model.load_state_dict(weights)
    with pytest.raises(RuntimeError, match="no weights yet"):
        model(IDS)
    with pytest.raises(RuntimeError, match=r'Missing key.*"embed.weight", "out.weight"'):
        model.load_state_dict(
            {n: a for n, a in weights.items() if not n.endswith("t.weight") and n != "embed.weight"}
        )


@pytest.mark.parametrize("given", ["text", None], ids=str)
def test_what_is_no_weight_is_said_of_both_names(given):
    model, weights = LanguageModel(), weights_of(LanguageModel())
    weights["embed.weight"] = weights["out.weight"] = np.full((7, 4), given)
    with pytest.raises(RuntimeError, match=r"embed.weight has dtype .*\n.*out.weight has dtype"):
        model.load_state_dict(weights)


@pytest.mark.parametrize("name", ["embed", "out"])
def test_a_weight_that_is_replaced_is_one_no_longer(name):
    model = LanguageModel()
    model.load_state_dict(weights_of(model))
    getattr(model, name).weight = np.ones((7, 4), np.float32)
    again = LanguageModel(tied=False)
    for other in (model, again):
        other.load_state_dict(model.state_dict())
    assert np.array_equal(again(IDS), model(IDS))
    assert not np.array_equal(model.embed.weight, model.out.weight)


def test_a_weight_that_becomes_another_one_leaves_the_first():
    a, b, c = layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
    c.weight = a.weight
    a.weight = b.weight
    layers.load_state_dict({"1.weight": np.ones((2, 2)), "2.weight": np.zeros((2, 2))})
    assert [one.weight.sum() for one in (a, b, c)] == [4, 4, 0]


def test_a_weight_takes_the_place_of_what_stood_there():
    class Of(nn.Module):
        def __init__(self, *values):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            for value in values:
                self.one = self.embed.weight if isinstance(value, str) else value

    array = nn.Parameter(np.ones((7, 4), np.float32))
    layer = nn.Linear(4, 7, bias=False)
    for values in ((None, array), (layer, array), (None, "tie"), (layer, "tie"), (array, "tie")):
        model = Of(*values)
        model.load_state_dict({"embed.weight": array * 2, "one": array * 2})
        assert np.array_equal(model.one, array * 2)
    for values in ((array, None), ("tie", None)):
        Of(*values).load_state_dict({"embed.weight": array})
    Of(array, layer).load_state_dict({"embed.weight": array, "one.weight": array})


def test_small_weights_may_have_been_rounded_apart():
    model = LanguageModel()
    model.load_state_dict(weights_of(model))
    small = vledge.quantize(model, layers="out")
    again = LanguageModel()
    again.load_state_dict(small.state_dict())
    assert np.array_equal(again(IDS), small(IDS))


def test_a_weight_of_the_users_own_module():
    class Scorer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.table = self.embed.weight

        def forward(self, x):
            return x @ self.table.T

    scorer = Scorer()
    table = RNG.normal(size=(7, 4)).astype(np.float32)
    x = np.ones((1, 4), np.float32)
    with pytest.raises(RuntimeError, match="Scorer has no weights yet"):
        scorer(x)
    scorer.load_state_dict({"embed.weight": table})
    assert np.array_equal(scorer(x), x @ table.T)


def test_layers_that_share_a_recurrent_weight():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.LSTM(3, 5), nn.LSTM(3, 5)
            for name in self.a._declared:
                setattr(self.b, name, getattr(self.a, name))

    twins = Twins()
    twins.load_state_dict(
        {f"a.{n}": RNG.normal(size=d.shape) for n, d in twins.a._declared.items()}
    )
    x = np.ones((2, 1, 3), np.float32)
    assert np.array_equal(twins.a(x)[0], twins.b(x)[0])


def test_what_is_known_of_a_weight_that_is_to_come():
    weight = nn.Linear(4, 7).weight
    assert (weight.shape, weight.ndim, weight.dtype, len(weight)) == ((7, 4), 2, np.float32, 7)
    assert (weight.size(), weight.size(1)) == ((7, 4), 4)
    assert repr(weight) == "<weight [7, 4] of Linear, not loaded yet>"
    assert copy.copy(weight).owner is weight.owner
    uses = (np.asarray, lambda w: w.T, lambda w: w[0], lambda w: np.ones(7) @ w, lambda w: -w,
            lambda w: w * 2, lambda w: w < 2, np.exp, lambda w: w.__setitem__(0, 1))  # fmt: skip
    for use in uses:
        with pytest.raises(RuntimeError, match="Linear has no weights yet"):
            use(weight)
    with pytest.raises(ValueError, match=r"weight of Linear is \[7, 5\], and cannot be weight of"):
        nn.Linear(5, 7).weight = weight


def test_a_parameter_takes_the_place_of_a_layers_weight():
    linear = nn.Linear(3, 2)
    linear.load_state_dict({"weight": np.zeros((2, 3)), "bias": np.zeros(2)})
    linear.weight = nn.Parameter(np.ones((2, 3)))
    assert np.array_equal(linear(np.ones((1, 3), np.float32)), [[3, 3]])
    linear.register_parameter("bias", np.ones(2))
    assert np.array_equal(linear(np.ones((1, 3), np.float32)), [[4, 4]])
    with pytest.raises(ValueError, match="size mismatch for weight"):
        linear.weight = nn.Parameter(np.ones((3, 3)))
    with pytest.raises(RuntimeError, match=r"at once, by load_state_dict\(\); without bias"):
        nn.Linear(3, 2).weight = nn.Parameter(np.ones((2, 3)))


def test_a_name_that_safetensors_left_out(tmp_path):
    weights = weights_of(LanguageModel())
    kept = {name: array for name, array in weights.items() if name != "out.weight"}
    path = tmp_path / "model.safetensors"
    safetensors_file.write(path, kept, {"out.weight": "embed.weight", "format": "pt", "x": "y"})
    loaded = vledge.load_weights(path)
    assert set(loaded) == set(weights)
    assert np.array_equal(loaded["out.weight"], weights["embed.weight"])
    LanguageModel(tied=False).load_state_dict(loaded)


def test_as_torch_saves_it(tmp_path):
    torch = peer("torch")
    torch_safetensors = pytest.importorskip("safetensors.torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(7, 4)
            self.rnn = torch.nn.GRU(4, 4, batch_first=True)
            self.out = torch.nn.Linear(4, 7)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.rnn(self.embed(ids))[0])

    theirs = Theirs().eval()
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    torch_safetensors.save_model(theirs, str(tmp_path / "model.safetensors"))
    expected = theirs(torch.from_numpy(IDS)).detach().numpy()
    for name in ("model.pt", "model.safetensors"):
        for tied in (True, False):
            model = LanguageModel(tied)
            model.load_state_dict(vledge.load_weights(tmp_path / name))
            assert np.abs(model(IDS) - expected).max() < 1e-6
