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
#: Exporters describe a node by so many characters and more: its name and those of its values, as
#: "/encoder/layers.0/self_attn/MatMul_output_0". A large graph of theirs is a large file, and work
#: that grows with the file's own size is not charged: up to so many nodes, 15 seconds.
CHARACTERS_OF_A_NODE: Final = 100
BYTES_OF_A_DESCRIBED_NODE: Final = 2_200
MOST_DESCRIBED: Final = 100_000
#: Of a node with very many, which Python calls with as many arguments.
BYTES_OF_ONE_OF_MANY: Final = 2_000
MANY: Final = 64


def charge_nodes(budget: Budget, count: int, characters: int = 0) -> None:
    """For so many nodes, before any of them is looked at.

    ``characters`` are those of their names and values, of a file's main graph.
    """
    described = min(count, characters // CHARACTERS_OF_A_NODE, MOST_DESCRIBED)
    bare = count - described
    budget.step(STEPS_OF_A_NODE * bare, f"a graph of {count:,} nodes")
    nbytes = BYTES_OF_A_NODE * bare + BYTES_OF_A_DESCRIBED_NODE * described
    budget.take(nbytes, f"a graph of {count:,} nodes")


def charge_edges(budget: Budget, count: int) -> None:
    """For so many inputs and outputs, of nodes or of a graph."""
    budget.step(STEPS_OF_AN_EDGE * count, f"{count:,} inputs and outputs")
    each = BYTES_OF_AN_EDGE if count <= MANY else BYTES_OF_ONE_OF_MANY
    budget.take(each * count, f"{count:,} inputs and outputs")
