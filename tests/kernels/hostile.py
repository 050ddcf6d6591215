"""Every public name of the compiled modules, called with arguments that it does not expect.

``python -m tests.kernels.hostile DOOR`` tries one door with every hostile value for each of its
arguments, one at a time, and prints how many calls it took and how many of them were refused. It
ends with status 1 where an exception is not one that a door may raise, or where the door no longer
gives what it gave before; if compiled code reads or writes beyond its arrays, the process ends by a
signal or a sanitizer's report. Each call is named on stderr before it is made.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vledge._ext import (
    arrays,
    convolution,
    isa,
    packing,
    product,
    program,
    recurrent,
    room,
    streaming,
    weights,
)
from vledge._ext import stack as stacks
from vledge._ext.weights import Direction
from vledge.small_matrix import SmallMatrix

REFUSALS = (
    *(ValueError, TypeError, MemoryError, OverflowError, IndexError, KeyError, BufferError),
    *(AttributeError, AssertionError, ZeroDivisionError, NotImplementedError),
)
RNG = np.random.default_rng(0)
LONGEST = 240  # seconds that a call may take, under a sanitizer, too
I, H = 5, 18  # noqa: E741 - the sizes' names of the field


def numbers(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def direction(cell: str = "lstm") -> Direction:
    gates = weights.GATES[cell]
    return Direction(cell, numbers(gates * H, I), numbers(gates * H, H), numbers(gates * H))


def stored_small(values: np.ndarray, scales: np.ndarray, storage: str) -> Direction:
    return Direction("gru", numbers(3 * H, I), SmallMatrix(values, scales, storage))


LSTM, GRU = [direction()], [direction("gru")]
TOP = Direction("gru", numbers(3 * H, H), numbers(3 * H, H))
SIZES, ORDER = integers(3, 2, 2), integers(2, 0, 1)
SEQUENCES = [numbers(n, I) for n in (2, 3, 3)]
WEIGHT, KERNEL, SIGNAL = numbers(7, I), numbers(6, 4, 3), numbers(2, 4, 9)
ADD, COPY = isa.micros()["add"][0], isa.micros()["copy"][0]
ADDITION = integers(ADD | 2 << 8 | 0 << 16 | 1 << 24)


def slid(*arguments: Any) -> Any:
    return convolution.Convolution(KERNEL, None, [1], [1])(*arguments)


def gathered(*arguments: Any) -> Any:
    packing.gather(*arguments)
    return arguments[0]


def scattered(*arguments: Any) -> Any:
    packing.scatter(*arguments)
    return arguments[1]


def chained(*arguments: Any) -> Any:
    isa.chain(*arguments)
    return arguments[3]


def limited(value: Any) -> Any:
    before = recurrent.limits()
    try:
        recurrent.limits(chunk_bytes=value)
        return recurrent.run(LSTM, numbers(7, I) * 0, SIZES)
    finally:
        recurrent.limits(**before)


def plain(x: np.ndarray) -> list[np.ndarray]:
    return [np.negative(x)]


# y = -x by the handler where it takes x, else by Python
INSTRUCTION = ("negative", [0], [1], [0], [], [], [], plain)


def negating() -> program.Program:
    return program.Program(2, {}, [(None, *INSTRUCTION[1:])], (0, 1), [0], [1])


def layered(made: Callable[..., list[Any]] = lambda x, h: [-x, -h]) -> program.Program:
    """A program of x and a state that makes these."""
    node = (None, [0, 1], [2, 3], [0, 1], [], [], [], made)
    return program.Program(4, {}, [node], (0, 1), [0, 1], [2, 3])


def programmed(*arguments: Any) -> Any:
    return program.Program(*arguments).run([numbers(3) * 0])


def profiled(nanoseconds: Any, declined: Any) -> Any:
    return negating().run([np.ones(3, np.float32)], (nanoseconds, declined))


def carried(*arguments: Any) -> program.CarriedProgram:
    """x and a state, whose sum is both the result and the next state."""
    add = (None, [0, 1], [2], [0, 1], [], [], [], lambda x, s: [x + s])
    whole = program.Program(3, {}, [add], (0, 1), [0, 1], [2])
    frames = [("x", 0, np.float32, (1, 3), 0)]
    given = arguments or ([(0, 1)], frames, [], [("y", 0, 0)])

    def taken(x: Any) -> list[np.ndarray]:
        return [np.asarray(x, np.float32)[None]]

    made = program.CarriedProgram(whole, *given, taken, lambda wanted, out: "no", lambda e: None)
    made.set_states([np.zeros((1, 3), np.float32)])
    return made


def stack() -> streaming.StreamingStack:
    return streaming.StreamingStack(GRU, 3)


def restated(*arguments: Any) -> Any:
    running = stack()
    running.set_state(*arguments)
    return running.get_state()[0]


class Door(NamedTuple):
    """A call, and arguments that it takes, made anew for each call."""

    call: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]]
    but: tuple[str, ...] = ()  #: what would only ask for as much memory or time as it says


LSTM_PARTS = (
    *("lstm", numbers(4 * H, I), numbers(4 * H, 6), numbers(4 * H), numbers(4 * H)),
    *(numbers(6, H), False, (("tanh", 0.0, 0.0),) * 3),
)


def within(most: Any, trips: Any) -> Any:
    with room.Room(most, trips):
        return np.zeros(4)


DOORS = {
    "arrays.overlaps_itself": Door(arrays.overlaps_itself, lambda: (WEIGHT,)),
    "convolution.Convolution": Door(
        lambda *a: convolution.Convolution(*a).weight(),
        lambda: (KERNEL, numbers(6), [1], [2], 1, False, False),
    ),
    "convolution.Convolution by groups, transposed": Door(
        lambda *a: convolution.Convolution(*a).weight(),
        lambda: (numbers(4, 3, 2, 2), None, [2, 1], [1, 1], 2, True, False),
    ),
    "convolution.Convolution.__call__": Door(
        slid, lambda: (SIGNAL, [9], [1], None, None, numbers(6) * 0 + 2, 1)
    ),
    "convolution.vectors_of_group": Door(convolution.vectors_of_group, lambda: (33, 8)),
    "isa.runnable": Door(isa.runnable, tuple),
    "isa.cpu_features": Door(isa.cpu_features, tuple),
    "isa.select": Door(isa.select, lambda: (None,)),
    "isa.selected": Door(isa.selected, tuple),
    "isa.integer_ways": Door(isa.integer_ways, tuple),
    "isa.select_integers": Door(isa.select_integers, lambda: (None,)),
    "isa.selected_integers": Door(isa.selected_integers, tuple),
    "isa.unsigned_weights": Door(isa.unsigned_weights, lambda: ("dots",)),
    "isa.lanes": Door(isa.lanes, lambda: (np.float32,)),
    "isa.tile_rows": Door(isa.tile_rows, tuple),
    "isa.apply": Door(isa.apply, lambda: ("tanh", WEIGHT)),
    "isa.micros": Door(isa.micros, tuple),
    "isa.chain_limits": Door(isa.chain_limits, tuple),
    "isa.chain_elements": Door(isa.chain_elements, tuple),
    "isa.chain": Door(
        chained,
        lambda: (ADDITION, np.zeros(0, np.float32), [WEIGHT, WEIGHT], [WEIGHT * 0], 0),
    ),
    "packing.total": Door(packing.total, lambda: (integers(3, 2, 2),)),
    "packing.gather": Door(
        gathered, lambda: (np.empty((8, I), np.float32), list(SEQUENCES), integers(3, 3, 2),
                           integers(1, 2, 0), integers(0, 0, 0))
    ),
    "packing.scatter": Door(
        scattered, lambda: (WEIGHT, np.zeros((3, 4, I), np.float32), SIZES, ORDER, None,
                            np.ones(I, np.float32))
    ),
    "packing.sort_descending": Door(packing.sort_descending, lambda: (integers(3, 1, 2),)),
    "packing.are_batch_sizes": Door(packing.are_batch_sizes, lambda: (SIZES, 7)),
    "packing.are_inverse": Door(packing.are_inverse, lambda: (ORDER, integers(1, 2, 0))),
    "packing.running_out": Door(packing.running_out, lambda: (integers(3, 2, 1), 3),
                                ("argument 1: 2**31",)),
    "packing.Sequences": Door(lambda *a: bool(packing.Sequences(*a)), tuple),
    "product.Product": Door(
        lambda *a: product.Product(*a).weight(), lambda: (WEIGHT, np.ones(7, np.float32))
    ),
    "product.Product.__call__": Door(
        lambda *a: product.Product(WEIGHT, numbers(7) * 0)(*a),
        lambda: (SEQUENCES[0], True, np.zeros((2, 7), np.float32), 2),
    ),
    "program.type_code": Door(program.type_code, lambda: (np.float32,)),
    "program.run_handler": Door(
        lambda *a: program.run_handler("matmul", *a), lambda: ([WEIGHT, SEQUENCES[0].T.copy()],)
    ),
    "program.Program": Door(
        programmed, lambda: (2, {}, [(None, *INSTRUCTION[1:])], (0, 1), [0], [1])
    ),
    "program.Program instruction": Door(
        lambda *a: programmed(2, {}, [(None, *a, plain)], (0, 1), [0], [1]),
        lambda: ([0], [1], [0], [], [], []),
    ),
    "program.Program.run": Door(
        lambda x, out: negating().run([x], outs=[out]), lambda: (WEIGHT, WEIGHT * 0)
    ),
    "program.Program.run profile": Door(
        profiled, lambda: (np.zeros(1, np.int64), np.zeros(1, np.int32))
    ),
    "program.Program.run_feed": Door(
        lambda x, name, number, sizes: negating().run_feed({"x": x}, ((name, number, sizes),)),
        lambda: (WEIGHT, "x", np.dtype(np.float32).num, (7, -1)),
    ),
    "program.CarriedProgram": Door(
        lambda *a: carried(*a).step(np.ones(3, np.float32)),
        lambda: ([(0, 1)], [("x", 0, np.float32, (1, 3), 0)], [], [("y", 0, 0)]),
    ),
    "program.CarriedProgram.step": Door(
        lambda x, out: carried().step(x, out), lambda: (WEIGHT[0, :3], np.zeros(3, np.float32))
    ),
    "program.CarriedProgram.run": Door(
        lambda x: carried().run([x]), lambda: (np.ones((1, 3), np.float32),)
    ),
    "program.CarriedProgram.set_states": Door(
        lambda *a: carried().set_states([*a]), lambda: (np.ones((1, 3), np.float32),)
    ),
    "program.LayerCall": Door(
        lambda *a: program.LayerCall(*a).run(np.ones((4, 3, I), "f4"), None, None, False),
        lambda: (layered(), 1, 1, I, H, False),
    ),
    "program.LayerCall.run": Door(
        lambda *a: program.LayerCall(layered(), 1, 1, I, H, False).run(*a),
        lambda: (np.ones((4, 3, I), "f4"), np.ones((1, 3, H), "f4"), None, False),
    ),
    "program.LayerCall of no layer": Door(
        lambda y, h: program.LayerCall(layered(lambda *_: [y, h]), 1, 1, I, H, False).run(
            np.ones((4, 3, I), "f4"), None, None, False
        ),
        lambda: (np.ones((4, 3, H), "f4"), np.ones((1, 3, H), "f4")),
    ),
    "program.Frame": Door(lambda *a: bool(program.Frame(*a)), lambda: (negating(), 2)),
    "program.Holder": Door(lambda *a: bool(program.Holder(*a)), tuple),
    "recurrent.limits": Door(limited, lambda: (1 << 16,)),
    "recurrent.limit_units": Door(recurrent.limit_units, tuple),
    "recurrent.chunk_rows": Door(recurrent.chunk_rows, lambda: (LSTM[0], 3, 12)),
    "room.Room": Door(within, lambda: (1 << 20, 5)),
    "room.ask": Door(room.ask, lambda: (1 << 10,)),
    "room.count_trip": Door(room.count_trip, tuple),
    "recurrent.run": Door(
        recurrent.run, lambda: (LSTM, WEIGHT, SIZES, numbers(1, 3, H), numbers(1, 3, H) * 0, 2)
    ),
    "recurrent.run_padded": Door(
        recurrent.run_padded,
        lambda: (LSTM, np.ones((4, 3, I), np.float32), SIZES, ORDER, None, None, False, 1),
    ),
    "recurrent.run_padded packed": Door(
        lambda *a: recurrent.run_padded(*a, unpack=4),
        lambda: (LSTM, WEIGHT, SIZES, ORDER, None, None, False, 1),
    ),
    "recurrent.run_list": Door(
        recurrent.run_list,
        lambda: (
            *(LSTM, [numbers(n, I) * 0 for n in (3, 1, 3)], SIZES, ORDER),
            *(numbers(1, 3, H) * 0, numbers(1, 3, H) * 0, 1),
        ),
    ),
    "recurrent.run_list a sequence": Door(
        lambda x: recurrent.run_list(LSTM, [x, x[:1], x], SIZES, ORDER),
        lambda: (SEQUENCES[1],),
    ),
    "recurrent.plain_lengths": Door(
        recurrent.plain_lengths, lambda: (SEQUENCES, np.dtype(np.float32), I)
    ),
    "recurrent.rehearsal": Door(
        lambda *a: bool(recurrent.rehearsal(*a)), lambda: (LSTM, WEIGHT, SIZES, 2)
    ),
    "recurrent.seconds_of_meetings": Door(
        lambda *a: recurrent.seconds_of_meetings(*a) >= 0, lambda: (1, 3)
    ),
    "stack.Stack": Door(
        lambda *a: stacks.Stack(*a).run(WEIGHT, None, None, False), lambda: ([GRU, [TOP]],)
    ),
    "stack.Stack.run": Door(
        lambda *a: stacks.Stack([LSTM]).run(*a),
        lambda: (np.ones((4, 3, I), "f4"), *[np.ones((1, 3, H), "f4")] * 2, False),
    ),
    "stack.Stepper": Door(
        lambda *a: stacks.Stepper(*a).step(WEIGHT, None), lambda: ([*GRU, TOP],)
    ),
    "stack.Stepper.step": Door(
        lambda *a: stacks.Stepper(LSTM).step(*a),
        lambda: (WEIGHT[:3], np.ones((1, 3, H), "f4"), np.ones((1, 3, H), "f4")),
    ),
    "stack.Stepper.cell": Door(
        lambda *a: stacks.Stepper(LSTM).cell(*a),
        lambda: (WEIGHT[:3], np.ones((3, H), "f4"), np.ones((3, H), "f4")),
    ),
    "streaming.StreamingStack": Door(
        lambda *a: streaming.StreamingStack(*a).step(WEIGHT[:3]), lambda: (GRU, 3)
    ),
    "streaming.StreamingStack.step": Door(
        lambda *a: stack().step(*a), lambda: (WEIGHT[:3], np.zeros((3, H), np.float32))
    ),
    "streaming.StreamingStack.push": Door(
        lambda *a: stack().push(*a),
        lambda: (np.ones((4, 3, I), np.float32), np.zeros((4, 3, H), np.float32)),
    ),
    "streaming.StreamingStack.set_state": Door(restated, lambda: (np.ones((1, 3, H), "f4"), None)),
    "weights.Direction": Door(lambda *a: Direction(*a).weight_ih(), lambda: LSTM_PARTS),
    "weights.Direction small": Door(
        lambda values, scales, storage: stored_small(values, scales, storage).weight_hh(),
        lambda: (np.ones((3 * H, H), np.int8), np.ones((3 * H, 1), np.float32), "int8"),
    ),
    "weights.Direction.stored": Door(
        lambda name: np.asarray(Direction(*LSTM_PARTS, storage="int16").stored(name)),
        lambda: ("weight_hh",),
    ),
    "weights.common_storage": Door(
        weights.common_storage, lambda: ([WEIGHT, None], np.dtype(np.float32), "int8")
    ),
    "weights.vector_rows": Door(weights.vector_rows, lambda: (np.ones((36, I), "f4"), 4, 8, 0)),
    "weights.in_elements": Door(weights.in_elements, lambda: (WEIGHT,)),
    "weights.pack": Door(weights.pack, lambda: (np.ones((4 * H, I), "f4"), 4, 8, 4)),
}  # fmt: skip


def moved(array: np.ndarray) -> np.ndarray:
    """The same numbers at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


