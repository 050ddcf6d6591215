"""The input of lengths, found by what the graph does with it; and random lengths for it."""

import numpy as np
import pytest

from tests.peers import peer
from vledge.cli import main
from vledge.graph.session import read_model
from vledge.validation import read
from vledge.validation.running.lengths import example, lengths_by_behaviour, lengths_input

peer("onnxruntime")
torch = peer("torch")
rnn = torch.nn.utils.rnn


class Packed(torch.nn.Module):
    """torch's own way: sorted inside, behind a sort, a Gather and casts."""

    def __init__(self, enforce_sorted=False):
        super().__init__()
        self.gru, self.enforce_sorted = torch.nn.GRU(5, 6, batch_first=True), enforce_sorted

    def forward(self, x, n):
        packed = rnn.pack_padded_sequence(x, n, True, self.enforce_sorted)
        return rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]


class Sorted(Packed):
    def __init__(self):
        super().__init__(True)


class Embedded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.inner = torch.nn.Embedding(70, 5), Packed()

    def forward(self, x, n):
        return self.inner(self.table(x), n)


class MaskedMean(torch.nn.Module):
    """No recurrent node: the lengths make a mask."""

    def forward(self, x, n):
        mask = (torch.arange(x.shape[1])[None] < n[:, None]).float()[..., None]
        return (torch.relu(x) * mask).sum(1) / mask.sum(1)


class MaskedAttention(torch.nn.Module):
    """What stands in the padding shows there, and nowhere else."""

    def forward(self, x, n):
        past = torch.arange(x.shape[1])[None] >= n[:, None]
        scores = (x @ x.transpose(1, 2)).masked_fill(past[:, None], -1e9)
        return torch.softmax(scores, -1) @ x


class Speaker(torch.nn.Module):
    """A causal network and a number for each sequence that is no length."""

    def __init__(self):
        super().__init__()
        self.gru, self.table = torch.nn.GRU(5, 6, batch_first=True), torch.nn.Embedding(50, 5)

    def forward(self, x, n):
        return self.gru(x + self.table(n)[:, None])[0]


class Scaled(torch.nn.Module):
    def forward(self, x, n):
        return x.cumsum(1) * n[:, None, None]


def exported(tmp_path, module, axes="all", batch=4):
    torch.manual_seed(0)
    example_x = torch.randn(batch, 9, 5)
    if isinstance(module, Embedded):
        example_x = torch.zeros(batch, 9, dtype=torch.long)
    n = torch.arange(9, 9 - 2 * batch, -2)
    dynamic = {
        "all": {"x": {0: "B", 1: "T"}, "n": {0: "B"}},
        "anonymous": {"x": [0, 1], "n": [0]},
        "time": {"x": {1: "T"}},
        "none": {},
    }[axes]
    path = tmp_path / "m.onnx"
    with pytest.warns():  # of tracing
        torch.onnx.export(
            module.eval(),
            (example_x, n),
            path,
            input_names=["x", "n"],
            output_names=["y"],
            dynamic_axes=dynamic,
            dynamo=False,
        )
    return path


TAKERS = [Packed, Sorted, Embedded, MaskedMean, MaskedAttention]


@pytest.mark.parametrize("axes", ["all", "time", "none"])
@pytest.mark.parametrize("kind", TAKERS)
def test_lengths_are_found(tmp_path, kind, axes):
    model = read_model(exported(tmp_path, kind(), axes))
    assert lengths_input(model) == "n"
    found = lengths_by_behaviour(model, example(model))
    assert (found.name, found.counted, found.axes) == ("n", "x", {"batch": 0, "time": 1})


@pytest.mark.parametrize("kind", [Speaker, Scaled])
def test_other_whole_numbers_are_no_lengths(tmp_path, kind):
    model = read_model(exported(tmp_path, kind()))
    assert lengths_input(model) is None
    assert lengths_by_behaviour(model, example(model)) is None


def recorded(path, *options):
    assert main(["record", str(path), *options]) == 0
    return read(path.with_suffix(".reference.safetensors"))


@pytest.mark.parametrize(
    ("axes", "options", "batch"),
    [
        ("all", [], 3),
        ("all", ["--random", "n=5", "--random", "x=5x?x5"], 5),
        ("all", ["--random", "n=2", "--random", "x=2x?x5"], 2),
        ("anonymous", ["--random", "n=6", "--random", "x=6x?x5"], 6),
        ("time", [], 4),
        ("time", ["--random", "n=4"], 4),  # the case of the report
        ("none", [], 4),
        ("none", ["--random", "n=4"], 4),
    ],
)
@pytest.mark.parametrize("kind", [Packed, MaskedMean])
def test_random_lengths_have_both_ends(tmp_path, kind, axes, options, batch):
    reference = recorded(exported(tmp_path, kind(), axes), *options)
    for case in reference.cases:
        steps = case.inputs["x"].shape[1]
        np.testing.assert_array_equal(case.lengths, case.inputs["n"])
        assert (len(case.lengths), case.lengths.min(), case.lengths.max()) == (batch, 1, steps)
    assert len({tuple(case.lengths) for case in reference.cases}) == len(reference.cases)


def test_lengths_of_runs_of_one_step_are_one(tmp_path):
    path = exported(tmp_path, Packed())
    reference = recorded(path, "--random", "n=4", "--random", "x=4x1x5")
    assert {int(n) for case in reference.cases for n in case.lengths} == {1}


def test_lengths_may_be_kept_short(tmp_path):
    path = exported(tmp_path, Packed())
    reference = recorded(path, "--random", "n=4:6", "--random", "x=4x?x5")
    assert {int(case.lengths.max()) for case in reference.cases} == {5}


def test_whole_numbers_choose_every_row_of_a_table(tmp_path):
    reference = recorded(exported(tmp_path, Embedded()), "--random", "x=8x?")
    drawn = np.concatenate([case.inputs["x"].ravel() for case in reference.cases])
    assert drawn.max() > 60
    assert drawn.max() < 70


def test_lengths_that_are_given_count(tmp_path):
    path = exported(tmp_path, Packed(), "none")
    files = []
    for number in range(2):
        files.append(str(tmp_path / f"{number}.npz"))
        x = np.random.default_rng(number).standard_normal((4, 9, 5)).astype(np.float32)
        np.savez(files[-1], x=x, n=np.array([9, 4, 2, 7]))
    reference = recorded(path, "--inputs", *files)
    np.testing.assert_array_equal(reference.cases[1].lengths, [9, 4, 2, 7])
