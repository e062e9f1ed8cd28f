"""Checkpoints and samples are made beside the training, one of each at a time."""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musegan_jax.errors import UserError
from musegan_jax.runs import checkpoint, timing
from musegan_jax.runs.background import Background
from musegan_jax.runs.fingerprint import checksum
from musegan_jax.training import loop, outputs, parallel, sampling
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
