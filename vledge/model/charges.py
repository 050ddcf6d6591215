"""What the nodes of a graph cost: to read, to copy, to take through passes, to prepare."""

from __future__ import annotations

from typing import Final

from vledge.budget import Budget

__all__ = ["charge_edges", "charge_nodes"]

# Measured on chains of element-wise operators and on Ifs: what a session takes for each.
STEPS_OF_A_NODE: Final = 150
BYTES_OF_A_NODE: Final = 5_000
STEPS_OF_AN_EDGE: Final = 5
BYTES_OF_AN_EDGE: Final = 160
#: Of a node with very many, which Python calls with as many arguments.
BYTES_OF_ONE_OF_MANY: Final = 2_000
MANY: Final = 64


def charge_nodes(budget: Budget, count: int) -> None:
    """For so many nodes, before any of them is looked at."""
    budget.step(STEPS_OF_A_NODE * count, f"a graph of {count:,} nodes")
    budget.take(BYTES_OF_A_NODE * count, f"a graph of {count:,} nodes")


def charge_edges(budget: Budget, count: int) -> None:
    """For so many inputs and outputs, of nodes or of a graph."""
    budget.step(STEPS_OF_AN_EDGE * count, f"{count:,} inputs and outputs")
    each = BYTES_OF_AN_EDGE if count <= MANY else BYTES_OF_ONE_OF_MANY
    budget.take(each * count, f"{count:,} inputs and outputs")
