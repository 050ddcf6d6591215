"""How many threads the kernels may use: the one rule for all of vledge."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from vledge.errors import cut
from vledge.machine.cache_folder import is_measured

__all__ = ["get_num_threads", "set_num_threads", "using_threads"]

MOST_THREADS = 4_096  #: that may be asked for
_num_threads: int | None = None
#: Of the call that this Python thread is in; compiled code reads both.
_of_call: ContextVar[int | None] = ContextVar("num_threads", default=None)


def get_num_threads() -> int:
    """Threads that a call may use, the calling one included.

    ``set_num_threads`` wins over the environment variable ``VLEDGE_NUM_THREADS``, which wins over
    the number of physical cores that this process may run on. A session that was given a number of
    its own runs with that.
    """
    global _num_threads
    of_call = _of_call.get()
    if of_call is not None:
        return of_call
    if _num_threads is None:
        given = os.environ.get("VLEDGE_NUM_THREADS")
        if given:
            digits = given.isascii() and given.isdigit() and len(given) < 10
            if not digits or not 1 <= int(given) <= MOST_THREADS:
                raise ValueError(
                    f"environment variable VLEDGE_NUM_THREADS is {cut(given)!r}, "
                    f"expected a whole number from 1 to {MOST_THREADS:,}"
                )
            _num_threads = int(given)
        else:
            _num_threads = usable_cores()
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Set the threads that a call may use, the calling one included.

    Results do not depend on it, bit for bit.
    """
    global _num_threads
    if (
        isinstance(num_threads, bool)
        or not isinstance(num_threads, int)
        or not 1 <= num_threads <= MOST_THREADS
    ):
        raise ValueError(
            f"num_threads must be a whole number from 1 to {MOST_THREADS:,}, "
            f"got {cut(repr(num_threads))}"
        )
    _num_threads = num_threads


@contextlib.contextmanager
def using_threads(num_threads: int) -> Iterator[None]:
    """Calls from this Python thread use so many threads, whatever the process's number is."""
    token = _of_call.set(num_threads)
    try:
        yield
    finally:
        _of_call.reset(token)


def usable_cores() -> int:
    """Physical cores within this process's affinity and its cgroup's CPU quota, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
    else:
        cpus = set(range(os.cpu_count() or 1))
    cores = {_core_of(cpu) for cpu in cpus}
    return max(1, min(len(cores), _cgroup_quota()))


def measured_limits() -> dict[str, int]:
    """What `vledge calibrate` has found of how threads share a run, by the limits' names; nothing
    where it has not run."""
    if not is_measured():
        return {}
    from vledge.planning.store import costs

    return costs().sharing


def _core_of(cpu: int) -> str:
    """A name that the hardware threads of one core share."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
            return file.read().strip()
    except OSError:
        return str(cpu)


def _cgroup_quota() -> int:
    """Whole CPUs that the cgroups (v2, else v1) let this process use at a time."""
    quotas = [quota for folder in _cgroups() if (quota := _quota_of(folder)) is not None]
    if not quotas:
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                in_all = file.read()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                quotas = [_whole_cpus(in_all, file.read())]
        except (OSError, ValueError):
            pass
    return min(quotas, default=os.cpu_count() or 1)


def _cgroups() -> list[str]:
    """The folders of this process's cgroup (v2) and all above it, each of which may limit it; in a
    container the uppermost is its own."""
    own = ""
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                if line.startswith("0::/") and ".." not in line:
                    own = line[3:].strip().rstrip("/")
    except OSError:
        pass
    parts = own.split("/")
    return ["/sys/fs/cgroup" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _quota_of(folder: str) -> int | None:
    try:
        with open(f"{folder}/cpu.max") as file:
            quota, period = file.read().split()
        return _whole_cpus(quota, period)
    except (OSError, ValueError):
        return None


def _whole_cpus(quota: str, period: str) -> int:
    if quota.strip() in ("max", "-1"):
        return os.cpu_count() or 1
    return max(1, -(-int(quota) // int(period)))
