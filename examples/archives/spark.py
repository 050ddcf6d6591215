"""Spark: `python spark.py model.safetensors in/ out/`, Parquet with a column "frames"."""

import os
import sys

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from vledge.integrations.arrow import Scorer

model, source, target = sys.argv[1:]


def listed(kind):
    """Spark's arrays have no fixed size."""
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind)
    return pa.list_(listed(kind.value_type)) if is_list else kind


os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or workers run the first of PATH
spark = SparkSession.builder.getOrCreate()
frames = spark.read.parquet(source)
score = Scorer(model, "frames", threads=1)  # Spark runs as many tasks as there are cores
schema = pa.schema(
    [field.with_type(listed(field.type)) for field in score.schema(to_arrow_schema(frames.schema))]
)


def scored(batches):
    for batch in batches:
        yield from score(batch).cast(schema).to_batches()


frames.mapInArrow(scored, from_arrow_schema(schema)).write.mode("overwrite").parquet(target)
print(spark.read.parquet(target).count(), "rows")
