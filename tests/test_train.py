"""The loop as a user runs it: a workdir, resumed, stopped, killed, refused."""

import dataclasses
import json
import math
import os
import shutil
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
from musegan_jax import cli, files
from musegan_jax import config as configs
from musegan_jax.data import dataset, midi
from musegan_jax.errors import UserError
from musegan_jax.runs import checkpoint, record, timing
from musegan_jax.training import load, loop, parallel, profiling, sampling
from musegan_jax.training.state import abstract_state, inference_variables

DEEP: dict = {}
for _ in range(500):
    DEEP = {"deeper": DEEP}
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
    measured = set(timing.MEASURED) - {"mfu"}  # of a CPU no peak is known
    assert all(measured <= line.keys() and line["examples_per_second"] > 0 for line in steps)
    assert "in_scale" in lines_of(workdir)[-1]
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").iterdir())  # the dev group has the extra
    assert not [path for path in workdir.rglob(".*")]  # nothing half-written


@pytest.mark.slow
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
    songs = sorted((tmp_path / "samples" / "000002").iterdir())
    assert [song.name for song in songs] == ["valid-1.mid", "valid-2.mid"]
    assert all(midi.read(song).parts for song in songs)
    assert (tmp_path / "curves.png").is_file()


def test_an_untrained_network_looks_bad(tiny):
    """What picks checkpoints: the decoder makes lines without clashes even of noise."""
    data = make_dataset(pieces=40)
    config = with_(tiny, "--output.melodies=twinkle", "--output.held_out=2")
    state = parallel.initial_state(config, parallel.make_layout(config))
    sampler = sampling.prepare_sampler(config, record.make(config, data).music, data)
    scores = sampler.sample(jax.device_get(inference_variables(state))).scores
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
    # No cache of programs: the others would find what the kill left of an entry.
    own = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    run = subprocess.Popen(command(settings, tmp_path), stderr=subprocess.PIPE, text=True, env=own)
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
    # A step of 1e30 overflows float32 in the next iteration.
    bad = with_(
        tiny, "--training.iterations=9", "--training.generator_learning_rate=1e30",
        "--training.critic_learning_rate=1e30", "--output.save_every=1",
    )  # fmt: skip
    change_record(tmp_path, config=bad.to_dict(), config_sha256=bad.digest())
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


def test_old_checkpoints_go_and_a_trace_stays(tiny, tmp_path, capsys):
    loop.train(
        with_(tiny, "--training.iterations=6", "--output.save_every=1",
              "--output.keep_checkpoints=2"), tmp_path, profile=(2, 4),
    )  # fmt: skip
    (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    assert trace.stat().st_size > 1000 and "perfetto_trace.json.gz" in capsys.readouterr().err
    with pytest.raises(UserError, match="--profile 4:2: it must be FIRST:END"):
        profiling.parse("4:2")
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


def change_record(workdir, sealed=True, **changes):
    """Write other values into a run's record, with the hash that fits them."""
    path = workdir / record.FILE
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(record.seal(values) if sealed else values))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seed": 7}, "seed"),
        ({"config_sha256": "0" * 64}, "config: its hash differs"),
        ({"config": None}, "damaged"),
        ({"config": {"training": None}}, "training is a section"),
        ({"result": {"iteration": "4", "fingerprint": {"state": "0"}}}, "a whole number"),
        ({"result": {"iteration": "4"}}, "damaged"),
        ({"result": {"iteration": 4, "fingerprint": {"state": 0}}}, "must be text"),
        ({"result": []}, "damaged"),
        ({"sessions": [{}]}, "damaged"),
        ({"sessions": [{"started": "", "ended": None, "from": "0"}]}, "sessions"),
        ({"sessions": [{"started": "", "ended": None, "from": 0, "x": DEEP}]}, "sessions"),
        ({"dataset": {"sha256": 3, "source": "x"}}, "damaged"),
    ],
)
def test_what_a_record_says_is_checked(straight, tmp_path, capsys, changes, why):
    """By every command that reads one; exit status 1 would mean that two runs differ."""
    config, workdir, _ = straight
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    change_record(tmp_path, **changes)
    for argv in (["reproduce", f"{tmp_path}/run.json"], ["fingerprint", str(tmp_path)]):
        assert cli.main(argv) == 2
        err = capsys.readouterr().err
        assert "run.json: " in err and why in err and err.count("\n") == 1, err


def test_a_record_that_was_changed_is_told_by_its_hash(straight, tmp_path):
    config, workdir, _ = straight
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    values = json.loads((workdir / "run.json").read_text())
    facts = {"ranges": [[0, 127]] * 4}
    change_record(tmp_path, sealed=False, dataset={**values["dataset"], **facts})
    with pytest.raises(UserError, match="its content has changed"):
        load_model(tmp_path)
    # Even with the hash that fits, the data themselves say otherwise.
    change_record(tmp_path, dataset={**values["dataset"], **facts})
    with pytest.raises(UserError, match="dataset.ranges is not that of its data"):
        loop.train(config, tmp_path)
    # A record of a version that wrote no hash is read.
    (tmp_path / "run.json").write_text(
        json.dumps({name: value for name, value in values.items() if name != "sha256"})
    )
    assert loop.train(config, tmp_path)


