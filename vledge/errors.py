"""The exceptions that vledge raises on its own account.

Wrong arguments raise the ordinary ``ValueError`` and ``TypeError``, with torch's wording where
torch has one. What is here is for files, models and the installation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = [
    "FormatError",
    "LimitError",
    "MissingDependencyError",
    "MissingWeightError",
    "ModelWarning",
    "UnsupportedError",
    "VledgeError",
    "cut",
    "import_failure",
    "placed",
    "quoted",
    "reading",
    "with_article",
]

_SHORT_OF_MEMORY = ("cannot allocate memory", "failed to map segment", "out of memory")
#: The most characters of a message; of a text out of a file in a message, see `cut`.
LONGEST_MESSAGE = 8_000
SHOWN = 80
LONGEST_NAME = 200


class VledgeError(Exception):
    """Base class of every error of vledge's own. Its message is cut where it would be endless."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], str):
            arguments = (cut(arguments[0], LONGEST_MESSAGE),)
        super().__init__(*arguments, **keywords)


class FormatError(VledgeError, ValueError):
    """A file is not what it claims to be: truncated, inconsistent, hostile, or of no known kind."""


class LimitError(FormatError):
    """A file asks for more memory or work than its limits allow; the message says how to raise
    them."""


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


_Error = TypeVar("_Error", bound=Exception)


def placed(error: _Error, where: str) -> _Error:
    """The same error with where it was found in front, ``where: what``; as it is for no place."""
    if not where:
        return error
    same = type(error)(f"{where}: {error}")
    same.__cause__ = error.__cause__
    return same


@contextmanager
def reading(where: str) -> Iterator[None]:
    """The door of a reader: whatever a file makes it raise is a FormatError that says where.

    Ours are given the place, raw ones become a FormatError with it; what is no fault of the file
    goes through: OSError, MemoryError, and an installation that lacks a package.
    """
    try:
        yield
    except (FormatError, UnsupportedError) as error:
        raise placed(error, where) from error.__cause__
    except (VledgeError, OSError, MemoryError):
        raise
    except Exception as error:
        what = cut(f"{type(error).__name__}: {error}", 300)
        damage = FormatError(f"the file is damaged, or of a kind that is not known: {what}")
        raise placed(damage, where) from error


def cut(text: str, most: int = SHOWN) -> str:
    """The text, or its beginning and its end, with the number of characters left out between."""
    if len(text) <= most:
        return text
    head = 2 * most // 3
    tail = most // 6
    return f"{text[:head]} [{len(text) - head - tail:,} characters] {text[-tail:]}"


def quoted(name: str) -> str:
    """A name out of a file as messages show it: in quotation marks, and cut."""
    return repr(cut(name, LONGEST_NAME))


def with_article(noun: str) -> str:
    """``a GRU``, ``an LSTM``, ``an Embedding``: of a capital before another, its name is spoken."""
    spelled = noun[:2].isupper()
    return f"a{'n' if noun[:1] in ('AEFHILMNORSX' if spelled else 'AEIOU') else ''} {noun}"
