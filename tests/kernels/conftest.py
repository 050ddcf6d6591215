"""What kernel tests start from."""

import pytest

from vledge._ext import recurrent


@pytest.fixture
def limits():
    before = recurrent.limits()
    yield recurrent.limits
    recurrent.limits(**before)
