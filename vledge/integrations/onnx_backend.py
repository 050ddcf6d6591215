"""vledge as a backend of the onnx package, which is what onnx's own test suite runs against.

    >>> import onnx, vledge.integrations.onnx_backend as backend  # doctest: +SKIP
    >>> outputs = backend.run_model(onnx.load("model.onnx"), [x])  # doctest: +SKIP

Source: onnx.backend.base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vledge.errors import UnsupportedError, import_failure
from vledge.graph.session import InferenceSession
from vledge.graph.values import Result

try:
    from onnx import ModelProto, helper
    from onnx.backend.base import Backend, BackendRep, Device, DeviceType
except ImportError as error:
    raise import_failure(
        error,
        "onnx",
        "vledge.integrations.onnx_backend needs the onnx package: pip install 'vledge[onnx]'",
    ) from error

__all__ = [
    "VledgeBackend",
    "VledgeModel",
    "is_compatible",
    "prepare",
    "run_model",
    "supports_device",
]


class VledgeModel(BackendRep):
    """A prepared model; ``run`` takes its inputs in order and gives its outputs in order.

    NumPy has no bfloat16: arrays of ml_dtypes' are widened on the way in and narrowed on the way
    out, and all between is computed in float32.
    """

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        self._input_names = [info.name for info in session.get_inputs()]
        self._narrow = [info.type == "tensor(bfloat16)" for info in session.get_outputs()]

    def run(
        self, inputs: Sequence[ArrayLike] | Mapping[str, ArrayLike], **kwargs: object
    ) -> tuple[Result, ...]:
        """``inputs`` is a sequence of arrays in the order of the model's inputs, or one array.

        A sequence of tensors is a list of arrays, an optional value that is absent None.
        """
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if len(inputs) != len(self._input_names):
            raise ValueError(
                f"{len(inputs)} inputs are given, the model has {len(self._input_names)}: "
                f"{', '.join(self._input_names)}"
            )
        feed = dict(zip(self._input_names, map(_widened, inputs), strict=True))
        outputs = self.session.run(None, feed)
        return tuple(
            array.astype(helper.tensor_dtype_to_np_dtype(16)) if narrow else array
            for array, narrow in zip(outputs, self._narrow, strict=True)
        )


def _widened(value: ArrayLike) -> ArrayLike:
    if value is None or isinstance(value, (list, tuple)):
        return value  # an optional value, a sequence
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


class VledgeBackend(Backend):
    """onnx's interface to a runtime, on `InferenceSession`."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every node of the model runs here."""
        if not cls.supports_device(device):
            return False
        try:
            InferenceSession(model.SerializeToString(), **kwargs)
        except UnsupportedError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> VledgeModel:
        """Load a model; ``kwargs`` are `InferenceSession`'s, and so are the errors."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"the device {device!r} is not supported, only the CPU is")
        return VledgeModel(InferenceSession(model.SerializeToString(), **kwargs))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Sequence[ArrayLike], device: str = "CPU", **kwargs: Any
    ) -> tuple[np.ndarray, ...]:
        """Load a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU is."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):  # a name that onnx does not know
            return False


is_compatible = VledgeBackend.is_compatible
prepare = VledgeBackend.prepare
run_model = VledgeBackend.run_model
supports_device = VledgeBackend.supports_device
