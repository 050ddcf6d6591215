"""The code blocks of a page, and those that are not run, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["NOT_RUN", "PAGES", "ROOT", "Block", "blocks"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Page and first line of a block → why nothing runs it.
NOT_RUN = {
    ("README.md", "make demo      # sets up .venv, classifies 370 real series, compares "
     "with torch's results"): "makes an environment from the network; CI begins with it",
    ("README.md", "pip install .                    # brings numpy; on x86-64 scipy, "
     "for its BLAS"): "compiles; tools/check_wheel.sh installs from a wheel",
    ("docs/start/pc.md", "make demo"): "as in README.md",
    ("docs/start/board.md", "pip install vledge-0.1.0-cp311-cp311-manylinux_2_28_aarch64.whl"):
        "is for an Arm board",
    ("docs/records/index.md", "make records"): "takes hours",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """What stands between two fences, and where."""

    page: str
    line: int  #: of the page, where the code begins
    language: str
    code: str

    @property
    def is_python(self) -> bool:
        """Whether it is Python; else it is for the shell."""
        return self.language == "python"

    @property
    def why_not_run(self) -> str | None:
        """The reason, if it is among those that are not run."""
        if self.language == "text":
            return "is what a command prints"
        return NOT_RUN.get((self.page, self.code.splitlines()[0]))


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    page = str(path.relative_to(ROOT))
    found: list[Block] = []
    language, code = None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, code = line[3:].strip(), []
            else:
                at = number - len(code)
                found.append(Block(page, at, language, "\n".join(code)))
                language = None
        elif language is not None:
            code.append(line)
    assert language is None, f"{page}: the last fence is open"
    return found
