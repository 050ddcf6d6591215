"""torch, where it is installed; in CI it must be."""

import os

import pytest


@pytest.fixture
def torch():
    try:
        import torch
    except ImportError:
        if os.environ.get("VLEDGE_REQUIRE_PEERS") == "1":
            raise
        pytest.skip("torch is not installed: golden files stand in")
    torch.set_num_threads(1)
    with torch.no_grad():
        yield torch
