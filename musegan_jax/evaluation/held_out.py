"""A cheap evaluation on a few held-out pieces, made with every sample of a training run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from musegan_jax.composing.arrangement import generated_tracks
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import metrics
from musegan_jax.evaluation.accompaniments import accompany_pieces, fits
from musegan_jax.evaluation.judge import Judge, judge
from musegan_jax.evaluation.measures import (
    Measures,
    Music,
    Whole,
    cut_alike,
    measure,
    read_whole,
    track_of,
)
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track

LOST = 10.0  # standard deviations
LEAST_SPREAD = 0.05  # a standard deviation over a few pieces may be 0 by chance
# Of measures in other units, and of those that are 0 or 1 for a piece.
LEAST_SPREADS = {"parallels": 1.0, "final_triad": 0.25, "final_tonic": 0.25}
REPORTED = ("empty_bars", "qualified_notes", "semitone_clash")
REPORTED_HARMONY = ("chord", "parallels", "root_or_third", "final_triad", "moves")


class HeldOut(NamedTuple):
    """Pieces of the split valid.

    Attributes:
        whole: two or more.
        measures: of their bars of the most common length.
        judge: measures their harmony.
        harmony: of the whole pieces.
    """

    whole: list[Whole]
    measures: Measures
    judge: Judge
    harmony: Measures

    def accompany(self, model: Model, rule: str) -> list[list[Music]]:
        """Two accompaniments of each piece's melody, as `compose` would play them.

        Args:
            model: with variables. It accompanies each whole melody with noise of seed 0.
            rule: decodes its answers, a name in `decoding.RULES`.
        """
        music = [piece.music for piece in self.whole]
        return accompany_pieces(model, music, 2, seed=0, rule=rule).flavours

    def scores(self, model: Model, flavours: list[list[Music]]) -> dict[str, float]:
        """Scores of accompaniments, as `accompany` makes them, and of the pieces themselves.

        Returns:
            For each measure in `REPORTED` the mean over tracks, and each in `REPORTED_HARMONY`, as
            `valid/NAME` for the accompaniments and `real/NAME` for the pieces;
            `valid/disagreement` of the two flavours; and `distance` and `harmony`, the mean
            distances from the pieces of all measures of their bars, and of all measures of harmony
            (`_distance`).
        """
        music = [piece.music for piece in self.whole]
        made = [cut_alike(self.whole, flavour) for flavour in flavours]
        table = measure([*made[0], *made[1]], model.tracks, model.steps_per_beat)
        pairs = [pair for flavour in flavours for pair in zip(flavour, music, strict=True)]
        harmony = self.judge.measure(pairs)
        melody = model.tracks[model.config.condition_track].name
        generated = np.array([track_of(name) != melody for name in table.names])
        found = {}
        sets = {"valid": (table, harmony), "real": (self.measures, self.harmony)}
        for label, (bars, whole) in sets.items():
            scores = bars.scores()
            for name in REPORTED:
                own = [column.startswith(name) for column in table.names]
                found[f"{label}/{name}"] = float(metrics.score(scores[generated & own]))
            of_harmony = dict(zip(whole.names, whole.scores(), strict=True))
            found |= {f"{label}/{name}": float(of_harmony[name]) for name in REPORTED_HARMONY}
        apart = [
            metrics.disagreement(
                *(piece.bars[..., generated_tracks(model)] for piece in pair)
            ).mean()
            for pair in zip(*made, strict=True)
        ]
        found["valid/disagreement"] = float(np.mean(apart))
        found["distance"] = _distance(table, self.measures, generated)
        found["harmony"] = _distance(harmony, self.harmony, np.ones(len(harmony.names), bool))
        return found


def _distance(made: Measures, real: Measures, judged: np.ndarray) -> float:
    """Mean distance of the scores in the `judged` columns, in standard deviations over the pieces.

    A standard deviation is at least `LEAST_SPREAD` (some `LEAST_SPREADS`). Measures that the pieces
    lack are left out. One that only the accompaniments lack, for example because a voice is silent,
    counts as `LOST`.
    """
    # A piece with a silent track has NaN in columns of that track.
    by_piece, wanted = real.by_piece(), real.scores()
    variance = metrics.score((by_piece - metrics.score(by_piece)) ** 2)
    least = [LEAST_SPREADS.get(name, LEAST_SPREAD) for name in real.names]
    far = np.abs(made.scores() - wanted) / np.maximum(np.sqrt(variance), least)
    return float(np.nan_to_num(far, nan=LOST)[judged & ~np.isnan(wanted)].mean())


def read(data: Dataset, model: Model, count: int) -> HeldOut:
    """The first `count` pieces of the split valid whose melodies fit the model's pitches.

    Raises:
        UserError: if there are fewer than two.
    """
    pieces: list[Whole] = []
    for number in data.pieces_of(["valid"]):  # one by one: a split may not fit in memory
        if len(pieces) == count:
            break
        pieces += [piece for piece in read_whole(data, [number]) if fits(model, piece.music)]
    if len(pieces) < 2:  # a single piece has no spread, the unit of distances
        raise UserError(
            f"{data.source} has fewer than two pieces in the split valid with a melody within "
            "the model's pitches; set --output.held_out=0"
        )
    return measured(pieces, data.tracks, judge(data, model.config.condition_track))


def measured(pieces: list[Whole], tracks: Sequence[Track], judged: Judge) -> HeldOut:
    """Measure the pieces themselves; arguments as in `HeldOut`."""
    bars = measure([piece.cut() for piece in pieces], tracks, judged.steps_per_beat)
    return HeldOut(pieces, bars, judged, judged.measure_real(piece.music for piece in pieces))
