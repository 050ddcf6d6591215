"""Polars: `python polars_frame.py model.safetensors in/a.parquet`, with a column "frames"."""

import sys

import polars as pl

from vledge.integrations.arrow import Scorer

model, source = sys.argv[1:]

frame = pl.read_parquet(source)
scored = pl.from_arrow(Scorer(model, "frames")(frame.to_arrow()))
print(scored.head(3))
