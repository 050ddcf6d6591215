"""What tests of several folders start from."""

import pytest

from vledge._ext import isa
from vledge.cli import main


@pytest.fixture(params=isa.runnable())
def instruction_set(request):
    """Every instruction set that this CPU has, one after another."""
    before = isa.selected()
    isa.select(request.param)
    yield request.param
    isa.select(before)


def _integer_ways():
    before = isa.selected()
    found = []
    for name in isa.runnable():
        isa.select(name)
        found += [(name, way) for way in isa.integer_ways()]
    isa.select(before)
    return found


@pytest.fixture(params=_integer_ways(), ids="-".join)
def integers(request):
    """Every instruction set, and every way in which it multiplies bytes."""
    before = isa.selected()
    isa.select(request.param[0])
    isa.select_integers(request.param[1])
    yield request.param
    isa.select_integers(None)
    isa.select(before)


@pytest.fixture
def vledge_command(capsys):
    """Runs the command in this process: its status, what it printed, and what it said."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
