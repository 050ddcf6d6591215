"""The lowerings, a module for each family of handlers in ``ext/program/``."""
