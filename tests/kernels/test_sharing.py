"""How a run is shared between threads: what is chosen, and that more threads never cost."""

import os
import time

import numpy as np
import pytest

from tests import reference
from tests.kernels.test_threads import in_python
from vledge._ext.recurrent import rehearsal, run, seconds_of_meetings, tasks_of_threads
from vledge._ext.weights import Direction
from vledge.machine.threads import usable_cores

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 64)


def layer(kind="lstm", input_size=16, hidden_size=128, reverses=(False,)):
    rng = np.random.default_rng(0)
    directions = []
    for reverse in reverses:
        params = reference.random_params(rng, kind, input_size, hidden_size)
        params = {name: array.astype(np.float32) for name, array in params.items()}
        directions.append(Direction(kind, **params, reverse=reverse))
    return directions


def batch(lengths, input_size=16):
    sizes = reference.batch_sizes_of(sorted(lengths, reverse=True))
    rng = np.random.default_rng(0)
    return rng.standard_normal((int(sizes.sum()), input_size)).astype(np.float32), sizes


@pytest.fixture
def awake(limits):
    """Threads are there, and awake: that costs nothing to speak of."""
    limits(wake_nanoseconds=0, next_wake_nanoseconds=0)


WORKS = [
    ("lstm", 128, [100] * 32, (False,)),
    ("lstm", 256, [300], (False, True)),
    ("gru", 64, [1000, *[10] * 63], (False,)),
    ("gru_reset_before", 100, [40, 30, 20, 10], (False, True)),
    ("rnn_tanh", 48, [7, 5, 3], (False,)),
    ("indrnn_relu", 300, [90, 60], (False,)),
    ("lstm", 16, [3], (False,)),
]


@pytest.mark.parametrize(("kind", "hidden_size", "lengths", "reverses"), WORKS)
def test_what_is_chosen_takes_no_longer_with_more_threads(
    awake, kind, hidden_size, lengths, reverses
):
    directions = layer(kind, hidden_size=hidden_size, reverses=reverses)
    before = None
    for count in COUNTS:
        told = rehearsal(directions, *batch(lengths), count)
        assert 1 <= told["members"] <= count
        assert told["members"] % told["team"] == 0
        assert 1 <= told["slices"] <= len(lengths)
        tasks = told["slices"] * len(directions)
        assert [len(members) for members in told["seconds"]] == [told["team"]] * tasks
        assert before is None or told["predicted"] <= 1.01 * before
        before = told["predicted"]


def test_little_work_stays_on_one_thread_and_much_is_shared(awake):
    assert rehearsal(layer(hidden_size=16), *batch([3]), 16)["members"] == 1
    assert rehearsal(layer(hidden_size=64), *batch([200] * 64), 16)["members"] == 16
    # one long sequence: a team, both directions at once
    told = rehearsal(layer(hidden_size=512, reverses=(False, True)), *batch([200]), 16)
    assert told["team"] >= 4
    assert told["members"] == 2 * told["team"]


def test_threads_that_sleep_are_not_woken_for_less_than_that_takes(limits):
    one = layer(hidden_size=64), *batch([40] * 4)
    limits(wake_nanoseconds=0, next_wake_nanoseconds=0)
    assert rehearsal(*one, 64)["members"] > 1  # as many as no test before has woken
    limits(wake_nanoseconds=10**9)
    assert rehearsal(*one, 64)["members"] <= 8  # those that may be awake


@pytest.mark.parametrize("members", [1, 2, 3, 4, 5, 7, 8])
def test_members_meet_as_often_as_they_want(members):
    assert seconds_of_meetings(members, 300) > 0


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc to count threads in")
def test_no_more_threads_than_cores_however_many_are_asked_for():
    code = (
        "import os, numpy as np, vledge\n"
        "from tests.kernels.test_threads import layer, batch, run\n"
        "from vledge._ext.recurrent import limits\n"
        "limits(team_members=1, cores={cores})\n"
        "vledge.set_num_threads(64)\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "run([layer()], *batch())\n"
        "print(len(os.listdir('/proc/self/task')) - before, vledge.get_num_threads())\n"
    )
    for cores in (1, 3):
        done = in_python(code.format(cores=cores), OPENBLAS_NUM_THREADS="1")
        assert done.stdout == f"{cores - 1} 64\n", done.stderr


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: two threads share it as well")
@pytest.mark.parametrize(
    ("hidden_size", "lengths"), [(512, [60]), (64, [100] * 16)], ids=["a team", "slices"]
)
def test_threads_without_cores_cost_little(limits, hidden_size, lengths):
    """Four times as many members as cores, as where other programs have the cores, whatever the
    model says: they make way for one another. Who spun for a member without a core would take the
    scheduler's slices, tens of times as long. benchmarks.threads says how little it is."""
    limits(wake_nanoseconds=0, next_wake_nanoseconds=0)
    arguments = layer(hidden_size=hidden_size), *batch(lengths)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def seconds(threads):
        start = time.perf_counter()
        run(*arguments, threads=threads)
        return time.perf_counter() - start

    end = time.perf_counter() + 1
    while time.perf_counter() < end:  # a team that has no cores makes way
        seconds(4 * cores)
    for _ in range(5):  # a neighbour may have had a core
        pairs = [(seconds(4 * cores), seconds(cores)) for _ in range(40)]
        many, few = map(min, zip(*pairs, strict=True))
        if many <= 3 * few:
            return
    raise AssertionError(f"{many * 1e3:.2f} ms with {4 * cores} threads, {few * 1e3:.2f} ms")


@pytest.mark.skipif(usable_cores() < 2, reason="one core: no call has two threads")
@pytest.mark.parametrize("slow", [0, 1])
def test_the_others_take_what_a_slow_core_would_be_late_with(awake, limits, slow):
    """Of slices as many as threads each has one, and all wait for the slow one's; cut finer, it has
    few. The bits are those of one thread."""
    directions, (data, sizes) = layer(), batch([40] * 96)
    alone = run(directions, data, sizes, threads=1)
    limits(slow_member=slow, slowness=6)
    run(directions, data, sizes, threads=2)
    assert sum(tasks_of_threads()) == 2
    for _ in range(100):  # a neighbour may make the other one late as well
        shared = run(directions, data, sizes, threads=2)
        tasks = tasks_of_threads()
        if sum(tasks) == 8 and tasks[slow] <= 2:
            break
    assert sum(tasks) == 8
    assert tasks[slow] <= 2  # none where it has no core: the other one takes all
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("lengths", [[100] * 40, [300]])
def test_a_batch_too_small_to_be_cut_finer_is_shared_as_ever(awake, limits, lengths):
    directions, (data, sizes) = layer(), batch(lengths)
    before = rehearsal(directions, data, sizes, 2)["slices"]
    limits(slow_member=1)
    for _ in range(10):
        run(directions, data, sizes, threads=2)
    assert rehearsal(directions, data, sizes, 2)["slices"] == before


def test_what_a_short_call_takes_says_nothing_of_cores(awake, limits):
    """It is what waking took. How long it is here depends on what else runs: the limit says so."""
    directions, (data, sizes) = layer(), batch([4] * 96)
    before = rehearsal(directions, data, sizes, 2)["slices"]
    limits(slow_member=1, fair_trial_nanoseconds=2**31 - 1)
    for _ in range(10):
        run(directions, data, sizes, threads=2)
    assert rehearsal(directions, data, sizes, 2)["slices"] == before
