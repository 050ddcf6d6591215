"""Makes the golden files of tests/formats, one of each layout; wants torch and safetensors.

Run as ``python -m tests.golden.formats.make``. ``expected.npz`` holds what each file must give,
under "file/name", as torch or NumPy read it, so that the tests mean something without torch.
"""

import copy
import io
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

HERE = Path(__file__).parent


def state_dict() -> dict[str, torch.Tensor]:
    """Every dtype and kind of view that matters, all of it small."""
    generator = torch.Generator().manual_seed(2)
    flat = torch.randn(60, generator=generator)
    return {
        "shared_a": flat[:24].view(4, 6),
        "shared_b": flat[24:48].view(6, 4).t(),
        "strided": flat.view(10, 6)[1::3, ::2],
        "float64": torch.randn(3, 2, dtype=torch.float64, generator=generator),
        "float16": torch.randn(5, generator=generator).half(),
        "bfloat16": torch.randn(2, 3, generator=generator).bfloat16(),
        "int64": torch.tensor([-1, 2**40]),
        "uint8": torch.arange(5, dtype=torch.uint8),
        "bool": torch.tensor([[True, False], [False, True]]),
        "complex64": torch.tensor([1 + 2j, -3j]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }


class Tagger(torch.nn.Module):
    """A recurrent model of the usual shape, with buffers of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.out = torch.nn.Linear(8, 2, bias=False)
        self.register_buffer("mean", torch.arange(3.0))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(data - self.mean)[0])


def as_arrays(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Arrays of the same values; bfloat16 is widened, as vledge does."""
    return {
        name: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in weights.items()
    }


def to_big_endian(archive: bytes, weights: dict[str, torch.Tensor]) -> bytes:
    """The archive as a big-endian machine would have written it."""
    sizes = {}
    for value in weights.values():
        storage = value.untyped_storage()
        width = value.element_size() // (2 if value.is_complex() else 1)
        sizes.setdefault(storage.data_ptr() if storage.nbytes() else None, width)
    widths = iter(sizes.values())
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(target, "w") as copied,
    ):
        for name in source.namelist():
            content = source.read(name)
            if "/data/" in name:
                content = np.frombuffer(content, f"u{next(widths)}").byteswap().tobytes()
            elif name.endswith("/byteorder"):
                content = b"big"
            copied.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue()


def main() -> None:
    torch.manual_seed(2)
    weights = state_dict()
    model = Tagger()
    expected = {}

    def save(name: str, value: object, given: dict[str, torch.Tensor], **options: object) -> None:
        torch.save(value, HERE / name, **options)
        expected[name] = as_arrays(given)

    save("archive.pt", weights, weights)
    save("legacy.pt", weights, weights, _use_new_zipfile_serialization=False)
    save("protocol_4.pt", weights, weights, pickle_protocol=4)
    (HERE / "big_endian.pt").write_bytes(to_big_endian((HERE / "archive.pt").read_bytes(), weights))
    expected["big_endian.pt"] = as_arrays(weights)

    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 1, 3)).sum().backward()
    optimizer.step()
    trained = copy.deepcopy(model.state_dict())
    checkpoint = {"model_state": trained, "optimizer_state": optimizer.state_dict(), "step": 7}
    save("checkpoint.pt", checkpoint, trained)
    parallel = torch.nn.Sequential(OrderedDict(rnn=torch.nn.GRU(3, 4), out=torch.nn.Linear(4, 2)))
    save("module.pt", parallel, parallel.state_dict())

    torch.jit.save(torch.jit.script(model), HERE / "scripted.pt")
    expected["scripted.pt"] = as_arrays(model.state_dict())
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).eval(),
        (torch.randn(5, 3),),
    )
    torch.export.save(program, HERE / "exported.pt2")
    expected["exported.pt2"] = as_arrays(dict(program.state_dict))

    plain = {  # without complex numbers, which older versions of the library do not know
        name: value.contiguous().clone()
        for name, value in weights.items()
        if not value.is_complex()
    }
    safetensors.torch.save_file(plain, HERE / "weights.safetensors")
    expected["weights.safetensors"] = as_arrays(plain)
    arrays = {name: array for name, array in as_arrays(weights).items() if name != "bfloat16"}
    arrays["fortran"] = np.asfortranarray(arrays["float64"])
    arrays["swapped"] = arrays["shared_a"].astype(">f4")
    np.savez(HERE / "weights.npz", **arrays)
    np.savez_compressed(HERE / "compressed.npz", **arrays)
    expected["weights.npz"] = expected["compressed.npz"] = arrays

    flat = {f"{file}/{name}": a for file, given in expected.items() for name, a in given.items()}
    np.savez_compressed(HERE / "expected.npz", **flat)


if __name__ == "__main__":
    main()
