"""Sessions for some outputs only: what these do not need is not run, refused or asked for."""

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, onnx, proto
from vledge.graph.part import part_for
from vledge.graph.session import read_model

X = np.arange(6, dtype=np.float32).reshape(2, 3)
MASK = np.ones(3, np.float32)


def inner(*nodes):
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], 0, None)]
    return helper.make_graph(list(nodes), "inner", [], outputs)


def agent():
    """Like a recurrent agent of Unity's: memory and logits, and an action drawn from them."""
    return [
        node("Mul", ["x", "w"], ["hidden"]),
        node("Tanh", ["hidden"], ["memory"]),
        node("Add", ["hidden", "mask"], ["logits"]),
        node("Frobnicate", ["logits", "u"], ["action"], name="draw", domain="example"),
        node("If", ["yes"], ["chosen"], then_branch=inner(node("Neg", ["action"], ["a"])),
             else_branch=inner(node("Neg", ["logits"], ["b"]))),
    ]  # fmt: skip


def model(outputs=("memory", "action", "chosen")):
    feed = {"x": X, "mask": MASK, "yes": np.array(True)}
    constants = {"w": np.float32(2), "u": np.float32(1)}
    return model_bytes(agent(), feed, outputs, constants, domains=["example"])


def test_what_nobody_needs_refuses_nothing():
    with pytest.raises(vledge.UnsupportedError, match="'draw'"):
        vledge.InferenceSession(model())
    session = vledge.InferenceSession(model(), outputs=["memory"])
    assert [info.name for info in session.get_outputs()] == ["memory"]
    assert [info.name for info in session.get_inputs()] == ["x"]
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], np.tanh(2 * X))
    np.testing.assert_array_equal(session.run(["memory"], {"x": X})[0], np.tanh(2 * X))


def test_inputs_that_are_not_needed_may_be_given():
    session = vledge.InferenceSession(model(), outputs=["memory"])
    whole = {"x": X, "mask": MASK, "yes": np.array(True)}
    np.testing.assert_array_equal(session.run(None, whole)[0], np.tanh(2 * X))
    with pytest.raises(ValueError, match="no input named 'masc'"):
        session.run(None, {"x": X, "masc": MASK})
    with pytest.raises(ValueError, match=r"Required inputs \(\['x'\]\)"):
        session.run(None, {"mask": MASK})


def test_values_inside_of_the_graph_in_the_order_asked_for():
    session = vledge.InferenceSession(model(), outputs=["logits", "memory", "hidden", "x", "w"])
    results = session.run(None, {"x": X, "mask": MASK})
    for result, wanted in zip(results, [2 * X + 1, np.tanh(2 * X), 2 * X, X, 2], strict=True):
        np.testing.assert_array_equal(result, wanted)
    results[3] += 1  # the caller's own
    assert X[0, 0] == 0


def test_what_a_branch_uses_is_needed():
    with pytest.raises(vledge.UnsupportedError, match="'draw'"):
        vledge.InferenceSession(model(), outputs=["chosen"])
    part = part_for(read_model(model()), ["chosen"])
    assert [n.op_type for n in part.graph.nodes] == ["Mul", "Add", "Frobnicate", "If"]
    assert sorted(part.graph.initializers) == ["u", "w"]
    assert [info.name for info in part.graph.inputs] == ["x", "mask", "yes"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["memory", "action2"], "no value named 'action2'; its outputs are .'memory', 'action'"),
        (["memory", "memory"], "a name twice"),
        ([], "at least one"),
        ("memory", "list of names"),
        ([""], "no value named ''"),
        (["a"], "no value named 'a'"),  # in a branch
    ],
)
def test_names_that_are_wrong(outputs, message):
    with pytest.raises(ValueError, match=message):
        vledge.InferenceSession(model(), outputs=outputs)


