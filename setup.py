"""Build of the compiled core; everything declarative is in pyproject.toml."""

import os
from collections.abc import Sequence
from glob import glob
from itertools import count
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# Contraction is off so that a product and a sum become one FMA exactly where the kernels say so:
# every tile height then gives the same bits. No -march: one build runs on every CPU of its
# architecture, the instruction sets are chosen inside the C sources.
C_FLAGS = ["-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
SMALL = ["-Os"]  # for what runs at load only: code is memory, too

# For tests (`make emulated`): AVX-512 and VNNI, lane by lane, on a CPU that lacks them.
EMULATED = [("VLEDGE_EMULATE", "1")] if os.environ.get("VLEDGE_EMULATE") else []
if EMULATED:
    C_FLAGS += ["-O1", "-Wno-psabi"]  # vectors that no register holds: -O3 takes many minutes


def extension(
    name: str, *c_sources: str, flags: Sequence[str] = (), headers: str = "ext/**/*.h"
) -> Extension:
    return Extension(
        f"vledge._ext.{name}",
        [f"vledge/_ext/{name}.pyx", *c_sources],
        include_dirs=["ext", numpy.get_include()],
        depends=glob(headers, recursive=True),  # Cython knows its own
        define_macros=[
            ("CYTHON_CLINE_IN_TRACEBACK", "0"),
            ("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION"),
            *EMULATED,
        ],
        extra_compile_args=[*C_FLAGS, *flags],
    )


class BuildWithProgress(build_ext):
    """Names each C file as its compilation begins: all of them take minutes on a board.

    An editable install takes what ``build_ext --inplace`` has compiled, where nothing is newer.
    """

    def build_extensions(self) -> None:
        done = count(1)
        total = sum(len(extension.sources) for extension in self.extensions)
        compile_one = self.compiler._compile

        def announced(target: str, source: str, *rest: object) -> None:
            print(f"  [{next(done)}/{total}] {source}", flush=True)
            compile_one(target, source, *rest)

        self.compiler._compile = announced
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        compiled = Path(self.get_ext_filename(ext.name))
        if self.editable_mode and compiled.exists():
            newest = max(Path(name).stat().st_mtime for name in [*ext.sources, *ext.depends])
            if compiled.stat().st_mtime >= newest:
                target = Path(self.get_ext_fullpath(ext.name))
                self.mkpath(str(target.parent))
                self.copy_file(str(compiled), str(target))
                return
        super().build_extension(ext)


class BuildWithModels(build_py):
    """A wheel carries the shipped models' data as package data, so that the demo runs from it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the source tree's models/ serves
        for suffix in ("pt", "safetensors", "onnx", "npz", "md"):
            for path in Path("models").glob(f"*/*.{suffix}"):
                target = Path(self.build_lib) / "vledge" / path
                self.mkpath(str(target.parent))
                self.copy_file(str(path), str(target))


setup(
    cmdclass={"build_ext": BuildWithProgress, "build_py": BuildWithModels},
    ext_modules=cythonize(
        [
            extension("arrays", flags=SMALL),
            extension("packing"),
            extension("room", flags=SMALL),
            extension(
                "isa",
                "ext/simd/dispatch.c",
                *sorted(glob("ext/simd/sets/*.c")),
                headers="ext/simd/**/*.h",
            ),
            extension("weights", flags=SMALL),
            extension("pool", *sorted(glob("ext/recurrent/*.c"))),
            extension("walk"),
            extension("schedule"),
            extension("recurrent"),
            extension("stack"),
            extension("product"),
            extension("convolution", "ext/program/convolve.c"),
            extension("program", *sorted(glob("ext/program/*.c"))),
            extension("streaming"),
        ],
        language_level=3,
        # Bounds and None are checked: kernels and time loops go by pointers, which no directive
        # slows down, and all the rest runs once a call.
        compiler_directives={
            "boundscheck": True,
            "wraparound": False,
            "nonecheck": True,
            "cdivision": True,
            "embedsignature": True,
            "binding": False,  # functions that do not pretend to be Python's: a sixth less code
        },
    ),
)
