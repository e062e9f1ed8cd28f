"""The measures of harmony, for the pieces of a dataset."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from musegan_jax.data.dataset import Dataset
from musegan_jax.evaluation import harmony
from musegan_jax.evaluation.measures import Measures, Music

ALONE = 0.99  # of a line's steps, at least, have one pitch


class Judge(NamedTuple):
    """What must be known of a dataset to measure its pieces.

    Attributes:
        pitched: its tracks without drums.
        lines: those of them that are lines.
        melody: the track that is given.
        steps_per_beat: time steps in a quarter note.
    """

    pitched: list[int]
    lines: list[int]
    melody: int
    steps_per_beat: int

    def measure(self, pieces: Iterable[tuple[Music, Music]]) -> Measures:
        """Measure pieces, each given with the real piece of the same melody: a row for each."""
        counts = [
            harmony.measure(
                [made.roll[..., self.pitched]],
                [real.roll[..., self.pitched]],
                [self.pitched.index(k) for k in self.lines],
                self.pitched.index(self.melody) if self.melody in self.pitched else None,
                self.steps_per_beat,
            )
            for made, real in pieces
        ]
        rows = [each.values() for each in counts]
        values = np.concatenate([np.zeros((0, len(harmony.NAMES))), *rows])
        return Measures(harmony.NAMES, values, np.arange(len(values)))

    def measure_real(self, pieces: Iterable[Music]) -> Measures:
        """Measure real pieces; they may come one by one, since together they may fill memory."""
        return self.measure((piece, piece) for piece in pieces)


def judge(dataset: Dataset, melody: int) -> Judge:
    """What to measure in a dataset's pieces, of which the track `melody` is given."""
    pitched = [k for k, track in enumerate(dataset.tracks) if not track.is_drum]
    return Judge(pitched, line_tracks(dataset), melody, dataset.steps_per_beat)


def line_tracks(dataset: Dataset) -> list[int]:
    """The pitched tracks that are lines: at least 99 % of their training steps have one pitch.

    A few notes that overlap, as when two are played legato, make no chords. Decoding is stricter:
    `TrainingMusic.single_lines`.
    """
    pieces = dataset.pieces_of(["train"])
    chords = sounding = np.zeros(len(dataset.tracks), int)
    for piece in pieces:
        pitches = np.bitwise_count(dataset.packed(piece)).sum(axis=2, dtype=int)
        chords = chords + (pitches > 1).sum(axis=0)
        sounding = sounding + (pitches > 0).sum(axis=0)
    return [
        k
        for k, track in enumerate(dataset.tracks)
        if not track.is_drum and 0 < sounding[k] and chords[k] <= sounding[k] * (1 - ALONE)
    ]
