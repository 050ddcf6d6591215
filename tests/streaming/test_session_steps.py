"""Steps of session streams: states that stay the program's tensors, and all that may go wrong."""

import threading

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import frames
from tests.streaming.test_sessions import (
    FEATURES,
    GATES,
    HIDDEN,
    built,
    constants,
    convolution,
    hidden_state,
    recurrent,
    weights,
)


def paired():
    """States that are inputs and outputs already; one is an output of the stream, too."""
    node, arrays = recurrent("LSTM", extra_inputs=["", "h_0", "c_0"], outputs=["Y", "h_n", "c_n"])
    state = [1, "N", HIDDEN]
    last = ("Squeeze", ["h_n", "zero"], ["last"], {})
    return built(
        [node, last],
        [*arrays, *constants(zero=np.array([0]))],
        {"x": ["T", "N", FEATURES], "h_0": state, "c_0": state},
        {"Y": ["T", 1, "N", HIDDEN], "h_n": state, "c_n": state, "last": ["N", HIDDEN]},
    )


def two_inputs():
    """Frames of two inputs with different time axes, a recurrence over their sum."""
    node, arrays = recurrent("GRU")
    swap = ("Transpose", ["u"], ["u_t"], {"perm": [2, 0, 1]})
    add = ("Add", ["a", "u_t"], ["x"], {})
    head = ("Tanh", ["Y"], ["Z"], {})
    inputs = {"a": ["T", "N", FEATURES], "u": ["N", FEATURES, "T"]}
    return built(
        [swap, add, node, head],
        arrays,
        inputs,
        {"Y": ["T", 1, "N", HIDDEN], "Z": ["T", 1, "N", HIDDEN]},
    )


def handed_through():
    """A state that is this frame itself, as a view of the input."""
    nodes = [
        ("Concat", ["last", "x"], ["both"], {"axis": 0}),
        ("Slice", ["both", "zero", "minus"], ["before"], {}),
        ("Slice", ["both", "minus", "end"], ["next"], {}),
        ("Add", ["x", "before"], ["y"], {}),
    ]
    arrays = constants(zero=np.array([0]), minus=np.array([-1]), end=np.array([2**40]))
    x = ["T", 1, FEATURES]
    inputs = {"x": x, "last": [1, 1, FEATURES]}
    return built(nodes, arrays, inputs, {"y": x, "next": [1, 1, FEATURES]})


MODELS = {
    **{kind: (lambda kind=kind: hidden_state(kind), {"time_axis": 0}, 3) for kind in GATES},
    "convolution": (lambda: convolution([4, 0]), {"time_axis": 2}, 2),
    "paired": (paired, {"time_axis": 0, "states": {"h_0": "h_n", "c_0": "c_n"}}, 2),
    "two inputs": (two_inputs, {"time_axis": {"a": 0, "u": 2}}, 2),
    "handed through": (handed_through, {"states": {"last": "next"}}, 1),
}


@pytest.fixture(params=MODELS)
def made(request):
    build, options, batch = MODELS[request.param]
    return build(), options, batch


def random_frame(stream, rng):
    found = {n: rng.normal(size=s).astype(d) for n, (s, d) in stream.frames.items()}
    return found if len(found) > 1 else next(iter(found.values()))


def listed(result):
    return list(result.values()) if isinstance(result, dict) else [result]


