"""Module: registration, loading, names, text."""

import numpy as np
import pytest

import vledge
from vledge import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 6)
        self.rnn = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, ids, lengths):
        packed = vledge.pack_padded_sequence(
            self.embed(ids), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = self.rnn(packed)
        padded, _ = vledge.pad_packed_sequence(output, batch_first=True)
        return self.out(padded)


def weights_of(module, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(d.shape).astype(d.dtype)
        for name, _, _, d in module._named_declared()
    }


def test_a_model_written_for_torch_runs_with_another_import(torch, tmp_path):
    class TorchTagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(50, 6)
            self.rnn = torch.nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
            self.out = torch.nn.Linear(16, 3)

        def forward(self, ids, lengths):
            from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

            packed = pack_padded_sequence(
                self.embed(ids), lengths, batch_first=True, enforce_sorted=False
            )
            return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    torch.manual_seed(0)
    theirs = TorchTagger().eval()
    torch.save(theirs.state_dict(), tmp_path / "tagger.pt")
    model = Tagger()
    model.load_state_dict(vledge.load_weights(tmp_path / "tagger.pt"))
    ids = torch.randint(0, 50, (4, 9))
    lengths = torch.tensor([3, 9, 1, 5])
    expected = theirs(ids, lengths).numpy()
    np.testing.assert_allclose(model(ids.numpy(), lengths.numpy()), expected, atol=2e-6)


def test_state_dict_round_trip_and_wrapper_prefixes():
    weights = weights_of(Tagger())
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod."):
        model = Tagger()
        result = model.load_state_dict({prefix + n: a for n, a in weights.items()})
        assert result == ([], [])
        state = model.state_dict()
        assert list(state) == list(weights)
        assert all(np.array_equal(state[n], weights[n]) for n in weights)
    assert dict(model.named_parameters()).keys() == weights.keys()


def test_a_child_that_is_called_module_keeps_its_name():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = Wrapped()
    model.load_state_dict(weights_of(model))
    assert set(model.state_dict()) == {"module.weight", "module.bias"}


def test_every_problem_is_in_one_error_and_nothing_is_changed():
    model = Tagger()
    good = weights_of(model)
    model.load_state_dict(good)
    bad = {n: a + 1 for n, a in good.items() if n != "out.bias"}
    bad["extra"] = np.zeros(1)
    bad["embed.weight"] = np.zeros((49, 6))
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(bad)
    text = str(caught.value)
    assert 'Unexpected key(s) in state_dict: "extra".' in text
    assert 'Missing key(s) in state_dict: "out.bias".' in text
    assert "size mismatch for embed.weight: copying a param with shape (49, 6)" in text
    assert all(np.array_equal(a, good[n]) for n, a in model.state_dict().items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(bad, strict=False)
    del bad["embed.weight"]
    result = model.load_state_dict(bad, strict=False)
    assert result.missing_keys == ["embed.weight", "out.bias"]
    assert result.unexpected_keys == ["extra"]
    assert np.array_equal(model.out.weight, good["out.weight"] + 1)


def test_weights_are_converted_to_the_modules_dtype():
    linear = nn.Linear(2, 2)
    linear.load_state_dict({"weight": np.eye(2, dtype=np.float16), "bias": np.zeros(2, np.int64)})
    assert linear.weight.dtype == linear.bias.dtype == np.float32
    with pytest.raises(RuntimeError, match="dtype complex128"):
        linear.load_state_dict({"weight": np.eye(2) * 1j, "bias": np.zeros(2)})
    assert linear.double().weight.dtype == np.float64
    assert linear(np.ones((1, 2))).dtype == np.float64
    lstm = nn.LSTM(2, 3)
    lstm.load_state_dict(weights_of(lstm))
    assert lstm.double()(np.zeros((1, 1, 2)))[0].dtype == np.float64
    assert lstm.float()(np.zeros((1, 1, 2), np.float32))[0].dtype == np.float32
    with pytest.raises(ValueError, match="not float16"):
        linear.to(np.float16)


def test_parameters_and_buffers_of_user_modules():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.h_0 = nn.Parameter(np.zeros((1, 1, 4), np.float32))
            self.register_buffer("mean", np.ones(4, np.float32))
            self.register_buffer("cache", np.ones(4), persistent=False)
            self.register_parameter("absent", None)
            self.plain = np.zeros(2)

    model = Model()
    assert set(model.state_dict()) == {"h_0", "mean"}
    assert [n for n, _ in model.named_parameters()] == ["h_0"]
    assert [n for n, _ in model.named_buffers()] == ["mean"]
    assert [a.shape for a in model.buffers()] == [a.shape for _, a in model.named_buffers()]
    assert model.absent is None
    model.load_state_dict({"h_0": np.full((1, 1, 4), 2.0), "mean": np.zeros(4)})
    assert model.h_0[0, 0, 0] == 2
    model.mean = np.full(4, 3.0)
    assert model.state_dict()["mean"].dtype == np.float32
    with pytest.raises(ValueError, match="size mismatch for mean"):
        model.mean = np.zeros(5)
    assert type(nn.Parameter(np.ones(2)) + 1) is np.ndarray


def test_tree_and_text():
    model = Tagger()
    names = [n for n, _ in model.named_modules()]
    assert names == ["", "embed", "rnn", "out"]
    assert model.get_submodule("rnn") is model.rnn
    with pytest.raises(AttributeError, match="no sub-module 'nothing'"):
        model.get_submodule("nothing")
    with pytest.raises(AttributeError, match="'Tagger' object has no attribute 'nothing'"):
        _ = model.nothing
    assert repr(model) == (
        "Tagger(\n"
        "  (embed): Embedding(50, 6)\n"
        "  (rnn): LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True, no weights)\n"
        "  (out): Linear(in_features=16, out_features=3, bias=True)\n"
        ")"
    )
    model.load_state_dict(weights_of(model))
    assert "bytes)" in repr(model.rnn)
    assert model.eval() is model
    assert model.train(False) is model
    with pytest.raises(ValueError, match="runs trained models only"):
        model.train()


def test_assignment_before_init_is_an_error():
    class Broken(nn.Module):
        def __init__(self):
            self.layer = nn.Identity()

    with pytest.raises(AttributeError, match=r"before Module\.__init__"):
        Broken()


def test_containers():
    first, second = nn.Linear(2, 3), nn.Linear(3, 4)
    chain = nn.Sequential(first, nn.ReLU(), second)
    assert list(chain._modules) == ["0", "1", "2"]
    assert chain[0] is first
    assert chain[-1] is second
    assert len(chain[1:]) == 2
    chain.load_state_dict(weights_of(chain))
    x = np.ones((1, 2), np.float32)
    assert np.array_equal(chain(x), second(np.maximum(first(x), 0)))
    named = nn.Sequential({"a": first, "b": second})
    assert set(named.state_dict()) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    many = nn.ModuleList([first]).append(second)
    assert list(many) == [first, second]
    assert set(many.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    table = nn.ModuleDict({"x": first})
    table["y"] = second
    assert "y" in table
    assert list(table.keys()) == ["x", "y"]
    assert table["x"] is first
    with pytest.raises(TypeError, match="int is not a Module"):
        nn.ModuleList([3])
