"""A recurrent layer with a session's calls, so that `vledge run` takes files of weights, too."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from vledge import nn
from vledge.graph.session import NodeArg
from vledge.layer_file import load_layer
from vledge.model.definition import Graph, Model, ValueInfo
from vledge.nn.recurrent import RecurrentBase

__all__ = ["LayerSession"]


class LayerSession:
    """The layer's ``x``, ``h_0`` and ``c_0`` in, ``output``, ``h_n`` and ``c_n`` out."""

    def __init__(self, path: str, name: str | None) -> None:
        layer = self._layer = load_layer(path, name)
        self._type = "double" if layer.dtype == np.float64 else "float"
        axes = ["batch", "time"] if layer.batch_first else ["time", "batch"]
        self._x = ValueInfo("x", self._type, (*axes, layer.input_size))
        one = isinstance(layer, RecurrentBase)  # a stack of different ones keeps a list of states
        self._states = [["h"], ["h", "c"]][isinstance(layer, nn.LSTM)] if one else []
        print(
            f"vledge: note: of {path} the layer {layer!r} runs by itself, on x "
            f"[{', '.join(map(str, self._x.shape or ()))}]",
            file=sys.stderr,
        )

    @property
    def model(self) -> Model:
        """A graph without nodes, which says what goes in."""
        return Model(Graph([], [self._x], [], {}, ""), {})

    def get_inputs(self) -> list[NodeArg]:
        """``x``."""
        return [NodeArg("x", f"tensor({self._type})", list(self._x.shape or ()))]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initial states, which are zeros where they are not given."""
        return [NodeArg(f"{s}_0", f"tensor({self._type})", [None] * 3) for s in self._states]

    def get_outputs(self) -> list[NodeArg]:
        """The output of all steps, and the final states."""
        names = ["output", *(f"{state}_n" for state in self._states)]
        return [NodeArg(name, f"tensor({self._type})", [None] * 3) for name in names]

    def run(self, output_names: None, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the layer; ValueError for states of which some are missing."""
        given = [feed.get(f"{state}_0") for state in self._states]
        if any(g is None for g in given) and not all(g is None for g in given):
            raise ValueError("--input: h_0 and c_0 are given together or not at all")
        if not given or given[0] is None:
            hx = None
        else:
            hx = given[0] if len(given) == 1 else tuple(given)
        output, states = self._layer(feed["x"], hx)
        finals = states if isinstance(states, tuple) else (states,)
        return [output, *finals[: len(self._states)]]
