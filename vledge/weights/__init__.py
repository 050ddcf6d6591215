"""Weights by name, out of a checkpoint: wrappers' names taken out, weights in pieces folded."""
