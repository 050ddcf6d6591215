from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vledge.budget import RunLimits

def type_code(dtype: object) -> int | None: ...

# A value that an instruction read or wrote: dtype, shape, and the address of its block (0: a
# constant's or an input's own memory); None for what is no tensor.
Seen = tuple[np.dtype, tuple[int, ...], int] | None
# Number, nanoseconds at begin and end, whether Python ran, inputs, outputs, bytes in use then.
Event = tuple[int, int, int, bool, list[Seen], list[Seen], int]

class Program:
    inputs: list[int]
    outputs: list[int]
    limits: RunLimits | None
    def __init__(
        self,
        slot_count: int,
        constants: dict[int, np.ndarray],
        instructions: list[tuple[object, ...]],
        main: tuple[int, int],
        inputs: list[int],
        outputs: list[int],
    ) -> None: ...
    def run(
        self,
        arrays: list[np.ndarray],
        profile: tuple[np.ndarray, np.ndarray] | None = None,
        outs: list[np.ndarray | None] | None = None,
        events: list[Event] | None = None,
    ) -> list[np.ndarray]: ...
    def run_feed(
        self,
        feed: dict[str, np.ndarray],
        expected: tuple[tuple[str, int, tuple[int, ...] | None], ...],
        outs: list[np.ndarray | None] | None = None,
    ) -> list[np.ndarray] | None: ...
    def memory(self) -> tuple[int, int]: ...

class CarriedProgram:
    def __init__(
        self,
        program: Program,
        states: list[tuple[int, int]],
        frames: list[tuple[object, ...]],
        lengths: list[tuple[int, np.ndarray]],
        results: list[tuple[str, int, int | None]],
        taken: Callable[[Any], list[np.ndarray]],
        misfit: Callable[[Mapping[str, tuple[np.dtype, tuple[int, ...]]], Any], str],
        blamed: Callable[[Exception], None],
    ) -> None: ...
    def step(self, x: object, out: object = None) -> Any: ...
    def run(self, arrays: list[np.ndarray], out: object = None, one_frame: bool = False) -> Any: ...
    def get_states(self) -> list[np.ndarray]: ...
    def set_states(self, arrays: list[np.ndarray]) -> None: ...

class LayerCall:
    def __init__(
        self,
        program: Program,
        layers: int,
        directions: int,
        input_size: int,
        hidden_size: int,
        lstm: bool,
    ) -> None: ...
    def run(self, x: object, h: object, c: object, batch_first: bool) -> Any: ...

def run_handler(
    name: str,
    inputs: list[np.ndarray | None],
    ints: Sequence[int] = (),
    floats: Sequence[float] = (),
    outputs: int = 1,
    threads: int = 1,
    repeat: int = 0,
    objects: list[object] = ...,
) -> Any: ...
