"""A run while it trains, for the page: its curves, its samples, its speed."""

import itertools
from typing import Any

import numpy as np
from etils import epath

from musegan_jax.data import midi
from musegan_jax.errors import UserError
from musegan_jax.runs import record
from musegan_jax.runs.logging import read_lines
from musegan_jax.runs.timing import MEASURED

POINTS = 400  # of a curve; of more, evenly spaced ones
SAMPLES = 50  # iterations, the newest
RECENT = 20  # lines of the log from which the speed is told


class Watched:
    """A run in a folder. A request names a sample by its numbers in `state`, never by a path."""

    def __init__(self, workdir: epath.Path) -> None:
        """Watch a folder, which need not hold a run yet."""
        self.workdir = workdir

    def state(self) -> dict[str, Any]:
        """What there is of the run now.

        Raises:
            UserError: if its record is damaged.
        """
        run = record.read(self.workdir)
        if run is None:
            return {"name": self.workdir.name, "began": False}
        lines = read_lines(self.workdir / "metrics.jsonl")
        done = max((line["iteration"] for line in lines), default=0)
        updates = run.config.training.critic_updates + 1
        return {
            "name": self.workdir.name,
            "began": True,
            "iteration": done,
            "iterations": run.config.training.iterations,
            "dataset": run.dataset_source,
            "speed": speed(lines),
            "examples": run.config.training.batch_size * updates,
            "curves": curves(lines),
            "samples": [
                {"iteration": int(folder.name), "songs": [song.stem for song in _songs(folder)]}
                for folder in self._folders()[-SAMPLES:]
            ],
        }

    def sample(self, iteration: int, number: int, kind: str) -> epath.Path:
        """A file of a sample: `kind` is mid or wav.

        Raises:
            UserError: if there is none.
        """
        folder = next((f for f in self._folders() if int(f.name) == iteration), None)
        songs = _songs(folder) if folder else []
        if 0 <= number < len(songs):
            path = songs[number].with_suffix(f".{kind}")
            if path.is_file():
                return path
        raise UserError("there is no such sample (any more)")

    def song(self, iteration: int, number: int) -> dict[str, Any]:
        """A sample's voices, melody first, in the page's ticks.

        Raises:
            UserError: if there is none, or its file is damaged.
        """
        path = self.sample(iteration, number, "mid")
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


def _songs(folder: epath.Path) -> list[epath.Path]:
    return sorted((each for each in folder.iterdir() if each.suffix == ".mid"), key=str)


def curves(lines: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """The scalars of a log by name, each `[iteration, value]` of up to `POINTS` iterations."""
    found: dict[str, list[list[float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("iteration", *MEASURED) and not isinstance(value, str):
                found.setdefault(name, []).append([line["iteration"], value])
    return {name: _thinned(points) for name, points in found.items()}


def _thinned(points: list[Any]) -> list[Any]:
    if len(points) <= POINTS:
        return points
    return [points[round(n)] for n in np.linspace(0, len(points) - 1, POINTS)]


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
