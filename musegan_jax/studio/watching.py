"""A run while it trains, for the page: its curves, its samples, its speed."""

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from musegan_jax import files
from musegan_jax.data import midi
from musegan_jax.errors import UserError, first_line
from musegan_jax.models.model import Model
from musegan_jax.rendering import audio
from musegan_jax.runs import checkpoint, record
from musegan_jax.runs.following import Follower
from musegan_jax.runs.timing import MEASURED
from musegan_jax.training.load import load_model

POINTS = 400  # of a curve at most; of longer ones every second, fourth, ... point
SAMPLES = 50  # iterations, the newest
RECENT = 20  # lines of the log from which the speed is told


class Curves:
    """The scalars of a log, thinned as they grow."""

    def __init__(self) -> None:
        """Begin with none."""
        self.done = 0  # the newest iteration
        self.recent: list[dict[str, Any]] = []  # timed lines
        self._found: dict[str, list[list[float]]] = {}
        self._last: dict[str, list[float]] = {}
        self._every: dict[str, int] = {}
        self._count: dict[str, int] = {}

    def add(self, lines: list[dict[str, Any]]) -> None:
        """Add lines of the log."""
        self.done = max([self.done, *(line["iteration"] for line in lines)])
        timed = [line for line in lines if "seconds" in line]
        self.recent = [*self.recent, *timed][-RECENT:]
        for line in lines:
            for name, value in line.items():
                if name not in ("iteration", *MEASURED) and not isinstance(value, str):
                    self._point(name, [line["iteration"], value])

    def _point(self, name: str, point: list[float]) -> None:
        points = self._found.setdefault(name, [])
        every, count = self._every.get(name, 1), self._count.get(name, 0)
        if count % every == 0:
            points.append(point)
            if len(points) >= POINTS:
                del points[1::2]
                self._every[name] = 2 * every
        self._last[name], self._count[name] = point, count + 1

    @property
    def points(self) -> dict[str, list[list[float]]]:
        """By name, each `[iteration, value]` of up to `POINTS` iterations, the newest with them."""
        return {
            name: points if points[-1] is self._last[name] else [*points, self._last[name]]
            for name, points in self._found.items()
        }


