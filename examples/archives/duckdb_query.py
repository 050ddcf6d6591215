"""DuckDB: `python duckdb_query.py model.safetensors 'in/*.parquet'`, with a column "frames"."""

import sys

import duckdb

from vledge.integrations.arrow import Scorer

model, source = sys.argv[1:]

query = f"SELECT * FROM '{source}' WHERE len(frames) > 50 ORDER BY id"
scored = Scorer(model, "frames")(duckdb.sql(query).to_arrow_table())
duckdb.sql("SELECT id, len(frames) AS steps, last[1] AS first FROM scored LIMIT 3").show()
