"""What the command line says of itself: help, examples, completion, and errors in its own words."""

import argparse
import os
import shlex
import subprocess
import sys

import pytest

import vledge
from tests.peers import peer
from vledge.cli import COMMANDS, build_parser, main
from vledge.cli.wording import in_options


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_without_a_command_the_help_is_shown(capsys):
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert err.startswith("usage: vledge")
    for text in ("examples:", "vledge stream model.onnx", *COMMANDS):
        assert text in err


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"vledge {vledge.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_that_parse(capsys, name):
    status, out, _ = run(capsys, name, "--help")
    assert status == 0
    parser, commands = build_parser([name])
    for action in commands[name]._actions:
        assert action.help, f"{action.dest} has no help"
    if name in ("completion", "demo", "info", "calibrate"):
        return
    _, _, examples = out.partition("examples:\n")
    lines = examples.replace("\\\n", " ").splitlines()
    told = [line.strip().partition("  ")[0].rpartition(" | ")[2] for line in lines if line.strip()]
    assert told, "no examples"
    for line in told:
        words = shlex.split(line.partition(" > ")[0])
        assert words[:2] == ["vledge", name], line
        parser.parse_args(words[1:])


COMPLETED = ["stream", "validate", "--hop", "--time-axis", "--format", "int16", "--lookahead"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_choices(capsys, shell):
    peer("shtab")
    status, out, _ = run(capsys, "completion", shell)
    assert status == 0
    for word in COMPLETED:
        assert word.lstrip("-") in out


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("vledge str", ["stream"]),
        ("vledge stream --ho", ["--hop"]),
        ("vledge stream model.onnx --format in", ["int16", "int32"]),
        ("vledge inspect mod", ["model.onnx"]),
        ("vledge stream model.onnx --state mod", ["model.onnx"]),
    ],
)
def test_bash_completes(capsys, tmp_path, line, wanted):
    peer("shtab")
    script = tmp_path / "completion.bash"
    script.write_text(run(capsys, "completion", "bash")[1])
    (tmp_path / "model.onnx").touch()
    words = line.split()
    code = (
        f"source {script}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}; "
        "$(complete -p vledge | sed 's/.*-F \\([^ ]*\\).*/\\1/') vledge "
        f"{shlex.quote(words[-1])} {shlex.quote(words[-2])}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert sorted({word.strip() for word in done.stdout.split()}) == wanted, done.stderr


def test_without_shtab_the_error_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    status, _, err = run(capsys, "completion", "fish")
    assert status == 1
    assert "pip install 'vledge[completion]'" in err


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("pass time_axis=2", "pass --time-axis 2"),
        ("say which by time_axis=; or", "say which by --time-axis; or"),
        ("fixed={'sr': number}", "--set sr=NUMBER"),
        ("states={input: output}", "--states INPUT=OUTPUT"),
        ("prefix='rnn.'", "--layer 'rnn.'"),
        ("hop=512 (and context=64 where", "--hop 512 (and --context 64 where"),
        ("needs lookahead=N frames", "needs --lookahead N frames"),
        ("vledge.export(module, hop=3)", "vledge.export(module, hop=3)"),
        ("has layout=1, a=b", "has layout=1, a=b"),
        ("--set sr=16000", "--set sr=16000"),
    ],
)
def test_parameters_are_told_as_options(message, told):
    parser = argparse.ArgumentParser()
    for option in ("--time-axis", "--set", "--states", "--hop", "--context", "--lookahead"):
        parser.add_argument(option)
    parser.add_argument("--layer", "--prefix")
    assert in_options(message, parser) == told


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}])
@pytest.mark.parametrize("arguments", [["info"], ["--help"], ["inspect", "missing.onnx"], ["run"]])
def test_no_escape_codes_where_nobody_looks(arguments, colour):
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | colour
    done = subprocess.run(
        [sys.executable, "-m", "vledge", *arguments], capture_output=True, env=environment
    )
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", ["bench --latency", "convert", "inspect", "many", "plan", "profile", "record",
                "run", "stream", "validate"],
)  # fmt: skip
def test_a_missing_file_is_one_line(capsys, tmp_path, command):
    missing = str(tmp_path / "missing.onnx")
    more = {"convert": ["out.safetensors"], "many": ["x.npy"]}
    arguments = [*command.split(), missing, *more.get(command, [])]
    if command == "plan":
        (tmp_path / "lengths.txt").write_text("1 2 3")
        arguments = ["plan", str(tmp_path / "lengths.txt"), "--model", missing]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err == f"vledge: error: {missing}: No such file or directory\n"
