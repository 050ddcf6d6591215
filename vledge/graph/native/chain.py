"""Element-wise chains: an expression over operands and constants, and its micro-operations.

`Chain` collects the expression, each part once; ``parameters`` gives places to its values and words
it as the handler "chain" takes it, which is also what a convolution's or a product's epilogue is.
Operators' expressions are in `expressions`, what is gathered into one chain is `clusters`' to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from vledge._ext import isa

__all__ = ["Chain", "Parameters", "Value"]

_MICROS: Final = isa.micros()
_ARRAYS, _CONSTANTS, _SCRATCH = isa.chain_limits()
_ELEMENTS: Final = isa.chain_elements()
_ELEMENT_BITS: Final = 2
_NUMBER, _MASK = _ELEMENTS[:2]

Value = int  #: a part of a chain's expression, by its number


@dataclass(frozen=True)
class Parameters:
    """A chain as its handler takes it; ``operands`` are values' names in the handler's order."""

    ints: list[int]
    floats: list[float]
    operands: list[str]
    gives_numbers: bool  #: all results are numbers
    number: np.dtype  #: float32 or float64

    def only_operation(self) -> tuple[str, list[float]] | None:
        """The micro-operation that the chain is, and what constants it takes beside its first
        source, operand 0; None where there is another operation or another source."""
        operands, constants, results, _, micros, elements, *_ = self.ints
        if (operands, results, micros, elements) != (1, 1, 1, 0):
            return None
        word = self.ints[-1]
        kind, count = next((k, n) for k, (number, n) in _MICROS.items() if number == word & 0xFF)
        first, *others = (word >> (16 + 8 * k) & 0xFF for k in range(count))
        if first != 0 or any(not 1 <= place <= constants for place in others):
            return None
        return kind, [self.floats[place - 1] for place in others]


@dataclass(frozen=True)
class _Part:
    kind: str  # "operand", "constant", or a micro-operation
    sources: tuple[Value, ...] = ()
    name: str = ""
    number: float = 0.0
    element: np.dtype = _NUMBER  # of the array that it is, if it is one; _NUMBER: the chain's own


class Chain:
    """An expression of element-wise operations on ``number``, float32 or float64, with NumPy's
    broadcasting."""

    def __init__(self, number: np.dtype = _NUMBER) -> None:
        self.number_type = number
        self._parts: list[_Part] = []
        self._known: dict[tuple[object, ...], Value] = {}
        self._channels: set[str] = set()
        self._axes = 0

    def operand(self, name: str, element: np.dtype = _NUMBER) -> Value:
        """A value of the graph: numbers, masks in bool, or bytes, numbers too."""
        if element == self.number_type:
            element = _NUMBER
        return self._part(_Part("operand", name=name, element=element))

    def channels(self, name: str) -> Value:
        """A vector along axis 1 of the result, whatever axes that has."""
        self._channels.add(name)
        return self.operand(name)

    def constant(self, number: float, axes: int = 0) -> Value:
        """A number, rounded to the chain's; the result has at least as many axes as it had."""
        self._axes = max(self._axes, axes)
        return self._part(_Part("constant", number=float(self.number_type.type(number))))

    def __call__(self, kind: str, *sources: Value) -> Value:
        """The result of a micro-operation of ``ext/simd/micro.h``."""
        if kind == "multiply":
            for x, y in (sources, sources[::-1]):
                if self._parts[y].kind == "sigmoid" and self._parts[y].sources == (x,):
                    return self._part(_Part("silu", (x,)))
        is_mask = kind in _GIVE_MASKS or (kind == "where" and self.is_mask(sources[1]))
        return self._part(_Part(kind, sources, element=_MASK if is_mask else _NUMBER))

    def as_bytes(self, value: Value, dtype: np.dtype) -> Value:
        """Whole numbers within the type's range as a result of that type; to the chain the same."""
        part = self._parts[value]
        if part.kind in ("operand", "constant"):
            part = _Part("copy", (value,))
        return self._part(replace(part, element=dtype))

    def is_mask(self, value: Value) -> bool:
        return self._parts[value].element == _MASK

    def number(self, value: Value) -> float | None:
        """A constant's number; None for anything else."""
        part = self._parts[value]
        return part.number if part.kind == "constant" else None

    def _part(self, part: _Part) -> Value:
        # the sign of zero and NaN tell numbers apart, too
        number = np.float64(part.number).tobytes()
        key = (part.kind, part.sources, part.name, number, part.element)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self._parts)
            self._parts.append(part)
        return known

    def parameters(self, *results: Value, first: str | None = None) -> Parameters | None:
        """The chain as its handler takes it, or None where it has more parts than that takes.

        ``first`` is the operand that stands in front, for who gives it by itself.
        """
        parts, results = self._fused(results)
        live = _reached(parts, results)
        operands = [v for v in live if parts[v].kind == "operand"]
        operands.sort(key=lambda v: parts[v].name != first)
        constants = [v for v in live if parts[v].kind == "constant"]
        if not operands or len(set(results)) < len(results):
            return None
        if len(operands) + len(results) > _ARRAYS or len(constants) > _CONSTANTS:
            return None
        places = {value: place for place, value in enumerate([*operands, *constants])}
        micros = [v for v in live if v not in places]
        result_place = len(places)
        first_scratch = result_place + len(results)
        # an operand or a constant that is a result by itself is copied
        copies = [(r, result_place + k) for k, r in enumerate(results) if r in places]
        for k, value in enumerate(results):
            if value not in places:
                places[value] = result_place + k
        last_use = {s: m for m in micros for s in parts[m].sources}
        free, used = list(range(_SCRATCH - 1, -1, -1)), 0
        words = []
        for m in micros:
            sources = [places[s] for s in parts[m].sources]
            for s in set(parts[m].sources):
                if last_use[s] == m and places[s] >= first_scratch:
                    free.append(places[s] - first_scratch)
            if m not in places:
                if not free:
                    return None
                scratch = free.pop()
                used = max(used, scratch + 1)
                places[m] = first_scratch + scratch
            words.append(_word(parts[m].kind, places[m], sources))
        words += [_word("copy", to, [places[value]]) for value, to in copies]
        elements = sum(
            _ELEMENTS.index(parts[v].element) << _ELEMENT_BITS * k
            for k, v in enumerate((*operands, *results))
        )
        channels = [parts[v].name in self._channels for v in operands]
        sets = [
            _bits([o in reached for o in operands])
            for reached in (set(_reached(parts, [r])) for r in results)
        ]
        ints = [
            len(operands), len(constants), len(results), used, len(words), elements,
            _bits(channels), self._axes, *sets, *words,
        ]  # fmt: skip
        return Parameters(
            ints,
            [parts[v].number for v in constants],
            [parts[v].name for v in operands],
            all(parts[v].element == _NUMBER for v in results),
            self.number_type,
        )

    def _fused(self, results: tuple[Value, ...]) -> tuple[list[_Part], tuple[Value, ...]]:
        """A product that is only added to something is one operation with the sum."""
        parts = list(self._parts)
        readers: dict[Value, int] = {}
        for v in _reached(parts, results):
            for s in parts[v].sources:
                readers[s] = readers.get(s, 0) + 1
        for v, part in enumerate(parts):
            if part.kind != "add":
                continue
            for x, y in (part.sources, part.sources[::-1]):
                product = parts[x]
                if product.kind == "multiply" and readers.get(x) == 1 and x not in results:
                    parts[v] = _Part("multiply_add", (*product.sources, y), element=part.element)
                    break
        return parts, results


_GIVE_MASKS: Final = frozenset(
    ["less", "less_equal", "equal", "is_nan", "both", "either", "differ", "not"]
)


def _reached(parts: list[_Part], results: tuple[Value, ...] | list[Value]) -> list[Value]:
    """What the results are made of, each after its sources."""
    wanted, seen = list(results), set(results)
    while wanted:
        for source in parts[wanted.pop()].sources:
            if source not in seen:
                seen.add(source)
                wanted.append(source)
    return sorted(seen)


def _word(kind: str, to: int, sources: list[int]) -> int:
    """VL_MICRO of ``ext/simd/kernels.h``."""
    number, count = _MICROS[kind]
    if len(sources) != count:
        raise ValueError(f"{kind} reads {count} places, not {len(sources)}")
    word = number | to << 8
    for k, source in enumerate(sources):
        word |= source << (16 + 8 * k)
    return word


def _bits(flags: list[bool]) -> int:
    return sum(1 << k for k, flag in enumerate(flags) if flag)
