"""If, Loop and Scan in every form that they had, graphs inside of graphs, next to onnxruntime."""

import threading

import numpy as np
import pytest

import vledge
from tests.graph.models import onnx
from tests.peers import peer

ort = peer("onnxruntime")

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
COUNT = np.array(3, np.int64)
YES, NO = np.array(True), np.array(False)

# name → (graph in onnx's own text form, what is fed one run after the other, operator sets)
GRAPHS = {
    "if": (
        """(float[n, 4] x, bool c) => (float[n, 4] y) {
            twice = Add (x, x)
            y = If (c) <
                then_branch = t () => (float[n, 4] a) { a = Neg (twice) },
                else_branch = e () => (float[n, 4] b) { b = Abs (x) }
            >
        }""",
        [{"x": X, "c": YES}, {"x": X, "c": NO}],
        (7, 11, 13, 16, 21),
    ),
    "if in if, several outputs": (
        """(float[n, 4] x, bool c, bool d) => (float[n, 4] y, float[n, 4] z) {
            y, z = If (c) <
                then_branch = t () => (float[n, 4] a, float[n, 4] b) {
                    a = Exp (x)
                    b = If (d) <
                        then_branch = tt () => (float[n, 4] p) { p = Add (a, x) },
                        else_branch = te () => (float[n, 4] q) { q = Sub (a, x) }
                    >
                },
                else_branch = e () => (float[n, 4] e1, float[n, 4] e2) {
                    e1 = Identity (x)
                    e2 = Neg (x)
                }
            >
        }""",
        [{"x": X, "c": np.array(i > 1), "d": np.array(i % 2 > 0)} for i in range(4)],
        (11, 16),
    ),
    "loop with states, elements and an outer value": (
        """(float[n, 4] x, int64 m, bool c) => (float[n, 4] y, float[k, n, 4] steps) {
            y, steps = Loop (m, c, x) <
                body = b (int64 i, bool go, float[n, 4] h)
                    => (bool on, float[n, 4] next, float[n, 4] element) {
                    f = Cast <to = 1> (i)
                    next = Add (h, x)
                    element = Mul (next, f)
                    on = Identity (go)
                }
            >
        }""",
        [
            {"x": X, "m": COUNT, "c": YES},
            {"x": X, "m": COUNT, "c": NO},
            {"x": X, "m": np.array(0, np.int64), "c": YES},
            {"x": X, "m": np.array(7, np.int64), "c": YES},
        ],
        (7, 11, 13, 16, 21),
    ),
    "loop that ends itself": (
        """(float[4] x, bool c) => (float[4] y, float[k] sums) {
            y, sums = Loop (, c, x) <
                body = b (int64 i, bool go, float[4] h)
                    => (bool on, float[4] next, float total) {
                    two = Constant <value = float {2.0}> ()
                    limit = Constant <value = float {500.0}> ()
                    next = Mul (h, two)
                    total = ReduceSum <keepdims = 0> (next)
                    on = Less (total, limit)
                }
            >
        }""",
        [{"x": X[2], "c": YES}, {"x": X[1] + 9, "c": YES}, {"x": X[2], "c": NO}],
        (11, 13, 17),
    ),
    "loop in loop": (
        """(float[4] x, int64 m) => (float[4] y) {
            yes = Constant <value = bool {1}> ()
            y = Loop (m, yes, x) <
                body = outer (int64 i, bool go, float[4] h) => (bool on, float[4] next) {
                    on = Identity (go)
                    next = Loop (i, go, h) <
                        body = inner (int64 j, bool g, float[4] s) => (bool o, float[4] t) {
                            o = Identity (g)
                            t = Add (s, x)
                        }
                    >
                }
            >
        }""",
        [{"x": X[0], "m": COUNT}, {"x": X[1], "m": np.array(5, np.int64)}],
        (11, 16),
    ),
    "scan of batches": (
        """(float[b, 4] h, float[b, t, 4] x) => (float[b, 4] y, float[b, t, 4] steps) {
            y, steps = Scan <num_scan_inputs = 1,
                body = b (float[4] s, float[4] e) => (float[4] n, float[4] o) {
                    n = Add (s, e)
                    o = Mul (n, n)
                }
            > (, h, x)
        }""",
        [{"h": X[:2], "x": np.stack([X, X * 2])}, {"h": X[:1], "x": X[None]}],
        (8,),
    ),
    "scan": (
        """(float[4] h, float[t, 4] x) => (float[4] y, float[t, 4] steps) {
            y, steps = Scan <num_scan_inputs = 1,
                body = b (float[4] s, float[4] e) => (float[4] n, float[4] o) {
                    n = Add (s, e)
                    o = Mul (n, n)
                }
            > (h, x)
        }""",
        [{"h": X[0], "x": X}, {"h": X[0], "x": X[:1]}],
        (9, 11, 16, 21),
    ),
    "scan backwards, over other axes": (
        """(float[3] h, float[3, t] x, float[t, 3] z)
            => (float[3] y, float[t, 3] forwards, float[3, t] backwards) {
            y, forwards, backwards = Scan <num_scan_inputs = 2,
                scan_input_axes = [1, 0], scan_input_directions = [1, 0],
                scan_output_axes = [0, 1], scan_output_directions = [0, 1],
                body = b (float[3] s, float[3] e, float[3] f)
                    => (float[3] n, float[3] o, float[3] p) {
                    n = Add (s, e)
                    o = Mul (n, f)
                    p = Identity (e)
                }
            > (h, x, z)
        }""",
        [{"h": X[:, 0].copy(), "x": X, "z": X.T.copy()}],
        (9, 11, 16),
    ),
    "scan with negative axes": (
        """(float[3] h, float[3, t] x) => (float[3] y, float[3, t] steps) {
            y, steps = Scan <num_scan_inputs = 1, scan_input_axes = [-1], scan_output_axes = [-1],
                body = b (float[3] s, float[3] e) => (float[3] n, float[3] o) {
                    n = Add (s, e)
                    o = Identity (n)
                }
            > (h, x)
        }""",
        [{"h": X[:, 0].copy(), "x": X}],
        (11, 16),
    ),
}


