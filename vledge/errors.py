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
    "import_failure",
]

_SHORT_OF_MEMORY = ("cannot allocate memory", "failed to map segment", "out of memory")


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


def import_failure(error: ImportError, package: str, missing: str) -> Exception:
    """What to raise where an optional package cannot be imported.

    That is ``missing``, with the ``pip install`` line, only if it is not there. A package that is
    there may fail for want of memory, which is MemoryError, or be broken, and then its own words
    are in the message.
    """
    name = package.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == name:
        return MissingDependencyError(missing, name=name)
    said = f"{name} is installed but cannot be imported: {str(error)[:500]}"
    if any(words in said.lower() for words in _SHORT_OF_MEMORY):
        return MemoryError(said)
    return MissingDependencyError(said, name=name)
