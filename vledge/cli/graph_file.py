"""A file that must hold a graph, or torch's weights, and what to do with another."""

from __future__ import annotations

from vledge.errors import UnsupportedError
from vledge.formats import check_known, holds_graph
from vledge.layer_file import keras_layers

__all__ = ["check_graph_file", "check_torchs_names"]


def check_graph_file(path: str, command: str, instead: str) -> None:
    """ValueError with the next step, ``instead``, for a file of weights."""
    if not holds_graph(path):
        check_known(path)
        raise ValueError(
            f"{path} holds no graph, and `vledge {command}` is for whole models: {instead}"
        )


def check_torchs_names(path: str, command: str) -> None:
    """UnsupportedError with the next step for a Keras file, whose weights have other names."""
    if keras_layers(path) is not None:
        raise UnsupportedError(
            f"{path} has Keras' names, and `vledge {command}` takes torch's: `vledge convert "
            f"{path} layers.safetensors` writes its recurrent layers under these"
        )
