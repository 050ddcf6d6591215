"""The extras that errors and documents name are those that pyproject.toml has."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"vledge\[(\w+)\]")


def test_every_extra_that_is_named_exists():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\[", project, re.DOTALL)
    extras = set(re.findall(r"^(\w+) = \[", table[1], re.MULTILINE))
    files = [ROOT / "README.md", ROOT / "pyproject.toml", *ROOT.glob("docs/**/*.md")]
    files += [*ROOT.glob("vledge/**/*.py"), *ROOT.glob("examples/*.py")]
    named = {name for path in files for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert {"onnx", "keras", "plot"} <= named
    assert named <= extras
