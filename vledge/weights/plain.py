"""The weights of a checkpoint by the names that the bare module's ``state_dict`` would have.

Wrappers' names are taken out of keys, weights in pieces are folded, and of two names that claim one
weight either a known rule tells which holds, or both are named in an error. Everything that looks
for weights by their names looks here: `recognize`, ``from_weights``, ``load_state_dict``.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vledge.errors import MissingWeightError, with_article
from vledge.small_matrix import SmallMatrix
from vledge.weights.folds import Recipe, piece, recipes, refusal

__all__ = ["WRAPPERS", "PlainWeights", "layer_weights", "missing_weight", "plain_name"]

# Parts of a key that are no module of the model's own, and who puts them there.
WRAPPERS = {
    "_checkpoint_wrapped_module": "torch's activation checkpointing",
    "_forward_module": "Lightning's strategies and Fabric",
    "_fpw_module": "FullyShardedDataParallel, before torch 2",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_module": "Opacus",
    "_orig_mod": "torch.compile",
    "_original_module": "Lightning's Fabric",
    "module": "DataParallel, DistributedDataParallel, DeepSpeed, AveragedModel, WeightDrop",
}
# What AveragedModel keeps beside its module.
_STRAY = "n_averaged"
_FLAT = ("_flat_param", "flat_param")

# One search a name tells that nothing here concerns it.
_SPECIAL = re.compile(
    rf"(?:^|\.)(?:{'|'.join(WRAPPERS)}|parametrizations)\."
    r"|_(?:g|v|u|orig|mask|raw|bar|param)$|(?:^|\.)(?:n_averaged|flat_param)$"
)
MAX_ROUNDS = 4  # of folds upon folds
AGREEMENT = 1e-4  # of a stored weight and the folded one, relative to the largest


def plain_name(name: str) -> str:
    """The name less the wrappers on its way; a prefix, which ends in a dot, likewise."""
    if not isinstance(name, str):
        raise TypeError(f"a name of weights is a {type(name).__name__}, expected text")
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part not in WRAPPERS), last])


class PlainWeights(Mapping[str, np.ndarray]):
    """Plain name → array, in the file's order. Arrays are folded when they are asked for.

    ``expected``: the full names that a model has. A key that is one of these is taken as it
    stands, whatever it looks like, and what other keys are without wrappers is compared with what
    these are without theirs.

    ``strays``: key → what it is, for keys that a wrapper adds and that are no weights. ``refused``:
    plain name → why it has no one value, which is also the ValueError when it is asked for.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], expected: Iterable[str] = ()) -> None:
        if isinstance(weights, (str, bytes, os.PathLike)):
            path = os.fspath(weights)
            raise TypeError(
                f"weights is the path {path!r}, expected a dict of arrays: "
                f"vledge.load_weights({path!r}) gives it"
            )
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"weights is a {type(weights).__name__}, expected a dict of arrays by name, as "
                "vledge.load_weights(path) and module.state_dict() give it"
            )
        self._weights = weights
        self._expected = frozenset(expected)
        self._keys: dict[str, list[str]] = {}
        self._recipes: dict[str, Recipe] = {}
        self._folded: dict[str, np.ndarray] = {}
        self._parts: dict[str, tuple[str, ...]] = {}  # of what has a recipe or is refused
        self.strays: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._names = list(weights)
        if not any(_SPECIAL.search(name) for name in (*weights, *self._expected)):
            self._keys = {name: [name] for name in weights}
            return
        self._sorted = sorted(weights)
        self._by_plain: dict[str, list[str]] = {}
        for name in sorted(self._expected):
            self._by_plain.setdefault(plain_name(name), []).append(name)
        for key in weights:
            self._take(key)
        self._names = list(self._keys)
        self._find_recipes()
        for name, keys in self._keys.items():
            own = self._recipes.get(name)
            if name not in self.refused and not (own and own.overrides) and not self._agree(keys):
                self.refused[name] = _contradiction(name, keys)
        for name, own in self._recipes.items():
            if name in self._keys and name not in self.refused and not own.overrides:
                self._compare(name, own.shape)

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray]) -> PlainWeights:
        """The weights, unless they are plain already."""
        return weights if isinstance(weights, cls) else cls(weights)

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self.refused:
            raise ValueError(self.refused[name])
        if name in self._recipes:
            if name not in self._folded:
                folded = self._fold(name, self._recipes[name])
                self._folded[name] = np.asarray(folded)  # a product of scalars is none
            return self._folded[name]
        given = self._weights[self._keys[name][0]]
        return given if isinstance(given, SmallMatrix) else np.asarray(given)

    def __contains__(self, name: object) -> bool:
        return name in self._recipes or name in self._keys or name in self.refused

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def ndim(self, name: str) -> int | None:
        """How many axes a weight has, None if it has no one value; nothing is folded to know."""
        if name in self.refused:
            return None
        own = self._recipes.get(name)
        return len(own.shape if own else np.shape(self._weights[self._keys[name][0]]))

    def keys_of(self, name: str) -> list[str]:
        """The checkpoint's own keys that a plain name was made from."""
        parts = self._parts.get(name, ())
        return [*self._keys.get(name, ()), *(key for part in parts for key in self.keys_of(part))]

    def folds(self) -> dict[str, str]:
        """Plain name → in which form the weight was stored, where that was in pieces."""
        return {name: self._recipes[name].by for name in self._names if name in self._recipes}

    # ---- names

    def _take(self, key: str) -> None:
        last = key.rpartition(".")[2]
        if last == _STRAY and key not in self._expected and self._beside_a_module(key):
            self.strays[key] = "how many models an AveragedModel is made from"
            return
        name = self._canonical(key)
        if last in _FLAT and key not in self._expected:
            self.refused[name] = (
                f"{key!r} holds many weights in a row, as FullyShardedDataParallel keeps them on "
                "each machine: save its full state_dict (StateDictType.FULL_STATE_DICT)"
            )
        self._keys.setdefault(name, []).append(key)

    def _canonical(self, name: str) -> str:
        """The expected name that a name stands for, if there is one, else the plain one.

        Of several that are alike without wrappers' names, the one of which the least has to go.
        """
        if name in self._expected:
            return name
        plain = plain_name(name)
        expected = self._by_plain.get(plain, [plain])
        if len(expected) > 1:
            expected = [other for other in expected if _is_within(other, name)] or [plain]
        return max(expected, key=len)

    # ---- pieces

    def _find_recipes(self) -> None:
        shapes = {name: np.shape(self._weights[keys[0]]) for name, keys in self._keys.items()}
        for _ in range(MAX_ROUNDS):
            pieces = self._pieces()
            into: dict[str, str] = {}
            for base, roles in pieces.items():
                dropped = "raw" in roles and self._dropped(roles["raw"])
                if base in self._parts:
                    continue
                ways = recipes(base, roles, shapes, dropped)
                if not ways:
                    continue
                self._recipes[base] = ways[0]
                self._parts[base] = tuple(dict.fromkeys(p for own in ways for p in own.parts))
                shapes[base] = ways[0].shape
                into |= dict.fromkeys(self._parts[base], base)
                if len(ways) > 1:
                    self.refused[base] = _contradiction(base, self.keys_of(base))
            if not into:
                break
            self._replace(into)
        for base, roles in pieces.items():
            if base in self._parts:
                continue
            given = base in self._keys
            if given and {"orig", "u"} <= roles.keys() and "v" not in roles:
                # torch before 1.1 kept the normalised weight itself, and ran it in eval()
                into |= {roles["orig"]: base, roles["u"]: base}
            elif why := refusal(base, roles, given):
                self.refused[base] = why
                self._parts[base] = tuple(roles.values())
                into |= dict.fromkeys(roles.values(), base)
        self._replace(into)

    def _pieces(self) -> dict[str, dict[str, str]]:
        """Weight → what piece of it → the name of that, for all names that may be pieces."""
        pieces: dict[str, dict[str, str]] = {}
        for name in self._names:
            split = None if name in self._expected else piece(name)
            if split:
                pieces.setdefault(self._canonical(split[0]), {})[split[1]] = name
        return pieces

    def _dropped(self, raw: str) -> bool:
        """Whether a piece ``X.weight_raw`` has an ``X.module`` beside it, as fastai names them."""
        return any(map(self._beside_a_module, self._keys.get(raw, ())))

    def _beside_a_module(self, key: str) -> bool:
        inside = key.removesuffix(key.rpartition(".")[2]) + "module."
        place = bisect_left(self._sorted, inside)
        return place < len(self._sorted) and self._sorted[place].startswith(inside)

    def _replace(self, into: Mapping[str, str]) -> None:
        """Names by those of the weights they are pieces of; each stands where its first did."""
        self._names = list(dict.fromkeys(into.get(name, name) for name in self._names))

    def _fold(self, name: str, own: Recipe) -> np.ndarray:
        try:
            arrays = [self[part] for part in own.parts]
            with np.errstate(all="ignore"):  # a row of zeros is NaN in torch, too
                folded = own.fold(*arrays)
                if own.overrides:
                    return folded
                double = any(array.dtype == np.float64 for array in arrays)
                return folded.astype(np.float64 if double else np.float32)
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be folded: {error}") from None

    # ---- names that claim the same weight

    def _agree(self, keys: list[str]) -> bool:
        first, *others = (np.asarray(self._weights[key]) for key in keys)
        return all(_equal(first, other) for other in others)

    def _compare(self, base: str, shape: tuple[int, ...]) -> None:
        """Refuse a weight that is there whole and in pieces, and not the same."""
        stored = np.asarray(self._weights[self._keys[base][0]])
        if stored.shape == shape and stored.dtype.kind == "f":
            try:
                folded = self[base]
            except ValueError:
                return  # said when it is asked for
            close = AGREEMENT * float(np.max(np.abs(folded), initial=0))
            if np.allclose(stored, folded, rtol=0, atol=close, equal_nan=True):
                return
        self.refused[base] = _contradiction(base, self.keys_of(base))


