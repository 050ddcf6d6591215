"""ONNX models that ask for much: parsed, inlined, folded, planned, run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import vledge
from tests.attacks.measured import Attack

__all__ = ["ATTACKS"]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
info = helper.make_tensor_value_info


def model(
    nodes: Sequence[Any],
    *,
    inputs: Sequence[Any] = (),
    constants: dict[str, Any] | None = None,
    tensors: Sequence[Any] = (),
    functions: Sequence[Any] = (),
    output: str = "y",
    opset: int = 17,
) -> bytes:
    """A model from x, three floats, to the output."""
    made = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [info("x", FLOAT, [3]), *inputs],
        [info(output, FLOAT, None)],
        [*made, *tensors],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid("local", 1)] if functions else []
    whole = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
    return bytes(whole.SerializeToString())


def written(content: Callable[..., bytes], *arguments: Any, **named: Any) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content(*arguments, **named)), None)[1]


X = {"x": np.ones(3, "f4")}


def run(path: Path, **feed: Any) -> Any:
    return [result.shape for result in vledge.InferenceSession(path).run(None, {**X, **feed})]


def run_if(path: Path) -> Any:
    return run(path, c=np.array(True))


def read(path: Path) -> Any:
    return vledge.InferenceSession(path)


# ---- parsing


def field(number: int, content: bytes) -> bytes:
    """A field of bytes in protobuf's encoding."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def empty_messages(count: int, *path: int) -> bytes:
    """So many empty messages as fields of the last number, inside of one of each of the others."""
    inner = field(path[-1], b"") * count
    for number in reversed(path[:-1]):
        inner = field(number, inner)
    return b"\x08\x08" + inner + field(8, b"\x10\x11")


def packed_integers(count: int) -> bytes:
    tensor = field(8, b"t") + b"\x10\x07" + b"\x08" + varint(count) + field(7, b"\x01" * count)
    return b"\x08\x08" + field(7, field(5, tensor)) + field(8, b"\x10\x11")


def long_names(attributes: int) -> bytes:
    """A node of a long name and many attributes, each of which is told by the node's name."""
    one = node("Neg", ["x"], ["y"], name="n" * 1_000_000)
    for number in range(attributes):
        one.attribute.append(helper.make_attribute(f"a{number}", 1))
    return model([one])


# ---- functions


def functions_that_double(depth: int, body: int = 0) -> bytes:
    ops = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    weight = np.ones(max(body, 1), "f4")
    first = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(weight)),
        node("Add", ["a", "a"], ["b"]),
    ]
    made = [helper.make_function("local", "f0", ["a"], ["b"], first, ops[:1])]
    for number in range(1, depth):
        name = f"f{number - 1}"
        twice = [
            node(name, ["a"], ["t"], domain="local"),
            node(name, ["t"], ["b"], domain="local"),
        ]
        made.append(helper.make_function("local", f"f{number}", ["a"], ["b"], twice, ops))
    last = node(f"f{depth - 1}", ["x"], ["y"], domain="local")
    return model([last], functions=made)


def functions_in_a_row(depth: int) -> bytes:
    ops = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = [helper.make_function("local", "f0", ["a"], ["b"], [node("Neg", ["a"], ["b"])], ops)]
    for number in range(1, depth):
        inner = [node(f"f{number - 1}", ["a"], ["b"], domain="local")]
        made.append(helper.make_function("local", f"f{number}", ["a"], ["b"], inner, ops))
    return model([node(f"f{depth - 1}", ["x"], ["y"], domain="local")], functions=made)


def functions_in_a_circle() -> bytes:
    ops = [helper.make_opsetid("local", 1)]
    made = [
        helper.make_function("local", f, ["a"], ["b"], [node(g, ["a"], ["b"], domain="local")], ops)
        for f, g in (("f", "g"), ("g", "f"))
    ]
    return model([node("f", ["x"], ["y"], domain="local")], functions=made)


def functions_of_a_weight(calls: int, size: int) -> bytes:
    ops = [helper.make_opsetid("", 17)]
    constant = node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(size, "f4")))
    inner = [constant, node("ReduceSum", ["c"], ["s"]), node("Add", ["a", "s"], ["b"])]
    made = [helper.make_function("local", "f", ["a"], ["b"], inner, ops)]
    names = ["x", *(f"v{i}" for i in range(calls - 1)), "y"]
    chain = [node("f", [a], [b], domain="local") for a, b in itertools.pairwise(names)]
    return model(chain, functions=made)