def opened(model, options, batch):
    return vledge.InferenceSession(model).stream(batch=batch, **options)


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_steps_are_those_of_python_s_plan(made, monkeypatch):
    native = opened(*made)
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    plain = opened(*made)
    assert type(native._machine._runs) is not type(plain._machine._runs)
    rng = np.random.default_rng(7)
    outs = None
    for turn in range(12):
        x = random_frame(native, rng)
        right = plain.step(x)
        got = native.step(x, outs if turn % 3 == 2 else None)
        for one, other in zip(listed(got), listed(right), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
            assert one.shape == other.shape
            assert one.flags.writeable
        outs = got
        if turn == 5:
            native.reset()
            plain.reset()
        if turn == 8:
            native.state = plain.state
        for name, array in plain.state.items():
            np.testing.assert_allclose(native.state[name], array, rtol=0, atol=1e-6)


def test_steps_are_a_run_with_the_states_by_hand(made):
    """The same bits as the program's own runs on arrays."""
    stream = opened(*made)
    machine = stream._machine
    plan, rng = machine._plan, np.random.default_rng(3)
    for _ in range(6):
        x, before = random_frame(stream, rng), stream.state
        named = x if isinstance(x, dict) else {next(iter(stream.frames)): x}
        feed = {
            name: np.expand_dims(array, machine._graph.time_axes[name])
            for name, array in named.items()
        }
        results = plan.run(*({**feed, **before}[name] for name in plan.inputs))
        right = [
            results[machine._made.index(name)].take(0, axis)
            if axis is not None
            else results[machine._made.index(name)]
            for name, axis in zip(machine._outputs, machine._out_axes, strict=True)
        ]
        same(listed(stream.step(x)), right)
        states = {s.input: results[machine._made.index(s.output)] for s in machine._states}
        same(list(stream.state.values()), [states[name] for name in before])


def test_arrays_in_other_forms(made):
    stream, usual = opened(*made), opened(*made)
    rng = np.random.default_rng(1)
    forms = [
        lambda a: np.asfortranarray(a),
        lambda a: a[..., ::-1].copy()[..., ::-1],
        lambda a: (
            np.concatenate([np.zeros(1, np.uint8), a.view(np.uint8).ravel()])[1:]
            .view(a.dtype)
            .reshape(a.shape)
        ),
    ]
    for form in forms:
        x = random_frame(stream, rng)
        other = {n: form(a) for n, a in x.items()} if isinstance(x, dict) else form(x)
        same(listed(stream.step(other)), listed(usual.step(x)))
    if not isinstance(x, dict):
        named = {next(iter(stream.frames)): x}
        same(listed(stream.step(named)), listed(usual.step(x)))


def test_what_does_not_fit_leaves_the_state(made):
    stream = opened(*made)
    rng = np.random.default_rng(1)
    x = random_frame(stream, rng)
    good = stream.step(x)
    before = stream.state
    wrong = {n: a[..., None] for n, a in x.items()} if isinstance(x, dict) else x[..., None]
    doubles = {n: a.astype("f8") for n, a in x.items()} if isinstance(x, dict) else x.astype("f8")
    for bad in (wrong, doubles, None, {}):
        with pytest.raises(ValueError, match="expected"):
            stream.step(bad)
    first = listed(good)[0]
    readonly = first.copy()
    readonly.flags.writeable = False
    outs = [first[..., None], first.astype(np.float64), [1.0], readonly]
    for out in outs:
        given = {**good, next(iter(good)): out} if isinstance(good, dict) else out
        with pytest.raises(ValueError, match="out for"):
            stream.step(x, given)
    same(list(stream.state.values()), list(before.values()))


def test_results_and_states_are_the_caller_s(made):
    stream, untouched = opened(*made), opened(*made)
    rng = np.random.default_rng(2)
    for _ in range(4):
        x = random_frame(stream, rng)
        got, right = listed(stream.step(x)), listed(untouched.step(x))
        same(got, right)
        for array in [*got, *stream.state.values()]:
            array.fill(9)
        for array in listed(x):
            array.fill(9)
        state = stream.state
        stream.state = state
        for array in state.values():
            array.fill(9)
    same(list(stream.state.values()), list(untouched.state.values()))


def test_out_may_be_the_frame():
    """Also where the output is a view of the frame."""
    node, arrays = recurrent("RNN")
    flip = ("Slice", ["x", "last", "first", "axis", "back"], ["flipped"], {})
    arrays += constants(
        last=np.array([-1]), first=np.array([-(2**40)]), axis=np.array([2]), back=np.array([-1])
    )
    x = ["T", "N", FEATURES]
    model = built([node, flip], arrays, {"x": x}, {"flipped": x, "Y": ["T", 1, "N", HIDDEN]})
    stream = vledge.InferenceSession(model).stream(batch=2, time_axis=0)
    frame = frames((2, FEATURES))
    right = frame[:, ::-1].copy()
    stream.step(frame, {"flipped": frame, "Y": np.zeros((1, 2, HIDDEN), np.float32)})
    np.testing.assert_array_equal(frame, right)


def failing():
    """A node that Python runs and that fails where a frame asks for it; before it, a recurrence."""
    node, arrays = recurrent("GRU", outputs=["Y", "h_n"])
    arrays += constants(table=np.zeros((3, 2), np.float32), two=np.array([2]))
    pick = [
        ("Cast", ["x"], ["whole"], {"to": 7}),
        ("Gather", ["table", "whole"], ["picked"], {}),
        ("ReduceSum", ["picked", "two"], ["sum"], {"keepdims": 0}),
    ]
    x = ["T", "N", FEATURES]
    return built(
        [node, *pick], arrays, {"x": x}, {"Y": ["T", 1, "N", HIDDEN], "sum": ["T", "N", 2]}
    )


def test_a_run_that_fails_leaves_the_state():
    stream = vledge.InferenceSession(failing()).stream(batch=2, time_axis=0)
    same_one = vledge.InferenceSession(failing()).stream(batch=2, time_axis=0)
    x = np.full((2, FEATURES), 0.5, np.float32)
    for _ in range(20):
        same(listed(stream.step(x)), listed(same_one.step(x)))
        before = stream.state
        with pytest.raises(Exception, match="Gather"):
            stream.step(x + 100)
        same(list(stream.state.values()), list(before.values()))


def test_streams_of_one_session_in_several_threads():
    model, options, batch = hidden_state("LSTM"), {"time_axis": 0}, 2
    running = vledge.InferenceSession(model)
    xs = [frames((60, batch, FEATURES), seed=seed) for seed in range(6)]
    expected = []
    for x in xs:
        stream = running.stream(batch=batch, **options)
        expected.append(np.stack([stream.step(frame) for frame in x]))
    problems = []

    def work(at):
        try:
            for _ in range(4):
                stream = running.stream(batch=batch, **options)
                out = np.empty_like(expected[at][0])
                for frame, right in zip(xs[at], expected[at], strict=True):
                    np.testing.assert_array_equal(stream.step(frame, out), right)
                    running.run(None, {"x": xs[at][:3]})
                stream.reset()
                same([stream.push(xs[at])[:1]], [expected[at][:1]])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_second_thread_in_one_stream_is_told():
    """Python's operators let another thread in, in the middle of a step."""
    entered, go = threading.Event(), threading.Event()
    node, arrays = recurrent("GRU")
    model = built([node], arrays, {"x": ["T", "N", FEATURES]}, {"Y": ["T", 1, "N", HIDDEN]})
    stream = vledge.InferenceSession(model).stream(batch=1, time_axis=0)
    x = np.zeros((1, FEATURES), np.float32)

    class Slow(np.ndarray):
        """An array to write to; the write is Python's, and waits."""

        def __setitem__(self, key, value):
            entered.set()
            assert go.wait(30)
            super().__setitem__(key, value)

    memory = np.zeros(1 + 4 * HIDDEN, np.uint8)
    out = memory[1:].view(np.float32).reshape(1, 1, HIDDEN).view(Slow)
    assert not out.flags.aligned
    other = threading.Thread(target=stream.step, args=(x, out))
    other.start()
    assert entered.wait(30)
    try:
        for call in (lambda: stream.step(x), lambda: stream.push(x[None]), lambda: stream.state):
            with pytest.raises(RuntimeError, match="one thread at a time"):
                call()
    finally:
        go.set()
        other.join()
    stream.step(x)


def test_a_long_step_lets_other_threads_run():
    """A stream whose steps are long gives the GIL away, and gives the same numbers."""
    hidden = 1200
    node = ("GRU", ["x", "w", "r"], ["Y"], {"hidden_size": hidden})
    arrays = weights(w=(1, 3 * hidden, FEATURES), r=(1, 3 * hidden, hidden))
    model = built([node], arrays, {"x": ["T", 1, FEATURES]}, {"Y": ["T", 1, 1, hidden]})
    running = vledge.InferenceSession(model)
    stream, x = running.stream(), frames((12, 1, FEATURES))
    got = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(got, running.run(None, {"x": x})[0], rtol=0, atol=2e-6)
