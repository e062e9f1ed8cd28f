"""Facts about a model's training music that are stored with the model."""

from typing import Any, NamedTuple

import numpy as np

from musegan_jax.config import Config
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.instruments import range_of
from musegan_jax.data.statistics import MOST_LINES, Statistics, count, empty, from_text
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import (
    MIDI_PITCHES,
    SILENT,
    Track,
    is_track,
    most_at_once,
    unpack,
)

MOST_STEPS = 2**20  # of larger datasets about so many time steps are counted


class TrainingMusic(NamedTuple):
    """Facts about the tracks of the training music.

    Attributes:
        tracks: K, of the rolls.
        steps_per_beat: time steps in a quarter note.
        ranges: lowest and highest MIDI pitch of each track, including random transposition.
        single_lines: for each track, whether it never has two pitches at once.
        statistics: counts of the music's lines; of large datasets from pieces spread evenly over
            it, but for the ranges; None for files of earlier versions, and where there are more
            lines than `statistics.MOST_LINES`.
    """

    tracks: tuple[Track, ...]
    steps_per_beat: int
    ranges: tuple[tuple[int, int], ...]
    single_lines: tuple[bool, ...]
    statistics: Statistics | None = None

    def lines(self, melody: int) -> list[int]:
        """The tracks of the statistics: the melody's and all other pitched single lines."""
        return [
            k
            for k, track in enumerate(self.tracks)
            if k == melody or (self.single_lines[k] and not track.is_drum)
        ]

    def played_ranges(self, melody: int) -> list[tuple[int, int]]:
        """The lowest and highest pitch that each track may be played at.

        Of lines these are the training pieces' own, as far as the track's instrument has them; of
        others, and in files of earlier versions, random transposition is included.
        """
        ranges = list(self.ranges)
        if self.statistics is not None:
            for k, (low, high) in zip(self.lines(melody), self.statistics.ranges, strict=True):
                bottom, top = range_of(self.tracks[k].program)
                own = max(int(low), bottom), min(int(high), top)
                if low >= 0:
                    # An instrument that has less than an octave of them is not the right one.
                    ranges[k] = own if own[1] - own[0] >= 11 else (int(low), int(high))
        return ranges

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        text = None if self.statistics is None else self.statistics.to_text()
        return {**self._asdict(), "statistics": text}

    @classmethod
    def from_dict(cls, values: dict[str, Any], melody: int) -> "TrainingMusic":
        """The inverse of `to_dict`, for a model with this melody; ignores other entries.

        Raises:
            ValueError: for values out of range, as in a damaged file.
            KeyError, TypeError: if one is missing or has the wrong structure.
        """
        music = cls(
            tracks=tuple(Track(*track) for track in values["tracks"]),
            steps_per_beat=values["steps_per_beat"],
            ranges=tuple((low, high) for low, high in values["ranges"]),
            single_lines=tuple(values["single_lines"]),
        )
        if not len(music.tracks) == len(music.ranges) == len(music.single_lines):
            raise ValueError("its tracks, ranges and single_lines differ in number")
        allowed = {
            "steps_per_beat": is_int(music.steps_per_beat, 1, 96),
            "single_lines": all(type(single) is bool for single in music.single_lines),
            "tracks": all(map(is_track, music.tracks)),
            "ranges": all(
                is_int(low, 0, MIDI_PITCHES - 1) and is_int(high, low, MIDI_PITCHES - 1)
                for low, high in music.ranges
            ),
        }
        for name, fine in allowed.items():
            if not fine:
                raise ValueError(f"its {name} is out of range")
        text = values.get("statistics")  # earlier versions stored none
        if text is None:
            return music
        lines = len(music.lines(melody))
        return music._replace(statistics=from_text(text, lines, music.steps_per_beat))


def is_int(value: Any, low: int, high: int) -> bool:
    """Whether a value read from a file is an int, not a bool, from `low` to `high`."""
    return type(value) is int and low <= value <= high


def training_music(dataset: Dataset, config: Config) -> TrainingMusic:
    """Collect the facts from the splits that a config trains on.

    Only from these: held-out pieces must not influence composing.

    Raises:
        UserError: if the conditioning track is silent in all of the dataset.
    """
    k = config.model.condition_track
    if dataset.bounds()[k][0] == SILENT:
        raise UserError(
            f"config: model.condition_track = {k}: the dataset's track {dataset.tracks[k].name} is "
            "silent throughout; choose another"
        )
    pieces = dataset.pieces_of(config.data.splits)
    down, up = config.data.transpose
    ranges = []
    for track, (low, high) in zip(dataset.tracks, dataset.bounds(pieces), strict=True):
        if low == SILENT:  # it may have any pitch
            low, high = 0, MIDI_PITCHES - 1
        if not track.is_drum:
            low, high = max(low + down, 0), min(high + up, MIDI_PITCHES - 1)
        ranges.append((low, high))
    most = np.zeros(len(dataset.tracks), int)
    for piece in pieces:  # one by one: a copy of them all may be gigabytes
        most = np.maximum(most, most_at_once(dataset.packed(piece)))
    single_lines = tuple((most <= 1).tolist())
    music = TrainingMusic(dataset.tracks, dataset.steps_per_beat, tuple(ranges), single_lines)
    if len(music.lines(k)) > MOST_LINES or dataset.tracks[k].is_drum:
        return music
    return music._replace(statistics=_count(dataset, pieces, music.lines(k), k))


def _count(dataset: Dataset, pieces: np.ndarray, lines: list[int], melody: int) -> Statistics:
    pitched = [k for k, track in enumerate(dataset.tracks) if not track.is_drum]
    counts = empty(len(lines), dataset.steps_per_beat)
    # All of a million bars would take the best part of a minute, in which every process waits.
    steps = int(np.diff(dataset.boundaries)[pieces].sum())
    some = min(len(pieces), max(1, len(pieces) * MOST_STEPS // max(steps, 1)))
    counted = pieces[np.arange(some) * len(pieces) // max(some, 1)]
    for piece in counted:  # one by one: unpacked, they take eight times the memory
        bars = dataset.bars_of(piece) - dataset.boundaries[piece]
        count(
            counts,
            unpack(dataset.packed(piece)[:, pitched]),
            int(bars[0]) if len(bars) else 0,
            [pitched.index(k) for k in lines],
            pitched.index(melody),
        )
    if len(counted) < len(pieces):  # what may be played is what all pieces have
        edges = np.array(dataset.bounds(pieces))[lines]
        counts.ranges[:] = np.where(edges[:, :1] == SILENT, -1, edges)
    return counts
