"""torch.onnx.export's files of recurrent networks, run and compared with torch.

Which exporter writes what is in OUTCOMES; every cell of it is observed here, and
docs/guides/exporting.md shows it as its table.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.peers import peer

torch = peer("torch")
peer("onnxscript")  # torch's dynamo exporter needs it

import vledge  # noqa: E402
from tests.graph.torch_export import (  # noqa: E402
    EXPORT_BATCH,
    EXPORT_LENGTH,
    Network,
    Spec,
    export,
    export_in_a_fresh_process,
    inputs,
)

ANY = "any batch, any length"
ANY_PADDED = "any batch, any lengths; the output stays as long as the input"
FROZEN = "any batch, only the length it was exported with"
RESHAPED = "any batch, only the length it was exported with, but the file does not say so"
INVALID = "writes a file that is not valid ONNX"
REFUSES = "refuses"

# what is exported → (dynamo=False, dynamo=True)
OUTCOMES = {
    "LSTM, GRU, `batch_first=True`": (ANY, ANY),
    "LSTM, GRU, `batch_first=False`": (ANY, RESHAPED),
    "LSTM, GRU, when the process's last export had the same cell": (ANY, FROZEN),
    "RNN, tanh or relu": (ANY, FROZEN),
    "LSTM, GRU, RNN on packed sequences inside the model": (ANY_PADDED, REFUSES),
    "LSTM with `proj_size`": (REFUSES, INVALID),
}
BATCH_FIRST, TIME_FIRST, REPEATED, RNN, PACKED, PROJECTED = OUTCOMES
SCRIPT, DYNAMO = 0, 1

# [batch, length], the export's own size first; the last has as many steps in all as the export
SIZES = [(EXPORT_BATCH, EXPORT_LENGTH), (5, EXPORT_LENGTH), (1, EXPORT_LENGTH)]
OTHER_LENGTHS = [(3, 4), (2, 33), (1, 1), (1, EXPORT_BATCH * EXPORT_LENGTH)]


def run_both(session, spec: Spec, batch: int, length: int):
    """Our outputs and torch's."""
    named = inputs(spec, batch, length)
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in Network(spec)(*named.values())]
    wanted = {info.name for info in session.get_inputs()}
    assert wanted == named.keys()
    return session.run(None, {name: tensor.numpy() for name, tensor in named.items()}), expected


