"""What torch packs the weights of its quantised layers into, as named tensors.

Dynamic quantisation keeps a Linear's weight and bias in one object, a cell's in two, and an LSTM's
or GRU's in one for each layer and direction, all of classes of torch's own (ScriptObject), whose
pickled state has the tensors. They get the names here that the layers have before they are
quantised.
Source: LinearPackedParamsBase and CellParamsBase in torch's aten/src/ATen/native/quantized.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from vledge.formats.torch.pickle_records import Call, Global

__all__ = ["REDUCED", "RESULT", "WHOLE", "packed_parts", "renamed", "steps_of"]

# Steps that inputs are spread over, beyond 0: all of uint8, and torch's reduce_range.
WHOLE: Final = 255
REDUCED: Final = 127
RESULT: Final = {"scale": 1, "zero_point": 0}  # of a Linear whose result stays floats

_CLASSES: Final = "torch.classes."
_LISTS: Final = "torch.jit._pickle."
_KINDS: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_LAYER: Final = re.compile(r"(.*\.|)_all_weight_values\.([0-9]{1,4})\.param\.(\w+)")
_LINEAR: Final = re.compile(r"(.*\.|)_packed_params\._packed_params\.(weight|bias)")
_CELL: Final = re.compile(r"(.*\.|)_packed_weight_(ih|hh)\.(weight|bias)")

T = TypeVar("T")


def packed_parts(name: str, value: object) -> dict[str, object] | None:
    """The records of tensors that an object or a Linear's pair has in it; None for others."""
    if name.rpartition(".")[2] == "_packed_params" and isinstance(value, tuple):
        return _linear(value)
    if not isinstance(value, Call) or not isinstance(value.function, Global):
        return None
    path, state = value.function.path, value.state
    if path == "torch.ScriptObject":
        match state:
            case (tuple() as inner, str(path)):
                state = inner
            case _:
                return None
    if not path.removeprefix("__torch__.").startswith(_CLASSES) or not isinstance(state, tuple):
        return None
    if path.endswith(".LinearPackedParamsBase"):
        return _linear(state)
    return _cell(state) if path.endswith(".CellParamsBase") else None


def _linear(pair: tuple[object, ...]) -> dict[str, object] | None:
    match pair:
        case (Call() as weight, None):
            return {"weight": weight}
        case (Call() as weight, Call() as bias):
            return {"weight": weight, "bias": bias}
    return None


def _cell(state: tuple[object, ...]) -> dict[str, object] | None:
    """The biases are in the state and in the packed weights both: one and the same."""
    packed = _listed(state[4]) if len(state) == 5 else None
    if (
        packed is None
        or len(packed) != 2
        or state[0] not in ("quantized_dynamic", "quantized_fp16")
    ):
        return None
    parts: dict[str, object] = {}
    for own, which in zip(packed, ("ih", "hh"), strict=True):
        inner = packed_parts("", own)
        if inner is None:
            return None
        parts |= {f"{kind}_{which}": record for kind, record in inner.items()}
    return parts


def steps_of(value: object) -> int:
    """How many steps the inputs of an object's packed weights are spread over; 0 where they stay
    floats. torch's Linear and cells take the fewer, an LSTM or GRU says which."""
    state = value.state if isinstance(value, Call) else None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], str):
        state = state[0]
    match state:
        case (str(kind), _, _, flags, _):
            if kind != "quantized_dynamic":
                return 0
            return REDUCED if any(_listed(flags) or ()) else WHOLE
    return REDUCED


def _listed(value: object) -> list[object] | None:
    """A list, perhaps one of TorchScript's, with the name of its type."""
    for _ in range(3):
        if isinstance(value, list):
            return value
        match value:
            case Call(function=Global(path=path), arguments=(inner, *_)) if path.startswith(_LISTS):
                value = inner
            case _:
                return None
    return None


class Renamed(NamedTuple, Generic[T]):
    """Tensors by the names of layers that are not quantised."""

    tensors: dict[str, T]
    left_out: dict[str, str]  #: with why
    #: Of a Linear's weight the "scale" and "zero_point" of the layer's result: 1 and 0, unless it
    #: is quantised statically.
    results: dict[str, dict[str, T]]


def renamed(tensors: Mapping[str, T], shapes: Mapping[str, tuple[int, ...]]) -> Renamed[T]:
    """The tensors of a part by the names of layers that are not quantised.

    TorchScript keeps what a quantised cell's constructor has drawn beside what it was given,
    which is in its packed weights.
    """
    two_ways = _directions(shapes)
    linears = {match[1] for match in map(_LINEAR.fullmatch, tensors) if match}
    made: dict[str, T] = {}
    left_out: dict[str, str] = {}
    results: dict[str, dict[str, T]] = {}
    packed: set[str] = set()
    for stored, tensor in tensors.items():
        name = stored
        layer, linear, cell = (p.fullmatch(name) for p in (_LAYER, _LINEAR, _CELL))
        if layer is not None and layer[3] in _KINDS:
            directions = two_ways[layer[1]]
            if directions is None:
                left_out[name] = (
                    "of two layers, or of one in two directions: its shapes do not say; save the "
                    "module itself by torch.jit.script, or the weights that are not quantised"
                )
                continue
            number, reverse = divmod(int(layer[2]), directions)
            name = f"{layer[1]}{layer[3]}_l{number}{'_reverse' * reverse}"
        elif (last := name.rpartition(".")[2]) in RESULT and shapes[name] == ():
            if name.removesuffix(last) in linears:
                results.setdefault(f"{name.removesuffix(last)}weight", {})[last] = tensor
                continue
        elif linear is not None:
            name = f"{linear[1]}{linear[2]}"
        elif cell is not None:
            name = f"{cell[1]}{cell[3]}_{cell[2]}"
        if name != stored and name not in packed:
            packed.add(name)
            made[name] = tensor
        made.setdefault(name, tensor)
    return Renamed(made, left_out, results)


def _directions(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | None]:
    """By the layers' prefix how many directions they have, from what each reads: the one before it,
    or the input as the first does."""
    reads: dict[str, dict[int, int]] = {}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        layer = _LAYER.fullmatch(name)
        if layer is None or len(shape) != 2:
            continue
        if layer[3] == "weight_ih":
            reads.setdefault(layer[1], {})[int(layer[2])] = shape[1]
        elif layer[3] == "weight_hh":
            sizes[layer[1]] = shape[1]
    counts: dict[str, int | None] = {}
    for prefix, own in reads.items():
        inputs, size = [own[k] for k in sorted(own)], sizes.get(prefix, 0)
        fits = {
            directions
            for directions in (1, 2)
            if len(inputs) % directions == 0
            and all(
                width == (inputs[0] if k < directions else directions * size)
                for k, width in enumerate(inputs)
            )
        }
        counts[prefix] = fits.pop() if len(fits) == 1 else None
    return counts
