"""The compiled modules land here; their sources are in the top-level folder ``ext/``."""
