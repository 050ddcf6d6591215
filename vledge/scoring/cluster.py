"""Files through a Scorer on the workers of a Dask cluster: a file is a task.

The model goes to each worker once, with the plugin that holds it there, to those that join or are
restarted later, too. A worker that dies loses nothing but time: the scheduler gives its files to
others, and a file's result takes its name only when it is whole. Workers read and write files by
the names that they have here, so they must see the same folders.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Final, Protocol

from vledge.scoring.files.fragments import Fragment
from vledge.scoring.files.manifest import Summary
from vledge.scoring.packages import dask_distributed
from vledge.scoring.pipeline import Failed, Finished, Job, score

__all__ = ["score_on_cluster"]

#: Files that are handed out, for each thread of a worker: it never waits for the next one.
AHEAD: Final = 2
#: A file whose workers have died is given out again so often; dask itself tries four workers.
TRIES: Final = 6
#: Seconds before a model that could not be handed out is handed out again.
AGAIN: Final = 0.5
#: Seconds for a scheduler to answer.
ANSWER: Final = 10


def score_on_cluster(
    fragments: Iterable[Fragment], job: Job, scheduler: str
) -> Generator[Finished | Failed, None, None]:
    """What happens to the files, as it happens. When the iterator is closed, what has not begun is
    taken back.

    Raises OSError where the scheduler does not answer, or a worker cannot write a result.
    """
    distributed = dask_distributed()
    try:
        client = distributed.Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise OSError(f"no scheduler answers at {scheduler}: {error}") from error
    # a task has one of the worker's threads: there are as many tasks as these
    job = replace(job, scorer=job.scorer.with_threads(job.scorer.threads or 1))
    plugin = _plugin(distributed, job)
    try:
        _hold(client, plugin)
        yield from _results(distributed, client, fragments, plugin)
    finally:
        with suppress(Exception):
            client.unregister_worker_plugin(plugin.name)
        client.close()


class _Plugin(Protocol):
    """What holds the model on a worker."""

    name: str
    job: Job


class _Future(Protocol):
    """Of dask: a file that was handed out."""

    status: str

    def exception(self) -> BaseException | None: ...

    def result(self) -> Finished | Failed: ...


class _Scheduler(Protocol):
    """Of dask: where it is."""

    address: str


class _Client(Protocol):
    """Of dask: as much of its client as is used here."""

    scheduler: _Scheduler
    loop: object

    def submit(self, function: object, *arguments: object, pure: bool) -> _Future: ...

    def cancel(self, futures: Sequence[_Future]) -> object: ...

    def nthreads(self) -> Mapping[str, int]: ...

    def register_plugin(self, plugin: _Plugin, name: str) -> object: ...


class NotHeld(Exception):
    """A worker that is asked to score has no model: it joined while that was handed out."""


def _hold(client: _Client, plugin: _Plugin) -> None:
    """Have every worker hold the model; a worker that dies meanwhile is no reason to give up."""
    for tries in range(1, TRIES + 1):
        try:
            client.register_plugin(plugin, name=plugin.name)
            return
        except OSError:
            if tries == TRIES:
                raise
            time.sleep(AGAIN)


def _results(
    distributed: ModuleType, client: _Client, fragments: Iterable[Fragment], plugin: _Plugin
) -> Iterator[Finished | Failed]:
    waiting = iter(fragments)
    running: dict[_Future, tuple[Fragment, int]] = {}
    done = distributed.as_completed(loop=client.loop)

    def submit(fragment: Fragment, tries: int) -> None:
        future = client.submit(score_on_worker, fragment, plugin.name, pure=False)
        running[future] = fragment, tries
        done.add(future)

    def hand_out() -> None:
        threads = sum(client.nthreads().values())
        while len(running) < AHEAD * max(threads, 1):
            fragment = next(waiting, None)
            if fragment is None:
                return
            submit(fragment, 1)

    try:
        if not client.nthreads():
            print(f"vledge: note: no worker at {client.scheduler.address} yet", file=sys.stderr)
        hand_out()
        while running:
            future = next(done)
            fragment, tries = running.pop(future)
            error = future.exception() if future.status == "error" else None
            if future.status == "cancelled":
                raise OSError("the scheduler has given up the files: was it stopped?")
            if isinstance(error, (distributed.KilledWorker, NotHeld)) and tries < TRIES:
                if isinstance(error, NotHeld):
                    _hold(client, plugin)
                submit(fragment, tries + 1)
            elif isinstance(error, distributed.KilledWorker):
                died = f"{fragment.source}: its workers died, {tries} times over: {error}"
                yield Failed(fragment, RuntimeError(died))
            elif error is not None:
                raise error
            else:
                yield future.result()
            hand_out()
    finally:
        client.cancel(list(running))


def score_on_worker(fragment: Fragment, plugin: str) -> Finished | Failed:
    """One file, where a worker runs; the plugin of this name has the model."""
    held = dask_distributed().get_worker().plugins.get(plugin)
    if held is None:
        raise NotHeld
    for event in score([fragment], held.job):
        if isinstance(event, Failed):
            # whatever its class is, and whether or not that can be pickled
            return Failed(fragment, RuntimeError(str(event.error)))
        if isinstance(event, Finished):
            return event
    return Finished(fragment, Summary())


def _plugin(distributed: ModuleType, job: Job) -> _Plugin:
    """What holds the model on each worker."""

    class Held(distributed.WorkerPlugin):  # type: ignore[misc, name-defined]
        def __init__(self, job: Job) -> None:
            self.job = job
            self.name = f"vledge-{uuid.uuid4().hex}"

    return Held(job)
