"""Models over a window of sequences: layers, and whole ONNX models, in batches."""
