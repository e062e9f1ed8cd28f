"""Fixed melodies and held-out pieces, accompanied again and again while the network learns."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import mido
import numpy as np
from etils import epath

from musegan_jax import arrangement, compose, files
from musegan_jax.arrangement import generated_tracks
from musegan_jax.config import Config
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import metrics as music
from musegan_jax.evaluation.answers import answer, fits
from musegan_jax.evaluation.measures import Measures, Music, measure, read_music, track_of
from musegan_jax.training import parallel, record
from musegan_jax.training.record import Record
from musegan_jax.training.state import TrainState, inference_variables

LOST = 10.0  # standard deviations
REPORTED = ("empty_bars", "qualified_notes", "semitone_clash")


class Heard(NamedTuple):
    """What the network plays in one state: songs by name, and the means of their measures."""

    songs: dict[str, mido.MidiFile]
    scores: dict[str, float]

    @property
    def finite(self) -> dict[str, float]:
        """The measures that could be taken; some cannot where nothing sounds."""
        return {name: value for name, value in self.scores.items() if math.isfinite(value)}


class HeldOut(NamedTuple):
    """Pieces of the split valid, and what they measure."""

    music: list[Music]
    measures: Measures

    def scores(self, model: compose.Model) -> dict[str, float]:
        """What answers to their melodies measure, and the same of the pieces themselves.

        Of every measure that `REPORTED` names the mean over tracks, as `valid/NAME`, and of the
        pieces as `real/NAME`; `valid/disagreement` of two flavours; and `distance`, the mean over
        all measures of the generated tracks of how far their score is from the pieces', in
        standard deviations of the pieces' own (at least 0.05). A measure that cannot be taken,
        for a voice that is silent say, counts as `LOST`.
        """
        given = answer(model, self.music, 2, seed=0)
        tracks = model.tracks
        table = measure([*given.flavours[0], *given.flavours[1]], tracks, model.steps_per_beat)
        melody = tracks[model.config.condition_track].name
        generated = np.array([track_of(name) != melody for name in table.names])
        found = {}
        for label, scores in (("valid", table.scores()), ("real", self.measures.scores())):
            for name in REPORTED:
                own = [column.startswith(name) for column in table.names]
                found[f"{label}/{name}"] = float(music.score(scores[generated & own]))
        apart = [
            music.disagreement(*(piece.bars[..., generated_tracks(model)] for piece in pair)).mean()
            for pair in zip(*given.flavours, strict=True)
        ]
        found["valid/disagreement"] = float(np.mean(apart))
        spread = np.maximum(self.measures.by_piece().std(axis=0), 0.05)
        wanted = self.measures.scores()
        far = np.nan_to_num(np.abs(table.scores() - wanted) / spread, nan=LOST)
        return {**found, "distance": float(far[generated & ~np.isnan(wanted)].mean())}


class Listeners(NamedTuple):
    """Melodies ready to be accompanied, by the name that their files get, and held-out pieces."""

    model: compose.Model  # without variables
    melodies: dict[str, compose.Melody]
    held_out: HeldOut | None

    def hear(self, state: TrainState) -> Heard:
        """Accompany all; in process 0 only, the others hear nothing."""
        songs: dict[str, Any] = {}
        scores: list[dict[str, float]] = []
        held_out: dict[str, float] = {}
        if jax.process_index() == 0 and (self.melodies or self.held_out):
            variables = parallel.on_host(inference_variables(state))
            model = self.model._replace(variables=variables)
            for stem, melody in self.melodies.items():
                roll = compose.generate(model, melody, seed=0, sample=0)
                scores.append(music.quick_scores(*compose.voices(model, melody, roll)))
                songs[stem] = arrangement.to_midi(model, melody, roll)
            if self.held_out:
                held_out = self.held_out.scores(model)
        names = scores[0] if scores else ()
        means = {name: float(np.mean([s[name] for s in scores])) for name in names}
        return Heard(songs, {**means, **held_out})


def prepare(config: Config, run: Record, data: Dataset) -> Listeners:
    """Read and prepare the melodies of `config.output`, and the held-out pieces of `data`.

    Raises:
        UserError: if one cannot be read or does not fit the model.
    """
    model = record.model(run, None)
    melodies = {}
    for name in config.output.melodies:
        score = compose.load_melody(name)
        if Path(name).stem in melodies:
            raise UserError(
                f"config: output.melodies: two are called {Path(name).stem}, and their samples "
                "would be; rename one"
            )
        try:
            melody = compose.prepare(score, compose.pick_part(score, None, name), model)
        except UserError as error:
            raise UserError(f"config: output.melodies: {name}: {error}") from error
        melodies[Path(name).stem] = melody
    return Listeners(model, melodies, _held_out(config, model, data))


def _held_out(config: Config, model: compose.Model, data: Dataset) -> HeldOut | None:
    if not config.output.held_out:
        return None
    pieces: list[Music] = []
    for number in data.pieces_of(["valid"]):  # one by one: unpacked, a large split is too large
        if len(pieces) < config.output.held_out:
            pieces += [piece for piece in read_music(data, [number]) if fits(model, piece)]
    if len(pieces) < 2:  # one has no spread to measure distances by
        raise UserError(
            f"config: output.held_out = {config.output.held_out}: {data.source} has fewer than "
            "two pieces with a melody in the split valid; set it to 0"
        )
    return HeldOut(pieces, measure(pieces, data.tracks, data.steps_per_beat))


def best_score(config: Config, heard: Heard | None) -> float | None:
    """What `output.keep_best` goes by, alike in all processes; None if it cannot be told."""
    if not config.output.keep_best or heard is None:
        return None
    score = heard.scores.get(config.output.best_by, math.nan)
    score = float(parallel.from_process_0(np.array(score, np.float32)))
    return score if math.isfinite(score) else None


def write(heard: Heard, folder: epath.Path, iteration: int) -> list[epath.Path]:
    """Write the songs into a folder; returns the files.

    Raises:
        UserError: if one cannot be written.
    """
    if not heard.songs:
        return []
    files.make_folder(folder)
    return [
        path
        for stem, song in heard.songs.items()
        for path in arrangement.write_song(song, folder, stem, f"{stem}, iteration {iteration}")
    ]
