"""Files opened where memory is short: MemoryError or an error of ours, and no untrue one."""

import json
import subprocess
import sys

import numpy as np
import pytest

import vledge
from vledge.errors import MissingDependencyError, import_failure

pytest.importorskip("onnx")
resource = pytest.importorskip("resource")

# The address space that remains is cut down more and more: somewhere on the way onnx cannot be
# loaded. Each attempt is a process of its own, forked from one that has vledge.
SCRIPT = """
import json, os, resource, sys
import numpy as np, vledge

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

said = []
for megabytes in (4, 10, 20, 30, 45, 60, 80, 120, 400, 4000):
    reading, writing = os.pipe()
    if not os.fork():
        limit = used() + megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            vledge.InferenceSession(sys.argv[1])
            text = "opened"
        except BaseException as error:
            text = f"{type(error).__module__}.{type(error).__name__}: {error}"
        os.write(writing, text[:2000].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said.append(file.read())
    os.wait()
print(json.dumps(said))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/statm")
def test_no_package_is_called_missing_that_is_there(tmp_path):
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    said = json.loads(done.stdout)
    assert said[-1] == "opened"
    for text in said:  # "": a library ended the process, which is not for us to prevent
        assert text in ("", "opened") or text.startswith(("builtins.MemoryError", "vledge.errors"))
        assert "pip install" not in text


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), MissingDependencyError, "get"),
        (
            ImportError("libhdf5.so: failed to map segment from shared object", name="h5py._x"),
            MemoryError,
            "h5py is installed but cannot be imported: libhdf5.so: failed to map",
        ),
        (
            ImportError("x.so: cannot open shared object file: Cannot allocate memory"),
            MemoryError,
            "cannot be imported",
        ),
        (
            ModuleNotFoundError("No module named 'six'", name="six"),
            MissingDependencyError,
            "h5py is installed but cannot be imported: No module named 'six'",
        ),
    ],
)
def test_what_an_import_fails_of(error, kind, words):
    failure = import_failure(error, "h5py", "get it by pip")
    assert type(failure) is kind
    assert words in str(failure)


UNMAPPED = """
import resource, sys
import vledge
from vledge import nn  # what is imported later needs room, too

with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 8_000_000, used + 8_000_000))
try:
    vledge.load_weights(sys.argv[1])
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/statm")
def test_a_file_that_there_is_no_room_to_map(tmp_path):
    vledge.save_weights(tmp_path / "w", {"w": np.zeros(10_000_000, np.float32)})
    command = [sys.executable, "-c", UNMAPPED, str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert "no room to map a file of 4000" in done.stdout
