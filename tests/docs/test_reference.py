"""The reference's pages: all that there is stands on them, and nothing else."""

import re
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

SOURCES = [
    *ROOT.glob("vledge/**/*.py"),
    *ROOT.glob("vledge/_ext/*.pyx"),
    *ROOT.glob("tests/**/*.py"),
]


def test_environment_variables_are_those_that_are_read():
    read = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        read |= set(re.findall(r"environ(?:\.get|\.setdefault|\.pop)?[(\[]\"(VLEDGE_\w+)\"", text))
        read |= set(re.findall(r"^ENVIRONMENT: Final = \"(VLEDGE_\w+)\"", text, re.MULTILINE))
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(VLEDGE_\w+)`", page, re.MULTILINE))
    assert read == told
    assert len(told) > 6


def test_errors_are_those_that_there_are():
    from vledge import errors

    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    raised = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert {name for name, _ in rows} == raised
    for name, base in rows:
        assert base in {known.__name__ for known in getattr(errors, name).__mro__}


def pages(code):
    """What a line prints, run in a process of its own in which docs' extensions can be imported."""
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'docs' / '_extensions')!r}]\n"
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_and_option_is_on_the_page():
    from vledge.cli import COMMANDS, build_parser

    page = pages("import command_pages; print(command_pages.page())")
    for name, parser in build_parser(COMMANDS)[1].items():
        assert f"\nvledge {name}\n---" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert option in page, f"{name} {option}"


def test_every_public_name_is_in_the_reference():
    pytest.importorskip("torch")
    code = """
import api_pages, importlib, inspect
for name in api_pages.MODULES:
    page, module = api_pages.page(name), importlib.import_module(name)
    for public in module.__all__:
        if public != "__version__" and not inspect.ismodule(getattr(module, public)):
            assert public in page, (name, public)
            print(name, public)
"""
    assert len(pages(code).splitlines()) > 100


def test_every_page_is_in_the_contents():
    """Sphinx says so, too; this says it without being installed."""
    docs = ROOT / "docs"
    listed = set()
    for path in [docs / "index.md", docs / "reference" / "api.md"]:
        for block in re.findall(r":::\{toctree\}\n(.*?)\n:::", path.read_text(), re.DOTALL):
            listed |= {line for line in block.splitlines() if line and not line.startswith(":")}
    written = {str(page.relative_to(docs).with_suffix("")) for page in docs.rglob("*.md")}
    assert written - {"index"} <= listed