def model_of(name, opset):
    header = f'<ir_version: 8, opset_import: ["" : {opset}]> graph '
    return onnx.parser.parse_model(header + GRAPHS[name][0]).SerializeToString()


@pytest.mark.parametrize(
    ("name", "opset"), [(name, opset) for name, entry in GRAPHS.items() for opset in entry[2]]
)
def test_as_onnxruntime_has_it(name, opset):
    model = model_of(name, opset)
    theirs, ours = ort.InferenceSession(model), vledge.InferenceSession(model)
    for feed in GRAPHS[name][1]:
        for output, wanted in zip(ours.run(None, feed), theirs.run(None, feed), strict=True):
            assert output.dtype == wanted.dtype
            assert output.shape == wanted.shape
            np.testing.assert_allclose(output, wanted, 1e-6)


def test_threads_share_a_loop():
    session = vledge.InferenceSession(model_of("loop with states, elements and an outer value", 16))
    feeds = [{"x": X * i, "m": np.array(i, np.int64), "c": YES} for i in range(8)]
    wanted = [session.run(None, feed) for feed in feeds]
    outputs = [None] * len(feeds)

    def work(index):
        for _ in range(20):
            outputs[index] = session.run(None, feeds[index])

    threads = [threading.Thread(target=work, args=[i]) for i in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for output, expected in zip(outputs, wanted, strict=True):
        for array, reference in zip(output, expected, strict=True):
            np.testing.assert_array_equal(array, reference)


def test_a_node_that_fails_in_a_branch_is_named():
    graph = """(float[n, 4] x, bool c) => (float[n, 4] y) {
        y = If (c) <
            then_branch = t () => (float[n, 4] a) {
                shape = Constant <value = int64[1] {5}> ()
                a = Reshape (x, shape)
            },
            else_branch = e () => (float[n, 4] b) { b = Abs (x) }
        >
    }"""
    header = '<ir_version: 8, opset_import: ["" : 17]> graph '
    model = onnx.parser.parse_model(header + graph).SerializeToString()
    session = vledge.InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x": X, "c": NO})[0], abs(X))
    with pytest.raises(ValueError, match="the Reshape node that makes 'a"):
        session.run(None, {"x": X, "c": YES})
