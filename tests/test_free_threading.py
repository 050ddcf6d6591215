"""Free-threaded Python: with the GIL on, or not at all."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
answers = [False, {answer}]   # before our first module is loaded, and after
sys._is_gil_enabled = lambda: answers.pop(0)
import vledge._ext.arrays
print("imported")
"""


@pytest.mark.parametrize(("answer", "imported"), [(True, True), (False, False)])
def test_where_the_gil_is_off(answer, imported):
    command = [sys.executable, "-c", SCRIPT.format(answer=answer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ("imported" in done.stdout) is imported
    assert ("vledge needs the GIL" in done.stderr) is not imported


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="Python 3.13 asks")
def test_the_gil_is_on():
    import vledge._ext.recurrent  # noqa: F401

    assert sys._is_gil_enabled()
