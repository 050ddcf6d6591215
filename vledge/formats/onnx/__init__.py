"""ONNX files: the graph, its tensors, and the data beside it."""