# ---- graphs


def ifs(count: int) -> bytes:
    branch = helper.make_graph([], "e", [], [info("x", FLOAT, None)])
    both = {"then_branch": branch, "else_branch": branch}
    nodes = [node("If", ["c"], [f"o{i}"], **both) for i in range(count)]
    return model(nodes, inputs=[info("c", BOOL, [])], output="o0")


def ifs_of_one_name(count: int) -> bytes:
    """Each branch makes a value of the same name."""
    branch = helper.make_graph([node("Neg", ["x"], ["b"])], "e", [], [info("b", FLOAT, None)])
    both = {"then_branch": branch, "else_branch": branch}
    nodes = [node("If", ["c"], [f"o{i}"], **both) for i in range(count)]
    nodes.append(node("Sum", [f"o{i}" for i in range(count)], ["y"]))
    return model(nodes, inputs=[info("c", BOOL, [])])


def chain(count: int, *operators: str) -> bytes:
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    each = operators or ("Neg", "Abs")
    nodes = [
        node(each[i % len(each)], [a], [b]) for i, (a, b) in enumerate(itertools.pairwise(names))
    ]
    return model(nodes)


def as_exported(count: int) -> bytes:
    """A chain whose names are as an exporter's."""
    names = [f"/decoder/layers.{i // 20}/self_attn/Step_{i}_output_0" for i in range(count - 1)]
    nodes = [
        node("Neg" if i % 2 else "Abs", [a], [b], name=f"/decoder/layers.{i // 20}/Step_{i}")
        for i, (a, b) in enumerate(itertools.pairwise(["x", *names, "y"]))
    ]
    return model(nodes)


def wide(count: int) -> bytes:
    """One node of so many inputs."""
    return model([node("Concat", ["x"] * count, ["y"], axis=0)])


def fan(count: int) -> bytes:
    """So many nodes that read the same value, and one that reads them all."""
    nodes = [node("Neg", ["x"], [f"v{i}"]) for i in range(count)]
    return model([*nodes, node("Sum", [f"v{i}" for i in range(count)], ["y"])])


def backwards(count: int) -> bytes:
    """A chain whose nodes stand in the file from the last to the first."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    return model(nodes[::-1])


# ---- constants


def filled(count: int, size: int) -> bytes:
    value = helper.make_tensor("v", FLOAT, [1], [1.0])
    nodes = [node("ConstantOfShape", ["s"], [f"c{i}"], value=value) for i in range(count)]
    nodes += [
        node("Concat", [f"c{i}" for i in range(count)], ["z"], axis=0),
        node("ReduceMean", ["z"], ["m"]),
        node("Add", ["m", "x"], ["y"]),
    ]
    return model(nodes, constants={"s": np.array([size])}, opset=13)


def outer_product(size: int) -> bytes:
    """Two vectors in the file, and their sum as a matrix."""
    nodes = [
        node("Add", ["a", "b"], ["m"]),
        node("ReduceMean", ["m"], ["r"]),
        node("Add", ["r", "x"], ["y"]),
    ]
    constants = {"a": np.ones((size, 1), "f4"), "b": np.ones((1, size), "f4")}
    return model(nodes, constants=constants, opset=13)


def products(count: int, size: int) -> bytes:
    """Products of matrices that are made at load."""
    value = helper.make_tensor("v", FLOAT, [1], [1.0])
    nodes = [node("ConstantOfShape", ["s"], ["m0"], value=value)]
    nodes += [node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(count)]
    nodes += [node("ReduceMean", [f"m{count}"], ["r"]), node("Add", ["r", "x"], ["y"])]
    return model(nodes, constants={"s": np.array([size, size])}, opset=13)


def doubling(times: int, at_load: bool) -> bytes:
    """A value joined with itself, again and again."""
    nodes = [node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(times)]
    nodes.append(node("ReduceMean", [f"v{times}"], ["y"]))
    nodes = nodes if at_load else [node("Neg", ["x"], ["v0"]), *nodes]
    return model(nodes, constants={"v0": np.ones(3, "f4")} if at_load else {}, opset=13)


def long_work(op_type: str, count: int, shape: Sequence[int], **attributes: Any) -> bytes:
    """Operators of constants, each of which does more than it takes and makes."""
    inputs = {"TopK": ["w", "k"], "Conv": ["w", "w"], "Einsum": ["w", "w"]}
    inputs["MatMulInteger"] = ["b", "b"]
    outputs = {"TopK": 2, "Unique": 4}.get(op_type, 1)
    nodes = [node("Cast", ["b"], ["w"], to=1)]
    for number in range(count):
        made = [f"v{number}_{k}" for k in range(outputs)]
        nodes.append(node(op_type, inputs.get(op_type, ["w"]), made, **attributes))
        nodes.append(node("Cast", [made[-1]], [f"f{number}"], to=1))
        nodes.append(node("ReduceMean", [f"f{number}"], [f"m{number}"], keepdims=0))
    nodes.append(node("Sum", ["x", *(f"m{number}" for number in range(count))], ["y"]))
    values = np.arange(np.prod(shape)).reshape(shape) * 37 % 127
    return model(nodes, constants={"b": values.astype("i1"), "k": np.array([5])}, opset=13)


# ---- runs


def of_constants(op_type: str, constants: dict[str, Any], *, first: str = "x", **attributes: Any):
    """One node of x and constants, and the mean of what it makes."""
    names = [*([first] if first else []), *constants]
    return model(
        [node(op_type, names, ["v"], **attributes), node("Cast", ["v"], ["f"], to=1),
         node("ReduceMean", ["f"], ["y"])],
        constants=constants,
    )  # fmt: skip


def of_a_large_value(op_type: str, shape: Sequence[int], **attributes: Any) -> bytes:
    """One node of a value that a run makes, and the mean of what it makes of it."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], keepdims=0),
        node("Expand", ["m", "s"], ["v"]),
        node(op_type, ["v"], ["w"], **attributes),
        node("ReduceMean", ["w"], ["y"]),
    ]
    return model(nodes, constants={"s": np.array(shape)})


