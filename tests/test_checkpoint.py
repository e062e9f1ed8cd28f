"""What is saved is what comes back, and damage is seen, told and survived."""

import json
import os
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath

from musegan_jax import config as configs
from musegan_jax import files
from musegan_jax.errors import UserError
from musegan_jax.runs import checkpoint, processes, record
from musegan_jax.runs.fingerprint import fingerprint
from musegan_jax.training import loop, parallel
from musegan_jax.training.state import abstract_state
from test_train import copy, with_

# A read that fails leaves Orbax's coroutines behind, which Python then complains of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """A run of four iterations with a checkpoint of each."""
    workdir = tmp_path_factory.mktemp("saved")
    config = with_(tiny, "--output.save_every=1", "--output.keep_checkpoints=9")
    loop.train(config, workdir)
    return config, workdir


def read_newest(workdir, config, **options):
    told = []
    found = checkpoint.newest_valid(
        epath.Path(workdir), abstract_state(config), told.append, **options
    )
    return found, told


def files_of(workdir, iteration):
    # All of them: OCDBT keeps some arrays twice, and reads whichever copy its manifest names.
    folder = workdir / "checkpoints" / str(iteration) / "state"
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1]


def truncate(workdir, iteration):
    for path in files_of(workdir, iteration):
        os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(workdir, iteration):
    for path in files_of(workdir, iteration):
        if path.parent.name == "d":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)


def drop_the_arrays(workdir, iteration):
    shutil.rmtree(workdir / "checkpoints" / str(iteration) / "state")


def drop_the_progress(workdir, iteration):
    path = workdir / "checkpoints" / str(iteration) / "progress" / "metadata"
    path.write_text(path.read_text()[:40])


def swap_the_arrays(workdir, iteration):
    """Whole files, but of another iteration: only the fingerprint can tell."""
    folder = workdir / "checkpoints"
    shutil.rmtree(folder / str(iteration) / "state")
    shutil.copytree(folder / str(iteration - 1) / "state", folder / str(iteration) / "state")


DAMAGE = [truncate, flip_a_bit, drop_the_arrays, drop_the_progress, swap_the_arrays]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_aloud(saved, tmp_path, damage):
    config, workdir = saved
    copy(workdir, tmp_path)
    damage(tmp_path, 4)
    found, told = read_newest(tmp_path, config)
    assert int(found.state.step) == 3
    assert len(told) == 1 and "checkpoints/4: this checkpoint cannot be read" in told[0]
    assert "going back to the one before" in told[0] and "\n" not in told[0]
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4]  # reading moves nothing


def test_a_run_goes_on_from_the_newest_valid_one_to_the_same_end(saved, tmp_path, capsys):
    config, workdir = saved
    copy(workdir, tmp_path)
    truncate(tmp_path, 4)
    truncate(tmp_path, 3)
    shutil.rmtree(tmp_path / "checkpoints" / "1")
    loop.train(config, tmp_path)
    told = capsys.readouterr().err
    assert told.count("cannot be read") == 2 and "resuming at iteration 2 of 4" in told
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["3", "4"]
    ends = [read_newest(path, config)[0].fingerprint for path in (workdir, tmp_path)]
    assert ends[0] == ends[1]
    # Once more, with the same number damaged again: nothing that was set aside is overwritten.
    truncate(tmp_path, 4)
    read_newest(tmp_path, config, set_aside=True)
    assert sorted(p.name for p in (tmp_path / "damaged").iterdir()) == ["3", "4", "4-1"]


def test_when_all_are_damaged_nothing_is_trained_over_them(saved, tmp_path):
    config, workdir = saved
    copy(workdir, tmp_path)
    for iteration in (1, 2, 3, 4):
        truncate(tmp_path, iteration)
    before = (tmp_path / "metrics.jsonl").read_text()
    for _ in range(2):  # nor at the second try, which a cluster makes by itself
        with pytest.raises(UserError, match="cannot be read .*, and there is none before it"):
            loop.train(config, tmp_path)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4]
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_what_cannot_be_reached_is_not_damaged(saved, tmp_path, monkeypatch):
    """A network that fails for a moment must not move a run's checkpoints away."""
    config, workdir = saved
    copy(workdir, tmp_path)

    def broken():
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(checkpoint, "_reader", broken)
    with pytest.raises(UserError, match="checkpoints/4: cannot be reached .Connection reset"):
        loop.train(config, tmp_path)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4]
    assert not (tmp_path / "damaged").exists()


