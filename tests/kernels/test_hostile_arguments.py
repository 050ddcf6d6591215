"""Hostile arguments at every door of compiled code: refused or harmless, never a crash."""

import importlib
import os
import pkgutil
import subprocess
import sys

import pytest

import vledge._ext
from tests.kernels.hostile import DOORS, attack
from vledge._ext import layout, phases, small_layout


def public_names():
    """``module.name`` of every function, class and method that a compiled module makes itself."""
    for module in pkgutil.iter_modules(vledge._ext.__path__):
        loaded = importlib.import_module(f"vledge._ext.{module.name}")
        for name, value in vars(loaded).items():
            if name.startswith("_") or getattr(value, "__module__", None) != loaded.__name__:
                continue
            yield f"{module.name}.{name}"
            if isinstance(value, type):
                for method, what in vars(value).items():
                    public = not method.startswith("_") and callable(what)
                    if public or method == "__call__":
                        yield f"{module.name}.{name}.{method}"


# methods without an argument that could be hostile
HARMLESS = {
    *(f"convolution.Convolution.{name}" for name in ("weight", "bias", "unpacked")),
    *(f"product.Product.{name}" for name in ("weight", "bias")),
    *(f"weights.Direction.{name}_{part}" for name in ("weight", "bias") for part in ("ih", "hh")),
    *("weights.Direction.weight_hr", "program.Program.memory", "program.CarriedProgram.get_states"),
    *("streaming.StreamingStack.get_state", "recurrent.tasks_of_threads"),
    "stack.Layers",  # what Stack and Stepper share
    # plain Python, which hands nothing to C
    *(f"layout.{name}" for name in dir(layout) if not name.startswith("_")),
    *(f"phases.{name}" for name in dir(phases) if not name.startswith("_")),
    *(f"small_layout.{name}" for name in dir(small_layout) if not name.startswith("_")),
    *("integer_matrix.IntegerMatrix", "integer_matrix.gates_in_panels"),
    *(f"convolution.{name}" for name in dir(phases) if not name.startswith("_")),
    # Convolution's own parts, which need it half made
    *(
        f"convolution.Convolution.{name}"
        for name in (
            "form_for",
            "hold",
            "pointers",
            "pack_bias",
            "pack_phase",
            "describe_phases",
            "is_narrow",
        )
    ),
}


def test_every_door_is_tried():
    tried = {name.partition(" ")[0] for name in DOORS}
    assert set(public_names()) - HARMLESS <= tried


@pytest.mark.parametrize("door", DOORS)
def test_hostile_arguments(door):
    """In a process of its own, which a crash ends with the last call on stderr."""
    command = [sys.executable, "-m", "tests.kernels.hostile", door]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    calls, refused = map(int, done.stdout.split())
    assert calls >= 2
    assert 0 <= refused <= calls


@pytest.mark.parametrize(
    "door",
    [
        "recurrent.run_padded",
        "streaming.StreamingStack.push",
        "packing.scatter",
        "product.Product.__call__",
        "convolution.Convolution.__call__",
        "program.CarriedProgram.step",
    ],
)
def test_hostile_arguments_in_this_process(door):
    """For tools that follow no child."""
    calls, refused = attack(door)
    assert calls > refused > 1


def test_none_is_no_array():
    """Cython takes None for any typed argument, and a macro of NumPy's reads what lies there."""
    from vledge._ext import arrays

    with pytest.raises(TypeError, match="expected an array"):
        arrays.overlaps_itself(None)