def loop(trips: int, nested: int = 0) -> bytes:
    """A loop that adds, so often, perhaps in loops that do so as often."""
    begin = [info("i", INT64, []), info("c", BOOL, []), info("s", FLOAT, [3])]
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["s", "s"], ["t"])],
        "b",
        begin,
        [info("d", BOOL, []), info("t", FLOAT, [3])],
    )
    for _ in range(nested):
        body = helper.make_graph(
            [node("Identity", ["c"], ["d"]), node("Loop", ["n", "", "s"], ["t"], body=body)],
            "b",
            begin,
            [info("d", BOOL, []), info("t", FLOAT, [3])],
        )
    return model([node("Loop", ["n", "", "x"], ["y"], body=body)], constants={"n": np.array(trips)})


def pieces(count: int) -> bytes:
    """A sequence of so many numbers, each a tensor."""
    nodes = [
        node("Tile", ["x", "r"], ["v"]),
        node("SplitToSequence", ["v"], ["s"], axis=0, keepdims=0),
        node("SequenceLength", ["s"], ["y"]),
    ]
    return model(nodes, constants={"r": np.array([count])}, opset=13)


def scanned(count: int) -> bytes:
    """A Scan of three times as many turns, each of which makes six numbers."""
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["t"]), node("Concat", ["s", "s"], ["o"], axis=0)],
        "b",
        [info("s", FLOAT, None), info("e", FLOAT, None)],
        [info("t", FLOAT, None), info("o", FLOAT, None)],
    )
    nodes = [
        node("Tile", ["x", "r"], ["v"]),
        node("Scan", ["x", "v"], ["last", "y"], body=body, num_scan_inputs=1),
    ]
    return model(nodes, constants={"r": np.array([count])}, opset=13)


def long_text(times: int) -> bytes:
    """A text times a number, which to Python is a longer text."""
    text = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
    return model([node("Mul", ["t", "n"], ["y"])], tensors=[text], constants={"n": np.array(times)})


def transform(length: int) -> bytes:
    """Of which NumPy's scratch memory is far larger than the result."""
    nodes = [
        node("Reshape", ["x", "s"], ["w"]),
        node("DFT", ["w", "n"], ["v"]),
        node("ReduceMean", ["v"], ["y"]),
    ]
    return model(nodes, constants={"s": np.array([1, 3, 1]), "n": np.array(length)})


def growing_loop(trips: int) -> bytes:
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Concat", ["s", "s"], ["t"], axis=0)],
        "b",
        [info("i", INT64, []), info("c", BOOL, []), info("s", FLOAT, None)],
        [info("d", BOOL, []), info("t", FLOAT, None)],
    )
    return model([node("Loop", ["n", "", "x"], ["y"], body=body)], constants={"n": np.array(trips)})


