"""The optional packages that scoring stands on, or an error with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from vledge.errors import import_failure

__all__ = ["arrow", "dask_distributed", "parquet"]


def arrow() -> ModuleType:
    """pyarrow; MissingDependencyError where it is not installed."""
    return _module("pyarrow", "pyarrow", "tables need pyarrow: pip install 'vledge[arrow]'")


def parquet() -> ModuleType:
    """pyarrow.parquet; MissingDependencyError where pyarrow is not installed."""
    arrow()
    return _module("pyarrow.parquet", "pyarrow", "this pyarrow has no Parquet")


def dask_distributed() -> ModuleType:
    """dask.distributed; MissingDependencyError where it is not installed."""
    return _module(
        "distributed",
        "distributed",
        "a cluster of workers needs dask.distributed: pip install 'vledge[dask]'",
    )


def _module(name: str, package: str, missing: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise import_failure(error, package, missing) from error
