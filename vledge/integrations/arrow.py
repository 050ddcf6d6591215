"""pyarrow's tables through a model: `Scorer`, for Ray Data, Spark, Polars, DuckDB and pandas.

It maps a `pyarrow.Table` to a `pyarrow.Table`, and is pickled with its model: what frameworks that
run a function over many tables take.
"""

from vledge.scoring.scorer import Scorer

__all__ = ["Scorer"]
