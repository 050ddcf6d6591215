"""``vledge score --scheduler``: real workers in processes of their own, and what kills them."""

import signal
import socket
import time

import pytest

import vledge
from tests.peers import peer
from tests.scoring.archives import pq, weights, write_archive
from tests.scoring.models import save_model
from tests.scoring.test_files import in_a_process, left_behind
from vledge.integrations.arrow import Scorer
from vledge.scoring.cluster import score_on_cluster
from vledge.scoring.files.fragments import Fragment
from vledge.scoring.files.manifest import Manifests
from vledge.scoring.pipeline import Job

distributed = peer("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as found:
        yield found


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    vledge.save_weights(path, weights("LSTM", hidden_size=64, directions=2))
    return path


def same_files(one, other):
    """Bit for bit; how many."""
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert names == sorted(path.name for path in other.glob("*.parquet"))
    for name in names:
        assert pq.read_table(one / name).equals(pq.read_table(other / name)), name
    return len(names)


@pytest.mark.parametrize("kind", ["layer", "graph"])
def test_results_are_bit_for_bit_those_of_one_machine(
    vledge_command, tmp_path, cluster, model, kind
):
    if kind == "graph":
        model = save_model(tmp_path / "model.onnx")
    write_archive(tmp_path / "in", files=5, rows=200)
    command = ["score", tmp_path / "in", "--model", model, "--input", "x=frames", "--memory", "1MB"]
    assert vledge_command(*command, "--output", tmp_path / "one")[0] == 0
    many = [*command, "--output", tmp_path / "many", "--scheduler", cluster.scheduler_address]
    status, printed, said = vledge_command(*many)
    assert status == 0, said
    assert "5 scored" in printed
    assert "1,000 in" in printed
    assert same_files(tmp_path / "one", tmp_path / "many") == 5
    assert "0 scored, 5 were done before" in vledge_command(*many)[1]


def test_a_damaged_file_fails_alone(vledge_command, tmp_path, cluster, model):
    sources = write_archive(tmp_path / "in", files=4)
    sources[2].write_bytes(b"PAR1 and no more")
    status, printed, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", tmp_path / "out",
        "--scheduler", cluster.scheduler_address,
    )  # fmt: skip
    assert status == 1
    assert "3 scored" in printed
    assert "part-2.parquet: " in said


def test_what_a_worker_cannot_write_ends_the_run(vledge_command, tmp_path, cluster, model):
    write_archive(tmp_path / "in", files=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-1.parquet").mkdir()
    status, _, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", out,
        "--scheduler", cluster.scheduler_address,
    )  # fmt: skip
    assert status == 1
    assert "part-1.parquet: cannot be written: " in said


def test_a_scheduler_that_is_not_there(vledge_command, tmp_path, model, monkeypatch):
    monkeypatch.setattr("vledge.scoring.cluster.ANSWER", 1)
    write_archive(tmp_path / "in", files=1)
    status, _, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", tmp_path / "out",
        "--scheduler", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert status == 1
    assert "no scheduler answers at tcp://127.0.0.1:9" in said


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8786", "tls://127.0.0.1:9"])
def test_what_is_no_address(vledge_command, tmp_path, model, address):
    write_archive(tmp_path / "in", files=1)
    status, _, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", tmp_path / "out",
        "--scheduler", address,
    )  # fmt: skip
    assert status == 1
    assert f"'{address}' is no address of a scheduler, such as tcp://head:8786" in said


def test_a_port_that_is_silent_is_given_up(vledge_command, tmp_path, model, monkeypatch):
    monkeypatch.setattr("vledge.scoring.cluster.ANSWER", 1)
    write_archive(tmp_path / "in", files=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        status, _, said = vledge_command(
            "score", tmp_path / "in", "--model", model, "--output", tmp_path / "out",
            "--scheduler", f"tcp://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
    assert status == 1
    assert "no scheduler answers at tcp://127.0.0.1:" in said
    assert time.monotonic() - start < 20


def cluster_events(cluster, model, folder, files, rows=50):
    """The events of these files through the cluster, with the files and where results go."""
    sources = write_archive(folder / "in", files=files, rows=rows)
    out = folder / "out"
    scorer = Scorer(model, "frames")
    job = Job(scorer, Manifests(str(out), scorer.description()))
    fragments = [Fragment(str(source), str(out / source.name)) for source in sources]
    return score_on_cluster(fragments, job, cluster.scheduler_address), out


def held_results(cluster):
    """Of files, on the workers: what dask makes again if a worker dies."""
    return [key for key, task in cluster.scheduler.tasks.items() if task.state == "memory"]


def test_a_result_that_has_arrived_is_not_held_any_longer(tmp_path, cluster, model):
    """A worker that died had its last file run again, though it was finished, and nobody waited:
    what that had written when its next worker died stayed."""
    events, _ = cluster_events(cluster, model, tmp_path, files=1)
    next(events)
    end = time.monotonic() + 20
    while held_results(cluster) and time.monotonic() < end:
        time.sleep(0.01)
    assert not held_results(cluster)
    assert list(events) == []


def test_what_killed_workers_have_left_is_removed_at_the_end(tmp_path, cluster, model):
    events, out = cluster_events(cluster, model, tmp_path, files=2)
    next(events)
    for name in (".part-0.parquet.0123abcd.tmp", "_vledge/.part-1.parquet.json.0123abcd.tmp"):
        (out / name).write_bytes(b"half")
    list(events)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    names = ["part-0.parquet", "part-1.parquet"]
    assert found == [*(f"_vledge/{name}.json" for name in names), *names]


def test_workers_stop_when_the_run_is_over(tmp_path, cluster):
    """And do not go on writing where another run may have begun."""
    model = tmp_path / "slow.safetensors"
    vledge.save_weights(model, weights("LSTM", hidden_size=512))
    events, out = cluster_events(cluster, model, tmp_path, files=4, rows=2000)
    next(events)
    events.close()
    done = sorted(out.rglob("*"))
    assert len([path for path in done if path.suffix == ".parquet"]) < 4
    assert not [path for path in done if path.suffix == ".tmp"]
    time.sleep(2)
    assert sorted(out.rglob("*")) == done


def test_ctrl_c_stops_the_workers_and_has_them_let_go_of_the_model(tmp_path, cluster):
    model = tmp_path / "slow.safetensors"
    vledge.save_weights(model, weights("LSTM", hidden_size=512))
    write_archive(tmp_path / "in", files=6, rows=1000)
    out = tmp_path / "out"
    run = in_a_process(
        tmp_path / "in", "--model", model, "--output", out,
        "--scheduler", cluster.scheduler_address,
    )  # fmt: skip
    while not list(out.glob("*.parquet")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    end = time.monotonic() + 20
    while left_behind(out) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left_behind(out)
    assert len(list(out.glob("*.parquet"))) < 6
    assert not [name for name in cluster.scheduler.worker_plugins if name.startswith("vledge-")]


def test_nothing_is_lost_or_written_twice_when_workers_are_killed(tmp_path):
    """`python -m benchmarks.score.kills` does it with 50."""
    from benchmarks.score.kills import killed_workers

    assert killed_workers(tmp_path, files=12, rows=400, kills=4) >= 1