def _is_within(name: str, longer: str) -> bool:
    """Whether the parts of a name are among those of another, in their order."""
    parts = iter(longer.split("."))
    return all(part in parts for part in name.split("."))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one is other:
        return True
    floats = one.dtype.kind in "fc" and other.dtype.kind in "fc"
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=floats)


def _contradiction(name: str, keys: list[str]) -> str:
    named = " and ".join(repr(key) for key in dict.fromkeys(keys))
    return (
        f"{named} claim the same weight, {name!r}, and differ: nothing tells which of them the "
        "model uses, so give a dict with only that one"
    )


def missing_weight(
    weights: PlainWeights, prefix: str, name: str, kind: str, fitting: Iterable[str]
) -> MissingWeightError:
    """The error that there is no weight of a name under a prefix: what there is instead, and which
    prefixes would do, of those under which there is a layer of this kind."""
    present = [n for n in weights if n.startswith(prefix)] or list(weights)
    shown = ", ".join(present[:4]) + (", ..." if len(present) > 4 else "")
    said = f"no {prefix}{name}, which {with_article(kind)} has; there is {shown or 'nothing'}"
    others = [other for other in fitting if other != prefix]
    alike = [other for other in others if other.removesuffix(".").endswith(prefix.rstrip("."))]
    if prefix and prefix + "." in others:
        said += f"; a prefix ends with its dot: prefix={prefix + '.'!r}"
    elif near := alike or others:
        said += "; did you mean " + " or ".join(f"prefix={p!r}" for p in near[:4]) + "?"
    elif reasons := [why for n, why in weights.refused.items() if n.startswith(prefix)]:
        said += "; " + "; ".join(reasons[:2])
    return MissingWeightError(said)


def layer_weights(
    weights: Mapping[str, np.ndarray], prefix: str, kind: str, ndim: int
) -> dict[str, np.ndarray]:
    """``weight`` and, if it is there, ``bias`` under a prefix, for a layer that has no others.

    ``ndim``: the weight's, by which other prefixes are suggested in the KeyError where there is no
    weight. ValueError where one of them has no one value.
    """
    weights, prefix = PlainWeights.of(weights), plain_name(prefix)
    if prefix + "weight" not in weights:
        ends = [n.removesuffix("weight") for n in weights if n.endswith(".weight")]
        fitting = [p for p in ends if weights.ndim(p + "weight") == ndim]
        raise missing_weight(weights, prefix, "weight", kind, fitting)
    names = [name for name in ("weight", "bias") if prefix + name in weights]
    return {name: weights[prefix + name] for name in names}
