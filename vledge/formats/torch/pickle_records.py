"""Pickle opcodes interpreted into inert records; nothing a file names is ever looked up or called.

A stand-in for ``pickle.Unpickler`` that knows no classes: where pickle would import a name and call
it, this module writes down a `Global` and a `Call`. What the records mean is for others to say.
"""

import mmap
import struct
from collections.abc import Callable
from typing import Final

from vledge.budget import Budget
from vledge.errors import FormatError, cut

__all__ = ["Call", "Global", "OddKey", "Persistent", "PickleReader"]

OPCODES_AT_A_TIME: Final = 4_096  # that are charged together
# Bytes of what a pickle makes: an object with its head, a place in a list or tuple (lists have room
# to grow), an entry of a dict (its table doubles), a name of the memo.
BYTES_OF_AN_OBJECT: Final = 72
BYTES_OF_A_NUMBER: Final = 32
BYTES_OF_A_REFERENCE: Final = 8
BYTES_OF_A_PLACE: Final = 12
BYTES_OF_AN_ENTRY: Final = 88
BYTES_OF_A_FIRST_ENTRY: Final = 232
MAX_NAME_LENGTH: Final = 2_000
MAX_INTEGER_BYTES: Final = 256  # the largest honest one is a random generator's 128 bits
MAX_PROTOCOL: Final = 5

# Names that only an attack has a reason to put into a checkpoint. Refusing them protects nobody
# here, where no name is ever called; it tells the owner of the file before another program runs it.
HOSTILE_PACKAGES: Final = {
    *("ctypes", "importlib", "nt", "os", "posix", "pty", "runpy", "shutil", "socket"),
    *("subprocess", "webbrowser"),
}
HOSTILE_BUILTINS: Final = {
    *("__import__", "breakpoint", "compile", "eval", "exec", "execfile", "input", "open"),
}

STOP: Final = ord(".")


