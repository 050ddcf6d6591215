"""vledge.export: torch modules of many kinds, checked on sizes that the example did not have."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge.errors import UnsupportedError, VledgeError
from vledge.formats.safetensors_file import read_all, write
from vledge.formats.source import open_source
from vledge.validation import read, reference_path, validate

torch = peer("torch")
peer("onnx")

from torch.nn.utils import rnn as packing  # noqa: E402

from vledge.integrations import torch as integration  # noqa: E402


class Tagger(torch.nn.Module):
    """Packs inside; whole numbers in, an output for each step."""

    def __init__(self, enforce_sorted=False):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 6)
        self.rnn = torch.nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(16, 3)
        self.enforce_sorted = enforce_sorted

    def forward(self, ids, lengths):
        packed = packing.pack_padded_sequence(
            self.embed(ids), lengths, True, enforce_sorted=self.enforce_sorted
        )
        output, _ = self.rnn(packed)
        return self.out(packing.pad_packed_sequence(output, True)[0])


class Stateful(torch.nn.Module):
    """A stream: states in and out, in a dict."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(4, 5)
        self.out = torch.nn.Linear(5, 2)

    def forward(self, frames, state):
        output, state = self.rnn(frames, state)
        return {"logits": self.out(output), "next": state}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def axes_of(path):
    session = vledge.InferenceSession(path)
    return {info.name: info.shape for info in (*session.get_inputs(), *session.get_outputs())}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_bare_layers(path, kind, batch_first):
    module = getattr(torch.nn, kind)(3, 7, 2, batch_first=batch_first, bidirectional=True)
    state = torch.randn(4, 2, 7)
    state = (state, state + 1) if kind == "LSTM" else state
    report = vledge.export(module, (torch.randn(2, 2, 3), state), path, layers=True)
    assert report.passed
    names = ["x", "h_0", "c_0", "output", "h_n", "c_n"]
    if kind != "LSTM":
        names = [name for name in names if name[0] != "c"]
    assert list(axes_of(path)) == names
    x = ["batch", "time", 3] if batch_first else ["time", "batch", 3]
    assert axes_of(path)["x"] == x
    assert axes_of(path)["h_0"][1] == "batch"
    reference = read(reference_path(path))
    assert len(reference.layers) == (6 if kind == "LSTM" else 4)
    sizes = {case.inputs["x"].shape for case in reference.cases}
    assert len(sizes) == 5  # four that the example did not have
    assert reference.exact_by.startswith("torch")


def test_a_module_that_packs(path):
    ids, lengths = torch.randint(20, (3, 9)), torch.tensor([4, 9, 1])
    report = vledge.export(Tagger(), (ids, lengths), path)
    assert report.passed
    assert report.layers == []
    assert axes_of(path)["ids"] == ["batch", "time"]


@pytest.mark.parametrize("lengths", [[4, 9, 1], [4, 4, 9]])
def test_layers_of_a_module_that_sorts_its_sequences(path, lengths):
    """The graph's layers have them longest first, of equals the first first, as ONNX's TopK."""
    ids = torch.randint(20, (3, max(lengths)))
    report = vledge.export(Tagger(), (ids, torch.tensor(lengths)), path, layers=True)
    assert report.passed
    reference = read(reference_path(path))
    assert len(report.layers) == len(reference.layers) > 0
    y = next(name for name in report.layers if reference.cases[0].outputs[name].ndim == 4)
    assert reference.axes[y] == {"time": 0}
    assert not {"alone", "reordered"} & report.left_out.keys()
    # what is recorded is what the graph computes: a fault in the layer shows
    broken = path.with_name("broken.safetensors")
    weights, _, metadata = read_all(open_source(path))
    name = next(n for n, a in weights.items() if a.ndim == 3)
    write(broken, {**weights, name: weights[name] * 1.01}, metadata)
    spoiled = validate(broken, reference_path(path))
    assert not spoiled.passed
    assert any(c.name == y and not c.passed for one in spoiled.runs for c in one.comparisons)


class Mean(torch.nn.Module):
    """Of all outputs of an LSTM, one number, with the outputs or alone."""

    def __init__(self, alone):
        super().__init__()
        self.lstm, self.alone = torch.nn.LSTM(3, 4, batch_first=True), alone

    def forward(self, x):
        y = self.lstm(x)[0]
        return y.mean() if self.alone else (y, y.mean())


