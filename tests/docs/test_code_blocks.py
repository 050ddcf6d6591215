"""Every code block of README.md and docs/ runs as it stands, and every dotted name exists."""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vledge
from tests.docs.blocks import NOT_RUN, PAGES, ROOT, blocks
from tests.docs.given import GIVEN
from tests.peers import peer

peer("onnxruntime")
peer("matplotlib")

ALL = [block for page in PAGES for block in blocks(page)]
WITH_BLOCKS = list(dict.fromkeys(block.page for block in ALL))

# Commands that stand in for a microphone and for a file that grows.
STAND_INS = {
    "vledge": 'exec "{python}" -m vledge "$@"',
    "arecord": "head -c 2560 /dev/urandom",
    "tail": 'test "$1" = -f && exec cat "$2"',
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def shell(tmp_path_factory):
    """A function that runs a line as a user does; what it printed if it failed, else None."""
    folder = tmp_path_factory.mktemp("bin")
    for name, text in STAND_INS.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text.format(python=sys.executable)}\n")
        path.chmod(0o755)
    package = str(Path(vledge.__file__).parents[1])
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
    }

    def run(line):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], capture_output=True, env=environment
        )
        return (done.stdout + done.stderr).decode() if done.returncode else None

    return run


def given_for(block):
    return [f for (page, piece), f in GIVEN.items() if page == block.page and piece in block.code]


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_a_page_runs(page, shell):
    """Its blocks in their order, the Python ones in one namespace, the shell's line by line."""
    names = {}
    for block in ALL:
        if block.page != page or block.why_not_run is not None:
            continue
        at = f"{page}, line {block.line}"
        for function in given_for(block):
            function(names)
        if block.is_python:
            exec(compile(block.code, at, "exec"), names)
            continue
        for line in block.code.replace("\\\n", " ").splitlines():
            failure = shell(line)
            assert failure is None, f"{at}: {line}\n{failure}"


def test_a_keras_model_written_again_is_the_same_model():
    (block,) = (b for b in ALL if b.page == "docs/guides/keras.md" and "tagger.keras" in b.code)
    names = {"vledge": vledge}
    for function in given_for(block):
        function(names)
    exec(compile(block.code, block.page, "exec"), names)
    assert abs(names["tags"] - names["keras_tags"]).max() < 1e-6


def test_the_list_of_what_is_not_run_is_short_and_true():
    listed = {(block.page, block.code.splitlines()[0]) for block in ALL}
    assert set(NOT_RUN) <= listed
    assert len(NOT_RUN) <= 6
    for page, piece in GIVEN:
        assert sum(block.page == page and piece in block.code for block in ALL) == 1, piece


# ---- names in the text

NO_NAMES = {"vledge.reference"}  # a key of a file's metadata
NAME = re.compile(r"\b(?:vledge|nn)(?:\.[A-Za-z_]\w*)+")


def dotted_names():
    """Every ``vledge.…``, ``nn.…`` of ours in code, by page, without files and commands."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        text = re.sub(r"torch\.[\w.]+", "", text)
        for code in [*re.findall(r"`([^`\n]+)`", text), *(b.code for b in blocks(page))]:
            for name in NAME.findall(code):
                if not name.endswith((".py", ".md")) and name not in NO_NAMES:
                    found.add((str(page.relative_to(ROOT)), name))
    return sorted(found)


def test_dotted_names_exist_after_import_vledge():
    """In a process of its own, where nothing else has been imported."""
    names = dotted_names()
    assert len(names) > 15
    code = (
        "import vledge\n"
        f"for page, name in {names!r}:\n"
        "    found = vledge\n"
        "    parts = name.split('.')\n"
        "    for part in parts[1:] if parts[0] == 'vledge' else parts:\n"
        "        assert hasattr(found, part), f'{page}: {name}'\n"
        "        found = getattr(found, part)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def calls_in_the_text():
    """(page, dotted name, its keywords) of each call of ours that stands between backticks."""
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+\))`", page.read_text()):
            try:
                tree = ast.parse(code.replace("\u2026", "..."))
            except SyntaxError:
                continue  # a shape, a line of a shell
            for call in ast.walk(tree):
                if isinstance(call, ast.Call):
                    name = ast.unparse(call.func)
                    if NAME.fullmatch(name):
                        yield page.name, name, [k.arg for k in call.keywords if k.arg]


def test_calls_in_the_text_have_the_keywords_that_exist():
    calls = list(calls_in_the_text())
    assert len(calls) > 5
    for page, name, keywords in calls:
        found = vledge
        for part in name.removeprefix("vledge.").split("."):
            found = getattr(found, part)
        parameters = inspect.signature(found).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert anything or set(keywords) <= set(parameters), f"{page}: {name}"


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES])
def test_files_and_pages_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        # the commands' page is made by the site's build, and stays where that is
        if not target.startswith(("http", "mailto", "commands.rst")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
    for name in re.findall(r"`((?:tests|tools|examples|vledge|benchmarks|ext)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{page}: {name}"
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), f"{page}: {module}"
