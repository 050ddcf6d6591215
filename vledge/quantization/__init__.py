"""Small weights for recurrent layers: rounding them, and telling what that costs."""

from vledge.quantization.report import Entry, Report, report
from vledge.quantization.small_layers import quantize

__all__ = ["Entry", "Report", "quantize", "report"]
