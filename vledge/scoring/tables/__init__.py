"""Arrow's tables as sequences, and results as columns."""
