"""What a diagnosis says: places where a model parts from its reference, and what explains them."""

from __future__ import annotations

from dataclasses import dataclass, field

from vledge.model.definition import Node
from vledge.validation.running.layers import KINDS

__all__ = ["AGREES", "Diagnosis", "Finding", "node_name"]

AGREES = (
    "as recorded and in float64 the model agrees: what fails is float32 arithmetic or one way of "
    "running it, not the export"
)


@dataclass
class Finding:
    """One place where the model parts from the reference, and what explains it."""

    layer: str  #: the node's name; "" if it is not known which
    kind: str  #: LSTM, GRU, RNN
    value: str  #: the first value that is off
    error: float  #: its largest absolute error
    direction: str = ""
    gates: str = ""  #: by their letters; those that the error comes from
    worst: dict[str, int] = field(default_factory=dict)  #: case, sequence, time where it begins
    suspect: str = ""  #: the kind of mistake; "" if none of those that are known explains it
    text: str = ""  #: the mistake in words
    remaining: float = 0.0  #: the error with the mistake undone, in units of the tolerance
    among: list[str] = field(default_factory=list)  #: the nodes one of which is at fault

    def __str__(self) -> str:
        where = f"{self.kind} {self.layer}" if self.layer else "the model"
        details = [f"{self.direction} direction"] if self.direction else []
        if self.gates:
            details.append(f"gate{'s' if len(self.gates) > 1 else ''} {', '.join(self.gates)}")
        if "time" in self.worst:
            details.append(f"from time step {self.worst['time']}")
        if "sequence" in self.worst:
            details.append(f"sequence {self.worst['sequence']}")
        if self.worst.get("case"):
            details.append(f"case {self.worst['case']}")
        told = f"{where} ({', '.join(details)})" if details else where
        if self.suspect:
            return f"{told}: looks like {self.text}"
        if self.among:
            return (
                f"{self.value} is off by {self.error:.1e}: one of {len(self.among)} nodes from "
                f"{self.among[0]} to {self.among[-1]} is at fault (`vledge record --values` tells "
                "which); no known mistake explains it"
            )
        if self.kind and self.kind not in KINDS:
            return f"{told}: its inputs agree, its result does not; no known mistake explains it"
        return f"{told}: off by {self.error:.1e}; no known mistake explains it"


@dataclass(repr=False)
class Diagnosis:
    """What was found, in words and by place."""

    summary: str
    findings: list[Finding] = field(default_factory=list)
    tried: int = 0  #: variants that were run
    agrees: bool = False  #: in float64, as recorded: there is nothing to find

    def __repr__(self) -> str:
        return f"Diagnosis: {self.summary} ({len(self.findings)} findings)"


def node_name(node: Node) -> str:
    """A node's name, or that of the first value it makes."""
    return node.name or next((name for name in node.outputs if name), "")
