"""Checkpoints as torch's wrappers and parametrisations write them, against the module in eval()."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.peers import peer
from vledge import nn
from vledge.formats import load_weights

torch: Any = peer("torch")
torch.set_num_threads(1)
normed: Any = peer("torch.nn.utils.parametrizations")
prune: Any = peer("torch.nn.utils.prune")


def recurrent(kind: str) -> Any:
    layer = getattr(torch.nn, kind)(5, 6, num_layers=2, bidirectional=True)
    return layer, torch.randn(7, 3, 5)


LAYERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "LSTM": lambda: recurrent("LSTM"),
    "GRU": lambda: recurrent("GRU"),
    "RNN": lambda: recurrent("RNN"),
    "LSTMCell": lambda: (torch.nn.LSTMCell(5, 6), torch.randn(3, 5)),
    "GRUCell": lambda: (torch.nn.GRUCell(5, 6), torch.randn(3, 5)),
    "RNNCell": lambda: (torch.nn.RNNCell(5, 6), torch.randn(3, 5)),
    "Linear": lambda: (torch.nn.Linear(5, 6), torch.randn(3, 5)),
    "Conv1d": lambda: (torch.nn.Conv1d(5, 6, 3), torch.randn(2, 5, 9)),
    "Embedding": lambda: (torch.nn.Embedding(9, 4), torch.arange(9)),
}


def each_matrix(layer: Any, apply: Callable[[Any, str], object]) -> Any:
    for name, parameter in list(layer.named_parameters()):
        if parameter.ndim > 1:
            apply(layer, name)
    return layer


def trained(layer: Any, x: Any) -> Any:
    """A few steps, so that whatever is kept beside the weights is no longer what it began as."""
    layer.train()
    for _ in range(3):
        value = layer(x)
        total = (value if isinstance(value, torch.Tensor) else value[0]).square().sum()
        for parameter in layer.parameters():
            parameter.grad = None
        total.backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    parameter -= 0.02 * parameter.grad
    return layer.eval()


def normed_then_pruned(layer: Any, name: str) -> None:
    normed.weight_norm(layer, name)
    prune.l1_unstructured(layer.parametrizations[name], "original1", 0.3)


def normed_twice(layer: Any, name: str) -> None:
    normed.weight_norm(layer, name)
    normed.spectral_norm(layer, name)


PIECES: dict[str, Callable[[Any, str], object]] = {
    "parametrizations.weight_norm": normed.weight_norm,
    "parametrizations.weight_norm, dim 1": lambda m, n: normed.weight_norm(m, n, dim=1),
    "parametrizations.weight_norm, no dim": lambda m, n: normed.weight_norm(m, n, dim=None),
    "parametrizations.spectral_norm": normed.spectral_norm,
    "parametrizations, one upon the other": normed_twice,
    "weight_norm": torch.nn.utils.weight_norm,
    "weight_norm, no dim": lambda m, n: torch.nn.utils.weight_norm(m, n, dim=None),
    "spectral_norm": torch.nn.utils.spectral_norm,
    "prune": lambda m, n: prune.l1_unstructured(m, n, 0.3),
    "prune, twice": lambda m, n: (
        prune.random_unstructured(m, n, 0.2),
        prune.ln_structured(m, n, 0.3, n=2, dim=0),
    ),
    "weight_norm, pruned": normed_then_pruned,
}


def first(value: Any) -> Any:
    while isinstance(value, tuple):
        value = value[0]
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def saved(state: Any, path: Path) -> dict[str, np.ndarray]:
    torch.save(state, path / "model.pt")
    return load_weights(path / "model.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_in_pieces(kind: str, pieces: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    layer, x = LAYERS[kind]()
    trained(each_matrix(layer, PIECES[pieces]), x)
    with torch.no_grad():
        expected = first(layer(x))
    weights = saved(layer.state_dict(), tmp_path)
    assert not set(weights) & {"weight", "weight_ih_l0", "weight_hh"}
    by_shapes = getattr(nn, kind).from_weights(weights)
    by_name = getattr(nn, kind)(*sizes(layer))
    by_name.load_state_dict(weights)
    for made in (by_shapes, by_name):
        np.testing.assert_allclose(first(made(x.numpy())), expected, rtol=2e-6, atol=2e-6)
    if "weight_hh" in "".join(weights):
        assert [found.kind for found in nn.recognize(weights)] == [kind]


def sizes(layer: Any) -> list[Any]:
    if isinstance(layer, torch.nn.RNNBase):
        options = [layer.input_size, layer.hidden_size, layer.num_layers]
        nonlinear = ["tanh"] if isinstance(layer, torch.nn.RNN) else []
        return [*options, *nonlinear, True, False, 0.0, layer.bidirectional]
    if isinstance(layer, torch.nn.RNNCellBase):
        return [layer.input_size, layer.hidden_size]
    if isinstance(layer, torch.nn.Linear):
        return [layer.in_features, layer.out_features]
    if isinstance(layer, torch.nn.Conv1d):
        return [layer.in_channels, layer.out_channels, layer.kernel_size[0]]
    return [layer.num_embeddings, layer.embedding_dim]


class Theirs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(5, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.batch = torch.nn.BatchNorm1d(6)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        y = self.norm(self.rnn(x)[0])
        return self.head(self.batch(y.permute(1, 2, 0)).permute(2, 0, 1))


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6)
        self.norm = nn.LayerNorm(6)
        self.batch = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        y = self.norm(self.rnn(x)[0])
        return self.head(self.batch(y.transpose(1, 2, 0)).transpose(2, 0, 1))


def with_children(model: Any, wrap: Callable[[Any], Any]) -> Any:
    for name, child in list(model.named_children()):
        setattr(model, name, wrap(child))
    return model


def checkpointed(module: Any) -> Any:
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper

    return checkpoint_wrapper.checkpoint_wrapper(module)


def normed_inside(model: Any) -> Any:
    normed.weight_norm(model.rnn, "weight_hh_l0")
    normed.weight_norm(model.norm)
    torch.nn.utils.weight_norm(model.batch, "bias")
    return torch.compile(torch.nn.DataParallel(with_children(model, torch.compile)))


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "torch.compile": torch.compile,
    "torch.compile of every child": lambda m: with_children(m, torch.compile),
    "DataParallel": torch.nn.DataParallel,
    "DataParallel of every child": lambda m: with_children(m, torch.nn.DataParallel),
    "torch.compile of DataParallel": lambda m: torch.compile(torch.nn.DataParallel(m)),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "AveragedModel of every child": lambda m: with_children(m, torch.optim.swa_utils.AveragedModel),
    "activation checkpointing": lambda m: with_children(m, checkpointed),
    "weight norm inside of three": normed_inside,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_wrappers(wrapped: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model, x = Theirs(), torch.randn(7, 3, 5)
    trained(model, x)
    outer = WRAPPED[wrapped](model).eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = outer(x).numpy()
    # activation checkpointing takes its own name out of a state_dict, compilers do not
    state = {**dict(outer.named_parameters()), **outer.state_dict(), **dict(outer.named_buffers())}
    weights = saved(state, tmp_path)
    ours = Ours()
    ours.load_state_dict(weights)
    np.testing.assert_allclose(ours(x.numpy()), expected, rtol=2e-6, atol=2e-6)
    (found,) = nn.recognize(weights)
    assert found.prefix == "rnn."
    nn.LSTM.from_weights(weights, "rnn.")
    nn.Linear.from_weights(weights, "head.")


class WeightDrop(torch.nn.Module):
    """As in AWD-LSTM and fastai, old and new: where the raw weight is registered, and whether a
    copy with dropout stays in the state_dict."""

    def __init__(self, module: Any, names: list[str], inside: bool, stale: bool) -> None:
        super().__init__()
        self.module, self.names, self.inside, self.stale = module, names, inside, stale
        for name in names:
            weight = module._parameters.pop(name)
            owner = module if inside else self
            owner.register_parameter(f"{name}_raw", torch.nn.Parameter(weight.data))
            self.put(name, torch.nn.functional.dropout(weight.data, 0.5))

    def put(self, name: str, weight: Any) -> None:
        if self.stale:
            self.module._parameters[name] = torch.nn.Parameter(weight)
        else:
            self.module.__dict__[name] = weight

    def weights(self) -> dict[str, Any]:
        owner = self.module if self.inside else self
        return {name: getattr(owner, f"{name}_raw").detach() for name in self.names}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("stale", [True, False])
@pytest.mark.parametrize("outside", ["", "module.", "0.rnns.1."])
def test_weight_drop(inside: bool, stale: bool, outside: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    names = ["weight_hh_l0", "weight_hh_l0_reverse"]
    plain = torch.nn.LSTM(5, 6, bidirectional=True).eval()
    x = torch.randn(7, 3, 5)
    with torch.no_grad():
        expected = plain(x)[0].numpy()
    dropped = WeightDrop(plain, names, inside, stale)
    state = {f"{outside}rnn.{name}": tensor for name, tensor in dropped.state_dict().items()}
    weights = saved(state, tmp_path)
    assert (f"{outside}rnn.module.weight_hh_l0" in weights) == stale
    prefix = f"{outside}rnn.".removeprefix("module.")
    (found,) = nn.recognize(weights)
    assert found.prefix == prefix
    for asked in (prefix, f"{outside}rnn.module."):
        made = nn.LSTM.from_weights(weights, asked)
        np.testing.assert_allclose(made(x.numpy())[0], expected, rtol=0, atol=2e-6)
    made = nn.LSTM(5, 6, bidirectional=True)
    made.load_state_dict(weights, prefix=prefix)
    np.testing.assert_array_equal(made.weight_hh_l0, dropped.weights()["weight_hh_l0"].numpy())


def test_weight_drop_of_a_linear() -> None:
    linear = torch.nn.Linear(3, 4)
    weight = linear.weight.detach().numpy().copy()
    state = WeightDrop(linear, ["weight"], inside=False, stale=True).state_dict()
    made = nn.Linear.from_weights({name: tensor.numpy() for name, tensor in state.items()})
    np.testing.assert_array_equal(made.weight, weight)


@pytest.mark.parametrize("trivialized", [True, False])
@pytest.mark.parametrize("map", ["matrix_exp", "cayley", "householder"])
def test_what_cannot_be_folded_is_named_with_the_way_out(map: str, trivialized: bool) -> None:
    rnn = torch.nn.RNN(5, 6)
    normed.orthogonal(rnn, "weight_hh_l0", map, use_trivialization=trivialized)
    weights = {name: tensor.numpy() for name, tensor in rnn.state_dict().items()}
    named = r"'weight_hh_l0' is only there as 'parametrizations.weight_hh_l0.original'.*"
    with pytest.raises(ValueError, match=named + "remove_parametrizations.*vledge.export"):
        nn.RNN.from_weights(weights)
    with pytest.raises(RuntimeError, match=named + "remove_parametrizations.*vledge.export"):
        nn.RNN(5, 6).load_state_dict(weights)
    assert nn.recognize(weights) == []
    if trivialized:
        with pytest.raises(ValueError, match="an orthogonal parametrisation"):
            nn.RNN.from_weights(weights)


def test_spectral_norm_before_torch_1_1_kept_the_weight_it_ran_with() -> None:
    layer = torch.nn.utils.spectral_norm(torch.nn.Linear(5, 6)).eval()
    x = torch.randn(3, 5)
    with torch.no_grad():
        expected = layer(x).numpy()
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    del state["weight_v"]
    with pytest.raises(ValueError, match=r"'weight_orig', 'weight_u'.*remove_spectral_norm"):
        nn.Linear.from_weights(state)
    state["weight"] = layer.weight.detach().numpy()
    made = nn.Linear.from_weights(state)
    np.testing.assert_allclose(made(x.numpy()), expected, rtol=2e-6, atol=2e-6)
    made.load_state_dict(state)


def test_float64_weights_are_folded_in_float64() -> None:
    layer = normed.weight_norm(torch.nn.LSTM(5, 6).double(), "weight_hh_l0")
    made = nn.LSTM.from_weights({n: t.numpy() for n, t in layer.state_dict().items()})
    assert made.weight_hh_l0.dtype == np.float64
    np.testing.assert_allclose(
        made.weight_hh_l0, layer.weight_hh_l0.detach().numpy(), rtol=1e-14, atol=0
    )


def test_a_row_of_zeros_is_nan_as_in_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(3, 2))
    with torch.no_grad():
        layer.weight_v[0] = 0
        expected = torch._weight_norm(layer.weight_v, layer.weight_g, 0).numpy()
    made = nn.Linear.from_weights({n: t.numpy() for n, t in layer.state_dict().items()})
    np.testing.assert_allclose(made.weight, expected, rtol=1e-6)
    assert np.isnan(made.weight[0]).all()
