"""tools/set_up.sh with a Python that only notes how it was called, so that nothing is compiled."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "set_up.sh"

# What it is asked is in its log, a line a call. `python -m venv X` makes X/bin/python, itself.
STUB = r"""#!/bin/sh
echo "$@" >>"$LOG"
case "$*" in
*"import ensurepip, venv"*) exit "${NO_VENV:-0}" ;;
*version_info*) exit "${TOO_OLD:-0}" ;;
*Python.h*) exit "${NO_HEADERS:-0}" ;;
--version) echo Python 3.9.2 ;;
*MemAvailable*) echo 1 ;;
"-m venv"*)
    for folder; do :; done
    mkdir -p "$folder/bin"
    [ -z "${DIES:-}" ] || exit 1
    cp "$0" "$folder/bin/python"
    ;;
"-m pip --version") exit "${NO_PIP:-0}" ;;
esac
"""


@pytest.fixture
def set_up(tmp_path):
    """A function that runs the script in an empty folder; its exit status, stderr and the log."""
    python = tmp_path / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    log = tmp_path / "log"

    def run(**environment):
        log.write_text("")
        done = subprocess.run(
            ["sh", SCRIPT, python, "made-here", "test"],
            cwd=tmp_path,
            env={**os.environ, "LOG": str(log), **environment},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr, log.read_text()

    return run


def test_first_it_makes_the_environment_then_it_keeps_it(set_up):
    status, _, log = set_up()
    assert status == 0
    assert "-m venv made-here" in log
    assert "setup.py -q build_ext" in log
    assert log.rstrip().endswith("-e .[test]")
    status, _, log = set_up()
    assert status == 0
    assert "-m venv" not in log
    assert "setup.py -q build_ext" in log


def test_an_environment_that_was_left_half_made_is_made_again(set_up, tmp_path):
    status, _, log = set_up(DIES="1")
    assert status != 0
    assert (tmp_path / "made-here").is_dir()
    assert "build_ext" not in log
    status, _, log = set_up()
    assert status == 0
    assert "-m venv made-here" in log
    assert "--clear" not in log  # what else is in the folder stays


def test_an_environment_without_pip_is_made_from_nothing(set_up):
    _, _, log = set_up(NO_PIP="1")
    assert "-m venv --clear made-here" in log


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="says Debian's package names there")
@pytest.mark.parametrize(
    ("lacks", "package"),
    [({"NO_VENV": "1"}, "python3-venv"), ({"NO_HEADERS": "1"}, "python3-dev")]
    + [({"CC": "no-such-compiler"}, "gcc")],
)
def test_what_debian_leaves_out_is_named_with_its_package(set_up, tmp_path, lacks, package):
    status, err, _ = set_up(**lacks)
    assert status == 1
    assert err.rstrip().endswith(f"sudo apt install {package}")
    assert not (tmp_path / "made-here").exists()


def test_a_python_that_is_too_old_is_named(set_up):
    status, err, log = set_up(TOO_OLD="1")
    assert status == 1
    assert "Python 3.9.2 is too old: vledge needs Python 3.10 or newer" in err
    assert "-m venv" not in log


def test_a_compiler_may_have_arguments(set_up):
    status, err, _ = set_up(CC="env cc -pipe")
    assert status == 0, err
