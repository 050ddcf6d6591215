"""What a graph is, whatever file it came from: nodes, values, element types, what must hold."""
