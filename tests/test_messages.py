"""Every message of `tests.messages` is raised, and says what was found and what to write."""

import re
import shutil

import numpy as np
import pytest

import vledge
from tests.messages import FEED, MESSAGES, ONNX, lstm, session, weights
from vledge import nn


@pytest.mark.parametrize("mistake", MESSAGES)
def test_the_message_says_what_was_found_and_what_to_write(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = MESSAGES[mistake]
    with pytest.raises(Exception) as told:
        call()
    assert message in str(told.value)
    assert not str(told.value).startswith(('"', "'"))  # as a bare KeyError shows it
    assert list(tmp_path.iterdir()) == []


def test_a_missing_weight_is_a_key_error_and_one_of_ours():
    with pytest.raises(KeyError):
        nn.GRU.from_weights(weights())
    with pytest.raises(vledge.VledgeError):
        nn.GRU.from_weights(weights())
    assert issubclass(vledge.MissingWeightError, KeyError)


def test_onnxruntimes_ways_to_ask(tmp_path):
    """No names or None are all outputs; options and bindings are taken."""
    made = session()
    expected = made.run(None, FEED)
    for names, more in (
        ([], {}),
        (["logits"], {}),
        (None, {"run_options": None}),
        ((), {"run_options": vledge.RunOptions()}),
    ):
        np.testing.assert_array_equal(made.run(names, FEED, **more)[0], expected[0])
    shutil.copy(ONNX, tmp_path / "model.onnx")
    options = {"providers": ["CPUExecutionProvider"], "provider_options": [{}]}
    again = vledge.InferenceSession(
        str(tmp_path / "model.onnx"), vledge.SessionOptions(), **options
    )
    binding = again.io_binding()
    for name, array in FEED.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("logits")
    again.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], expected[0])


# It says where, of an error or a problem that says what.
HANDS_ON = re.compile(r"\{[^}]*\b(error|problems?|why)\b[^}]*\}")


def test_no_message_is_a_bare_value():
    """Each has words of its own, or is made by a function that has them."""
    from tools.messages import messages

    every = list(messages())
    assert len(every) > 900
    bare = [
        f"{message.where}: {message.template}"
        for message in every
        if message.template is not None
        and message.error.endswith("Error")  # not a function that adds to what it is given
        and len(message.words) < 2
        and "expected" not in message.words
        and not HANDS_ON.search(message.template)
    ]
    assert bare == []


def test_a_template_keeps_the_words_that_every_message_has(tmp_path):
    from tools.messages import messages

    (tmp_path / "m.py").write_text(
        "raise KeyError(name)\n"
        "raise ValueError(f'{name} is {len({1: 2})}, ' + 'expected two')\n"
        "raise ValueError('file', f'{name}')\n"
    )
    found = list(messages(tmp_path))
    assert [message.template for message in found] == [
        None,
        "{name} is {len((1: 2))}, expected two",
        "{name}",
    ]
    assert found[1].words == ["is", "expected", "two"]


def test_a_plan_names_the_strategies_that_it_has():
    plan = vledge.plan([3, 1], lstm())
    with pytest.raises(KeyError, match=r"no strategy 'quick' in this plan: there are \['"):
        plan["quick"]
