"""ai.onnx.ml's operators beside onnxruntime: random tables, models, forests and labels."""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node, numpy_helper
from tests.peers import peer
from vledge import InferenceSession
from vledge.errors import FormatError, UnsupportedError, VledgeError
from vledge.graph.prepared import prepare
from vledge.model.definition import Node

onnxruntime = peer("onnxruntime")
ML = "ai.onnx.ml"
LABELS = {"classlabels_int64s": [4, 9, 7], "classlabels_strings": ["a", "b", "c"]}


@pytest.fixture(params=range(20))
def rng(request):
    return np.random.default_rng(request.param)


def among(rng, *choices):
    return choices[rng.integers(len(choices))]


def agreed(op_type, arrays, attributes, outputs=1, version=1, close=1e-5):
    """Ours, by the session and by the node's own function, beside onnxruntime's."""
    made = [f"y{n}" for n in range(outputs)]
    one = node(op_type, list(arrays), made, domain=ML, **attributes)
    model = model_bytes([one], arrays, made, opset=17, versions={ML: version})
    session = onnxruntime.InferenceSession(model)
    expected = session.run(None, arrays)
    ours = InferenceSession(model).run(None, arrays)
    plain = Node(op_type, list(arrays), made, attributes, domain=ML)
    alone = prepare(plain, {"": 17, ML: version}, {}, options={}).call(*arrays.values())
    for results in (ours, alone):
        for x, y in zip(results, expected, strict=True):
            assert x.shape == y.shape
            assert x.dtype == y.dtype
            if x.dtype == object:
                assert x.tolist() == y.tolist()
            else:
                np.testing.assert_allclose(x, y, atol=close, rtol=close)
    return expected


def table(rng, dtype=np.float32):
    rows, columns = rng.integers(1, 7, 2)
    return (3 * rng.standard_normal((rows, columns))).astype(dtype)


def test_scaler(rng):
    x = table(rng, among(rng, np.float32, np.int64, np.float64, np.int32))
    columns = x.shape[1] if rng.random() < 0.7 else 1
    offset, scale = (rng.standard_normal(columns).tolist() for _ in range(2))
    agreed("Scaler", {"x": x}, {"offset": offset, "scale": scale})


@pytest.mark.parametrize("norm", ["L1", "L2", "MAX"])
def test_normalizer(rng, norm):
    x = table(rng, among(rng, np.float32, np.int64))
    x[rng.random(len(x)) < 0.3] = 0
    agreed("Normalizer", {"x": np.abs(x) if norm == "MAX" else x}, {"norm": norm})


def test_binarizer(rng):
    agreed("Binarizer", {"x": table(rng)}, {"threshold": float(rng.standard_normal())})


def test_imputer(rng):
    x = table(rng)
    x[rng.random(x.shape) < 0.3] = np.nan
    values = rng.standard_normal(among(rng, 1, x.shape[1])).tolist()
    given = {"imputed_value_floats": values, "replaced_value_float": float("nan")}
    agreed("Imputer", {"x": x}, given)


def test_array_feature_extractor(rng):
    x = table(rng, among(rng, np.float32, np.int64))
    at = rng.integers(0, x.shape[1], (1, int(rng.integers(1, 5))))
    agreed("ArrayFeatureExtractor", {"x": x, "at": at}, {})


def test_feature_vectorizer(rng):
    x, y = table(rng), table(rng)
    y = np.resize(y, (len(x), y.shape[1]))
    sizes = [x.shape[1], y.shape[1]]
    agreed("FeatureVectorizer", {"x": x, "y": y}, {"inputdimensions": sizes})


def test_feature_vectorizer_of_one_row():
    agreed("FeatureVectorizer", {"x": np.arange(3, dtype=np.float32)}, {"inputdimensions": [3]})


