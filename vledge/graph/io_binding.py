"""Runs whose arrays are bound once, by onnxruntime's names: `IOBinding` and `OrtValue`.

Source: onnxruntime's Python API, classes IOBinding and OrtValue, as far as they are about the CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from vledge.errors import UnsupportedError
from vledge.graph.described import NodeArg
from vledge.graph.session_options import RunOptions
from vledge.graph.values import Result
from vledge.model.element_types import DTYPES, NAMES, NUMBERS, name_of
from vledge.shown import listed

__all__ = ["IOBinding", "OrtValue"]


class OrtValue:
    """An array as onnxruntime hands it about; it shares the array's memory."""

    def __init__(self, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"expected a NumPy array, got a {type(array).__name__}")
        self._array = array

    def __repr__(self) -> str:
        return f"OrtValue({self.data_type()} {self.shape()})"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype) if copy else np.asarray(self._array, dtype)

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: np.ndarray, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """Around an array, which is not copied."""
        _require_cpu(device_type)
        return OrtValue(numpy_obj)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: DTypeLike = np.float32,
        device_type: str = "cpu",
        device_id: int = 0,
    ) -> OrtValue:
        """Around a new array, whose contents mean nothing yet."""
        _require_cpu(device_type)
        return OrtValue(np.empty(tuple(shape), _dtype(element_type)))

    def numpy(self) -> np.ndarray:
        """The array."""
        return self._array

    def shape(self) -> list[int]:
        """Its sizes."""
        return list(self._array.shape)

    def data_type(self) -> str:
        """As ``tensor(float)``."""
        return f"tensor({self._type_name()})"

    def element_type(self) -> int:
        """ONNX's number of its elements' type."""
        return NUMBERS[self._type_name()]

    def _type_name(self) -> str:
        try:
            return name_of(self._array.dtype)
        except KeyError:
            raise TypeError(f"ONNX has no tensors of {self._array.dtype}") from None

    def data_ptr(self) -> int:
        """The address of its first element."""
        return int(self._array.ctypes.data)

    def device_name(self) -> str:
        """Always "cpu"."""
        return "cpu"

    def is_tensor(self) -> bool:
        """Always True."""
        return True

    def has_value(self) -> bool:
        """Always True."""
        return True

    def update_inplace(self, np_arr: np.ndarray) -> None:
        """Copy an array of the same shape and dtype into it."""
        if np_arr.shape != self._array.shape or np_arr.dtype != self._array.dtype:
            raise ValueError(
                f"np_arr is {np_arr.dtype} {list(np_arr.shape)}, expected {self._array.dtype} "
                f"{list(self._array.shape)}"
            )
        self._array[...] = np_arr


class Session(Protocol):
    """An ``InferenceSession``, as far as a binding needs one."""

    def get_outputs(self) -> Sequence[NodeArg]: ...

    def run(
        self,
        output_names: None,
        input_feed: dict[str, ArrayLike],
        run_options: RunOptions | None,
        *,
        out: list[np.ndarray | None],
    ) -> list[Result]: ...