class Watched:
    """A run in a folder. A request names a sample by its numbers in `state`, never by a path."""

    def __init__(self, workdir: epath.Path) -> None:
        """Watch a folder, which need not hold a run yet."""
        # Resolved, since the page shows its name, which "." has not.
        self.workdir = workdir if files.is_remote(workdir) else epath.Path(Path(workdir).resolve())
        self._log, self._curves = Follower(self.workdir / "metrics.jsonl"), Curves()
        self._songs: dict[str, list[epath.Path]] = {}  # of folders that are complete
        self._newest: int | None = None
        self._model: Model | None = None
        self._looking, self._loading = threading.Lock(), threading.Lock()

    def model(self) -> Model | None:
        """The model of the newest checkpoint; None before there is one that can be read.

        It is loaded where there is a newer one than at the last call.
        """
        with self._loading:
            # It may be removed at this moment, or be out of reach: then the model before serves.
            # Whatever is wrong with a run, the shipped models must go on answering.
            with contextlib.suppress(Exception):
                newest = max(checkpoint.iterations(self.workdir), default=None)
                if newest is not None and newest != self._newest:
                    self._load(newest)
            return self._model

    def _load(self, newest: int) -> None:
        damaged: list[str] = []
        try:
            self._model = load_model(self.workdir, say=damaged.append)
        except Exception:
            if not damaged:  # out of reach, say: it is tried again at the next call
                raise
        self._newest = newest  # what is damaged is not tried again and again

    def _forget(self) -> None:
        """Another run may be in the folder now."""
        self._songs = {}
        with self._loading:
            self._newest = self._model = None

    def state(self) -> dict[str, Any]:
        """What there is of the run now.

        Raises:
            UserError: if its record is damaged, or the folder cannot be read.
        """
        with self._looking, self._readable():
            return self._state()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.workdir}: cannot be read ({first_line(error)})") from error

    def _state(self) -> dict[str, Any]:
        run = record.read(self.workdir)
        if run is None:
            return {"name": self.workdir.name, "began": False}
        again, lines = self._log.new()
        if again:
            self._curves = Curves()
            self._forget()
        self._curves.add(lines)
        updates = run.config.training.critic_updates + 1
        return {
            "name": self.workdir.name,
            "began": True,
            "iteration": self._curves.done,
            "iterations": run.config.training.iterations,
            "dataset": run.dataset_source,
            "speed": speed(self._curves.recent),
            "examples": run.config.training.batch_size * updates,
            "curves": self._curves.points,
            "samples": self._samples(),
            "saved": bool(checkpoint.iterations(self.workdir)),
        }

    def _samples(self) -> list[dict[str, Any]]:
        """The newest samples. Only what is in the newest folder can still be changing."""
        folders = self._folders()[-SAMPLES:]
        songs = {
            folder.name: self._songs.get(folder.name) or songs_of(folder) for folder in folders
        }
        self._songs = {folder.name: songs[folder.name] for folder in folders[:-1]}
        return [
            {"iteration": int(name), "songs": [song.stem for song in found]}
            for name, found in songs.items()
        ]

    def sample(self, iteration: int, number: int) -> epath.Path:
        """The MIDI file of a sample.

        Raises:
            UserError: if there is none (any more).
        """
        with self._readable():
            folder = next((f for f in self._folders() if int(f.name) == iteration), None)
            songs = songs_of(folder) if folder else []
            if 0 <= number < len(songs):
                return songs[number]
        raise UserError("there is no such sample (any more)")

    def sound(self, iteration: int, number: int) -> bytes:
        """A sample as the content of a WAV file: the run's own, or made now where it has none.

        Raises:
            UserError: if there is none, or its file is damaged.
        """
        path = self.sample(iteration, number)
        with self._readable():
            if path.with_suffix(".wav").is_file():
                return path.with_suffix(".wav").read_bytes()
            score = midi.from_bytes(path.read_bytes(), path.name)
        with tempfile.TemporaryDirectory() as folder:
            audio.write_wav(score, Path(folder) / "sample.wav")
            return (Path(folder) / "sample.wav").read_bytes()

    def song(self, iteration: int, number: int) -> dict[str, Any]:
        """A sample's voices, melody first, in the page's ticks.

        Raises:
            UserError: if there is none, or its file is damaged.
        """
        path = self.sample(iteration, number)
        with self._readable():
            score = midi.from_bytes(path.read_bytes(), path.name)
        factor = midi.TICKS_PER_BEAT / score.ticks_per_beat
        voices = []
        for part in score.parts:
            notes = part.notes.copy()
            notes[:, :2] = np.round(notes[:, :2] * factor)
            voices.append({"name": part.name, "program": part.program, "is_drum": part.is_drum,
                           "notes": notes.tolist()})  # fmt: skip
        return {"bpm": 60e6 / score.tempos[0][1], "metre": score.meters[0][1:], "voices": voices}

    def _folders(self) -> list[epath.Path]:
        """The folders of samples, by iteration."""
        root = self.workdir / "samples"
        found = [each for each in root.iterdir() if each.is_dir()] if root.is_dir() else []
        numbers = [each for each in found if each.name.isascii() and each.name.isdecimal()]
        return sorted(numbers, key=lambda folder: int(folder.name))


def songs_of(folder: epath.Path) -> list[epath.Path]:
    """The MIDI files of a folder, by name; hidden ones are still being written."""
    found = (each for each in folder.iterdir() if each.suffix == ".mid")
    return sorted((each for each in found if not each.name.startswith(".")), key=str)


def speed(lines: list[dict[str, Any]]) -> float | None:
    """Iterations a second lately; None before there are two timed lines."""
    timed = [line for line in lines if "seconds" in line][-RECENT:]
    pairs = [
        (b["iteration"] - a["iteration"], b["seconds"] - a["seconds"])
        for a, b in itertools.pairwise(timed)
    ]
    # A run that was begun again repeats iterations: such a pair tells nothing.
    pairs = [(count, seconds) for count, seconds in pairs if count > 0 and seconds > 0]
    return sum(c for c, _ in pairs) / sum(s for _, s in pairs) if pairs else None
