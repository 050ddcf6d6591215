"""``vledge completion SHELL``: a script by which bash, zsh or fish completes the command line."""

from __future__ import annotations

import argparse

from vledge.errors import MissingDependencyError

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
needs shtab: pip install 'vledge[completion]'

  bash   mkdir -p ~/.local/share/bash-completion/completions
         vledge completion bash > ~/.local/share/bash-completion/completions/vledge
  zsh    mkdir -p ~/.zsh/completions && vledge completion zsh > ~/.zsh/completions/_vledge
         and in ~/.zshrc, once: fpath=(~/.zsh/completions $fpath); autoload -U compinit; compinit
  fish   vledge completion fish > ~/.config/fish/completions/vledge.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``vledge completion``."""
    parser.add_argument("shell", choices=SHELLS, help="which shell it is for")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError(
            "completion needs shtab: pip install 'vledge[completion]'"
        ) from error
    # the main module imports the commands, which are in each other's way only if imported by them
    from vledge.cli import COMMANDS, build_parser

    parser, commands = build_parser(COMMANDS)
    for command in (parser, *commands.values()):
        _say_files(command, shtab.FILE)
    print(shtab.complete(parser, arguments.shell))
    return 0


def _say_files(parser: argparse.ArgumentParser, file: object) -> None:
    """Mark what takes the name of a file, so that the shell offers files there and only there."""
    for action in parser._actions:
        takes = action.option_strings == [] and action.choices is None
        named = isinstance(action.metavar, str) and any(
            word in action.metavar for word in ("FILE", "PNG")
        )
        wanted = {"output", "reference"} & {action.dest}
        if (takes or named or wanted) and not isinstance(action, argparse._SubParsersAction):
            action.complete = file  # type: ignore[attr-defined]
