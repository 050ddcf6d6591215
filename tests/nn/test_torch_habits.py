"""What code written for torch calls on a model before it runs it: it works, or says why not."""

import warnings

import numpy as np
import pytest

from tests.peers import peer
from vledge import nn


class Model(nn.Module):
    def __init__(self, dtype=None):
        super().__init__()
        self.embedding = nn.Embedding(7, 4, dtype=dtype)
        self.lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True, dtype=dtype)
        self.gru = nn.GRU(10, 3, dtype=dtype)
        self.indrnn = nn.IndRNN(3, 3, dtype=dtype)
        self.rnn = nn.RNN(3, 3, dtype=dtype)
        self.head = nn.Sequential(nn.LayerNorm(3, dtype=dtype), nn.Linear(3, 2, dtype=dtype))

    def forward(self, x):
        x = self.embedding(x)
        for layer in (self.lstm, self.gru, self.indrnn, self.rnn):
            x, _ = layer(x)
        return self.head(x)


def loaded(dtype=None):
    model = Model(dtype)
    rng = np.random.default_rng(0)
    model.load_state_dict(
        {name: rng.uniform(-0.5, 0.5, d.shape) for name, _, _, d in model._named_declared()}
    )
    return model


TOKENS = np.array([[1, 2], [3, 4], [5, 6]])

NOTHING = {  # that changes no number, and gives the model
    "cpu()": lambda m: m.cpu(),
    "to('cpu')": lambda m: m.to("cpu"),
    "to('cpu:0')": lambda m: m.to("cpu:0"),
    "to(device=)": lambda m: m.to(device="cpu"),
    "to(dtype)": lambda m: m.to(np.float32),
    "to(name)": lambda m: m.to("float32"),
    "to(dtype=)": lambda m: m.to(dtype="float32"),
    "to('cpu', dtype)": lambda m: m.to("cpu", np.float32),
    "to('cpu', dtype, non_blocking, copy)": lambda m: m.to("cpu", np.float32, False, True),
    "to(non_blocking=)": lambda m: m.to("cpu", non_blocking=True, copy=False),
    "to(array)": lambda m: m.to(np.zeros(2, np.float32)),
    "to(tensor=)": lambda m: m.to(tensor=np.zeros(2, np.float32)),
    "to()": lambda m: m.to(),
    "type()": lambda m: m.type(np.float32),
    "float()": lambda m: m.float(),
    "eval()": lambda m: m.eval(),
    "train(False)": lambda m: m.train(False),
    "requires_grad_()": lambda m: m.requires_grad_(),
    "requires_grad_(False)": lambda m: m.requires_grad_(False),
    "share_memory()": lambda m: m.share_memory(),
    "apply()": lambda m: m.apply(lambda one: None),
}


@pytest.mark.parametrize("call", NOTHING)
def test_calls_that_change_nothing(call):
    model = loaded()
    expected = model(TOKENS)
    assert NOTHING[call](model) is model
    for module in model.modules():
        assert NOTHING[call](module) is module
    np.testing.assert_array_equal(model(TOKENS), expected)
    assert model.training is False


def test_calls_that_give_nothing():
    model = loaded()
    expected = model(TOKENS)
    for layer in (model.lstm, model.gru, model.indrnn, model.rnn):
        assert layer.flatten_parameters() is None
    assert model.zero_grad() is None
    assert model.zero_grad(set_to_none=True) is None
    assert model.compile(mode="max-autotune") is None
    np.testing.assert_array_equal(model(TOKENS), expected)


def test_before_the_weights_are_there():
    """As scripts do: the model is made, moved, and then loaded."""
    model = Model()
    for layer in (model.lstm, model.gru, model.indrnn, model.rnn):
        layer.flatten_parameters()
    assert model.cpu().to("cpu").eval().requires_grad_(False).float() is model
    model.load_state_dict(loaded().state_dict(keep_vars=False), strict=True, assign=True)
    np.testing.assert_array_equal(model(TOKENS), loaded()(TOKENS))


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.double(),
        lambda m: m.to(np.float64),
        lambda m: m.to("cpu", "float64"),
        lambda m: m.to(np.zeros(1)),
        lambda m: m.type("float64"),
    ],
)
def test_the_way_to_double_and_back(call):
    model, expected = loaded(), loaded(np.float64)(TOKENS)
    assert call(model) is model
    got = model(TOKENS)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-6)  # the weights had been rounded
    model.float()
    np.testing.assert_array_equal(model(TOKENS), loaded()(TOKENS))


@pytest.mark.parametrize("name", ["half", "bfloat16"])
def test_half_says_what_it_does(name):
    for model in (loaded(), loaded(np.float64)):
        with pytest.warns(UserWarning, match=rf"{name}\(\): .*the weights are float32"):
            assert getattr(model, name)() is model
        assert model(TOKENS).dtype == np.float32
        np.testing.assert_array_equal(model(TOKENS), loaded()(TOKENS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.cuda(), "CPU only, not on device 'cuda'"),
        (lambda m: m.cuda(1), "CPU only, not on device 'cuda:1'"),
        (lambda m: m.to("cuda"), "CPU only, not on device 'cuda'"),
        (lambda m: m.to("cuda:0"), "CPU only"),
        (lambda m: m.to("mps"), "CPU only"),
        (lambda m: m.to(0), "CPU only"),
        (lambda m: m.to(device="meta"), "CPU only"),
        (lambda m: m.to("cuda", np.float32), "CPU only"),
        (lambda m: m.to(np.float16), "not float16"),
        (lambda m: m.to("cpu", np.int64), "not int64"),
        (lambda m: m.to(np.zeros(2, np.int64)), "not int64"),
        (lambda m: m.train(), "train with PyTorch"),
    ],
)
def test_what_cannot_be_is_said(call, message):
    model = loaded()
    with pytest.raises(ValueError, match=message):
        call(model)
    np.testing.assert_array_equal(model(TOKENS), loaded()(TOKENS))


def test_too_many_arguments():
    with pytest.raises(TypeError, match="at most 4 positional"):
        loaded().to("cpu", np.float32, False, False, False)


def test_torchs_own_words_and_order():
    """The same tree, walked by the same names in the same order."""
    torch = peer("torch")
    model = loaded()
    assert model.to(torch.device("cpu")) is model
    assert model.to(torch.float32) is model
    assert model.to("cpu", torch.float64)(TOKENS).dtype == np.float64
    assert model.to(torch.zeros(1))(TOKENS).dtype == np.float32
    assert model.to(torch.zeros(1).dtype) is model
    for other in (torch.float16, torch.bfloat16, torch.int8):
        with pytest.raises(ValueError, match="float32 or float64, not"):
            model.to(other)
    with pytest.raises(ValueError, match="CPU only"):
        model.to(torch.device("meta"))

    def tree(nn):
        return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.LSTM(2, 3), nn.ReLU())

    def walked(model):
        seen = []
        assert model.apply(lambda one: seen.append(type(one).__name__)) is model
        return seen, [n for n, _ in model.named_children()], [n for n, _ in model.named_modules()]

    assert walked(tree(nn)) == walked(tree(torch.nn))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree(nn).cpu().eval()


def test_get_parameter():
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(layer.get_parameter("weight"), np.ones((2, 3)))
    outer = nn.Sequential(layer)
    np.testing.assert_array_equal(outer.get_parameter("0.bias"), np.zeros(2))
    with pytest.raises(AttributeError, match=r"Sequential has no parameter '0\.other'"):
        outer.get_parameter("0.other")
