"""The command line: finds the sub-command, turns errors into one line and an exit status.

Built on argparse, which every Python has: no byte to install, a few milliseconds to import. Each
sub-command is a module of its name with ``add_arguments``, ``run`` and, for its help, ``EXAMPLES``,
imported when asked for.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from vledge._version import __version__
from vledge.errors import VledgeError

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "bench": "measure the time of single steps, next to other runtimes",
    "calibrate": "measure this machine for `vledge plan`, half a minute",
    "completion": "print what makes bash, zsh or fish complete commands and options",
    "convert": "write a model or weights as one file of vledge's own, which loads with numpy alone",
    "demo": "classify 370 real series of different lengths and compare with torch's results",
    "info": "show versions, CPU features, the instruction set chosen, threads",
    "inspect": "list the tensors or the graph in a file, and the recurrent layers among them",
    "many": "run a recurrent layer over many sequences, a few rows at a time",
    "plan": "predict which strategy suits sequences of given lengths",
    "profile": "time a model node by node, natively or in Python, next to onnxruntime",
    "quantize": "write weights whose recurrent layers are small: int8 or int16",
    "record": "write what onnxruntime or torch computes, as the reference of `vledge validate`",
    "run": "run a model once, on files or random numbers",
    "score": "run a model over archives: Parquet, Arrow or .npz files, on one machine or many",
    "stream": "run a model frame by frame on what comes in, with outputs as they come",
    "validate": "prove that the model on this machine is the one that was trained",
}
EXAMPLES = """\
examples:
  vledge demo                                       does it work here?
  vledge inspect model.onnx                         what is in a file
  vledge run model.onnx --random x=1x300x40         run it once
  vledge convert model.onnx model.safetensors       one file, for a board without onnx
  vledge validate model.safetensors                 the same numbers as where it was trained?
  arecord -t raw -f S16_LE -r 16000 -c 1 | vledge stream model.onnx --format int16

`vledge COMMAND --help` has the options and examples of each.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default this process's) and return its exit status.

    0 is success, 1 a failure that is told in one line on stderr, 2 a wrong command line, 130 and
    143 the end by Ctrl-C and SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser, commands = build_parser([name for name in COMMANDS if name in arguments])
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        first = next((one for one in arguments if not one.startswith("-")), None)
        if first is not None and first not in COMMANDS:
            parser.error(_no_command(first))
        parsed, unknown = parser.parse_known_args(arguments)
        if unknown:
            commands[parsed.command].error(_unknown(unknown, commands[parsed.command]))
    except SystemExit as exit:
        return int(exit.code or 0)
    # names in files may hold what an ASCII terminal has no character for: show their code instead
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = import_module(f"vledge.cli.{parsed.command}").run(parsed)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # the reader has gone (`| head`): nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (VledgeError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        if parsed.debug:
            raise
        from vledge.cli.wording import in_options

        said = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str):
            said = f"{error.filename or repr('')}: {error.strerror}"
        told = in_options(said, commands[parsed.command])
        print(f"vledge: error: {told}", file=sys.stderr)
        return 1


def build_parser(
    wanted: Collection[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The whole parser and those of the commands; only the ``wanted`` ones know their options."""
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="vledge",
        description="Run trained recurrent networks and whole ONNX models on small CPUs.",
        epilog=EXAMPLES,
        formatter_class=text,
    )
    parser.add_argument("-V", "--version", action="version", version=f"vledge {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = {}
    for name, description in COMMANDS.items():
        module = import_module(f"vledge.cli.{name}") if name in wanted else None
        command = commands[name] = group.add_parser(
            name,
            help=description,
            description=description,
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=text,
        )
        if module is not None:
            module.add_arguments(command)
    return parser, commands


def _no_command(name: str) -> str:
    """Says which command is meant, if one looks like it, and else all that there are."""
    alike = difflib.get_close_matches(name, COMMANDS, 1)
    told = f"did you mean {alike[0]}?" if alike else f"there are {', '.join(COMMANDS)}"
    return f"{name!r} is no command; {told}"


def _unknown(arguments: Sequence[str], command: argparse.ArgumentParser) -> str:
    """Says of arguments that a command does not know which option looks like them."""
    known = [option for action in command._actions for option in action.option_strings]
    names = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    alike = [found for name in names for found in difflib.get_close_matches(name, known, 1)]
    meant = f"; did you mean {', '.join(alike)}?" if alike else ""
    return f"unrecognized arguments: {' '.join(arguments)}{meant}"
