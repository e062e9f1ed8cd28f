"""Build a dataset of a folder of many files: in processes, in little memory, and resumable.

What was read is appended to two files in a folder beside the dataset: the rolls, and an index of
them with what is known of each song. After an interruption the same command goes on behind the last
line of the index; the dataset is the same, byte for byte. It is written from the rolls on the disk.
"""

import contextlib
import functools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from musegan_jax import files
from musegan_jax.data.dataset import Listed, from_timeline
from musegan_jax.data.readers import workers
from musegan_jax.data.readers.midi_folder import (
    Kind,
    check_any,
    files_below,
    name_of,
    read_file,
    source_of,
)
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.data.readers.songs import Facts, Options, Reading, Song, layout_of
from musegan_jax.errors import UserError
from musegan_jax.hashing import sha256
from musegan_jax.terminal import Progress, say

VERSION = 2  # of what is read from a file; another one does not go on from parts of this
BATCH = 32  # files
SECONDS = 60  # of a processor, for a file
MEMORY = 2 * 2**30  # bytes, for a file
SAVE_EVERY = 1.0  # seconds
ROLLS, INDEX, TIMELINE = "rolls.bin", "index.jsonl", "timeline.bin"


class Entry(NamedTuple):
    """A song in the index: its name, its length in steps, where its bars begin, and its facts."""

    name: str
    steps: int
    bars: list[int]
    facts: Facts


class Plan(NamedTuple):
    """What is built: the files, the kind and options with which they are read, and the source."""

    paths: list[Path]
    folder: Path
    kind: Kind
    options: Options

    def key(self) -> str:
        """A hash of all that decides the result."""
        about = [
            (name_of(path, self.folder), (stat := path.lstat()).st_size, stat.st_mtime_ns)
            for path in self.paths
        ]
        return sha256([json.dumps([VERSION, self.kind.name, self.options, about])])


def parts_of(out: Path) -> Path:
    """The folder beside a dataset in which it is prepared."""
    return out.with_name(f"{out.stem}.parts")


@contextlib.contextmanager
def building(
    folder: Path,
    kind: Kind,
    options: Options,
    out: Path,
    processes: int,
    shard: tuple[int, int] | None = None,
) -> Iterator[tuple[Reading, list[Facts]]]:
    """Read every file of a kind below a folder, as `midi_folder.read_folder` does.

    The dataset's timeline lies on the disk; when the block ends without an error, that is removed.

    Args:
        folder: of the files.
        kind: of them.
        options: how they become pieces.
        out: the dataset file to come, beside which the parts lie.
        processes: that read.
        shard: `(I, N)`: of all files in the order of their names, the Ith of every N. All tracks
            are kept, as another shard may have notes for them.

    Yields:
        What the files gave, and the facts of each piece.

    Raises:
        UserError: if no file gave a piece, other than of a shard, or a file cannot be written.
    """
    paths = sorted(files_below(folder, kind), key=lambda path: name_of(path, folder))
    first, apart = shard or (1, 1)
    plan = Plan(paths[first - 1 :: apart], folder, kind, options)
    if not plan.paths:
        raise UserError(f"--shard {first}/{apart}: {folder} has only {len(paths)} files")
    parts = parts_of(out)
    with contextlib.ExitStack() as stack:
        with _writing(parts):
            parts.mkdir(exist_ok=True)
            stack.enter_context(files.locked(parts, "building a dataset"))
            entries, skipped = _read(plan, parts, processes)
            if shard is None:
                check_any(entries, skipped, folder, kind)
            reading = _reading(plan, parts, entries, skipped, shard is None)
        yield reading
        with _writing(parts):
            shutil.rmtree(parts)


