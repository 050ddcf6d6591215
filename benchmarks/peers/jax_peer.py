"""JAX on the CPU: a scan over time behind one product of all inputs; lengths hold the state."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import ways
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]

# XLA reads them once, when JAX is first imported.
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def version() -> str | None:
    if importlib.util.find_spec("jax") is None:
        return None
    return importlib.metadata.version("jax")


def notes() -> Sequence[str]:
    return [
        "JAX's scan holds a sequence's state beyond its length, which costs the padding's steps; "
        "buckets are padded batches of like lengths"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    if threads == 1:
        os.environ["XLA_FLAGS"] = ONE_THREAD
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    layers = [
        [
            {
                name: jax.numpy.asarray(weights[f"{name}_l{layer}{suffix}"].T)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            for suffix in ("", "_reverse")[: workload.directions]
        ]
        for layer in range(workload.num_layers)
    ]
    advance = _lstm if workload.cell == "LSTM" else _gru
    if workload.streaming:
        return [_stepped(inputs, layers[0][0], advance)]
    held = _scanned(workload, layers, advance, held=True)
    plain = _scanned(workload, layers, advance, held=False)

    def equal(part: Workload) -> ways.Run:
        def run(x: Array) -> Outputs:
            return Outputs(*(np.asarray(a) for a in plain(x, None)), *_none(workload))

        return run

    if workload.kind == "full":
        return ways.batches("jax", workload, inputs, equal)
    lengths = inputs.lengths.astype(np.int32)

    def run() -> Outputs:
        return Outputs(*(np.asarray(a) for a in held(inputs.x, lengths)), *_none(workload))

    buckets = ways.batches("jax", workload, inputs, equal)[1:]
    return [Contestant("jax", run, lambda result: result), *buckets]


def _none(workload: Workload) -> list[None]:
    return [] if workload.cell == "LSTM" else [None]


def _stepped(inputs: Inputs, w: dict[str, Any], advance: Callable[..., Any]) -> Contestant:
    import jax

    @jax.jit
    def advanced(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        return advance(x @ w["weight_ih"] + w["bias_ih"], state, w)  # type: ignore[no-any-return]

    def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
        state = advanced(x[0], tuple(state))
        return np.asarray(state[0]), state

    first = (inputs.h_0[0],) if inputs.c_0 is None else (inputs.h_0[0], inputs.c_0[0])
    return ways.stepped("jax", inputs, step, first)


def _scanned(
    workload: Workload, layers: list[list[dict[str, Any]]], advance: Callable[..., Any], held: bool
) -> Callable[..., Any]:
    """x [T, B, I], lengths [B] or None -> y, h_n and, of an LSTM, c_n."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    def run(x: Any, lengths: Any) -> tuple[Any, ...]:
        time, finals = jnp.arange(x.shape[0]), []
        for directions in layers:
            ys = []
            for w, reverse in zip(directions, (False, True), strict=False):
                zero = jnp.zeros((x.shape[1], workload.hidden_size), jnp.float32)
                state = (zero,) * (2 if workload.cell == "LSTM" else 1)

                def step(state: Any, item: Any, w: Any = w) -> tuple[Any, Any]:
                    t, gates_x = item
                    new = advance(gates_x, state, w)
                    if not held:
                        return new, new[0]
                    live = (t < lengths)[:, None]
                    new = tuple(jnp.where(live, a, b) for a, b in zip(new, state, strict=True))
                    return new, jnp.where(live, new[0], 0)

                gates = x @ w["weight_ih"] + w["bias_ih"]
                state, y = lax.scan(step, state, (time, gates), reverse=reverse)
                ys.append(y)
                finals.append(state)
            x = jnp.concatenate(ys, axis=2)
        return (x, *(jnp.stack(parts) for parts in zip(*finals, strict=True)))

    return jax.jit(run)  # type: ignore[no-any-return]


def _lstm(gates_x: Any, state: tuple[Any, Any], w: dict[str, Any]) -> tuple[Any, Any]:
    from jax import nn
    from jax import numpy as jnp

    h, c = state
    i, f, g, o = jnp.split(gates_x + h @ w["weight_hh"] + w["bias_hh"], 4, axis=1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def _gru(gates_x: Any, state: tuple[Any], w: dict[str, Any]) -> tuple[Any]:
    from jax import nn
    from jax import numpy as jnp

    (h,) = state
    r_x, z_x, n_x = jnp.split(gates_x, 3, axis=1)
    r_h, z_h, n_h = jnp.split(h @ w["weight_hh"] + w["bias_hh"], 3, axis=1)
    z = nn.sigmoid(z_x + z_h)
    n = jnp.tanh(n_x + nn.sigmoid(r_x + r_h) * n_h)
    return (n + z * (h - n),)