def test_an_input_of_a_type_that_nothing_holds_may_be_left_out():
    changed = proto(agent()[:2], {"x": X, "list": X}, ["memory"], {"w": np.float32(2)})
    kind = helper.make_tensor_type_proto(onnx.TensorProto.INT4, None)
    changed.graph.input[1].type.CopyFrom(kind)
    changed.graph.output.append(helper.make_value_info("list", kind))
    with pytest.raises(vledge.UnsupportedError, match="'list' is of the type int4"):
        vledge.InferenceSession(changed.SerializeToString())
    session = vledge.InferenceSession(changed.SerializeToString(), outputs=["memory"])
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], np.tanh(2 * X))


def test_defaults_that_a_run_may_replace_stay_so():
    nodes = [node("Add", ["x", "offset"], ["y"]), node("Frobnicate", ["y"], ["z"], domain="d")]
    changed = proto(nodes, {"x": X, "offset": MASK}, ["y", "z"], {"offset": MASK}, domains=["d"])
    session = vledge.InferenceSession(changed.SerializeToString(), outputs=["y"])
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], X + 1)
    np.testing.assert_array_equal(session.run(None, {"x": X, "offset": MASK * 3})[0], X + 3)


def test_a_stream_is_of_the_same_part():
    nodes = [
        node("GRU", ["x", "W", "R"], ["y", "h"], hidden_size=2, linear_before_reset=1),
        node("Frobnicate", ["y"], ["z"], domain="d"),
    ]
    weights = {"W": np.ones((1, 6, 3), np.float32), "R": np.ones((1, 6, 2), np.float32)}
    x = np.random.default_rng(0).standard_normal((5, 1, 3)).astype(np.float32)
    changed = proto(nodes, {"x": (1, ["T", 1, 3])}, ["y", "z"], weights, domains=["d"])
    session = vledge.InferenceSession(changed.SerializeToString(), outputs=["y"])
    (whole,) = session.run(None, {"x": x})
    stream = session.stream()
    frames = [stream.push(x[t : t + 1]) for t in range(5)]
    np.testing.assert_allclose(np.concatenate(frames), whole, atol=1e-6)


def test_the_caller_s_own_model_is_left_alone():
    own = read_model(model())
    count = len(own.graph.nodes)
    vledge.InferenceSession(own, outputs=["memory"])
    assert len(own.graph.nodes) == count
    assert len(own.graph.outputs) == 3


# ---- the commands


@pytest.fixture
def command(tmp_path, capsys):
    from vledge.cli import main

    (tmp_path / "model.onnx").write_bytes(model())
    np.save(tmp_path / "x.npy", X)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_commands_take_outputs(tmp_path, command):
    file, kept = tmp_path / "model.onnx", tmp_path / "kept.safetensors"
    given = ["--input", f"x={tmp_path}/x.npy", "--output", f"{tmp_path}/y.npy"]
    status, _, err = command("run", file, *given)
    assert status == 1
    assert "'draw'" in err
    assert command("run", file, *given, "--only", "memory")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.tanh(2 * X))
    assert command("convert", file, kept)[0] == 1
    status, out, _ = command("convert", file, kept, "--only", "memory", "--only", "hidden")
    assert status == 0
    assert "2 nodes" in out
    results = vledge.InferenceSession(kept).run(None, {"x": X})
    np.testing.assert_array_equal(results[1], 2 * X)
    _, out, _ = command("inspect", file)
    assert "cannot run" in out
    status, out, _ = command("inspect", file, "--only", "memory")
    assert status == 0
    assert "cannot run" not in out
    assert "2 nodes" in out


def test_the_run_command_keeps_sequences(tmp_path, command):
    changed = proto([node("SplitToSequence", ["x"], ["parts"])], {"x": X}, ["parts"])
    kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    changed.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    (tmp_path / "split.onnx").write_bytes(changed.SerializeToString())
    given = ["--input", f"x={tmp_path}/x.npy", "--output", f"{tmp_path}/y.npz"]
    status, out, _ = command("run", tmp_path / "split.onnx", *given)
    assert status == 0
    assert "sequence of 2" in out
    with np.load(tmp_path / "y.npz") as parts:
        np.testing.assert_array_equal(parts["arr_1"], X[1:])