@pytest.mark.parametrize("opset", [1, 6, 8, 10])
@pytest.mark.parametrize("op_type", ["Normalizer", "Scaler", "TreeEnsembleRegressor"])
def test_old_operator_sets_have_them(op_type, opset):
    """Which lack what they are made of, or have it in another way."""
    given = {"Normalizer": {"norm": "L2"}, "Scaler": {"offset": [0.5]}}.get(op_type, LEAF)
    x = np.array([[3, -4], [0, 0]], np.float32)
    one = node(op_type, ["x"], ["y"], domain=ML, **given)
    model = model_bytes([one], {"x": x}, ["y"], opset=opset, versions={ML: 1})
    (y,) = InferenceSession(model).run(None, {"x": x})
    expected = {"Normalizer": [[0.6, -0.8], [0, 0]], "Scaler": x - 0.5}.get(op_type, [[1], [1]])
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_one_hot_encoder(rng):
    x = rng.integers(0, 6, (4, 2))
    agreed("OneHotEncoder", {"x": x}, {"cats_int64s": [0, 2, 5], "zeros": 1})
    words = np.array(["a", "b", "zz"], object)[rng.integers(0, 3, (3, 1))]
    agreed("OneHotEncoder", {"x": words}, {"cats_strings": ["a", "b"], "zeros": 1})


KINDS = {"int64s": [3, 1, 8, 5], "floats": [0.5, 3.0, -2.0, 7.0], "strings": ["x", "y", "z", "w"]}
COLUMNS = {"int64s": np.array([3, 1, 8, 5, 77]), "floats": np.array([0.5, 3, -2, 7, 9], np.float32),
           "strings": np.array(["x", "y", "z", "w", "?"], object)}  # fmt: skip
PAIRS = [("int64s", "floats"), ("int64s", "strings"), ("floats", "int64s"), ("floats", "strings"),
         ("strings", "int64s"), ("strings", "floats"), ("strings", "strings"),
         ("int64s", "int64s"), ("floats", "floats")]  # fmt: skip


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize(("keys", "values"), PAIRS)
def test_label_encoder(rng, keys, values, version):
    x = COLUMNS[keys][rng.integers(0, 5, rng.integers(1, 6, 2))]
    given = {f"keys_{keys}": KINDS[keys], f"values_{values}": KINDS[values]}
    default = {"int64s": ("default_int64", 12), "floats": ("default_float", 2.5),
               "strings": ("default_string", "none")}  # fmt: skip
    if rng.random() < 0.6:
        name, value = default[values]
        given[name] = value
    agreed("LabelEncoder", {"x": x}, given, version=version)


def test_linear_regressor(rng):
    x = table(rng)
    targets = int(rng.integers(1, 4))
    given = {
        "coefficients": rng.standard_normal(targets * x.shape[1]).tolist(),
        "targets": targets,
        "post_transform": "NONE",
    }
    if rng.random() < 0.7:
        given["intercepts"] = rng.standard_normal(targets).tolist()
    agreed("LinearRegressor", {"x": x}, given)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_linear_classifier(rng, transform):
    x = table(rng, among(rng, np.float32, np.int64))
    classes = int(rng.integers(2, 4))
    targets = 1 if classes == 2 and transform != "SOFTMAX" and rng.random() < 0.5 else classes
    words = rng.random() < 0.5
    labels = LABELS["classlabels_strings" if words else "classlabels_int64s"][:classes]
    given = {
        "classlabels_strings" if words else "classlabels_ints": labels,
        "coefficients": rng.standard_normal(targets * x.shape[1]).tolist(),
        "intercepts": rng.standard_normal(targets).tolist(),
        "post_transform": transform,
    }
    agreed("LinearClassifier", {"x": x}, given, 2)


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def forest(rng, columns, modes):
    """Attributes of the nodes of random trees, and the tree and number of each leaf."""
    names = "treeids nodeids featureids values modes truenodeids falsenodeids"
    nodes = {name: [] for name in names.split()}
    leaves = []
    for tree in range(int(rng.integers(1, 5))):
        count = 1 + 2 * int(rng.integers(0, 8))
        is_leaf, children = np.ones(count, bool), np.zeros((count, 2), int)
        made = 1
        while made < count:
            at = int(rng.choice(np.flatnonzero(is_leaf[:made])))
            is_leaf[at], children[at], made = False, (made, made + 1), made + 2
        for number in range(count):
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(number)
            nodes["featureids"].append(0 if is_leaf[number] else int(rng.integers(columns)))
            nodes["values"].append(float(np.round(3 * rng.standard_normal())))
            nodes["modes"].append("LEAF" if is_leaf[number] else among(rng, *modes))
            nodes["truenodeids"].append(int(children[number, 0]))
            nodes["falsenodeids"].append(int(children[number, 1]))
            if is_leaf[number]:
                leaves.append((tree, number))
    given = {f"nodes_{name}": values for name, values in nodes.items()}
    if rng.random() < 0.5:
        tracks = [int(v) for v in rng.integers(0, 2, len(nodes["modes"]))]
        given["nodes_missing_value_tracks_true"] = tracks
    return given, leaves


