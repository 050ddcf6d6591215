"""What a prompt shows of everything that a user holds: at most six lines, no pages of numbers."""

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import frames, loaded
from vledge import nn
from vledge.errors import with_article
from vledge.formats import read_checkpoint
from vledge.planning.defaults import DEFAULT
from vledge.shipped import japanese_vowels
from vledge.shown import MOST_LINES, listed, shortened
from vledge.validation import Case, Reference
from vledge.validation.diagnosis.findings import Diagnosis, Finding
from vledge.validation.reference.compare import compare, tolerance_of
from vledge.validation.running.paths import Path
from vledge.validation.validate import Report, Run

FOLDER = japanese_vowels.folder()


class Big(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Linear(3, 4), nn.Tanh()) for _ in range(9)])


def packed():
    return vledge.pack_sequence([frames((n, 12)) for n in range(60, 2, -1)])


def reference():
    value = frames((40, 3, 9))
    cases = [Case({"x": value}, {"y": value + n}, {"y": value.astype(float)}) for n in range(9)]
    return Reference(cases, {"torch": "2.13"}, layers=[f"layer {n}" for n in range(40)])


def report(fails=False):
    names = [f"value {n}" for n in range(30)]
    right = {name: np.zeros((4, 1, 2), np.float32) for name in names}
    made = Reference([Case({}, right)], {})
    wrong = np.float32(fails)
    found = [compare(made, n, [right[n] + wrong], tolerance_of(made, n)) for n in names]
    runs = [Run(Path("batch", "avx2", 1, "tile"), 0.01, found) for _ in range(24)]
    told = Diagnosis("looks like <gates>", [Finding("a", "LSTM", "y", 1.0)] * 9) if fails else None
    return Report("m.onnx", "r", {"torch": "2"}, {}, 1, [4], [], runs, diagnosis=told)


def session():
    return vledge.InferenceSession(FOLDER / "model.onnx")


def profile():
    lengths = np.array([5, 3])
    return session().profile({"x": frames((2, 5, 12)), "lengths": lengths}, runs=2)


def quantized():
    layer = loaded(nn.GRU(30, 40, 9))
    return vledge.quantization.report(layer, vledge.quantize(layer))


def bound():
    binding = session().io_binding()
    binding.bind_cpu_input("x", frames((2, 5, 12)))
    binding.bind_output("logits")
    return binding


def scorer():
    pytest.importorskip("pyarrow")
    from vledge.integrations.arrow import Scorer

    return Scorer(FOLDER / "model.onnx", {"x": "frames"})


THINGS = {
    "weights": lambda: vledge.load_weights(FOLDER / "model.pt"),
    "checkpoint": lambda: read_checkpoint(FOLDER / "model.pt"),
    "state_dict": lambda: loaded(nn.LSTM(3, 4, 3)).state_dict(),
    "layer": lambda: loaded(nn.LSTM(3, 4, 2, bidirectional=True)),
    "module": Big,
    "packed": packed,
    "stream": lambda: loaded(nn.LSTM(3, 4, 2)).stream(2),
    "stream with lookahead": lambda: loaded(nn.GRU(3, 4, bidirectional=True)).stream(lookahead=3),
    "module's stream": lambda: nn.Sequential(loaded(nn.RNN(3, 4))).stream(),
    "stream's state": lambda: loaded(nn.LSTM(3, 400)).stream(9).state,
    "plan": lambda: vledge.plan(range(1, 200), nn.LSTM(3, 4)),
    "costs": lambda: DEFAULT,
    "report": report,
    "report of a failure": lambda: report(True),
    "run": lambda: report(True).runs[0],
    "diagnosis": lambda: report(True).diagnosis,
    "reference": reference,
    "case": lambda: reference().cases[0],
    "small weights": lambda: vledge.quantize(vledge.load_weights(FOLDER / "model.pt")),
    "small layer": lambda: vledge.quantize(loaded(nn.GRU(3, 4, 2))),
    "what quantizing did": quantized,
    "array of onnxruntime's": lambda: vledge.OrtValue.ortvalue_from_numpy(frames((400, 3))),
    "options of a run": vledge.RunOptions,
    "limits": vledge.Limits,
}
OF_ONNX = {
    "session": session,
    "profile": profile,
    "metadata": lambda: session().get_modelmeta(),
    "memory": lambda: session().memory(),
    "input": lambda: session().get_inputs()[0],
    "binding": lambda: session().io_binding(),
    "full binding": bound,
    "scorer": scorer,
    "options": vledge.SessionOptions,
}


