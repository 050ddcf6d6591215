"""Files through a Scorer on this machine: one thread reads, one has the model run, one writes.

So reading and writing overlap with computing, within a file and from file to file. What waits
between them is a few windows: memory is bounded by these, not by the files.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from vledge.errors import placed
from vledge.scoring.channel import LOOK, Channel, Stopped
from vledge.scoring.files.fragments import Fragment
from vledge.scoring.files.manifest import Identity, Manifests, Summary
from vledge.scoring.files.result_file import ResultFile, check_storable
from vledge.scoring.scorer import Scorer
from vledge.scoring.windows import opened

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Failed", "Finished", "Job", "Written", "score"]

#: That the threads get to clear up after themselves when a run is stopped.
CLEARING: Final = 0.06


@dataclass(frozen=True)
class Job:
    """What is done with every file."""

    scorer: Scorer
    manifests: Manifests
    kept: list[str] | None = None  #: the columns that stay in the result; all by default


@dataclass(frozen=True)
class Written:
    """Some rows of a file are done."""

    fragment: Fragment
    rows: int
    of: int | None  #: rows that the file has, where it says so


@dataclass(frozen=True)
class Finished:
    """A file is done, and its manifest there."""

    fragment: Fragment
    summary: Summary


@dataclass(frozen=True)
class Failed:
    """A file cannot be scored; nothing is left of its result. The others go on."""

    fragment: Fragment
    error: Exception


@dataclass(frozen=True)
class _Opened:
    """A file has been opened: what follows is of it, up to a Finished or Failed."""

    fragment: Fragment
    schema: pa.Schema
    rows: int | None
    identity: Identity


@dataclass(frozen=True)
class _Result:
    """What came of a window of so many rows."""

    table: pa.Table
    rows: int


#: What goes from reading to computing, and from there to writing.
_Read: TypeAlias = "_Opened | pa.Table | Finished | Failed"
_Computed: TypeAlias = "_Opened | _Result | Finished | Failed"


def score(
    fragments: Iterable[Fragment], job: Job, stop: threading.Event | None = None
) -> Generator[Written | Finished | Failed, None, None]:
    """What happens, as it happens. When the iterator is closed, whatever is half-done is removed;
    so it is when ``stop`` is set, which ends the iterator.

    Raises OSError where a result cannot be written (the disk is full): what is finished stays.
    """
    stop = stop or threading.Event()
    run = _Run(job)
    threads = [
        threading.Thread(target=run.guarded, args=(stage,), daemon=True, name=f"vledge-{name}")
        for name, stage in (
            ("read", lambda: run.read(fragments)),
            ("score", run.compute),
            ("write", run.write),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        while not stop.is_set():
            try:
                # a signal that comes just before a wait without an end would wait as long
                event = run.events.get(timeout=LOOK)
            except queue.Empty:
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        run.stop.set()
        threads[-1].join(None if stop.is_set() else CLEARING)


class _Run:
    """The three threads' work, and what is between them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stop = threading.Event()
        self.given_up: set[Fragment] = set()
        room = job.scorer.waiting_nbytes
        self.read_windows: Channel[_Read] = Channel(room, self.stop)
        self.results: Channel[_Computed] = Channel(room, self.stop)
        self.events: queue.Queue[Written | Finished | Failed | BaseException | None] = queue.Queue()

    def guarded(self, stage: Callable[[], None]) -> None:
        """Run a stage; what it raises ends the run."""
        try:
            stage()
        except Stopped:
            pass
        except BaseException as error:
            self.stop.set()
            self.events.put(error)

    # ---- the stages

    def read(self, fragments: Iterable[Fragment]) -> None:
        """Windows of one file after the other."""
        for fragment in fragments:
            try:
                self._read(fragment)
            except Stopped:
                raise
            except Exception as error:
                self.read_windows.put(Failed(fragment, _told(error, fragment)))
        self.read_windows.put(None)

    def _read(self, fragment: Fragment) -> None:
        scorer = self.job.scorer
        identity = self.job.manifests.identity(fragment)
        with opened(fragment, scorer, self.job.kept) as source:
            schema = scorer.schema(source.schema, self.job.kept)
            check_storable(schema)
            self.read_windows.put(_Opened(fragment, schema, source.rows, identity))
            windows = source.windows if scorer.long is None else source.whole_sequences
            for table in windows(scorer):
                if fragment in self.given_up:
                    return
                self.read_windows.put(table, table.nbytes)
        self.read_windows.put(Finished(fragment, Summary()))

    def compute(self) -> None:
        """Windows to results; what does not fit makes its file fail."""
        scorer, kept = self.job.scorer, self.job.kept
        fragment: Fragment | None = None
        summary = Summary()
        while (item := self.read_windows.take()) is not None:
            if isinstance(item, _Opened):
                fragment, summary = item.fragment, Summary()
                self.results.put(item)
            elif isinstance(item, Failed):
                if item.fragment not in self.given_up:
                    self.results.put(item)
            elif isinstance(item, Finished):
                if item.fragment not in self.given_up:
                    self.results.put(Finished(item.fragment, summary))
            elif fragment not in self.given_up:
                assert fragment is not None
                try:
                    result = scorer.window(item, summary.rows, summary.bad, self.stop.is_set, kept)
                except Exception as error:
                    self.given_up.add(fragment)
                    self.results.put(Failed(fragment, _told(error, fragment)))
                    continue
                summary.rows += item.num_rows
                summary.written += result.num_rows
                self.results.put(_Result(result, item.num_rows), result.nbytes)
        self.results.put(None)

    def write(self) -> None:
        """Results into files, a file at a time."""
        file: ResultFile | None = None
        about: _Opened | None = None
        try:
            while (item := self.results.take()) is not None:
                if isinstance(item, _Opened):
                    about = item
                    file = ResultFile(item.fragment.target, item.schema)
                elif isinstance(item, Failed):
                    if file is not None:
                        file.abandon()
                        file = None
                    self.events.put(item)
                elif isinstance(item, Finished):
                    assert file is not None
                    assert about is not None
                    done, file = file, None
                    done.commit()
                    self.job.manifests.write(item.fragment, about.identity, item.summary)
                    self.events.put(item)
                else:
                    assert file is not None
                    assert about is not None
                    file.write(item.table)
                    self.events.put(Written(about.fragment, item.rows, about.rows))
        except OSError as error:
            if about is None:
                raise
            raise OSError(f"{about.fragment.target}: cannot be written: {error}") from error
        finally:
            if file is not None:
                file.abandon()
        self.events.put(None)


def _told(error: Exception, fragment: Fragment) -> Exception:
    """With the file's name in front."""
    if fragment.source in str(error):
        return error
    try:
        return placed(error, fragment.source)
    except TypeError:  # an exception whose making takes more than a message
        return RuntimeError(f"{fragment.source}: {error}")
