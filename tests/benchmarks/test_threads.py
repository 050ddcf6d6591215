"""The simulation of more threads than there are: the members' times, put together."""

import pytest

from benchmarks import threads


def shared(members, team, seconds):
    return {"members": members, "team": team, "seconds": seconds}


def test_a_thread_alone_takes_the_next_task_when_it_has_done_with_its_own():
    tasks = [[5.0], [4.0], [3.0], [2.0], [1.0]]
    assert threads.scheduled(shared(1, 1, tasks), 10, 0.1) == 15.0
    assert threads.scheduled(shared(2, 1, tasks), 10, 0.1) == 8.0  # 5 + 2 + 1, 4 + 3
    assert threads.scheduled(shared(5, 1, tasks), 10, 0.1) == 5.0


def test_a_team_takes_as_long_as_its_slowest_member_and_its_meetings():
    tasks = [[1.0, 2.0, 1.0], [4.0, 3.0, 3.0]]
    # three members meet in two rounds, at each of ten steps
    assert threads.scheduled(shared(3, 3, tasks), 10, 0.1) == pytest.approx(2 + 4 + 2 * 2.0)
    assert threads.scheduled(shared(6, 3, tasks), 10, 0.1) == pytest.approx(4 + 2.0)


def test_a_small_work_is_simulated_by_what_the_engine_chooses():
    work = threads._work("LSTM", (8, 32), (12, 9, 4, 4), 2, both=True)
    taken = threads.simulated(work, (1, 2, 16), 1e-7, 1)
    assert len(taken) == 3
    assert all(0 < seconds < 1 for seconds in taken)
