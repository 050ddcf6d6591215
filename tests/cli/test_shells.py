"""`vledge completion` in fish and zsh themselves, where they are installed (bash: test_help)."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from tests.peers import peer

LINES = [
    ("vledge val", "validate"),
    ("vledge stream --ho", "--hop"),
    ("vledge stream model.onnx --format int1", "int16"),
    ("vledge inspect mod", "model.onnx"),
    ("vledge validate --reference mod", "model.onnx"),
]


@pytest.fixture
def script(tmp_path, vledge_command):
    """A function that writes a shell's script beside an empty folder with a model."""
    peer("shtab")
    (tmp_path / "model.onnx").touch()

    def write(shell, name):
        path = tmp_path / "scripts" / name
        path.parent.mkdir()
        path.write_text(vledge_command("completion", shell)[1])
        return path

    return write


def installed(shell):
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


@installed("fish")
@pytest.mark.parametrize(("line", "word"), LINES)
def test_fish_completes(script, tmp_path, line, word):
    code = f"source {script('fish', 'vledge.fish')}; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert word in [offer.split("\t")[0] for offer in done.stdout.splitlines()], done


@installed("zsh")
@pytest.mark.parametrize(("line", "word"), LINES)
def test_zsh_completes(script, tmp_path, line, word):
    folder = script("zsh", "_vledge").parent
    terminal, end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "dumb"},
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(end)

    def typed(keys, wanted):
        """What the shell shows after these keys, until it has shown what is wanted."""
        os.write(terminal, keys.encode())
        shown, last = "", time.monotonic() + 60
        while wanted not in shown and time.monotonic() < last:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 1 << 16).decode(errors="replace")
        return shown

    try:
        begin = f"fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; echo re''ady\n"
        assert "\nready" in typed(begin, "\nready")
        assert word in typed(line + "\t", word)
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
