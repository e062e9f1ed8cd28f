"""A cheap evaluation on a few held-out pieces, made with every sample of a training run."""

from typing import NamedTuple

import numpy as np

from musegan_jax.composing.arrangement import generated_tracks
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import metrics
from musegan_jax.evaluation.accompaniments import accompany_pieces, fits
from musegan_jax.evaluation.measures import Measures, Music, measure, read_music, track_of
from musegan_jax.models.model import Model

LOST = 10.0  # standard deviations
REPORTED = ("empty_bars", "qualified_notes", "semitone_clash")


class HeldOut(NamedTuple):
    """Pieces of the split valid.

    Attributes:
        music: two or more.
        measures: of the pieces themselves.
    """

    music: list[Music]
    measures: Measures

    def scores(self, model: Model) -> dict[str, float]:
        """Scores of accompaniments of the pieces' melodies, and of the pieces themselves.

        Args:
            model: with variables. It accompanies each melody twice, with noise of seed 0, decoded
                by the rule `independent`, which keeps clashes.

        Returns:
            For each measure in `REPORTED` the mean over tracks, as `valid/NAME` for the
            accompaniments and `real/NAME` for the pieces; `valid/disagreement` of the two flavours;
            and `distance`, the mean distance of the scores from the pieces', in standard deviations
            over the pieces (at least 0.05). It covers all measures that the pieces have, except
            those of the given melody alone. A measure that the accompaniments lack, for example
            because a voice is silent, counts as `LOST`.
        """
        given = accompany_pieces(model, self.music, 2, seed=0, rule="independent")
        tracks = model.tracks
        table = measure([*given.flavours[0], *given.flavours[1]], tracks, model.steps_per_beat)
        melody = tracks[model.config.condition_track].name
        generated = np.array([track_of(name) != melody for name in table.names])
        found = {}
        for label, scores in (("valid", table.scores()), ("real", self.measures.scores())):
            for name in REPORTED:
                own = [column.startswith(name) for column in table.names]
                found[f"{label}/{name}"] = float(metrics.score(scores[generated & own]))
        apart = [
            metrics.disagreement(
                *(piece.bars[..., generated_tracks(model)] for piece in pair)
            ).mean()
            for pair in zip(*given.flavours, strict=True)
        ]
        found["valid/disagreement"] = float(np.mean(apart))
        # A piece with a silent track has NaN in columns of that track.
        by_piece = self.measures.by_piece()
        variance = metrics.score((by_piece - metrics.score(by_piece)) ** 2)
        spread = np.maximum(np.sqrt(variance), 0.05)
        wanted = self.measures.scores()
        far = np.nan_to_num(np.abs(table.scores() - wanted) / spread, nan=LOST)
        return {**found, "distance": float(far[generated & ~np.isnan(wanted)].mean())}


def read(data: Dataset, model: Model, count: int) -> HeldOut:
    """The first `count` pieces of the split valid whose melodies fit the model's pitches.

    Raises:
        UserError: if there are fewer than two.
    """
    pieces: list[Music] = []
    for number in data.pieces_of(["valid"]):  # one by one: a split may not fit in memory
        if len(pieces) == count:
            break
        pieces += [piece for piece in read_music(data, [number]) if fits(model, piece)]
    if len(pieces) < 2:  # a single piece has no spread, the unit of distances
        raise UserError(
            f"{data.source} has fewer than two pieces in the split valid with a melody within "
            "the model's pitches; set it to 0"
        )
    return HeldOut(pieces, measure(pieces, data.tracks, data.steps_per_beat))
