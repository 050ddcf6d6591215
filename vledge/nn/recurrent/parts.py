"""Recurrent layers made of others, where no one RNN, GRU or LSTM of torch's form can be them.

`RecurrentStack` runs layers of any widths one upon another, `Bidirectional` two of any widths side
by side. Both are called as a recurrent layer is; the numbers come from the layers in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from vledge.budget import Limits
from vledge.nn.module import Module
from vledge.nn.recurrent.base import RecurrentBase
from vledge.packing import is_packed
from vledge.packing.sequence import Output, Sequences
from vledge.recurrent.states import AnyState, GivenState

if TYPE_CHECKING:
    from vledge.formats.keras.recurrent import Config
    from vledge.lengths.semantics import Semantics

__all__ = ["Bidirectional", "RecurrentParts", "RecurrentStack"]

#: A recurrent layer, or one made of such.
Part: TypeAlias = "RecurrentBase | RecurrentParts"


class RecurrentParts(Module):
    """What RecurrentStack and Bidirectional share: parts that are alike in their axes and dtype."""

    def __init__(self, named: Mapping[str, Part]) -> None:
        super().__init__()
        for name, part in named.items():
            if not isinstance(part, (RecurrentBase, RecurrentParts)):
                raise TypeError(
                    f"{type(self).__name__}: {name} is a {type(part).__name__}, expected an RNN, "
                    "GRU, LSTM or IndRNN, or a RecurrentStack or Bidirectional of these"
                )
            self.add_module(name, part)
        first = next(iter(named))
        for name, part in named.items():
            for what in ("batch_first", "dtype"):
                if getattr(part, what) != (own := getattr(named[first], what)):
                    raise ValueError(
                        f"{type(self).__name__}: {name} has {what}={getattr(part, what)}, "
                        f"{first} has {own}"
                    )

    def children(self) -> Iterator[Part]:
        """The parts."""
        return cast("Iterator[Part]", super().children())

    @property
    def _first(self) -> Part:
        return next(self.children())

    @property
    def input_size(self) -> int:
        """Features of the input."""
        size: int = self._first.input_size
        return size

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return sum(self.direction_sizes)

    @property
    def direction_sizes(self) -> tuple[int, ...]:
        """Features of the output that each direction gives: one number, or two."""
        raise NotImplementedError

    @property
    def bidirectional(self) -> bool:
        """Whether the output holds two directions."""
        return len(self.direction_sizes) == 2

    @property
    def batch_first(self) -> bool:
        """Whether inputs and outputs are ``[B, T, features]``; states never are."""
        first: bool = self._first.batch_first
        return first

    @property
    def dtype(self) -> np.dtype:
        """Of inputs, outputs and states."""
        dtype: np.dtype = self._first.dtype
        return dtype

    @property
    def backwards(self) -> bool:
        """Whether a part begins at a sequence's end."""
        return any(part.backwards for part in self.children())

    def turn(self) -> None:
        """As `RecurrentBase.turn`, every part."""
        for part in self.children():
            part.turn()

    @property
    def nbytes(self) -> int:
        """Bytes that the weights take, laid out for the kernels; 0 before they are loaded."""
        return sum(part.nbytes for part in self.children())

    def flatten_parameters(self) -> None:
        """Nothing to do: weights are laid out for the kernels when they are loaded."""

    def zero_state(self, sequences: int) -> tuple[AnyState, ...]:
        """What ``hx=None`` stands for with so many sequences."""
        return tuple(part.zero_state(sequences) for part in self.children())

    def states(self, hx: GivenState) -> Sequence[GivenState]:
        """``hx`` as one state for each part, each None for None; TypeError if it is not that."""
        count = len(self._modules)
        if hx is None:
            return [None] * count
        if not isinstance(hx, (tuple, list)) or len(hx) != count:
            given = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else type(hx).__name__
            raise TypeError(
                f"{type(self).__name__}: hx must be a list of {count} states, one for each of "
                f"{', '.join(self._modules)}; got {given}"
            )
        return hx