def features(rng):
    x = np.round(table(rng))  # so that some are just what a node splits by
    x[rng.random(x.shape) < 0.2] = np.nan
    return x


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_forests_of_numbers(rng, aggregate):
    x = features(rng)
    given, leaves = forest(rng, x.shape[1], MODES if rng.random() < 0.5 else MODES[:1])
    targets = int(rng.integers(1, 4))
    ends = [(*leaf, target) for leaf in leaves for target in range(targets)]
    given["target_treeids"], given["target_nodeids"], given["target_ids"] = map(
        list, zip(*ends, strict=True)
    )
    given["target_weights"] = rng.standard_normal(len(ends)).tolist()
    given |= {"n_targets": targets, "aggregate_function": aggregate}
    if rng.random() < 0.5:
        given["base_values"] = rng.standard_normal(targets).tolist()
    agreed("TreeEnsembleRegressor", {"x": x}, given)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("kind", ["several", "two", "positive"])
def test_forests_of_classes(rng, transform, kind):
    x = features(rng)
    given, leaves = forest(rng, x.shape[1], MODES if rng.random() < 0.5 else MODES[:1])
    words = rng.random() < 0.5
    name = "classlabels_strings" if words else "classlabels_int64s"
    given[name] = LABELS[name][: 3 if kind == "several" else 2]
    if kind == "several":
        ends = [(*leaf, label) for leaf in leaves for label in range(3)]
    else:
        ends = [(*leaf, 0) for leaf in leaves]
    given["class_treeids"], given["class_nodeids"], given["class_ids"] = map(
        list, zip(*ends, strict=True)
    )
    weights = rng.standard_normal(len(ends))
    given["class_weights"] = (np.abs(weights) / 4 if kind == "positive" else weights).tolist()
    given["post_transform"] = transform
    agreed("TreeEnsembleClassifier", {"x": x}, given, 2)


