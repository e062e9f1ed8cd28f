"""The benchmarks' own arithmetic, and that each refuses what it cannot do in one line."""

import dataclasses
import importlib.util
import subprocess
import sys

import pytest

from musegan_jax import config as configs


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")


def test_minimum_operations_of_a_network_counted_by_hand():
    """One block each, on a roll of 2 x 2: one position, of whose 4 x 4 taps 2 x 2 fall inside."""
    from peaks import minimum

    config = configs.Config(
        data=configs.DataConfig(window_steps=2),
        model=configs.ModelConfig(tracks=1, pitches=2, generator_filters=(3,), critic_filters=(7,)),
    )
    # Critic, 2 channels in: 2*2 * 2 * 7 products, then 7 in the dense layer; 2 FLOPs each.
    first, dense = 2 * 4 * 2 * 7, 2 * 7
    # Generator: 2*2 * 1 * 3, then 6 channels at 1 x 1 to one at 2 x 2, where each of the 4 outputs
    # sees the one input.
    encoder, decoder = 2 * 4 * 1 * 3, 2 * 4 * 6 * 1
    forward, critic = encoder + decoder, first + dense
    roll = first / 2  # back to the roll, not to the condition
    found = minimum(config)
    # Forward of real, fake and blended; back for the blended one and the two others; the slope;
    # three gradients of the kernels. The condition has no share in the slope and its gradient.
    assert found["critic_update"] == (
        forward + 3 * critic + (dense + roll) + 2 * dense + 3 * critic - 2 * (first - roll) + critic
    )
    # The first decoder layer's input is half noise, of which no gradient is needed.
    assert found["generator_update"] == 2 * forward + decoder / 2 + critic + dense + roll
    assert found["iteration"] == 5 * found["critic_update"] + found["generator_update"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU v4", "v4"),
        ("cpu", None),
    ],
)
def test_a_devices_peak_is_found_by_jaxs_name_for_it(kind, name):
    import peaks

    assert peaks.peak_of(kind) == (peaks.PEAKS[name] if name else None)


def test_train_step_measures_the_shipped_iteration(tiny):
    import train_step

    config = configs.override(tiny, ["--parallel.strategy=mesh", "--training.batch_size=8"])
    row = train_step.measure(config, turns=2)
    assert row["batch_size"] == 8 and row["devices"] == 4 and row["strategy"] == "mesh"
    assert len(row["seconds"]) == 2 and row["p10_s"] <= row["median_s"] <= row["p90_s"]
    examples = 8 * (config.training.critic_updates + 1)
    assert row["samples_per_s"] == pytest.approx(examples / row["median_s"])
    assert row["samples_per_s_per_device"] == pytest.approx(row["samples_per_s"] / 4)
    assert row["peak_memory_bytes"] > row["temporary_bytes"] > 0 and row["mfu"] is None


def test_one_gradient_is_summed_per_update_on_a_tpu_slice():
    """And in float32; compiled by the real compiler, where libtpu is installed."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import tpu_compile as t\n"
        "from musegan_jax import config as configs\n"
        "layout = t.layout_of('v5e:2x2')\n"
        "config = configs.override(configs.load('configs/chorales.py'), [\n"
        "    '--model.dtype=bfloat16', '--training.batch_size=32'])\n"
        "for update in (t.critic_update, t.generator_update):\n"
        "    found = t.measure(update, config, layout, 'v5e')['collectives']\n"
        "    print(*(each['bytes'] for each in found if each['bytes'] > 100_000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sizes = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    critic, generator = (sum(found) for found in sizes)
    assert [len(found) for found in sizes] == [1, 1]
    assert critic > 4 * 600_000 and generator > 4 * 2_000_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train_step.py", "--turns", "0"], "--turns 0: it must be at least 1"),
        (["train_step.py", "--batch-sizes", "0"], "training.batch_size = 0"),
        (["train_step.py", "--strategies", "fast"], "jit, mesh or pmap"),
        (["gpu.py", "--name", "x", "--out", "nowhere"], "nowhere: no such folder"),
        (["peers.py", "--peers", "mxnet"], "none of keras"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(words, message):
    done = subprocess.run(
        [sys.executable, f"benchmarks/{words[0]}", *words[1:]], capture_output=True, text=True
    )
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_the_iteration_counts_its_critic_updates(tiny):
    from peaks import minimum

    one = dataclasses.replace(tiny.training, critic_updates=1)
    fewer = minimum(dataclasses.replace(tiny, training=one))
    assert fewer["iteration"] == fewer["critic_update"] + fewer["generator_update"]
