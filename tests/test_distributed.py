"""Contract test 6: two processes of two CPU devices each are one run."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from musegan_jax.training import checkpoint, distributed, loop
from test_train import fingerprint_of, lines_of, with_

pytestmark = pytest.mark.slow
QUICK = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"


def launch(workdir, data_file, *words):
    """Start both processes of a run."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    return [
        subprocess.Popen(
            [
                sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
                "--workdir", str(workdir), f"--data.dataset={data_file}", "--output.melodies=",
                "--distributed", "--coordinator", f"localhost:{port}", "--processes", "2",
                "--process-id", str(n), *words,
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


@pytest.mark.parametrize("strategy", ["mesh", "pmap"])
def test_train_resume_and_restore_in_one_process(tiny, tmp_path, data_file, strategy):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    choice = f"--parallel.strategy={strategy}"
    statuses, said = finish(launch(straight, data_file, choice, "--training.iterations=6"))
    assert statuses == [0, 0], said
    assert "4 x cpu" in said[0][0] and said[1] == []  # process 0 alone speaks
    assert [line["iteration"] for line in lines_of(straight)] == [1, 2, 3, 4, 5, 6]
    for iterations in (3, 6):
        words = (choice, f"--training.iterations={iterations}")
        statuses, said = finish(launch(broken, data_file, *words))
        assert statuses == [0, 0], said
    assert fingerprint_of(broken) == fingerprint_of(straight)
    # From four devices in two processes to one of one, and on.
    one = with_(
        tiny, "--training.iterations=7", "--output.melodies=", "--parallel.strategy=jit",
        f"--data.dataset={data_file}",
    )  # fmt: skip
    loop.train(one, broken)
    assert lines_of(broken)[-1]["iteration"] == 7


def test_sigterm_to_one_stops_both_at_one_iteration(tmp_path, data_file):
    processes = launch(tmp_path, data_file, "--training.iterations=1000000")
    wait_for(tmp_path, 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    statuses, said = finish(processes)
    assert statuses == [0, 0], said
    assert "stopped at iteration" in said[0][-1]
    assert checkpoint.iterations(tmp_path)[-1] == lines_of(tmp_path)[-1]["iteration"]


def test_a_lost_process_ends_the_other_with_one_clear_line(tmp_path, data_file):
    processes = launch(tmp_path, data_file, "--training.iterations=1000000")
    wait_for(tmp_path, 3, processes)
    processes[1].kill()
    begin = time.monotonic()
    statuses, said = finish(processes)
    assert time.monotonic() - begin < 60
    # Either the sum over processes fails, or JAX gives up and the watching process speaks.
    assert statuses[0] != 0 and "process 0 of 2" in said[0][-1], said
    assert "start all of them again" in said[0][-1]
    assert distributed.HEARTBEAT_SECONDS < 60
