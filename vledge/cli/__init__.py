"""The command line: finds the sub-command, turns errors into one line and an exit status.

Built on argparse, which every Python has: no byte to install, a few milliseconds to import. Each
sub-command is a module of its name with ``add_arguments`` and ``run``, imported when asked for.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from vledge._version import __version__
from vledge.errors import VledgeError

__all__ = ["main"]

COMMANDS = {
    "bench": "measure the time of single steps, next to other runtimes",
    "calibrate": "measure this machine for `vledge plan`, a few seconds",
    "convert": "write an ONNX model as vledge's own file, which loads without onnx and protobuf",
    "demo": "classify 370 real series of different lengths and compare with torch's results",
    "info": "show versions, CPU features, the instruction set chosen, threads",
    "inspect": "list the tensors or the graph in a file, and the recurrent layers among them",
    "many": "run a recurrent layer over many sequences, a few rows at a time",
    "plan": "predict which strategy suits sequences of given lengths",
    "profile": "time a model node by node, natively or in Python, next to onnxruntime",
    "record": "write what onnxruntime or torch computes, as the reference of `vledge validate`",
    "run": "run a model once on arrays in .npy files",
    "stream": "run a model frame by frame on what comes in, with outputs as they come",
    "validate": "prove that the model on this machine is the one that was trained",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default this process's) and return its exit status.

    0 is success, 1 a failure that is told in one line on stderr, 2 a wrong command line.
    """
    parser = argparse.ArgumentParser(
        prog="vledge", description="Run trained recurrent networks on small CPUs."
    )
    parser.add_argument("--version", action="version", version=f"vledge {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if name in arguments:
            import_module(f"vledge.cli.{name}").add_arguments(command)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as exit:
        return int(exit.code or 0)
    # names in files may hold what an ASCII terminal has no character for: show their code instead
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = import_module(f"vledge.cli.{parsed.command}").run(parsed)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # the reader has gone (`| head`): nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (VledgeError, OSError, ValueError, RuntimeError) as error:
        if parsed.debug:
            raise
        print(f"vledge: error: {error}", file=sys.stderr)
        return 1
