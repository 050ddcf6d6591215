"""What RNN, GRU, LSTM and IndRNN share: torch's arguments and words around a stack that runs.

What computes, and holds the weights once, laid out for the kernels, is `vledge.recurrent.stack`;
``state_dict()`` and attributes unpack them. It has more than 400 lines, a third of which say what
arguments mean that torch's users, ONNX and Keras files bring.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.budget import Limits
from vledge.lengths.model_strategy import MODEL_STRATEGY
from vledge.nn.dtype import DType, float_dtype, require_cpu
from vledge.nn.module import Module
from vledge.nn.parameter import IncompleteError, UnloadedError
from vledge.packing import is_packed, validated
from vledge.packing.pack import refuse_empty
from vledge.packing.sequence import Output, Sequences
from vledge.recurrent.cells import CELLS
from vledge.recurrent.directions import direction_of, stack_of
from vledge.recurrent.inputs import checked_features, checked_packed, checked_sequences
from vledge.recurrent.nonlinearity import Nonlinearity, written
from vledge.recurrent.recognize import read_stack
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.states import GivenState, State, arrays_of, checked, like
from vledge.weights.plain import PlainWeights, plain_name

if TYPE_CHECKING:
    from vledge._ext.weights import Direction
    from vledge.formats.keras.recurrent import Config
    from vledge.lengths.semantics import Semantics
    from vledge.recurrent.dynamic import DynamicDirection
    from vledge.recurrent.stack import Stack

__all__ = ["RecurrentBase"]


#: h_0 and c_0 as callers give them
Pair: TypeAlias = tuple[ArrayLike | None, ArrayLike | None]

_Layer = TypeVar("_Layer", bound="RecurrentBase")


#: Each is announced by the names of its weights: more than anybody has, and some 30 ms.
MOST_LAYERS: Final = 10_000


class RecurrentBase(Module):
    """What RNN, LSTM and GRU share. Source: torch.nn.modules.rnn.RNNBase."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: object = None,
        dtype: DType = None,
        activations: tuple[Nonlinearity, ...] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in sizes.items():
            if not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if hidden_size <= 0:
            raise ValueError(f"hidden_size must be greater than zero, got {hidden_size}")
        if num_layers <= 0:
            raise ValueError(f"num_layers must be greater than zero, got {num_layers}")
        if num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers is {num_layers}, at most {MOST_LAYERS:,} can be had")
        if not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1]")
        if proj_size < 0:
            raise ValueError(
                "proj_size should be a positive integer or zero to disable projections"
            )
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        require_cpu(device)
        self.input_size = int(input_size)
        self.hidden_size = int(hidden_size)
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._cell = CELLS[cell]
        self._activations = activations
        self._turned = False
        self._dtype = float_dtype(dtype)
        self._stack: Stack | None = None
        for suffix, layer_input in self._suffixes():
            for name, shape in self._shapes(layer_input).items():
                self.declare(f"{name}_{suffix}", shape, self._dtype, small=len(shape) == 2)

    # ---- weights

    @property
    def shape(self) -> LayerShape:
        """The layer's sizes, known before its weights are."""
        return LayerShape(
            self._cell.kind.key,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bidirectional,
            self.proj_size,
            self._dtype.itemsize,
            self._turned,
            "" if self._stack is None else self._stack.shape.storage,
        )

    @property
    def stack(self) -> Stack:
        """The weights laid out for the kernels, and what runs them.

        Raises RuntimeError where none are loaded.
        """
        if self._stack is None:
            raise UnloadedError(self)
        return self._stack

    def _suffixes(self) -> Iterator[tuple[str, int]]:
        """(``l0``, ``l0_reverse``, ``l1``, …) with the input size of each."""
        for layer, layer_input in enumerate(self.shape.layer_inputs):
            for reverse in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                yield f"l{layer}{reverse}", layer_input

    def _shapes(self, layer_input: int) -> dict[str, tuple[int, ...]]:
        return self._cell.kind.shapes(layer_input, self.hidden_size, self.bias, self.proj_size)

    def _own_state(self) -> dict[str, np.ndarray]:
        if self._stack is None:
            return {}
        return {name: self._stored(name) for name in self._declared}

    def _array(self, name: str) -> np.ndarray:
        return np.asarray(self._stored(name))

    def _stored(self, name: str) -> Any:
        """A weight as it is held, a SmallMatrix where that is small."""
        kind, _, suffix = name.rpartition("_l")
        layer, _, reverse = suffix.partition("_")
        direction = self.stack.layers[int(layer)][1 if reverse else 0]
        return direction.stored(kind) if kind.startswith("weight") else getattr(direction, kind)()

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None:
        if len(arrays) < len(self._declared):
            missing = [name for name in self._declared if name not in arrays]
            if self._stack is None:
                raise IncompleteError(self, missing)
            arrays = {**self._own_state(), **arrays}
        layers: list[list[Direction | DynamicDirection]] = [[] for _ in range(self.num_layers)]
        for suffix, layer_input in self._suffixes():
            names = self._shapes(layer_input)
            parts: dict[str, Any] = {name: arrays[f"{name}_{suffix}"] for name in names}
            number, _, reverse = suffix.removeprefix("l").partition("_")
            layers[int(number)].append(
                direction_of(
                    self._cell.name, parts, self._turned or bool(reverse), self._activations
                )
            )
        self._stack = stack_of(layers)
        self._dtype = self._stack.shape.dtype

    @property
    def storage(self) -> str:
        """What the weights are held as: "float32" or "float64", or by :func:`vledge.quantize`
        "int8", "int8-fast" or "int16"."""
        return self.shape.storage or self._dtype.name

    @property
    def backwards(self) -> bool:
        """Whether a direction begins at a sequence's end: bidirectional layers, those turned."""
        return self.bidirectional or self._turned

    def turn(self) -> None:
        """Run from each sequence's end to its beginning from now on, as the second direction of a
        bidirectional layer does; outputs stay in the order of the input.

        Raises ValueError for a layer that has such a direction already.
        """
        if self.backwards:
            raise ValueError(f"{type(self).__name__} has a direction that runs backwards already")
        self._turned = True
        if self._stack is not None:
            self._load_own(self._own_state())

    @property
    def direction_sizes(self) -> tuple[int, ...]:
        """Features of the output that each direction gives: one number, or two."""
        return (self.shape.width,) * self.shape.directions

    @property
    def output_size(self) -> int:
        """Features of the output, of both directions together."""
        return self.shape.output_size

    @property
    def dtype(self) -> np.dtype:
        """Of inputs, outputs and states."""
        return self._dtype

    def flatten_parameters(self) -> None:
        """Nothing to do: weights are laid out for the kernels when they are loaded."""

    @property
    def nbytes(self) -> int:
        """Bytes that the weights take, laid out for the kernels; 0 before they are loaded."""
        return 0 if self._stack is None else self._stack.nbytes

    @classmethod
    def from_onnx(
        cls: type[_Layer],
        path: str | os.PathLike[str] | bytes,
        node: str | Sequence[str] | None = None,
        *,
        limits: Limits | None = None,
    ) -> _Layer:
        """Build the layer from a recurrent node of an ONNX model, without the rest of its graph.

        ``node`` is the node's name or one of its outputs', or a list of them for a stack of layers
        (exporters write one node a layer), or None if the graph has only one of this kind. Names
        are those in the file, whether or not anything uses the node; a cell that an exporter took
        apart is found by the name that ``vledge inspect`` gives it. Weights that the graph puts
        together from constants are found. Shapes are torch's: ``layout=1``
        makes a ``batch_first`` layer, whose states stay layer-first. ``limits`` are what the file
        may cost.

        Raises ValueError if there is no such node, UnsupportedError if torch's layer cannot be it:
        only reverse, clip, peepholes, other activations, weights of integers.
        ``linear_before_reset=0`` makes a GRU with ``reset_after=False``.
        """
        from vledge.graph.layers import layer_weights

        weights, options = layer_weights(path, cls.__name__, node, limits)
        return cls.from_weights(weights, **options)  # type: ignore[attr-defined]

    @classmethod
    def from_keras(
        cls,
        path: str | os.PathLike[str],
        layer: str | Sequence[str] | None = None,
        *,
        config: Config | None = None,
        limits: Limits | None = None,
        **options: object,
    ) -> Any:
        """Build the layer from a recurrent layer of Keras' ``.keras``, ``.weights.h5`` or ``.h5``.

        ``layer`` is the layer's name in Keras (or of the wrapper that it alone is in, or its group
        in the file), or a list of them for a stack of layers, or None if the file has only one of
        this kind. ``Bidirectional`` around it makes a bidirectional layer, ``RNN([cells])`` one of
        several layers; weights of CuDNNLSTM and CuDNNGRU are converted. The result gives the whole
        output and the final states, whatever ``return_sequences`` and ``return_state`` say.

        Layers or cells of different widths or arguments, which no one layer of torch's form can be,
        make a :class:`vledge.nn.RecurrentStack` of one layer each, and a ``Bidirectional`` whose
        directions differ, or are stacks of cells, a :class:`vledge.nn.Bidirectional`: both are
        called as a layer is, with a list of states. Cells of different kinds are
        `RecurrentStack.from_keras`'s.

        A file of weights alone does not tell the layer's arguments. Those are taken from
        ``config``: the model's JSON, a ``.keras`` or ``.h5`` file of the whole model, or a dict; or
        from the one of these that lies beside the file, with its name or as the only one. Where
        there is none they can be said in Keras' words, ``activation``, ``recurrent_activation``,
        ``reset_after``, ``go_backwards``, ``merge_mode``; for the rest the defaults of the Keras
        that wrote the file are taken, and a UserWarning names them. ``limits`` are what reading
        each of the files may cost. Other ``options`` are
        `from_weights`'s: ``dtype``, and ``batch_first``, True if not given, as in Keras.

        Raises FormatError for a broken or other file, ValueError if there is no such layer or an
        option is missing or contradicts the file, UnsupportedError for what is not run:
        ``go_backwards``, other merge modes, other activations than GRU's, classes of the author's
        own. Needs h5py (MissingDependencyError).
        """
        from vledge.nn.recurrent.keras import from_keras

        return from_keras(path, cls.__name__, layer, config, options, limits)

    @classmethod
    def _from_weights(
        cls, cell: str, weights: Mapping[str, np.ndarray], prefix: str, options: dict[str, Any]
    ) -> Any:
        weights, prefix = PlainWeights.of(weights), plain_name(prefix)
        recognized = read_stack(weights, prefix, CELLS[cell].kind, cls.__name__)
        if options.get("dtype") is None:
            options["dtype"] = recognized.dtype
        layer = cls(**recognized.sizes, **options)
        layer.load_state_dict({name: weights[prefix + name] for name in layer._declared})
        return layer

    # ---- running

    def __call__(
        self,
        input: Sequences,
        hx: GivenState = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        strategy: str | None = None,
        semantics: str | Semantics | None = None,
        **options: Any,
    ) -> Any:
        """Run whole sequences: ``forward(input, hx)``, or by a strategy for their lengths.

        With ``lengths`` [B], a ``mask`` [B, T] or a ``strategy`` this is
        :func:`vledge.lengths.run`, which says what the keywords mean. Inside of a model that was
        called with a strategy, that one holds where none is given here.
        """
        if strategy is None:
            asked = MODEL_STRATEGY.get()
            if asked is not None and (
                lengths is not None or mask is not None or isinstance(input, (list, tuple))
            ):
                return asked.run(
                    self, input, hx, lengths=lengths, mask=mask, semantics=semantics, **options
                )
        if lengths is None and mask is None and strategy is None:
            if semantics is not None or options:
                from vledge.lengths.running import misplaced

                given = [*(["semantics"] if semantics is not None else []), *options]
                raise TypeError(misplaced(given))
            return self.forward(input, hx)
        # imported by who has lengths: a stream on a board has none
        from vledge.lengths import run

        ways = {"lengths": lengths, "mask": mask, "semantics": semantics, **options}
        return run(self, input, hx, strategy=strategy, **ways)

    def zero_state(self, sequences: int) -> State:
        """What ``hx=None`` stands for with so many sequences."""
        return self.shape.zero_state(sequences)

    def _run(self, input: Sequences, hx: GivenState) -> tuple[Output, Any]:
        """(output, final state) where the compiled call does not take it: other forms of input,
        arrays that lie otherwise in memory, and all that is an error."""
        stack = self.stack
        if is_packed(input):
            packed = checked_packed(stack.shape, validated(input))
            return stack.run(packed, checked(stack.shape, hx, int(packed.batch_sizes[0])))
        if isinstance(input, (list, tuple)):
            sequences, lengths = checked_sequences(stack.shape, input)
            refuse_empty(lengths)
            return stack.run_list(sequences, lengths, checked(stack.shape, hx, len(sequences)))
        input = array_of(input, "input")
        if input.dtype == stack.shape.dtype and input.ndim not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead"
            )
        input = checked_features(stack.shape, input, "input")
        states = self._split(hx)
        if input.ndim == 2:
            h_0, c_0 = (_batched(s, n) for s, n in zip(states, ("h_0", "c_0"), strict=True))
            output, final = self._run_batch(stack, input[:, None], self._joined(h_0, c_0), False)
            return output[:, 0], like(final, [state[:, 0] for state in arrays_of(final)])
        for state, name in zip(states, ("hx", "cx"), strict=True):
            if state is not None and np.ndim(state) != 3:
                raise RuntimeError(
                    f"For batched 3-D input, {name} should also be 3-D but got "
                    f"{np.ndim(state)}-D tensor"
                )
        return self._run_batch(stack, input, self._joined(*states), self.batch_first)

    def _run_batch(
        self, stack: Stack, input: np.ndarray, hx: GivenState, batch_first: bool
    ) -> tuple[np.ndarray, State]:
        """``[T, B, input_size]``, or batch first, all sequences of T steps."""
        sequences, steps = input.shape[:2] if batch_first else input.shape[1::-1]
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        hx = checked(stack.shape, hx, sequences)
        if sequences == 0:
            shape = (*input.shape[:2], stack.shape.output_size)
            return np.empty(shape, stack.shape.dtype), stack.zero_state(0)
        return stack.run_padded(input, None, hx, batch_first)

    def _split(self, hx: GivenState) -> Pair:
        """(h_0, c_0) of the argument ``hx``."""
        return cast("ArrayLike | None", hx), None

    def _joined(self, h_0: ArrayLike | None, c_0: ArrayLike | None) -> GivenState:
        """The other way round."""
        return h_0

    def extra_repr(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        if self.proj_size:
            parts.append(f"proj_size={self.proj_size}")
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        if not self.bias:
            parts.append("bias=False")
        if self.batch_first:
            parts.append("batch_first=True")
        if self.bidirectional:
            parts.append("bidirectional=True")
        if self._turned:
            parts.append("turned")
        cell = self._cell.name
        if cell in ("rnn_relu", "indrnn_tanh"):  # not the class's default
            parts.append(f"nonlinearity='{cell.rpartition('_')[2]}'")
        names = ("nonlinearity",) if cell == "rnn" else ("recurrent_activation", "activation")
        for name, choice in zip(names, self._activations or (), strict=False):
            if choice[0] != {"activation": "tanh", "recurrent_activation": "sigmoid"}.get(name):
                parts.append(f"{name}={written(choice)!r}")
        if cell == "gru_reset_before":
            parts.append("reset_after=False")
        small = self._stack is not None and self._stack.shape.storage
        parts.append("no weights" if self._stack is None else f"{self.nbytes:,} bytes")
        if small:
            parts[-1] += f" as {small}"
        return ", ".join(parts)


def _batched(state: ArrayLike | None, name: str) -> np.ndarray | None:
    """A state of an unbatched input as that of a batch of one."""
    if state is None:
        return None
    if np.ndim(state) != 2:
        raise RuntimeError(
            f"For unbatched 2-D input, {name} should also be 2-D but got {np.ndim(state)}-D tensor"
        )
    return array_of(state, name, stack=True)[:, None]
