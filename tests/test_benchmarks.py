"""The benchmarks' own arithmetic, and that each refuses what it cannot do in one line."""

import dataclasses
import importlib.util
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from conftest import in_new_process
from musegan_jax import config as configs
from musegan_jax.errors import UserError


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")


def test_minimum_operations_of_a_network_counted_by_hand():
    """One block each, on a roll of 2 x 2: one position, of whose 4 x 4 taps 2 x 2 fall inside."""
    from musegan_jax.runs.peaks import minimum

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
    # A second scale of 8 steps sees 2: what this critic does. Matching runs the critic on real.
    eight = ["--data.window_steps=8"]
    near, both, matched = (
        minimum(configs.override(config, [*eight, *words]))
        for words in ([], ["--model.critic_scales=2"], ["--training.matching_weight=1"])
    )
    assert both["critic_update"] - near["critic_update"] == found["critic_update"] - forward
    assert both["generator_update"] - near["generator_update"] == critic + dense + roll
    taps = 3 + 4 + 4 + 3  # of 4 positions in time, those that fall inside
    assert matched["generator_update"] - near["generator_update"] == taps * first / 2 + 4 * dense
    # Shown pitch classes and the position: one channel more of each input, eight of the condition;
    # the pitch classes of the roll are of the roll. The last block has four kernels more.
    more = configs.override(
        config,
        ["--model.chroma=true", "--model.bar_position=true", "--training.diversity_weight=1"],
    )
    first, encoder, decoder = 2 * 4 * 11 * 7, 2 * 4 * 10 * 3, 2 * 4 * 6 * 5
    forward, critic, roll = encoder + decoder, first + dense, first * 2 / 11
    again = minimum(more)
    assert again["critic_update"] == (
        forward + 3 * critic + (dense + roll) + 2 * dense + 2 * (dense + roll) + 2 * critic
    )
    # Two flavours.
    assert again["generator_update"] == 2 * (2 * forward + decoder / 2 + critic + dense + roll)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("NVIDIA B200", "NVIDIA B200"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU v4", "v4"),
        ("cpu", None),
    ],
)
def test_a_devices_peak_is_found_by_jaxs_name_for_it(kind, name):
    from musegan_jax.runs import peaks

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
        "for part in ('critic update', 'generator update'):\n"
        "    found = t.measure(part, config, layout, 'v5e')['collectives']\n"
        "    print(*(each['bytes'] for each in found if each['bytes'] > 100_000))\n"
    )
    sizes = [[int(word) for word in line.split()] for line in in_new_process(code).splitlines()]
    critic, generator = (sum(found) for found in sizes)
    assert [len(found) for found in sizes] == [1, 1]
    assert critic > 4 * 600_000 and generator > 4 * 2_000_000


