"""The comparison of graphs that were quantised before."""

import numpy as np

from benchmarks import quantized_before
from benchmarks.quantization import Shape
from benchmarks.quantized_before import of_graphs, of_torchs_files
from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge.quantization import quantize_onnx

peer("onnxruntime")


def test_a_line_for_each_graph(tmp_path, capsys):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 48)).astype(np.float32)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    model = model_bytes([node("MatMul", ["x", "w"], ["y"])], {"x": x}, ["y"], {"w": w}, opset=17)
    for name in ("one", "two"):
        (tmp_path / f"{name}.onnx").write_bytes(quantize_onnx(model)[0])
    heads, _, *lines = of_graphs([str(tmp_path)], rounds=2)
    assert heads.startswith("graph | ms | onnxruntime")
    assert [line.split(" | ")[0] for line in lines] == ["one.onnx", "two.onnx"]
    for line in lines:
        _, own, theirs, _, apart, in_python = line.split(" | ")
        assert float(own) >= 0
        assert float(theirs) >= 0
        assert float(apart) < 1e-3
        assert in_python == "0"
    assert capsys.readouterr().out.count("onnx |") == 2


def test_a_line_for_each_of_torchs_layers(monkeypatch):
    peer("torch")
    monkeypatch.setattr(quantized_before, "DYNAMIC", [Shape("GRU", 6, 20, 2, 5)])
    heads, _, line = of_torchs_files(rounds=2)
    assert heads.endswith("largest difference | within 1e-6")
    name, own, theirs, floats, _, apart, share = line.split(" | ")
    assert name == "GRU 6 to 20, batch 2, 5 steps"
    assert all(float(time) > 0 for time in (own, theirs, floats))
    assert float(apart) < 1e-2
    assert share.endswith("%")
