"""What type checkers and editors see of the package: a user's script, and completions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vledge
from tests.peers import peer

ROOT = Path(__file__).parent.parent

SCRIPT = '''\
"""What a user's program does, and the types that it relies on."""

import numpy as np
from typing_extensions import assert_type

import vledge
from vledge import nn
from vledge.graph.session import InferenceSession
from vledge.packing import PackedSequence
from vledge.planning.ranking import Plan
from vledge.streaming import Stream

x = np.zeros((5, 1, 3), np.float32)
session = vledge.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
assert_type(session, InferenceSession)
assert_type(session.stream(hop=512, context=64), Stream)
names: list[str] = [info.name for info in session.get_inputs()]
results = session.run(None, {names[0]: x}, run_options=None)
weights: dict[str, np.ndarray] = vledge.load_weights("model.pt")
lstm = nn.LSTM.from_weights(weights, prefix="lstm.")
assert_type(lstm, nn.LSTM)
assert_type(nn.GRU.from_onnx("model.onnx"), nn.GRU)
assert_type(lstm.stream(batch=1), Stream)
assert_type(vledge.plan([3, 4, 5], lstm), Plan)
assert_type(vledge.pack_sequence([x[:, 0]]), PackedSequence)
padded, lengths = vledge.pad_packed_sequence(vledge.pack_sequence([x[:, 0]]))
rows: np.ndarray = vledge.last_output([x[:, 0]])
vledge.save_weights("w.safetensors", weights)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(64, 128, batch_first=True)
        self.out = nn.Linear(128, 12)

    def forward(self, frames: np.ndarray) -> np.ndarray:
        output, _ = self.rnn(frames)
        result: np.ndarray = self.out(output)
        return result


Tagger().load_state_dict(weights)
'''

MISTAKES = """\
import vledge

vledge.InferenceSession("model.onnx").runn(None, {})
vledge.load_weights(3)
vledge.nothing_of_this_name()
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "user.py").write_text(SCRIPT)
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    return tmp_path


def run(*command, folder):
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_mypy(script):
    peer("mypy")
    options = ["mypy", "--strict", "--cache-dir", str(script / "cache")]
    done = run(*options, "user.py", folder=script)
    assert done.returncode == 0, done.stdout
    done = run(*options, "mistakes.py", folder=script)
    assert done.stdout.count(": error:") == 3, done.stdout


def test_pyright(script):
    """basedpyright is pyright, in a package that brings its own node."""
    peer("basedpyright")
    project = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (script / "pyrightconfig.json").write_text(json.dumps(project))
    options = ["basedpyright", "--outputjson", "--pythonpath", sys.executable]
    report = json.loads(run(*options, folder=script).stdout)
    errors = [
        (Path(each["file"]).name, each["message"])
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    ]
    assert [name for name, _ in errors] == ["mistakes.py"] * 3, errors


@pytest.fixture(scope="module")
def jedis_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("jedi"))


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("vledge.Inf", "InferenceSession"),
        ("vledge.load_w", "load_weights"),
        ("vledge.exp", "export"),
        ("vledge.nn.LS", "LSTM"),
        ("vledge.nn.MaxP", "MaxPool1d"),
        ("vledge.InferenceSession('m').get_inp", "get_inputs"),
        ("vledge.InferenceSession('m').stream().st", "step"),
        ("vledge.load_weights('m').ite", "items"),
        ("vledge.nn.LSTM.from_weights({}).hidden_s", "hidden_size"),
        ("vledge.nn.LSTM(3, 4).stream().joi", "join"),
        ("vledge.plan([1], None).rank", "ranking"),
        ("vledge.nn.utils.rnn.pack_p", "pack_padded_sequence"),
        ("vledge.nn.functional.soft", "softmax"),
    ],
)
def test_an_editor_completes(code, wanted, jedis_cache, monkeypatch):
    jedi = peer("jedi")
    # the user's own may be of a run that was killed, and jedi does not read past that
    monkeypatch.setattr(jedi.settings, "cache_directory", jedis_cache)
    project = jedi.Project(ROOT, added_sys_path=[str(ROOT)])
    found = jedi.Script(f"import vledge\n{code}", project=project).complete()
    assert wanted in [completion.name for completion in found]


def test_every_public_name_is_seen_and_there():
    """What TYPE_CHECKING imports, `__all__` lists and `__getattr__` finds are the same names."""
    peer("torch")  # which vledge.export imports
    for name in (*vledge._LAZY, *vledge.__all__):
        assert name in vledge.__all__
        assert getattr(vledge, name) is not None
    source = Path(vledge.__file__).read_text(encoding="utf-8")
    seen = source[source.index("if TYPE_CHECKING") : source.index("__all__")]
    assert all(name in seen for name in vledge._LAZY)
