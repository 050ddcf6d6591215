"""Files through a Scorer on the workers of a Dask cluster: a file is a task.

The model goes to each worker once, with the plugin that holds it there, to those that join or are
restarted later, too. A worker that dies loses nothing but time: the scheduler gives its files to
others, and a file's result takes its name only when it is whole. Workers read and write files by
the names that they have here, so they must see the same folders.

dask runs a file again, too, if the worker dies that has just finished it, and nobody may wait for
that. So when the results are there, workers are told to stop, and then what killed ones have left
of half-written files is removed.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, Final, Protocol

from vledge.scoring.channel import LOOK
from vledge.scoring.files.fragments import Fragment
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
#: That workers get to stop, and killed ones to be gone: until then they hold their files' locks.
ENDING: Final = 5.0


def score_on_cluster(
    fragments: Iterable[Fragment], job: Job, scheduler: str
) -> Generator[Finished | Failed, None, None]:
    """What happens to the files, as it happens. When the iterator is closed, what has not begun is
    taken back.

    Raises ValueError for what is no address, OSError where no scheduler answers or a worker cannot
    write a result.
    """
    distributed = dask_distributed()
    client = _client(distributed, scheduler)
    # a task has one of the worker's threads: there are as many tasks as these
    job = replace(job, scorer=job.scorer.with_threads(job.scorer.threads or 1))
    plugin = _plugin(distributed, job)
    given: list[Fragment] = []
    try:
        _hold(client, plugin)
        yield from _results(distributed, client, _noted(fragments, given), plugin)
    finally:
        with suppress(Exception):
            client.run(stop_on_worker, plugin.name, on_error="ignore")
        with suppress(Exception):
            client.unregister_worker_plugin(plugin.name)
        client.close()
        end = time.monotonic() + ENDING
        while job.manifests.sweep(given) and time.monotonic() < end:
            time.sleep(AGAIN)


def _client(distributed: ModuleType, scheduler: str) -> Any:
    """dask's, which takes half a minute to give up if nobody answers: so that is tried before."""

    async def answers() -> None:
        own = distributed.Security().get_connection_args("client")
        comm = await distributed.comm.connect(scheduler, timeout=ANSWER, **own)
        await comm.close()

    try:
        asyncio.run(asyncio.wait_for(answers(), ANSWER + 1))
        return distributed.Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, asyncio.TimeoutError) as error:
        why = str(error) or f"what is there is silent for {ANSWER} s"
        raise OSError(f"no scheduler answers at {scheduler}: {why}") from error
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{scheduler!r} is no address of a scheduler, such as tcp://head:8786: {error}"
        ) from error


def _noted(fragments: Iterable[Fragment], given: list[Fragment]) -> Iterator[Fragment]:
    for fragment in fragments:
        given.append(fragment)
        yield fragment


class _Plugin(Protocol):
    """What holds the model on a worker."""

    name: str
    job: Job
    stop: threading.Event
    running: set[int]  #: the threads that score a file


class _Future(Protocol):
    """Of dask: a file that was handed out."""

    status: str

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


class _Worker(Protocol):
    """Of dask: where tasks run."""

    plugins: Mapping[str, _Plugin]


class NotHeld(Exception):
    """A worker that is asked to score has no model: it joined while that was handed out, or the run
    is over."""


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
            if future.status == "cancelled":
                raise OSError("the scheduler has given up the files: was it stopped?")
            ended = _ended(future)
            del future  # or dask runs the file again if its worker dies by now
            if isinstance(ended, (distributed.KilledWorker, NotHeld)) and tries < TRIES:
                if isinstance(ended, NotHeld):
                    _hold(client, plugin)
                submit(fragment, tries + 1)
            elif isinstance(ended, distributed.KilledWorker):
                died = f"{fragment.source}: its workers died, {tries} times over: {ended}"
                yield Failed(fragment, RuntimeError(died))
            elif isinstance(ended, Exception):
                raise ended
            else:
                yield ended
            hand_out()
    finally:
        client.cancel(list(running))


def _ended(future: _Future) -> Finished | Failed | Exception:
    """What came of the file; a worker that dies with its result has another one make it again."""
    try:
        return future.result()
    except Exception as error:
        return error


def score_on_worker(fragment: Fragment, plugin: str) -> Finished | Failed:
    """One file, where a worker runs; the plugin of this name has the model."""
    held: _Plugin | None = dask_distributed().get_worker().plugins.get(plugin)
    if held is None:
        raise NotHeld
    held.running.add(threading.get_ident())
    try:
        for event in score([fragment], held.job, held.stop):
            if isinstance(event, Failed):
                # whatever its class is, and whether or not that can be pickled
                return Failed(fragment, RuntimeError(str(event.error)))
            if isinstance(event, Finished):
                return event
    finally:
        held.running.discard(threading.get_ident())
    raise NotHeld  # it was told to stop


async def stop_on_worker(plugin: str, dask_worker: _Worker) -> None:
    """Let go of files that are being scored, and of what is half written, where a worker runs."""
    held = dask_worker.plugins.get(plugin)
    if held is None:
        return
    held.stop.set()
    end = time.monotonic() + ENDING
    while held.running and time.monotonic() < end:
        await asyncio.sleep(LOOK)


def _plugin(distributed: ModuleType, job: Job) -> _Plugin:
    """What holds the model on each worker."""

    class Held(distributed.WorkerPlugin):  # type: ignore[misc, name-defined]
        def __init__(self, job: Job) -> None:
            self.job = job
            self.name = f"vledge-{uuid.uuid4().hex}"

        def setup(self, worker: object) -> None:
            self.stop = threading.Event()
            self.running: set[int] = set()

    return Held(job)
