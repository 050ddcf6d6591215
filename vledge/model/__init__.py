"""What a graph is, whatever file it came from: nodes, values, types, checks."""
