"""The thread pool's manners, and the CPU mode that a call leaves behind."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import vledge
from tests import reference
from vledge._ext.recurrent import run
from vledge._ext.weights import Direction
from vledge.machine import threads


def layer(hidden_size=32, seed=0):
    rng = np.random.default_rng(seed)
    params = reference.random_params(rng, "lstm", 8, hidden_size)
    return Direction("lstm", **{n: a.astype(np.float32) for n, a in params.items()})


def batch(lengths=(40, 30, 20, 20, 10, 5), seed=0):
    sizes = reference.batch_sizes_of(lengths)
    rng = np.random.default_rng(seed)
    return rng.standard_normal((int(sizes.sum()), 8)).astype(np.float32), sizes


def in_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_number_of_threads_is_set_checked_and_read_from_the_environment():
    before = vledge.get_num_threads()
    try:
        vledge.set_num_threads(3)
        assert vledge.get_num_threads() == 3
        for wrong in (0, -1, 1.5, True, "2"):
            with pytest.raises(ValueError, match="whole number from 1"):
                vledge.set_num_threads(wrong)
    finally:
        vledge.set_num_threads(before)
    code = "import vledge; print(vledge.get_num_threads())"
    assert in_python(code, VLEDGE_NUM_THREADS="5").stdout == "5\n"
    failed = in_python(code, VLEDGE_NUM_THREADS="many")
    assert "VLEDGE_NUM_THREADS is 'many', expected a whole number" in failed.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_default_respects_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import vledge; print(vledge.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "VLEDGE_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, os.cpu_count()),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        ({}, os.cpu_count()),
        (  # a service's, above the process's own
            {
                "/proc/self/cgroup": "0::/system.slice/it.service/own\n",
                "/sys/fs/cgroup/system.slice/it.service/own/cpu.max": "400000 100000\n",
                "/sys/fs/cgroup/system.slice/it.service/cpu.max": "300000 100000\n",
                "/sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            },
            min(3, os.cpu_count()),
        ),
        ({"/sys/fs/cgroup/cpu.max": "nonsense\n"}, os.cpu_count()),
    ],
)
def test_cgroup_quota(monkeypatch, tmp_path, files, expected):
    real_open = open

    def fake_open(path, *arguments):
        if path not in files:
            raise FileNotFoundError(path)
        copy = tmp_path / "quota"
        copy.write_text(files[path])
        return real_open(copy, *arguments)

    monkeypatch.setattr("builtins.open", fake_open)
    assert threads._cgroup_quota() == expected


def test_calls_from_many_python_threads_agree(limits):
    limits(team_members=1)
    direction = layer()
    inputs = [batch(seed=i) for i in range(8)]
    expected = [run([direction], *one, threads=1)[0] for one in inputs]
    wrong = []

    def work(i):
        for _ in range(30):
            if not np.array_equal(run([direction], *inputs[i], threads=2)[0], expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_pool_survives_fork(limits):
    limits(team_members=1)
    direction, (data, sizes) = layer(), batch()
    expected = run([direction], data, sizes, threads=2)[0]
    child = os.fork()
    if child == 0:
        same = np.array_equal(run([direction], data, sizes, threads=2)[0], expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(run([direction], data, sizes, threads=2)[0], expected)


def test_waiting_threads_sleep(limits):
    limits(team_members=1)
    run([layer()], *batch(), threads=2)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_no_thread_before_it_is_wanted():
    code = (
        "import os, numpy as np, vledge\n"
        "from tests.kernels.test_threads import layer, batch, run\n"
        "from vledge._ext.recurrent import limits\n"
        "limits(team_members=1)  # however little there is to do\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count(); run([layer()], *batch(), threads=1); assert count() == before\n"
        "run([layer()], *batch(), threads=2); assert count() == before + 1, (before, count())\n"
    )
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc here to count threads in")
    done = in_python(code, OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr


def decaying_layer():
    """A state that halves every step and soon is nothing but subnormals."""
    hidden_size = 256
    return Direction(
        "rnn_relu",
        np.zeros((hidden_size, 1), np.float32),
        np.eye(hidden_size, dtype=np.float32) * np.float32(0.999),
    )


def test_decaying_state_is_not_slow():
    """After 0.999^t has fallen below 1e-38 the same steps must not take longer."""
    direction = decaying_layer()
    data, sizes = np.zeros((400, 1), np.float32), np.ones(400, np.int64)

    def seconds(start):
        h_0 = np.full((1, 1, 256), start, np.float32)
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            run([direction], data, sizes, h_0, threads=1)
            times.append(time.perf_counter() - begin)
        return min(times)

    assert seconds(1e-39) < 3 * seconds(1.0)


def test_cpu_mode_is_restored(limits):
    limits(team_members=1)
    tiny = np.float32(1e-40)
    assert tiny * np.float32(0.5) > 0  # import vledge has not switched subnormals off
    for count in (1, 2):
        run([layer()], *batch(), threads=count)
        assert tiny * np.float32(0.5) > 0
