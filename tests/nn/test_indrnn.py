"""IndRNN against the loops that people train with, written here as their definitions stand."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.cli import main
from vledge.validation.running.model_file import read_any_model

torch = peer("torch")


class StefOe(torch.nn.Module):
    """github.com/StefOe/indrnn-pytorch by its state dict's names: batch norms after each layer."""

    def __init__(self, sizes, bidirectional=False, norms=False, bias=True, act=torch.relu):
        super().__init__()
        count, width = (2 if bidirectional else 1), sizes[1]
        self.act, self.cells = act, torch.nn.ModuleList()
        for layer in range(sizes[2]):
            inputs = sizes[0] if layer == 0 else count * width
            self.cells.append(torch.nn.ModuleList(_cell(inputs, width, bias) for _ in range(count)))
        if norms:
            self.bns = torch.nn.ModuleList(_norm(count * width) for _ in range(sizes[2]))
        self.register_buffer("h0", torch.zeros(count * width))

    def forward(self, x, last_norm=True):
        """[T, B, I] -> [T, B, D * H]"""
        for layer, cells in enumerate(self.cells):
            runs = [
                _loop(cell, x if d == 0 else x.flip(0), self.act) for d, cell in enumerate(cells)
            ]
            x = torch.cat([runs[0], *(run.flip(0) for run in runs[1:])], dim=-1)
            if hasattr(self, "bns") and (last_norm or layer + 1 < len(self.cells)):
                x = self.bns[layer](x.permute(1, 2, 0)).permute(2, 0, 1)
        return x


class Authors(torch.nn.Module):
    """The plain network of github.com/Sunnydreamrain/IndRNN_pytorch by its names."""

    def __init__(self, sizes, where, cuda_names):
        super().__init__()
        self.where = where
        self.DIs, self.RNNs = torch.nn.ModuleList(), torch.nn.ModuleList()
        for layer in range(sizes[2]):
            overtime = torch.nn.Module()
            overtime.fc = torch.nn.Linear(sizes[0] if layer == 0 else sizes[1], sizes[1])
            self.DIs.append(overtime)
            block, recurrent = torch.nn.Module(), torch.nn.Module()
            recurrent.weight_hh = torch.nn.Parameter(torch.rand(sizes[1]))
            if cuda_names:
                block.indrnn1 = recurrent
            else:
                block.indrnn1 = torch.nn.Module()
                block.indrnn1.cells = torch.nn.ModuleList([recurrent])
            if where:
                block.norm1 = torch.nn.Module()
                block.norm1.bn = _norm(sizes[1])
            self.RNNs.append(block)
        self.classifier = torch.nn.Linear(sizes[1], 3)

    def forward(self, x, last_norm=True):
        for layer, (overtime, block) in enumerate(zip(self.DIs, self.RNNs, strict=True)):
            x = overtime.fc(x)
            if self.where == "before":
                x = block.norm1.bn(x.permute(1, 2, 0)).permute(2, 0, 1)
            inner = getattr(block.indrnn1, "cells", [block.indrnn1])[0]
            h, outputs = torch.zeros_like(x[0]), []
            for x_t in x:
                h = torch.relu(x_t + inner.weight_hh * h)
                outputs.append(h)
            x = torch.stack(outputs)
            if self.where == "after" and (last_norm or layer + 1 < len(self.DIs)):
                x = block.norm1.bn(x.permute(1, 2, 0)).permute(2, 0, 1)
        return x


def _cell(inputs, hidden_size, bias):
    cell = torch.nn.Module()
    cell.weight_ih = torch.nn.Parameter(torch.randn(hidden_size, inputs) / inputs**0.5)
    cell.weight_hh = torch.nn.Parameter(torch.rand(hidden_size) * 2 - 1)
    cell.bias_ih = torch.nn.Parameter(torch.randn(hidden_size)) if bias else None
    return cell


def _norm(features):
    norm = torch.nn.BatchNorm1d(features)
    for parameter in norm.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm.eval()


