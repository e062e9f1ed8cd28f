"""Facts about a model's training music that are stored with the model."""

from typing import Any, NamedTuple

import numpy as np

from musegan_jax.config import Config
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import MIDI_PITCHES, Track, is_track, most_at_once, pitch_bounds


class TrainingMusic(NamedTuple):
    """Facts about the tracks of the training music.

    Attributes:
        tracks: K, of the rolls.
        steps_per_beat: time steps in a quarter note.
        ranges: lowest and highest MIDI pitch of each track, including random transposition.
        single_lines: for each track, whether it never has two pitches at once.
    """

    tracks: tuple[Track, ...]
    steps_per_beat: int
    ranges: tuple[tuple[int, int], ...]
    single_lines: tuple[bool, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return self._asdict()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingMusic":
        """The inverse of `to_dict`; other entries of `values` are ignored.

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
        return music


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
    if pitch_bounds(dataset.timeline[:, [k]]) is None:
        raise UserError(
            f"config: model.condition_track = {k}: the dataset's track {dataset.tracks[k].name} is "
            "silent throughout; choose another"
        )
    trained = np.concatenate(
        [
            dataset.timeline[dataset.boundaries[piece] : dataset.boundaries[piece + 1]]
            for piece in dataset.pieces_of(config.data.splits)
        ]
        or [dataset.timeline[:0]]
    )
    down, up = config.data.transpose
    ranges = []
    for k, track in enumerate(dataset.tracks):
        # A silent track may have any pitch.
        low, high = pitch_bounds(trained[:, [k]]) or (0, MIDI_PITCHES - 1)
        if not track.is_drum:
            low, high = max(low + down, 0), min(high + up, MIDI_PITCHES - 1)
        ranges.append((low, high))
    single_lines = tuple(bool(most <= 1) for most in most_at_once(trained))
    return TrainingMusic(dataset.tracks, dataset.steps_per_beat, tuple(ranges), single_lines)
