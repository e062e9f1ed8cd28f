"""A cheap evaluation, for every sample of a training run: a few held-out pieces."""

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
        """What answers to their melodies measure, and the same of the pieces themselves.

        Args:
            model: with variables. It accompanies each melody twice, with the noises of seed 0;
                clashes stay (the rule `independent`).

        Returns:
            Of every measure that `REPORTED` names the mean over tracks, as `valid/NAME`, and of
            the pieces as `real/NAME`; `valid/disagreement` of the two flavours; and `distance`,
            the mean of how far scores are from the pieces', in standard deviations of the pieces'
            own (at least 0.05). It is over all measures that the pieces have, but those of the
            melody alone, which was given. A measure that the answers do not have, for a voice that
            is silent say, counts as `LOST`.
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
        # A piece without a track has no score in its columns.
        by_piece = self.measures.by_piece()
        variance = metrics.score((by_piece - metrics.score(by_piece)) ** 2)
        spread = np.maximum(np.sqrt(variance), 0.05)
        wanted = self.measures.scores()
        far = np.nan_to_num(np.abs(table.scores() - wanted) / spread, nan=LOST)
        return {**found, "distance": float(far[generated & ~np.isnan(wanted)].mean())}


def read(data: Dataset, model: Model, count: int) -> HeldOut:
    """The first `count` pieces of the split valid whose melodies the model has rows for.

    Raises:
        UserError: if there are fewer than two.
    """
    pieces: list[Music] = []
    for number in data.pieces_of(["valid"]):  # one by one: unpacked, a large split is too large
        if len(pieces) == count:
            break
        pieces += [piece for piece in read_music(data, [number]) if fits(model, piece)]
    if len(pieces) < 2:  # one has no spread to measure distances by
        raise UserError(
            f"{data.source} has fewer than two pieces in the split valid with a melody that the "
            "model has rows for; set it to 0"
        )
    return HeldOut(pieces, measure(pieces, data.tracks, data.steps_per_beat))