GARBAGE = {
    "a flipped bit": b'{"iter\xe1tion": 1, "critic_loss": 1.0}',
    "no object": b"[1]",
    "text for a number": b'{"iteration": "1"}',
    "no iteration": b'{"critic_loss": 1.0}',
    "a fraction": b'{"iteration": 1.5}',
    "not finite": b'{"iteration": 1, "critic_loss": NaN}',
    "huge": b'{"iteration": 1, "critic_loss": 1' + 400 * b"0" + b"}",
    "deep": b'{"iteration": 1, "x": ' + 100_000 * b"[" + b"}",
    "a list": b'{"iteration": 1, "critic_loss": [1]}',
}


@pytest.mark.parametrize("what", GARBAGE)
def test_a_damaged_log_never_keeps_a_run_from_going_on(straight, tmp_path, capsys, what):
    config, workdir, _ = straight
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    for name in ("metrics.jsonl", "fingerprints.jsonl"):
        path = tmp_path / name
        path.write_bytes(GARBAGE[what] + b"\n" + path.read_bytes())
    loop.train(config, tmp_path)
    said = capsys.readouterr().err
    for name in ("metrics.jsonl", "fingerprints.jsonl"):
        assert f"{name}: damaged lines (1) were moved to" in said
        assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes()
        assert (tmp_path / "damaged" / name).read_bytes() == GARBAGE[what] + b"\n"


def test_what_lies_where_a_log_should(straight, tmp_path, capsys):
    config, workdir, _ = straight
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    for name in ("metrics.jsonl", "tensorboard"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "tensorboard").write_text("a file")
    loop.train(with_(config, "--training.iterations=7"), tmp_path)
    said = capsys.readouterr().err
    assert "metrics.jsonl: not a file; moved to" in said and "tensorboard: cannot be" in said
    assert (tmp_path / "damaged" / "metrics.jsonl").is_dir()
    assert [line["iteration"] for line in lines_of(tmp_path)] == [7, 7]


@pytest.mark.slow
def test_a_finished_run_is_made_longer_though_its_learning_rates_fall(tiny, tmp_path, capsys):
    """As the README promises; the rates get another end, and `reproduce` knows."""
    falling = with_(tiny, "--training.decay_from=0", "--output.melodies=")
    loop.train(with_(falling, "--training.iterations=2"), tmp_path)
    capsys.readouterr()
    loop.train(with_(falling, "--training.iterations=5"), tmp_path)
    assert "the learning rates now reach 0 at iteration 5, not 2" in capsys.readouterr().err
    assert record.decays(record.read(epath.Path(tmp_path))) == [(0, 2), (2, 5)]
    assert cli.main(["reproduce", f"{tmp_path}/run.json"]) == 0, capsys.readouterr()
    assert "equal, bit for bit" in capsys.readouterr().out
    # It is not the run that had this end from the start.
    loop.train(with_(falling, "--training.iterations=5"), tmp_path / "straight")
    assert fingerprint_of(tmp_path / "straight") != fingerprint_of(tmp_path)
    # Nor was the first part trained with the second's rates.
    part = ["--training.iterations=2", "--workdir", str(tmp_path / "part")]
    assert cli.main(["reproduce", f"{tmp_path}/run.json", *part]) == 0
    assert cli.main(["reproduce", f"{tmp_path}/run.json", "--training.decay_until=9"]) == 2


def test_the_ends_of_the_rates_that_hold(straight):
    """A session that begins before others takes their place."""
    _, workdir, _ = straight
    run = record.read(epath.Path(workdir))
    sessions = [(0, 3), (2, 3), (3, 9), (5, 9), (4, 7), (7, 7)]
    run = dataclasses.replace(
        run, sessions=tuple({"from": begin, "decay_until": until} for begin, until in sessions)
    )
    assert record.decays(run) == [(0, 3), (3, 9), (4, 7)]


def test_a_resumed_run_says_what_has_changed_around_it(straight, tmp_path, capsys, monkeypatch):
    config, workdir, _ = straight
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    longer = with_(config, "--training.iterations=7", "--parallel.strategy=jit")
    loop.train(longer, tmp_path)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "bits may differ" in line]
    assert "strategy: mesh there, jit here" in line
    assert "variables.NVIDIA_TF32_OVERRIDE: None there, 0 here" in line
    loop.train(with_(longer, "--training.iterations=8"), tmp_path)
    assert "bits may differ" not in capsys.readouterr().err


def copy(workdir, to):
    subprocess.run(["cp", "-r", f"{workdir}/.", str(to)], check=True)


@pytest.mark.slow
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
    with pytest.raises(UserError, match="a file is in its place"):
        loop.train(tiny, blocker / "run")


def test_a_silent_condition_is_refused(tiny, tmp_path):
    from musegan_jax import pianoroll

    roll = np.zeros((32, 128, 4), bool)
    roll[:, 60, 1:] = True
    pieces = [dataset.Piece(f"{n}", pianoroll.pack(roll), np.array([0, 16])) for n in range(9)]
    tracks = [pianoroll.Track(name, 0) for name in "SATB"]
    path = tmp_path / "silent.npz"
    dataset.save(dataset.build(pieces, tracks, 4, "test"), path)
    with pytest.raises(UserError, match="the melody .track S. is silent"):
        loop.train(with_(tiny, f"--data.dataset={path}"), tmp_path / "run")
