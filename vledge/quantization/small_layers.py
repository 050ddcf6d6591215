"""`vledge.quantize`: a model whose layers hold small weights.

Which matrices those are is decided here, and nothing else is touched: biases, an IndRNN's recurrent
vector, and layers of other kinds stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from os import PathLike
from typing import TypeVar, cast, overload

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.session import InferenceSession
from vledge.nn import Conv1d, Embedding, Linear, Module, recognize
from vledge.nn.recurrent.base import RecurrentBase
from vledge.nn.recurrent.cells import CellBase
from vledge.quantization.onnx_model import quantize_onnx
from vledge.shown import Weights
from vledge.small_matrix import FORMS, SmallMatrix, Weight, rounded
from vledge.weights.plain import PlainWeights

__all__ = ["chosen_layers", "quantize", "small_names"]

_Model = TypeVar("_Model", Module, dict[str, np.ndarray])


@overload
def quantize(
    model: _Model,
    storage: str = "int8",
    *,
    layers: str | Sequence[str] = "*",
    keep: str | Sequence[str] = (),
    calibrate: Sequence[object] | None = None,
    max_error: float | None = None,
) -> _Model: ...


@overload
def quantize(
    model: str | PathLike[str] | bytes,
    storage: str = "int8",
    *,
    layers: str | Sequence[str] = "*",
    keep: str | Sequence[str] = (),
) -> InferenceSession: ...


def quantize(
    model: Module | dict[str, np.ndarray] | str | PathLike[str] | bytes,
    storage: str = "int8",
    *,
    layers: str | Sequence[str] = "*",
    keep: str | Sequence[str] = (),
    calibrate: Sequence[object] | None = None,
    max_error: float | None = None,
) -> Module | dict[str, np.ndarray] | InferenceSession:
    """A copy whose layers hold small weights; all else is shared with the original.

    Recurrent layers and cells, Linear, Conv1d without groups, and Embedding; of weights by name the
    recurrent layers, and matrices that are called ``weight``: those of Linear and Embedding.

    Parameters
    ----------
    model : Module, dict of ndarray by name, or path or bytes of an ONNX file
        A layer or a model of `vledge.nn`; or weights, as `vledge.load_weights` gives them, in which
        layers are found by their names; or an ONNX model, of which comes a session that multiplies
        integers (`vledge.quantization.quantize_onnx` says how, and gives the file instead).
    storage : {"int8", "int8-fast", "int16"}
        ``int8``: a quarter of float32's bytes; inputs and states are read with 16 bits.
        ``int8-fast``: these too with 8 bits, each row by its own scale; faster, less exact.
        ``int16``: half the bytes, and close to float32.
    layers : str or sequence of str
        Names of layers with ``*`` and ``?``: the dotted name of a sub-module, the prefix of its
        weights, or the name of an ONNX node. The model itself, where it is one layer, has the empty
        name.
    keep : str or sequence of str
        Layers that stay as they are, likewise.
    calibrate : sequence, optional
        Inputs that a Module is called with, a tuple each where it has several arguments: some
        hundred steps of what it will see. Weights are then rounded so that the products with these
        keep close, and biases make up for the mean of what is left. Conv1d and Embedding are
        rounded to the nearest all the same.
    max_error : float, optional
        Largest error of a Module's outputs on these inputs, against the model given: layer by layer
        the first of ``storage``, int16 and float32 is taken that stays within it.

    Returns
    -------
    model : as given
        Layers compute in float32, as before: inputs, outputs, states and gates. Sums of integers
        are exact, whatever weights and inputs are. `vledge.save_weights` writes its
        ``state_dict()`` (or the dict) to a file with small weights, which `load_state_dict` and
        ``from_weights`` read.

    Raises
    ------
    ValueError
        An unknown storage; a name in ``layers`` or ``keep`` that fits no such layer; no such layer
        at all; weights that are NaN or infinite; ``max_error`` without inputs.
    UnsupportedError
        Another storage than int8 for an ONNX model; a session, of which the file is not known.

    >>> small = quantize(nn.LSTM.from_weights(weights), "int8")  # doctest: +SKIP
    """
    if storage not in FORMS:
        raise ValueError(f"storage {storage!r} is not one of {', '.join(FORMS)}")
    inputs = _inputs(calibrate)
    if max_error is not None and not inputs:
        raise ValueError("max_error is measured on inputs: calibrate=[…] has none")
    if isinstance(model, Module):
        candidates = {name: one for name, one in model.named_modules() if _takes_small(one)}
        chosen = chosen_layers(list(candidates), _patterns(layers), _patterns(keep))
        made = _of_module(model, candidates, chosen, storage, inputs)
        if max_error is not None:
            made = _within(model, candidates, chosen, storage, inputs, max_error)
        return made
    if inputs:
        raise ValueError("calibrate and max_error go with a Module, which the inputs run through")
    if isinstance(model, (str, bytes, PathLike)):
        if storage != "int8":
            raise UnsupportedError(f"an ONNX model's weights can be int8, not {storage}")
        return InferenceSession(quantize_onnx(model, layers=layers, keep=keep)[0])
    if isinstance(model, Mapping):
        return _of_weights(model, storage, _patterns(layers), _patterns(keep))
    raise UnsupportedError(
        "expected a Module of vledge.nn, weights by name or the path of an ONNX file, which a "
        f"session is made of; found a value of the type {type(model).__name__}"
    )


def _inputs(calibrate: object) -> list[object]:
    """One or several inputs to calibrate with; TypeError for what is one input by itself."""
    if calibrate is None:
        return []
    if isinstance(calibrate, (str, bytes, PathLike, Mapping)) or hasattr(calibrate, "dtype"):
        shape = getattr(calibrate, "shape", None)
        kind = type(calibrate).__name__ if shape is None else f"one array {list(shape)}"
        raise TypeError(
            f"calibrate is {kind}, expected a list of inputs that the model is called with: [x]"
        )
    if not isinstance(calibrate, Iterable):
        raise TypeError(f"calibrate is {type(calibrate).__name__}, expected a list of inputs: [x]")
    return list(calibrate)


def _patterns(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def chosen_layers(found: Sequence[str], layers: Sequence[str], keep: Sequence[str]) -> set[str]:
    """The layers among those found that the patterns name. ValueError for one that names none."""
    if not found:
        raise ValueError(
            "there is no layer with float32 weights under torch's names that could be quantized"
        )
    for name in (*layers, *keep):
        if not any(fnmatchcase(one, name) for one in found):
            listed = ", ".join(repr(one) for one in found)
            raise ValueError(
                f"no layer that could be quantized is called {name!r}; there are {listed}"
            )
    return {
        one
        for one in found
        if any(fnmatchcase(one, name) for name in layers)
        and not any(fnmatchcase(one, name) for name in keep)
    }


def _of_module(
    model: Module,
    candidates: Mapping[str, Module],
    chosen: Collection[str],
    storage: str,
    inputs: Sequence[object],
) -> Module:
    """The model with small weights in the chosen layers, rounded for the inputs if there are."""
    states: dict[str, dict[str, np.ndarray]] = {name: {} for name in chosen}
    if inputs:
        # imported by who has data
        from vledge.quantization.calibration import calibrated, calibrated_rows
        from vledge.quantization.watching import Watchable, inputs_of

        layers = {
            n: one for n, one in candidates.items() if n in chosen and isinstance(one, Watchable)
        }
        for name, seen in inputs_of(model, layers, inputs).items():
            watched = layers[name]
            if seen and isinstance(watched, RecurrentBase):
                states[name] = calibrated(watched, [one for (one,) in seen], storage)
            elif seen and not isinstance(watched, RecurrentBase):
                states[name] = calibrated_rows(watched, seen, storage)
    twins: dict[int, Module] = {}
    for name in chosen:
        layer = twins[id(candidates[name])] = candidates[name].with_children({})
        layer.load_state_dict(states[name] or dict(_rounded(layer.state_dict(), storage)))

    def twin(module: Module) -> Module:
        if id(module) not in twins:
            children = dict(module.named_children())
            own = {name: twin(child) for name, child in children.items()}
            same = all(own[name] is children[name] for name in own)
            twins[id(module)] = module if same else module.with_children(own)
        return twins[id(module)]

    return twin(model)


def _within(
    model: Module,
    candidates: Mapping[str, Module],
    chosen: Collection[str],
    storage: str,
    inputs: Sequence[object],
    max_error: float,
) -> Module:
    """The model with as many small layers as keep its outputs within the error, in their order."""
    from vledge.quantization.watching import called

    exact = [_numbers(called(model, one)) for one in inputs]
    made = model
    for name in (one for one in candidates if one in chosen):
        for smaller in dict.fromkeys((storage, "int16")):
            now = {n: one for n, one in made.named_modules() if n in candidates}
            tried = _of_module(made, now, [name], smaller, inputs)
            answers = [_numbers(called(tried, one)) for one in inputs]
            errors = [np.abs(a - b).max(initial=0) for a, b in zip(answers, exact, strict=True)]
            if max(errors) <= max_error:  # not if one is NaN
                made = tried
                break
    return made


def _numbers(answer: object) -> np.ndarray:
    """All numbers of an answer, however it is nested."""
    if isinstance(answer, (tuple, list)):
        return np.concatenate([_numbers(one) for one in answer] or [np.empty(0)])
    if isinstance(answer, Mapping):
        return _numbers(list(answer.values()))
    return np.asarray([] if answer is None else answer, np.float64).ravel()


def _takes_small(module: Module) -> bool:
    """A layer that has weights, in float32, and takes them small."""
    if not isinstance(module, (RecurrentBase, CellBase, Linear, Embedding, Conv1d)):
        return False
    if isinstance(module, Conv1d) and module.groups != 1:
        return False
    state = module.state_dict()
    return bool(state) and all(array.dtype == np.float32 for array in state.values())


def _rounded(state: Mapping[str, Weight], storage: str) -> Iterator[tuple[str, np.ndarray]]:
    """The state, its matrices small; those that are small in this way already as they are."""
    for name, array in state.items():
        if array.ndim < 2 or (isinstance(array, SmallMatrix) and array.storage == storage):
            weight: Weight = array
        else:
            floats = np.asarray(array)
            weight = rounded(floats.reshape(len(floats), math.prod(floats.shape[1:])), storage)
        yield name, cast("np.ndarray", weight)


def _of_weights(
    weights: Mapping[str, np.ndarray], storage: str, layers: Sequence[str], keep: Sequence[str]
) -> dict[str, np.ndarray]:
    plain = PlainWeights.of(weights)
    matrices = small_names(plain)
    chosen = chosen_layers(list(matrices), layers, keep)
    result = Weights({name: plain[name] for name in plain})
    for layer in chosen:
        own = {name: plain[name] for name in matrices[layer]}
        try:
            result.update(_rounded(own, storage))
        except ValueError as error:
            raise ValueError(f"layer {layer!r}: {error}") from None
    return result


def small_names(weights: PlainWeights) -> dict[str, list[str]]:
    """Of each layer that can be small, by its prefix without the dot: its matrices."""
    matrices: dict[str, list[str]] = {}
    for layer in recognize(weights):
        names = [
            name
            for name in weights
            if name.startswith(layer.prefix)
            and name[len(layer.prefix) :].startswith(("weight_ih", "weight_hh", "weight_hr"))
            and weights.ndim(name) == 2
        ]
        if names and all(weights[name].dtype == np.float32 for name in names):
            matrices[layer.prefix.rstrip(".")] = names
    recurrent = {name for names in matrices.values() for name in names}
    for name in weights:
        layer_name, _, own = name.rpartition(".")
        named = own == "weight" and name not in recurrent and layer_name not in matrices
        if named and weights.ndim(name) == 2 and weights[name].dtype == np.float32:
            matrices[layer_name] = [name]
    return matrices
