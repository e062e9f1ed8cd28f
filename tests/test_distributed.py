"""Contract test 6: two processes of two CPU devices each are one run."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from etils import epath

from conftest import make_dataset
from musegan_jax.data import dataset
from musegan_jax.runs import checkpoint, timing
from musegan_jax.training import loop
from test_train import fingerprint_of, lines_of, with_

pytestmark = pytest.mark.slow
# An old listing of a bucket, in one process: it once ended alone, and the other one waited.
STALE = "import musegan_jax.runs.checkpoint as c; c.iterations = lambda workdir: []"
MAIN = "from musegan_jax.cli import main; raise SystemExit(main())"
QUICK = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"


def launch(workdir, data_file, *words, others=(), patch=""):
    """Start both processes of a run; `others` are more words for the second, `patch` its code."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    return [
        subprocess.Popen(
            [
                sys.executable, "-c", f"{patch if n else ''}\n{MAIN}",
                "train", "--config", "configs/tiny.py",
                "--workdir", str(workdir), f"--data.dataset={data_file}", "--output.melodies=",
                "--distributed", "--coordinator", f"localhost:{port}", "--processes", "2",
                "--process-id", str(n), *words, *(others if n else ()),
            ],
            env={**os.environ, "XLA_FLAGS": QUICK},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n in range(2)
    ]  # fmt: skip


def finish(processes, timeout=240):
    """Exit statuses and what was said on stderr, without Gloo's greetings."""
    said = []
    for process in processes:
        _, err = process.communicate(timeout=timeout)
        said.append([line for line in err.splitlines() if "[Gloo]" not in line])
    return [process.returncode for process in processes], said


def wait_for(workdir, iterations, processes):
    for _ in range(2400):
        path = workdir / "metrics.jsonl"
        if path.exists() and len(path.read_text().splitlines()) >= iterations:
            return
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.1)
    raise AssertionError("the run did not begin")


def test_a_lost_process_ends_the_other_and_the_restarted_run_ends_the_same(tmp_path, data_file):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    samples = ("--output.melodies=twinkle", "--output.keep_best=1", "--output.save_every=2")
    processes = launch(killed, data_file, *samples, "--training.iterations=1000000")
    wait_for(killed, 3, processes)
    processes[1].kill()
    begin = time.monotonic()
    statuses, said = finish(processes)
    assert time.monotonic() - begin < 60
    # Either the sum over processes fails, or JAX gives up and the watching process speaks.
    assert statuses[0] != 0 and "process 0 of 2" in said[0][-1], said
    assert "start all of them again" in said[0][-1]
    last = f"--training.iterations={max(checkpoint.iterations(epath.Path(killed)), default=0) + 2}"
    for workdir in (killed, straight):
        statuses, said = finish(launch(workdir, data_file, *samples, last, patch=STALE))
        assert statuses == [0, 0], said
        assert said[1] == []  # process 0 alone speaks
    assert fingerprint_of(killed) == fingerprint_of(straight)
    assert len(list(killed.glob("samples/*/twinkle.wav"))) >= 1


@pytest.mark.parametrize("strategy", ["mesh", "pmap"])
def test_several_processes_are_one_run(tiny, tmp_path, data_file, strategy):
    """Data fed by both processes; the numbers of one process of four devices; restored in one."""
    words = (f"--parallel.strategy={strategy}", "--parallel.data=host")
    workdir = tmp_path / "two"
    statuses, said = finish(launch(workdir, data_file, *words, "--training.iterations=3"))
    assert statuses == [0, 0], said
    assert "4 x cpu" in said[0][0] and said[1] == []
    assert [line["iteration"] for line in lines_of(workdir)] == [1, 2, 3]
    one = with_(tiny, "--output.melodies=", f"--data.dataset={data_file}")
    loop.train(with_(one, "--training.iterations=1"), tmp_path / "one")
    here, there = lines_of(tmp_path / "one")[0], lines_of(workdir)[0]
    for name in here.keys() - set(timing.MEASURED):
        assert there[name] == pytest.approx(here[name], rel=1e-5), name
    # From four devices in two processes to one of one, and on.
    loop.train(with_(one, "--training.iterations=4", "--parallel.strategy=jit"), workdir)
    assert lines_of(workdir)[-1]["iteration"] == 4