class Global:
    """A dotted name that the file refers to, as text."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Global({self.path!r})"


class Call:
    """What pickle would have made by calling ``function``, and what it would then have put into it.

    ``state`` is what BUILD would set, ``elements`` what APPEND would add, ``entries`` what SETITEM
    would add. A class instantiated (NEWOBJ) and a function called (REDUCE) look the same.
    """

    __slots__ = ("arguments", "elements", "entries", "function", "state")

    def __init__(self, function: object, arguments: tuple[object, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.state: object = None
        self.elements: list[object] | None = None
        self.entries: dict[object, object] | None = None

    def __repr__(self) -> str:
        return f"Call({self.function!r}, {len(self.arguments)} arguments)"


class Persistent:
    """A reference to something outside the pickle; torch refers to its storages so."""

    __slots__ = ("identity",)

    def __init__(self, identity: object) -> None:
        self.identity = identity


class OddKey:
    """A dict key that is no plain scalar, kept by identity so that no key is hashed or compared."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class PickleReader:
    """Reads one pickle of ``data``, from byte ``start``; ``position`` is then just behind it.

    Each opcode is a step of the ``budget``, and all that it makes is charged.
    """

    def __init__(self, data: bytes | mmap.mmap, budget: Budget, start: int = 0) -> None:
        self.persistent: list[Persistent] = []
        self.position = start
        self._start = start
        self._data = data
        self._end = len(data)
        self._budget = budget
        self._bytes = 0  # not charged yet
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def read(self) -> object:
        """The value that the pickle stands for, in scalars, containers and records."""
        while True:
            for count in range(OPCODES_AT_A_TIME):
                code = self._take(1)[0]
                if code == STOP:
                    self._charge(count + 1)
                    value = self._pop()
                    if self._stack or self._marks:
                        raise self._wrong("the pickle stops with values left over")
                    return value
                handler = _HANDLERS.get(code)
                if handler is None:
                    raise self._wrong(
                        f"pickle opcode {bytes([code])!r} is none that torch.save writes"
                    )
                handler(self)
            self._charge(OPCODES_AT_A_TIME)

    def _charge(self, opcodes: int) -> None:
        self._budget.step(opcodes, "the opcodes of its pickle")
        self._budget.take(self._bytes + BYTES_OF_A_REFERENCE * opcodes, "what its pickle holds")
        self._bytes = 0

    def _wrong(self, what: str) -> FormatError:
        return FormatError(f"{what} (byte {self.position - self._start} of the pickle)")

    def _take(self, count: int) -> bytes:
        start = self.position
        if count > self._end - start:
            raise self._wrong("the pickle is truncated")
        if count > OPCODES_AT_A_TIME:
            self._budget.take(2 * count, "a value of its pickle")
        self.position = start + count
        return self._data[start : self.position]

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _line(self) -> str:
        end = self._data.find(b"\n", self.position, self._end)
        if end < 0:
            raise self._wrong("the pickle is truncated")
        line = self._text(end - self.position)
        self._take(1)
        return line

    def _text(self, length: int) -> str:
        raw = self._take(length)
        try:
            text = raw.decode("utf-8", "surrogatepass")
            self._bytes += BYTES_OF_AN_OBJECT + len(text)
            return text
        except UnicodeDecodeError:
            raise self._wrong("a string in the pickle is not UTF-8") from None

    def _pop(self) -> object:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise self._wrong("a pickle opcode takes a value where there is none")
        return self._stack.pop()

    def _top(self) -> object:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise self._wrong("a pickle opcode wants a mark where there is none")
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        self._bytes += BYTES_OF_A_PLACE * len(values)
        return values

    def _push_container(self, value: object) -> None:
        self._bytes += BYTES_OF_AN_OBJECT
        self._stack.append(value)

    def _push_tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push_container(tuple(reversed(values)))

    def _push_integer(self, length: int) -> None:
        if length > MAX_INTEGER_BYTES:
            raise self._wrong(f"an integer of {length} bytes in the pickle")
        self._bytes += BYTES_OF_A_NUMBER + length
        self._stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def _push_decimal(self) -> None:
        """INT and LONG of protocol 1: ``5``, ``5L``, and ``00`` and ``01`` for False and True."""
        digits = self._line().removesuffix("L")
        if digits in ("00", "01"):
            self._stack.append(digits == "01")
            return
        if len(digits) > 2 * MAX_INTEGER_BYTES or not digits.removeprefix("-").isdecimal():
            raise self._wrong("an integer in the pickle is not one")
        self._bytes += BYTES_OF_A_NUMBER + len(digits)
        self._stack.append(int(digits))

    def _push_number(self, number: float) -> None:
        self._bytes += BYTES_OF_A_NUMBER
        self._stack.append(number)

    def _push_bytes(self, length: int) -> None:
        self._bytes += BYTES_OF_AN_OBJECT + length
        self._stack.append(self._take(length))

    def _push_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._wrong("a global of the pickle has a name that is no text")
        if len(module) + len(name) > MAX_NAME_LENGTH:
            raise self._wrong(
                f"the pickle names something of {len(module) + len(name):,} characters, "
                f"{cut(f'{module}.{name}')!r}"
            )
        package = module.partition(".")[0]
        if package in HOSTILE_PACKAGES or (
            module in ("builtins", "__builtin__") and name in HOSTILE_BUILTINS
        ):
            raise self._wrong(
                f"the pickle names {f'{module}.{name}'!r}, which no checkpoint has a use for: "
                "the file was made to run code where it is loaded (nothing was run)"
            )
        self._push_container(Global(f"{module}.{name}"))

    def _push_call(self) -> None:
        arguments = self._pop()
        function = self._pop()
        if not isinstance(arguments, tuple):
            raise self._wrong("the arguments of a call in the pickle are no tuple")
        self._push_container(Call(function, arguments))

    def _push_call_with_keywords(self) -> None:
        """NEWOBJ_EX; the keywords only matter to the class, which is never called."""
        self._pop()
        self._push_call()

    def _push_persistent(self) -> None:
        record = Persistent(self._pop())
        self.persistent.append(record)
        self._push_container(record)

    def _push_set(self, kind: str, elements: list[object]) -> None:
        record = Call(Global(kind), ())
        record.elements = elements
        self._push_container(record)

    def _remember(self, index: int) -> None:
        self._bytes += BYTES_OF_AN_ENTRY
        self._memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise self._wrong(f"the pickle recalls object {index}, which it never stored")
        self._stack.append(self._memo[index])

    def _append(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Call):
            if target.elements is None:
                target.elements = []
            target.elements.extend(values)
        else:
            raise self._wrong("the pickle appends to what is no list")

    def _set_items(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, Call):
            if target.entries is None:
                target.entries = {}
            target = target.entries
        if not isinstance(target, dict):
            raise self._wrong("the pickle sets an item of what is no dict")
        if len(values) % 2:
            raise self._wrong("the pickle sets a key without a value")
        self._bytes += (len(values) // 2) * BYTES_OF_AN_ENTRY + BYTES_OF_AN_OBJECT * (
            len(values) > 0
        )
        if not target:
            self._bytes += BYTES_OF_A_FIRST_ENTRY
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_plain_key(key)] = value

    def _build(self) -> None:
        state = self._pop()
        target = self._top()
        if not isinstance(target, Call):
            raise self._wrong("the pickle sets attributes of what is no object")
        target.state = state


