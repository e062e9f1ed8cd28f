"""The loop as a user runs it: a workdir, resumed, stopped, killed, refused."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from conftest import make_dataset
from musegan_jax import config as configs
from musegan_jax import files
from musegan_jax.data import dataset
from musegan_jax.errors import UserError
from musegan_jax.runs import checkpoint, record
from musegan_jax.training import load, loop, parallel, sampling
from musegan_jax.training.state import abstract_state

LOSSES = ("critic_loss", "wasserstein", "penalty", "critic_gradient_norm", "generator_loss")


def state_of(workdir, config):
    saved = checkpoint.newest_valid(epath.Path(workdir), abstract_state(config), pytest.fail)
    return saved.state, saved.seconds


def fingerprint_of(workdir):
    """Of the newest checkpoint, from the array files themselves."""
    _, saved = load.open_run(epath.Path(workdir), say=pytest.fail)
    return saved.fingerprint


def load_model(workdir):
    return load.load_model(epath.Path(workdir), say=pytest.fail)


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def with_(config, *words):
    return configs.override(config, words)


@pytest.fixture(scope="module")
def straight(tiny, tmp_path_factory):
    """A run of six iterations that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("straight")
    config = with_(tiny, "--training.iterations=6", "--output.melodies=twinkle")
    written = loop.train(config, workdir)
    return config, workdir, written


def command(config_words, workdir):
    return [
        sys.executable, "-W", "error", "-m", "musegan_jax.cli", "train",
        "--config", "configs/tiny.py", "--workdir", str(workdir), *config_words,
    ]  # fmt: skip


def words(data_file, iterations):
    return [
        f"--data.dataset={data_file}",
        "--output.melodies=",
        f"--training.iterations={iterations}",
    ]


