"""``vledge info``: what vledge found on this machine, what it chose, whether it computes right."""

from __future__ import annotations

import argparse
import json

from vledge.cli.table import rows
from vledge.machine.selftest import self_test
from vledge.machine.system import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge info``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the table; status 1 if the kernels do not compute what they should here."""
    description = describe()
    passed, description["self-test"] = self_test()
    print(
        json.dumps(description, indent=1)
        if arguments.json
        else rows(description.items(), indent="")
    )
    return 0 if passed else 1
