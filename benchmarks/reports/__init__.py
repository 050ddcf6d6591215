"""What the benchmarks print and draw."""
