"""Whatever torch saves, in whatever layout, against what torch itself loads: bit for bit."""

import io
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vledge.errors import FormatError
from vledge.formats import load_weights, read_checkpoint

torch: Any = pytest.importorskip("torch")

DTYPES = [
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool"),
    *("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
]
LAYOUTS: dict[str, dict[str, Any]] = {
    "archive": {},
    "archive, protocol 4": {"pickle_protocol": 4},
    "archive, protocol 5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy, protocol 1": {"_use_new_zipfile_serialization": False, "pickle_protocol": 1},
    "legacy, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


@pytest.fixture(params=LAYOUTS)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[object], Path]:
    """Save something by torch in one of its layouts."""

    def saved(value: object) -> Path:
        path = tmp_path / "model.pt"
        torch.save(value, path, **LAYOUTS[request.param])
        return path

    return saved


def assert_same(weights: dict[str, np.ndarray], tensors: dict[str, Any]) -> None:
    """Same names in the same order, same shapes, same bits; bfloat16 widened."""
    assert list(weights) == list(tensors)
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        expected = wide.resolve_conj().numpy()
        assert weights[name].dtype == expected.dtype, name
        assert weights[name].shape == expected.shape, name
        assert weights[name].tobytes() == expected.tobytes(), name


def random_tensor(dtype: str, *shape: int) -> Any:
    """Random bits of any dtype, NaNs among them; a bool stays one."""
    kind = getattr(torch, dtype)
    if kind == torch.bool:
        return torch.rand(shape) > 0.5
    count = int(np.prod(shape)) * kind.itemsize
    return torch.frombuffer(
        bytearray(np.random.default_rng(count).bytes(count)), dtype=kind
    ).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str, save: Callable) -> None:
    tensors = {"w": random_tensor(dtype, 3, 5), "scalar": random_tensor(dtype, 1).reshape(())}
    assert_same(load_weights(save(tensors)), tensors)


def test_layouts_of_memory(save: Callable) -> None:
    whole = torch.arange(120, dtype=torch.float32)
    tensors = {
        "whole": whole,
        "offset": whole[7:31].view(4, 6),
        "transposed": whole.view(10, 12).t(),
        "permuted": whole.view(4, 5, 6).permute(2, 0, 1),
        "stepped": whole.view(10, 12)[1::3, ::5],
        "column": whole.view(10, 12)[:, 3:4],
        "one element": whole[5:6].view(1, 1, 1),
        "empty": torch.zeros(3, 0, 2),
        "empty view": whole[60:60],
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "bfloat16 view": torch.randn(4, 6).bfloat16()[1:, ::2].t(),
        "five": torch.randn(2, 1, 3, 1, 2),
        "parameter": torch.nn.Parameter(whole[3:9].view(2, 3)),
    }
    assert_same(load_weights(save(tensors)), tensors)


def test_flattened_weights_as_cuda_leaves_them(save: Callable) -> None:
    lstm = torch.nn.LSTM(5, 7, num_layers=2, bidirectional=True)
    sizes = [parameter.numel() for parameter in lstm.parameters()]
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in lstm.parameters()])
    pieces = torch.split(flat, sizes)
    tensors = {
        name: piece.view(parameter.shape)
        for (name, parameter), piece in zip(lstm.named_parameters(), pieces, strict=True)
    }
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1
    assert_same(load_weights(save(tensors)), tensors)


def test_state_dict_with_prefixes_and_metadata(save: Callable) -> None:
    model = torch.nn.Sequential(OrderedDict(rnn=torch.nn.GRU(3, 4), norm=torch.nn.BatchNorm1d(4)))
    parallel = torch.nn.DataParallel(model)
    assert_same(load_weights(save(model.state_dict())), model.state_dict())
    weights = load_weights(save(parallel.state_dict()))
    assert_same(weights, parallel.state_dict())
    assert "module.rnn.weight_ih_l0" in weights


