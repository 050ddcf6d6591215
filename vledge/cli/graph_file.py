"""A file that must hold a graph, and what to do with one that holds weights."""

from __future__ import annotations

from vledge.formats import holds_graph

__all__ = ["check_graph_file"]


def check_graph_file(path: str, command: str, instead: str) -> None:
    """ValueError with the next step, ``instead``, for a file of weights."""
    if not holds_graph(path):
        raise ValueError(
            f"{path} holds no graph, and `vledge {command}` is for whole models: {instead}"
        )
