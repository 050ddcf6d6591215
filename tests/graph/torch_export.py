"""Recurrent torch networks and their ONNX exports, for the exporter tests.

The dynamo exporter's result depends on what the process exported before, so that it runs in a
process of its own: `python -m tests.graph.torch_export FOLDER SPEC…`, a SPEC in `Spec.text`'s form.
"""

import subprocess
import sys
import warnings
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["EXPORT_BATCH", "EXPORT_LENGTH", "Spec", "export", "export_in_a_fresh_process", "inputs"]

INPUT_SIZE, HIDDEN_SIZE = 5, 17
EXPORT_BATCH, EXPORT_LENGTH = 2, 7
CELLS = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN, "RNN_RELU": torch.nn.RNN}


@dataclass(frozen=True)
class Spec:
    """One network: a recurrent layer, and how it is called."""

    cell: str  # LSTM, GRU, RNN, RNN_RELU
    layers: int = 1
    bidirectional: bool = False
    batch_first: bool = True
    call: str = "plain"  # plain; states: h_0 given; sorted, unsorted: packed inside
    proj_size: int = 0

    def text(self) -> str:
        return ",".join(str(int(v)) if isinstance(v, bool) else str(v) for v in astuple(self))

    @classmethod
    def parsed(cls, text: str) -> "Spec":
        cell, layers, bidirectional, batch_first, call, proj_size = text.split(",")
        both = bool(int(bidirectional)), bool(int(batch_first))
        return cls(cell, int(layers), *both, call, int(proj_size))


class Network(torch.nn.Module):
    """The layer of a Spec; outputs are flat: output, h_n and, for an LSTM, c_n."""

    def __init__(self, spec: Spec):
        super().__init__()
        options: dict[str, Any] = {"proj_size": spec.proj_size} if spec.proj_size else {}
        if spec.cell == "RNN_RELU":
            options["nonlinearity"] = "relu"
        torch.manual_seed(0)
        self.rnn = CELLS[spec.cell](
            INPUT_SIZE,
            HIDDEN_SIZE,
            spec.layers,
            bidirectional=spec.bidirectional,
            batch_first=spec.batch_first,
            **options,
        )
        self.call = spec.call
        self.eval()

    def forward(self, x, *more):
        if self.call == "plain":
            output, state = self.rnn(x)
        elif self.call == "states":
            output, state = self.rnn(x, more if len(more) == 2 else more[0])
        else:
            batch_first = self.rnn.batch_first
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, more[0], batch_first=batch_first, enforce_sorted=self.call == "sorted"
            )
            output, state = self.rnn(packed)
            output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=batch_first)
        return (output, *state) if isinstance(state, tuple) else (output, state)


def inputs(spec: Spec, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Random inputs of that size by name: x, and what `spec.call` wants beside it."""
    generator = torch.Generator().manual_seed(100 * batch + length)
    x = torch.randn(batch, length, INPUT_SIZE, generator=generator)
    named = {"x": x if spec.batch_first else x.transpose(0, 1).contiguous()}
    if spec.call == "states":
        rows = spec.layers * (1 + spec.bidirectional)
        names = ("h_0", "c_0") if spec.cell == "LSTM" else ("h_0",)
        named |= {n: torch.randn(rows, batch, HIDDEN_SIZE, generator=generator) for n in names}
    elif spec.call != "plain":
        lengths = torch.randint(1, length + 1, (batch,), generator=generator)
        if spec.call == "sorted":
            lengths = lengths.sort(descending=True).values
        named["lengths"] = lengths
    return named


def export(spec: Spec, path: Path, dynamo: bool) -> None:
    """Export with every batch and time axis declared variable."""
    sample = inputs(spec, EXPORT_BATCH, EXPORT_LENGTH)
    x_axes = {0: "batch", 1: "time"} if spec.batch_first else {0: "time", 1: "batch"}
    axes = {"x": x_axes, "h_0": {1: "batch"}, "c_0": {1: "batch"}, "lengths": {0: "batch"}}
    axes = {name: axes[name] for name in sample}
    network, arguments = Network(spec), tuple(sample.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            sizes = {"batch": torch.export.Dim("batch"), "time": torch.export.Dim("time")}
            x, *more = [{a: sizes[n] for a, n in named.items()} for named in axes.values()]
            torch.onnx.export(
                network,
                arguments,
                str(path),
                input_names=list(sample),
                dynamic_shapes=(x, tuple(more)) if more else (x,),
                dynamo=True,
                verbose=False,
            )
        else:
            torch.onnx.export(
                network,
                arguments,
                str(path),
                input_names=list(sample),
                dynamic_axes=axes,
                dynamo=False,
            )


def export_in_a_fresh_process(folder: Path, *specs: Spec) -> list[Path]:
    """Export with the dynamo exporter, one after the other in a new process."""
    command = [sys.executable, "-m", __name__, str(folder), *[spec.text() for spec in specs]]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [folder / f"{i}.onnx" for i in range(len(specs))]


if __name__ == "__main__":
    for i, text in enumerate(sys.argv[2:]):
        export(Spec.parsed(text), Path(sys.argv[1]) / f"{i}.onnx", dynamo=True)
