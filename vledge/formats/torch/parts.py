"""Which of a torch pickle's values are the model's weights, and what the other values are.

Works on records only: state dicts, whole modules and TorchScript objects become lists of named
tensors, of which nothing has been read yet.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from vledge.errors import FormatError, cut, placed, quoted
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.tensor_view import MAX_NAME_LENGTH, checked_name
from vledge.formats.torch.numpy_records import StoredArray
from vledge.formats.torch.packed import RESULT, renamed
from vledge.formats.torch.pickle_records import Call
from vledge.formats.torch.records import (
    BYTES_OF_A_RECORD,
    STEPS_OF_A_RECORD,
    TORCHSCRIPT,
    Described,
    Records,
    is_inside,
    joined,
)
from vledge.formats.torch.tensors import QuantisedTensor, TensorReader, as_tensor, called

__all__ = ["read_weights"]

MAX_DEPTH: Final = 64
MAX_REPORTED: Final = 100
HOW_TO_SAVE: Final = "save the weights alone: torch.save(model.state_dict(), path)"


class _Part(NamedTuple):
    """A value somewhere in the file that holds weights: a dict of tensors, or a module."""

    path: str
    value: object
    what: str


def read_weights(root: object, key: str | None, reader: TensorReader, format: str) -> Checkpoint:
    """The weights in ``root``, or in the part of it that the dotted path ``key`` names.

    Without ``key``, ``root`` must hold one dict or module that looks like weights. Raises
    FormatError where there is none or several, saying what there is instead.
    """
    records = Records(reader.budget)
    survey = _Survey(records)
    if isinstance(root, dict | list | tuple | Call):
        survey.look_at(root)
    if key is not None:
        path, value = key, records.follow(root, key)
    elif as_tensor(root) is not None:
        path, value = "", root
    else:
        part = survey.only_part()
        path, value = part.path, part.value
    collected = _Collection(records)
    collected.take_part(value)
    if not collected.tensors:
        where = f"{path!r}" if path else "the file"
        raise FormatError(_nothing_in(where, collected.skipped or survey.others))
    weights = {}
    for name, tensor in collected.tensors.items():
        try:
            weights[name] = reader.array(collected.as_run(name, tensor, reader))
        except FormatError as error:
            raise placed(error, f"tensor {joined(path, name)!r}") from None
    elsewhere = {part.path: part.what for part in survey.every_part} | survey.others
    elsewhere = {
        other: what
        for other, what in elsewhere.items()
        if other not in ("", path) and not is_inside(other, path) and not is_inside(path, other)
    }
    return Checkpoint(format, path, weights, collected.skipped, elsewhere)


def _nothing_in(where: str, refused: Mapping[str, str]) -> str:
    listed = "; ".join(f"{cut(path)!r}: {what}" for path, what in list(refused.items())[:5])
    what_there_is = f" (found {listed})" if listed else ""
    return f"no weights that can be read in {where}{what_there_is}; {HOW_TO_SAVE}"


def _is_optimizer(entries: Mapping[object, object]) -> bool:
    return "param_groups" in entries and "state" in entries


class _Survey:
    """A walk over the whole file for the parts that look like weights; each value is seen once."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.parts: list[_Part] = []
        self.others: dict[str, str] = {}
        self._arrays: list[_Part] = []
        self._lesser: list[_Part] = []
        self._seen: set[int] = set()

    def look_at(self, value: object, path: str = "", depth: int = 0) -> None:
        entries = self._records.entries(value)
        identity = id(value if entries is None else entries)  # records may share their entries
        if identity in self._seen:
            return
        self._records.budget.step(STEPS_OF_A_RECORD, "looking at the values of the file")
        self._records.budget.take(BYTES_OF_A_RECORD, "what is known of the file's values")
        self._seen.add(identity)
        if depth > MAX_DEPTH or len(path) > MAX_NAME_LENGTH:
            self._note(path[:MAX_NAME_LENGTH], f"nested more than {MAX_DEPTH} deep, or overlong")
            return
        state = self._records.module_state(value)
        if entries is not None and _is_optimizer(entries):
            self._note(path, "the state of an optimizer")
        elif state is not None:
            if self._holds_tensor(value):
                self.parts.append(_Part(path, value, f"a module, {cut(str(called(value)))}"))
        elif entries is not None or isinstance(value, list | tuple):
            self._look_into(value, path, depth, is_dict=entries is not None)
        elif self._records.tensor(path, "", value) is None:
            self._note(path, f"an object of {cut(str(called(value)))}")

    def _look_into(self, value: object, path: str, depth: int, is_dict: bool) -> None:
        tensors = [
            stored
            for name, child in self._records.children(value)
            if (stored := self._records.tensor(path, name, child))
        ]
        # Counters, losses and random generators' states are tensors too, but no weights; NumPy's
        # arrays beside torch's are means of data and the like.
        weights = {type(stored) for stored in tensors if is_dict and _is_weight(stored)}
        group = (
            self._arrays if weights == {StoredArray} else self.parts if weights else self._lesser
        )
        if tensors:
            kind = "arrays" if group is self._arrays else "tensors"
            group.append(_Part(path, value, f"{len(tensors)} {kind}"))
        for name, child in self._records.children(value):
            if isinstance(child, dict | list | tuple | Call):
                self.look_at(child, joined(path, name), depth + 1)

    def _holds_tensor(self, module: object) -> bool:
        """Whether a module has any: a loss function has none, and is no candidate for weights."""
        waiting, seen = [module], {id(module)}
        while waiting:
            for name, child in self._records.children(waiting.pop()):
                if self._records.tensor("", name, child) is not None:
                    return True
                if self._records.module_state(child) is not None and id(child) not in seen:
                    seen.add(id(child))
                    waiting.append(child)
        return False

    @property
    def every_part(self) -> list[_Part]:
        """All parts with weights in them, those of NumPy's arrays alone last."""
        return self.parts + self._arrays

    def _note(self, path: str, what: str) -> None:
        if len(self.others) < MAX_REPORTED:
            self.others[path] = what

    def only_part(self) -> _Part:
        """The one part that looks like weights; FormatError where there is none or several."""
        candidates = self.parts or self._arrays or self._lesser
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise FormatError(_nothing_in("the file", self.others))
        listed = ", ".join(
            f"key={quoted(part.path)} ({part.what}{'' if part.path else ' at the top'})"
            for part in candidates[:20]
        )
        raise FormatError(f"several parts look like weights, say which one: {listed}")