def assert_match(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def observed(path: Path, spec: Spec) -> str:
    """Load and run an exported file, compare with torch, and say which outcome this is."""
    session = vledge.InferenceSession(str(path))
    assert {outcome(session, spec, *size) for size in SIZES} <= {ANY, ANY_PADDED}
    outcomes = {outcome(session, spec, *size) for size in OTHER_LENGTHS}
    if ANY_PADDED in outcomes:
        outcomes.discard(ANY)  # some batch's longest sequence is as long as the input
    if RESHAPED in outcomes:
        outcomes.discard(FROZEN)  # most lengths do not fit the shape that is baked in
    assert len(outcomes) == 1, outcomes
    return outcomes.pop()


def outcome(session, spec: Spec, batch: int, length: int) -> str:
    """What one run says about the file; outputs that differ from torch's fail here."""
    axis = 1 if spec.batch_first else 0
    declared = session.get_inputs()[0].shape[axis]
    try:
        actual, expected = run_both(session, spec, batch, length)
    except ValueError:
        return FROZEN if declared == EXPORT_LENGTH else RESHAPED
    if actual[0].shape == expected[0].shape:
        assert_match(actual, expected)
        return ANY
    if spec.call in ("sorted", "unsorted"):
        padding = np.moveaxis(actual[0], axis, 0)[expected[0].shape[axis] :]
        assert actual[0].shape[axis] == length
        assert not padding.any()
        actual[0] = np.moveaxis(np.moveaxis(actual[0], axis, 0)[: -len(padding)], 0, axis)
        assert_match(actual, expected)
        return ANY_PADDED
    return RESHAPED  # as many elements, another shape


@pytest.mark.parametrize("call", ["plain", "states", "sorted", "unsorted"])
@pytest.mark.parametrize(
    ("layers", "bidirectional", "batch_first"),
    [(1, False, True), (1, True, False), (2, False, False), (3, True, True)],
)
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", "RNN_RELU"])
def test_torchscript_exporter(cell, layers, bidirectional, batch_first, call, tmp_path):
    spec = Spec(cell, layers, bidirectional, batch_first, call)
    export(spec, tmp_path / "network.onnx", dynamo=False)
    if call in ("sorted", "unsorted"):
        row = PACKED
    elif cell in ("LSTM", "GRU"):
        row = BATCH_FIRST if batch_first else TIME_FIRST
    else:
        row = RNN
    assert observed(tmp_path / "network.onnx", spec) == OUTCOMES[row][SCRIPT]


def test_torchscript_exporter_s_second_export_is_like_its_first(tmp_path):
    spec = Spec("LSTM")
    for name in ("first.onnx", "second.onnx"):
        export(spec, tmp_path / name, dynamo=False)
    assert observed(tmp_path / "second.onnx", spec) == OUTCOMES[REPEATED][SCRIPT]


def test_torchscript_exporter_refuses_projections(tmp_path):
    assert OUTCOMES[PROJECTED][SCRIPT] == REFUSES
    with pytest.raises(torch.onnx.errors.SymbolicValueError, match="LSTMs with projections"):
        export(Spec("LSTM", proj_size=3), tmp_path / "network.onnx", dynamo=False)


# what one process exports, in this order, and the row of OUTCOMES that each is a case of
DYNAMO_PROCESSES = {
    "batch_first": [
        (Spec("LSTM", 2, True), BATCH_FIRST),
        (Spec("LSTM"), REPEATED),
        (Spec("GRU", 2, True), BATCH_FIRST),
        (Spec("GRU"), REPEATED),
        (Spec("RNN", 2, True), RNN),
        (Spec("RNN_RELU"), RNN),
    ],
    "time_first": [
        (Spec("LSTM", 1, False, False), TIME_FIRST),
        (Spec("GRU", 1, True, False), TIME_FIRST),
    ],
    "states": [
        (Spec("LSTM", 2, True, True, "states"), BATCH_FIRST),
        (Spec("GRU", 1, False, True, "states"), BATCH_FIRST),
    ],
}


@pytest.mark.parametrize("process", DYNAMO_PROCESSES)
def test_dynamo_exporter(process, tmp_path):
    specs, rows = zip(*DYNAMO_PROCESSES[process], strict=True)
    paths = export_in_a_fresh_process(tmp_path, *specs)
    for path, spec, row in zip(paths, specs, rows, strict=True):
        assert observed(path, spec) == OUTCOMES[row][DYNAMO], spec


@pytest.mark.parametrize("call", ["sorted", "unsorted"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_dynamo_exporter_refuses_packed_sequences(cell, call, tmp_path):
    """It traces batch_sizes[0], the number of sequences, as a tensor, where a size is wanted."""
    assert OUTCOMES[PACKED][DYNAMO] == REFUSES
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match="FakeTensor"):
        export(Spec(cell, call=call), tmp_path / "network.onnx", dynamo=True)


@pytest.mark.parametrize("layers", [1, 2])
def test_dynamo_exporter_writes_broken_files_of_projections(layers, tmp_path):
    """Its LSTM node has no room for the projection: shapes clash, at load or in the first run."""
    assert OUTCOMES[PROJECTED][DYNAMO] == INVALID
    spec = Spec("LSTM", layers, proj_size=3)
    export(spec, tmp_path / "network.onnx", dynamo=True)
    with pytest.raises(ValueError, match=r"\((LSTM|Concat)\)"):
        run_both(vledge.InferenceSession(str(tmp_path / "network.onnx")), spec, 2, 7)


def test_the_documented_table_is_this_one():
    document = (Path(__file__).parents[2] / "docs" / "guides" / "exporting.md").read_text()
    rows = [f"| {row} | {script} | {dynamo} |" for row, (script, dynamo) in OUTCOMES.items()]
    assert "\n".join(rows) in document


# ---- scripted modules, whose lists become sequences


class ScriptedCell(torch.nn.Module):
    """A loop over time with an LSTMCell, as people write it."""

    def __init__(self):
        super().__init__()
        self.cell = torch.nn.LSTMCell(3, 4)

    def forward(self, x):
        h = torch.zeros(x.shape[1], 4)
        c = torch.zeros(x.shape[1], 4)
        steps: list[torch.Tensor] = []
        for t in range(x.shape[0]):
            h, c = self.cell(x[t], (h, c))
            steps.append(h)
        return torch.stack(steps), h


class ScriptedChunks(torch.nn.Module):
    """``chunk`` and ``split`` on an axis of any size."""

    def forward(self, x):
        parts: list[torch.Tensor] = []
        for part in x.chunk(2, 1):
            parts.append(part * 2)
        return torch.cat(parts, 0), x.split(2, 1)[0]


class ScriptedUnbind(torch.nn.Module):
    """Steps of time as a list of them; the axis along which they lie is gone."""

    def forward(self, x):
        h = torch.zeros_like(x[0])
        steps: list[torch.Tensor] = []
        for step in x.unbind(0):
            h = h * 0.5 + step
            steps.append(h)
        columns: list[torch.Tensor] = []
        for column in x.unbind(-1):
            columns.append(column * 2)
        return torch.stack(steps, 1), torch.stack(columns)


class ScriptedList(torch.nn.Module):
    """What else people do to lists."""

    def forward(self, x):
        rows: list[torch.Tensor] = []
        for t in range(x.shape[0]):
            rows.insert(0, x[t] * float(t))
        rows[0] = rows[0] + 1
        last = rows.pop()
        return torch.stack(rows) + len(rows), last


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (ScriptedCell, [(5, 2, 3), (1, 2, 3), (9, 4, 3)]),
        (ScriptedChunks, [(2, 6), (2, 8), (1, 4)]),
        (ScriptedUnbind, [(4, 2), (1, 1), (7, 5)]),
        (ScriptedList, [(4, 2), (2, 2), (7, 5)]),
    ],
)
def test_a_scripted_module_s_lists(module, sizes, tmp_path):
    torch.manual_seed(0)
    scripted = torch.jit.script(module().eval())
    torch.onnx.export(
        scripted, (torch.randn(sizes[0]),), tmp_path / "model.onnx", dynamo=False,
        input_names=["x"], dynamic_axes={"x": {0: "first", 1: "second"}}, opset_version=17,
    )  # fmt: skip
    session = vledge.InferenceSession(tmp_path / "model.onnx")
    for size in sizes:
        x = torch.randn(size)
        wanted = scripted(x)
        for ours, theirs in zip(session.run(None, {"x": x.numpy()}), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6)
