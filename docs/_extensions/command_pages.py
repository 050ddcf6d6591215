"""reference/commands.rst: the command line, out of the parsers that ``vledge`` itself uses."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["page", "setup"]

INTRODUCTION = """\
The command line
================

``vledge COMMAND --help`` says the same in a terminal; ``vledge --version`` tells the version. The
exit status is 0 for success, 1 for a failure, which is told in one line on stderr, 2 for a wrong
command line, 130 and 143 for the end by Ctrl-C and SIGTERM; ``vledge --debug COMMAND …`` shows the
traceback. Options may be shortened as far as they stay unambiguous.

"""


def page() -> str:
    """The page's reStructuredText."""
    from vledge.cli import COMMANDS, build_parser

    whole, parsers = build_parser(COMMANDS)
    lines = [INTRODUCTION, *_block(whole.epilog or ""), ""]
    for name, parser in parsers.items():
        title = f"vledge {name}"
        lines += [title, "-" * len(title), "", sentence(parser.description or ""), ""]
        lines += [f".. program:: {title}", "", *_block(usage(parser)), ""]
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            lines += [f".. option:: {signature(action)}", "", f"   {said(parser, action)}", ""]
        if parser.epilog:
            lines += [*_block(parser.epilog), ""]
    return "\n".join(lines)


def _block(text: str) -> list[str]:
    return [".. code-block:: none", "", *("    " + line for line in text.splitlines())]


def usage(parser: argparse.ArgumentParser) -> str:
    """The lines that a wrong call prints, at one width for every terminal."""
    formatter = argparse.HelpFormatter(parser.prog, width=84)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, "")
    return re.sub(r"\x1b\[\d*m", "", formatter.format_help())


def signature(action: argparse.Action) -> str:
    """``-o FILE, --output FILE``, or a positional argument's name."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return str(action.metavar or action.dest)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    values = formatter._format_args(action, action.dest.upper())
    return ", ".join(f"{option} {values}" for option in action.option_strings)


def said(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An option's help, as reStructuredText."""
    if not action.help:
        return ""
    text = argparse.HelpFormatter(parser.prog)._expand_help(action)
    return sentence(text)


def sentence(text: str) -> str:
    """Plain text with `code` in it, escaped, with a capital and a full stop."""
    text = re.sub(
        r"^\(([^()]*)\)$", r"default: \1", text.strip()
    )  # the help of an option that its name explains
    parts = re.split(r"(`[^`]*`)", text)
    quoted = [
        f"``{part[1:-1]}``" if part.startswith("`") else re.sub(r"([*_|\\])", r"\\\1", part)
        for part in parts
    ]
    whole = "".join(quoted).strip()
    return whole[:1].upper() + whole[1:] + ("" if whole.endswith((".", "?")) else ".")


def write_page(app: Any) -> None:
    os.environ["NO_COLOR"] = "1"  # argparse of Python 3.14 colours its usage
    path = Path(app.srcdir) / "reference" / "commands.rst"
    text = page()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}
