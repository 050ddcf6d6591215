"""A whole ONNX model as a function of a padded batch and its lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.session import InferenceSession, NodeArg
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.scoring.tables.columns import Wanted
from vledge.shown import listed
from vledge.validation.running.lengths import lengths_input

__all__ = ["SessionCall"]


class SessionCall:
    """The model's input of sequences, its input of lengths, if it has one, and numbers for others.

    It is pickled with the model, and opens a session of its own where it arrives.
    """

    def __init__(
        self,
        model: Model,
        input: str | None,
        fixed: Mapping[str, float],
        time_first: bool,
    ) -> None:
        """Raises ValueError where it does not follow which input takes the sequences."""
        self.model = replace(model, budget=None)
        self.session = InferenceSession(self.model)
        self.fixed = dict(fixed or {})
        inputs = {info.name: info for info in self.session.get_inputs()}
        self.lengths = lengths_input(self.model)
        if self.lengths == input or self.lengths in self.fixed:
            self.lengths = None
        info = self._sequences(inputs, input)
        self._fixed = {name: inputs[name] for name in self.fixed}
        shape = info.shape
        told = axes_from_symbols(ValueInfo(info.name, "", tuple(shape)))
        if told:
            time_first = told.get("time") == 0 or told.get("batch") == 1
        self.time_first = time_first
        batch, steps = (shape[1], shape[0]) if time_first else (shape[0], shape[1])
        self.batch = batch if isinstance(batch, int) else None  #: where the model fixes it
        self.steps = steps if isinstance(steps, int) else None
        bare = len(shape) == 2
        features = shape[2] if len(shape) == 3 and isinstance(shape[2], int) else None
        self.wanted = Wanted(info.name, _dtype(info), features, bare)
        self._lengths_info = inputs[self.lengths] if self.lengths else None

    def _sequences(self, inputs: dict[str, NodeArg], asked: str | None) -> NodeArg:
        """The input that takes the sequences, the only one that nothing else is said of."""
        for name in [*self.fixed, *([] if asked is None else [asked])]:
            if name not in inputs:
                raise ValueError(f"the model has no input {name!r}: it has {list(inputs)}")
        free = [n for n in inputs if n not in self.fixed and n != self.lengths]
        if asked is not None:
            others = [name for name in free if name != asked]
            if others:
                raise ValueError(
                    f"nothing is given for {listed(map(repr, others))}: fixed={{{others[0]!r}: "
                    "number}} gives an input a number that is the same for all sequences"
                )
            free = [asked]
        if len(free) != 1:
            raise ValueError(
                f"the model has the inputs {listed(map(repr, free)) or 'nothing is given for'}: "
                "say which one takes the sequences, input={'name': 'column'}, and give the others "
                "a number, fixed={'name': number}"
            )
        info = inputs[free[0]]
        if _dtype(info).kind not in "fiu" or len(info.shape) not in (2, 3):
            raise UnsupportedError(
                f"input {info.name!r} is {info.type} {list(info.shape)}: expected numbers "
                "[batch, time] or [batch, time, features]"
            )
        return info

    def __call__(self, x: np.ndarray, lengths: np.ndarray, names: list[str]) -> list[np.ndarray]:
        """The outputs for a batch; rows of zeros fill a batch of fixed size."""
        axis = int(self.time_first)
        count = x.shape[axis]
        if self.batch is not None and count < self.batch:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (0, self.batch - count)
            x = np.pad(x, widths)
            lengths = np.pad(lengths, (0, self.batch - count), constant_values=1)
        feed: dict[str, np.ndarray] = {self.wanted.name: x}
        if self._lengths_info is not None:
            info = self._lengths_info
            feed[info.name] = lengths.astype(_dtype(info)).reshape([-1] * len(info.shape))
        for name, info in self._fixed.items():
            shape = [s if isinstance(s, int) else x.shape[axis] for s in info.shape]
            feed[name] = np.full(shape, self.fixed[name], _dtype(info))
        return self.session.run(names, feed)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "session"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.session = InferenceSession(self.model)


def _dtype(info: NodeArg) -> np.dtype:
    """Of an input's elements; one that holds no numbers where it is no plain tensor."""
    kind = info.type.removeprefix("tensor(").removesuffix(")")
    return DTYPES.get(kind, np.dtype(np.object_))