def test_what_a_run_leaves(straight):
    config, workdir, written = straight
    assert [path.relative_to(workdir).as_posix() for path in written] == [
        f"samples/000006/twinkle.{kind}" for kind in ("mid", "wav", "png")
    ]
    assert all(len(path.read_bytes()) > 100 for path in written)
    record = json.loads((workdir / "run.json").read_text())
    assert configs.from_dict(record["config"]) == config
    assert record["config_sha256"] == config.digest()
    assert len(record["dataset"]["sha256"]) == 64
    steps = [line for line in lines_of(workdir) if "critic_loss" in line]
    assert [line["iteration"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(line[name]) for line in steps for name in LOSSES)
    assert "in_scale" in lines_of(workdir)[-1]
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").iterdir())  # the dev group has the extra
    assert not [path for path in workdir.rglob(".*")]  # nothing half-written


def test_held_out_pieces_are_heard(tiny, tmp_path):
    many = tmp_path / "many.npz"
    dataset.save(make_dataset(pieces=40), many)
    config = with_(
        tiny, f"--data.dataset={many}",
        "--training.iterations=2", "--output.melodies=", "--output.held_out=2",
        "--output.save_every=1", "--output.keep_best=1", "--output.best_by=distance",
    )  # fmt: skip
    loop.train(config, tmp_path)
    heard = [line for line in lines_of(tmp_path) if "distance" in line]
    assert [line["iteration"] for line in heard] == [1, 2]
    for line in heard:
        assert line["harmony"] > 0 and {"valid/chord", "real/moves"} < line.keys()
        assert line["distance"] > 0 and 0 <= line["valid/semitone_clash"] <= 1
        assert line["real/empty_bars"] == heard[0]["real/empty_bars"]
    assert heard[0]["distance"] != heard[1]["distance"]
    assert (tmp_path / "curves.png").is_file()


def test_an_untrained_network_looks_bad(tiny):
    """What picks checkpoints: the decoder makes lines without clashes even of noise."""
    data = make_dataset(pieces=40)
    config = with_(tiny, "--output.melodies=twinkle", "--output.held_out=2")
    state = parallel.initial_state(config, parallel.make_layout(config))
    sampler = sampling.prepare_sampler(config, record.make(config, data).music, data)
    scores = sampler.sample(state).scores
    assert scores["semitone_clash"] > 0.3 and scores["valid/semitone_clash"] > 0.3


def test_nothing_held_out_to_hear(tiny, tmp_path):
    """All pieces of this dataset are in the split that is trained on."""
    with pytest.raises(UserError, match="0 where the split valid is trained on"):
        with_(tiny, "--output.held_out=2", "--data.splits=train,valid")
    only = tmp_path / "only.npz"
    whole = dataset.load(tiny.data.dataset)
    dataset.save(dataclasses.replace(whole, split=np.zeros_like(whole.split)), only)
    config = with_(tiny, f"--data.dataset={only}", "--output.held_out=2")
    with pytest.raises(UserError, match="output.held_out = 2: .* fewer than two pieces"):
        loop.train(config, tmp_path / "run")


@pytest.mark.contract
def test_resuming_changes_nothing(straight, tmp_path, data_file):
    """Contract test 2: 2 + 4 iterations in two processes equal 6 in one, bit for bit."""
    config, workdir, _ = straight
    first = subprocess.run(
        command(words(data_file, 2), tmp_path), capture_output=True, text=True, timeout=300
    )
    assert first.returncode == 0, first.stderr
    loop.train(with_(config, "--output.melodies="), tmp_path)
    assert_equal(state_of(tmp_path, config)[0], state_of(workdir, config)[0])
    values = [
        [[line[name] for name in LOSSES] for line in lines_of(run) if "critic_loss" in line]
        for run in (workdir, tmp_path)
    ]
    assert values[0] == values[1]
    assert state_of(tmp_path, config)[1] > 0  # training seconds go on over the restart


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on(tmp_path, data_file, number):
    many = 100_000
    run = subprocess.Popen(
        command(words(data_file, many), tmp_path), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_iterations(tmp_path, 3, run)
        run.send_signal(number)
        _, stderr = run.communicate(timeout=120)
    finally:
        run.kill()  # a run that does not stop would slow every test after it
    assert run.returncode == 0, stderr
    assert f"{number.name}: stopped at iteration" in stderr and "Traceback" not in stderr
    stopped = lines_of(tmp_path)[-1]["iteration"]
    saved = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert saved[-1] == stopped
    config = with_(configs.load("configs/tiny.py"), *words(data_file, stopped + 1))
    loop.train(config, tmp_path)
    assert lines_of(tmp_path)[-1]["iteration"] == stopped + 1


@pytest.mark.slow
def test_sigkill_at_a_random_moment_changes_nothing(straight, tmp_path, data_file):
    """Contract test 2, the hard half: whatever was being written, the run ends the same."""
    config, _, _ = straight
    settings = [*words(data_file, 60), "--output.save_every=1"]
    run = subprocess.Popen(command(settings, tmp_path), stderr=subprocess.PIPE, text=True)
    wait_for_iterations(tmp_path, 1, run)
    time.sleep(float(np.random.default_rng().uniform(0, 0.2)))
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    longer = with_(config, "--training.iterations=60", "--output.melodies=")
    loop.train(longer, tmp_path)
    loop.train(longer, tmp_path / "straight")
    assert fingerprint_of(tmp_path) == fingerprint_of(tmp_path / "straight")
    steps = [line["iteration"] for line in lines_of(tmp_path) if "critic_loss" in line]
    assert steps == list(range(1, 61))


def wait_for_iterations(workdir: Path, wanted: int, run: subprocess.Popen) -> None:
    for _ in range(1200):
        path = workdir / "metrics.jsonl"
        if path.exists() and len(path.read_text().splitlines()) >= wanted:
            return
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


@pytest.mark.contract
def test_nothing_is_compiled_twice_not_even_after_a_restore(tiny, tmp_path, monkeypatch):
    """Contract test 4, through the loop: a training of many iterations traces the step once."""
    traced = []
    original = parallel.train_step

    def counted(*args, **kwargs):
        traced.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(parallel, "train_step", counted)
    for runs, iterations in ((1, 2), (2, 5)):
        loop.train(with_(tiny, f"--training.iterations={iterations}"), tmp_path)
        assert len(traced) == runs


def test_a_finished_run_is_left_as_it_is(straight, capsys):
    config, workdir, written = straight
    before = (workdir / "metrics.jsonl").read_text()
    assert loop.train(config, workdir) == written
    assert (workdir / "metrics.jsonl").read_text() == before
    assert "are already done" in capsys.readouterr().err


def test_non_finite_values_stop_the_run_and_keep_the_last_good_state(tiny, tmp_path):
    good = with_(tiny, "--training.iterations=2")
    loop.train(good, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    # A step of 1e30 overflows float32 in the next iteration.
    bad = with_(
        tiny, "--training.iterations=9", "--training.generator_learning_rate=1e30",
        "--training.critic_learning_rate=1e30", "--output.save_every=1",
    )  # fmt: skip
    record["config"] = bad.to_dict()
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"iteration \d: \w+ is (nan|-?inf)"):
        loop.train(bad, tmp_path)
    state, _ = state_of(tmp_path, bad)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert all(math.isfinite(v) for line in lines_of(tmp_path) for v in line.values())


def test_parameters_that_overflow_in_the_last_update_are_not_saved(tiny, tmp_path):
    """The losses of that iteration are still finite: only the parameters tell."""
    config = with_(tiny, "--training.iterations=1", "--training.generator_learning_rate=3e38")
    with pytest.raises(UserError, match="parameter_norm is"):
        loop.train(config, tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_melodies_of_one_name_are_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="two are called twinkle"):
        loop.train(with_(tiny, "--output.melodies=twinkle,twinkle"), tmp_path / "run")


def test_old_checkpoints_go(tiny, tmp_path):
    loop.train(
        with_(tiny, "--training.iterations=6", "--output.save_every=1",
              "--output.keep_checkpoints=2"), tmp_path,
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["5", "6"]


def test_another_config_or_dataset_in_the_workdir_is_refused(straight, tmp_path):
    config, workdir, _ = straight
    with pytest.raises(UserError, match="training.batch_size = 4, the command says 8"):
        loop.train(with_(config, "--training.batch_size=8"), workdir)
    other = tmp_path / "other.npz"
    dataset.save(make_dataset(seed=1), other)
    with pytest.raises(UserError, match="was started on other data"):
        loop.train(with_(config, f"--data.dataset={other}"), workdir)


def test_a_damaged_record_is_named(straight, tmp_path):
    config, workdir, _ = straight
    copy(workdir, tmp_path)
    (tmp_path / "run.json").write_text('{"config": {}')
    with pytest.raises(UserError, match=r"run.json: damaged"):
        loop.train(config, tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError, match=r"checkpoints but no run.json"):
        loop.train(config, tmp_path)


def copy(workdir, to):
    subprocess.run(["cp", "-r", f"{workdir}/.", str(to)], check=True)


def test_a_run_without_a_checkpoint_binds_nobody(tiny, straight, tmp_path):
    config, workdir, _ = straight
    (tmp_path / "run.json").write_bytes((workdir / "run.json").read_bytes())
    loop.train(with_(tiny, "--training.iterations=1", "--training.batch_size=8"), tmp_path)
    assert record.read(epath.Path(tmp_path)).config.training.batch_size == 8


def test_one_run_at_a_time_in_a_workdir(tiny, tmp_path):
    with files.locked(tmp_path), pytest.raises(UserError, match="another process is training"):
        loop.train(tiny, tmp_path)


def test_a_folder_that_is_no_run_is_no_model(tmp_path):
    with pytest.raises(UserError, match="not the folder of a training run"):
        load_model(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_workdir_that_cannot_be_written(tiny, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot write into this folder"):
        loop.train(tiny, blocker / "run")


def test_a_silent_condition_is_refused(tiny, tmp_path):
    from musegan_jax import pianoroll

    roll = np.zeros((32, 128, 4), bool)
    roll[:, 60, 1:] = True
    pieces = [dataset.Piece(f"{n}", pianoroll.pack(roll), np.array([0, 16])) for n in range(9)]
    tracks = [pianoroll.Track(name, 0) for name in "SATB"]
    path = tmp_path / "silent.npz"
    dataset.save(dataset.build(pieces, tracks, 4, "test"), path)
    with pytest.raises(UserError, match="condition_track = 0.*is silent"):
        loop.train(with_(tiny, f"--data.dataset={path}"), tmp_path / "run")
