"""Samples during training: fixed melodies and held-out pieces, accompanied at each state."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import mido
import numpy as np
from etils import epath

from musegan_jax import files
from musegan_jax.composing import accompany, arrangement
from musegan_jax.composing.melody import Melody, load_melody, prepare
from musegan_jax.composing.song import write_song
from musegan_jax.config import Config
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.melody_line import pick_part
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.errors import UserError
from musegan_jax.evaluation import held_out, metrics
from musegan_jax.evaluation.accompaniments import as_measured
from musegan_jax.evaluation.measures import Music
from musegan_jax.models.model import Model

SHOWN = 2  # held-out pieces that are written with each sample
BPM = 80  # of them


class Samples(NamedTuple):
    """The samples of one state: songs by name, and the mean of each measure.

    `held` are accompaniments of the first held-out pieces, to be looked at while the run trains.
    """

    songs: dict[str, mido.MidiFile]
    scores: dict[str, float]
    held: dict[str, mido.MidiFile] = {}

    @property
    def finite(self) -> dict[str, float]:
        """The measures that are defined; some are not where nothing sounds."""
        return {name: value for name, value in self.scores.items() if math.isfinite(value)}


class Sampler(NamedTuple):
    """Prepared melodies, by the name of their output files, and held-out pieces.

    Songs are decoded by the rule `decoding`, held-out pieces by `held_out_decoding`. Measures of
    the songs use the rule `independent`: lines that avoid one another have no clashes even in
    noise, so their measures could not tell states apart.
    """

    model: Model  # without variables
    melodies: dict[str, Melody]
    held: held_out.HeldOut | None
    decoding: str
    held_out_decoding: str

    def sample(self, variables: Any) -> Samples:
        """Accompany all of them.

        Args:
            variables: `inference_variables` of a state.
        """
        songs: dict[str, mido.MidiFile] = {}
        scores: list[dict[str, float]] = []
        model = dataclasses.replace(self.model, variables=variables)
        for stem, melody in self.melodies.items():
            answer = accompany.answer_melody(model, melody, seed=0, sample=0)
            roll = accompany.decode_melody(model, melody, answer, self.decoding)
            songs[stem] = arrangement.to_midi(model, melody, roll)
            bare = accompany.decode_melody(model, melody, answer, "independent")
            scores.append(metrics.quick_scores(*as_measured(model, melody, bare)))
        measured, held = {}, {}
        if self.held:
            flavours = self.held.accompany(model, self.held_out_decoding)
            measured = self.held.scores(model, flavours)
            shown = enumerate(flavours[0][:SHOWN], 1)
            held = {f"valid-{n}": _to_midi(model, music) for n, music in shown}
        names = scores[0] if scores else ()
        means = {name: float(np.mean([s[name] for s in scores])) for name in names}
        return Samples(songs, {**means, **measured}, held)


def _to_midi(model: Model, music: Music) -> mido.MidiFile:
    """A piece on the grid; a dataset has no tempo."""
    song = midi.from_roll(music.roll, model.tracks, model.steps_per_beat, BPM)
    beats, rest = divmod(music.bars.shape[1], model.steps_per_beat)
    if not rest and 0 < beats < 256:
        song.tracks[0].append(mido.MetaMessage("time_signature", numerator=beats, denominator=4))
    return song


def prepare_sampler(config: Config, music: TrainingMusic, data: Dataset) -> Sampler:
    """Read and prepare the melodies of `config.output`, and the held-out pieces of `data`.

    Raises:
        UserError: if a melody cannot be read or does not fit the model, or if too few pieces fit.
    """
    model = Model(config.model, config.data.window_steps, music)
    melodies = {}
    for name in config.output.melodies:
        score = load_melody(name)
        if Path(name).stem in melodies:
            raise UserError(
                f"config: output.melodies: two are called {Path(name).stem}, so their sample files "
                "would have the same name; rename one"
            )
        try:
            melody = prepare(score, pick_part(score, None, name), model)
        except UserError as error:
            raise UserError(f"config: output.melodies: {name}: {error}") from error
        melodies[Path(name).stem] = melody
    held, count = None, config.output.held_out
    if count:
        try:
            held = held_out.read(data, model, count)
        except UserError as error:
            raise UserError(f"config: output.held_out = {count}: {error}") from error
    return Sampler(model, melodies, held, config.output.decoding, config.output.held_out_decoding)


def write(samples: Samples, folder: epath.Path, iteration: int) -> list[epath.Path]:
    """Write the songs into a folder and return the files; of held-out pieces MIDI alone.

    Raises:
        UserError: if one cannot be written.
    """
    if samples.songs or samples.held:
        files.make_folder(folder)
    for stem, song in samples.held.items():
        midi.write(song, folder / f"{stem}.mid")
    return [
        path
        for stem, song in samples.songs.items()
        for path in write_song(song, folder, stem, f"{stem}, iteration {iteration}")
    ]
