"""What a torch pickle's records are: dicts, modules, tensors.

What is shared in the file is looked at once, and all that is looked at counts against its budget.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from vledge.budget import Budget
from vledge.errors import FormatError, cut, placed
from vledge.formats.tensor_view import MAX_NAME_LENGTH
from vledge.formats.torch.numpy_records import StoredArray
from vledge.formats.torch.packed import packed_parts, steps_of
from vledge.formats.torch.pickle_records import Call, OddKey
from vledge.formats.torch.tensors import QuantisedTensor, Tensor, as_tensor, called

__all__ = [
    "BYTES_OF_A_RECORD",
    "STEPS_OF_A_RECORD",
    "TORCHSCRIPT",
    "Described",
    "Records",
    "is_inside",
    "joined",
]

Described = Tensor | QuantisedTensor | StoredArray

# What looking at a value costs, and what a tensor, a name or a note of it keeps.
STEPS_OF_A_VALUE: Final = 2
STEPS_OF_A_RECORD: Final = 12
BYTES_OF_A_RECORD: Final = 350

TORCHSCRIPT: Final = "__torch__."

_DICTS: Final = {
    "builtins.dict",
    "__builtin__.dict",
    "collections.OrderedDict",
    "collections.defaultdict",
}


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def is_inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}.") if folder else False


class Records:
    """What a pickle's records are: dicts, modules, tensors. What is shared is looked at once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._tensors: dict[int, Described | str | None] = {}  # by identity
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
            fitting = [name for name in names if name and (rest == name or is_inside(rest, name))]
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

    def tensor(self, path: str, name: str, value: object) -> Described | str | None:
        """`as_tensor`, with an error that says where in the file."""
        if not isinstance(value, Call):
            return None
        if id(value) not in self._tensors:
            self.budget.step(STEPS_OF_A_RECORD, "looking at the values of the file")
            self.budget.take(BYTES_OF_A_RECORD, "what is known of the file's values")
            try:
                found = as_tensor(value)
            except FormatError as error:
                raise placed(error, f"tensor {joined(path, name)!r}") from None
            if isinstance(found, QuantisedTensor):
                found = found._replace(steps=self._steps.get(id(value), 0))
            self._tensors[id(value)] = found
        return self._tensors[id(value)]
