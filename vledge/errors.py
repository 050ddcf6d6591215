"""The exceptions that vledge raises on its own account.

Wrong arguments raise the ordinary ``ValueError`` and ``TypeError``, with torch's wording where
torch has one. What is here is for files, models and the installation.
"""

__all__ = [
    "FormatError",
    "MissingDependencyError",
    "MissingWeightError",
    "ModelWarning",
    "UnsupportedError",
    "VledgeError",
]


class VledgeError(Exception):
    """Base class of every error of vledge's own."""


class FormatError(VledgeError, ValueError):
    """A file is not what it claims to be: truncated, inconsistent, hostile, or of no known kind."""


class UnsupportedError(VledgeError, NotImplementedError):
    """A valid file or model asks for something that vledge does not run; the message names it."""


class MissingDependencyError(VledgeError, ImportError):
    """An optional package is needed; the message holds the ``pip install`` line to run."""


class MissingWeightError(VledgeError, KeyError):
    """There is no weight of a name; the message says which there are, and what was meant."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows its message in quotes


class ModelWarning(UserWarning):
    """A model runs, but is known to have been written wrongly by the tool that made it."""
