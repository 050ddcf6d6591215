"""What a release takes from the repository: its number, its notes, its metadata."""

import re
from pathlib import Path

import pytest

import vledge
from tools.release_notes import declared_version, notes

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## [Unreleased]

### Added
- later

## [0.2.0] - 2026-12-01

### Fixed
- a fault

## [0.1.0] - 2026-11-28

### Added
- everything
"""


def test_notes_are_the_part_of_a_version():
    assert notes("0.2.0", CHANGELOG, "0.2.0") == "### Fixed\n- a fault"
    assert notes("0.1.0", CHANGELOG, "0.1.0") == "### Added\n- everything"


@pytest.mark.parametrize(
    ("version", "declared", "complaint"),
    [
        ("0.2.0", "0.1.0", "the version is 0.1.0"),
        ("0.3.0", "0.3.0", r"has no .## \[0.3.0\]"),
        ("Unreleased", "Unreleased", "has no"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(version, declared, complaint):
    with pytest.raises(ValueError, match=complaint):
        notes(version, CHANGELOG, declared)


def test_the_version_stands_in_one_place():
    """Files that are published with it; records say with which version they were measured."""
    assert declared_version() == vledge.__version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert not re.search(r'^version = "', project, re.MULTILINE)


def test_the_changelog_has_the_usual_headings_alone():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