@pytest.mark.parametrize("mode", MODES)
def test_splits_of_double_precision(rng, mode):
    """Features lie between a split and the float32 next to it."""
    x = np.round(table(rng)).astype(np.float64)
    x += rng.choice([-1e-9, 0, 1e-9], x.shape)
    given, leaves = forest(rng, x.shape[1], [mode])
    splits = np.array(given.pop("nodes_values")) + 5e-10
    given["nodes_values_as_tensor"] = numpy_helper.from_array(splits)
    given["target_treeids"], given["target_nodeids"] = map(list, zip(*leaves, strict=True))
    given["target_ids"] = [0] * len(leaves)
    weights = rng.standard_normal(len(leaves))
    given["target_weights_as_tensor"] = numpy_helper.from_array(weights)
    given["n_targets"] = 1
    one = node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, **given)
    model = model_bytes([one], {"x": x}, ["y"], versions={ML: 3})
    (expected,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    (ours,) = InferenceSession(model).run(None, {"x": x})
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


LEAF = {"nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_values": [0.0],
        "nodes_modes": ["LEAF"], "nodes_truenodeids": [0], "nodes_falsenodeids": [0],
        "target_treeids": [0], "target_nodeids": [0], "target_ids": [0],
        "target_weights": [1.0]}  # fmt: skip
THREE = LEAF | {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3,
                "nodes_values": [0.0] * 3, "nodes_modes": ["BRANCH_LEQ"] * 2 + ["LEAF"],
                "nodes_truenodeids": [1, 2, 0], "nodes_falsenodeids": [2, 2, 0]}  # fmt: skip

CIRCLE = LEAF | {"nodes_treeids": [0] * 5, "nodes_nodeids": [0, 1, 2, 3, 4],
                 "nodes_featureids": [0] * 5, "nodes_values": [0.0] * 5,
                 "nodes_modes": ["LEAF", "BRANCH_LT", "BRANCH_LT", "LEAF", "LEAF"],
                 "nodes_truenodeids": [0, 2, 1, 0, 0],
                 "nodes_falsenodeids": [0, 3, 4, 0, 0]}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_modes": ["BRANCH"]}, "has 'BRANCH', which is no mode"),
        ({"nodes_modes": ["BRANCH_LEQ"]}, "the child of several"),
        (CIRCLE, "circle"),
        ({"nodes_values": []}, "attributes of 1 nodes are of"),
        ({"target_nodeids": [3]}, "a weight is of the tree and node"),
        ({"target_ids": [1]}, "outside of the 1"),
        ({"n_targets": 0}, "0 targets"),
        (THREE, "the child of several"),
        (THREE | {"nodes_truenodeids": [1, 7, 0]}, "a child is the tree and node"),
        (THREE | {"nodes_nodeids": [0, 1, 1]}, "the same number"),
        (THREE | {"nodes_featureids": [-1, 0, 0]}, "several|below 0"),
    ],
)
def test_what_is_no_tree_is_refused(changes, message):
    plain = Node("TreeEnsembleRegressor", ["x"], ["y"], LEAF | changes, "forest", ML)
    with pytest.raises(FormatError, match=f"node 'forest'.*({message})"):
        prepare(plain, {"": 17, ML: 3}, {}, options={})


def test_too_few_features_are_refused():
    given = LEAF | {"nodes_modes": ["LEAF"]}
    deep = given | {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [4, 0, 0],
        "nodes_values": [0.0] * 3, "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_nodeids": [1],
    }  # fmt: skip
    x = np.zeros((2, 3), np.float32)
    one = node("TreeEnsembleRegressor", ["x"], ["y"], "forest", domain=ML, **deep)
    session = InferenceSession(model_bytes([one], {"x": x}, ["y"], versions={ML: 3}))
    with pytest.raises((ValueError, VledgeError), match=r"node 'forest'.*3 features.*ask for 5"):
        session.run(None, {"x": x})


@pytest.mark.parametrize("modes", [MODES[:1], MODES[1:2], MODES[2:3], MODES[3:4], MODES[:4]])
def test_forests_run_natively(rng, modes):
    """Bit for bit as in Python: what is added up is so in double precision."""
    x = features(rng)
    given, leaves = forest(rng, x.shape[1], modes)
    given["target_treeids"], given["target_nodeids"] = map(list, zip(*leaves, strict=True))
    given["target_ids"] = [0] * len(leaves)
    given["target_weights"] = rng.standard_normal(len(leaves)).astype(np.float32).tolist()
    one = node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, **given)
    session = InferenceSession(model_bytes([one], {"x": x}, ["y"], versions={ML: 3}))
    native = session._plan.native
    declined = np.zeros(len(native.handlers), np.int32)
    (ours,) = native.program.run([x], (np.zeros(len(declined), np.int64), declined))
    assert native.handlers == ["trees"]
    assert not declined.any()
    np.testing.assert_array_equal(ours, session._plan.function(x)[0])


def test_a_list_of_maps_is_refused_with_what_to_do():
    one = node("ZipMap", ["x"], ["y"], "maps", domain=ML, classlabels_int64s=[0, 1])
    x = np.zeros((2, 2), np.float32)
    with pytest.raises(UnsupportedError, match=r"node 'maps' .*zipmap"):
        InferenceSession(model_bytes([one], {"x": x}, ["y"], versions={ML: 3}))
