"""Faults put into good models, and whether the diagnosis names them.

``python -m tests.validation.faults`` prints the table of recurrent layers, ``--graphs`` that of
whole models (``graph_faults``). A fault acts on torch's weights before they are made a graph, or on
the graph, by its own code: nothing of the diagnosis is used to make it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from tests.validation import spoiling as sp
from tests.validation.spoiling import Weights
from vledge.cli.table import rows
from vledge.integrations.torch import recorded
from vledge.model.definition import Model, Node
from vledge.validation.diagnosis.diagnose import Diagnosis, diagnose
from vledge.validation.diagnosis.trial import Trial, prepared
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import compare, tolerance_of
from vledge.validation.running.model_file import layer_model

__all__ = ["FAULTS", "NAMED_AT_LEAST", "Fault", "Outcome", "Subject", "outcomes", "subjects"]

NAMED_AT_LEAST = 0.95
LSTM, GRU = ("LSTM",), ("GRU",)


@dataclass(frozen=True)
class Subject:
    """A good model: a torch layer with random weights, of random sequences."""

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    batch_first: bool = False
    layers: bool = True  # whether the bundle has them
    packed: bool = True
    states: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        words = [f"{self.kind} {self.input_size}->{self.hidden_size}"]
        words += [f"{self.num_layers} layers"] if self.num_layers > 1 else []
        words += [word for word in ("bidirectional", "batch_first") if getattr(self, word)]
        words += [] if self.layers else ["without layers in the bundle"]
        return ", ".join([*words, f"seed {self.seed}"])

    def made(self) -> tuple[Weights, set[str], Reference]:
        """torch's weights, the graph's inputs, and what torch computed."""
        torch.manual_seed(self.seed)
        module = getattr(torch.nn, self.kind)(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bidirectional=self.bidirectional,
            batch_first=self.batch_first,
        )
        lengths = [6, 11, 3, 8]
        series = [torch.randn(n, self.input_size) for n in lengths]
        pack = torch.nn.utils.rnn.pack_sequence
        pad = torch.nn.utils.rnn.pad_sequence
        x = pack(series, enforce_sorted=False) if self.packed else pad(series, self.batch_first)
        shape = (self.num_layers * (1 + self.bidirectional), 4, self.hidden_size)
        states: tuple = ()
        if self.states:
            h, c = 0.5 * torch.randn(2, *shape)
            states = ((h, c),) if self.kind == "LSTM" else (h,)
        weights = {name: t.detach().numpy().copy() for name, t in module.state_dict().items()}
        names = {"x", *(["lengths"] if self.packed else [])}
        names |= {"h_0", "c_0"} if self.states and self.kind == "LSTM" else set()
        names |= {"h_0"} if self.states else set()
        model = layer_model(weights, self.batch_first, names)
        reference = recorded(module, (x, *states), model if self.layers else None, seed=self.seed)
        return weights, names, reference


@dataclass(frozen=True)
class Fault:
    """One way to spoil a model. ``suspect`` is what the diagnosis must call it."""

    name: str
    suspect: str
    kinds: tuple[str, ...] = ("LSTM", "GRU", "RNN")
    weights: Callable[[Subject, Weights, list[str]], None] | None = None
    graph: Callable[[Subject, Model, list[Node]], Model] | None = None
    applies: Callable[[Subject], bool] = lambda subject: True
    words: str = ""  # that the sentence must have


ONNX_AS_TORCH = "ONNX order (i,o,f,c) read as PyTorch's (i,f,g,o)"
TORCH_AS_ONNX = "PyTorch order (i,f,g,o) read as ONNX's (i,o,f,c)"
GRU_AS_TORCH = "ONNX order (z,r,h) read as PyTorch's (r,z,n)"


def _fits(fault: Fault, subject: Subject) -> bool:
    return subject.kind in fault.kinds and fault.applies(subject)


FAULTS = [
    Fault(
        "ONNX order read as PyTorch's",
        "gate order",
        LSTM,
        sp.reordered("iofg", "ifgo"),
        words=ONNX_AS_TORCH,
    ),
    Fault(
        "PyTorch order read as ONNX's",
        "gate order",
        LSTM,
        sp.reordered("ifgo", "iofg"),
        words=TORCH_AS_ONNX,
    ),
    Fault("TensorFlow's read as PyTorch's", "gate order", LSTM, sp.reordered("igfo", "ifgo")),
    Fault(
        "ONNX order read as PyTorch's",
        "gate order",
        GRU,
        sp.reordered("zrn", "rzn"),
        words=GRU_AS_TORCH,
    ),
    Fault("gates rotated", "gate order", GRU, sp.reordered("znr", "rzn")),
    Fault(
        "order wrong in the weights alone",
        "gate order",
        LSTM + GRU,
        sp.onnx_order("weight_ih weight_hh"),
    ),
    Fault(
        "order wrong in the biases alone",
        "gate order",
        LSTM + GRU,
        sp.onnx_order("bias_ih bias_hh"),
    ),
    Fault("biases swapped", "biases swapped", GRU, sp.swap_biases),
    Fault(
        "all biases missing",
        "biases missing",
        weights=sp.zeroed("bias_ih", "bias_hh"),
        applies=lambda s: s.layers,
    ),
    Fault(
        "input biases missing",
        "biases missing",
        weights=sp.zeroed("bias_ih"),
        applies=lambda s: s.layers,
        words="input biases",
    ),
    Fault(
        "recurrent biases missing",
        "biases missing",
        weights=sp.zeroed("bias_hh"),
        applies=lambda s: s.layers,
        words="recurrent biases",
    ),
    Fault(
        "linear_before_reset",
        "linear_before_reset",
        GRU,
        graph=sp.on_nodes(lambda n: sp.attributes(n, linear_before_reset=0)),
    ),
    Fault(
        "R transposed",
        "transposed weights",
        weights=sp.transpose("weight_hh"),
        words="weights R",
    ),
    Fault(
        "R reshaped for transposed",
        "transposed weights",
        weights=sp.reshaped("weight_hh"),
        words="weights R",
    ),
    Fault(
        "W transposed",
        "transposed weights",
        weights=sp.transpose("weight_ih"),
        applies=lambda s: s.num_layers == 1 and s.input_size == s.hidden_size,
        words="weights W",
    ),
    Fault(
        "W reshaped for transposed",
        "transposed weights",
        weights=sp.reshaped("weight_ih"),
        words="weights W",
    ),
    Fault(
        "runs backwards",
        "reverse direction",
        graph=sp.on_nodes(lambda n: sp.attributes(n, direction="reverse")),
        applies=lambda s: not s.bidirectional,
    ),
    Fault(
        "directions' weights swapped",
        "reverse direction",
        weights=sp.swap_directions,
        applies=lambda s: s.bidirectional,
    ),
    Fault(
        "batch_first not heeded",
        "batch_first",
        graph=sp.without_transposes,
        applies=lambda s: s.batch_first and not s.packed and s.num_layers == 1,
    ),
    Fault(
        "h_0 and c_0 swapped",
        "h and c swapped",
        LSTM,
        graph=sp.on_nodes(lambda n: sp.with_inputs(n, i5=n.inputs[6], i6=n.inputs[5])),
        applies=lambda s: s.states,
    ),
    Fault("h_n and c_n swapped", "h and c swapped", LSTM, graph=sp.on_nodes(sp.swap_outputs)),
    Fault(
        "initial state not used",
        "initial state",
        graph=sp.on_nodes(lambda n: sp.with_inputs(n, i5="", i6="")),
        applies=lambda s: s.states,
    ),
    Fault(
        "padding run through",
        "padding run through",
        graph=sp.on_nodes(lambda n: sp.with_inputs(n, i4="")),
        applies=lambda s: s.packed,
    ),
]


@dataclass
class Outcome:
    """What became of one fault in one model."""

    fault: Fault
    subject: Subject
    layer: str  # "all" or the number of the layer
    found: bool  # the validation failed
    diagnosis: Diagnosis | None

    @property
    def named(self) -> bool:
        if self.diagnosis is None or not self.diagnosis.findings:
            return False
        first = self.diagnosis.findings[0]
        return first.suspect == self.fault.suspect and self.fault.words in first.text

    @property
    def located(self) -> bool:
        """Whether the first finding is in the layer that was spoiled."""
        if self.diagnosis is None or not self.diagnosis.findings or self.layer == "all":
            return True
        return self.diagnosis.findings[0].layer.endswith(f"_l{self.layer}")


def subjects(seeds: int) -> Iterator[Subject]:
    for seed in range(seeds):
        for kind in ("LSTM", "GRU", "RNN"):
            yield Subject(kind, 5, 8, seed=seed)
            yield Subject(kind, 12, 12, seed=seed, packed=False, states=False, batch_first=True)
            yield Subject(kind, 7, 24, 2, True, seed=seed)
            yield Subject(kind, 16, 40, 3, batch_first=True, seed=seed)
            yield Subject(kind, 6, 10, layers=False, seed=seed)
            yield Subject(kind, 6, 10, 2, True, layers=False, seed=seed)


def outcomes(subject: Subject) -> Iterator[Outcome]:
    """Every fault that applies to a model, in all of its layers and in the last one alone."""
    clean, names, reference = subject.made()
    directions = ["", "_reverse"][: 1 + subject.bidirectional]
    tolerances = {name: tolerance_of(reference, name) for name in reference.cases[0].outputs}
    for fault in FAULTS:
        if not _fits(fault, subject):
            continue
        last = subject.num_layers - 1
        for layer in ["all"] + ([str(last)] if last else []):
            numbers = range(subject.num_layers) if layer == "all" else [last]
            weights = {name: array.copy() for name, array in clean.items()}
            if fault.weights:
                suffixes = [f"l{number}{end}" for number in numbers for end in directions]
                fault.weights(subject, weights, suffixes)
            model = layer_model(weights, subject.batch_first, names)
            if fault.graph:
                recurrent = [n for n in model.graph.nodes if n.op_type == subject.kind]
                model = fault.graph(subject, model, [recurrent[number] for number in numbers])
            found = _fails(model, reference, tolerances)
            diagnosis = diagnose(model, reference, tolerances) if found else None
            yield Outcome(fault, subject, layer, found, diagnosis)


def _fails(model: Model, reference: Reference, tolerances: dict) -> bool:
    work = prepared(model, reference)
    try:
        results = Trial.of_model(work, reference, tolerances).run(work)
    except ValueError:
        return True
    return not all(
        compare(reference, name, [result[name] for result in results], tolerance).passed
        for name, tolerance in tolerances.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.validation.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--verbose", action="store_true", help="print every diagnosis")
    parser.add_argument("--graphs", action="store_true", help="whole models, five of them")
    arguments = parser.parse_args()
    if arguments.graphs:
        from tests.validation.graph_faults import print_table

        return print_table(arguments.seeds, arguments.verbose)
    counts: dict[tuple[str, str], list[int]] = {}
    for subject in subjects(arguments.seeds):
        for outcome in outcomes(subject):
            key = outcome.fault.name, subject.kind
            row = counts.setdefault(key, [0, 0, 0, 0])
            row[0] += 1
            row[1] += outcome.found
            row[2] += outcome.named
            row[3] += outcome.located
            if arguments.verbose or not outcome.named:
                told = outcome.diagnosis.summary if outcome.diagnosis else "not found"
                mark = "" if outcome.named else "NOT NAMED: "
                print(f"{mark}{subject.name}, layer {outcome.layer}, {outcome.fault.name}: {told}")
    table = [("fault", "cell", "injected", "found", "named", "layer right")]
    table += [(*key, *map(str, row)) for key, row in counts.items()]
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    table.append(("all", "", *map(str, total)))
    print(rows(table, right=(2, 3, 4, 5)))
    share = total[2] / total[0]
    print(f"{share:.1%} named rightly (at least {NAMED_AT_LEAST:.0%})")
    return 0 if share >= NAMED_AT_LEAST and total[1] == total[0] else 1


if __name__ == "__main__":
    sys.exit(main())
