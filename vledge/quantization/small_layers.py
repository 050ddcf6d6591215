"""`vledge.quantize`: a model whose recurrent layers hold small weights.

Which matrices those are is decided here, and nothing else is touched: biases, an IndRNN's recurrent
vector, and layers that are not recurrent stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from vledge.errors import UnsupportedError
from vledge.nn import Module, recognize
from vledge.nn.recurrent.base import RecurrentBase
from vledge.nn.recurrent.cells import CellBase
from vledge.small_matrix import FORMS, SmallMatrix, rounded
from vledge.weights.plain import PlainWeights

__all__ = ["chosen_layers", "quantize", "small_names"]

_Model = TypeVar("_Model", Module, dict[str, np.ndarray])


def quantize(
    model: _Model,
    storage: str = "int8",
    *,
    layers: str | Sequence[str] = "*",
    keep: str | Sequence[str] = (),
) -> _Model:
    """A copy whose recurrent layers hold small weights; all else is shared with the original.

    Parameters
    ----------
    model : Module, or dict of ndarray by name
        A layer or a model of `vledge.nn`; or weights, as `vledge.load_weights` gives them, in which
        recurrent layers are found by their names.
    storage : {"int8", "int8-fast", "int16"}
        ``int8``: a quarter of float32's bytes; inputs and states are read with 16 bits.
        ``int8-fast``: these too with 8 bits, each row by its own scale; faster, less exact.
        ``int16``: half the bytes, and close to float32.
    layers : str or sequence of str
        Names of layers with ``*`` and ``?``: the dotted name of a sub-module, or the prefix of its
        weights. The model itself, where it is one layer, has the empty name.
    keep : str or sequence of str
        Layers that stay as they are, likewise.

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
        An unknown storage; a name in ``layers`` or ``keep`` that fits no recurrent layer; no
        recurrent layer at all; weights that are NaN or infinite.
    UnsupportedError
        What is neither a Module nor weights: a session of an ONNX model.

    >>> small = quantize(nn.LSTM.from_weights(weights), "int8")  # doctest: +SKIP
    """
    if storage not in FORMS:
        raise ValueError(f"storage {storage!r} is not one of {', '.join(FORMS)}")
    if isinstance(model, Module):
        return _of_module(model, storage, _patterns(layers), _patterns(keep))  # type: ignore[return-value]
    if isinstance(model, Mapping):
        return _of_weights(model, storage, _patterns(layers), _patterns(keep))
    raise UnsupportedError(
        f"quantize takes a Module of vledge.nn or weights by name, got a {type(model).__name__}; "
        "of an ONNX model the recurrent layers can be read by from_onnx, nn.LSTM.from_onnx(path)"
    )


def _patterns(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def chosen_layers(found: Sequence[str], layers: Sequence[str], keep: Sequence[str]) -> set[str]:
    """The layers among those found that the patterns name. ValueError for one that names none."""
    if not found:
        raise ValueError("there is no recurrent layer with float32 weights that could be quantized")
    for name in (*layers, *keep):
        if not any(fnmatchcase(one, name) for one in found):
            listed = ", ".join(repr(one) for one in found)
            raise ValueError(f"no recurrent layer is called {name!r}; there are {listed}")
    return {
        one
        for one in found
        if any(fnmatchcase(one, name) for name in layers)
        and not any(fnmatchcase(one, name) for name in keep)
    }


def _of_module(model: Module, storage: str, layers: Sequence[str], keep: Sequence[str]) -> Module:
    found = {name: one for name, one in model.named_modules() if _takes_small(one)}
    chosen = chosen_layers(list(found), layers, keep)
    twins = {id(found[name]): _small_twin(found[name], storage) for name in chosen}

    def twin(module: Module) -> Module:
        if id(module) not in twins:
            children = dict(module.named_children())
            own = {name: twin(child) for name, child in children.items()}
            same = all(own[name] is children[name] for name in own)
            twins[id(module)] = module if same else module.with_children(own)
        return twins[id(module)]

    return twin(model)


def _takes_small(module: Module) -> bool:
    """A recurrent layer or cell that has weights, in float32."""
    state = module.state_dict() if isinstance(module, (RecurrentBase, CellBase)) else {}
    return bool(state) and all(array.dtype == np.float32 for array in state.values())


def _small_twin(layer: Module, storage: str) -> Module:
    twin = copy(layer)
    state: dict[str, Any] = layer.state_dict()
    twin.load_state_dict(dict(_rounded(state, storage)))
    return twin


def _rounded(state: Mapping[str, Any], storage: str) -> Iterator[tuple[str, Any]]:
    """The state, its matrices small; those that are small in this way already as they are."""
    for name, array in state.items():
        if array.ndim != 2 or (isinstance(array, SmallMatrix) and array.storage == storage):
            yield name, array
        else:
            yield name, rounded(np.asarray(array), storage)


def _of_weights(
    weights: Mapping[str, np.ndarray], storage: str, layers: Sequence[str], keep: Sequence[str]
) -> dict[str, np.ndarray]:
    plain = PlainWeights.of(weights)
    found = small_names(plain)
    chosen = chosen_layers(list(found), layers, keep)
    result = {name: plain[name] for name in plain}
    for layer in chosen:
        own = {name: plain[name] for name in found[layer]}
        try:
            result |= dict(_rounded(own, storage))
        except ValueError as error:
            raise ValueError(f"layer {layer!r}: {error}") from None
    return result


def small_names(weights: PlainWeights) -> dict[str, list[str]]:
    """Of each recurrent layer that can be small, by its prefix without the dot: its matrices."""
    found: dict[str, list[str]] = {}
    for layer in recognize(weights):
        names = [
            name
            for name in weights
            if name.startswith(layer.prefix)
            and name[len(layer.prefix) :].startswith(("weight_ih", "weight_hh", "weight_hr"))
            and weights.ndim(name) == 2
        ]
        if names and all(weights[name].dtype == np.float32 for name in names):
            found[layer.prefix.rstrip(".")] = names
    return found
