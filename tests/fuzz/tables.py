"""What is fuzzed of scoring: tables as Parquet and Arrow, archives, manifests of what is done."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from tests.fuzz.doors import as_file, scratch

__all__ = ["manifest", "manifests", "table", "tables"]

ENDINGS = {b"PAR1": ".parquet", b"ARRO": ".arrow", b"\xff\xff\xff\xff": ".arrows", b"PK": ".npz"}


@cache
def scorer() -> Any:
    """A layer that takes three features."""
    from tests.scoring.archives import layer
    from vledge.scoring.scorer import Scorer

    return Scorer(layer(), memory=1 << 22)


@cache
def tables() -> list[bytes]:
    """The same sequences as each kind of file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.scoring.archives import sequences
    from tests.scoring.archives import table as made_of

    arrays = sequences(6, longest=5)
    whole, made = made_of(arrays, note=pa.array(list("abcdef"))), []
    path = scratch() / "table"
    for options in ({"compression": "none"}, {"compression": "snappy", "row_group_size": 2}):
        pq.write_table(whole, path, **options)
        made.append(path.read_bytes())
    for opened in (pa.ipc.new_file, pa.ipc.new_stream):
        with opened(str(path), whole.schema) as writer:
            writer.write_table(whole)
        made.append(path.read_bytes())
    np.savez(path.with_suffix(".npz"), **{f"s{k}": array for k, array in enumerate(arrays)})
    made.append(path.with_suffix(".npz").read_bytes())
    return made


def table(content: bytes) -> None:
    """Read windows, score them, and give what comes of it, as ``vledge score`` does."""
    from vledge.scoring.files.fragments import Fragment
    from vledge.scoring.tables.bad_rows import BadRows
    from vledge.scoring.windows import opened

    ending = next((e for magic, e in ENDINGS.items() if content.startswith(magic)), ".parquet")
    path = as_file(content, "table" + ending)
    try:
        with opened(Fragment(str(path), str(path) + ".out"), scorer(), None) as source:
            scorer().schema(source.schema, None)
            for window in source.windows(scorer()):
                scorer().window(window, 0, BadRows(), lambda: False, None)
    except ValueError as error:
        if type(error).__module__ == "builtins" and type(error) is not ValueError:
            raise
        # a schema that does not fit, or rows that are bad


def manifests() -> list[bytes]:
    """What is written beside a result."""
    from vledge.scoring.files.fragments import Fragment
    from vledge.scoring.files.manifest import Manifests, Summary

    source = as_file(b"input", "in.parquet")
    as_file(b"output", "out.parquet")
    fragment = Fragment(str(source), str(scratch() / "out.parquet"))
    kept = Manifests(str(scratch()), {"model": "m"})
    kept.write(fragment, kept.identity(fragment), Summary(5, 4))
    return [(scratch() / "_vledge" / "out.parquet.json").read_bytes()]


def manifest(content: bytes) -> None:
    """A manifest says that a file is finished, or that it is not."""
    from vledge.scoring.files.fragments import Fragment
    from vledge.scoring.files.manifest import Manifests

    fragment = Fragment(str(scratch() / "in.parquet"), str(scratch() / "out.parquet"))
    (scratch() / "_vledge" / "out.parquet.json").write_bytes(content)
    summary = Manifests(str(scratch()), {"model": "m"}).finished(fragment)
    if summary is not None:
        json.dumps([summary.rows, summary.written, summary.bad.total, str(summary.bad)])
