"""A recurrent layer over a window of sequences, in packed batches of similar length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from vledge.lengths import last_output
from vledge.nn.recurrent import RecurrentBase
from vledge.packing import PackedSequence
from vledge.planning.shapes import shapes_of
from vledge.recurrent.states import State, arrays_of
from vledge.scoring.models.batches import PackedBatches
from vledge.scoring.tables.columns import Wanted
from vledge.scoring.tables.outputs import Output, Results
from vledge.scoring.tables.ragged import Ragged

__all__ = ["LayerRunner"]

_STATES: Final = {"h_n": 0, "c_n": 1}


class LayerRunner:
    """Outputs: ``last``, what the last layer gives at each sequence's end, both directions side by
    side; ``output``, what it gives at each step; ``h_n`` and ``c_n``, the final states of all
    layers ``[num_layers * D, width]``."""

    def __init__(self, layer: RecurrentBase) -> None:
        self.layer = layer
        self.steps = None  # of any number
        self.wanted = Wanted("x", np.dtype(layer.dtype), layer.input_size)
        self._sizes = layer.direction_sizes
        self._batches = PackedBatches(shapes_of(layer))

    def outputs(self) -> dict[str, Output]:
        """All that there are; the first is what is taken if nothing is asked for."""
        layer = self.layer
        dtype, width = self.wanted.dtype, sum(self._sizes)
        outputs = [
            Output("last", "row", (width,), dtype),
            Output("output", "step", (width,), dtype),
        ]
        if isinstance(layer, RecurrentBase):
            for name, (count, _, size) in zip(_STATES, layer.shape.state_shapes(1), strict=False):
                outputs.append(Output(name, "row", (count, size), dtype))
        return {output.name: output for output in outputs}

    def batches(
        self, ragged: Ragged, rows: np.ndarray, memory: int, names: Mapping[str, object]
    ) -> Iterator[np.ndarray]:
        """Which rows run together."""
        return self._batches(ragged.lengths, rows, memory)

    def run(self, ragged: Ragged, places: np.ndarray, results: Mapping[str, Results]) -> None:
        """Run some rows, the longest first, and put what is asked for where it belongs."""
        wants_steps = "output" in results
        output: PackedSequence | None
        if isinstance(self.layer, RecurrentBase):  # where they lie, without a copy
            output, state = self.layer.stack.run_in_place(
                ragged.values, ragged.starts[places], ragged.lengths[places], wants_steps
            )
            last = self._last(state)
        else:
            output, state = self.layer(ragged.packed(places))
            forward, both = self._sizes[0], len(self._sizes) == 2
            last = last_output(output, bidirectional=both, forward_size=forward)
        for name, target in results.items():
            if name == "output":
                assert output is not None
                target.put_packed(places, output)
            elif name == "last":
                target.put_rows(places, last)
            else:
                target.put_rows(places, arrays_of(state)[_STATES[name]].swapaxes(0, 1))

    def _last(self, state: State) -> np.ndarray:
        h = arrays_of(state)[0][-len(self._sizes) :]
        return h.swapaxes(0, 1).reshape(h.shape[1], -1)

    def digest(self) -> str:
        """Of the layer's kind, sizes and weights."""
        digest = hashlib.sha256(repr(self.layer).encode())
        for name, array in self.layer.state_dict().items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
