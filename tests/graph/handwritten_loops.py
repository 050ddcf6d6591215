"""Recurrences as exporters and people write them by hand: bodies of small operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.graph.models import helper, node, onnx

__all__ = ["FEATURES", "HIDDEN", "Recurrence"]

FEATURES, HIDDEN = 5, 6
GATES = {"lstm": 4, "gru": 3, "gru_before": 3, "tanh": 1, "relu": 1}
FLOAT, INT64, BOOL = (onnx.TensorProto.DataType.Value(n) for n in ("FLOAT", "INT64", "BOOL"))


@dataclass
class Recurrence:
    """One recurrence in one of its many clothes; ``model()`` and ``feed()`` are what tests take.

    ``loop`` is "trips", "while" (counters and a bound), "backwards" (a while from the last frame
    on), "scan" or "scan_reverse"; ``product`` is "matmul", "gemm", "joined" (x and h in one
    product) or "split" (a product for each gate); ``mask`` is "", "where", "inverted" or
    "arithmetic"; ``masked`` what the output is at masked steps: "zero", "hold" or "last".
    """

    cell: str = "lstm"
    loop: str = "trips"
    product: str = "matmul"
    mask: str = ""
    masked: str = "zero"
    declared: bool = True
    seed: int = 0
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        gates = GATES[self.cell]
        self.rng = rng

        def random(*shape: int) -> np.ndarray:
            return rng.uniform(-0.6, 0.6, shape).astype(np.float32)

        self.w, self.r = random(gates, FEATURES, HIDDEN), random(gates, HIDDEN, HIDDEN)
        self.b, self.rb = random(gates, HIDDEN), random(gates, HIDDEN)

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(node(op, inputs, [output], **attributes))
        return output

    def const(self, name: str, array: Any) -> str:
        self.constants[name] = np.asarray(array)
        return name

    # ---- the cell's equations

    def products(self, x: str, h: str, gates: range, suffix: str = "") -> list[str]:
        """x W + h R + b of some gates."""
        first, last = gates[0], gates[-1] + 1
        w = np.concatenate(list(self.w[first:last]), 1)
        r = np.concatenate(list(self.r[first:last]), 1)
        b = (self.b + self.rb)[first:last].ravel()
        if self.product == "split":
            names = []
            for g in gates:
                self.const(f"w{g}", self.w[g])
                self.const(f"r{g}", self.r[g])
                self.const(f"b{g}", self.b[g] + self.rb[g])
                self.add("MatMul", [x, f"w{g}"], f"xw{g}")
                self.add("Add", [f"xw{g}", f"b{g}"], f"xb{g}")
                self.add("MatMul", [h, f"r{g}"], f"hr{g}")
                names.append(self.add("Add", [f"hr{g}", f"xb{g}"], f"a{g}"))
            return names
        if self.product == "joined":
            self.const(f"wr{suffix}", np.concatenate([w, r]))
            self.const(f"bias{suffix}", b)
            self.add("Concat", [x, h], f"xh{suffix}", axis=1)
            self.add("MatMul", [f"xh{suffix}", f"wr{suffix}"], f"p{suffix}")
            self.add("Add", [f"p{suffix}", f"bias{suffix}"], f"a{suffix}")
        elif self.product == "gemm":
            self.const(f"w{suffix}", np.ascontiguousarray(w.T))
            self.const(f"r{suffix}", np.ascontiguousarray(r.T))
            self.const(f"bias{suffix}", b)
            self.add("Gemm", [x, f"w{suffix}", f"bias{suffix}"], f"xw{suffix}", transB=1)
            self.add("Gemm", [h, f"r{suffix}"], f"hr{suffix}", transB=1)
            self.add("Add", [f"hr{suffix}", f"xw{suffix}"], f"a{suffix}")
        else:
            self.const(f"w{suffix}", w)
            self.const(f"r{suffix}", r)
            self.const(f"bias{suffix}", b)
            self.add("MatMul", [x, f"w{suffix}"], f"xw{suffix}")
            self.add("MatMul", [h, f"r{suffix}"], f"hr{suffix}")
            self.add("Add", [f"xw{suffix}", f"hr{suffix}"], f"s{suffix}")
            self.add("Add", [f"s{suffix}", f"bias{suffix}"], f"a{suffix}")
        return self.split(f"a{suffix}", len(gates), suffix)

    def split(self, name: str, count: int, suffix: str) -> list[str]:
        if count == 1:
            return [name]
        self.const(f"sizes{count}", np.full(count, HIDDEN, np.int64))
        names = [f"g{suffix}{k}" for k in range(count)]
        self.nodes.append(node("Split", [name, f"sizes{count}"], names, axis=-1))
        return names

    def step(self, x: str, h: str, c: str) -> tuple[str, str]:
        """The new states, h and, for an LSTM, c."""
        if self.cell == "lstm":
            i, f, g, o = self.products(x, h, range(4))
            for gate in (i, f, o):
                self.add("Sigmoid", [gate], f"s_{gate}")
            self.add("Tanh", [g], "candidate")
            self.add("Mul", [f"s_{f}", c], "kept")
            self.add("Mul", [f"s_{i}", "candidate"], "added")
            self.add("Add", ["kept", "added"], "c_new")
            self.add("Tanh", ["c_new"], "tanh_c")
            return self.add("Mul", [f"s_{o}", "tanh_c"], "h_new"), "c_new"
        if self.cell in ("tanh", "relu"):
            (a,) = self.products(x, h, range(1))
            return self.add(self.cell.capitalize(), [a], "h_new"), ""
        r, z = self.products(x, h, range(2))
        self.add("Sigmoid", [r], "reset")
        self.add("Sigmoid", [z], "update")
        self.const("wn", self.w[2])
        self.const("rn", self.r[2])
        self.const("bn", self.b[2])
        self.add("MatMul", [x, "wn"], "xn")
        self.add("Add", ["xn", "bn"], "xbn")
        if self.cell == "gru":
            self.const("rbn", self.rb[2])
            self.add("MatMul", [h, "rn"], "hn")
            self.add("Add", ["hn", "rbn"], "hbn")
            self.add("Mul", ["reset", "hbn"], "gated")
        else:
            self.add("Mul", ["reset", h], "rh")
            self.add("MatMul", ["rh", "rn"], "gated")
        self.add("Add", ["xbn", "gated"], "an")
        self.add("Tanh", ["an"], "candidate")
        self.const("one", np.float32(1))
        self.add("Sub", ["one", "update"], "rest")
        self.add("Mul", ["rest", "candidate"], "new_part")
        self.add("Mul", ["update", h], "old_part")
        return self.add("Add", ["old_part", "new_part"], "h_new"), ""

    def chosen(self, mask: str, new: str, old: str, output: str) -> str:
        if self.mask == "where":
            return self.add("Where", [mask, new, old], output)
        if self.mask == "inverted":
            self.add("Not", [mask], f"{output}_not")
            return self.add("Where", [f"{output}_not", old, new], output)
        self.add("Cast", [mask], f"{output}_on", to=FLOAT)
        self.add("Not", [mask], f"{output}_not")
        self.add("Cast", [f"{output}_not"], f"{output}_off", to=FLOAT)
        self.add("Mul", [f"{output}_on", new], f"{output}_1")
        self.add("Mul", [old, f"{output}_off"], f"{output}_2")
        return self.add("Add", [f"{output}_1", f"{output}_2"], output)

    # ---- the loop

    def model(self, extra: str = "") -> bytes:
        """``extra`` breaks the recurrence: what is no layer any more."""
        lstm, scan = self.cell == "lstm", self.loop.startswith("scan")
        states = ["h", "c"] if lstm else ["h"]
        if self.mask and self.masked == "last":
            states.append("last")
        self.nodes = []
        x, mask = "x", "m"
        if not scan:
            place = {"trips": "i", "while": "t", "backwards": "t"}[self.loop]
            self.add("Gather", ["X", place], "x", axis=0)
            if self.mask:
                self.add("Gather", ["M", place], "m", axis=0)
        if extra == "feedback":  # the input depends on the state
            self.add("MatMul", ["h", "feedback"], "fed")
            self.const("feedback", self.rng.uniform(-1, 1, (HIDDEN, FEATURES)).astype(np.float32))
            x = self.add("Add", ["x", "fed"], "x_fed")
        h, c = self.step(x, "h", "c")
        if extra == "clipped":  # something acts on the state between steps
            self.const("cap", np.float32(0.05))
            h = self.add("Min", [h, "cap"], "h_clipped")
        following, column = [h, c] if lstm else [h], h
        if extra == "swapped":
            following = following[::-1]
        if extra == "peeked":
            column = self.add("Add", [h, "h"], "with_old")
        if self.mask:
            self.const("zeros", np.zeros((1, HIDDEN), np.float32))
            following = [
                self.chosen(mask, new, old, f"{old}_next")
                for new, old in zip(following, states, strict=False)
            ]
            if self.masked == "zero":
                column = self.chosen(mask, h, "zeros", "y")
            elif self.masked == "hold":
                column = following[0]
            else:
                column = self.chosen(mask, h, "last", "y")
                following.append(column)
        self.add("Identity", [column], "column")
        names = [
            self.add("Identity", [name], f"{state}_out")
            for name, state in zip(following, states, strict=True)
        ]
        return self._looped(states, names, lstm, scan)

    def _info(self, name: str, kind: int, shape: list[Any] | None) -> Any:
        return helper.make_tensor_value_info(name, kind, shape if self.declared else None)

    def _looped(self, states: list[str], names: list[str], lstm: bool, scan: bool) -> bytes:
        matrix = [None, HIDDEN]
        ins = [self._info(name, FLOAT, matrix) for name in states]
        outs = [self._info(name, FLOAT, matrix) for name in names]
        columns = [self._info("column", FLOAT, matrix)]
        initial = ["h0", "c0"] if lstm else ["h0"]
        initial += ["last0"] * (len(states) - len(initial))
        finals = [f"{state}_n" for state in states]
        inputs: dict[str, Any] = {"X": (FLOAT, [None, None, FEATURES])}
        if self.mask:
            inputs["M"] = (BOOL, [None, None, 1])
        outer: list[Any] = []
        if "last0" in initial:  # both begin as zeros, made apart
            self.const("rows_at", np.array([1]))
            self.const("units", np.array([HIDDEN]))
            outer += [
                node("Shape", ["X"], ["x_shape"]),
                node("Gather", ["x_shape", "rows_at"], ["rows"], axis=0),
                node("Concat", ["rows", "units"], ["state_shape"], axis=0),
                node("ConstantOfShape", ["state_shape"], ["h0"]),
                node("ConstantOfShape", ["state_shape"], ["last0"]),
            ]
        own = [name for name in initial if "last0" not in initial or name == "c0"]
        inputs |= {name: (FLOAT, [None, HIDDEN]) for name in own}
        if scan:
            elements = ["x", *["m"] * bool(self.mask)]
            ins += [self._info("x", FLOAT, [None, FEATURES])]
            ins += [self._info("m", BOOL, [None, 1])] * bool(self.mask)
            way = {}
            if self.loop == "scan_reverse":
                way = {
                    "scan_input_directions": [1] * len(elements),
                    "scan_output_directions": [1],
                }
            body = helper.make_graph(self.nodes, "body", ins, outs + columns)
            sequences = ["X", *["M"] * bool(self.mask)]
            outer.append(
                node(
                    "Scan",
                    [*initial, *sequences],
                    [*finals, "Y"],
                    body=body,
                    num_scan_inputs=len(sequences),
                    **way,
                )
            )
        else:
            outer += self._loop(initial, ins, outs, columns, finals)
        declared = [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()]
        graph = helper.make_graph(
            outer,
            "graph",
            declared,
            [helper.make_tensor_value_info(name, FLOAT, None) for name in ("Y", *finals)],
            [onnx.numpy_helper.from_array(a, name) for name, a in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())

    def _loop(self, initial: Any, ins: Any, outs: Any, columns: Any, finals: Any) -> list[Any]:
        def scalar(name: str, kind: int) -> Any:
            return helper.make_tensor_value_info(name, kind, [])

        self.const("axis0", np.array([0]))
        self.const("one_i", np.array(1))
        self.const("zero_i", np.array(0))
        outer = [
            node("Shape", ["X"], ["shape"]),
            node("Gather", ["shape", "zero_i"], ["n"], axis=0),
        ]
        leading = [scalar("i", INT64), scalar("going", BOOL)]
        if self.loop == "trips":
            self.nodes.append(node("Identity", ["going"], ["going_out"]))
            body = helper.make_graph(
                self.nodes, "body", leading + ins, [scalar("going_out", BOOL), *outs, *columns]
            )
            self.const("true", np.array(True))
            call = node("Loop", ["n", "true", *initial], [*finals, "Y"], body=body)
            return [*outer, call]
        if self.loop == "while":
            self.nodes += [
                node("Add", ["t", "one_i"], ["t_next"]),
                node("Cast", ["t_next"], ["t_float"], to=FLOAT),
                node("Cast", ["bound"], ["n_float"], to=FLOAT),
                node("Less", ["t_float", "n_float"], ["going_out"]),
                node("Identity", ["bound"], ["bound_out"]),
            ]
            outer += [
                node("Identity", ["zero_i"], ["t0"]),
                node("Less", ["zero_i", "n"], ["begins"]),
            ]
        else:
            self.nodes += [
                node("Sub", ["t", "one_i"], ["t_next"]),
                node("Add", ["i", "one_i"], ["i_next"]),
                node("Less", ["i_next", "bound"], ["going_out"]),
                node("Identity", ["bound"], ["bound_out"]),
            ]
            outer += [
                node("Sub", ["n", "one_i"], ["t0"]),
                node("Greater", ["n", "zero_i"], ["begins"]),
            ]
        carried = [scalar("t", INT64), scalar("bound", INT64)]
        handed = [scalar("t_next", INT64), scalar("bound_out", INT64)]
        body = helper.make_graph(
            self.nodes,
            "body",
            [*leading, *carried, *ins],
            [scalar("going_out", BOOL), *handed, *outs, *columns],
        )
        call = node(
            "Loop", ["", "begins", "t0", "n", *initial], ["t_n", "bound_n", *finals, "Y"], body=body
        )
        return [*outer, call]

    def feed(self, steps: int, rows: int, mask: str = "holes") -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed + 1)
        given = {"X": rng.standard_normal((steps, rows, FEATURES)).astype(np.float32)}
        if self.mask:
            own = rng.random((steps, rows, 1)) < 0.6
            if mask == "none":
                own[:] = True
            elif mask == "all":
                own[:] = False
            elif mask == "padded":
                own = np.arange(steps)[:, None, None] < rng.integers(0, steps + 1, (1, rows, 1))
            given["M"] = own
        if not self.mask or self.masked != "last":
            given["h0"] = rng.uniform(-1, 1, (rows, HIDDEN)).astype(np.float32)
        if self.cell == "lstm":
            given["c0"] = rng.uniform(-1, 1, (rows, HIDDEN)).astype(np.float32)
        return given
