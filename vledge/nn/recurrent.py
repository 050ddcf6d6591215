"""RNN, LSTM and GRU: stacked layers over padded or packed sequences, as in torch.

This module checks arguments and orders states; the numbers come from ``vledge._ext.recurrent``.
Weights are held once, packed for the kernels; ``state_dict()`` and attributes unpack them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vledge._ext.recurrent import run, run_padded
from vledge._ext.stack import Stack, Stepper
from vledge._ext.weights import GATES, Direction
from vledge.array_like import array_of, native
from vledge.nn.dtype import contiguous, float_dtype, require_cpu, wrong_dtype
from vledge.nn.model_strategy import MODEL_STRATEGY
from vledge.nn.module import Module
from vledge.nn.nonlinearity import Nonlinearity, nonlinearity, written
from vledge.nn.plain_weights import PlainWeights, plain_name
from vledge.nn.recognize import read_stack
from vledge.packing import (
    PackedSequence,
    by_length,
    is_packed,
    pack_sequence,
    unpack_sequence,
    validated,
)

__all__ = ["GRU", "LSTM", "RNN", "OneState"]


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
        device: Any = None,
        dtype: Any = None,
        activations: tuple[Nonlinearity, ...] | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
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
        self._cell = cell
        self._activations = activations
        self._width = proj_size or hidden_size
        self._turned = False
        self._dtype = float_dtype(dtype)
        self._layers: list[list[Direction]] | None = None
        self._stepper: Stepper | None = None
        self._stack: Stack | None = None
        for suffix, layer_input in self._suffixes():
            for name, shape in self._shapes(layer_input).items():
                self.declare(f"{name}_{suffix}", shape, self._dtype)

    # ---- weights

    def _suffixes(self) -> Iterator[tuple[str, int]]:
        """(``l0``, ``l0_reverse``, ``l1``, …) with the input size of each."""
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            layer_input = self.input_size if layer == 0 else directions * self._width
            for reverse in ("", "_reverse")[:directions]:
                yield f"l{layer}{reverse}", layer_input

    def _shapes(self, layer_input: int) -> dict[str, tuple[int, ...]]:
        rows = GATES[self._cell] * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, layer_input),
            "weight_hh": (rows, self._width),
        }
        if self.bias:
            shapes.update(bias_ih=(rows,), bias_hh=(rows,))
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def _own_state(self) -> dict[str, np.ndarray]:
        if self._layers is None:
            return {}
        return {name: self._array(name) for name in self._declared}

    def _array(self, name: str) -> np.ndarray:
        if self._layers is None:
            raise RuntimeError(self._unloaded())
        kind, _, suffix = name.rpartition("_l")
        layer, _, reverse = suffix.partition("_")
        return getattr(self._layers[int(layer)][1 if reverse else 0], kind)()

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None:
        if len(arrays) < len(self._declared):
            missing = [name for name in self._declared if name not in arrays]
            if self._layers is None:
                raise RuntimeError(
                    f"a {type(self).__name__} needs all of its weights at once; without "
                    + ", ".join(missing)
                )
            arrays = {**self._own_state(), **arrays}
        directions = []
        for suffix, layer_input in self._suffixes():
            names = self._shapes(layer_input)
            parts: dict[str, Any] = {name: arrays[f"{name}_{suffix}"] for name in names}
            reverse = self._turned or suffix.endswith("_reverse")
            directions.append(
                Direction(self._cell, **parts, reverse=reverse, activations=self._activations)
            )
        self.share(directions)

    def share(self, directions: list[Direction]) -> None:
        """Take weights that are laid out for the kernels already, for each layer one or two."""
        count = 2 if self.bidirectional else 1
        self._layers = [directions[i : i + count] for i in range(0, len(directions), count)]
        self._dtype = directions[0].dtype
        self._stack = Stack(self._layers)
        self._stepper = None if self.backwards else Stepper(directions)

    @property
    def backwards(self) -> bool:
        """Whether one of the directions begins at a sequence's end: bidirectional layers, those
        that were turned, and ONNX nodes that are only reverse."""
        if self.bidirectional or self._turned:
            return True
        return bool(self._layers and self._layers[0][0].reverse)

    def turn(self) -> None:
        """Run from each sequence's end to its beginning from now on, as the second direction of a
        bidirectional layer does; outputs stay in the order of the input.

        Raises ValueError for a layer that has such a direction already.
        """
        if self.backwards:
            raise ValueError(f"{type(self).__name__} has a direction that runs backwards already")
        self._turned = True
        if self._layers is not None:
            self._load_own(self._own_state())

    @property
    def direction_sizes(self) -> tuple[int, ...]:
        """Features of the output that each direction gives: one number, or two."""
        return (self._width,) * (2 if self.bidirectional else 1)

    @property
    def output_size(self) -> int:
        """Features of the output, of both directions together."""
        return sum(self.direction_sizes)

    @property
    def dtype(self) -> np.dtype:
        """Of inputs, outputs and states."""
        return self._dtype

    def flatten_parameters(self) -> None:
        """Nothing to do: weights are laid out for the kernels when they are loaded."""

    @property
    def nbytes(self) -> int:
        """Bytes that the weights take, laid out for the kernels; 0 before they are loaded."""
        return sum(d.nbytes for layer in self._layers or () for d in layer)

    @classmethod
    def from_onnx(
        cls, path: str | os.PathLike[str] | bytes, node: str | Sequence[str] | None = None
    ) -> Any:
        """Build the layer from a recurrent node of an ONNX model, without the rest of its graph.

        ``node`` is the node's name or one of its outputs', or a list of them for a stack of layers
        (exporters write one node a layer), or None if the graph has only one of this kind. Names
        are those in the file, whether or not anything uses the node; a cell that an exporter took
        apart is found by the name that ``vledge inspect`` gives it. Weights that the graph puts
        together from constants are found. Shapes are torch's: ``layout=1``
        makes a ``batch_first`` layer, whose states stay layer-first.

        Raises ValueError if there is no such node, UnsupportedError if torch's layer cannot be it:
        only reverse, clip, peepholes, other activations, weights of integers.
        ``linear_before_reset=0`` makes a GRU with ``reset_after=False``.
        """
        # The graph stands above the layers and is imported only by who has one.
        from vledge.graph.layers import layer_weights

        weights, options = layer_weights(path, cls.__name__, node)
        return cls.from_weights(weights, **options)  # type: ignore[attr-defined]

    @classmethod
    def from_keras(
        cls,
        path: str | os.PathLike[str],
        layer: str | Sequence[str] | None = None,
        *,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        **options: Any,
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
        that wrote the file are taken, and a UserWarning names them. Other ``options`` are
        `from_weights`'s: ``dtype``, and ``batch_first``, True if not given, as in Keras.

        Raises FormatError for a broken or other file, ValueError if there is no such layer or an
        option is missing or contradicts the file, UnsupportedError for what is not run:
        ``go_backwards``, other merge modes, other activations than GRU's, classes of the author's
        own. Needs h5py (MissingDependencyError).
        """
        # What a file may hold is more than one of these classes, and stands above them.
        from vledge.nn.keras import layers_from_keras
        from vledge.nn.recurrent_parts import RecurrentStack

        layers = layers_from_keras(path, cls.__name__, layer, config, options)
        return layers[0] if len(layers) == 1 else RecurrentStack(*layers)

    @classmethod
    def _from_weights(
        cls, cell: str, weights: Mapping[str, np.ndarray], prefix: str, options: dict[str, Any]
    ) -> Any:
        weights, prefix = PlainWeights.of(weights), plain_name(prefix)
        stack = read_stack(weights, prefix, GATES[cell], cls.__name__)
        if options.get("dtype") is None:
            options["dtype"] = stack.dtype
        layer = cls(**stack.sizes, **options)
        layer.load_state_dict({name: weights[prefix + name] for name in layer._declared})
        return layer

    # ---- running

    def __call__(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        strategy: str | None = None,
        semantics: Any = None,
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
                raise TypeError(
                    f"{', '.join(['semantics', *options])}: these go with lengths, a mask or a "
                    "strategy, and none is given"
                )
            return self.forward(input, hx)
        # The strategies stand above the layers and are imported only by who wants one.
        from vledge.lengths import run

        return run(
            self,
            input,
            hx,
            lengths=lengths,
            mask=mask,
            strategy=strategy,
            semantics=semantics,
            **options,
        )

    def zero_state(self, sequences: int) -> Any:
        """What ``hx=None`` stands for with so many sequences."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        h = np.zeros((count, sequences, self._width), self._dtype)
        lstm = self._cell == "lstm"
        c = np.zeros((count, sequences, self.hidden_size), self._dtype) if lstm else None
        return self._joined(h, c)

    def run_padded(
        self, input: np.ndarray, lengths: np.ndarray, hx: Any = None, batch_first: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Run a padded batch as it lies in memory; rows that have ended are skipped.

        Parameters
        ----------
        input : ndarray [T, B, input_size], or [B, T, input_size] with ``batch_first``
        lengths : ndarray of int64 [B], each from 0 to T
        hx : as the layer's

        Returns
        -------
        output : ndarray, as input; zeros past each sequence's end
        hx : the state at each sequence's own end; the initial state of one of length 0
        """
        if self._layers is None:
            raise RuntimeError(self._unloaded())
        rows = self._checked_input(array_of(input, "input"), "input")
        states = self._checked_states(*self._split(hx), len(lengths))
        order, batch_sizes = by_length(lengths)
        output, h_n, c_n = self._run_in_place(rows, batch_sizes, order, *states, batch_first)
        return output, self._joined(h_n, c_n)

    def _run(self, input: Any, h_0: Any, c_0: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """(output, h_n, c_n) for any form of input; states given and returned in its order."""
        if self._stack is None:
            raise RuntimeError(self._unloaded())
        usual = self._stack.run(input, h_0, c_0, self.batch_first)
        if usual is not None:
            return usual
        if is_packed(input):
            return self._run_packed(validated(input), h_0, c_0)
        if isinstance(input, (list, tuple)):
            packed = pack_sequence(self.checked_sequences(input), enforce_sorted=False)
            packed, h_n, c_n = self._run_packed(packed, h_0, c_0)
            return unpack_sequence(packed), h_n, c_n
        input = self._checked_input(array_of(input, "input"), "input")
        if input.ndim not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead"
            )
        if input.ndim == 2:
            time_axis = 0
            h_0, c_0 = (self._batched_state(s, n) for s, n in ((h_0, "h_0"), (c_0, "c_0")))
            batch_first, rows = False, input[:, None]
        else:
            batch_first, rows = self.batch_first, input
            time_axis = 1 if batch_first else 0
            for state, name in ((h_0, "hx"), (c_0, "cx")):
                if state is not None and np.ndim(state) != 3:
                    raise RuntimeError(
                        f"For batched 3-D input, {name} should also be 3-D but got "
                        f"{np.ndim(state)}-D tensor"
                    )
        steps, sequences = rows.shape[time_axis], rows.shape[1 - time_axis]
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        states = self._checked_states(h_0, c_0, sequences)
        if sequences == 0:
            shape = (*rows.shape[:2], (2 if self.bidirectional else 1) * self._width)
            return np.empty(shape, self._dtype), *self._split(self.zero_state(0))
        batch_sizes = np.full(steps, sequences, np.int64)
        output, h_n, c_n = self._run_in_place(rows, batch_sizes, None, *states, batch_first)
        if input.ndim == 2:
            return output[:, 0], h_n[:, 0], None if c_n is None else c_n[:, 0]
        return output, h_n, c_n

    def _run_in_place(
        self,
        rows: np.ndarray,
        batch_sizes: np.ndarray,
        order: np.ndarray | None,
        h_0: Any,
        c_0: Any,
        batch_first: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """A padded batch, whose r-th longest sequence is ``order[r]``."""

        def one(directions: list[Direction], data: np.ndarray, h: Any, c: Any) -> Any:
            return run_padded(directions, data, batch_sizes, order, h, c, batch_first)

        return self._run_layers(one, contiguous(rows), h_0, c_0)

    def _run_packed(
        self, packed: PackedSequence, h_0: Any, c_0: Any
    ) -> tuple[PackedSequence, np.ndarray, np.ndarray | None]:
        data = packed.data
        if data.ndim != 2:
            raise RuntimeError(
                f"input must have 2 dimensions, got {data.ndim}: a PackedSequence of "
                "[sum of lengths, features]"
            )
        data = contiguous(self._checked_input(native(data), "input"))
        batch_sizes = np.ascontiguousarray(packed.batch_sizes, np.int64)
        sequences = int(batch_sizes[0])
        h_0, c_0 = self._checked_states(h_0, c_0, sequences)
        h_0, c_0 = (_rows(s, packed.sorted_indices) for s in (h_0, c_0))

        def one(directions: list[Direction], data: np.ndarray, h: Any, c: Any) -> Any:
            return run(directions, data, batch_sizes, h, c)

        data, h_n, c_n = self._run_layers(one, data, h_0, c_0)
        h_n, c_n = (_rows(s, packed.unsorted_indices) for s in (h_n, c_n))
        return packed._replace(data=data), h_n, c_n

    def _run_layers(
        self, one: Any, data: np.ndarray, h_0: Any, c_0: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        layers = self._layers
        assert layers is not None
        if len(layers) == 1:
            return one(layers[0], data, h_0, c_0)
        h_n: list[np.ndarray] = []
        c_n: list[np.ndarray] = []
        count = len(layers[0])
        for i, directions in enumerate(layers):
            part = slice(i * count, (i + 1) * count)
            data, h, c = one(
                directions,
                data,
                None if h_0 is None else h_0[part],
                None if c_0 is None else c_0[part],
            )
            h_n.append(h)
            c_n.append(c)
        return data, np.concatenate(h_n), None if c_n[0] is None else np.concatenate(c_n)

    def _split(self, hx: Any) -> tuple[Any, Any]:
        """(h_0, c_0) of the argument ``hx``."""
        return hx, None

    def _joined(self, h_n: np.ndarray, c_n: np.ndarray | None) -> Any:
        """The other way round: a final state in the form of ``hx``."""
        return h_n

    def _step(self, x: np.ndarray, h: Any, c: Any) -> Any:
        if self._stepper is None:
            if self._layers is None:
                raise RuntimeError(self._unloaded())
            raise ValueError(
                f"a {type(self).__name__} that runs backwards needs the whole sequence; step() "
                "runs layers of one direction, forward"
            )
        return self._stepper.step(x, h, c)

    # ---- arguments

    def checked_sequences(self, sequences: Sequence[Any]) -> list[np.ndarray]:
        """A list of sequences as arrays ``[L, input_size]`` of the layer's dtype.

        Raises ValueError, TypeError or RuntimeError, as for one array, naming the one that is not.
        """
        if not len(sequences):
            raise ValueError("received an empty list of sequences")
        checked = []
        for i, given in enumerate(sequences):
            name = f"input[{i}]"
            sequence = array_of(given, name, stack=True)
            if sequence.ndim != 2:
                raise ValueError(
                    f"{name} has the shape {list(sequence.shape)}, expected [L, "
                    f"{self.input_size}]: a list holds one sequence an item; give a padded batch "
                    "as one array"
                )
            checked.append(self._checked_input(sequence, name))
        return checked

    def _checked_input(self, input: np.ndarray, name: str) -> np.ndarray:
        if input.dtype != self._dtype:
            raise ValueError(wrong_dtype(name, input.dtype, self._dtype))
        if input.ndim and input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {input.shape[-1]}"
            )
        return input

    def _batched_state(self, state: Any, name: str) -> Any:
        if state is None:
            return None
        if np.ndim(state) != 2:
            raise RuntimeError(
                f"For unbatched 2-D input, {name} should also be 2-D but got "
                f"{np.ndim(state)}-D tensor"
            )
        return array_of(state, name, stack=True)[:, None]

    def _checked_states(self, h_0: Any, c_0: Any, sequences: int) -> tuple[Any, Any]:
        if h_0 is not None:
            h_0 = self._checked_state(h_0, "h_0", "hidden[0]", sequences, self._width)
        if c_0 is not None:
            c_0 = self._checked_state(c_0, "c_0", "hidden[1]", sequences, self.hidden_size)
        return h_0, c_0

    def _checked_state(
        self, state: Any, name: str, label: str, sequences: int, width: int
    ) -> np.ndarray:
        state = array_of(state, name, stack=True)
        expected = (self.num_layers * (2 if self.bidirectional else 1), sequences, width)
        if state.shape != expected:
            if self._cell != "lstm":
                label = "hidden"
            raise RuntimeError(f"Expected {label} size {expected}, got {list(state.shape)}")
        if state.dtype != self._dtype:
            raise ValueError(wrong_dtype(name, state.dtype, self._dtype))
        return contiguous(state)

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
        if self._cell in ("rnn_relu", "indrnn_tanh"):  # not the class's default
            parts.append(f"nonlinearity='{self._cell.rpartition('_')[2]}'")
        names = ("nonlinearity",) if self._cell == "rnn" else ("recurrent_activation", "activation")
        for name, choice in zip(names, self._activations or (), strict=False):
            if choice[0] != {"activation": "tanh", "recurrent_activation": "sigmoid"}.get(name):
                parts.append(f"{name}={written(choice)!r}")
        if self._cell == "gru_reset_before":
            parts.append("reset_after=False")
        if self._layers is None:
            parts.append("no weights")
        else:
            parts.append(f"{self.nbytes:,} bytes")
        return ", ".join(parts)


class OneState(RecurrentBase):
    """RNN, GRU and IndRNN: the state is h alone."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, np.ndarray]:
        """Run whole sequences.

        Parameters
        ----------
        input : ndarray [T, B, input_size], or [B, T, input_size] with batch_first,
                or [T, input_size] unbatched; or PackedSequence, torch's too; or a list of
                ndarray [L, input_size], which runs packed
        hx : ndarray [num_layers * D, B, hidden_size], or [num_layers * D, hidden_size] unbatched,
             or None for zeros; in the caller's order of sequences

        Returns
        -------
        output : as input, with D * hidden_size features (a PackedSequence for a PackedSequence, a
                 list for a list)
        h_n : ndarray, as hx
        """
        output, h_n, _ = self._run(input, hx, None)
        return output, h_n

    def step(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One time step: ``x [B, input_size]``, ``state [num_layers, B, hidden_size]`` or None for
        zeros -> ``(y [B, hidden_size], state)``. Arrays must be C-contiguous and of the layer's
        dtype; the state given is not changed."""
        y, h, _ = self._step(x, state, None)
        return y, h


class RNN(OneState):
    """Elman network: ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, or relu.

    ``nonlinearity`` is torch's "tanh" or "relu", or another of GRU's activations.
    Weights ``weight_ih_l{k}{_reverse} [H, I]``, ``weight_hh_… [H, H]``, ``bias_ih_… [H]``,
    ``bias_hh_… [H]``. ``dropout`` is accepted and does nothing, as in ``eval()``.
    Source: torch.nn.RNN.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Any = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.nonlinearity = nonlinearity
        cell, activations = _elman(nonlinearity)
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            activations=activations,
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        nonlinearity: Any = "tanh",
        batch_first: bool = False,
        dtype: Any = None,
    ) -> RNN:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        The nonlinearity does not show in the weights and must be said where it is not tanh.
        float64 weights make a float64 layer unless ``dtype`` says otherwise.
        """
        return cls._from_weights(
            "rnn_tanh",
            weights,
            prefix,
            {"nonlinearity": nonlinearity, "batch_first": batch_first, "dtype": dtype},
        )


class GRU(OneState):
    """Gated recurrent unit in torch's form, with the reset gate after the product::

        r, z = sigmoid(W_ir x + b_ir + W_hr h + b_hr), sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Weights as RNN's, of 3H rows in the order r, z, n. ``dropout`` is accepted and does nothing.
    ``reset_after=False`` is not torch's but Keras' and ONNX's (``linear_before_reset=0``) other
    form, the paper's: ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``.

    ``recurrent_activation`` and ``activation`` are Keras' words for what stands in the place of
    sigmoid and tanh: one of "sigmoid", "tanh", "relu", "linear", "elu", "selu", "softsign",
    "softplus", "exponential", "silu", "gelu", "relu6", or a name and its parameters,
    ``("hard_sigmoid", 0.2, 0.5)``, ``("leaky_relu", 0.01)`` and the others that ONNX lists.
    Source: torch.nn.GRU.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> None:
        self.reset_after = reset_after
        self.activation, self.recurrent_activation = activation, recurrent_activation
        super().__init__(
            "gru" if reset_after else "gru_reset_before",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            activations=_gated(activation, recurrent_activation, 1),
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: Any = None,
        reset_after: bool = True,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> GRU:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        ``reset_after`` and the activations do not show in the weights and must be said where they
        are not torch's.
        """
        options = {
            "batch_first": batch_first,
            "dtype": dtype,
            "reset_after": reset_after,
            "activation": activation,
            "recurrent_activation": recurrent_activation,
        }
        return cls._from_weights("gru", weights, prefix, options)


class LSTM(RecurrentBase):
    """Long short-term memory, with an optional projection of the output::

        i, f, o = sigmoid(W_i. x + b_i. + W_h. h + b_h.)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        c' = f * c + i * g
        h' = o * tanh(c')          with proj_size: h' = W_hr (o * tanh(c'))

    ``recurrent_activation`` and ``activation`` stand in the place of sigmoid and of both tanh, as
    GRU's do. Weights as RNN's, of 4H rows in the order i, f, g, o, and
    ``weight_hr_l{k} [proj_size, H]``. ``dropout`` is accepted and does nothing.
    Source: torch.nn.LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> None:
        self.activation, self.recurrent_activation = activation, recurrent_activation
        super().__init__(
            "lstm",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            _gated(activation, recurrent_activation, 2),
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: Any = None,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> LSTM:
        """Build the layer from torch's weights under ``prefix``, sizes read off their shapes.

        The activations do not show in the weights and must be said where they are not torch's.
        """
        options = {
            "batch_first": batch_first,
            "dtype": dtype,
            "activation": activation,
            "recurrent_activation": recurrent_activation,
        }
        return cls._from_weights("lstm", weights, prefix, options)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
        """Run whole sequences.

        Parameters
        ----------
        input : as GRU's
        hx : tuple (h_0 [num_layers * D, B, proj_size or hidden_size],
             c_0 [num_layers * D, B, hidden_size]), or None for zeros; in the caller's order

        Returns
        -------
        output : as input, with D * (proj_size or hidden_size) features
        (h_n, c_n) : as hx
        """
        output, h_n, c_n = self._run(input, *self._split(hx))
        assert c_n is not None
        return output, (h_n, c_n)

    def _split(self, hx: Any) -> tuple[Any, Any]:
        return (None, None) if hx is None else _pair(hx)

    def _joined(self, h_n: np.ndarray, c_n: np.ndarray | None) -> Any:
        return h_n, c_n

    def step(
        self, x: np.ndarray, state: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """One time step: ``x [B, input_size]``, ``state (h [num_layers, B, width],
        c [num_layers, B, hidden_size])`` or None for zeros -> ``(y [B, width], state)``. Arrays
        must be C-contiguous and of the layer's dtype; the state given is not changed."""
        if state is None:
            y, h, c = self._step(x, None, None)
        else:
            y, h, c = self._step(x, state[0], state[1])
        return y, (h, c)


def _rows(state: Any, order: np.ndarray | None) -> Any:
    """A state ``[count, B, width]`` with its sequences in another order."""
    return state if state is None or order is None else np.ascontiguousarray(state[:, order])


def _pair(hx: Any) -> tuple[Any, Any]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError("LSTM: hx must be a tuple (h_0, c_0)")
    return hx[0], hx[1]


def _gated(activation: Any, recurrent_activation: Any, times: int) -> tuple[Any, ...] | None:
    """What the kernels take for a gated cell's activations; None for sigmoid and tanh.

    ``activation`` goes to as many places as ``times``: the candidate, and an LSTM's output."""
    if activation == "tanh" and recurrent_activation == "sigmoid":
        return None
    gates = nonlinearity(recurrent_activation, "recurrent_activation")
    return (gates, *(nonlinearity(activation, "activation"),) * times)


def _elman(choice: Any) -> tuple[str, tuple[Nonlinearity] | None]:
    """The kernels' cell for an RNN's nonlinearity, and the activations that it takes."""
    if choice in ("tanh", "relu"):
        return f"rnn_{choice}", None
    return "rnn", (nonlinearity(choice, "nonlinearity"),)
