"""Train the shipped classifier of the JapaneseVowels set, and write its files beside this script.

    pip install torch==2.13.0 onnx safetensors numpy
    python models/japanese_vowels/train.py            # trains, writes every file (about a minute)
    python models/japanese_vowels/train.py --select   # the cross-validation that chose the settings

The data are read out of the package aeon (downloaded, not installed). torch is needed here only;
``vledge demo`` runs the result without it.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

HERE = Path(__file__).resolve().parent
PACKAGE = "aeon==1.6.0"
CHANNELS, SPEAKERS = 12, 9


@dataclass(frozen=True)
class Settings:
    """What cross-validation on the training set chooses."""

    cell: str = "GRU"
    hidden_size: int = 48
    noise: float = 0.15  # standard deviation added to the training series at every epoch
    epochs: int = 120
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dropout: float = 0.3
    batch_size: int = 27


class SpeakerClassifier(nn.Module):
    """A bidirectional layer's final states, both directions, to one logit for each speaker."""

    def __init__(self, settings: Settings = Settings()):
        super().__init__()
        layer = getattr(nn, settings.cell)
        self.rnn = layer(CHANNELS, settings.hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.out = nn.Linear(2 * settings.hidden_size, SPEAKERS)

    def forward(self, series: PackedSequence) -> torch.Tensor:
        _, state = self.rnn(series)
        h_n = state[0] if isinstance(state, tuple) else state
        return self.out(self.dropout(torch.cat((h_n[0], h_n[1]), dim=1)))


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("aeon-*.whl")
    return wheel


def read_series(wheel: Path, part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Series ``[length, 12]`` float32 and labels 0 ... 8 of part "TRAIN" or "TEST".

    A line of the .ts file is ``channel:channel:...:label``, a channel its values in time.
    """
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts").decode()
    series, labels = [], []
    for line in text[text.index("@data") :].splitlines()[1:]:
        *channels, label = line.strip().split(":")
        values = [[float(v) for v in channel.split(",")] for channel in channels]
        series.append(np.array(values, np.float32).T.copy())
        labels.append(int(label) - 1)
    return series, np.array(labels, np.int64)


def train(
    series: list[np.ndarray], labels: np.ndarray, settings: Settings, seed: int
) -> SpeakerClassifier:
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    model = SpeakerClassifier(settings)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * -(-len(series) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, steps)
    tensors, targets = [torch.from_numpy(s) for s in series], torch.from_numpy(labels)
    model.train()
    for _ in range(settings.epochs):
        shuffled = order.permutation(len(series))
        for start in range(0, len(series), settings.batch_size):
            batch = shuffled[start : start + settings.batch_size]
            noisy = [tensors[i] + settings.noise * torch.randn_like(tensors[i]) for i in batch]
            logits = model(pack_sequence(noisy, enforce_sorted=False))
            loss = nn.functional.cross_entropy(logits, targets[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def logits_of(model: SpeakerClassifier, series: list[np.ndarray]) -> np.ndarray:
    dtype = next(model.parameters()).dtype
    tensors = [torch.from_numpy(s).to(dtype) for s in series]
    return model(pack_sequence(tensors, enforce_sorted=False)).numpy()


def select(series: list[np.ndarray], labels: np.ndarray) -> None:
    """Print 5-fold cross-validated accuracy of each setting; the test set stays out of it."""
    folds = np.empty(len(labels), int)
    shuffle = np.random.default_rng(0)
    for speaker in range(SPEAKERS):
        own = shuffle.permutation(np.flatnonzero(labels == speaker))
        folds[own] = np.arange(len(own)) % 5
    for cell, hidden_size, noise in itertools.product(("LSTM", "GRU"), (32, 48), (0.05, 0.15)):
        settings = Settings(cell=cell, hidden_size=hidden_size, noise=noise)
        right = 0
        loss = 0.0
        for fold in range(5):
            kept, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            model = train([series[i] for i in kept], labels[kept], settings, seed=fold)
            logits = torch.from_numpy(logits_of(model, [series[i] for i in held]))
            target = torch.from_numpy(labels[held])
            right += int((logits.argmax(1) == target).sum())
            loss += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
        print(
            f"{cell:4} hidden {hidden_size} noise {noise:.2f}: "
            f"{right}/{len(labels)} right, loss {loss / len(labels):.4f}",
            flush=True,
        )


def onnx_model(weights: dict[str, torch.Tensor], cell: str) -> onnx.ModelProto:
    """The model over padded ``x [B, T, 12]`` and ``lengths [B]`` as one node with sequence_lens.

    Built by hand: torch's exporters refuse a packed layer of which only the final state is used.
    """
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    # torch's rows i, f, g, o and r, z, n in ONNX's orders i, o, f, c and z, r, h
    order = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}[cell]

    def gates(name: str) -> np.ndarray:
        both = [arrays[f"rnn.{name}_l0{suffix}"] for suffix in ("", "_reverse")]
        parts = [np.split(a, len(order)) for a in both]
        return np.stack([np.concatenate([part[g] for g in order]) for part in parts])

    initializers = {
        "W": gates("weight_ih"),
        "R": gates("weight_hh"),
        "B": np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1),
        "out.weight": arrays["out.weight"],
        "out.bias": arrays["out.bias"],
    }
    hidden_size = arrays["rnn.weight_hh_l0"].shape[1]
    node = onnx.helper.make_node
    nodes = [
        node("Transpose", ["x"], ["time_major"], perm=[1, 0, 2]),
        node("Cast", ["lengths"], ["sequence_lens"], to=onnx.TensorProto.INT32),
        node(
            cell,
            ["time_major", "W", "R", "B", "sequence_lens"],
            ["", "h_n"],
            name="rnn",
            hidden_size=hidden_size,
            direction="bidirectional",
            **({"linear_before_reset": 1} if cell == "GRU" else {}),
        ),
        node("Transpose", ["h_n"], ["by_series"], perm=[1, 0, 2]),
        node("Flatten", ["by_series"], ["features"]),
        node("Gemm", ["features", "out.weight", "out.bias"], ["logits"], transB=1),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "japanese_vowels",
        [
            value("x", onnx.TensorProto.FLOAT, ["B", "T", CHANNELS]),
            value("lengths", onnx.TensorProto.INT64, ["B"]),
        ],
        [value("logits", onnx.TensorProto.FLOAT, ["B", SPEAKERS])],
        [onnx.numpy_helper.from_array(a, name) for name, a in initializers.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: SpeakerClassifier, series: list[np.ndarray], labels: np.ndarray) -> None:
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.save(weights, HERE / "model.pt")
    (HERE / "model.safetensors").write_bytes(save(weights))
    onnx.save(onnx_model(weights, Settings().cell), HERE / "model.onnx")
    float32 = logits_of(model, series)
    float64 = logits_of(model.double(), series)
    np.savez_compressed(
        HERE / "test.npz",
        series=np.concatenate(series),
        lengths=np.array([len(s) for s in series], np.int64),
        labels=labels,
        logits=float32,
        logits_float64=float64,
    )
    right = int((float32.argmax(1) == labels).sum())
    print(f"test set: {right} of {len(labels)} right ({right / len(labels):.2%})")
    print(f"float32 from float64 logits: at most {np.abs(float32 - float64).max():.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--select", action="store_true", help="cross-validate on the training set")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {PACKAGE}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download(Path(folder))
        series, labels = read_series(wheel, "TRAIN")
        if arguments.select:
            select(series, labels)
        else:
            write(train(series, labels, Settings(), seed=0), *read_series(wheel, "TEST"))


if __name__ == "__main__":
    main()
