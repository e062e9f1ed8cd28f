"""The front door for Python: `import musegan_jax as mg`; docs/python.md shows each in use.

A wrong argument of a call is a ValueError or TypeError; what is wrong with a file, a run or a
config is a `UserError`, as on the command line.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import config as configs
from musegan_jax import files
from musegan_jax.composing import accompany as road
from musegan_jax.composing import arrangement
from musegan_jax.composing import decoding as rules
from musegan_jax.composing.melody import load_melody, pick_part, prepare
from musegan_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OutputConfig,
    ParallelConfig,
    TrainingConfig,
)
from musegan_jax.data import midi
from musegan_jax.data.batches import draw_batch, make_windows
from musegan_jax.data.notes import from_pretty_midi, notes_to_roll, roll_to_notes, to_pretty_midi
from musegan_jax.data.sources import load as load_dataset
from musegan_jax.errors import UserError
from musegan_jax.files import AnyPath
from musegan_jax.models import model_file
from musegan_jax.models.critic import Critic, make_critic
from musegan_jax.models.generator import UNetGenerator, draw_noise, make_generator, noise_shape
from musegan_jax.models.model import Model, answer
from musegan_jax.models.model_file import save
from musegan_jax.pianoroll import MIDI_PITCHES, Track
from musegan_jax.rng import example_keys, root_key, update_key
from musegan_jax.shapes import Bool
from musegan_jax.terminal import say
from musegan_jax.training.losses import blend, gradient_penalty
from musegan_jax.training.state import TrainState, create_state, inference_variables
from musegan_jax.training.step import critic_step, generator_step, train_step, update_keys


def load(source: AnyPath | None = None, step: int | None = None) -> Model:
    """A model.

    Args:
        source: a model file of `save` or `musegan-jax export`, or the folder of a training run
            (`gs://...` too); None for the model that comes with the package.
        step: the checkpoint of that iteration, of a run; None for the newest that can be read.

    Raises:
        UserError: if there is none, or it is damaged.
    """
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise TypeError(f"step = {step!r}: it must be a whole number, the iteration")
    if source is None:
        if step is not None:
            raise ValueError(f"step = {step}: give the folder of a run, whose checkpoint it is")
        return model_file.load(model_file.shipped())
    if not files.is_remote(source) and not Path(source).is_dir():
        if step is not None:
            raise ValueError(f"step = {step}: {source} is not the folder of a run")
        return model_file.load(source)
    from musegan_jax.training.load import load_model

    return load_model(files.locate(source), say, step)


def load_config(name_or_path: AnyPath, *overrides: str) -> Config:
    """A shipped config by its name, or that of a Python file, with some fields set otherwise.

    Args:
        name_or_path: such as `quickstart`, or a file with `get_config()`.
        overrides: such as `training.iterations=200`.

    Raises:
        UserError: if there is no such config or field, or a value is not allowed.
    """
    words = [word if word.startswith("--") else f"--{word}" for word in overrides]
    return configs.override(configs.load(str(name_or_path)), words)


def train(config: Config | AnyPath, workdir: AnyPath) -> Model:
    """Train, or go on training, the run in `workdir`, as `musegan-jax train` does.

    Args:
        config: a `Config`, the name of a shipped one, or a Python file with `get_config()`.
        workdir: folder of the run; created, or continued if it holds one.

    Returns:
        The model of the run's newest checkpoint.

    Raises:
        UserError: for whatever is wrong with the config, the data or the folder; if a loss is not
            finite.
    """
    from musegan_jax.training import loop

    config = load_config(config) if isinstance(config, (str, os.PathLike)) else config
    if not isinstance(config, Config):
        raise TypeError(f"config is a {type(config).__name__}; it must be a Config or a name")
    loop.train(config, workdir)
    return load(workdir)


def accompany(
    model: Model,
    melody: Bool[np.ndarray, "T 128"] | AnyPath,
    *,
    seed: int = 0,
    samples: int = 1,
    temperature: float = 1.0,
    decoding: str = rules.DEFAULT,
    track: str | int | None = None,
) -> Bool[np.ndarray, "N T 128 K"]:
    """Accompany a melody, as `musegan-jax compose` does.

    Args:
        model: of `load` or `train`.
        melody: a roll, bool `(T, 128)` on the model's grid (`model.steps_per_beat`), its first step
            on a bar line of 4/4; or a MIDI file, or a built-in melody's name. Where notes sound
            together the network hears the highest.
        seed: of the noise; the same seed gives the same bits.
        samples: how many flavours.
        temperature: factor of the noise: 0 for none, above 1 and flavours stray further.
        decoding: the rule by which the network's answer becomes notes: lines, independent or
            threshold.
        track: of a MIDI file, the melody's by name or number from 1; None for the likeliest.

    Returns:
        Bool `(samples, T, 128, K)`: the melody as it was given in `model.config.condition_track`,
        the generated tracks beside it (`model.tracks` names them), on the melody's own steps. For
        a file T counts from its beginning to the end of the last note's bar.

    Raises:
        TypeError, ValueError: for arguments that cannot be.
        UserError: if the file cannot be read, or the melody does not fit the model.
    """
    _check_arguments(model, seed, samples, temperature, decoding)
    if isinstance(melody, (str, os.PathLike)):
        name, length = str(melody), None
        score = load_melody(name)
    else:
        roll = _check_roll(melody, model)
        name, length = "the roll", len(roll)
        tune = [Track("Melody", 0)]
        score = midi.parse(midi.from_roll(roll[..., None], tune, model.steps_per_beat, 100), name)
    part = pick_part(score, None if track is None else str(track), name)
    heard = prepare(score, part, model)
    end = heard.offset + heard.steps
    accompanied = np.zeros((int(samples), end, MIDI_PITCHES, len(model.tracks)), bool)
    for sample in range(int(samples)):
        notes = road.accompany(model, heard, int(seed), sample, float(temperature), decoding)
        accompanied[sample, heard.offset :] = arrangement.placed(model, heard, notes)
    notes = midi.quantise(part.notes, score.ticks_per_beat / model.steps_per_beat)
    accompanied[..., model.config.condition_track] = midi.to_roll(notes, end)
    if length is None:
        return accompanied
    padding = max(length - end, 0)
    return np.pad(accompanied[:, :length], ((0, 0), (0, padding), (0, 0), (0, 0)))


def _check_arguments(model: Any, seed: Any, samples: Any, temperature: Any, decoding: Any) -> None:
    if not isinstance(model, Model):
        raise TypeError(f"model is a {type(model).__name__}; load one with musegan_jax.load()")
    if model.variables is None:
        raise ValueError("the model has no variables; load a trained one with musegan_jax.load()")
    for name, value, low, high in (("seed", seed, 0, 2**32 - 1), ("samples", samples, 1, 1000)):
        if isinstance(value, bool) or not np.issubdtype(np.asarray(value).dtype, np.integer):
            raise TypeError(f"{name} = {value!r}: it must be a whole number")
        if not low <= value <= high:
            raise ValueError(f"{name} = {value}: it must be from {low} to {high}")
    if isinstance(temperature, str) or np.ndim(temperature) or not 0 <= temperature <= 10:
        raise ValueError(f"temperature = {temperature!r}: it must be a number from 0 to 10")
    if decoding not in rules.RULES:
        known = ", ".join(rules.RULES)
        raise ValueError(f"decoding = {decoding!r}: it must be one of {known}")


def _check_roll(melody: Any, model: Model) -> np.ndarray:
    roll = np.asarray(melody)
    if roll.ndim != 2 or roll.shape[1] != MIDI_PITCHES or not len(roll):
        turned = roll.ndim == 2 and roll.shape[0] == MIDI_PITCHES
        raise ValueError(
            f"melody has shape {roll.shape}; a roll is (T, 128): T time steps, "
            f"{model.steps_per_beat} in a quarter note, and MIDI pitches 0 to 127"
            + ("; transpose it (melody.T)" if turned else "")
        )
    if roll.dtype != bool:
        raise TypeError(
            f"melody has dtype {roll.dtype}; a roll is bool, True where a note sounds: "
            "for example melody > 0"
        )
    if not roll.any():
        raise ValueError("melody is silent: no cell of the roll is True")
    longest = midi.MAX_BEATS * model.steps_per_beat
    if len(roll) > longest:
        raise ValueError(f"melody has {len(roll)} steps (T); up to {longest} are accompanied")
    return roll
