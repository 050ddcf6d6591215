"""scipy's BLAS by its function pointers, without importing scipy.

``scipy.linalg.cython_blas`` is one extension module that hands out pointers; the package around it
takes a quarter of a second and 30 MB to import. So the module is loaded from its own file, when the
first layer wants it (``vledge.machine.projection``), and the ordinary import is what remains where
that fails.

OpenBLAS would start threads of its own behind ours: it is told to use one, for the whole process.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final

from vledge.errors import import_failure
from vledge.machine import projection

__all__ = ["describe", "gemm", "is_there", "load", "module_file"]

NAME: Final = "scipy.linalg.cython_blas"

_addresses: dict[str, int] = {}  # of sgemm and dgemm, once they are loaded
_loaded_from = ""


def module_file() -> str | None:
    """Path of scipy's cython_blas, found without importing scipy; None when it is not there."""
    package = importlib.util.find_spec("scipy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = os.path.join(folder, "linalg", "cython_blas" + suffix)
            if os.path.isfile(path):
                return path
    return None


def from_file() -> ModuleType:
    """The extension module loaded by its file alone; ImportError where that does not work."""
    path = module_file()
    if path is None:
        raise ImportError(f"scipy here has no {NAME}", name=NAME)
    loader = importlib.machinery.ExtensionFileLoader(NAME, path)
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def from_package() -> ModuleType:
    """The extension module by the ordinary import, the whole of scipy.linalg with it."""
    return importlib.import_module(NAME)


def load(ways: tuple[Callable[[], ModuleType], ...] = (from_file, from_package)) -> str:
    """Take the pointers, once; return how they were come by.

    Raises MissingDependencyError when no way leads to scipy's BLAS.
    """
    global _loaded_from
    if _loaded_from and ways == (from_file, from_package):
        return _loaded_from
    module = sys.modules.get(NAME)
    way = "already imported"
    if module is None:
        failed = ImportError(f"scipy here has no {NAME}")
        for attempt in ways:
            try:
                module = attempt()
            except ImportError as error:
                failed = error
                continue
            way = attempt.__name__.replace("_", " ")
            break
    if module is None:
        raise import_failure(
            failed,
            "scipy",
            "scipy's BLAS is wanted (VLEDGE_PROJECTION=blas) but scipy is not installed; run: "
            "pip install scipy",
        ) from failed
    _addresses.update({name: _address(module, name) for name in ("sgemm", "dgemm")})
    _one_thread(str(module.__file__))
    _loaded_from = way
    return way


def _address(module: ModuleType, name: str) -> int:
    from ctypes import c_char_p, c_void_p, py_object, pythonapi

    signature_of, pointer_of = pythonapi.PyCapsule_GetName, pythonapi.PyCapsule_GetPointer
    signature_of.argtypes, signature_of.restype = [py_object], c_char_p
    pointer_of.argtypes, pointer_of.restype = [py_object, c_char_p], c_void_p
    capsule = module.__pyx_capi__[name]
    signature: bytes = signature_of(capsule)
    # a build with 64-bit indices would take other arguments than we pass
    if b"int *, int *, int *" not in signature:
        text = signature.decode()
        raise ImportError(f"{NAME}.{name} has the signature {text}, expected int sizes")
    address: int = pointer_of(capsule, signature)
    return address


def _one_thread(path: str) -> None:
    """Tells the OpenBLAS behind the module, if that is what it is, to compute on its caller."""
    from ctypes import CDLL

    library: CDLL = CDLL(path, os.RTLD_LAZY | os.RTLD_NOLOAD)
    for name in ("scipy_openblas_set_num_threads", "openblas_set_num_threads"):
        if hasattr(library, name):
            library[name](1)
            return


def gemm(f64: bool) -> int:
    """The address of dgemm's or sgemm's Fortran interface."""
    load()
    return _addresses["dgemm" if f64 else "sgemm"]


def is_there() -> bool:
    """Whether scipy's BLAS can be had; it is loaded then."""
    try:
        load()
    except ImportError:
        return False
    return True


def describe() -> str:
    """What there is of BLAS, whether it is used, and why, in words."""
    path, selected = module_file(), projection.selected()
    if path is None:
        return "none: scipy is not installed; every product runs on vledge's own tiles"
    if selected == "blas":
        return f"scipy's for input projections, as asked for, loaded {load()} ({path})"
    tiles = f"scipy's is there and not loaded; products run on vledge's own tiles ({path})"
    if selected == "tile":
        return f"{tiles}, as asked for"
    products = projection.measured()
    if not products:
        return f"{tiles}, until `vledge calibrate` has measured both"
    quicker = [one for one in products if one.blas <= projection.CLEARLY]
    least, most = (f(one.blas for one in products) for f in (min, max))
    times = f"it takes {least:.2f} to {most:.2f} times as long at {len(products)} sizes measured"
    if not quicker:
        return f"{tiles}: {times}"
    return (
        f"scipy's for input projections near {len(quicker)} sizes at which it is clearly quicker, "
        f"vledge's own tiles for all else: {times} ({path})"
    )
