"""What the benchmarks measure by: the work, the limits of the machine, pairs in turns."""