HUGE = 1 << 62
PLAIN = {
    "None": None, "True": True, "0": 0, "-1": -1, "2**31": 1 << 31, "2**62": HUGE, "2**70": 1 << 70,
    "nan": float("nan"), "1.5": 1.5, "text": "text", "bytes": b"0123456789abcdef", "a list": [],
    "a list of huge": [HUGE, HUGE], "a list of None": [None] * 3, "a nested list": [[1, 2], [3]],
    "a dict": {}, "a tuple": (), "an object": object(), "a type": np.float32, "1j": 1j,
    "0-d": np.array(1.0, np.float32), "empty": np.zeros((0, 0, 0), np.float32),
    "objects": np.full((3, 3), None, object), "texts": np.array(["a", "b"]),
    "times": np.zeros(3, "M8[s]"),
    "records": np.zeros(3, [("a", "f4"), ("b", "u1")]), "huge int64": integers(2**63 - 1, 5),
    "negative int64": integers(-1, -(2**63)), "other dtype": np.zeros((3, 5), np.complex64),
    "unmade direction": Direction.__new__(Direction), "directions": [Direction.__new__(Direction)],
    "other layer": [TOP, TOP],
}  # fmt: skip
ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "many empty rows": lambda a: np.zeros((1 << 59, *(0,) * (max(a.ndim, 2) - 1)), a.dtype),
    "nothing of many": lambda a: np.zeros((*(0,) * (max(a.ndim, 2) - 1), 1 << 59), a.dtype),
    "large": lambda a: (
        np.broadcast_to(a.ravel()[:1], (1 << 24, *(1 << 26,) * (a.ndim > 1), *a.shape[2:]))
        if a.size
        else a
    ),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": moved,
    "misaligned, big-endian": lambda a: moved(a.astype(a.dtype.newbyteorder(">"))),
    "backwards": lambda a: a[::-1],
    "Fortran order": lambda a: np.asfortranarray(a),
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "one number for all": lambda a: np.broadcast_to(a.ravel()[:1], a.shape) if a.size else a,
    "strides of a byte": lambda a: np.lib.stride_tricks.as_strided(
        np.zeros(a.nbytes + 64, np.uint8).view(a.dtype), a.shape, (1,) * a.ndim
    ),
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim else a,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "other precision": lambda a: a.astype("f8" if a.dtype == np.float32 else "f4"),
    "integers": lambda a: a.astype(np.int32),
    "as objects": lambda a: a.astype(object),
    "as a list": lambda a: a.tolist(),
    "a subclass": lambda a: a.view(np.matrix) if a.ndim == 2 else a.view(np.recarray),
    "one axis more": lambda a: a[None],
    "one axis less": lambda a: a[0] if a.ndim and len(a) else a,
    "many axes": lambda a: a.reshape((1,) * (33 - a.ndim) + a.shape),
    "one less": lambda a: a[:-1] if a.ndim else a,
    "one more": lambda a: np.concatenate([a, a[:1]]) if a.ndim else a,
    "one less behind": lambda a: a[..., :-1] if a.ndim else a,
    "twice as many behind": lambda a: np.concatenate([a, a], -1) if a.ndim else a,
    "nothing": lambda a: a[:0] if a.ndim else a,
    "largest": lambda a: np.full_like(a, np.iinfo(a.dtype).max if a.dtype.kind == "i" else np.inf),
    "smallest": lambda a: np.full_like(a, np.iinfo(a.dtype).min if a.dtype.kind == "i" else np.nan),
    "descending": lambda a: np.sort(a, -1)[..., ::-1] - 2 if a.ndim else a,
    "its own memory": lambda a: a.reshape(-1)[: a.size].reshape(a.shape),
}


