"""What reading weights imports: nothing heavy, nothing too early, nothing that a file names."""

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden" / "formats"
REPORT = """
import sys
import vledge.formats
{statement}
print(*sorted(sys.modules))
"""


def modules_after(statement: str) -> set[str]:
    program = REPORT.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_readers_imports_none_of_them() -> None:
    loaded = modules_after("pass")
    assert not loaded & {"torch", "safetensors", "onnx", "pickletools"}
    readers = {"torch.archive", "torch.legacy", "torch.parts", "npz", "safetensors_file"}
    assert not loaded & {f"vledge.formats.{reader}" for reader in readers}


@pytest.mark.parametrize(
    "file", ["module.pt", "legacy.pt", "scripted.pt", "exported.pt2", "weights.safetensors"]
)
def test_reading_imports_no_writer(file: str) -> None:
    loaded = modules_after(f"vledge.formats.load_weights({str(GOLDEN / file)!r})")
    assert not loaded & {"torch", "safetensors", "zipfile"}