class RecurrentStack(RecurrentParts):
    """Recurrent layers of any kinds and widths, each one's output the next one's input.

    ``RecurrentStack(nn.LSTM(3, 8), nn.LSTM(8, 5), …)``; names are "0", "1", …, so that the weights
    are ``0.weight_ih_l0`` and so on. It is called as its layers are, in all of their ways, and
    ``hx`` is a list with one layer's state an item. Source: keras.layers.StackedRNNCells.

    Raises TypeError for what is no recurrent layer, ValueError for layers whose sizes do not follow
    one another, or of which some are ``batch_first`` or float64 and some are not.

    >>> stack = RecurrentStack(nn.GRU(3, 8), nn.GRU(8, 5))  # doctest: +SKIP
    >>> y, (h_0, h_1) = stack(x)  # x [T, B, 3] -> [T, B, 5], [1, B, 8], [1, B, 5]  # doctest: +SKIP
    """

    def __init__(self, *layers: Part) -> None:
        if not layers:
            raise ValueError("RecurrentStack: no layers are given")
        super().__init__({str(place): layer for place, layer in enumerate(layers)})
        for place, (below, layer) in enumerate(pairwise(layers)):
            if layer.input_size != below.output_size:
                raise ValueError(
                    f"RecurrentStack: layer {place + 1} takes {layer.input_size} features, layer "
                    f"{place} gives {below.output_size}"
                )

    @classmethod
    def from_keras(
        cls,
        path: str | os.PathLike[str],
        layer: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        limits: Limits | None = None,
        **options: object,
    ) -> RecurrentStack:
        """As `nn.LSTM.from_keras`, of layers and cells of any kinds; always a RecurrentStack.

        There is one layer in it for each layer or cell of Keras', or one alone, of several
        ``num_layers``, that can be all of them. ``layer`` may be None in a file of one recurrent
        layer.
        """
        from vledge.nn.recurrent.keras import layers_from_keras

        return cls(*layers_from_keras(path, None, layer, config, options, limits))

    @property
    def direction_sizes(self) -> tuple[int, ...]:
        """The last layer's."""
        sizes: tuple[int, ...] = self[-1].direction_sizes
        return sizes

    def __getitem__(self, index: int | slice) -> Part:
        layers = list(self.children())
        return RecurrentStack(*layers[index]) if isinstance(index, slice) else layers[index]

    def __iter__(self) -> Iterator[Part]:
        return self.children()

    def __len__(self) -> int:
        return len(self._modules)

    def forward(
        self,
        input: Sequences,
        hx: GivenState = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        strategy: str | None = None,
        semantics: str | Semantics | None = None,
        **options: Any,
    ) -> tuple[Output, list[AnyState]]:
        """Run whole sequences; the keywords are those of :func:`vledge.lengths.run`.

        Parameters
        ----------
        input : as a layer's: ndarray [T, B, input_size], or [B, T, input_size] with batch_first, or
                [T, input_size] unbatched; or PackedSequence; or a list of ndarray [L, input_size]
        hx : list of the layers' states, or None for zeros; an item may be None, too

        Returns
        -------
        output : as input, with output_size features
        hx : list of the layers' final states, each in the form that the layer gives it

        Raises
        ------
        As the layers do; TypeError for another number of states than there are layers.
        """
        states, last = [], len(self) - 1
        for place, (layer, state) in enumerate(zip(self, self.states(hx), strict=True)):
            rules = semantics if place == last else _between(semantics)
            input, final = layer(
                input,
                state,
                lengths=lengths,
                mask=mask,
                strategy=strategy,
                semantics=rules,
                **options,
            )
            states.append(final)
        return cast("Output", input), states

    def step(self, x: np.ndarray, state: GivenState = None) -> tuple[np.ndarray, list[AnyState]]:
        """One time step: ``x [B, input_size]``, ``state`` as ``hx`` -> ``(y [B, output_size],
        state)``. Arrays must be C-contiguous and of the layers' dtype; the state given is not
        changed. Raises ValueError where a layer runs backwards."""
        states = []
        for layer, own in zip(self, self.states(state), strict=True):
            x, final = layer.step(x, own)
            states.append(final)
        return x, states


