"""States that a model hands over itself: an input, and the output that is its next value.

Nothing in a file says which these are. Where names agree but for what tells before from after, and
shapes and types are the same, they are taken for a pair: ``state`` and ``stateN``, ``h_0`` and
``h_n``, ``cache_in`` and ``cache_out``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from vledge.model.definition import Graph, ValueInfo

__all__ = ["state_pairs"]

# What a name says of when its value is, in words of their own or at the end.
_WHEN = {
    *("in", "out", "input", "output", "init", "initial", "final", "old", "new", "before", "after"),
    *("prev", "previous", "past", "present", "cur", "current", "next", "last", "0", "1", "n", "t"),
}
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")
# A letter glued to the end of a short name: hn, cn; h0, c0 fall into two words by themselves.
_GLUED = re.compile(r"^([a-z])n$")


def state_pairs(graph: Graph, given: Collection[str] = ()) -> dict[str, str]:
    """Input → output of each state that the names tell; inputs that are ``given`` are none."""
    outputs = {_stem(info.name): info for info in graph.outputs if _stem(info.name)}
    doubled = _doubled(_stem(info.name) for info in graph.outputs)
    asked = [i for i in graph.inputs if i.name not in graph.initializers and i.name not in given]
    doubled |= _doubled(_stem(info.name) for info in asked)
    pairs = {}
    for info in asked:
        stem = _stem(info.name)
        if stem in outputs and stem not in doubled and _same(info, outputs[stem]):
            pairs[info.name] = outputs[stem].name
    return pairs if len(pairs) < len(asked) else {}  # something must be left for the frames


def _stem(name: str) -> str:
    """The name without the words that tell when; empty if nothing is left."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return " ".join(_GLUED.sub(r"\1", word) for word in words if word not in _WHEN)


def _doubled(stems: Iterable[str]) -> set[str]:
    counts = Counter(stems)
    return {stem for stem, count in counts.items() if count > 1}


def _same(before: ValueInfo, after: ValueInfo) -> bool:
    """Whether the one can be the other's next value, as far as the file says."""
    if before.type != after.type or not before.shape:
        return False
    if after.shape is None:
        return True
    return len(before.shape) == len(after.shape) and all(
        not (isinstance(one, int) and isinstance(other, int)) or one == other
        for one, other in zip(before.shape, after.shape, strict=True)
    )
