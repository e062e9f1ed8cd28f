"""Fixed melodies and held-out pieces, accompanied again and again while the network learns."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import mido
import numpy as np
from etils import epath

from musegan_jax import arrangement, compose, decoding, files
from musegan_jax.config import Config
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import held_out, metrics
from musegan_jax.training import parallel, record
from musegan_jax.training.record import Record
from musegan_jax.training.state import TrainState, inference_variables


class Heard(NamedTuple):
    """What the network plays in one state: songs by name, and the means of its measures.

    The songs are decoded as `compose` does it, the measures with clashes left as they are.
    """

    songs: dict[str, mido.MidiFile]
    scores: dict[str, float]

    @property
    def finite(self) -> dict[str, float]:
        """The measures that could be taken; some cannot where nothing sounds."""
        return {name: value for name, value in self.scores.items() if math.isfinite(value)}


class Listeners(NamedTuple):
    """Melodies ready to be accompanied, by the name that their files get, and held-out pieces."""

    model: compose.Model  # without variables
    melodies: dict[str, compose.Melody]
    held: held_out.HeldOut | None

    def hear(self, state: TrainState) -> Heard:
        """Accompany all; in process 0 only, the others hear nothing."""
        songs: dict[str, Any] = {}
        scores: list[dict[str, float]] = []
        measured: dict[str, float] = {}
        if jax.process_index() == 0 and (self.melodies or self.held):
            variables = parallel.on_host(inference_variables(state))
            model = self.model._replace(variables=variables)
            for stem, melody in self.melodies.items():
                bare = compose.generate(model, melody, 0, 0, costs=decoding.UNMENDED)
                scores.append(metrics.quick_scores(*compose.voices(model, melody, bare)))
                roll = compose.generate(model, melody, seed=0, sample=0)
                songs[stem] = arrangement.to_midi(model, melody, roll)
            if self.held:
                measured = self.held.scores(model)
        names = scores[0] if scores else ()
        means = {name: float(np.mean([s[name] for s in scores])) for name in names}
        return Heard(songs, {**means, **measured})


def prepare(config: Config, run: Record, data: Dataset) -> Listeners:
    """Read and prepare the melodies of `config.output`, and the held-out pieces of `data`.

    Raises:
        UserError: if one cannot be read or does not fit the model, or too few pieces do.
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
    held, count = None, config.output.held_out
    if count:
        try:
            held = held_out.read(data, model, count)
        except UserError as error:
            raise UserError(f"config: output.held_out = {count}: {error}") from error
    return Listeners(model, melodies, held)


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