def _loop(cell, x, act):
    h, outputs = torch.zeros(x.shape[1], len(cell.weight_hh), dtype=x.dtype), []
    for x_t in x:
        h = act(torch.nn.functional.linear(x_t, cell.weight_ih, cell.bias_ih) + cell.weight_hh * h)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def arrays(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def check(got, want):
    want = want.numpy()
    assert got.dtype == want.dtype
    tolerance = 1e-5 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, abs(want).max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("act", ["relu", "tanh"])
@pytest.mark.parametrize("sizes", [(3, 5, 1), (7, 33, 3)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stefoe(sizes, bidirectional, act, dtype):
    theirs = StefOe(sizes, bidirectional, act=getattr(torch, act)).to(dtype)
    x = torch.randn(11, 4, sizes[0], dtype=dtype)
    ours = nn.IndRNN.from_weights(arrays(theirs), nonlinearity=act)
    output, h_n = ours(x.numpy())
    check(output, theirs(x))
    assert h_n.shape == (sizes[2] * (2 if bidirectional else 1), 4, sizes[1])
    first = ours(x.numpy()[:, 2:3])[0]
    np.testing.assert_array_equal(first, output[:, 2:3])
    if not bidirectional:
        np.testing.assert_array_equal(h_n[-1], output[-1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_stefoes_batch_norms(bidirectional, bias):
    theirs = StefOe((4, 6, 3), bidirectional, norms=True, bias=bias).eval()
    x = torch.randn(9, 2, 4)
    with pytest.raises(ValueError, match=r"after the last layer \(bns.2\).*last_norm=False"):
        nn.IndRNN.from_weights(arrays(theirs))
    ours = nn.IndRNN.from_weights(arrays(theirs), last_norm=False)
    output = ours(x.numpy())[0]
    check(output, theirs(x, last_norm=False))
    last = nn.BatchNorm1d(output.shape[2])
    last.load_state_dict({n[6:]: a for n, a in arrays(theirs).items() if n.startswith("bns.2.")})
    check(last(output.transpose(1, 2, 0)).transpose(2, 0, 1), theirs(x))


@pytest.mark.parametrize("cuda_names", [False, True])
@pytest.mark.parametrize("where", [None, "before", "after"])
def test_the_authors_network(where, cuda_names):
    theirs = Authors((4, 10, 3), where, cuda_names).eval()
    x = torch.randn(9, 2, 4)
    weights = {f"model.{name}": array for name, array in arrays(theirs).items()}
    if where:
        with pytest.raises(ValueError, match="say batch_norm='before' or 'after'"):
            nn.IndRNN.from_weights(weights, "model.")
    ours = nn.IndRNN.from_weights(weights, "model.", batch_norm=where, last_norm=where != "after")
    check(ours(x.numpy())[0], theirs(x, last_norm=False))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths(bidirectional):
    """Each sequence of a packed batch as if it were alone; torch's RNN with R = diag(u) agrees."""
    rng = np.random.default_rng(0)
    layer = nn.IndRNN(3, 20, 2, bidirectional=bidirectional, batch_first=True, nonlinearity="tanh")
    layer.load_state_dict(
        {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes(layer).items()}
    )
    batch = rng.standard_normal((5, 9, 3)).astype(np.float32)
    lengths = [3, 9, 1, 7, 9]
    h_0 = rng.standard_normal((4 if bidirectional else 2, 5, 20)).astype(np.float32)
    packed = vledge.pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=False)
    output, h_n = layer(packed, h_0)
    padded, _ = vledge.pad_packed_sequence(output, batch_first=True)
    theirs = torch.nn.RNN(3, 20, 2, bidirectional=bidirectional, batch_first=True)
    state = {
        n: np.diag(a) if n.startswith("weight_hh") else a for n, a in layer.state_dict().items()
    }
    state |= {n.replace("_ih", "_hh"): 0 * a for n, a in state.items() if n.startswith("bias_ih")}
    theirs.load_state_dict({n: torch.tensor(a) for n, a in state.items()})
    for row, length in enumerate(lengths):
        alone, h = layer(batch[row : row + 1, :length], h_0[:, row : row + 1])
        np.testing.assert_array_equal(padded[row, :length], alone[0])
        np.testing.assert_array_equal(h_n[:, row], h[:, 0])
        want, h = theirs(
            torch.tensor(batch[row : row + 1, :length]), torch.tensor(h_0[:, row : row + 1])
        )
        check(alone, want)
        check(h_n[:, row], h[:, 0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smallest_batches(bidirectional, dtype):
    layer = nn.IndRNN(3, 5, 2, bidirectional=bidirectional, dtype=dtype)
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes(layer).items()}
    layer.load_state_dict(state)
    count = 2 if bidirectional else 1
    output, h_n = layer(np.zeros((7, 0, 3), dtype))
    assert (output.shape, h_n.shape) == ((7, 0, 5 * count), (2 * count, 0, 5))
    x = rng.standard_normal((1, 1, 3)).astype(dtype)
    h_0 = rng.standard_normal((2 * count, 1, 5)).astype(dtype)
    output, h_n = layer(x, h_0)
    rows = x[0]
    for number in range(2):
        ends = ["", "_reverse"][:count]
        rows = np.concatenate(
            [
                np.maximum(
                    rows @ state[f"weight_ih_l{number}{end}"].T
                    + state[f"bias_ih_l{number}{end}"]
                    + state[f"weight_hh_l{number}{end}"] * h_0[number * count + d],
                    0,
                )
                for d, end in enumerate(ends)
            ],
            axis=1,
        )
    check(output[0], torch.from_numpy(rows))
    unbatched, _ = layer(x[:, 0], h_0[:, 0])
    np.testing.assert_array_equal(unbatched, output[:, 0])


def shapes(layer):
    return {name: shape for name, (shape, *_) in layer._declared.items()}


def test_steps_and_pieces_are_the_whole():
    theirs = StefOe((4, 12, 2))
    layer = nn.IndRNN.from_weights(arrays(theirs))
    x = np.random.default_rng(0).standard_normal((30, 3, 4)).astype(np.float32)
    whole, h_n = layer(x)
    state = None
    for t in range(30):
        y, state = layer.step(x[t], state)
        np.testing.assert_array_equal(y, whole[t])
    np.testing.assert_array_equal(state, h_n)
    first, state = layer(x[:13])
    second, state = layer(x[13:], state)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(state, h_n)


def test_recurrent_clip():
    theirs = StefOe((2, 40, 1))
    theirs.cells[0][0].weight_hh.mul_(3)
    x = torch.randn(6, 2, 2)
    for clip, low, high in ((0.5, -0.5, 0.5), ((0, 1.25), 0, 1.25)):
        ours = nn.IndRNN.from_weights(arrays(theirs), recurrent_clip=clip)
        assert "recurrent_clip" in repr(ours)
        clipped = StefOe((2, 40, 1))
        clipped.load_state_dict(theirs.state_dict())
        clipped.cells[0][0].weight_hh.clamp_(low, high)
        check(ours(x.numpy())[0], clipped(x))
    with pytest.raises(ValueError, match="recurrent_clip"):
        nn.IndRNN(2, 3, recurrent_clip=(1, -1))


def test_a_module_of_the_users_loads_and_saves_it():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.IndRNN(4, 6, num_layers=2, bidirectional=True)
            self.out = nn.Linear(12, 3)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    rng = np.random.default_rng(0)
    model = Tagger()
    names = {f"rnn.{n}": s for n, s in shapes(model.rnn).items()}
    state = {n: rng.standard_normal(s).astype(np.float32) for n, s in names.items()}
    state |= {"out.weight": np.ones((3, 12), np.float32), "out.bias": np.zeros(3, np.float32)}
    model.load_state_dict(state)
    assert model(np.ones((5, 2, 4), np.float32)).shape == (5, 2, 3)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


@pytest.mark.parametrize(("bidirectional", "bias"), [(False, True), (True, False)])
def test_recognized_by_all_three_namings(capsys, tmp_path, bidirectional, bias):
    stefoe = StefOe((4, 6, 3), bidirectional, bias=bias)
    own = nn.IndRNN.from_weights(arrays(stefoe)).state_dict()
    for weights in (arrays(stefoe), own):
        named = {f"net.{name}": array for name, array in weights.items()}
        (found,) = nn.recognize({**named, "out.weight": np.zeros((3, 6), np.float32)})
        assert (found.kind, found.prefix) == ("IndRNN", "net.")
        assert (found.input_size, found.hidden_size, found.num_layers) == (4, 6, 3)
        assert (found.bidirectional, found.bias) == (bidirectional, bias)
        assert found.nbytes == sum(array.nbytes for array in own.values())
        vledge.save_weights(tmp_path / "m.safetensors", named)
        assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
        assert "  net.: IndRNN 4 -> 6, 3 layers" in capsys.readouterr().out
        with pytest.raises(vledge.UnsupportedError, match="IndRNN"):
            read_any_model(tmp_path / "m.safetensors")
    for where in (None, "before", "after"):
        (found,) = nn.recognize(arrays(Authors((4, 10, 2), where, cuda_names=False)))
        assert (found.kind, found.prefix, found.num_layers) == ("IndRNN", "", 2)
    assert nn.recognize({**own, "weight_hh_l1": np.zeros(4)}) == []


def test_refusals():
    with pytest.raises(ValueError, match="Unknown nonlinearity 'gelu'"):
        nn.IndRNN(2, 3, nonlinearity="gelu")
    with pytest.raises(KeyError, match=r"no weight_hh_l0, .* there is weight"):
        nn.IndRNN.from_weights({"weight": np.zeros(3)})
    good = arrays(StefOe((2, 3, 2)))
    with pytest.raises(ValueError, match=r"have no cells.1.0.weight_ih"):
        nn.IndRNN.from_weights({n: a for n, a in good.items() if n != "cells.1.0.weight_ih"})
    with pytest.raises(ValueError, match=r"weight_hh_l1 has shape \(4,\), expected \(3,\)"):
        nn.IndRNN.from_weights({**good, "cells.1.0.weight_hh": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match="after the recurrence"):
        nn.IndRNN.from_weights(good, batch_norm="before")
    with pytest.raises(ValueError, match="batch_norm must be"):
        nn.IndRNN.from_weights(good, batch_norm="between")
