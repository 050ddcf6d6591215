"""LiteRT (TensorFlow Lite): Keras layers as tensorflow converts them, and a cell for single steps.

An LSTM becomes one fused operator; a GRU a loop of small ones. Their batch is fixed.
"""

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import ways
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]

# By name: Keras 2, whose layers the converter fuses, and no chatter.
SETTINGS = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

# torch's gates i, f, g, o are Keras's; its r, z, n are z, r, n there.
GATES = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2)}


def version() -> str | None:
    if any(
        importlib.util.find_spec(m) is None for m in ("ai_edge_litert", "tensorflow", "tf_keras")
    ):
        return None
    return importlib.metadata.version("ai-edge-litert")


def notes() -> Sequence[str]:
    made = importlib.metadata.version("tensorflow-cpu")
    return [
        f"LiteRT's models are made by tensorflow {made}, each for one batch and length; single "
        "steps are a cell of products and equations under XNNPACK; different lengths are padded, "
        "and in four buckets"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    os.environ.update(SETTINGS)
    if workload.streaming:
        return [_stepped(workload, weights, inputs, threads)]

    def equal(part: Workload) -> ways.Run:
        net = Net(_layers(part, weights), threads)
        (x,), (y,) = net.inputs, net.outputs

        def run(values: Array) -> Outputs:
            net.reset()  # the fused operator keeps its state
            net.set(x, np.ascontiguousarray(values.transpose(1, 0, 2)))
            net.invoke()
            return Outputs(net.get(y).transpose(1, 0, 2), None, None)

        return run

    return ways.batches("litert", workload, inputs, equal)


class Net:
    """An interpreter of a converted model, with its inputs' and outputs' indices by their names."""

    def __init__(self, content: bytes, threads: int):
        from ai_edge_litert.interpreter import Interpreter

        self._net = Interpreter(model_content=content, num_threads=threads)
        self._net.allocate_tensors()
        self.reset, self.invoke = self._net.reset_all_variables, self._net.invoke
        self.set, self.get = self._net.set_tensor, self._net.get_tensor
        by_name = sorted(self._net.get_input_details(), key=lambda detail: detail["name"])
        self.inputs = [detail["index"] for detail in by_name]
        by_name = sorted(self._net.get_output_details(), key=lambda detail: detail["name"])
        self.outputs = [detail["index"] for detail in by_name]


def _layers(workload: Workload, weights: dict[str, Array]) -> bytes:
    """A model of stacked Keras layers, x [B, T, I] to y [B, T, D * H]."""
    import tensorflow
    import tf_keras

    layer = getattr(tf_keras.layers, workload.cell)
    shape = (workload.batch, workload.time_steps, workload.input_size)
    stack = [tf_keras.layers.InputLayer(shape[1:], batch_size=shape[0])]
    values = []
    for number in range(workload.num_layers):
        each = layer(workload.hidden_size, return_sequences=True)
        stack.append(tf_keras.layers.Bidirectional(each) if workload.bidirectional else each)
        suffixes = [f"l{number}", f"l{number}_reverse"][: workload.directions]
        values.append([v for suffix in suffixes for v in _keras(workload, weights, suffix)])
    model = tf_keras.Sequential(stack)
    for built, arrays in zip(model.layers, values, strict=True):
        built.set_weights(arrays)
    signature = tensorflow.TensorSpec(shape, tensorflow.float32)
    function = tensorflow.function(lambda x: model(x)).get_concrete_function(signature)
    # by a saved model: of a Keras model itself the converter fuses nothing
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, save_format="tf", signatures=function)
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(folder)
        content: bytes = converter.convert()
    return content


def _keras(workload: Workload, weights: dict[str, Array], suffix: str) -> list[Array]:
    """Kernel [I, G * H], recurrent kernel [H, G * H] and bias as Keras holds them."""

    def ordered(name: str) -> Array:
        gates = np.split(weights[f"{name}_{suffix}"], workload.gates)
        return np.concatenate([gates[gate] for gate in GATES[workload.cell]])

    biases = ordered("bias_ih"), ordered("bias_hh")
    bias = sum(biases) if workload.cell == "LSTM" else np.stack(biases)
    return [ordered("weight_ih").T, ordered("weight_hh").T, np.asarray(bias)]


def _stepped(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> Contestant:
    import tensorflow as tf

    w = {name: tf.constant(value.T) for name, value in weights.items()}
    h_c = ("a_h", "b_c")[: 1 + (workload.cell == "LSTM")]  # named so that they stay in order
    shape = (1, workload.hidden_size)

    def lstm(x: Any, h: Any, c: Any) -> Any:
        both = tf.concat([w["weight_ih_l0"], w["weight_hh_l0"]], 0)
        gates = tf.matmul(tf.concat([x, h], 1), both) + (w["bias_ih_l0"] + w["bias_hh_l0"])
        i, f, g, o = tf.split(gates, 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return {"a_h": tf.sigmoid(o) * tf.tanh(c), "b_c": c}

    def gru(x: Any, h: Any) -> Any:
        r_x, z_x, n_x = tf.split(tf.matmul(x, w["weight_ih_l0"]) + w["bias_ih_l0"], 3, 1)
        r_h, z_h, n_h = tf.split(tf.matmul(h, w["weight_hh_l0"]) + w["bias_hh_l0"], 3, 1)
        z = tf.sigmoid(z_x + z_h)
        n = tf.tanh(n_x + tf.sigmoid(r_x + r_h) * n_h)
        return {"a_h": n + z * (h - n)}

    function = tf.function(lstm if workload.cell == "LSTM" else gru).get_concrete_function(
        tf.TensorSpec((1, workload.input_size), tf.float32, name="x"),
        *(tf.TensorSpec(shape, tf.float32, name=name) for name in h_c),
    )
    net = Net(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert(), threads)
    *states, x_in = net.inputs

    def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
        net.set(x_in, x[0])
        for index, value in zip(states, state, strict=True):
            net.set(index, value)
        net.invoke()
        state = [net.get(index) for index in net.outputs]
        return state[0], state

    first = [inputs.h_0[0]] if inputs.c_0 is None else [inputs.h_0[0], inputs.c_0[0]]
    return ways.stepped("litert", inputs, step, first)
