"""What the tests of real models share: the examples as modules, and speech."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import vledge

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """A function that imports ``examples/<name>.py``."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run_example() -> Callable[..., list[str]]:
    """A function that runs ``examples/<name>.py`` as a user does; the lines that it prints."""

    def run(name: str, *arguments: object) -> list[str]:
        package = str(Path(vledge.__file__).parents[1])
        path = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run
