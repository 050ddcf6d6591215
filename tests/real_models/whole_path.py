"""The whole path on three models: recorded with the framework, validated where there is none.

``python -m tests.real_models.whole_path dist/*.whl`` makes an environment that has the wheel, numpy
and safetensors and nothing else, runs ``vledge validate`` there, and prints the table of
docs/guides/validation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import vledge
from tests.real_models.speech import RECORDINGS, read_recording
from tests.real_models.test_silero_onnx import framed
from tests.registry import registry_file
from vledge.cli import main as vledge_command
from vledge.shipped import japanese_vowels
from vledge.validation import reference_path
from vledge.validation.validate import Report

__all__ = [
    "FRAMEWORKS",
    "exported_encoder",
    "exported_vowels",
    "recorded_silero",
    "validated",
    "without_frameworks",
]

#: Modules that no environment with a claim to do without may have; google is protobuf's package.
FRAMEWORKS = ("torch", "onnx", "onnxruntime", "google.protobuf")


class Vowels(torch.nn.Module):
    """The shipped classifier, as models/japanese_vowels/train.py has it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(12, 48, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(0.3)
        self.out = torch.nn.Linear(96, 9)

    def forward(self, series):
        _, h_n = self.rnn(series)
        return self.out(self.dropout(torch.cat((h_n[0], h_n[1]), dim=1)))


class Encoder(torch.nn.Module):
    """Resemblyzer's speaker encoder: mel spectrograms to embeddings of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def exported_vowels(model: Path) -> tuple[torch.nn.Module, Report]:
    """JapaneseVowels with all of its 370 test series, written by vledge.export."""
    network = Vowels()
    network.load_state_dict(torch.load(japanese_vowels.folder() / "model.pt"))
    series = [torch.from_numpy(one) for one in japanese_vowels.load_test_set().series]
    packed = torch.nn.utils.rnn.pack_sequence(series, enforce_sorted=False)
    report = vledge.export(network, (packed,), model, layers=True, output_names=["logits"])
    return network, report


def exported_encoder(model: Path) -> None:
    """Resemblyzer's encoder from the package's .pt, written by vledge.export."""
    checkpoint = registry_file("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt")
    network = Encoder()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict(state, strict=False)
    mels = torch.rand(2, 20, 40, generator=torch.Generator().manual_seed(0))
    vledge.export(network, mels, model, layers=True, output_names=["embedding"])


def recorded_silero(
    model: Path, name: str = "silero_vad.onnx", options: tuple[str, ...] = ()
) -> None:
    """20 frames of speech through Silero's file, a stream, by ``vledge record``."""
    source = registry_file("silero-vad==6.2.3", f"silero_vad/data/{name}")
    _succeed("convert", source, model)
    known = {info.name for info in vledge.InferenceSession(model).get_inputs()}
    constant = {"state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16_000)}
    files = []
    for number, frame in enumerate(framed(read_recording(RECORDINGS[0]), 512)[40:60]):
        files.append(model.with_name(f"{model.stem}.{number}.npz"))
        inputs = {"input": frame[None], **constant}
        np.savez(files[-1], **{key: inputs[key] for key in inputs if key in known})
    output = reference_path(model)
    _succeed(
        "record", source, "-o", output, "--inputs", *files, "--carry", "state=stateN", *options
    )


def _succeed(*arguments: object) -> None:
    status = vledge_command([str(argument) for argument in arguments])
    assert status == 0, arguments


def without_frameworks(python: Path) -> Path:
    """The same Python, once it has been made sure that it has none of `FRAMEWORKS`."""
    for absent in FRAMEWORKS:
        found = subprocess.run([python, "-c", f"import {absent}"], capture_output=True, env={})
        assert b"No module named" in found.stderr, f"{absent} is there"
    return python


def validated(python: Path, model: Path, *options: str) -> dict:
    """What ``vledge validate --json`` says in a process of that environment."""
    command = [python, "-m", "vledge", "validate", model, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=model.parent, env={})
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["passed"]
    return report


def _installed(wheel: str, folder: Path) -> Path:
    """The Python of a new environment with the wheel and what it needs on every machine."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([*install, "--no-deps", wheel, "numpy", "safetensors"], check=True, env=outside)
    return python


MODELS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "JapaneseVowels": ("vowels", "torch, `vledge.export`", exported_vowels),
    "Resemblyzer 0.1.4, speaker encoder": (
        "encoder",
        "torch from its `.pt`, `vledge.export`",
        exported_encoder,
    ),
    "silero-vad 6.2.3, `silero_vad.onnx`": (
        "silero",
        "onnxruntime, `vledge record`",
        recorded_silero,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.real_models.whole_path", description=__doc__
    )
    parser.add_argument("wheel", help="vledge's wheel (`make wheel` leaves it in dist/)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where models and reports stay")
    arguments = parser.parse_args()
    table = [
        "| model | recorded by | runs | values | paths | output | largest error | tolerance | s |",
        "|---|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        python = without_frameworks(_installed(arguments.wheel, Path(scratch) / "venv"))
        folder = arguments.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        for title, (name, by, make) in MODELS.items():
            model = folder / f"{name}.safetensors"
            make(model)
            start = time.perf_counter()
            report = validated(python, model, "--html", f"{name}.html")
            seconds = time.perf_counter() - start
            outputs = report["outputs"]
            first = outputs[0]
            table.append(
                f"| {title} | {by} | {report['cases']} | {len(outputs)} | {len(report['runs'])} "
                f"| {first['name']} | {first['absolute']:.1e} | {first['tolerance']:.1e} "
                f"| {seconds:.1f} |"
            )
        freeze = [python, "-m", "pip", "freeze"]
        listed = subprocess.check_output(freeze, text=True, env={}).splitlines()
    listed = [line.partition(" @ ")[0] for line in listed]
    print("\n".join(table))
    print(f"in an environment that has {', '.join(listed)}")


if __name__ == "__main__":
    sys.exit(main())
