"""No module of the package is longer than a reader can take in without saying why."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vledge"
MOST_LINES = 400


MODULES = sorted(path for suffix in ("py", "pyx", "pxi") for path in PACKAGE.rglob(f"*.{suffix}"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_long_module_says_why(path):
    text = path.read_text()
    head = (
        ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else text.partition("import")[0]
    )
    lines, reason = len(text.splitlines()), " ".join((head or "").split())
    assert lines <= MOST_LINES or f"more than {MOST_LINES} lines" in reason, lines


def test_every_module_says_what_it_holds():
    silent = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
