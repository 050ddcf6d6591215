"""Ray Data: `python ray_data.py model.safetensors in/ out/`, Parquet with a column "frames"."""

import sys

import ray

from vledge.integrations.arrow import Scorer

model, source, target = sys.argv[1:]

ray.init(include_dashboard=False)
score = Scorer(model, "frames", threads=1)  # Ray runs as many tasks as there are cores
data = ray.data.read_parquet(source)
data = data.map_batches(score.__call__, batch_format="pyarrow", batch_size=4096)
data.write_parquet(target)
print(ray.data.read_parquet(target).count(), "rows")