@pytest.mark.parametrize(("alone", "layers"), [(False, True), (True, False)])
def test_an_output_of_one_number(path, alone, layers):
    module, x = Mean(alone), torch.randn(2, 5, 3)
    assert vledge.export(module, x, path, layers=layers).passed
    got = vledge.InferenceSession(path).run(None, {"x": x.numpy()})[-1]
    assert got.shape == ()
    np.testing.assert_allclose(got, x_of(module, x), atol=1e-6)


def x_of(module, x):
    with torch.no_grad():
        result = module(x)
    return (result if module.alone else result[1]).numpy()


@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.h5", "M.NPZ"])
def test_a_name_of_another_format_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(ValueError, match=r"is written is safetensors: name it [mM]\.safe"):
        vledge.export(None, None, tmp_path / name)
    with pytest.raises(ValueError, match="what is written is safetensors"):
        vledge.save_weights(tmp_path / name, {"w": np.zeros(3, "f4")})
    assert list(tmp_path.iterdir()) == []


def test_what_is_being_done_is_shown(path, capfd):
    vledge.export(torch.nn.GRU(3, 4), torch.randn(5, 2, 3), path, progress=True)
    err = capfd.readouterr().err
    for stage in ("running the module", "writing the graph", "alone, "):
        assert stage in err
    assert err.endswith("\r\x1b[K")
    vledge.export(torch.nn.GRU(3, 4), torch.randn(5, 2, 3), path)
    assert "writing" not in capfd.readouterr().err


