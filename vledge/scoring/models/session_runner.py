"""A whole ONNX model over a window of sequences, in padded batches, or in batches of one length."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping

import numpy as np

from vledge.model.definition import Model
from vledge.scoring.models.batches import PADDED_ROWS, equal_batches, padded_batches
from vledge.scoring.models.probing import Probed, probed
from vledge.scoring.models.session_call import SessionCall
from vledge.scoring.tables.outputs import Output, Results
from vledge.scoring.tables.ragged import Ragged

__all__ = ["SessionRunner"]


class SessionRunner:
    """Outputs: the model's own, as far as they have an axis for the batch, and ``name:last``, the
    last step of one that has steps.

    Sequences of different lengths are padded together where trying it has shown that the results
    are those of each sequence alone; else those of one length run together.
    """

    def __init__(
        self,
        model: Model,
        input: str | None = None,
        fixed: Mapping[str, float] | None = None,
        time_first: bool = False,
    ) -> None:
        """``fixed`` are numbers for inputs that are the same for all sequences.

        Raises ValueError where it does not follow which input takes the sequences.
        """
        self.call = SessionCall(model, input, fixed or {}, time_first)
        self.wanted, self.steps = self.call.wanted, self.call.steps
        self._probed: dict[str, Probed] = probed(self.call)

    # ---- what it gives

    def outputs(self) -> dict[str, Output]:
        """All that have an axis for the batch, in the model's order."""
        return {name: one.output for name, one in self._probed.items()}

    def pads(self, names: Mapping[str, object]) -> bool:
        """Whether sequences of different lengths may be padded together for these outputs."""
        return all(self._probed[name].pads for name in names)

    def batches(
        self, ragged: Ragged, rows: np.ndarray, memory: int, names: Mapping[str, object]
    ) -> Iterator[np.ndarray]:
        """Which rows run together."""
        nbytes = self.wanted.dtype.itemsize * (self.wanted.features or 1)
        nbytes += sum(one.output.nbytes for one in self._probed.values())
        most = PADDED_ROWS if self.call.batch is None else self.call.batch
        cut = padded_batches if self.pads(names) else equal_batches
        return cut(ragged.lengths, rows, nbytes, memory, most)

    # ---- running

    def run(self, ragged: Ragged, places: np.ndarray, results: Mapping[str, Results]) -> None:
        """Run some rows, the longest first, and put what is asked for where it belongs."""
        lengths = ragged.lengths[places]
        steps = self.steps or int(lengths[0])
        x = ragged.padded(places, steps, self.call.time_first)
        sources = list(dict.fromkeys(self._probed[name].source for name in results))
        arrays = dict(zip(sources, self.call(x, lengths, sources), strict=True))
        for name, target in results.items():
            one = self._probed[name]
            values = one.in_order(arrays[one.source])[: len(places)]
            if one.last:
                target.put_rows(places, values[np.arange(len(places)), lengths - 1])
            elif target.output.per == "row":
                target.put_rows(places, values)
            else:
                target.put_padded(places, values)

    # ---- elsewhere

    def digest(self) -> str:
        """Of the model and of the numbers that its inputs are given."""
        call = self.call
        digest = hashlib.sha256(
            repr((sorted(call.fixed.items()), call.time_first, self.wanted.name)).encode()
        )
        digest.update(pickle.dumps(call.model.graph.nodes, 4))
        for name, array in call.model.graph.initializers.items():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(
                pickle.dumps(array.tolist()) if array.dtype.hasobject else array.tobytes()
            )
        return digest.hexdigest()
