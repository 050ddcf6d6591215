"""Build of the compiled core; everything declarative is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

# Contraction is off so that a product and a sum become one FMA exactly where the kernels say so:
# every tile height then gives the same bits. No -march: one build runs on every CPU of its
# architecture, the instruction sets are chosen inside the C sources.
C_FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]


def extension(name: str, c_sources: tuple[str, ...] = ()) -> Extension:
    return Extension(
        f"vledge._ext.{name}",
        [f"ext/{name}.pyx", *c_sources],
        include_dirs=["ext"],
        define_macros=[("CYTHON_CLINE_IN_TRACEBACK", "0")],
        extra_compile_args=C_FLAGS,
    )


setup(
    ext_modules=cythonize(
        [extension("packing")],
        language_level=3,
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