def hostile(good: Any) -> Iterator[tuple[str, Any]]:
    """Values in place of a good one, and what to call them."""
    yield from PLAIN.items()
    if isinstance(good, np.ndarray):
        for name, make in ARRAYS.items():
            yield name, make(good)
    if isinstance(good, (list, tuple)):
        kind = type(good)
        for at in range(len(good)):
            for name, value in hostile(good[at]):
                yield f"[{at}] {name}", kind([*good[:at], value, *good[at + 1 :]])
        yield "shorter", good[:-1]
        yield "longer", good + good


def overlapping(arguments: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The arguments with two arrays in one memory, the second a little behind the first."""
    places = [k for k, a in enumerate(arguments) if isinstance(a, np.ndarray) and a.ndim]
    for one in places:
        for other in places:
            if one == other or arguments[one].dtype != arguments[other].dtype:
                continue
            for gap in (0, 1, 3):
                a, b = arguments[one], arguments[other]
                memory = np.zeros(max(a.size, b.size) + gap, a.dtype)
                first = memory[: a.size].reshape(a.shape)
                second = memory[gap : gap + b.size].reshape(b.shape)
                second[...] = b
                first[...] = a
                changed = list(arguments)
                changed[one], changed[other] = first, second
                yield f"arguments {one} and {other}, {gap} apart in one memory", tuple(changed)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)):
        pairs = zip(one, other, strict=True)
        return len(one) == len(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def copied(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def attempts(door: Door) -> Iterator[tuple[str, tuple[Any, ...]]]:
    good = door.arguments()
    for at in range(len(good)):
        for name, value in hostile(good[at]):
            if f"argument {at}: {name}" in door.but:
                continue
            fresh = list(door.arguments())
            fresh[at] = value
            yield f"argument {at}: {name}", tuple(fresh)
    yield from overlapping(door.arguments())
    yield "no arguments", ()
    yield "an argument too many", (*door.arguments(), None)


def attack(name: str, said: Any = None) -> tuple[int, int]:
    """Calls of a door, and how many it refused; AssertionError for what may not be."""
    door, calls, refused = DOORS[name], 0, 0
    arguments = door.arguments()
    expected = copied(door.call(*copied(arguments)))
    for what, given in attempts(door):
        if said is not None:
            print(f"{name}: {what}", file=said, flush=True)
        calls += 1
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
        try:
            with np.errstate(all="ignore"):
                door.call(*given)
        except REFUSALS:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}: {what}: {type(error).__name__}: {error}") from error
    faulthandler.cancel_dump_traceback_later()
    isa.select(None)
    isa.select_integers(None)
    assert same(copied(door.call(*copied(arguments))), expected), f"{name} gives something else now"
    return calls, refused


if __name__ == "__main__":
    faulthandler.enable()
    print(*attack(sys.argv[1], sys.stderr))