class Bidirectional(RecurrentParts):
    """Two recurrent layers over one input, the second from each sequence's end to its beginning.

    ``Bidirectional(nn.LSTM(3, 8), nn.LSTM(3, 5))`` gives 13 features: the first layer's output and
    beside it the second's, in the order of the input. ``backward_layer`` is turned round for good
    (`RecurrentBase.turn`). ``hx`` is a list of the two states. Where both are of one kind and width
    a layer's own ``bidirectional=True`` is the same, and faster. Source: keras.layers.Bidirectional
    with ``merge_mode="concat"``.

    Raises TypeError for what is no recurrent layer, ValueError for layers that run backwards
    already, or that differ in input_size, batch_first or dtype.
    """

    def __init__(self, forward_layer: Part, backward_layer: Part) -> None:
        super().__init__({"forward_layer": forward_layer, "backward_layer": backward_layer})
        for name, part in self.named_children():
            if part.backwards:
                raise ValueError(f"Bidirectional: {name} has a direction that runs backwards")
        if forward_layer is backward_layer:
            raise ValueError("Bidirectional: both directions are one object")
        if forward_layer.input_size != backward_layer.input_size:
            raise ValueError(
                f"Bidirectional: forward_layer takes {forward_layer.input_size} features, "
                f"backward_layer {backward_layer.input_size}"
            )
        backward_layer.turn()

    @property
    def direction_sizes(self) -> tuple[int, ...]:
        """Features that the forward direction gives, and the backward one."""
        return tuple(part.output_size for part in self.children())

    def forward(
        self,
        input: Sequences,
        hx: GivenState = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        strategy: str | None = None,
        semantics: str | Semantics | None = None,
        **options: Any,
    ) -> tuple[Output, list[AnyState]]:
        """Run whole sequences; arguments and results as `RecurrentStack.forward`'s, of two layers.

        Where no data are, the output is zero: Keras' rule for two directions, too. ValueError for
        ``semantics`` that ask for other fill or for the reverse half as it was computed.
        """
        if lengths is not None or mask is not None or strategy is not None:
            options["zero_output_for_mask"] = True
        if not isinstance(semantics, (str, type(None))) and (
            semantics.fill != "zero" or semantics.order != "original"
        ):
            raise ValueError(
                'Bidirectional: semantics must have fill="zero" and order="original", got '
                f"fill={semantics.fill!r} and order={semantics.order!r}"
            )
        results = [
            part(
                input,
                state,
                lengths=lengths,
                mask=mask,
                strategy=strategy,
                semantics=semantics,
                **options,
            )
            for part, state in zip(self.children(), self.states(hx), strict=True)
        ]
        (ahead, *_), (back, *_) = results
        return _side_by_side(ahead, back), [state for _, state in results]

    def step(self, x: np.ndarray, state: GivenState = None) -> NoReturn:
        """Raises ValueError: the second direction begins at the end."""
        raise ValueError(
            "Bidirectional needs the whole sequence; step() runs layers of one direction"
        )


def _between(semantics: str | Semantics | None) -> str | Semantics | None:
    """The rules for a layer whose output is the next one's input: never in another order."""
    if isinstance(semantics, (str, type(None))) or semantics.order == "original":
        return semantics
    from dataclasses import replace  # a Semantics is one, and has imported them

    return replace(semantics, order="original")


def _side_by_side(ahead: Any, back: Any) -> Output:
    """Two outputs of one form as one, with the features of both."""
    if is_packed(ahead):
        return ahead._replace(data=np.concatenate([ahead.data, back.data], 1))
    if isinstance(ahead, list):
        return [np.concatenate(pair, 1) for pair in zip(ahead, back, strict=True)]
    return np.concatenate([ahead, back], -1)
