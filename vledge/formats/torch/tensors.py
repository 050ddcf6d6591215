"""Tensors among the records of a torch pickle: recognised by the names torch gives, then read.

Holds what a tensor's record means; which of a checkpoint's tensors are wanted is for
`torch_parts`, where the bytes lie for the readers of the layouts.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut
from vledge.formats.tensor_view import DTYPES, MAX_DIMENSIONS, item_size, tensor_view
from vledge.formats.torch.numpy_records import StoredArray, as_array
from vledge.formats.torch.pickle_records import Call, Global, Persistent
from vledge.small_matrix import DYNAMIC, SmallMatrix

__all__ = [
    "QuantisedTensor",
    "Storage",
    "Tensor",
    "TensorReader",
    "as_storage",
    "as_tensor",
    "called",
]

MAX_WRAPPERS: Final = 8  # a parameter of a subclass of Tensor takes two
MAX_ARGUMENTS: Final = 32  # of what makes a tensor or an array; torch and NumPy give ten at most
MAX_EXTRA: Final = 16  # entries of what torch keeps beside a tensor: "conj" and "neg"

STEPS_OF_A_TENSOR: Final = 15
BYTES_OF_A_TENSOR: Final = 400  # beside its elements: an array, its name, its description
UNTYPED: Final = "untyped"
_STORAGE_DTYPES: Final = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "QInt32Storage": "qint32",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "ShortStorage": "int16",
    "UntypedStorage": UNTYPED,
}
_OTHER_SIZES: Final = {UNTYPED: 1, "qint8": 1, "quint8": 1, "qint32": 4}
_TENSOR: Final = "torch._utils._rebuild_tensor"
_QUANTISED: Final = "torch._utils._rebuild_qtensor"
_INTEGERS: Final = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_WRAPPERS: Final = {
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
}
_OTHER_TENSORS: Final = {
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor; save tensor.to_dense()",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor; save tensor.to_dense()",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
}


class Storage(NamedTuple):
    """A run of bytes that tensors are views of; ``length`` in elements, or bytes if untyped."""

    key: str
    dtype: str
    length: int

    @property
    def nbytes(self) -> int:
        """How many bytes the storage claims to have."""
        size = _OTHER_SIZES.get(self.dtype)
        return self.length * (item_size(self.dtype) if size is None else size)


class Tensor(NamedTuple):
    """A tensor as the file describes it; offset and strides in elements of ``dtype``."""

    storage: Storage
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class QuantisedTensor(NamedTuple):
    """Integers that mean (integers - zero point) * scale: one of each, or one for each place on an
    axis."""

    integers: Tensor
    scale: float | Tensor
    zero_point: int | Tensor
    axis: int
    steps: int = 0  #: of uint8 that what they are multiplied with is rounded to; 0: to none

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integers.shape

    @property
    def dtype(self) -> str:
        """Of the numbers that are meant."""
        return "float32"


def called(value: object) -> str | None:
    """The dotted name of what a record calls or instantiates, None for every other value."""
    if not isinstance(value, Call):
        return None
    function = value.function
    if isinstance(function, Global) and function.path == "copyreg._reconstructor":
        function = value.arguments[0] if value.arguments else None  # objects before protocol 2
    match function:
        case Global(path=path):
            return path
        case Persistent(identity=("module", Global(path=path), *_)):
            return path  # the legacy layout kept a module's source beside its class
    return "an unnamed object"


def as_storage(record: Persistent) -> tuple[Storage, object]:
    """The storage that a persistent id stands for, and its sixth field, the legacy view."""
    match record.identity:
        case ("storage", Global(path=path), str(key), _, int(count), *view) if len(view) <= 1:
            dtype = _STORAGE_DTYPES.get(path.rpartition(".")[2])
            if dtype is None or not path.startswith("torch."):
                raise FormatError(f"a storage of the unknown class {cut(path)!r}")
            if count < 0:
                raise FormatError(f"storage {cut(key)!r} has {count} elements")
            return Storage(key, dtype, count), view[0] if view else None
    raise FormatError("a reference out of the pickle is not one to a torch storage")


def as_tensor(value: object) -> Tensor | QuantisedTensor | StoredArray | str | None:
    """A tensor or a NumPy array; or why one cannot be read; or None for a value that is none."""
    for _ in range(MAX_WRAPPERS):
        name = called(value)
        if name is None or not isinstance(value, Call):
            return None
        if len(value.arguments) > MAX_ARGUMENTS:
            return None
        if name in _OTHER_TENSORS:
            return _OTHER_TENSORS[name]
        if name == _QUANTISED:
            return _quantised(value.arguments)
        if name.startswith(_TENSOR):
            return _tensor(name.removeprefix(_TENSOR), value.arguments)
        if name not in _WRAPPERS:
            return as_array(value)
        match value.arguments:
            case (Global() as function, _, tuple(arguments), _, *_):
                value = Call(function, arguments)
            case (Call() as inner, *_):
                value = inner
            case _:
                raise FormatError(f"{name} has other arguments than torch gives it")
    raise FormatError(f"a tensor inside more than {MAX_WRAPPERS} others")


def _tensor(version: str, arguments: tuple[object, ...]) -> Tensor | str:
    extra: object = None
    match version, arguments:
        case "", (Persistent() as record, offset, shape, strides):
            dtype = None
        case "_v2", (Persistent() as record, offset, shape, strides, _, _, *rest):
            dtype, extra = None, rest[0] if rest else None
        case "_v3", (Persistent() as record, offset, shape, strides, _, _, Global() as kind, *rest):
            dtype, extra = kind.path.removeprefix("torch."), rest[0] if rest else None
        case _:
            raise FormatError(
                f"_rebuild_tensor{cut(version)} has other arguments than torch gives it"
            )
    if isinstance(extra, dict) and len(extra) > MAX_EXTRA:
        raise FormatError(f"a tensor with {len(extra):,} entries beside it")
    if isinstance(extra, dict) and any(extra.values()):
        marks = cut(", ".join(cut(str(mark)) for mark in extra))
        return f"a lazily computed view ({marks}); save it resolved"
    storage, view = as_storage(record)
    if dtype is None:
        dtype = storage.dtype
    elif storage.dtype not in (UNTYPED, dtype):
        raise FormatError(f"a {cut(dtype)} tensor in a storage of {storage.dtype}")
    if dtype not in DTYPES:
        return f"a tensor of dtype {cut(dtype)}, which NumPy does not have"
    start = _integer(offset) + (0 if view is None else _view_start(view))
    return Tensor(storage, dtype, _integers(shape), _integers(strides), start)


def _quantised(arguments: tuple[object, ...]) -> QuantisedTensor | str:
    match arguments:
        case (Persistent() as record, offset, shape, strides, (Global(path=path), *rest), *_):
            scheme = path.removeprefix("torch.")
        case _:
            raise FormatError("_rebuild_qtensor has other arguments than torch gives it")
    storage, view = as_storage(record)
    dtype = _INTEGERS.get(storage.dtype)
    if dtype is None:
        raise FormatError(f"a quantized tensor in a storage of {storage.dtype}")
    start = _integer(offset) + (0 if view is None else _view_start(view))
    integers = Tensor(storage, dtype, _integers(shape), _integers(strides), start)
    match scheme, rest:
        case "per_tensor_affine", [float(scale), int(zero)] if abs(zero) < 1 << 31:
            return QuantisedTensor(integers, scale, zero, 0)
        case "per_channel_affine", [Call() as scales, Call() as zeros, int(axis)]:
            parameters = as_tensor(scales), as_tensor(zeros)
        case _:
            return f"a quantized tensor of the scheme {cut(scheme)}"
    if not 0 <= axis < len(integers.shape):
        raise FormatError(f"a quantized tensor of {len(integers.shape)} axes has scales on {axis}")
    for parameter, kind in zip(parameters, ("float", "int"), strict=True):
        if not isinstance(parameter, Tensor) or not parameter.dtype.startswith(kind):
            raise FormatError("the scales or zero points of a quantized tensor are no such tensors")
        if parameter.shape != (integers.shape[axis],):
            raise FormatError(
                f"a quantized tensor has {integers.shape[axis]} channels, but its scales or zero "
                f"points are of shape {parameter.shape}"
            )
    scale_, zero_ = (p for p in parameters if isinstance(p, Tensor))
    return QuantisedTensor(integers, scale_, zero_, axis)


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError("an offset, a size or a stride of a tensor is no integer")
    return value


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS:
        raise FormatError("the shape or the strides of a tensor are no short tuple")
    return tuple(map(_integer, values))


def _view_start(view: object) -> int:
    """Where a storage that is a part of another begins in it (torch before 0.4)."""
    match view:
        case (_, int(start), int(count)) if start >= 0 and count >= 0:
            return start
    raise FormatError("a storage's view of another is not as torch describes it")


class TensorReader:
    """Turns tensors into arrays, reading each storage once through ``read_storage``.

    ``read_storage`` gives the bytes of a storage, which it has found to be as many as claimed.
    """

    def __init__(
        self,
        read_storage: Callable[[Storage], memoryview],
        byte_order: Literal["<", ">"],
        budget: Budget,
    ) -> None:
        self._read_storage = read_storage
        self._byte_order = byte_order
        self.budget = budget
        self._contents: dict[Storage, memoryview] = {}
        self._arrays: dict[Tensor | QuantisedTensor | StoredArray, np.ndarray] = {}
        self._encoded: dict[int, bytes] = {}

    def array(self, tensor: Tensor | QuantisedTensor | StoredArray) -> np.ndarray:
        """The values of a tensor; tied tensors give one and the same array."""
        if tensor not in self._arrays:
            self.budget.step(STEPS_OF_A_TENSOR, "the tensors of the file")
            self.budget.take(BYTES_OF_A_TENSOR, "the tensors of the file")
            if isinstance(tensor, QuantisedTensor):
                self._arrays[tensor] = self._small(tensor) or self._real(tensor)
            else:
                self._arrays[tensor] = (
                    self._view(tensor) if isinstance(tensor, Tensor) else self._stored(tensor)
                )
        return self._arrays[tensor]

    def _small(self, tensor: QuantisedTensor) -> Any:
        """A `SmallMatrix` of what dynamic layers multiply, of torch's integers; None for weights
        that are other things: with zero points, scales along their rows, or more axes."""
        one = not isinstance(tensor.scale, Tensor)
        integers = tensor.integers
        if not tensor.steps or integers.dtype != "int8" or len(tensor.shape) != 2:
            return None
        if not one and tensor.axis != 0:
            return None
        zero = tensor.zero_point
        if np.any(self.array(zero) if isinstance(zero, Tensor) else zero):
            return None
        self.budget.take(4 * tensor.shape[0], "the scales of a quantized tensor")
        given = self.array(tensor.scale) if isinstance(tensor.scale, Tensor) else tensor.scale
        with np.errstate(over="ignore"):
            scales = np.broadcast_to(np.asarray(given, np.float32), tensor.shape[:1])
        storage = next(name for name, form in DYNAMIC.items() if form.levels == tensor.steps)
        try:
            return SmallMatrix(self.array(integers), np.ascontiguousarray(scales[:, None]), storage)
        except ValueError as error:
            raise FormatError(f"a quantized tensor: {error}") from None

    def _real(self, tensor: QuantisedTensor) -> np.ndarray:
        """The numbers that are meant, rounded as torch's ``dequantize`` rounds them."""
        integers = self.array(tensor.integers)
        self.budget.take(2 * 4 * integers.size, "a quantized tensor")
        over = [1] * integers.ndim
        if isinstance(tensor.scale, Tensor):
            over[tensor.axis] = -1
        scale, zero = (
            (self.array(p) if isinstance(p, Tensor) else np.asarray(p)).reshape(over)
            for p in (tensor.scale, tensor.zero_point)
        )
        if not np.isfinite(scale).all():
            raise FormatError("a scale of a quantized tensor is no finite number")
        steps = (integers - zero).astype(np.float32)
        result: np.ndarray = steps * scale.astype(np.float32)
        return result

    def _stored(self, stored: StoredArray) -> np.ndarray:
        content = stored.content
        key = id(content)  # the records keep it
        if isinstance(content, str):
            if key not in self._encoded:
                self.budget.take(len(content), "the contents of an array")
                try:
                    self._encoded[key] = content.encode(stored.encoding)
                except UnicodeEncodeError:
                    raise FormatError("the contents of an array are no bytes") from None
            content = self._encoded[key]
        if len(content) != stored.nbytes:
            raise FormatError(
                f"shape {stored.shape} of {stored.dtype} does not make {len(content):,} bytes"
            )
        return tensor_view(
            content,
            stored.dtype,
            stored.shape,
            stored.strides,
            0,
            stored.byte_order,
            budget=self.budget,
        )

    def _view(self, tensor: Tensor) -> np.ndarray:
        storage = tensor.storage
        if storage not in self._contents:
            self._contents[storage] = self._read_storage(storage)
        content = self._contents[storage]
        return tensor_view(
            content,
            tensor.dtype,
            tensor.shape,
            tensor.strides,
            tensor.offset,
            self._byte_order,
            budget=self.budget,
        )
