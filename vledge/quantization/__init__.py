"""Small weights for layers and ONNX models: rounding them, and telling what that costs."""

from vledge.quantization.onnx_model import quantize_onnx
from vledge.quantization.report import Entry, Report, report
from vledge.quantization.small_layers import quantize

__all__ = ["Entry", "Report", "quantize", "quantize_onnx", "report"]