def kept_by_python(count: int, op_type: str) -> bytes:
    """A value of 12 MB, and so many nodes that make another of it, all of which are wanted."""
    nodes = [node("Tile", ["x", "r"], ["v"])]
    nodes += [node(op_type, ["v"], [f"v{i}"]) for i in range(count)]
    nodes += [node("Sum", [f"v{i}" for i in range(count)], ["y"])]
    return model(nodes, constants={"r": np.array([1_000_000])}, opset=13)


def growing_sequence(trips: int, large: bool) -> bytes:
    """A loop that puts one more tensor into a sequence, of 1 MB or of nothing."""
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    more = helper.make_tensor_sequence_value_info("t", FLOAT, None)
    body = helper.make_graph(
        [
            node("Identity", ["c"], ["d"]),
            node("Cast", ["i"], ["f"], to=1),
            node("Tile", ["x", "r"], ["v"]),
            node("Add", ["v", "f"], ["w"]),
            node("SequenceInsert", ["s", "w"], ["t"]),
        ],
        "b",
        [info("i", INT64, []), info("c", BOOL, []), sequence],
        [info("d", BOOL, []), more],
    )
    nodes = [
        node("SequenceEmpty", [], ["none"]),
        node("Loop", ["n", "", "none"], ["all"], body=body),
        node("SequenceLength", ["all"], ["y"]),
    ]
    constants = {"n": np.array(trips), "r": np.array([87_000 if large else 0])}
    return model(nodes, constants=constants, opset=13)


def columns(trips: int) -> bytes:
    """A loop that makes a row of 1 MB at each turn, all of which are wanted."""
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Tile", ["x", "r"], ["v"])],
        "b",
        [info("i", INT64, []), info("c", BOOL, [])],
        [info("d", BOOL, []), info("v", FLOAT, None)],
    )
    nodes = [
        node("Loop", ["n", ""], ["all"], body=body),
        node("ReduceMean", ["all"], ["y"]),
    ]
    constants = {"n": np.array(trips), "r": np.array([87_000])}
    return model(nodes, constants=constants, opset=13)


def external(path: Path, tensors: int, offset: Callable[[int], int], checksum: bool) -> None:
    """Tensors that lie in one file beside the model."""
    with open(path.parent / "w.bin", "wb") as file:
        for _ in range(20):
            file.write(os.urandom(1 << 20))
    digest = ""
    if checksum:
        import hashlib

        digest = hashlib.sha1((path.parent / "w.bin").read_bytes()).hexdigest()
    made = []
    for number in range(tensors):
        tensor = TensorProto(name=f"w{number}", data_type=1, dims=[5_000_000], data_location=1)
        entries = {"location": "w.bin", "offset": str(offset(number))}
        for key, value in (entries | ({"checksum": digest} if digest else {})).items():
            tensor.external_data.add(key=key, value=value)
        made.append(tensor)
    nodes = [node("ReduceMean", ["w0"], ["m"]), node("Add", ["m", "x"], ["y"])]
    path.write_bytes(model(nodes, tensors=made, opset=13))


HUGE = np.array([2**31])

