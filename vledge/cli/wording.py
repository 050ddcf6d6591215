"""The library's messages in a command line's words: its options in place of Python's parameters."""

from __future__ import annotations

import argparse
import re
from typing import Final

__all__ = ["in_options"]

# Parameters that have another name as an option.
_OTHER_NAMES: Final = {"fixed": "set", "outputs": "only", "prefix": "layer", "node": "layer"}
# Python to be typed as it stands: a call with all of its arguments.
_CALL: Final = re.compile(r"[\w.]+\([^()]*\)")
_PARAMETER: Final = re.compile(r"(?<![\w\-.])(\w+)=(\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^\s,;:()\"']*)")


def in_options(message: str, parser: argparse.ArgumentParser) -> str:
    """``message`` with ``time_axis=2`` written as ``--time-axis 2`` where that is an option.

    Calls such as ``vledge.export(module, path="m")`` are Python wherever they stand, and stay.
    """
    options = {
        action.dest: action.option_strings[-1 if len(action.option_strings[0]) == 2 else 0]
        for action in parser._actions  # as argparse's own help goes through them
        if action.option_strings
    }

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        flag = options.get(_OTHER_NAMES.get(name, name))
        if flag is None:
            return match[0]
        if value.startswith("{"):
            value = re.sub(r"\s*:\s*", "=", value.strip("{}")).replace("'", "")
            value = re.sub(r"\b(input|output|number|name)\b", lambda word: word[0].upper(), value)
        return f"{flag} {value}".rstrip()

    parts, end = [], 0
    for call in _CALL.finditer(message):
        parts += [_PARAMETER.sub(option, message[end : call.start()]), call[0]]
        end = call.end()
    return "".join([*parts, _PARAMETER.sub(option, message[end:])])
