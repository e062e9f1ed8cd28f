"""Checkpoints and samples are made beside the training, one of each at a time."""

import contextlib
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from musegan_jax.errors import UserError
from musegan_jax.runs import checkpoint, processes, timing
from musegan_jax.runs.background import Background
from musegan_jax.runs.fingerprint import checksum
from musegan_jax.runs.logging import Log
from musegan_jax.training import loop, outputs, parallel, sampling, stopping
from test_train import lines_of, with_


def test_one_job_at_a_time_whose_error_waits_to_be_collected():
    background, go = Background("test"), threading.Event()
    future = background.start(lambda: go.wait(60) and 7)
    assert background.busy and background.collect(wait=False) is None
    go.set()
    assert background.collect(wait=True) == 7 == future.result() and not background.busy
    assert background.collect(wait=True) is None  # once
    background.start(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        background.collect(wait=True)


def test_a_job_without_a_thread_is_no_job(monkeypatch):
    background = Background("test")
    monkeypatch.setattr(threading.Thread, "start", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: 7)
    assert not background.busy and background.settle(None)


def test_a_long_wait_is_told_and_a_short_one_ends(monkeypatch):
    told, go = [], threading.Event()

    def say(line):
        told.append(line)
        if len(told) == 2:
            go.set()

    monkeypatch.setattr(processes, "PATIENCE", 0.01)
    background = Background("checkpoint", say)
    background.start(lambda: go.wait(60) and 7)
    assert not background.settle(0.001)
    background.start(lambda: go.wait(60) and 7)
    assert background.collect(wait=True) == 7
    assert told[0] == "waiting for the checkpoint, not done after 0 s"


RANKED = ("--output.melodies=twinkle", "--output.keep_best=1")


@pytest.fixture
def opened(tiny, tmp_path):
    """The outputs of a run that does not train, on one device, and its state."""
    config = with_(tiny, "--parallel.strategy=jit", *RANKED)
    layout, workdir = parallel.make_layout(config), epath.Path(tmp_path)
    state, clock = parallel.initial_state(config, layout), timing.Clock()
    with contextlib.closing(Log(config, workdir, 0, clock, ["cpu"])) as log:
        yield outputs.Outputs(config, workdir, layout, object(), state, log, clock), state


def test_samples_that_cannot_begin_keep_no_checkpoint_waiting(opened, tmp_path, monkeypatch):
    """It waited for their score for ever."""
    made, state = opened
    monkeypatch.setattr(made._painter, "start", lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError), made:
        made.take(state, 1, None, save=True, sample=True, last=True)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1]


def test_samples_that_fail_cost_no_checkpoint(opened, tmp_path):
    """The sampler here has no method `sample`."""
    made, state = opened
    with pytest.raises(AttributeError), made:
        made.take(state, 1, None, save=True, sample=True, last=True)
        made.finish(stopped=False)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1]


def test_a_save_that_waits_for_its_score_counts_as_writing(opened, tmp_path):
    """A stop request once ended the run there, and lost the checkpoint."""
    made, state = opened
    go = threading.Event()

    class Slow:
        def sample(self, variables):
            go.wait(60)
            raise ArithmeticError

    made._sampler = Slow()
    with pytest.raises(ArithmeticError), made:
        made.take(state, 1, None, save=True, sample=True, last=True)
        limit = time.monotonic() + 30
        while not made.writing() and time.monotonic() < limit:
            time.sleep(0.01)
        assert made.writing() and not go.is_set()
        go.set()
        made.finish(stopped=False)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1]


def test_who_interrupts_twice_waits_for_no_disk(opened, tmp_path, monkeypatch):
    """Nor is the folder cleaned while it is still being written."""
    made, state = opened
    go, cleaned = threading.Event(), []
    save = checkpoint.Checkpoints.save
    monkeypatch.setattr(
        checkpoint.Checkpoints, "save", lambda *arguments: go.wait(60) and save(*arguments)
    )
    monkeypatch.setattr(checkpoint.Checkpoints, "close", lambda self: cleaned.append(1))
    with pytest.raises(KeyboardInterrupt), made:
        made.take(state, 1, None, save=True, sample=False, last=True)
        while not made.writing():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not go.is_set() and not cleaned
    go.set()
    while made.writing():
        time.sleep(0.01)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1]


def test_a_stop_waits_for_a_slow_disk_and_not_for_what_hangs(monkeypatch, capsys):
    """It once ended a save that was under way."""
    left, answers = threading.Event(), iter([True, True])
    statuses = []

    def leave(status):
        statuses.append((status, next(answers, None)))
        left.set()

    monkeypatch.setattr(stopping.distributed, "leave", leave)
    with stopping.stop_requests(0.05) as stop:
        stop.begin(lambda: next(answers, False))
        os.kill(os.getpid(), signal.SIGTERM)
        assert left.wait(60)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["SIGTERM: the checkpoint is still being written, wait for it"] * 2
    assert "a stop request was not answered" in said[2] and statuses == [(2, None)]