def test_processes_that_are_not_one_run_do_not_train(tmp_path, data_file):
    """Each says so; with two workdirs the first save once hung for good."""
    other = tmp_path / "other.npz"
    dataset.save(make_dataset(seed=1), other)
    run = tmp_path / "run"
    for words, patch, what in (
        (["--training.seed=1"], "", "the config: training.seed of process 1 is 1, of process 0 0"),
        ([f"--data.dataset={other}"], "", "the dataset of process 1"),
        ([], "import jax; jax.__version__ = '0.1'", "jax of process 1 is 0.1"),
        (
            ["--workdir", f"{tmp_path}/elsewhere"],
            "",
            "process 1 does not see what process 0 writes",
        ),
    ):
        statuses, said = finish(launch(run, data_file, others=words, patch=patch))
        assert statuses == [2, 2] and all(what in lines[-1] for lines in said), said
        assert [len(lines) for lines in said] == [1, 1], said
    assert list(run.iterdir()) == []


def test_sigterm_before_training_is_heard(tmp_path, data_file):
    mark = tmp_path / "loading"
    slow = (
        "import pathlib, time, musegan_jax.data.sources as s\n"
        f"s.load = lambda name: (pathlib.Path({str(mark)!r}).touch(), time.sleep(600))"
    )
    processes = launch(tmp_path / "run", data_file, patch=slow)
    for _ in range(2400):
        if mark.exists():
            break
        time.sleep(0.1)
    processes[0].send_signal(signal.SIGTERM)  # which waits for the other one
    statuses, said = finish(processes)
    assert statuses == [128 + signal.SIGTERM] * 2, (statuses, said)
    for lines in said:
        assert lines == ["musegan-jax: SIGTERM: stopped before training began, nothing was saved"]


def test_an_error_of_one_is_a_line_at_both(tmp_path, data_file):
    """And soon; the one that failed once waited for the other, then printed a page of text."""
    fails = (
        "import musegan_jax.runs.logging as l\n"
        "from musegan_jax.errors import UserError\n"
        "step = l.Log.step\n"
        "def failing(self, iteration, metrics):\n"
        "    if iteration == 3: raise UserError('a fault')\n"
        "    step(self, iteration, metrics)\n"
        "l.Log.step = failing"
    )
    processes = launch(tmp_path, data_file, "--training.iterations=1000000", patch=fails)
    statuses, said = finish(processes)
    assert statuses == [2, 2], said
    assert said[1] == ["musegan-jax: a fault"], said
    assert said[0][-1] == "musegan-jax: process 1 ended: a fault" and len(said[0]) < 5, said


def test_a_stop_that_nobody_answers_ends_the_process(tmp_path, data_file):
    words = ("--training.iterations=1000000", "--parallel.stop_seconds=2")
    processes = launch(tmp_path, data_file, *words)
    wait_for(tmp_path, 3, processes)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        processes[0].send_signal(signal.SIGTERM)
        _, error = processes[0].communicate(timeout=240)
        assert processes[0].returncode == 2, error
        assert "a stop request was not answered within 2 s" in error.splitlines()[-1], error
    finally:
        processes[1].send_signal(signal.SIGCONT)
    _, error = processes[1].communicate(timeout=240)  # nor does the other one hang
    assert processes[1].returncode not in (0, None), error


def test_sigterm_to_one_stops_both_at_one_iteration(tmp_path, data_file):
    words = ("--training.iterations=1000000", "--stopped-status=75")
    processes = launch(tmp_path, data_file, *words)
    wait_for(tmp_path, 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    statuses, said = finish(processes)
    assert statuses == [75, 75], said
    assert "stopped at iteration" in said[0][-1]
    assert checkpoint.iterations(epath.Path(tmp_path))[-1] == lines_of(tmp_path)[-1]["iteration"]
