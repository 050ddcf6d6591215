"""Every kernel test can run on every instruction set that this CPU has."""

import pytest

from vledge._ext import isa, recurrent


@pytest.fixture(params=isa.runnable())
def instruction_set(request):
    before = isa.selected()
    isa.select(request.param)
    yield request.param
    isa.select(before)


@pytest.fixture
def limits():
    before = recurrent.limits()
    yield recurrent.limits
    recurrent.limits(**before)
