"""The running layer: the table of cells, stacks of directions, their states, their recognition."""
