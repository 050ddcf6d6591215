"""JSON out of a stranger's file: what it will take is counted before it is parsed.

Parsed, JSON takes many times its text: ``{}`` is two characters and an object of 64 bytes. So the
characters that begin or divide values are counted first, which costs next to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias

from vledge.budget import Budget
from vledge.errors import FormatError, cut, placed

__all__ = ["Json", "JsonObject", "distinct", "parsed"]

#: What a text may say. Nothing of its form is known before it has been looked at.
Json: TypeAlias = "JsonObject | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, "Json"]

#: Bytes that a value takes for each of these characters: a dict with its table, a list, half a
#: string's head, an element with its number, an entry with the pair that it is made from.
_COSTS: Final = {"{": 232, "[": 88, '"': 30, ",": 40, ":": 180}
MAX_DIGITS: Final = 400  # of an integer: more than a float has


def parsed(
    text: bytes | str,
    budget: Budget,
    what: str,
    *,
    pairs: Callable[[Sequence[tuple[str, Json]]], JsonObject] | None = None,
    number: Callable[[str], object] | None = None,
) -> Any:
    """The value that a JSON text of UTF-8 says; FormatError, which begins with ``what``, if none.

    ``pairs`` makes objects and ``number`` all numbers, infinities and NaN too, where they are
    given; without ``number`` these two are refused, which no JSON has.
    """
    held = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    estimate = sum(cost * held.count(sign.encode()) for sign, cost in _COSTS.items())
    budget.take(2 * len(held) + estimate, what)
    budget.step(len(held) // 32, what)
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=number or _integer,
            parse_float=number,
            parse_constant=number or _no_constant,
        )
    except FormatError as error:
        raise placed(error, what) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{what} is no JSON: {cut(str(error) or 'out of memory')}") from None


def distinct(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    """The object of these entries; FormatError where a name stands twice."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FormatError(f"the name {cut(twice)!r} stands in an object twice")
    return entries


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise FormatError(f"a number of {len(digits):,} digits; at most {MAX_DIGITS:,} are read")
    return int(digits)


def _no_constant(word: str) -> NoReturn:
    raise FormatError(f"{word} is no number of JSON's")