@contextlib.contextmanager
def _writing(parts: Path) -> Iterator[None]:
    """Raises `UserError` if the parts cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{parts}: cannot be written ({error.strerror or error})") from error


def _read(plan: Plan, parts: Path, processes: int) -> tuple[list[Entry], list[Skipped]]:
    """Read the files that are not in the parts yet."""
    with _Parts(parts, plan.key()) as store:
        first = store.files
        if first:
            say(f"going on after {first:,} of {len(plan.paths):,} files")
        batches = [plan.paths[n : n + BATCH] for n in range(first, len(plan.paths), BATCH)]
        function = functools.partial(
            read_file, folder=plan.folder, kind=plan.kind, options=plan.options
        )
        count = max(1, min(processes, -(-len(plan.paths) // BATCH)))
        found = workers.each(function, batches, count, SECONDS, MEMORY)
        with contextlib.closing(found), Progress("files", len(plan.paths), first) as progress:
            for batch, results in zip(batches, found, strict=True):
                songs, skipped = [], []
                for path, result in zip(batch, results, strict=True):
                    if isinstance(result, workers.Ended):
                        result = [], [Skipped(name_of(path, plan.folder), result.reason)]
                    songs += result[0]
                    skipped += result[1]
                store.add(len(batch), songs, skipped)
                progress(store.files)
        store.flush()
        return store.entries, store.skipped


class _Parts:
    """The two files, and what the index says."""

    def __init__(self, folder: Path, key: str) -> None:
        self.files, self.bytes, self.saved = 0, 0, time.monotonic()
        self.entries: list[Entry] = []
        self.skipped: list[Skipped] = []
        self._lines: list[str] = []
        self._rolls = _opened(folder / ROLLS)
        self._index = _opened(folder / INDEX)
        self._resume(key)

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self._rolls.close()
        self._index.close()

    def _resume(self, key: str) -> None:
        """Go on behind the last line of which the rolls are there, too."""
        there = self._rolls.seek(0, os.SEEK_END)
        end = 0
        for n, line in enumerate(self._index):
            try:
                value = json.loads(line)
                fits = value == key if n == 0 else value["bytes"] <= there
            except ValueError:  # cut off
                break
            if not fits:
                break
            end += len(line)
            if n:
                self._know(*_parsed(value))
        self._rolls.truncate(self.bytes)
        self._rolls.seek(self.bytes)
        self._index.truncate(end)
        self._index.seek(end)
        if not end:
            self._lines = [json.dumps(key)]

    def _know(self, count: int, size: int, entries: list[Entry], skipped: list[Skipped]) -> None:
        self.files, self.bytes = count, size
        self.entries += entries
        self.skipped += skipped

    def add(self, count: int, songs: list[Song], skipped: list[Skipped]) -> None:
        """Append what some files gave."""
        for song in songs:
            self._rolls.write(np.ascontiguousarray(song.piece.roll).data)
        entries = [
            Entry(s.piece.name, len(s.piece.roll), s.piece.bars.tolist(), s.facts) for s in songs
        ]
        count += self.files
        size = self.bytes + sum(song.piece.roll.nbytes for song in songs)
        line = {"files": count, "bytes": size, "entries": entries, "skipped": skipped}
        self._lines.append(json.dumps(line))
        self._know(count, size, entries, skipped)
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.flush()

    def flush(self) -> None:
        """The rolls first: a line of the index must not be there without them."""
        for file, content in ((self._rolls, b""), (self._index, self._text())):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.saved = time.monotonic()

    def _text(self) -> bytes:
        text = "".join(f"{line}\n" for line in self._lines)
        self._lines = []
        return text.encode()


def _parsed(line: dict[str, Any]) -> tuple[int, int, list[Entry], list[Skipped]]:
    """What a line of the index says: files, bytes of rolls, songs, and files that gave none."""
    entries = [
        Entry(name, steps, bars, Facts([(n, p) for n, p in labels], *facts))
        for name, steps, bars, (labels, *facts) in line["entries"]
    ]
    return line["files"], line["bytes"], entries, [Skipped(*each) for each in line["skipped"]]


def _opened(path: Path) -> IO[bytes]:
    path.touch()
    return path.open("r+b")


def _reading(
    plan: Plan, parts: Path, entries: list[Entry], skipped: list[Skipped], whole: bool
) -> tuple[Reading, list[Facts]]:
    """The dataset whose timeline is the rolls, in another file where order or tracks differ."""
    names, facts = [entry.name for entry in entries], [entry.facts for entry in entries]
    tracks, used, remarks = layout_of(names, facts, plan.options, whole)
    starts = np.cumsum([0, *(entry.steps for entry in entries)])
    steps, order = int(starts[-1]), sorted(range(len(entries)), key=lambda n: names[n])
    timeline = _mapped(parts / ROLLS, steps, len(used))
    if not all(used) or order != list(range(len(entries))):
        with (parts / TIMELINE).open("wb") as file:
            for n in order:
                own = timeline[starts[n] : starts[n + 1], used]
                file.write(np.ascontiguousarray(own).data)
        timeline = _mapped(parts / TIMELINE, steps, sum(used))
    ordered = [entries[n] for n in order]
    listed = [Listed(entry.name, entry.steps, entry.bars) for entry in ordered]
    source = source_of(plan.folder, plan.kind)
    dataset = from_timeline(timeline, listed, tracks, plan.options.steps_per_beat, source)
    return Reading(dataset, skipped, remarks), [entry.facts for entry in ordered]


def _mapped(path: Path, steps: int, tracks: int) -> np.ndarray:
    """The packed rolls in a file, which are read as they are looked at."""
    shape = (steps, tracks, 16)
    if not steps:  # no memory can be mapped
        return np.zeros(shape, np.uint8)
    return np.memmap(path, np.uint8, "r", shape=shape)