class IOBinding:
    """The inputs and outputs of runs, set once; made by ``session.io_binding()``.

    Arrays that are bound are read and written where they are: change an input's contents, run
    again. An input that is bound to the array of an output takes over, in the next run, what this
    one gave. Outputs that are bound to no array of the caller's are new at each run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inputs: dict[str, ArrayLike] = {}
        self._places = {info.name: at for at, info in enumerate(session.get_outputs())}
        self._bound: list[str] = []
        self._outs: list[np.ndarray | None] = [None] * len(self._places)
        self._results: list[Result] = []

    def __copy__(self) -> IOBinding:
        """Other bindings to the same arrays: what is bound anew is bound in one of them."""
        other = IOBinding(self._session)
        other._inputs, other._bound = dict(self._inputs), list(self._bound)
        other._outs, other._results = list(self._outs), list(self._results)
        return other

    def __repr__(self) -> str:
        names = listed(map(repr, self._inputs)), listed(map(repr, self._bound))
        return "IOBinding(inputs {}, outputs {})".format(*(told or "not bound" for told in names))

    # ---- inputs

    def bind_cpu_input(self, name: str, arr_on_cpu: ArrayLike) -> None:
        """The array that runs read; it is checked, as `run` does, when they do."""
        self._inputs[name] = arr_on_cpu

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """The same of an `OrtValue`."""
        self._inputs[name] = ortvalue.numpy()

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: DTypeLike,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """The same of an address, which the caller answers for."""
        _require_cpu(device_type)
        self._inputs[name] = _at(buffer_ptr, element_type, shape)

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self._inputs.clear()

    # ---- outputs

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: DTypeLike | None = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """An output that runs give: in new memory, or at an address, which the caller answers for.

        Raises ValueError if the model has no such output.
        """
        _require_cpu(device_type)
        if buffer_ptr is None:
            self._bind(name, None)
        elif shape is None:
            raise ValueError(f"output {name!r}: an address goes with element_type and shape")
        else:
            self._bind(name, _at(buffer_ptr, element_type, shape))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """An output that runs write into the array of an `OrtValue`."""
        self._bind(name, ortvalue.numpy())

    def _bind(self, name: str, array: np.ndarray | None) -> None:
        if name not in self._places:
            raise ValueError(f"no output named {name!r}: there are {list(self._places)}")
        if name not in self._bound:
            self._bound.append(name)
        self._outs[self._places[name]] = array

    def clear_binding_outputs(self) -> None:
        """Forget the outputs, and what they were."""
        self._bound, self._results = [], []
        self._outs = [None] * len(self._places)

    # ---- running

    def run(self, run_options: RunOptions | None = None) -> None:
        """What ``session.run_with_iobinding`` calls."""
        if not self._bound:
            raise ValueError("no outputs are bound: bind_output(name) first")
        self._results = self._session.run(None, self._inputs, run_options, out=self._outs)

    def synchronize_inputs(self) -> None:
        """Nothing: there is no other device."""

    def synchronize_outputs(self) -> None:
        """Nothing: there is no other device."""

    def get_outputs(self) -> list[OrtValue]:
        """The last run's outputs in the order in which they were bound; bound arrays themselves."""
        return [OrtValue(result) for result in self._in_order()]

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        """Copies of them."""
        return [np.array(result) for result in self._in_order()]

    def _in_order(self) -> list[Result]:
        if not self._results:
            return []
        return [self._results[self._places[name]] for name in self._bound]


def _require_cpu(device_type: str) -> None:
    if str(device_type).lower() != "cpu":
        raise UnsupportedError(f"all runs are on the CPU, there is no device {device_type!r}")


def _dtype(element_type: DTypeLike | None) -> np.dtype:
    """Of NumPy's dtypes, or ONNX's numbers for them."""
    if isinstance(element_type, int) and not isinstance(element_type, bool):
        dtype: np.dtype | None = DTYPES.get(NAMES.get(element_type, ""))
        if dtype is None:
            raise ValueError(f"element_type {element_type} is none of ONNX's that are known here")
        return dtype
    return np.dtype(element_type)


def _at(address: int, element_type: DTypeLike | None, shape: Sequence[int]) -> np.ndarray:
    """The array that stands at an address."""
    dtype, sizes = _dtype(element_type), tuple(int(size) for size in shape)
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape {list(sizes)} has a negative size")
    if dtype.hasobject:
        raise ValueError(
            f"{dtype} cannot be bound by its address: its elements are not numbers in memory"
        )
    count = dtype.itemsize
    for size in sizes:
        count *= size
    if not address and count:
        raise ValueError("buffer_ptr is 0, no address")
    if not count:
        return np.empty(sizes, dtype)
    memory = (ctypes.c_char * count).from_address(address)
    array: np.ndarray = np.ndarray(sizes, dtype, buffer=memoryview(memory).cast("B"))
    return array