class Model(torch.nn.Module):
    """A custom class with everything a module can hold besides its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 3, padding_idx=0)
        self.rnn = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(4, 2), torch.nn.Linear(4, 3, bias=False)])
        self.tied = self.heads[0]
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("mean", torch.arange(3.0))
        self.register_buffer("cache", torch.zeros(9), persistent=False)
        self.register_buffer("nothing", None)
        self.options = {"a": (1, 2.5, None), "b": {1, 2}, "c": np.float64(3.0), "path": Path("x")}
        self.activation = torch.tanh


@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_module(save: Callable, wrapped: bool) -> None:
    model: Any = torch.nn.DataParallel(Model()) if wrapped else Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on the source of classes, in the legacy layout
        path = save(model)
    assert_same(load_weights(path), model.state_dict())


def test_whole_module_within_a_checkpoint(save: Callable) -> None:
    model = torch.nn.LSTM(3, 4)
    value = {"epoch": 3, "net": model, "loss": torch.nn.CrossEntropyLoss(), "note": "x"}
    path = save(value)
    assert_same(load_weights(path), model.state_dict())
    assert read_checkpoint(path).key == "net"


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop"])
def test_training_checkpoint(optimizer: str, save: Callable) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    trainer = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(trainer, 2)
    model(torch.randn(5, 3)).sum().backward()
    trainer.step()
    checkpoint = {
        "epoch": 3,
        "state_dict": model.state_dict(),
        "optimizer": trainer.state_dict(),
        "lr_schedulers": [schedule.state_dict()],
        "rng": torch.get_rng_state(),
        "numpy_rng": np.random.get_state(),
        "best": torch.tensor(0.25),
        "mean_loss": np.float64(1.5),
    }
    path = save(checkpoint)
    result = read_checkpoint(path)
    assert result.key == "state_dict"
    assert result.elsewhere["optimizer"] == "the state of an optimizer"
    assert_same(result.weights, model.state_dict())
    assert_same(load_weights(path, key="state_dict"), model.state_dict())
    if optimizer == "Adam":
        moments = load_weights(path, key="optimizer.state.1")
        assert_same(moments, trainer.state_dict()["state"][1])


def test_ambiguous_checkpoint_lists_its_parts(save: Callable) -> None:
    encoder, decoder = torch.nn.GRU(3, 4), torch.nn.Linear(4, 2)
    nested = {"encoder": encoder.state_dict(), "decoder": {"net.out": decoder.state_dict()}}
    path = save({"models": nested})
    with pytest.raises(FormatError, match=r"key='models.encoder' \(4 tensors\).*'models.decoder"):
        load_weights(path)
    assert_same(load_weights(path, key="models.encoder"), encoder.state_dict())
    assert_same(load_weights(path, key="models.decoder.net.out"), decoder.state_dict())
    with pytest.raises(FormatError, match=r"no part 'models.x': 'models' holds 'encoder'"):
        load_weights(path, key="models.x")
    with pytest.raises(FormatError, match="tensor without a name"):
        load_weights(path, key="models.encoder.weight_ih_l0")


def test_what_numpy_has_not_is_left_out_and_reported(save: Callable) -> None:
    tensors = {
        "w": torch.ones(2, 3),
        "sparse": torch.eye(3).to_sparse(),
        "float8": torch.ones(3).to(torch.float8_e4m3fn),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "meta": torch.empty(3, device="meta"),
        "number": 3,
    }
    path = save(tensors)
    with pytest.warns(UserWarning, match="'sparse': a sparse tensor"):
        assert_same(load_weights(path), {"w": tensors["w"]})
    skipped = read_checkpoint(path).skipped
    assert skipped.keys() == tensors.keys() - {"w"}
    assert "float8_e4m3fn" in skipped["float8"]


@pytest.mark.parametrize("value", [{}, {"epoch": 3}, [1, 2], 3, "text", torch.nn.Tanh()])
def test_file_without_weights_says_how_to_save_them(value: object, save: Callable) -> None:
    with pytest.raises(FormatError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        load_weights(save(value))


def test_bare_tensor_is_refused_with_a_reason(save: Callable) -> None:
    with pytest.raises(FormatError, match="a tensor without a name"):
        load_weights(save(torch.ones(3)))


def test_lists_of_tensors_are_numbered(save: Callable) -> None:
    tensors = [torch.ones(2), torch.zeros(3, 2)]
    assert_same(load_weights(save(tensors)), {"0": tensors[0], "1": tensors[1]})


def test_archive_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(9.0)}, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(load_weights(tmp_path / "model.pt"), {"w": torch.arange(9.0)})


def test_tensor_subclass_and_buffer(save: Callable) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.note = "kept by _rebuild_parameter_with_state"
    tensors = {"parameter": parameter, "buffer": torch.nn.Buffer(torch.arange(4.0))}
    assert_same(load_weights(save(tensors)), tensors)


class Scripted(torch.nn.Module):
    """A module tree for TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 4, bidirectional=True)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)])
        self.register_buffer("mean", torch.arange(3.0))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        data, _ = self.rnn(data - self.mean)
        for block in self.blocks:
            data = block(data)
        return data


@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript(how: str, tmp_path: Path) -> None:
    model = Scripted().eval()
    path = tmp_path / "model.pt"
    if how == "trace":
        scripted = torch.jit.trace(model, torch.randn(5, 1, 3))
    else:
        scripted = torch.jit.script(model)
    if how == "freeze":
        torch.jit.save(torch.jit.freeze(scripted), path)
        with pytest.raises(FormatError, match="no weights"):  # they are constants of its code now
            load_weights(path)
        return
    torch.jit.save(scripted, path)
    weights = load_weights(path)
    expected = dict(torch.jit.load(path).state_dict())
    assert_same(dict(sorted(weights.items())), dict(sorted(expected.items())))
    part = load_weights(path, key="blocks.1")
    assert_same(dict(sorted(part.items())), {k: expected[f"blocks.1.{k}"] for k in sorted(part)})


def test_exported_program(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double().eval()
    program = torch.export.export(model, (torch.randn(5, 3, dtype=torch.float64),))
    torch.export.save(program, tmp_path / "model.pt2")
    assert_same(load_weights(tmp_path / "model.pt2"), program.state_dict)


def test_file_written_in_memory_first(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(5)}, buffer)
    (tmp_path / "m").write_bytes(buffer.getvalue())
    assert_same(load_weights(tmp_path / "m"), {"w": torch.arange(5)})
