"""The version: setup and `vledge.__version__` read it here."""

__version__ = "0.1.0"
