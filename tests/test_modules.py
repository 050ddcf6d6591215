"""No module of the package is longer than a reader can take in without saying why."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vledge"
MOST_LINES = 400


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_a_long_module_says_why(path):
    text = path.read_text()
    reason = ast.get_docstring(ast.parse(text)) or ""
    lines = len(text.splitlines())
    assert lines <= MOST_LINES or f"more than {MOST_LINES} lines" in " ".join(reason.split()), lines


def test_every_module_says_what_it_holds():
    silent = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