def test_a_packed_sequence_is_an_input(path):
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    packed = packing.pack_sequence([torch.randn(n, 3) for n in (2, 7, 4)], enforce_sorted=False)
    report = vledge.export(module, packed, path, layers=True)
    assert report.passed
    session = vledge.InferenceSession(path)
    assert [info.name for info in session.get_inputs()] == ["x", "lengths"]
    x = np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32)
    lengths = np.array([1, 6, 3, 6, 2])
    output, h_n, _ = session.run(None, {"x": x, "lengths": lengths})
    with torch.no_grad():
        theirs, (h, _) = module(
            packing.pack_padded_sequence(torch.from_numpy(x), lengths, enforce_sorted=False)
        )
    np.testing.assert_allclose(output, packing.pad_packed_sequence(theirs)[0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(h_n, h, atol=1e-6, rtol=0)


def test_half_precision_has_its_own_yardstick(path):
    torch.manual_seed(0)
    module = torch.nn.GRU(4, 6, bidirectional=True).half()
    report = vledge.export(module, torch.randn(6, 2, 4).half(), path, layers=True)
    assert report.passed
    reference = read(reference_path(path))
    assert reference.cases[0].outputs["output"].dtype == np.float16
    for found, _ in report.worst():
        assert "the reference's own float16 error" in found.tolerance.why
        assert 1e-5 < found.absolute < 1e-3
        assert found.ulp < 2  # of float16
    wrong = torch.nn.GRU(4, 6, bidirectional=True).half()
    vledge.export(wrong, torch.randn(6, 2, 4).half(), path, layers=True)
    assert not validate(path, reference).passed


def test_bfloat16_is_refused(path):
    module = torch.nn.GRU(4, 6).bfloat16()
    with pytest.raises(UnsupportedError, match=r"module.float\(\)"):
        vledge.export(module, torch.randn(6, 2, 4).bfloat16(), path)
    assert not path.exists()


def test_names_and_states(path):
    report = vledge.export(
        Stateful(),
        (torch.randn(6, 2, 4), torch.zeros(1, 2, 5)),
        path,
        output_names=["logits", "state_n"],
    )
    assert report.passed
    assert axes_of(path) == {
        "frames": ["time", "batch", 4],
        "state": [1, "batch", 5],
        "logits": ["time", "batch", 2],
        "state_n": [1, "batch", 5],
    }


def test_fixed_lengths(path):
    module = torch.nn.GRU(3, 4, batch_first=True)
    vledge.export(module, torch.randn(2, 6, 3), path, dynamic_lengths=False)
    assert axes_of(path)["x"] == ["batch", 6, 3]
    sizes = [case.inputs["x"].shape for case in read(reference_path(path)).cases]
    assert {size[1] for size in sizes} == {6}
    assert len({size[0] for size in sizes}) > 1


def test_axes_can_be_given(path):
    class Swapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.GRU(3, 4)

        def forward(self, x):
            return self.rnn(x.permute(2, 0, 1))[0]

    given = {"x": {0: "batch", 2: "time"}}
    assert vledge.export(Swapped(), torch.randn(2, 3, 6), path, dynamic_axes=given).passed
    assert axes_of(path)["x"] == ["batch", 3, "time"]
    with pytest.raises(ValueError, match="dynamic_axes names 'y'"):
        vledge.export(Swapped(), torch.randn(2, 3, 6), path, dynamic_axes={"y": {0: "batch"}})


def test_a_length_that_the_module_has_baked_in_is_found(path):
    """Reading a size as a number makes a graph for that length; nothing may be written."""

    class Frozen(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.GRU(3, 4, batch_first=True)

        def forward(self, x):
            output, _ = self.rnn(x)
            return output / float(int(x.shape[1]))

    with pytest.raises(VledgeError, match="does not compute what the module does"):
        vledge.export(Frozen(), torch.randn(2, 6, 3), path)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_what_the_exporter_refuses(path):
    with pytest.raises(UnsupportedError, match="torch's exporter cannot write this module"):
        vledge.export(torch.nn.LSTM(3, 8, proj_size=4), torch.randn(5, 2, 3), path)
    assert not path.exists()


def test_what_is_no_example(path):
    module = torch.nn.GRU(3, 4)
    with pytest.raises(TypeError, match=r"example_inputs\[0\] is ndarray"):
        vledge.export(module, (np.zeros((5, 2, 3), np.float32),), path)
    with pytest.raises(ValueError, match="input_names has 2 names, the module takes 1"):
        vledge.export(module, torch.randn(5, 2, 3), path, input_names=["a", "b"])
    with pytest.raises(ValueError, match="output_names has 1 names, the module has 2"):
        vledge.export(module, torch.randn(5, 2, 3), path, output_names=["y"])


def test_an_exporter_that_is_wrong_is_caught(path, monkeypatch):
    """onnxscript 0.5.7 to 0.7.0 wrote GRUs with linear_before_reset=0: the diagnosis names it."""
    right = integration._converted

    def wrong(*arguments):
        model = right(*arguments)
        for node in model.graph.nodes:
            node.attributes.pop("linear_before_reset", None)
        return model

    monkeypatch.setattr(integration, "_converted", wrong)
    with (
        pytest.raises(VledgeError, match="looks like linear_before_reset is 0"),
        pytest.warns(vledge.errors.ModelWarning),
    ):
        vledge.export(torch.nn.GRU(3, 4), torch.randn(5, 2, 3), path, layers=True)
    assert not path.exists()


def test_every_mode_is_put_back(path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Dropout())
    module.train()
    module[2].eval()
    vledge.export(module, torch.randn(4, 3), path, dynamic_axes={"input": {0: "batch"}})
    assert [part.training for part in module.modules()] == [True, True, True, False]
    assert validate(path).passed


def test_dropout_is_off_in_all_that_is_recorded(path):
    """The exporter puts modes as it found them: the yardstick was once taken with dropout on."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)).train()
    report = vledge.export(module, torch.randn(4, 3), path, dynamic_axes={"input": {0: "batch"}})
    assert read(reference_path(path)).spread["output"] < 1e-6
    assert not report.notes


def test_noise_that_cannot_be_switched_off_proves_nothing(path):
    class Noisy(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.dropout(x, 0.5, training=True)

    example = torch.randn(4, 3)
    reference = integration.recorded(Noisy(), example, dynamic_axes={"x": {0: "batch"}})
    vledge.export(
        torch.nn.Identity(), example, path, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
    )
    (why,) = validate(path, reference).unproven
    assert "output: the reference's own results scatter so widely" in why


def test_states_that_are_carried_are_run_in_pieces(tmp_path):
    network = torch.nn.GRU(3, 5)
    examples = (torch.randn(6, 2, 3), torch.randn(1, 2, 5))
    path = tmp_path / "m.safetensors"
    report = vledge.export(network, examples, path, carry={"h_0": "h_n"})
    assert "chunks" in {run.path.strategy for run in report.runs}
    assert "chunks" in {run.path.strategy for run in validate(path).runs}
    with pytest.raises(ValueError, match="no input 'h' with an output 'h_n'"):
        vledge.export(network, examples, path, carry={"h": "h_n"})
