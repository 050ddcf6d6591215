"""Checkpoints of torch's quantised layers, read without torch: the weights that torch means."""

import io
import struct
import warnings

import numpy as np
import pytest

from tests.peers import peer
from vledge.errors import FormatError
from vledge.formats import read_checkpoint
from vledge.formats.torch.packed import packed_parts, renamed
from vledge.formats.torch.pickle_records import Call, Global, Persistent
from vledge.formats.torch.tensors import as_tensor

torch = peer("torch")
nn = torch.nn
quantization = torch.ao.quantization


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(14, 6, 2)
        self.out = nn.Linear(6, 3)
        self.plain = nn.Linear(6, 2, bias=False)

    def forward(self, x):
        y = self.gru(self.lstm(x)[0])[0]
        return self.out(y), self.plain(y)


def saved(kind, model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "state dict":
            torch.save(model.state_dict(), path)
        elif kind == "module":
            torch.save(model, path)
        else:
            torch.jit.script(model).save(str(path))


def meant(quantised):
    """The float weights of every layer by torch's own account."""
    weights = {}
    for name, module in quantised.named_modules():
        if hasattr(module, "get_weight") and hasattr(module, "get_bias"):
            parts = {**module.get_weight(), **module.get_bias()}
        elif isinstance(module, torch.ao.nn.quantized.dynamic.Linear):
            parts = {"weight": module.weight(), "bias": module.bias()}
        else:
            continue
        for part, tensor in parts.items():
            if tensor is not None:
                real = tensor.dequantize() if tensor.is_quantized else tensor
                weights[f"{name}.{part}"] = real.detach().numpy()
    return weights


@pytest.mark.parametrize("kind", ["state dict", "module", "TorchScript"])
@pytest.mark.parametrize("dtype", ["qint8", "float16"])
def test_dynamic_layers(kind, dtype, tmp_path):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.quantize_dynamic(
            Net().eval(), {nn.LSTM, nn.GRU, nn.Linear}, dtype=getattr(torch, dtype)
        )
    path = tmp_path / "model.pt"
    saved(kind, model, path)
    weights = read_checkpoint(path).weights
    assert set(weights) == set(Net().state_dict())
    expected = meant(model)
    assert len(expected) >= 20
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(cell, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.quantize_dynamic(
            nn.Sequential(getattr(nn, cell)(4, 3)), {getattr(nn, cell)}, dtype=torch.qint8
        )
    torch.save(model.state_dict(), tmp_path / "cell.pt")
    weights = read_checkpoint(tmp_path / "cell.pt").weights
    assert set(weights) == {
        f"0.{kind}_{which}" for kind in ("weight", "bias") for which in ("ih", "hh")
    }
    own = model[0].get_weight()
    np.testing.assert_array_equal(weights["0.weight_ih"], own["weight_ih"].dequantize().numpy())


def test_scales_by_channel(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = {nn.Linear: quantization.per_channel_dynamic_qconfig}
        model = quantization.quantize_dynamic(Net().eval(), config)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    weights = read_checkpoint(tmp_path / "model.pt").weights
    np.testing.assert_array_equal(weights["out.weight"], model.out.weight().dequantize().numpy())


def test_quantised_tensors_by_themselves(tmp_path):
    x = torch.randn(4, 6)
    tensors = {
        "one": torch.quantize_per_tensor(x, 0.05, 7, torch.quint8),
        "turned": torch.quantize_per_tensor(x, 0.05, -3, torch.qint8).t(),
        "channels": torch.quantize_per_channel(
            x, torch.rand(6) + 0.01, torch.arange(6), 1, torch.qint8
        ),
        "wide": torch.quantize_per_tensor(x, 1e-4, 0, torch.qint32),
    }
    torch.save(tensors, tmp_path / "tensors.pt")
    weights = read_checkpoint(tmp_path / "tensors.pt").weights
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(weights[name], tensor.dequantize().numpy())


def test_layers_or_directions():
    """Shapes tell them apart, or it is said that they do not."""

    def names(inputs, size):
        shapes = {}
        for k, width in enumerate(inputs):
            for kind, shape in (("ih", (3 * size, width)), ("hh", (3 * size, size))):
                shapes[f"r._all_weight_values.{k}.param.weight_{kind}"] = shape
        return [name for name in renamed(shapes, shapes).tensors if "ih" in name]

    assert names([5], 7) == ["r.weight_ih_l0"]
    assert names([5, 7], 7) == ["r.weight_ih_l0", "r.weight_ih_l1"]
    assert names([5, 5], 7) == ["r.weight_ih_l0", "r.weight_ih_l0_reverse"]
    assert names([7, 7, 7], 7)[-1] == "r.weight_ih_l2"
    assert names([7, 7, 14, 14], 7)[-1] == "r.weight_ih_l1_reverse"
    assert names([7, 7], 7) == []
    shapes = {"r._all_weight_values.0.param.weight_ih": (21, 7)}
    shapes |= {"r._all_weight_values.1.param.weight_ih": (21, 7)}
    shapes["r._all_weight_values.0.param.weight_hh"] = (21, 7)
    assert all("two directions" in why for why in renamed(shapes, shapes).left_out.values())


STORAGE = Persistent(("storage", Global("torch.QInt8Storage"), "0", "cpu", 6))
FLOATS = Persistent(("storage", Global("torch.FloatStorage"), "0", "cpu", 6))


def quantised(*scheme, storage=STORAGE):
    arguments = (storage, 0, (2, 3), (3, 1), scheme, False, None)
    return Call(Global("torch._utils._rebuild_qtensor"), arguments)


def vector(kind, count):
    storage = Persistent(("storage", Global(f"torch.{kind}Storage"), "1", "cpu", count))
    arguments = (storage, 0, (count,), (1,), False, None)
    return Call(Global("torch._utils._rebuild_tensor_v2"), arguments)


AFFINE = Global("torch.per_tensor_affine")
BY_CHANNEL = Global("torch.per_channel_affine")
WHOLE = quantised(AFFINE, 0.1, 0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Call(Global("torch._utils._rebuild_qtensor"), ()), "other arguments"),
        (quantised(AFFINE, 0.1, 0, storage=FLOATS), "in a storage of float32"),
        (quantised(BY_CHANNEL, vector("Double", 2), vector("Long", 2), 7), "scales on 7"),
        (quantised(BY_CHANNEL, vector("Double", 9), vector("Long", 2), 0), "2 channels, but"),
        (quantised(BY_CHANNEL, vector("Long", 2), vector("Long", 2), 0), "no such tensors"),
        (quantised(BY_CHANNEL, WHOLE, WHOLE, 0), "no such"),
    ],
)
def test_what_is_wrong_is_said(record, message):
    with pytest.raises(FormatError, match=message):
        as_tensor(record)


def test_schemes_that_are_not_known_are_left_out():
    assert "float_qparams" in as_tensor(quantised(Global("torch.per_channel_affine_float_qparams")))
    assert "scheme" in as_tensor(quantised(AFFINE, "0.1", 0))
    assert "scheme" in as_tensor(quantised(AFFINE, 0.1, 1 << 40))


def test_an_infinite_scale_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.qint8)}, buffer)
    data = bytearray(buffer.getvalue())
    place = data.find(b"G" + struct.pack(">d", 0.5))
    assert place > 0
    data[place + 1 : place + 9] = struct.pack(">d", np.inf)
    path = tmp_path / "inf.pt"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        read_checkpoint(path)


def test_objects_of_other_classes_are_not_unpacked():
    other = Call(Global("torch.ScriptObject"), ())
    assert packed_parts("x", other) is None
    other.state = (("quantized_dynamic",), "__torch__.torch.classes.rnn.CellParamsBase")
    assert packed_parts("x", other) is None
    other.state = ((other, other), "__torch__.torch.classes.mine.Other")
    assert packed_parts("x", other) is None
