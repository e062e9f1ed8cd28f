"""Folders of many files: read in processes, bounded, resumed after an interruption, in parts."""

import functools
import importlib
import json
import os

import pytest
from test_sources import line, write_song
from trouble import trouble

from musegan_jax import data_commands, files
from musegan_jax.cli import main
from musegan_jax.data import dataset, sources
from musegan_jax.data.readers import folder_build, midi_folder, workers
from musegan_jax.data.readers.songs import Options
from musegan_jax.errors import UserError
from musegan_jax.terminal import Progress

COUNT = 70  # files: three batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Songs that differ in their tracks, a bad file, and names whose order is not the pieces'."""
    folder = tmp_path_factory.mktemp("songs")
    for n in range(COUNT - 2):
        bass = ("Bass", 1, 33, line(30 + n % 12)) if n % 7 == 3 else ("Pad", 1, 89, line(60))
        write_song(folder / f"{n % 5}/{n:03d}.mid", ("Lead", 0, n % 3, line(60 + n % 12)), bass)
    (folder / "3.bad.mid").write_bytes(b"nothing")
    write_song(folder / "drums.mid", ("Kit", 9, 0, line(38)))
    return folder


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The dataset file of all of it, read in one process."""
    out = tmp_path_factory.mktemp("out") / "whole.npz"
    dataset.save(midi_folder.read_folder(folder, midi_folder.MIDI, Options()).dataset, out)
    return out


def build(folder, out, *words) -> int:
    return main(["data", "build", "midi", str(folder), "--out", str(out), "--workers", "2", *words])


def in_place(monkeypatch) -> None:
    """Read in this process: starting others takes seconds, and one test is enough for them."""

    def each(function, batches, *_):
        for batch in batches:
            yield [function(item) for item in batch]

    monkeypatch.setattr(workers, "each", each)


def test_processes_read_what_one_reads(folder, whole, tmp_path, capsys):
    out = tmp_path / "many.npz"
    assert build(folder, out) == 0
    assert out.read_bytes() == whole.read_bytes()
    skipped = out.with_suffix(".skipped.txt").read_text()
    assert "3.bad.mid: " in skipped and "drums.mid: drums only" in skipped
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.npz", "many.skipped.txt"]


def test_an_interrupted_build_goes_on_to_the_same_bytes(
    folder, whole, tmp_path, monkeypatch, capsys
):
    in_place(monkeypatch)
    monkeypatch.setattr(folder_build, "SAVE_EVERY", 0)
    out = tmp_path / "many.npz"
    read, real = [], folder_build.read_file

    def until(path, **rest):
        if len(read) == 40:
            raise KeyboardInterrupt
        read.append(path)
        return real(path, **rest)

    monkeypatch.setattr(folder_build, "read_file", until)
    building = folder_build.building(folder, midi_folder.MIDI, Options(), out, 1)
    with pytest.raises(KeyboardInterrupt), building:  # from the command it would end this process
        pass
    parts = folder_build.parts_of(out)
    assert not out.exists() and parts.is_dir()
    # Killed in the middle of a write: rolls without a line, and half a line.
    with (parts / folder_build.ROLLS).open("ab") as file:
        file.write(b"half a song")
    with (parts / folder_build.INDEX).open("ab") as file:
        file.write(b'{"files": 6')
    del read[:]
    monkeypatch.setattr(folder_build, "read_file", real)
    counted = []
    monkeypatch.setattr(Progress, "__call__", lambda self, done: counted.append(done))
    assert build(folder, out) == 0
    assert f"going on after 32 of {COUNT} files" in capsys.readouterr().err
    assert counted[0] == 64 and counted[-1] == COUNT  # the first batch of 32 was not read again
    assert out.read_bytes() == whole.read_bytes() and not parts.exists()


def test_changed_files_are_read_anew(folder, whole, tmp_path, monkeypatch):
    in_place(monkeypatch)
    out = tmp_path / "many.npz"
    parts = folder_build.parts_of(out)
    parts.mkdir()
    (parts / folder_build.INDEX).write_text(json.dumps("another key") + "\n{}\n")
    (parts / folder_build.ROLLS).write_bytes(b"other rolls")
    assert build(folder, out) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_shards_merge_to_the_bytes_of_one_build(folder, whole, tmp_path, monkeypatch, capsys):
    in_place(monkeypatch)
    paths = [tmp_path / f"part{n}.npz" for n in (3, 1, 2)]
    for n, path in zip((3, 1, 2), paths, strict=True):
        assert build(folder, path, "--shard", f"{n}/3") == 0
    out = tmp_path / "merged.npz"
    assert main(["data", "merge", *map(str, paths), "--out", str(out)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    capsys.readouterr()
    for wrong, why in (
        (paths[:2], "parts 1, 3 of a build in 3; give each once"),
        ([*paths, paths[0]], "parts 1, 2, 3, 3 of a build in 3"),
    ):
        assert main(["data", "merge", *map(str, wrong), "--out", str(out)]) == 2
        assert why in capsys.readouterr().err
    build(folder, paths[0], "--shard", "3/3", "--steps-per-beat", "2")
    assert main(["data", "merge", *map(str, paths), "--out", str(out)]) == 2
    assert "a part of another build" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--parts", "2"), ("--melody", "none")])
def test_a_shard_may_have_no_usable_file(options, tmp_path, monkeypatch, capsys):
    in_place(monkeypatch)
    songs = tmp_path / "songs"
    songs.mkdir()
    for name in ("b", "d"):
        write_song(songs / f"{name}.mid", ("Lead", 0, 1, line(60)), ("Bass", 1, 33, line(30)))
    for name in ("a", "c"):
        (songs / f"{name}.mid").write_bytes(b"nothing")
    parts = [tmp_path / f"{n}.npz" for n in (1, 2)]
    for n, path in enumerate(parts, 1):
        assert build(songs, path, *options, "--shard", f"{n}/2") == 0
    said = capsys.readouterr().err
    assert "no piece: only" in said and "silent" not in said and "held out" not in said
    assert main(["data", "info", str(parts[0]), "--picture", str(tmp_path / "p.png")]) == 0
    with pytest.raises(UserError, match=r"1\.npz: has no piece; join it"):
        sources.load(parts[0])
    out, whole = tmp_path / "merged.npz", tmp_path / "whole.npz"
    assert main(["data", "merge", *map(str, parts), "--out", str(out)]) == 0
    assert build(songs, whole, *options) == 0
    assert out.read_bytes() == whole.read_bytes()
    for name in ("b", "d"):
        (songs / f"{name}.mid").write_bytes(b"nothing")
    assert build(songs, parts[1], *options, "--shard", "2/2") == 0
    assert main(["data", "merge", *map(str, parts), "--out", str(out)]) == 2
    assert "data merge: no part has a piece" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/2/3", "x/2", "-1/2", "80/90"])
def test_what_is_no_shard_is_refused(folder, tmp_path, shard, capsys):
    assert build(folder, tmp_path / "x.npz", f"--shard={shard}") == 2
    assert f"--shard {shard}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_item_takes_the_others_with_it(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 2)
    batches = [["a", "computes", "b"], ["grows", "c"], ["dies"], ["d"]]
    found = list(workers.each(trouble, batches, 2, 1, 2**28))
    assert found == [
        ["A", workers.Ended("takes more than 1 s"), "B"],
        [workers.Ended("takes more than 256 MiB of memory"), "C"],
        [workers.Ended("its reader was ended by SIGSEGV")],
        ["D"],
    ]


def test_what_may_not_be_an_items_fault_is_tried_once_more(tmp_path):
    once = str(tmp_path / "once")
    batches = [["keeps", "keeps", "a"], [once, "b"], ["is killed", "grows", "c"]]
    found = list(workers.each(trouble, batches, 1, 9, 2**28))
    assert found == [
        ["KEEPS", "KEEPS", "A"],
        [once.upper(), "B"],
        [
            workers.Ended("its reader was ended by SIGKILL"),
            workers.Ended("takes more than 256 MiB of memory"),
            "C",
        ],
    ]


def test_a_process_that_cannot_start_is_no_files_fault(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text(
        f"import os\nassert os.getpid() == {os.getpid()}, 'a process of its own'\n"
        "def read(item):\n    return item\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    read = importlib.import_module("only_here").read
    with pytest.raises(UserError, match="ended with status 1 before it could start"):
        list(workers.each(read, [["a"], ["b"]], 2, 9, 2**28))


def test_a_reader_out_of_memory_says_so(folder, tmp_path, monkeypatch):
    def read(path):
        try:
            raise MemoryError
        except MemoryError as error:
            raise files.unreadable(path, error, "MIDI") from error

    kind = midi_folder.Kind("MIDI", (".mid",), read)
    with pytest.raises(MemoryError):
        midi_folder.read_file(folder / "3.bad.mid", folder, kind, Options())
    with pytest.raises(UserError, match="the first, .*: takes more memory than there is"):
        midi_folder.read_folder(folder, kind, Options())


def test_a_file_that_ends_its_reader_is_skipped_and_named(folder, tmp_path, monkeypatch):
    def each(function, batches, *_):
        for batch in batches:
            yield [
                workers.Ended("takes more than 60 s") if path.name == "000.mid" else function(path)
                for path in batch
            ]

    monkeypatch.setattr(workers, "each", each)
    out = tmp_path / "some.npz"
    assert build(folder, out) == 0
    assert "0/000.mid: takes more than 60 s\n" in out.with_suffix(".skipped.txt").read_text()
    assert len(dataset.load(out).names) == COUNT - 3


def test_a_folder_without_a_usable_file_fails_in_one_line(tmp_path, monkeypatch):
    in_place(monkeypatch)
    (tmp_path / "a.mid").write_bytes(b"nothing")
    function = functools.partial(
        folder_build.building, tmp_path, midi_folder.MIDI, Options(), tmp_path / "x.npz", 1
    )
    with pytest.raises(UserError, match="none of 1 MIDI files could be used"), function():
        pass


def test_what_the_caller_cannot_write_is_not_the_parts(folder, tmp_path, monkeypatch):
    in_place(monkeypatch)
    building = functools.partial(
        folder_build.building, folder, midi_folder.MIDI, Options(), tmp_path / "x.npz", 1
    )
    with pytest.raises(OSError, match="the caller's"), building():
        raise OSError("the caller's")
    with building(), pytest.raises(UserError, match="is building a dataset here"), building():
        pass
    (tmp_path / "x.parts").write_bytes(b"a file in their place")
    with pytest.raises(UserError, match=r"x\.parts: cannot be written"), building():
        pass


def test_as_many_processes_as_this_one_may_use(monkeypatch):
    for count in (3, 1000):
        few = set(range(count))
        monkeypatch.setattr("os.sched_getaffinity", lambda _, few=few: few, raising=False)
        assert data_commands._processors() == min(count, 256)