ATTACKS = {
    # parsing
    "5 M empty nodes": Attack(written(empty_messages, 5_000_000, 7, 1), read, "memory"),
    "500,000 empty nodes": Attack(written(empty_messages, 500_000, 7, 1), read, "memory"),
    "5 M empty attributes": Attack(written(empty_messages, 5_000_000, 7, 1, 5), read, "memory"),
    "5 M empty tensors": Attack(written(empty_messages, 5_000_000, 7, 5), read, "memory"),
    "5 M empty entries": Attack(written(empty_messages, 5_000_000, 14), read, "memory"),
    "5 M empty axes": Attack(written(empty_messages, 5_000_000, 7, 11, 2, 1, 2, 1), read, "memory"),
    "30 M packed integers": Attack(written(packed_integers, 30_000_000), read, "memory"),
    "a name of 1 MB and 20,000 attributes": Attack(written(long_names, 20_000), read, "supported"),
    # functions
    "functions that double, 16 deep": Attack(written(functions_that_double, 16), run, "steps"),
    "functions that double, 18 deep": Attack(written(functions_that_double, 18), run, "steps"),
    "functions that double, 31 deep": Attack(written(functions_that_double, 31), run, "steps"),
    "functions that double, 90 deep": Attack(written(functions_that_double, 90), run, "steps"),
    "functions in a row, 20,000 deep": Attack(written(functions_in_a_row, 20_000), run, "deep"),
    "functions in a circle": Attack(written(functions_in_a_circle), run, "calls itself"),
    "a function of 1 MB, called 2,000 times": Attack(
        written(functions_of_a_weight, 2_000, 250_000), run, "memory"
    ),
    # graphs
    "2,000 Ifs": Attack(written(ifs, 2_000), run_if, "loads"),
    "8,000 Ifs": Attack(written(ifs, 8_000), run_if, "loads"),
    "20,000 Ifs": Attack(written(ifs, 20_000), run_if, "steps"),
    "2,500 Ifs of one name": Attack(written(ifs_of_one_name, 2_500), run_if, "loads"),
    "a chain of 10,000 nodes": Attack(written(chain, 10_000), run, "loads"),
    "a chain of 100,000 nodes": Attack(written(chain, 100_000), run, "memory"),
    "a chain of 10,000 nodes in Python": Attack(
        written(chain, 10_000, "Det", "Asinh"), read, "loads"
    ),
    "a chain of 10,000 Identities": Attack(written(chain, 10_000, "Identity"), run, "loads"),
    "30,000 nodes as exporters write them": Attack(written(as_exported, 30_000), run, "loads"),
    "150,000 nodes as exporters write them": Attack(written(as_exported, 150_000), read, "steps"),
    "10,000 nodes backwards": Attack(written(backwards, 10_000), run, "loads"),
    "a fan of 6,000 nodes": Attack(written(fan, 6_000), run, "loads"),
    "a node of 30,000 inputs": Attack(written(wide, 30_000), run, "loads"),
    "a node of 1 M inputs": Attack(written(wide, 1_000_000), run, "inputs and outputs would take"),
    # constants
    "2,000 constants of 1 MB": Attack(written(filled, 2_000, 250_000), run, "memory"),
    "a constant of 900 M elements": Attack(written(filled, 1, 900_000_000), run, "memory"),
    "a sum of two vectors of 30,000": Attack(written(outer_product, 30_000), run, "memory"),
    "5,000 products of matrices": Attack(written(products, 5_000, 400), run, "memory"),
    "a constant that doubles 60 times": Attack(written(doubling, 60, True), run, "memory"),
    "a value that doubles 60 times": Attack(written(doubling, 60, False), run, "memory"),
    # runs
    "a Loop of 2^62": Attack(written(loop, 2**62), run, "steps"),
    "Loops of 10^5 in one another": Attack(written(loop, 10**5, 3), run, "steps"),
    "a Loop that doubles": Attack(written(growing_loop, 60), run, "memory"),
    "100 values of 12 MB": Attack(written(kept_by_python, 100, "Neg"), run, "memory"),
    "100 values of 12 MB in Python": Attack(written(kept_by_python, 100, "Asinh"), run, "memory"),
    "a sequence that grows by 1 MB": Attack(written(growing_sequence, 10_000, True), run, "memory"),
    "a sequence that grows": Attack(written(growing_sequence, 20_000, False), run, "loads"),
    "a Loop that makes rows of 1 MB": Attack(written(columns, 10_000), run, "memory"),
    "Expand, then a mean": Attack(
        written(of_constants, "Expand", {"s": np.array([2**20, 2**20, 3])}), run, "memory"
    ),
    "Pad by reflection of 2^31": Attack(
        written(lambda: of_constants("Pad", {"p": np.array([0, 2**31])}, mode="reflect")),
        run,
        "memory",
    ),
    "Pad of 2^31": Attack(written(of_constants, "Pad", {"p": np.array([0, 2**31])}), run, "memory"),
    "Tile of 2^31": Attack(written(of_constants, "Tile", {"r": HUGE}), run, "memory"),
    "ConstantOfShape of 2^31": Attack(
        written(lambda: of_constants("ConstantOfShape", {"s": HUGE}, first="")), run, "memory"
    ),
    "Range of 2^40": Attack(
        written(
            lambda: of_constants(
                "Range", {"a": np.array(0), "b": np.array(2**40), "c": np.array(1)}, first=""
            )
        ),
        run,
        "memory",
    ),
    "OneHot of 2^31": Attack(
        written(
            lambda: of_constants(
                "OneHot",
                {"i": np.array([1]), "d": np.array(2**31), "p": np.array([0.0, 1.0], "f4")},
                first="",
            )
        ),
        run,
        "memory",
    ),
    "Resize by 2^28": Attack(
        written(
            lambda: of_constants("Resize", {"r": np.zeros(0, "f4"), "s": np.array([2.0**28], "f4")})
        ),
        run,
        "memory",
    ),
    "EyeLike of a matrix that is large": Attack(
        written(
            lambda: model(
                [
                    node("Expand", ["x", "s"], ["v"]),
                    node("EyeLike", ["v"], ["e"]),
                    node("ReduceMean", ["e"], ["y"]),
                ],
                constants={"s": np.array([2**20, 3])},
            )
        ),
        run,
        "loads",
    ),
    "HannWindow of 2^31": Attack(
        written(lambda: of_constants("HannWindow", {"s": np.array(2**31)}, first="")),
        run,
        "memory",
    ),
    "RandomNormal of 2^31": Attack(
        written(lambda: of_constants("RandomNormal", {}, first="", shape=[2**31])), run, "memory"
    ),
    "Gather along axis 2^30": Attack(
        written(lambda: of_constants("Gather", {"i": np.array([0])}, axis=2**30)), run, "axis"
    ),
    "LayerNormalization along axis -2^31": Attack(
        written(lambda: of_constants("LayerNormalization", {"s": np.ones(3, "f4")}, axis=-(2**31))),
        run,
        "axis",
    ),
    "Split into 2^31": Attack(
        written(lambda: model([node("Split", ["x"], ["y"], num_outputs=2**31, axis=0)], opset=18)),
        run,
        "outputs",
    ),
    "a maximum of windows of 500 x 500": Attack(
        written(of_a_large_value, "MaxPool", (1, 1, 1000, 1000), kernel_shape=[500, 500]),
        run,
        "loads",
    ),
    "a mean of windows of 100 x 100 x 100": Attack(
        written(
            of_a_large_value, "AveragePool", (1, 1, 120, 120, 120), kernel_shape=[100, 100, 100]
        ),
        run,
        "loads",
    ),
    "a maximum of windows of 2 M": Attack(
        written(of_a_large_value, "MaxPool", (1, 1, 4_000_000), kernel_shape=[2_000_000]),
        run,
        "loads",
    ),
    "a norm of windows of 500 x 500": Attack(
        written(of_a_large_value, "LpPool", (1, 1, 1000, 1000), kernel_shape=[500, 500]),
        run,
        "loads",
    ),
    "a normalization over 5,000 channels at run": Attack(
        written(of_a_large_value, "LRN", (1, 5_000, 300), size=5_000), run, "loads"
    ),
    # what takes long of constants
    "20 pools of windows of 300 x 300": Attack(
        written(lambda: long_work("MaxPool", 20, (1, 1, 600, 600), kernel_shape=[300, 300])),
        read,
        "loads",
    ),
    "a normalization over 5,000 channels": Attack(
        written(lambda: long_work("LRN", 5, (1, 5_000, 40), size=5_000)), read, "loads"
    ),
    "a convolution with 100,000 taps": Attack(
        written(lambda: long_work("Conv", 1, (1, 1, 100_000), pads=[99_999, 99_999])),
        read,
        "loads",
    ),
    "sums over all pairs of 100,000": Attack(
        written(lambda: long_work("Einsum", 9, (100_000,), equation="i,j->")), run, "loads"
    ),
    "50 orders of 400,000": Attack(
        written(lambda: long_work("TopK", 50, (400_000,), axis=0)), read, "loads"
    ),
    "50 times what is there once": Attack(
        written(lambda: long_work("Unique", 50, (400_000,))), read, "loads"
    ),
    "500 products of integers": Attack(
        written(lambda: long_work("MatMulInteger", 500, (700, 700))), read, "steps"
    ),
    "a sequence of 3 M numbers": Attack(written(pieces, 1_000_000), run, "memory"),
    "a Scan of 1 M turns": Attack(written(scanned, 333_333), run, "loads"),
    "a text, 2^31 times": Attack(written(long_text, 2**31), run, "texts"),
    "a transform of a prime length": Attack(written(lambda: transform(1_000_003)), run, "memory"),
    # beside the model
    "100 tensors at one odd offset": Attack(
        lambda path: external(path, 100, lambda number: 1, False), run, "loads"
    ),
    "100 tensors at odd offsets": Attack(
        lambda path: external(path, 100, lambda number: 1 + 2 * number, False), run, "memory"
    ),
    "a checksum of 20 MB for each of 100 tensors": Attack(
        lambda path: external(path, 100, lambda number: 4 * number, True), run, "loads"
    ),
}
