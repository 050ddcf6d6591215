"""reference/torch-to-vledge.md: what it calls the same has that name in torch and here."""

import re

import vledge
from tests.docs.blocks import ROOT
from tests.peers import peer
from vledge import nn
from vledge.nn import functional

torch = peer("torch")

PAGE = (ROOT / "docs" / "reference" / "torch-to-vledge.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


def names(text):
    return re.findall(r"`([A-Za-z_]\w*)`", text)


def test_the_layers():
    rows = re.findall(r"^\| (.*?) \| same", section("Layers"), re.MULTILINE)
    listed = [name for row in rows for name in names(row) if name[0].isupper()]
    assert len(listed) > 30
    for name in listed:
        assert hasattr(torch.nn, name), name
        assert name in nn.__all__, name
    ours = {n for n in nn.__all__ if hasattr(torch.nn, n) and n[0].isupper()}
    assert ours <= set(listed)


def test_the_functions():
    listed = names(section("Functions: `torch.nn.functional`"))
    assert set(functional.__all__) <= set(listed)
    for name in functional.__all__:
        assert hasattr(torch.nn.functional, name), name


def test_the_packing_functions():
    row = re.search(r"^\| (.*?) \| same, bit for bit", section("Packing"), re.MULTILINE)[1]
    assert len(names(row)) == 8
    for name in names(row):
        assert hasattr(torch.nn.utils.rnn, name), name
        assert hasattr(vledge, name), name