def test_remote_addresses_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(checkpoint._absolute(epath.Path("gs://bucket/run"))) == "gs://bucket/run"
    assert checkpoint._absolute(epath.Path("runs/a")) == epath.Path(tmp_path) / "runs" / "a"


def test_a_mark_that_a_kill_kept_from_being_written_is_written_later(saved, tmp_path):
    config, workdir = saved
    copy(workdir, tmp_path)
    path = tmp_path / "fingerprints.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]) + '{"iter')
    loop.train(config, tmp_path)
    assert path.read_text() == whole


def test_a_checkpoint_says_what_it_is(saved):
    config, workdir = saved
    progress = json.loads((workdir / "checkpoints/3/progress/metadata").read_text())
    assert progress["iteration"] == 3 and progress["seed"] == config.training.seed
    assert progress["examples"] == 3 * 3 * config.training.batch_size
    assert progress["seconds"] > 0
    assert configs.from_dict(progress["config"]) == config
    marks = [json.loads(line) for line in (workdir / "fingerprints.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in marks] == [1, 2, 3, 4]
    assert {**progress["fingerprint"], "iteration": 3} == marks[2]
    assert record.read(epath.Path(workdir)).result.fingerprint["state"] == marks[3]["state"]


@pytest.mark.parametrize("name", ["5000000000", "007", "x_9", "\u00b2"])
def test_a_folder_that_is_no_iteration_is_set_aside_aloud(saved, tmp_path, name, capsys):
    """Orbax takes it for one, and would save nothing below it."""
    config, workdir = saved
    copy(workdir, tmp_path)
    shutil.copytree(tmp_path / "checkpoints/4", tmp_path / "checkpoints" / name)
    assert read_newest(tmp_path, config)[0].iteration == 4  # as `compose` reads
    loop.train(with_(config, "--training.iterations=5"), tmp_path)
    assert f"checkpoints/{name}: not a checkpoint of a run; moved" in capsys.readouterr().err
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [name]


def test_samples_are_written_when_the_checkpoint_is_complete(tiny, tmp_path, monkeypatch):
    """A checkpoint is written in the background: samples must not take the room that it needs."""
    order = []

    def slow(folder):
        time.sleep(0.5)
        order.append("saved")

    def written(*arguments):
        order.append("samples")
        return []

    monkeypatch.setattr(files, "sync_tree", slow)
    monkeypatch.setattr(loop.sampling, "write", written)
    words = ["--training.iterations=1", "--output.save_every=1", "--output.sample_every=1"]
    loop.train(with_(tiny, *words, "--output.melodies=twinkle"), tmp_path)
    assert order == ["samples", "saved", "samples"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tiny, tmp_path, monkeypatch):
    fsync, synced = os.fsync, []

    def noted(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    loop.train(with_(tiny, "--training.iterations=1"), tmp_path)
    folder = tmp_path / "checkpoints"
    found = [folder, folder / "1", *(folder / "1").rglob("*")]
    late = [path.name for path in found if path.stat().st_ino not in synced]
    # Written after the rename, and read in buckets only.
    assert len(found) > 5 and late in ([], ["commit_success.txt"])


class Scanned:
    """What `os.scandir` returns."""

    def __init__(self, entries):
        self.entries = iter(entries)

    def __iter__(self):
        return self.entries

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def lagging(monkeypatch, hidden, ghosts=()):
    """Listings of folders called `checkpoints` as they were before."""
    listdir, scandir = os.listdir, os.scandir

    def old(path="."):
        names = listdir(path)
        if not isinstance(path, int) and os.path.basename(path) == "checkpoints":
            names = [name for name in names if name not in hidden] + list(ghosts)
        return names

    def scanned(path="."):
        with scandir(path) as entries:
            kept = [entry for entry in entries if entry.name in old(path)]
        return Scanned(kept)

    monkeypatch.setattr(os, "listdir", old)
    monkeypatch.setattr(os, "scandir", scanned)


def test_an_old_listing_costs_nothing(saved, tmp_path, monkeypatch, capsys):
    """Such as of a mounted bucket: it does not show the newest checkpoints, and some that are gone.

    The run once began before them, or anew, and ended where it saved what was there.
    """
    config, workdir = saved
    copy(workdir, tmp_path)
    with monkeypatch.context() as patch:
        lagging(patch, {"2", "3", "4"}, ["0", "7", "3.orbax-checkpoint-tmp"])
        assert read_newest(tmp_path, config)[0].iteration == 4
        lagging(patch, {"1", "2", "3", "4"})
        loop.train(with_(config, "--training.iterations=6"), tmp_path)
    assert "resuming at iteration 4 of 6" in capsys.readouterr().err
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "damaged").exists()
    # The file of names is a help, not a promise: without it, and with nonsense in it.
    (tmp_path / "checkpoints.json").write_text('{"iterations": [9, "x", null, 5]}')
    assert checkpoint.iterations(epath.Path(tmp_path)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.contract
def test_saved_on_one_topology_restored_on_another(saved, tmp_path):
    """Four devices to one and to two under pmap: the state is the same bits."""
    config, workdir = saved
    wanted = read_newest(workdir, config)[0]
    for words in (["jit"], ["pmap", 2]):
        other = with_(config, f"--parallel.strategy={words[0]}", *[
            f"--parallel.devices={n}" for n in words[1:]
        ])  # fmt: skip
        layout = parallel.make_layout(other)
        state = processes.on_host(layout.replicate(wanted.state))
        assert fingerprint(state) == wanted.fingerprint
    to = tmp_path / "run"
    to.mkdir()
    copy(workdir, to)
    loop.train(with_(config, "--parallel.strategy=jit", "--training.iterations=5"), to)
    sessions = record.read(epath.Path(to)).sessions
    assert [session["strategy"] for session in sessions] == ["mesh", "jit"]
    assert [session["from"] for session in sessions] == [0, 4]


@pytest.mark.slow
def test_the_best_stay_beside_the_newest(tiny, tmp_path, monkeypatch):
    faults = iter([0.4, 0.1, float("nan"), 0.2, 0.3, 0.5])
    monkeypatch.setattr(
        loop.sampling.metrics, "quick_scores", lambda *rolls: {"faults": next(faults)}
    )
    config = with_(
        tiny, "--training.iterations=5", "--output.save_every=1", "--output.keep_checkpoints=1",
        "--output.keep_best=2", "--output.melodies=twinkle",
    )  # fmt: skip
    loop.train(config, tmp_path)
    # Iteration 0 is heard too only where sample_every says so: the scores are of 1 to 5.
    assert checkpoint.iterations(epath.Path(tmp_path)) == [2, 4, 5]
    # The scores are on disk: a run that goes on keeps what was best before.
    loop.train(with_(config, "--training.iterations=6"), tmp_path)
    assert checkpoint.iterations(epath.Path(tmp_path)) == [2, 4, 6]


def test_a_fingerprint_sees_every_bit_and_nothing_else(saved):
    config, workdir = saved
    state = read_newest(workdir, config)[0].state
    copied = jax.tree.map(np.array, state)
    assert fingerprint(copied) == fingerprint(state)
    kernel = copied.critic_params["Dense_0"]["kernel"]
    kernel.view(np.uint32)[0] ^= 1
    changed = fingerprint(copied)
    assert {n for n in changed if changed[n] != fingerprint(state)[n]} == {
        "state", "critic_params",
    }  # fmt: skip
    reordered = state._replace(step=state.step.astype(np.int64))
    assert fingerprint(reordered)["step"] != fingerprint(state)["step"]


def test_what_a_failed_save_leaves_is_removed_though_others_still_write(
    tiny, tmp_path, monkeypatch
):
    saves = checkpoint.Checkpoints(epath.Path(tmp_path), tiny.output)
    remains = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    (remains / "state").mkdir(parents=True)
    tries, remove = [], type(epath.Path(tmp_path)).rmtree

    def not_yet(path):
        tries.append(path)
        if len(tries) < 3:  # a file has come while the others were removed
            raise OSError(39, "Directory not empty")
        remove(path)

    monkeypatch.setattr(type(epath.Path(tmp_path)), "rmtree", not_yet)
    saves.close()
    assert len(tries) == 3 and not remains.exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize(
    ("kibibytes", "melody"), [(60, ""), (400, ""), (60, "twinkle"), (1500, "twinkle")]
)
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tmp_path, data_file, kibibytes, melody):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
                "--workdir", str(tmp_path / "run"), f"--data.dataset={data_file}",
                f"--output.melodies={melody}", "--output.save_every=1",
                f"--training.iterations={1 if melody else 40}",
                "--output.keep_checkpoints=40", "--parallel.strategy=jit",
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and "no space left" in lines[-1].lower(), done.stderr
        assert len(lines) == 2, done.stderr  # the opening, and the error
        config = record.read(epath.Path(tmp_path / "run")).config
        whole = checkpoint.iterations(epath.Path(tmp_path / "run"))
        assert (kibibytes < 100) == (whole == [])
        for iteration in whole:
            checkpoint.read(epath.Path(tmp_path / "run"), iteration, abstract_state(config))
        assert not list((tmp_path / "run" / "checkpoints").glob("*tmp*"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
