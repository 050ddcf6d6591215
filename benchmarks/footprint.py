"""``python -m benchmarks.footprint``: what vledge and its peers cost before they compute anything.

Every engine runs two models from a file of its own kind, each time in a new process, engines in
turn; medians: a 3-layer LSTM of 256 units over 50 steps, and the shipped JapaneseVowels classifier
over its 370 test series (not ncnn, which takes no lengths, nor OpenVINO 2026.4.1, whose answers are
others than torch's as soon as lengths differ). Megabytes on disk without and with what
pip installs beside; milliseconds to import beyond numpy, with the files in the page cache and
without; peak memory beyond Python with numpy, also in times the weights' bytes; milliseconds from
the process's start to its first output. The same LSTM with 16 and with 512 units tells which part
of the peak is fixed (code, and objects of the interpreter) and how the rest grows with the
weights.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import vledge
from benchmarks.measuring.machine import cpu, today
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import ncnn_peer, onnx_model
from benchmarks.reports.layers import write_page
from vledge.shipped import japanese_vowels

PAGE = Path(__file__).resolve().parent.parent / "docs" / "records" / "footprint.md"
HIDDEN_SIZES = {"lstm": 256, "small": 16, "large": 512}

# engine: how it is imported, how it loads each of the models in this folder and runs x
ENGINES = {
    "numpy": ("", {"lstm": "y = x", "vowels": "y = x"}),
    "vledge": (
        "import vledge",
        {
            "lstm": "weights = vledge.load_weights('lstm.safetensors')\n"
            "y = vledge.nn.LSTM.from_weights(weights)(x)[0]",
            "vowels": "from vledge.shipped import japanese_vowels\n"
            "series = vledge.pack_padded_sequence(x, lengths, True, enforce_sorted=False)\n"
            "y = japanese_vowels.load()(series)",
        },
    ),
    "torch": (
        "import torch",
        {
            "lstm": "weights = torch.load('lstm.pt')\n"
            "layer = torch.nn.LSTM(64, weights['weight_hh_l0'].shape[1], 3)\n"
            "layer.load_state_dict(weights)\n"
            "y = layer(torch.from_numpy(x))[0].detach().numpy()",
            "vowels": "weights = torch.load('vowels.pt')\n"
            "gru = torch.nn.GRU(12, 48, batch_first=True, bidirectional=True)\n"
            "gru.load_state_dict({n[4:]: w for n, w in weights.items() if n[:4] == 'rnn.'})\n"
            "series = torch.nn.utils.rnn.pack_padded_sequence(\n"
            "    torch.from_numpy(x), lengths, True, enforce_sorted=False)\n"
            "h = torch.cat(tuple(gru(series)[1]), 1)\n"
            "y = torch.nn.functional.linear(h, weights['out.weight'], weights['out.bias'])\n"
            "y = y.detach().numpy()",
        },
    ),
    "onnxruntime": (
        "import onnxruntime",
        {
            "lstm": "session = onnxruntime.InferenceSession('lstm.onnx')\n"
            "y = session.run(['y'], {'x': x})[0]",
            "vowels": "session = onnxruntime.InferenceSession('vowels.onnx')\n"
            "y = session.run(None, {'x': x, 'lengths': lengths})[0]",
        },
    ),
    "openvino": (
        "import openvino\nF32 = {'INFERENCE_PRECISION_HINT': 'f32'}",
        {
            "lstm": "model = openvino.Core().compile_model('lstm.onnx', 'CPU', F32)\n"
            "y = model({'x': x})['y']",
        },
    ),
    "ncnn": (
        "import ncnn",
        {
            "lstm": "net = ncnn.Net()\n"
            "net.opt.use_fp16_packed = net.opt.use_fp16_storage = False\n"
            "net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False\n"
            "net.load_param('lstm.param')\n"
            "net.load_model('lstm.bin')\n"
            "run = net.create_extractor()\nrun.input('x', ncnn.Mat(x[:, 0]))\n"
            "y = np.array(run.extract('y')[1])",
        },
    ),
}
MODELS = ("lstm", "vowels")  #: whose first output is shown
PROBE = """
import json, time
import numpy as np
x, lengths = np.load('x.npy'), np.load('lengths.npy')
begin = time.perf_counter()
{imports}
imported = time.perf_counter() - begin
{code}
done = time.perf_counter()
status = open('/proc/self/status').read()
np.save('y.npy', y)
memory = [int(status.split(name)[1].split()[0]) * 1024 for name in ('VmHWM:', 'RssFile:')]
print(json.dumps([imported, done, *memory]))
"""


class Sample(NamedTuple):
    """One process."""

    imported: float  #: seconds
    output: float  #: seconds from the start of the process
    peak: float  #: bytes
    mapped: float  #: bytes of it that are pages of files, at the end


def write_models(folder: Path) -> dict[str, int]:
    """All models in every engine's format, each in a folder of its name, with their inputs; the
    bytes of their weights."""
    sizes = {}
    for name, hidden_size in HIDDEN_SIZES.items():
        (folder / name).mkdir()
        sizes[name] = write_lstm(folder / name, hidden_size)
    target = folder / "vowels"
    target.mkdir()
    for suffix in ("pt", "onnx"):
        shutil.copy(japanese_vowels.folder() / f"model.{suffix}", target / f"vowels.{suffix}")
    x, lengths = vledge.pad_packed_sequence(japanese_vowels.load_test_set().packed(), True)
    np.save(target / "x.npy", x)
    np.save(target / "lengths.npy", lengths)
    vowels = vledge.load_weights(target / "vowels.pt")
    return sizes | {"vowels": sum(array.nbytes for array in vowels.values())}


def write_lstm(folder: Path, hidden_size: int) -> int:
    """Three layers, and an input of 50 steps; the bytes of the weights."""
    work = Workload("footprint", "other", "full", "LSTM", 64, hidden_size, (50,), num_layers=3)
    rng = np.random.default_rng(0)
    bound = hidden_size**-0.5
    weights = {
        f"{name}_l{layer}": rng.uniform(-bound, bound, shape).astype(np.float32)
        for layer in range(work.num_layers)
        for name, shape in (
            ("weight_ih", (4 * hidden_size, hidden_size if layer else 64)),
            ("weight_hh", (4 * hidden_size, hidden_size)),
            ("bias_ih", (4 * hidden_size,)),
            ("bias_hh", (4 * hidden_size,)),
        )
    }
    np.save(folder / "x.npy", rng.standard_normal((50, 1, 64)).astype(np.float32))
    np.save(folder / "lengths.npy", np.array([50]))
    vledge.save_weights(folder / "lstm.safetensors", weights)
    if importlib.util.find_spec("onnx"):
        (folder / "lstm.onnx").write_bytes(onnx_model.build(work, weights))
    param, model = ncnn_peer._files(work, weights)
    (folder / "lstm.param").write_text(param)
    (folder / "lstm.bin").write_bytes(model)
    if importlib.util.find_spec("torch"):
        import torch

        torch.save({n: torch.from_numpy(a) for n, a in weights.items()}, folder / "lstm.pt")
    return sum(array.nbytes for array in weights.values())


def probe(imports: str, code: str, folder: Path) -> tuple[Sample, np.ndarray]:
    """What one process took, and its output."""
    source = Path(__file__).resolve().parent.parent
    # modules stay compiled, as in an installed package
    kept = {"PYTHONPYCACHEPREFIX": str(folder.parent / "pyc"), "PYTHONDONTWRITEBYTECODE": ""}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(imports=imports, code=code)],
        cwd=folder,
        env=os.environ | kept | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{imports} on {folder.name} failed:\n{done.stderr}")
    imported, end, *memory = json.loads(done.stdout.splitlines()[-1])
    return Sample(imported, end - begin, *memory), np.load(folder / "y.npy")


def package_files(engine: str) -> list[Path]:
    """The files of an installed distribution; of vledge those of this tree."""
    if engine == "vledge":
        root = Path(__file__).resolve().parent.parent
        files: Iterable[Path] = (*root.glob("vledge/**/*"), *root.glob("models/**/*"))
    else:
        files = (Path(str(f.locate())) for f in metadata.files(engine) or ())
    return [f for f in files if f.is_file() and f.suffix != ".pyc"]


def installed_bytes(engine: str, seen: set[str]) -> int:
    """Of a distribution and all that it requires, each counted once."""
    name = re.sub(r"[-_.]+", "-", engine).lower()
    if name in seen:
        return 0
    seen.add(name)
    try:
        total = sum(f.stat().st_size for f in package_files(engine))
        # vledge's own: what a board installs
        needed = ["numpy", "safetensors"] if name == "vledge" else metadata.requires(engine) or []
    except metadata.PackageNotFoundError:
        return 0
    for requirement in needed:
        if "extra ==" not in requirement:
            total += installed_bytes(re.split(r"[^\w.-]", requirement)[0], seen)
    return total


def forget(files: Iterable[Path]) -> None:
    """Ask the system to drop these files from its page cache."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(folder: Path, rounds: int) -> tuple[dict[tuple[str, str], Sample], dict[str, float]]:
    """Medians by model and engine; seconds to import from a cold page cache, by engine."""
    works = {
        (model, engine): (imports, codes[code], folder / model)
        for model in (*HIDDEN_SIZES, "vowels")
        for engine, (imports, codes) in ENGINES.items()
        if (code := "lstm" if model in HIDDEN_SIZES else model) in codes
        and importlib.util.find_spec(engine)
    }
    # The first run compiles the modules, and is the one whose results are compared.
    first = {key: probe(*work)[1] for key, work in works.items()}
    for (model, engine), y in first.items():
        if engine != "numpy":
            expected = first[model, "vledge"]
            y = y.reshape(expected.shape)
            np.testing.assert_allclose(y, expected, atol=1e-4, rtol=0, err_msg=f"{engine} {model}")
    warm: dict[tuple[str, str], list[Sample]] = {key: [] for key in works}
    cold: dict[str, list[float]] = {}
    for turn in range(rounds):
        for key, work in works.items():
            warm[key].append(probe(*work)[0])
        for (model, engine), work in works.items():
            if turn < 3 and model == "lstm" and engine != "numpy":
                forget([*package_files(engine), *(folder / "pyc").rglob("*.pyc")])
                cold.setdefault(engine, []).append(probe(*work)[0].imported)
    medians = {
        key: Sample(*(statistics.median(values) for values in zip(*samples, strict=True)))
        for key, samples in warm.items()
    }
    return medians, {engine: statistics.median(times) for engine, times in cold.items()}


