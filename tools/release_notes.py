"""Prints a version's part of CHANGELOG.md, for the message of its tag and the page of its release.

    python tools/release_notes.py 0.1.0

Fails if that is not the version of vledge/_version.py, or if the changelog has no dated part for
it: a tag that names another version than the package would be published under a wrong name.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(version: str, changelog: str, declared: str) -> str:
    """The part of ``changelog`` under ``## [version] - date``, without its title."""
    if version != declared:
        raise ValueError(f"the version is {declared} in vledge/_version.py, asked for is {version}")
    heading = re.compile(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}$", re.MULTILINE)
    begin = heading.search(changelog)
    if begin is None:
        raise ValueError(f'CHANGELOG.md has no "## [{version}] - YYYY-MM-DD"')
    rest = changelog[begin.end() :]
    end = re.search(r"^## ", rest, re.MULTILINE)
    text = rest[: end.start() if end else None].strip()
    if not text:
        raise ValueError(f"CHANGELOG.md says nothing about {version}")
    return text


def declared_version() -> str:
    """What vledge/_version.py says, the one place where the number stands."""
    text = (ROOT / "vledge" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'__version__ = "(.+)"', text)
    assert match is not None
    return match[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="without the tag's v")
    version = parser.parse_args().version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        print(notes(version, changelog, declared_version()))
    except ValueError as error:
        print(f"release_notes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