@pytest.mark.parametrize("name", [*THINGS, *OF_ONNX])
def test_at_most_six_lines(name):
    if name in OF_ONNX:
        pytest.importorskip("onnx")
    shown = repr({**THINGS, **OF_ONNX}[name]())
    assert len(shown.split("\n")) <= MOST_LINES
    assert max(map(len, shown.split("\n"))) <= 250
    assert "array(" not in shown
    assert " object at 0x" not in shown


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("weights", ["'rnn.weight_ih_l0': float32 [144, 12]", "10 tensors"]),
        ("stream", ["batch 2", "x float32 [2, 3]", "h [2, 2, 4]", "c [2, 2, 4]"]),
        ("plan", ["199 sequences", "then ", "left out"]),
        ("report", ["Report: passed", "none of 24 ways", "and 26 more"]),
        ("report of a failure", ["Report: failed", "24 of 24 ways", "looks like <gates>"]),
        ("module", ["Big(", "lines more, by print()"]),
        ("packed", ["58 sequences, longest 60"]),
        ("reference", ["9 cases by torch 2.13"]),
        ("small weights", ["'rnn.weight_ih_l0': int8 [144, 12]", "bias_ih_l0': float32 [144]"]),
        ("small layer", ["GRU(3, 4, num_layers=2, ", " bytes as int8)"]),
        ("what quantizing did", ["18 of 36 arrays are small", "most rounded: weight_"]),
        ("array of onnxruntime's", ["tensor(float) [400, 3]"]),
    ],
)
def test_what_matters_is_told(name, told):
    shown = repr(THINGS[name]())
    for text in told:
        assert text in shown


def test_a_session_says_what_goes_in_and_out():
    pytest.importorskip("onnx")
    shown = repr(session())
    for text in ("model.onnx", "x float [B, T, 12], lengths int64 [B]", "-> logits float [B, 9]"):
        assert text in shown


def test_print_shows_a_whole_module():
    assert str(Big()).count("Linear(") == 9
    assert repr(nn.Linear(3, 4)) == str(nn.Linear(3, 4))


def test_weights_are_a_dict():
    weights = vledge.load_weights(FOLDER / "model.pt")
    assert isinstance(weights, dict)
    assert {**weights}.keys() == weights.keys()


def test_options_show_what_was_set():
    options = vledge.SessionOptions()
    assert repr(options) == "SessionOptions()"
    options.intra_op_num_threads = 2
    options.add_session_config_entry("a", "b")
    assert repr(options) == "SessionOptions(intra_op_num_threads=2, 'a': 'b')"


@pytest.mark.parametrize("name", ["plan", "report", "report of a failure", "what quantizing did"])
def test_notebooks_get_a_table(name):
    page = THINGS[name]()._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 1
    assert "<gates>" not in page
    assert page.count("<tr>") >= 4


def test_a_profile_in_a_notebook():
    pytest.importorskip("onnx")
    page = profile()._repr_html_()
    assert "<td>rnn</td>" in page


def test_texts_are_cut_where_they_are_long():
    assert shortened("a\nb") == "a\nb"
    assert shortened("\n".join("abcdefgh")) == "a\nb\nc\nd\n  … 3 lines more, by print()\nh"
    assert listed("abcdef", 2) == "a, b, and 4 more"


def test_articles_are_those_that_one_says():
    an = ["LSTM", "RNN", "RNNCell", "LSTMCell", "IndRNN", "Embedding"]
    assert [with_article(kind) for kind in an] == [f"an {kind}" for kind in an]
    others = ["GRU", "GRUCell", "Linear", "Bidirectional", "RecurrentStack"]
    assert [with_article(kind) for kind in others] == [f"a {kind}" for kind in others]
