"""What tests of several folders start from."""

import pytest

from vledge._ext import isa


@pytest.fixture(params=isa.runnable())
def instruction_set(request):
    """Every instruction set that this CPU has, one after another."""
    before = isa.selected()
    isa.select(request.param)
    yield request.param
    isa.select(before)
