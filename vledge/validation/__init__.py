"""Is the model on this machine the one that was trained? Reference bundles, runs, diagnosis."""

from vledge.validation.reference.bundle import Case, Reference, read, reference_path, write
from vledge.validation.validate import Report, validate

__all__ = ["Case", "Reference", "Report", "read", "reference_path", "validate", "write"]
