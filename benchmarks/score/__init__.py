"""Archives of sequences through a model: how fast, beside what else, and what kills it."""