def test_a_third_interrupt_ends_what_cannot_be_interrupted(monkeypatch, capsys):
    statuses, left = [], threading.Event()
    monkeypatch.setattr(
        stopping.distributed, "leave", lambda status: (statuses.append(status), left.set())
    )
    with pytest.raises(KeyboardInterrupt), stopping.stop_requests(60) as stop:
        stop.begin(lambda: False)
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)  # where the main thread hears of it
        assert left.wait(60)
        raise KeyboardInterrupt
    assert statuses == [130]
    assert "SIGINT, for the third time: ended at once" in capsys.readouterr().err


def test_all_is_left_as_it_was():
    """Also where every signal is ignored: what wakes the listening thread up was left behind."""
    old = {number: signal.signal(number, signal.SIG_IGN) for number in stopping._SIGNALS}
    try:
        with stopping.stop_requests(1) as stop:
            stop.begin(lambda: False)
            during = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(during)
            assert during != -1
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def test_training_waits_neither_for_the_disk_nor_for_samples(tiny, tmp_path, monkeypatch, capsys):
    """Both hold still until the training has gone on; samples that come too early are left out."""

    def until_logged(iteration):
        for _ in range(12000):
            logged = lines_of(tmp_path) if (tmp_path / "metrics.jsonl").exists() else []
            if any(line["iteration"] >= iteration and "seconds" in line for line in logged):
                return
            time.sleep(0.05)
        raise AssertionError(f"the training waits before iteration {iteration}")

    save, sample, taken = checkpoint.Checkpoints.save, sampling.Sampler.sample, []

    def slow_save(self, state, iteration, *rest):
        until_logged(min(iteration + 1, 4))
        return save(self, state, iteration, *rest)

    def slow_sample(self, variables):
        taken.append(1)
        until_logged(2 if len(taken) == 1 else 4)
        return sample(self, variables)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", slow_save)
    monkeypatch.setattr(sampling.Sampler, "sample", slow_sample)
    words = ("--output.save_every=2", "--output.sample_every=1", "--output.melodies=twinkle")
    written = loop.train(with_(tiny, *words), tmp_path)
    assert [path.parent.name for path in written] == ["000004"] * 3  # the last are always made
    assert "iteration 1: no samples, the ones before are not done yet" in capsys.readouterr().err
    assert [line["iteration"] for line in lines_of(tmp_path) if "seconds" in line] == [1, 2, 3, 4]
    assert not (tmp_path / "samples" / "000001").exists()


def test_a_stop_waits_for_the_checkpoint_and_not_for_samples(tiny, tmp_path, monkeypatch, capsys):
    go, done = threading.Event(), []
    sample = sampling.Sampler.sample

    def slow_sample(self, variables):
        os.kill(os.getpid(), signal.SIGTERM)
        go.wait(50)
        done.append(1)
        return sample(self, variables)

    monkeypatch.setattr(sampling.Sampler, "sample", slow_sample)
    words = ("--training.iterations=1000", "--output.sample_every=1", "--output.melodies=twinkle")
    assert loop.train(with_(tiny, *words), tmp_path) is None
    assert not done
    go.set()
    told = capsys.readouterr().err
    assert "SIGTERM: stopped at iteration" in told and "and saved" in told
    assert list((tmp_path / "checkpoints").iterdir())


def test_throughput_is_of_the_time_since_the_last_reading(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    clock = timing.Clock()
    kind = "NVIDIA H100 80GB HBM3"
    meter = timing.Meter(clock, examples=10, flops=1e12, kinds=[kind] * 2)
    assert meter.read() == {}
    for _ in range(2):
        clock.start()
        clock.iterations += 4
        with clock.waiting("save"):
            now[0] += 0.5
        now[0] += 1.5
        assert meter.read() == {
            "examples_per_second": 20.0, "tflops": 2.0, "mfu": 0.001011,
            "input_share": 0.0, "sample_share": 0.0, "save_share": 0.25,
        }  # fmt: skip
    unknown = timing.Meter(clock, examples=10, flops=1e12, kinds=[kind, "cpu"])
    clock.iterations += 1
    now[0] += 1
    assert "mfu" not in unknown.read()


def test_a_checksum_sees_every_bit_on_every_device(tiny):
    layout = parallel.make_layout(tiny)
    sums = parallel.make_checksums(layout.mesh)
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    same = np.asarray(sums({"a": layout.replicate(values), "b": layout.replicate(np.int32(7))}))
    assert (same == same[0]).all() and same.shape == (len(layout.devices), 2)
    for bit in (0, 31):
        other = values.copy()
        other.view(np.uint32)[1, 2] ^= np.uint32(1 << bit)
        parts = [
            jax.device_put(other if n == 2 else values, device)
            for n, device in enumerate(layout.devices)
        ]
        torn = jax.make_array_from_single_device_arrays((3, 5), layout.replicated, parts)
        found = sums({"a": torn, "b": layout.replicate(np.int32(7))})
        differs = (np.asarray(found) != same).all(axis=1)
        assert differs.tolist() == [n == 2 for n in range(len(layout.devices))]
        with pytest.raises(UserError, match="iteration 5: the state on device 2 of process 0"):
            outputs.compare(found, 5)
    swapped = checksum({"a": jnp.asarray(values[::-1])})
    assert (np.asarray(swapped) != np.asarray(checksum({"a": jnp.asarray(values)}))).all()