def _is_weight(stored: Described | str) -> bool:
    return not isinstance(stored, str) and bool(stored.shape) and "float" in stored.dtype


class _Collection:
    """The tensors of one part under the names that ``state_dict`` gives them."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.tensors: dict[str, Described] = {}
        self.skipped: dict[str, str] = {}
        self._results: dict[str, dict[str, Described]] = {}  # of Linears, by their weights
        self._static: set[str] = set()  # names of modules whose results are quantised

    def as_run(self, name: str, tensor: Described, reader: TensorReader) -> Described:
        """A tensor as its layer runs it: weights of a Linear that is quantised statically, whose
        inputs come as integers, are floats here."""
        if not isinstance(tensor, QuantisedTensor) or not tensor.steps:
            return tensor
        result = self._results.get(name, {})
        static = any(reader.array(one) != RESULT[what] for what, one in result.items())
        if static or name.rpartition(".")[0] in self._static:
            return tensor._replace(steps=0)
        return tensor

    def take_part(self, value: object) -> None:
        if as_tensor(value) is not None:
            raise FormatError(
                f"a tensor without a name instead of a dict of tensors; {HOW_TO_SAVE}"
            )
        self._take(value, "", 0)
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        self.tensors, left_out, self._results = renamed(self.tensors, shapes)
        self.skipped |= left_out

    def _take(self, value: object, prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise FormatError(f"modules nested more than {MAX_DEPTH} deep at {prefix[:80]!r}")
        scripted = (called(value) or "").startswith(TORCHSCRIPT)
        result = self._records.module_state(value) or {}
        given = {what: result.get(what) for what in RESULT}
        if any(isinstance(n, int | float) and n != RESULT[what] for what, n in given.items()):
            self._static.add(prefix)
        for name, child in self._records.children(value):
            path = checked_name(joined(prefix, name))
            self._records.budget.take(BYTES_OF_A_RECORD + len(path), "the weights' names")
            tensor = self._records.tensor(prefix, name, child)
            if isinstance(tensor, str):
                self.skipped[path] = tensor
            elif tensor is not None:
                self.tensors[path] = tensor
            elif self._records.module_state(child) is not None:
                self._take(child, path, depth + 1)
            elif f".{name}".endswith("._packed_params.dtype"):
                continue  # of a quantised Linear: qint8 or float16, as its weight is
            elif not scripted or _is_object(child):
                self.skipped[path] = self._in_words(child)

    def _in_words(self, value: object) -> str:
        if self._records.entries(value) is not None:
            return "a dict; read it by key="
        name = called(value)
        return f"an object of {cut(name)}" if name else f"a value of type {type(value).__name__}"


def _is_object(value: object) -> bool:
    """Whether an attribute of a TorchScript object is more than a scalar or a list of such."""
    name = called(value)
    return name is not None and not name.startswith("torch.jit._pickle.")
