"""scipy's BLAS by its function pointers, without importing scipy.

``scipy.linalg.cython_blas`` is one extension module that hands out pointers; the package around it
takes a quarter of a second and 30 MB to import. So the module is loaded from its own file, when the
first product wants it, and the ordinary import is what remains where that fails.

The kernels' own tiles do every product by default: measured, they are not slower than OpenBLAS's
(``python -m benchmarks.kernels``), they keep their weights packed, and their results do not depend on
the number of rows or threads. ``VLEDGE_PROJECTION=blas`` or :func:`select_projection` hands the input
projection to BLAS instead, for CPUs whose BLAS knows them better than our tiles do.

OpenBLAS would start threads of its own behind ours: it is told to use one, for the whole process.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer

from vledge.errors import MissingDependencyError

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int mode)
    void *dlsym(void *handle, const char *name)
    int RTLD_LAZY
    int RTLD_NOLOAD

ctypedef void (*set_threads_function)(int) noexcept nogil

cdef void *gemm_float32 = NULL
cdef void *gemm_float64 = NULL
cdef str loaded_from = None
cdef str projection = None

NAME = "scipy.linalg.cython_blas"
PROJECTIONS = ("tile", "blas")


def module_file():
    """Path of scipy's cython_blas, found without importing scipy; None when it is not there."""
    package = importlib.util.find_spec("scipy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = os.path.join(folder, "linalg", "cython_blas" + suffix)
            if os.path.isfile(path):
                return path
    return None


def from_file():
    """The extension module loaded by its file alone; ImportError where that does not work."""
    path = module_file()
    if path is None:
        raise ImportError(f"no {NAME}", name=NAME)
    loader = importlib.machinery.ExtensionFileLoader(NAME, path)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location(NAME, path, loader=loader))
    loader.exec_module(module)
    return module


def from_package():
    """The extension module by the ordinary import, the whole of scipy.linalg with it."""
    return importlib.import_module(NAME)


def load(ways=(from_file, from_package)):
    """Take the pointers, once; return how they were come by.

    Raises MissingDependencyError when no way leads to scipy's BLAS.
    """
    global gemm_float32, gemm_float64, loaded_from
    if loaded_from is not None and ways == (from_file, from_package):
        return loaded_from
    module = sys.modules.get(NAME)
    way = "already imported"
    if module is None:
        for attempt in ways:
            try:
                module = attempt()
            except ImportError:
                continue
            way = attempt.__name__.replace("_", " ")
            break
    if module is None:
        raise MissingDependencyError(
            "scipy's BLAS is wanted (VLEDGE_PROJECTION=blas) but scipy is not installed; run: "
            "pip install scipy", name="scipy")
    gemm_float32 = pointer(module, "sgemm")
    gemm_float64 = pointer(module, "dgemm")
    one_thread(module.__file__)
    loaded_from = way
    return way


cdef void *pointer(module, str name) except NULL:
    capsule = module.__pyx_capi__[name]
    cdef const char *signature = PyCapsule_GetName(capsule)
    # a build with 64-bit indices would take other arguments than we pass
    if b"int *, int *, int *" not in signature:
        raise ImportError(f"{NAME}.{name} has the signature {signature.decode()}, expected int sizes")
    return PyCapsule_GetPointer(capsule, signature)


cdef one_thread(str path):
    """Tells the OpenBLAS behind the module, if that is what it is, to compute on its caller."""
    encoded = os.fsencode(path)
    cdef void *library = dlopen(encoded, RTLD_LAZY | RTLD_NOLOAD)
    cdef void *function
    for name in (b"scipy_openblas_set_num_threads", b"openblas_set_num_threads"):
        function = dlsym(library, name) if library != NULL else NULL
        if function != NULL:
            (<set_threads_function>function)(1)
            return


cdef void *gemm_for_projection(bint f64) except? NULL:
    if selected_projection() == "tile":
        return NULL
    load()
    return gemm_float64 if f64 else gemm_float32


def select_projection(name=None) -> str:
    """Who computes the input projection of layers packed from now on: "tile" (the default) or
    "blas"."""
    global projection
    name = name or "tile"
    if name not in PROJECTIONS:
        raise ValueError(f"projection {name!r} is not one of {', '.join(PROJECTIONS)}")
    projection = name
    return name


def selected_projection() -> str:
    """The choice in force; at first that of the environment variable VLEDGE_PROJECTION."""
    if projection is None:
        try:
            select_projection(os.environ.get("VLEDGE_PROJECTION"))
        except ValueError as error:
            raise ValueError(f"environment variable VLEDGE_PROJECTION: {error}") from None
    return projection


def describe() -> str:
    """What there is of BLAS and whether it is used, in words."""
    path = module_file()
    if path is None:
        return "none: scipy is not installed; every product runs on vledge's own tiles"
    if selected_projection() == "tile":
        return f"scipy's is there and not loaded; products run on vledge's own tiles ({path})"
    return f"scipy's for input projections, loaded {load()} ({path})"