def _plain_key(key: object) -> object:
    """Scalars stand for themselves; integers only to 64 bits, as larger ones could all collide."""
    if key is None or isinstance(key, str | bool | float):
        return key
    if isinstance(key, int) and key.bit_length() <= 64:
        return key
    return OddKey(key)


def _text_or_bytes(reader: PickleReader, length: int) -> None:
    """A string of Python 2, which had one type for both."""
    raw = reader._take(length)
    reader._bytes += BYTES_OF_AN_OBJECT + length
    try:
        reader._stack.append(raw.decode("utf-8"))
    except UnicodeDecodeError:
        reader._stack.append(raw)


def _stack_global(reader: PickleReader) -> None:
    name = reader._pop()
    reader._push_global(reader._pop(), name)


def _protocol(reader: PickleReader) -> None:
    version = reader._unsigned(1)
    if version > MAX_PROTOCOL:
        raise reader._wrong(f"pickle protocol {version} is not known")


def _set_item(reader: PickleReader) -> None:
    value = reader._pop()
    reader._set_items([reader._pop(), value])


# INST, OBJ, EXT and the opcodes of protocol 0 are missing on purpose: torch.save writes none.
_HANDLERS: Final[dict[int, Callable[[PickleReader], None]]] = {
    ord(code): handler
    for code, handler in {
        b"\x80": _protocol,
        b"\x95": lambda r: r._take(8),  # FRAME: only a hint for buffered reading
        b"N": lambda r: r._stack.append(None),
        b"\x88": lambda r: r._stack.append(True),
        b"\x89": lambda r: r._stack.append(False),
        b"K": lambda r: r._stack.append(r._unsigned(1)),
        b"M": lambda r: r._push_number(r._unsigned(2)),
        b"J": lambda r: r._push_integer(4),
        b"\x8a": lambda r: r._push_integer(r._unsigned(1)),
        b"\x8b": lambda r: r._push_integer(r._unsigned(4)),
        b"I": PickleReader._push_decimal,
        b"L": PickleReader._push_decimal,
        b"G": lambda r: r._push_number(struct.unpack(">d", r._take(8))[0]),
        b"X": lambda r: r._stack.append(r._text(r._unsigned(4))),
        b"\x8c": lambda r: r._stack.append(r._text(r._unsigned(1))),
        b"\x8d": lambda r: r._stack.append(r._text(r._unsigned(8))),
        b"U": lambda r: _text_or_bytes(r, r._unsigned(1)),
        b"T": lambda r: _text_or_bytes(r, r._unsigned(4)),
        b"C": lambda r: r._push_bytes(r._unsigned(1)),
        b"B": lambda r: r._push_bytes(r._unsigned(4)),
        b"\x8e": lambda r: r._push_bytes(r._unsigned(8)),
        b"\x96": lambda r: r._push_bytes(r._unsigned(8)),
        b"(": lambda r: r._marks.append(len(r._stack)),
        b"0": PickleReader._pop,
        b"1": PickleReader._pop_to_mark,
        b"}": lambda r: r._push_container({}),
        b"]": lambda r: r._push_container([]),
        b")": lambda r: r._push_tuple(0),
        b"\x85": lambda r: r._push_tuple(1),
        b"\x86": lambda r: r._push_tuple(2),
        b"\x87": lambda r: r._push_tuple(3),
        b"t": lambda r: r._push_container(tuple(r._pop_to_mark())),
        b"\x8f": lambda r: r._push_set("builtins.set", []),
        b"\x91": lambda r: r._push_set("builtins.frozenset", r._pop_to_mark()),
        b"\x90": lambda r: r._append(r._pop_to_mark()),
        b"a": lambda r: r._append([r._pop()]),
        b"e": lambda r: r._append(r._pop_to_mark()),
        b"s": _set_item,
        b"u": lambda r: r._set_items(r._pop_to_mark()),
        b"q": lambda r: r._remember(r._unsigned(1)),
        b"r": lambda r: r._remember(r._unsigned(4)),
        b"\x94": lambda r: r._remember(len(r._memo)),
        b"h": lambda r: r._recall(r._unsigned(1)),
        b"j": lambda r: r._recall(r._unsigned(4)),
        b"c": lambda r: r._push_global(r._line(), r._line()),
        b"\x93": _stack_global,
        b"R": PickleReader._push_call,
        b"\x81": PickleReader._push_call,
        b"\x92": PickleReader._push_call_with_keywords,
        b"b": PickleReader._build,
        b"Q": PickleReader._push_persistent,
    }.items()
}
