"""onnxruntime's names around a session: options, providers, levels, and what each of them does."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge.machine.threads import get_num_threads

onnxruntime = peer("onnxruntime")

X = np.array([[1, 2, 3]], np.float32)


def doubled(*arguments, **options):
    model = model_bytes([node("Add", ["x", "x"], ["y"])], {"x": X}, ["y"])
    return vledge.InferenceSession(model, *arguments, **options)


def changed(**values):
    options = vledge.SessionOptions()
    for name, value in values.items():
        setattr(options, name, value)
    return options


def properties(made):
    return {n for n in dir(made) if n[0] != "_" and not callable(getattr(made, n))}


def test_the_options_are_onnxruntime_s_with_its_defaults():
    for ours, theirs in (
        (vledge.SessionOptions(), onnxruntime.SessionOptions()),
        (vledge.RunOptions(), onnxruntime.RunOptions()),
    ):
        assert properties(ours) == properties(theirs)
        for name in properties(ours):
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert getattr(mine, "name", mine) == getattr(other, "name", other), name
        with pytest.raises(AttributeError):
            ours.intra_op_threads = 1
    for name in ("GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder"):
        members = getattr(onnxruntime, name).__members__
        ours = getattr(vledge, name)
        assert {m.name: m.value for m in ours} == {n: v.value for n, v in members.items()}


@pytest.mark.parametrize("name", ["get_device", "get_available_providers"])
def test_what_the_module_is_asked(name):
    answer = getattr(vledge, name)()
    assert answer in ("CPU", ["CPUExecutionProvider"])
    assert set(answer) <= set(getattr(onnxruntime, name)())


def test_every_name_exists_and_is_listed():
    for name in (
        "NodeArg", "ModelMetadata", "RunOptions", "SessionOptions", "get_all_providers",
        "get_build_info", "get_version_string", "set_default_logger_verbosity", "preload_dlls",
        "disable_telemetry_events", "enable_telemetry_events", "InferenceSession", "__version__",
    ):  # fmt: skip
        assert hasattr(onnxruntime, name)
        assert callable(getattr(vledge, name)) or name == "__version__"
        assert name in dir(vledge)
    vledge.set_default_logger_verbosity(1)
    vledge.disable_telemetry_events()
    vledge.preload_dlls()
    assert not hasattr(vledge, "no_such_name")


def threads_of_a_run(made):
    """How many threads the kernels are told to use in a run of the session."""
    seen = []
    run = made._plan.run_feed
    made._plan.run_feed = lambda *given: (seen.append(get_num_threads()), run(*given))[1]
    made.run(None, {"x": X})
    return seen


def test_the_number_of_threads_is_the_session_s_own():
    before = get_num_threads()
    assert threads_of_a_run(doubled(changed(intra_op_num_threads=before + 3))) == [before + 3]
    assert get_num_threads() == before
    assert threads_of_a_run(doubled(changed(inter_op_num_threads=1))) == [before]
    assert threads_of_a_run(doubled()) == [before]
    theirs = onnxruntime.SessionOptions()
    theirs.intra_op_num_threads = before + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert threads_of_a_run(doubled(theirs)) == [before + 1]
    theirs.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    with pytest.warns(UserWarning, match="execution_mode"):
        doubled(theirs)


def test_the_number_ends_with_a_run_that_fails_and_stays_in_its_thread():
    made = doubled(changed(intra_op_num_threads=7))
    others = []

    def fail(*given):
        other = threading.Thread(target=lambda: others.append(get_num_threads()))
        other.start()
        other.join()
        raise ZeroDivisionError

    before, made._plan.run_feed = get_num_threads(), fail
    with pytest.raises(ZeroDivisionError):
        made.run(None, {"x": X})
    assert [get_num_threads(), *others] == [before, before]


QUIET = {
    "enable_cpu_mem_arena": False,
    "enable_mem_pattern": False,
    "enable_mem_reuse": False,
    "use_deterministic_compute": True,
    "inter_op_num_threads": 1,
    "intra_op_num_threads": 2,
    "logid": "mine",
    "log_severity_level": 3,
}
NOTED = {
    "graph_optimization_level": vledge.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "execution_mode": vledge.ExecutionMode.ORT_PARALLEL,
    "enable_profiling": True,
    "optimized_model_filepath": "optimized.onnx",
    "inter_op_num_threads": 4,
    "execution_order": vledge.ExecutionOrder.PRIORITY_BASED,
}


def test_what_comes_true_is_not_spoken_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, value in QUIET.items():
            made = doubled(changed(**{name: value}))
            assert getattr(made.get_session_options(), name) == value
        doubled(changed(log_severity_level=3, **NOTED))
        vledge.set_default_logger_severity(4)
        try:
            doubled(changed(**NOTED))
        finally:
            vledge.set_default_logger_severity(2)
    with pytest.raises(ValueError, match="level must be"):
        vledge.set_default_logger_severity(7)


@pytest.mark.parametrize("name", NOTED)
def test_what_does_not_happen_is_named(name):
    with pytest.warns(UserWarning, match=f"without effect in vledge: {name} ") as caught:
        made = doubled(changed(**{name: NOTED[name]}))
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X + X)


def test_entries_and_sizes_are_kept_and_named():
    options = vledge.SessionOptions()
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_free_dimension_override_by_name("N", 3)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    with pytest.raises(RuntimeError, match="with key: other"):
        options.get_session_config_entry("other")
    with pytest.warns(UserWarning, match=r"set_denormal_as_zero.*size of 'N'"):
        assert doubled(options).get_session_options() is options


def test_options_that_would_change_results_are_refused():
    options = vledge.SessionOptions()
    with pytest.raises(vledge.UnsupportedError, match=r"ops\.so holds operators.*fallback"):
        options.register_custom_ops_library("ops.so")
    with pytest.raises(vledge.UnsupportedError, match=r"weights from elsewhere \(w\)"):
        options.add_initializer("w", None)
    with pytest.raises(vledge.UnsupportedError, match=r"weights from elsewhere \(w, b\)"):
        options.add_external_initializers(["w", "b"], [])
    with pytest.raises(TypeError, match=r"must be a vledge.SessionOptions or None, got dict"):
        doubled({"intra_op_num_threads": 1})
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="intra_op_num_threads must be a whole number"):
            doubled(changed(intra_op_num_threads=wrong))


def test_a_run_takes_options_and_an_empty_list_of_outputs():
    made = doubled()
    for names in (None, [], ["y"]):
        np.testing.assert_array_equal(made.run(names, {"x": X}, vledge.RunOptions())[0], X + X)
    np.testing.assert_array_equal(made.run(None, {"x": X}, run_options=None)[0], X + X)


PROVIDERS = [
    None,
    [],
    ["CPUExecutionProvider"],
    ("CUDAExecutionProvider", "CPUExecutionProvider"),
    [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"],
    [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})],
]


@pytest.mark.parametrize("providers", PROVIDERS)
def test_providers_are_taken_as_onnxruntime_takes_them(providers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = doubled(providers=providers)
        made.set_providers(providers)
        made.disable_fallback()
        made.enable_fallback()
    assert made.get_providers() == ["CPUExecutionProvider"]
    assert made.get_provider_options() == {"CPUExecutionProvider": {}}
    doubled(None, ["CPUExecutionProvider"], [{}])


def test_providers_that_are_not_here():
    with pytest.warns(UserWarning, match="has only CPUExecutionProvider") as caught:
        made = doubled(providers=["CUDAExecutionProvider"])
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X + X)
    for wrong in ("CPUExecutionProvider", [1], 3):
        with pytest.raises(ValueError, match="providers must"):
            doubled(providers=wrong)
    with pytest.raises(ValueError, match="a dict for each"):
        doubled(providers=["CPUExecutionProvider"], provider_options=[])


def test_dotted_names_need_no_other_import():
    """`vledge.formats.read_checkpoint` and its like, for every module, in a new process."""
    code = (
        "import pkgutil, vledge\n"
        "names = [m.name for m in pkgutil.iter_modules(vledge.__path__) if m.name[0] != '_']\n"
        "assert set(names) <= set(dir(vledge)) and len(names) > 15, names\n"
        "for name in names:\n"
        "    assert getattr(vledge, name).__name__ == f'vledge.{name}'\n"
        "assert callable(vledge.formats.read_checkpoint)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
