"""Which of a torch pickle's values are the model's weights, and what the other values are.

Works on records only: state dicts, whole modules and TorchScript objects become lists of named
tensors, of which nothing has been read yet.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from vledge.budget import Budget
from vledge.errors import FormatError, cut, placed, quoted
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.tensor_view import MAX_NAME_LENGTH, checked_name
from vledge.formats.torch.numpy_records import StoredArray
from vledge.formats.torch.packed import RESULT, packed_parts, renamed, steps_of
from vledge.formats.torch.pickle_records import Call, OddKey
from vledge.formats.torch.tensors import (
    QuantisedTensor,
    Tensor,
    TensorReader,
    as_tensor,
    called,
)

__all__ = ["read_weights"]

_Described = Tensor | QuantisedTensor | StoredArray

MAX_DEPTH: Final = 64
MAX_REPORTED: Final = 100
# What looking at a value costs, and what a tensor, a name or a note of it keeps.
STEPS_OF_A_VALUE: Final = 2
STEPS_OF_A_RECORD: Final = 12
BYTES_OF_A_RECORD: Final = 350

TORCHSCRIPT: Final = "__torch__."
HOW_TO_SAVE: Final = "save the weights alone: torch.save(model.state_dict(), path)"

_DICTS: Final = {
    "builtins.dict",
    "__builtin__.dict",
    "collections.OrderedDict",
    "collections.defaultdict",
}


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
    records = _Records(reader.budget)
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
            raise placed(error, f"tensor {_joined(path, name)!r}") from None
    elsewhere = {part.path: part.what for part in survey.every_part} | survey.others
    elsewhere = {
        other: what
        for other, what in elsewhere.items()
        if other not in ("", path) and not _inside(other, path) and not _inside(path, other)
    }
    return Checkpoint(format, path, weights, collected.skipped, elsewhere)


def _nothing_in(where: str, refused: Mapping[str, str]) -> str:
    listed = "; ".join(f"{cut(path)!r}: {what}" for path, what in list(refused.items())[:5])
    what_there_is = f" (found {listed})" if listed else ""
    return f"no weights that can be read in {where}{what_there_is}; {HOW_TO_SAVE}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}.") if folder else False


class _Records:
    """What a pickle's records are: dicts, modules, tensors. What is shared is looked at once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._tensors: dict[int, _Described | str | None] = {}  # by identity
        self._pairs: dict[int, dict[object, object]] = {}
        self._left_out: dict[int, frozenset[str]] = {}
        self._steps: dict[int, int] = {}  # of packed weights' records, which the pickle keeps

    def entries(self, value: object) -> Mapping[object, object] | None:
        """The items of a dict, or of the record of one."""
        if isinstance(value, dict):
            return value
        if not isinstance(value, Call) or called(value) not in _DICTS:
            return None
        match value.arguments:
            case (list() as pairs,):  # Python 2 gave an OrderedDict its items as a list of pairs
                value.arguments = ()
                made = self._of_pairs(pairs)
                if value.entries is None:
                    value.entries = made
                else:
                    self.budget.take(BYTES_OF_A_RECORD * len(made), "the pairs of an OrderedDict")
                    value.entries = {**made, **value.entries}
        if value.entries is None:
            value.entries = {}
        return value.entries

    def _of_pairs(self, pairs: list[object]) -> dict[object, object]:
        if id(pairs) not in self._pairs:
            self.budget.take(BYTES_OF_A_RECORD * len(pairs), "the pairs of an OrderedDict")
            self.budget.step(len(pairs), "the pairs of an OrderedDict")
            made: dict[object, object] = {}
            for pair in pairs:
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise FormatError("an OrderedDict is made from what are no pairs")
                if isinstance(pair[0], str):
                    made.setdefault(*pair)
            self._pairs[id(pairs)] = made
        return self._pairs[id(pairs)]

    def module_state(self, value: object) -> Mapping[object, object] | None:
        """The attributes of a pickled ``torch.nn.Module`` or of a TorchScript object."""
        if not isinstance(value, Call):
            return None
        state = self.entries(value.state)
        if state is None:
            return None
        if (called(value) or "").startswith(TORCHSCRIPT):
            return state
        modules = (self.entries(state.get(name)) for name in ("_parameters", "_modules"))
        return state if all(entries is not None for entries in modules) else None

    def children(self, value: object) -> Iterator[tuple[str, object]]:
        """The named values inside a container; a module's are its parameters, buffers, modules."""
        entries = self.entries(value)
        state = self.module_state(value) if entries is None else None
        if entries is not None:
            pairs: Iterator[tuple[object, object]] = iter(entries.items())
        elif state is not None and (called(value) or "").startswith(TORCHSCRIPT):
            pairs = iter(state.items())
        elif state is not None:
            pairs = self._module_children(state)
        elif isinstance(value, list | tuple):
            pairs = iter(enumerate(value))
        else:
            return
        for key, child in pairs:
            self.budget.step(STEPS_OF_A_VALUE, "looking at the values of the file")
            if not isinstance(key, OddKey):
                name = key if isinstance(key, str) else repr(key)
                name = name[: MAX_NAME_LENGTH + 1]  # too long by one is noticed as too long
                parts = packed_parts(name, child)
                if parts is None:
                    yield name, child
                    continue
                for part, record in parts.items():
                    if part.startswith("weight") and id(record) not in self._steps:
                        self.budget.take(BYTES_OF_A_RECORD, "what is known of the file's values")
                        self._steps[id(record)] = steps_of(child)
                    yield f"{name}.{part}", record

    def _module_children(self, state: Mapping[object, object]) -> Iterator[tuple[object, object]]:
        """In the order of ``Module.state_dict``, less the buffers that are not part of it."""
        transient = state.get("_non_persistent_buffers_set")
        left_out = transient.elements if isinstance(transient, Call) else None
        if isinstance(transient, Call) and transient.arguments:
            left_out = transient.arguments[0] if isinstance(transient.arguments[0], list) else None
        names = self._names(left_out) if left_out else frozenset()
        for group in ("_parameters", "_buffers", "_modules"):
            for name, child in (self.entries(state.get(group)) or {}).items():
                if child is not None and not (group == "_buffers" and name in names):
                    yield name, child
        for name, child in state.items():
            if isinstance(child, Call) and packed_parts(str(name), child) is not None:
                yield name, child

    def _names(self, values: list[object]) -> frozenset[str]:
        """The texts of a list."""
        if id(values) not in self._left_out:
            self.budget.step(len(values), "the names of buffers")
            self._left_out[id(values)] = frozenset(v for v in values if isinstance(v, str))
            self.budget.take(BYTES_OF_A_RECORD * len(self._left_out[id(values)]), "buffers' names")
        return self._left_out[id(values)]

    def follow(self, root: object, key: str) -> object:
        """The value at a dotted path; a name on the way may itself have dots in it."""
        value, rest = root, key
        while rest:
            names = [name for name, _ in self.children(value)]
            fitting = [name for name in names if name and (rest == name or _inside(rest, name))]
            if not fitting:
                inside = key[: len(key) - len(rest)].rstrip(".")
                have = ", ".join(repr(cut(name)) for name in names[:20]) or "nothing with a name"
                raise FormatError(
                    f"no part {key!r}: {f'{inside!r}' if inside else 'the file'} holds {have}"
                )
            longest = max(fitting, key=len)
            value = next(child for name, child in self.children(value) if name == longest)
            rest = rest[len(longest) + 1 :]
        return value

    def tensor(self, path: str, name: str, value: object) -> _Described | str | None:
        """`as_tensor`, with an error that says where in the file."""
        if not isinstance(value, Call):
            return None
        if id(value) not in self._tensors:
            self.budget.step(STEPS_OF_A_RECORD, "looking at the values of the file")
            self.budget.take(BYTES_OF_A_RECORD, "what is known of the file's values")
            try:
                found = as_tensor(value)
            except FormatError as error:
                raise placed(error, f"tensor {_joined(path, name)!r}") from None
            if isinstance(found, QuantisedTensor):
                found = found._replace(steps=self._steps.get(id(value), 0))
            self._tensors[id(value)] = found
        return self._tensors[id(value)]


def _is_optimizer(entries: Mapping[object, object]) -> bool:
    return "param_groups" in entries and "state" in entries


class _Survey:
    """A walk over the whole file for the parts that look like weights; each value is seen once."""

    def __init__(self, records: _Records) -> None:
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
                self.look_at(child, _joined(path, name), depth + 1)

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


def _is_weight(stored: _Described | str) -> bool:
    return not isinstance(stored, str) and bool(stored.shape) and "float" in stored.dtype


class _Collection:
    """The tensors of one part under the names that ``state_dict`` gives them."""

    def __init__(self, records: _Records) -> None:
        self._records = records
        self.tensors: dict[str, _Described] = {}
        self.skipped: dict[str, str] = {}
        self._results: dict[str, dict[str, _Described]] = {}  # of Linears, by their weights
        self._static: set[str] = set()  # names of modules whose results are quantised

    def as_run(self, name: str, tensor: _Described, reader: TensorReader) -> _Described:
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
            path = checked_name(_joined(prefix, name))
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
