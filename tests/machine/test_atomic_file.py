"""Files written whole or not at all: what is no file, faults on the way, killed writers."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vledge.formats import load_weights, save_weights
from vledge.machine.atomic_file import sweep, write_text, writing
from vledge.planning import store
from vledge.planning.defaults import DEFAULT

posix = pytest.mark.skipif(os.name != "posix", reason="devices, pipes and locks of POSIX")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/full")


@posix
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (make_pipe, "a pipe"),
        (make_socket, "a socket"),
        (make_link_to_device, "a character device"),
    ],
)
def test_what_is_no_file_is_left_alone(make, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("target")
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match=f"is {kind}; expected a file"):
        save_weights(path, {"w": np.ones(3)})
    assert path.lstat() == before
    assert os.listdir(tmp_path) == ["target"]


def test_where_no_file_can_be_the_file_is_named(tmp_path):
    path = tmp_path / "nowhere" / "weights.safetensors"
    with pytest.raises(FileNotFoundError) as info:
        save_weights(path, {"w": np.ones(3)})
    assert info.value.filename == str(path)


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "text"
    write_text(path, "old")

    def half():
        with writing(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.parametrize("name", ["ä" * 120, "w" * 250, "a[b]*.x"])
def test_names_that_are_long_or_odd(name, tmp_path):
    for text in ("old", "new"):
        write_text(tmp_path / name, text)
    assert (tmp_path / name).read_text() == "new"
    assert os.listdir(tmp_path) == [name]


@posix
def test_measured_constants_are_flushed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (flushed.append(os.fstat(d).st_ino), fsync(d))[1])
    path = store.save(DEFAULT)
    assert path.stat().st_ino in flushed


WRITER = """
import sys
import numpy as np
import vledge
place = sys.argv[1]
k = 0
while True:
    k += 1
    vledge.save_weights(place, {"w": np.full(300_000, k, np.float32)})
    print(k, flush=True)
"""


@posix
def test_killed_writers_leave_whole_files_and_the_next_one_sweeps(tmp_path):
    path = tmp_path / "weights"
    rng = np.random.default_rng(0)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        w = load_weights(path)["w"]
        assert len(w) == 300_000
        assert (w == w[0]).all()
    (tmp_path / ".weights.0123abcd.tmp").write_bytes(b"a killed writer's")
    (tmp_path / ".other.0123abcd.tmp").write_bytes(b"another file's")
    save_weights(path, {"w": np.ones(3)})
    assert sorted(os.listdir(tmp_path)) == [".other.0123abcd.tmp", "weights"]


@posix
def test_one_sweep_for_many_files(tmp_path):
    names = ["a", "b", "x" * 250]
    for name in names:
        write_text(tmp_path / name, "text", sweeps=False)
        (tmp_path / f".{name[:50]}.0123abcd.tmp").write_bytes(b"a killed writer's")
    (tmp_path / ".other.0123abcd.tmp").write_bytes(b"another file's")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere" / "target")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".target.0123abcd.tmp").write_bytes(b"beside what a link means")
    with writing(tmp_path / "a", sweeps=False):
        (living,) = sweep([tmp_path / "linked", *(tmp_path / name for name in names)])
        assert os.path.basename(living).startswith(".a.")
        assert sorted(os.listdir(tmp_path)) == sorted(
            [os.path.basename(living), ".other.0123abcd.tmp", "elsewhere", "linked", *names]
        )
    assert not os.listdir(tmp_path / "elsewhere")
    assert sweep([tmp_path / "a"]) == []


@posix
def test_a_living_writers_scratch_file_stays(tmp_path):
    path = tmp_path / "text"
    with writing(path) as file:
        file.write(b"first")
        write_text(path, "second, meanwhile")
        assert path.read_text() == "second, meanwhile"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["text"]
