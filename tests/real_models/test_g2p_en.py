"""g2p_en's GRU encoder-decoder: examples/g2p.py against the package's own NumPy code."""

import importlib.util
import re
import sys
import types
import warnings
from pydoc_data.topics import topics

import numpy as np
import pytest

from tests.registry import registry_file

PACKAGE = "g2p_en==2.1.0"


@pytest.fixture(scope="module")
def weights():
    return registry_file(PACKAGE, "g2p_en/checkpoint20.npz")


@pytest.fixture(scope="module")
def g2p(example):
    return example("g2p")


@pytest.fixture(scope="module")
def speller(g2p, weights):
    return g2p.Speller.from_npz(weights)


@pytest.fixture(scope="module")
def package(weights):
    """The package's own G2p object, from its source as published.

    Its module asks for nltk and downloads nltk's data, which `predict` does not use; empty modules
    of those names stand in for them.
    """
    source = registry_file(PACKAGE, "g2p_en/g2p.py")
    registry_file(PACKAGE, "g2p_en/homographs.en")  # the constructor reads it beside g2p.py
    assert source.parent == weights.parent
    nothing = lambda *arguments, **keywords: None  # noqa: E731
    stand_ins = {
        "nltk": {"pos_tag": nothing, "data": types.SimpleNamespace(find=nothing)},
        "nltk.corpus": {"cmudict": types.SimpleNamespace(dict=dict)},
        "nltk.tokenize": {"TweetTokenizer": lambda: types.SimpleNamespace(tokenize=nothing)},
        "g2p_en": {"__path__": [str(source.parent)]},
        "g2p_en.expand": {"normalize_numbers": nothing},
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for category in (SyntaxWarning, DeprecationWarning):  # its regular expression is not raw
            warnings.simplefilter("ignore", category)
        for name, attributes in stand_ins.items():
            module = types.ModuleType(name)
            vars(module).update(attributes)
            patch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("g2p_en.g2p", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.G2p()


@pytest.fixture(scope="module")
def english(package):
    """The words of Python's own language reference, and the homographs that the package lists."""
    prose = set(re.findall(r"(?<![\w.])[a-z]{2,}(?![\w(=])", " ".join(topics.values()).lower()))
    return sorted(prose | set(package.homograph2features))


def test_alphabets_are_the_package_s(g2p, package):
    assert package.graphemes == g2p.GRAPHEMES
    assert package.phonemes == g2p.PHONEMES


def test_the_words_are_spelled_as_the_package_spells_them(speller, package, english):
    """All in one packed batch; the package takes them one by one."""
    assert len(english) >= 1000
    spelled = speller(english)
    assert len(spelled) == len(english)
    wrong = {
        word: (ours, theirs)
        for word, ours in zip(english, spelled, strict=True)
        if ours != (theirs := package.predict(word))
    }
    assert not wrong


def test_unusual_strings_are_spelled_as_the_package_spells_them(speller, package):
    """Nothing, letters outside a to z, nonsense, words of 60 letters."""
    rng = np.random.default_rng(4)
    alphabet = list("abcdefghijklmnopqrstuvwxyz'é-")
    words = ["".join(rng.choice(alphabet, length)) for length in range(60)]
    assert speller(words) == [package.predict(word) for word in words]


def test_the_example_runs_from_the_command_line(run_example, package, weights):
    lines = run_example("g2p", "--model", weights, "Recurrent", "networks")
    assert lines == [
        f"{word}\t{' '.join(package.predict(word))}" for word in ("recurrent", "networks")
    ]