def markdown(
    medians: dict[tuple[str, str], Sample], cold: dict[str, float], weights: dict[str, int]
) -> str:
    """The table and what it was measured on."""
    lines = [
        "| engine | MB | with what it needs | import, ms | from a cold cache "
        "| peak MB: LSTM | fixed | growth | JapaneseVowels "
        "| first output, ms: LSTM | JapaneseVowels |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for engine, colder in cold.items():
        own = sum(f.stat().st_size for f in package_files(engine)) / 1e6
        whole = installed_bytes(engine, set()) / 1e6
        samples = {model: sample for (model, of), sample in medians.items() if of == engine}
        peaks = {model: s.peak - medians[model, "numpy"].peak for model, s in samples.items()}
        growth = (peaks["large"] - peaks["small"]) / (weights["large"] - weights["small"])
        cells = [
            engine,
            f"{own:.1f}",
            f"{whole:.0f}",
            f"{samples['lstm'].imported * 1e3:.1f}",
            f"{colder * 1e3:.0f}",
            f"{peaks['lstm'] / 1e6:.1f} ({peaks['lstm'] / weights['lstm']:.1f} ×)",
            f"{peaks['small'] / 1e6:.1f}",
            f"{growth:.2f} ×",
            f"{peaks['vowels'] / 1e6:.1f}" if "vowels" in peaks else "",
        ]
        cells += [f"{samples[m].output * 1e3:.0f}" if m in samples else "" for m in MODELS]
        lines.append("| " + " | ".join(cells) + " |")
    floor = medians["lstm", "numpy"]
    mapped = medians["small", "vledge"].mapped - medians["small", "numpy"].mapped
    # both directions of the classifier's layer, in float32
    steps = len(japanese_vowels.load_test_set().packed().data)
    output = steps * 2 * japanese_vowels.HIDDEN_SIZE * 4
    lines.append(
        f"""
Medians, by `python -m benchmarks.footprint`, {today()}, on {cpu()}.
Import and peak are beyond Python with numpy, which takes
{floor.peak / 1e6:.0f} MB and {floor.output * 1e3:.0f} ms; × is of the weights,
{weights["lstm"] / 1e6:.1f} MB for the LSTM (3 layers of 256 units) and
{weights["vowels"] / 1e6:.2f} MB for JapaneseVowels (370 series at once). Fixed is the peak of the
same LSTM with 16 units, {weights["small"] / 1e6:.2f} MB; growth, by how much it rises for each byte
of weights from there to 512 units, {weights["large"] / 1e6:.1f} MB. Of vledge's fixed part
{mapped / 1e6:.1f} MB are pages of shared libraries, which the system can drop again; what
it grows by beyond the weights are the arrays of 50 steps. Of JapaneseVowels'
{output / 1e6:.1f} MB are the layer's output. ncnn takes no lengths,
and OpenVINO's answers differ from torch's as soon as lengths do. scipy,
which only x86-64 installs and nothing needs, would add
{installed_bytes("scipy", {"numpy"}) / 1e6:.0f} MB to vledge's."""
    )
    return "\n".join(lines)


def main() -> None:
    """Print the table, and put it into the documentation if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each engine (7)")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name}'s table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        weights = write_models(Path(name))
        text = markdown(*measure(Path(name), arguments.rounds), weights)
    print(text)
    if arguments.write:
        write_page(PAGE, text)


if __name__ == "__main__":
    main()
