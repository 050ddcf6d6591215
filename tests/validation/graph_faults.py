"""Faults put into whole models at random places, and whether the diagnosis finds and names them.

``python -m tests.validation.faults --graphs`` prints the table.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.validation.graph_spoiling import WAYS, Spoiled, Way
from tests.validation.whole_models import WHOLE, Whole, whole
from vledge.cli.table import rows
from vledge.errors import VledgeError
from vledge.model.definition import Model
from vledge.validation.diagnosis.diagnose import Diagnosis, diagnose
from vledge.validation.reference.compare import compare
from vledge.validation.running.values import runs

__all__ = [
    "LOCATED_AT_LEAST",
    "NAMED_AT_LEAST",
    "GraphOutcome",
    "graph_outcomes",
    "print_table",
    "table",
]

LOCATED_AT_LEAST = 0.95
NAMED_AT_LEAST = 0.85
TRIES = 12  # places at which a fault must change the outputs, or it does not apply to the model


@dataclass
class GraphOutcome:
    """What became of one fault in one model."""

    way: Way
    model: str
    spoiled: Spoiled
    diagnosis: Diagnosis
    seconds: float

    @property
    def located(self) -> bool:
        """Whether the first finding is the node at fault."""
        if not self.diagnosis.findings:
            return False
        first = self.diagnosis.findings[0]
        if self.way.many:
            return bool(self.spoiled.nodes & {first.layer, *first.among})
        return first.layer in self.spoiled.nodes

    @property
    def named(self) -> bool:
        return self.located and self.diagnosis.findings[0].suspect in self.way.suspects

    def __str__(self) -> str:
        mark = "named" if self.named else "LOCATED" if self.located else "MISSED"
        told = self.diagnosis.summary[:300]
        nodes = ", ".join(sorted(self.spoiled.nodes)[:3])
        return f"{mark} {self.model}: {self.way.name} at {nodes} ({self.seconds:.1f} s): {told}"


def graph_outcomes(
    models: Iterable[str] = WHOLE, ways: Iterable[Way] = WAYS, seed: int = 0
) -> Iterator[GraphOutcome]:
    """Each fault once in each model that has a place for it."""
    ways = list(ways)
    for name in models:
        good = whole(name)
        assert not _fails(good.model, good), f"{name} is no good model"
        for way in ways:
            rng = np.random.default_rng([seed, zlib.crc32(f"{name} {way.name}".encode())])
            sites = list(way.sites(good.model, rng))
            for index in rng.permutation(len(sites))[:TRIES]:
                spoiled = sites[index]()
                if not _fails(spoiled.model, good):
                    continue
                start = time.perf_counter()
                told = diagnose(spoiled.model, good.reference, good.tolerances)
                yield GraphOutcome(way, name, spoiled, told, time.perf_counter() - start)
                break


def _fails(model: Model, good: Whole) -> bool:
    names = good.reference.outputs()
    try:
        results = list(runs(model, good.reference, names))
    except VledgeError:
        return False  # it does not load: the error names the node, and there is nothing to diagnose
    except (ValueError, IndexError, TypeError):
        return True
    return not all(
        compare(good.reference, name, [run[name] for run in results], good.tolerances[name]).passed
        for name in names
    )


def table(outcomes: Iterable[GraphOutcome]) -> tuple[str, float, float]:
    """The table, and the shares of faults that were located and named."""
    counts: dict[str, list[int]] = {}
    total = [0, 0, 0]
    for outcome in outcomes:
        own = [1, outcome.located, outcome.named]
        row = counts.setdefault(outcome.way.name, [0, 0, 0])
        for index, value in enumerate(own):
            row[index] += value
            total[index] += value
    lines = [("fault", "injected", "at the right node", "named")]
    lines += [(name, *map(str, row)) for name, row in counts.items()]
    lines.append((f"all {len(counts)} kinds", *map(str, total)))
    return rows(lines, right=(1, 2, 3)), total[1] / total[0], total[2] / total[0]


def print_table(seeds: int, verbose: bool) -> int:
    """Print what becomes of all faults in all models; 0 if enough of them are told."""
    outcomes = []
    for seed in range(seeds):
        for outcome in graph_outcomes(seed=seed):
            outcomes.append(outcome)
            if verbose or not outcome.named:
                print(outcome, flush=True)
    text, located, named = table(outcomes)
    print(text)
    told = f"{located:.1%} at the right node (at least {LOCATED_AT_LEAST:.0%}), "
    print(f"{told}{named:.1%} named (at least {NAMED_AT_LEAST:.0%}), models: {', '.join(WHOLE)}")
    return 0 if located >= LOCATED_AT_LEAST and named >= NAMED_AT_LEAST else 1
