"""``python -m benchmarks.footprint``: what vledge and its peers cost before they compute anything.

Every engine runs the same 3-layer LSTM of 256 units from a file of its own kind, each time in a
new process, engines in turn; medians. Megabytes on disk without and with what pip installs beside;
milliseconds to import beyond numpy, with the files in the page cache and without; peak memory
beyond Python with numpy, in times the weights' bytes; milliseconds from the process's start to its
first output. vledge's shipped JapaneseVowels model stands below.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.peers import ncnn_peer, onnx_model
from benchmarks.workloads import Workload

WORK = Workload("footprint", "other", "full", "LSTM", 64, 256, (50,), num_layers=3)

# engine: how it is imported, how it loads the model in this folder and runs x
ENGINES = {
    "numpy": ("", "y = x"),
    "vledge": (
        "import vledge",
        "y = vledge.nn.LSTM.from_weights(vledge.load_weights('model.safetensors'))(x)[0]",
    ),
    "torch": (
        "import torch",
        "layer = torch.nn.LSTM(64, 256, 3)\n"
        "layer.load_state_dict(torch.load('model.pt'))\n"
        "y = layer(torch.from_numpy(x))[0].detach().numpy()",
    ),
    "onnxruntime": (
        "import onnxruntime",
        "session = onnxruntime.InferenceSession('model.onnx')\ny = session.run(['y'], {'x': x})[0]",
    ),
    "openvino": (
        "import openvino",
        "y = openvino.Core().compile_model('model.onnx', 'CPU')({'x': x})['y']",
    ),
    "ncnn": (
        "import ncnn",
        "net = ncnn.Net()\nnet.load_param('model.param')\nnet.load_model('model.bin')\n"
        "run = net.create_extractor()\nrun.input('x', ncnn.Mat(x[:, 0]))\n"
        "y = np.array(run.extract('y')[1])",
    ),
}
SHIPPED = (
    "from vledge.shipped import japanese_vowels",
    "y = japanese_vowels.load()(japanese_vowels.load_test_set().packed())",
)
PROBE = """
import json, time
import numpy as np
x = np.load('x.npy')
begin = time.perf_counter()
{imports}
imported = time.perf_counter() - begin
{code}
done = time.perf_counter()
status = open('/proc/self/status').read()
print(json.dumps([imported, done, int(status.split('VmHWM:')[1].split()[0]) * 1024]))
"""


def write_models(folder: Path) -> int:
    """The model in every engine's format; returns the bytes of its weights."""
    import vledge

    rng = np.random.default_rng(0)
    weights = {
        f"{name}_l{layer}": rng.uniform(-0.06, 0.06, shape).astype(np.float32)
        for layer in range(WORK.num_layers)
        for name, shape in (
            ("weight_ih", (1024, 256 if layer else 64)),
            ("weight_hh", (1024, 256)),
            ("bias_ih", (1024,)),
            ("bias_hh", (1024,)),
        )
    }
    np.save(folder / "x.npy", rng.standard_normal((50, 1, 64)).astype(np.float32))
    vledge.save_weights(folder / "model.safetensors", weights)
    if importlib.util.find_spec("onnx"):
        (folder / "model.onnx").write_bytes(onnx_model.build(WORK, weights))
    param, model = ncnn_peer._files(WORK, weights)
    (folder / "model.param").write_text(param)
    (folder / "model.bin").write_bytes(model)
    if importlib.util.find_spec("torch"):
        import torch

        torch.save({n: torch.from_numpy(a) for n, a in weights.items()}, folder / "model.pt")
    return sum(array.nbytes for array in weights.values())


def probe(imports: str, code: str, folder: Path) -> tuple[float, float, float]:
    """Seconds to import, seconds from start to output, peak bytes."""
    source = Path(__file__).resolve().parent.parent
    # modules stay compiled, as in an installed package
    kept = {"PYTHONPYCACHEPREFIX": str(folder / "pyc"), "PYTHONDONTWRITEBYTECODE": ""}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(imports=imports, code=code)],
        cwd=folder,
        env=os.environ | kept | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, end, peak = json.loads(done.stdout.splitlines()[-1])
    return imported, end - begin, peak


def package_files(engine: str) -> list[Path]:
    """The files of an installed distribution; of vledge those of this tree."""
    if engine == "vledge":
        files: Iterable[Path] = Path(__file__).resolve().parent.parent.glob("vledge/**/*")
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each engine (7)")
    rounds = parser.parse_args().rounds
    engines = {n: e for n, e in ENGINES.items() if importlib.util.find_spec(n)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = write_models(folder)
        runs = {**engines, "vledge, JapaneseVowels": SHIPPED}
        for engine in runs.values():
            probe(*engine, folder)  # compiles the modules
        warm: dict[str, list[tuple[float, float, float]]] = {n: [] for n in runs}
        cold: dict[str, list[float]] = {n: [] for n in runs}
        for _ in range(rounds):
            for label, engine in runs.items():
                warm[label].append(probe(*engine, folder))
        for _ in range(min(rounds, 3)):
            for label in engines:
                if label != "numpy":
                    forget([*package_files(label), *(folder / "pyc").rglob("*.pyc")])
                    cold[label].append(probe(*engines[label], folder)[0])
    floor = statistics.median(peak for _, _, peak in warm["numpy"])
    print(
        "| engine | MB | with dependencies | import ms | cold | peak beyond numpy "
        "| first output ms |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for label, samples in warm.items():
        imported, first, peak = (statistics.median(s[i] for s in samples) for i in range(3))
        own = whole = colder = ""
        if label in engines and label != "numpy":
            own = f"{sum(f.stat().st_size for f in package_files(label)) / 1e6:.1f}"
            whole = f"{installed_bytes(label, set()) / 1e6:.0f}"
            colder = f"{statistics.median(cold[label]) * 1e3:.0f}"
        memory = f"{(peak - floor) / 1e6:.1f} MB"
        if label in engines:
            memory += f", {(peak - floor) / weights:.1f} × the weights"
        print(
            f"| {label} | {own} | {whole} | {imported * 1e3:.1f} | {colder} | {memory} "
            f"| {first * 1e3:.0f} |"
        )
    print(
        f"\nWeights: {weights / 1e6:.1f} MB. Python with numpy: {floor / 1e6:.1f} MB at its peak."
    )


if __name__ == "__main__":
    main()
