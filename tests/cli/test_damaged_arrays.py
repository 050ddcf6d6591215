"""``.npy``, ``.npz`` and ``.wav`` files that are damaged, at each option that takes one."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vledge
from vledge.cli import main

WEIGHTS = {
    "weight_ih_l0": np.zeros((16, 3), "f4"),
    "weight_hh_l0": np.zeros((16, 4), "f4"),
}


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((5, 3), "f4"))
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.ones((5, 3), "f4"))
    return file.getvalue()


def renamed_method(data: bytes) -> bytes:
    """An archive that says it is compressed in a way that nobody knows."""
    changed = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = changed.find(magic)
        changed[place + at : place + at + 2] = b"\x63\x00"
    return bytes(changed)


def inside(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", content)
    return file.getvalue()


DAMAGED = {
    "an array cut short": ("a.npy", npy()[:-7]),
    "an array's header cut short": ("a.npy", npy()[:20]),
    "an array's header of brackets": ("a.npy", npy().replace(b"{", b"((((((")),
    "an array's header of bytes": ("a.npy", npy().replace(b"descr", b"\xff\xfe\x00\x01\x02")),
    "an array of objects": ("a.npy", npy().replace(b"'<f4'", b"'|O' ")),
    "an array of a pickle": ("a.npy", b"\x80\x04K\x01."),
    "nothing": ("a.npy", b""),
    "an archive cut short": ("a.npz", npz()[:-30]),
    "an archive's beginning": ("a.npz", npz()[:10]),
    "an archive of an unknown method": ("a.npz", renamed_method(npz())),
    "an archive with other bytes": ("a.npz", npz()[:60] + b"\xff" * 20 + npz()[80:]),
    "an archive of half an array": ("a.npz", inside(npy()[:40])),
    "an archive of an array of objects": ("a.npz", inside(npy().replace(b"'<f4'", b"'|O' "))),
    "a text": ("a.npz", b"no archive"),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged") / "layer.safetensors"
    vledge.save_weights(path, WEIGHTS)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("vledge: error: ")
    return lines[0]


@pytest.mark.parametrize("damage", DAMAGED)
def test_many(damage: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content = DAMAGED[damage]
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in said(capsys, "many", model, path)


@pytest.mark.parametrize("damage", [damage for damage in DAMAGED if DAMAGED[damage][0] == "a.npy"])
def test_plan(damage: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lengths.npy"
    path.write_bytes(DAMAGED[damage][1])
    assert str(path) in said(capsys, "plan", path, "--model", model)


def test_arrays_changed_at_random(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever NumPy raises is told in one line."""
    rng = random.Random(0)
    for _ in range(150):
        content = bytearray(rng.choice((npy(), npz(), inside(npy()))))
        for _ in range(rng.choice((1, 2, 5))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / ("a.npz" if content[:2] == b"PK" else "a.npy")
        path.write_bytes(content)
        status = main(["many", str(model), str(path)])
        assert status in (0, 1)
        assert status == 0 or len(capsys.readouterr().err.splitlines()) == 1