def test_slices_send_each_other_a_share_of_the_gradient():
    """The compiler makes the hierarchy, within a slice and between slices, of one sum over all."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import re, hlo, programs, tpu_compile\n"
        "from musegan_jax import config as configs\n"
        "layout = programs.layout_of('', platform='tpu', topology_name='v5e:2x4', num_slices=2)\n"
        "config = configs.override(configs.load('configs/chorales.py'), [\n"
        "    '--model.dtype=bfloat16', '--training.batch_size=64'])\n"
        "text = programs.lower('critic update', config, layout).compile().as_text()\n"
        "for name in ('send', 'all-gather'):\n"
        "    found = re.findall(rf'= (\\S.*?) {name}\\(', text)\n"
        "    print(sum(part.bytes for each in found for part in hlo.shapes_of(each)))\n"
    )
    sent, whole = map(int, in_new_process(code).split())
    assert whole > 4 * 600_000 and 0 < sent < whole / 6  # of eight chips each sends an eighth


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train_step.py", "--turns", "0"], "--turns 0: it must be at least 1"),
        (["train_step.py", "--batch-sizes", "8,0"], "--batch-sizes 8,0: config: training.batch"),
        (["train_step.py", "--batch-sizes", ""], "--batch-sizes : give values"),
        (["train_step.py", "--strategies", "fast"], "jit, mesh or pmap"),
        (["train_step.py", "--wall", "-1"], "--wall -1: it must be at least 0"),
        (["train_step.py", "--json", "benchmarks"], "--json benchmarks: this is a folder"),
        (["scaling.py", "--simulate", "2", "--devices", "1", "99"], "--devices 99: there are only"),
        (["scaling.py", "--config", "configs/tiny.py", "--devices", "3"], "--devices 3: the batch"),
        (["tpu_compile.py", "--batch-per-chip", "0"], "--batch-per-chip 0: it must be at least 1"),
        (["gpu_compile.py", "--batch-per-gpu", "0"], "--batch-per-gpu 0: it must be at least 1"),
        (["gpu_compile.py", "--flags", "x"], "--flags x: give NAME=VALUE"),
        (["gpu.py", "--name", "x", "--out", "nowhere"], "--out: nowhere: no such folder"),
        (["kernels.py", "--iterations", "0"], "--iterations 0: it must be at least 1"),
        (["repeat.py", "--iterations", "1"], "--iterations 1: it must be at least 2"),
        (["train_step.py", "--together", "0"], "--together 0: it must be at least 1"),
        (["gpu.py", "--name", "a/h100"], "--name 'a/h100'"),
        (["peers.py", "--peers", "mxnet"], "--peers: 'mxnet' is none of keras"),
        (["peers.py", "--json", "nowhere/a.json"], "--json: nowhere: no such folder"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(words, message, monkeypatch, capsys):
    assert status(words, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{words[0].removesuffix('.py')}: ") and message in line


def status(words: list[str], monkeypatch) -> int:
    """Exit status of a script, run in this process: importing JAX again takes seconds."""
    monkeypatch.setattr(sys, "argv", words)
    # What the scripts set is undone at the end.
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    cached = jax.config.jax_enable_compilation_cache
    script = runpy.run_path(f"benchmarks/{words[0]}")
    try:
        return script["records"].command(script["run"])
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def test_an_error_ends_the_process_without_a_traceback():
    words = [sys.executable, "benchmarks/gpu.py", "--name", "x", "--limit", "59"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "gpu: --limit 59.0: it must be at least 60\n"


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_a_compiler_that_is_not_there_is_named(kind, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    assert status([f"{kind}_compile.py"], monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"uv run --extra {'tpu' if kind == 'tpu' else 'cuda'} python" in line


def test_gpus_that_do_not_exist_are_refused():
    from gpu_compile import layout_of

    for topology in ("P100:1", "H100", "H100:0", "H100:2x", "H100:x8", "H100:one"):
        with pytest.raises(UserError, match="use A100, H100, H200, B200 and a number"):
            layout_of(topology)


def test_a_folder_that_takes_no_file_is_found_before_anything_is_measured(tmp_path, monkeypatch):
    import records

    records.need_target("--json", None)
    records.need_target("--json", tmp_path / "new.json")
    assert not list(tmp_path.iterdir())

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"--json: .*cannot write .*Permission denied"):
        records.need_target("--json", tmp_path / "new.json")


def test_ten_minutes_on_a_gpu_leave_a_record_of_each_part(monkeypatch):
    import gpu

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "torch")
    parts = gpu.parts("x", "configs/tiny.py", Path("out"), "64,256,1024", ["--a.b=1"], on_gpu=True)
    written = [part.words[-1] for part in parts]
    assert len(set(written)) == len(parts) == 8 and written[0] == "out/train_step_x.json"
    assert all(
        "--a.b=1" in part.words and Path("benchmarks", part.script).exists() for part in parts
    )
    flags = {part.words[-1]: part.flags for part in parts if part.flags}
    assert flags == {
        "out/kernels_x.json": gpu.TRACED,
        "out/train_step_graphs_x.json": gpu.GRAPHS,
        "out/train_step_fused_x.json": gpu.FUSED,
    }
    assert "--training.batch_size=256" in parts[2].words  # the middle one is traced
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    peers = [part.words for part in gpu.parts("x", "x", Path("out"), "8", [], on_gpu=True)][1:3]
    assert [words[words.index("--peers") + 1] for words in peers] == ["torch,torch-eager", "keras"]
    # Keras's peer refuses bf16, and would take PyTorch's with it.
    assert ["--model.dtype=bfloat16" in words for words in peers] == [True, False]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    left = gpu.parts("x", "configs/tiny.py", Path("out"), "8", [], on_gpu=False)
    assert [part.script for part in left] == [
        *("train_step.py", "kernels.py", "train_step.py", "repeat.py", "train_step.py")
    ]
    assert not any(part.flags for part in left)


def test_a_part_that_is_stopped_leaves_nothing_running(tmp_path):
    """Its own processes would go on, and be measured with the next part."""
    import gpu

    script, told = tmp_path / "part.py", tmp_path / "child"
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1] + '.new', 'w').write(str(child.pid))\n"
        "import os; os.replace(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600 if len(sys.argv) < 3 else 0)\n"
        "child.kill(); sys.exit(3)\n"
    )
    assert gpu.finish_or_stop(gpu.Part(str(script), [str(told), "at once"], 1), 60) == 3
    told.unlink()
    found = None
    for seconds in (2, 10, 60):  # longer where the machine is busy
        found = gpu.finish_or_stop(gpu.Part(str(script), [str(told)], 1), seconds)
        assert found is None
        if told.exists():
            break
    status = Path(f"/proc/{told.read_text()}/status")
    for _ in range(600):  # it is killed, but the machine may be busy
        if not status.exists() or "Z (zombie)" in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail("what the part had started still runs")


def test_a_record_keeps_its_command_as_one_types_it(tmp_path, monkeypatch):
    import records

    target = f"{records.CHECKOUT}/a b.json"  # as gpu.py gives it
    words = ["/anywhere/benchmarks/peers.py", "--peers", "torch", "--json", target]
    monkeypatch.setattr(sys, "argv", words)
    records.write(tmp_path / "a.json", {"benchmark": "peers", "rows": []})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "benchmark": "peers",
        "command": "uv run --with keras --with tensorflow --with torch python "
        "benchmarks/peers.py --peers torch --json 'a b.json'",
        "rows": [],
    }


def test_devices_by_default_are_those_that_divide_the_batch():
    from scaling import counts_of

    assert counts_of(None, 8, 4) == [1, 2, 4] and counts_of(None, 2, 32) == [1, 2]
    assert counts_of(None, 1, 7) == [1] and counts_of([4, 1, 4], 8, 8) == [1, 4]


def test_the_iteration_counts_its_critic_updates(tiny):
    from musegan_jax.runs.peaks import minimum

    one = dataclasses.replace(tiny.training, critic_updates=1)
    fewer = minimum(dataclasses.replace(tiny, training=one))
    assert fewer["iteration"] == fewer["critic_update"] + fewer["generator_update"]
