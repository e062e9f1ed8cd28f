"""The front door for Python: `import musegan_jax as mg`; docs/python.md shows each in use.

A wrong argument of a call is a ValueError or TypeError; what is wrong with a file, a run or a
config is a `UserError`, as on the command line.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import config as configs
from musegan_jax import files, limits
from musegan_jax.composing.accompany import answer_melody, played, showing
from musegan_jax.composing.decoding.held import Held, check_held
from musegan_jax.composing.melody import MAX_STEPS, Melody, load_melody, prepare
from musegan_jax.composing.walk import Flavour, walk
from musegan_jax.config import (
    DECODING,
    Config,
    DataConfig,
    ModelConfig,
    OutputConfig,
    ParallelConfig,
    TrainingConfig,
)
from musegan_jax.data import midi
from musegan_jax.data.batches import draw_batch, draw_position, make_windows
from musegan_jax.data.fit import for_dataset as fit_config
from musegan_jax.data.melody_line import pick_part
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
from musegan_jax.runs import compilation_cache
from musegan_jax.shapes import Bool
from musegan_jax.training import determinism
from musegan_jax.training.losses import blend, gradient_penalty
from musegan_jax.training.state import TrainState, create_state, inference_variables
from musegan_jax.training.step import critic_step, generator_step, train_step, update_keys

__all__ = [
    "Config",
    "Critic",
    "DataConfig",
    "Model",
    "ModelConfig",
    "OutputConfig",
    "ParallelConfig",
    "Track",
    "TrainState",
    "TrainingConfig",
    "UNetGenerator",
    "UserError",
    "accompany",
    "answer",
    "between",
    "blend",
    "create_state",
    "critic_step",
    "draw_batch",
    "draw_noise",
    "draw_position",
    "example_keys",
    "fit_config",
    "from_pretty_midi",
    "generator_step",
    "gradient_penalty",
    "inference_variables",
    "load",
    "load_config",
    "load_dataset",
    "make_critic",
    "make_generator",
    "make_windows",
    "noise_shape",
    "notes_to_roll",
    "roll_to_notes",
    "root_key",
    "save",
    "to_pretty_midi",
    "train",
    "train_step",
    "update_key",
    "update_keys",
]


def load(source: AnyPath | None = None, step: int | None = None) -> Model:
    """A model.

    Args:
        source: a model file of `save` or `musegan-jax export`, the folder of a training run
            (`gs://...` too), or the name of a model that comes with the package; None for the
            chorales'.
        step: the checkpoint of that iteration, of a run; None for the newest that can be read.

    Raises:
        TypeError, ValueError: if `source` is no path; if `step` is no iteration, or `source` not a
            run's.
        UserError: if there is no such model, or it is damaged.
    """
    step = None if step is None else limits.whole("step", step)
    if source is None:
        if step is not None:
            raise ValueError(f"step = {step}: give the folder of a run, whose checkpoint it is")
        return model_file.load(model_file.shipped())
    limits.instances(source=(source, (str, os.PathLike)))
    if not files.is_remote(source) and not Path(source).is_dir():
        if step is not None:
            raise ValueError(f"step = {step}: {source} is not the folder of a run")
        return model_file.load(source)
    from musegan_jax.training.load import load_model

    return load_model(files.locate(source), step)


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

    Ctrl-C and SIGTERM save first, then raise KeyboardInterrupt; a call with the same arguments
    goes on from there.

    Args:
        config: a `Config`, the name of a shipped one, or a Python file with `get_config()`.
        workdir: folder of the run; created, or continued if it holds one.

    Returns:
        The model of the run's newest checkpoint.

    Raises:
        TypeError: if `config` is neither a Config nor a name, or `workdir` no path.
        UserError: for whatever is wrong with the config, the data or the folder; if a loss is not
            finite; if `training.deterministic` is set and JAX has started without its flag.
        KeyboardInterrupt: if a signal stopped the run.
    """
    config = load_config(config) if isinstance(config, (str, os.PathLike)) else config
    limits.instances(config=(config, (Config, str)), workdir=(workdir, (str, os.PathLike)))
    determinism.enable(config)
    _keep_programs()
    from musegan_jax.training import loop

    if loop.train(config, workdir) is None:
        raise KeyboardInterrupt(f"the run was stopped and saved; train again goes on ({workdir})")
    return load(workdir)


def accompany(
    model: Model,
    melody: Bool[np.ndarray, "T 128"] | AnyPath,
    *,
    seed: int = 0,
    samples: int = 1,
    temperature: float = 1.0,
    decoding: str = OutputConfig.decoding,
    track: str | int | None = None,
    key: int | None = None,
    melody_only: bool = False,
    keep: tuple[np.ndarray, np.ndarray] | None = None,
) -> Bool[np.ndarray, "N T 128 K"]:
    """Accompany a melody, as `musegan-jax compose` does.

    Args:
        model: of `load` or `train`.
        melody: a roll, bool `(T, 128)` on the model's grid (`model.steps_per_beat`), its first step
            on a bar line of 4/4; or a MIDI file, or a built-in melody's name. Of notes that sound
            together the network gets the melody line, mostly the highest.
        seed: of the noise; the same seed gives the same bits.
        samples: how many flavours.
        temperature: factor of the noise: 0 for none, above 1 and flavours stray further.
        decoding: the rule by which the network's answer becomes notes (`config.DECODING`).
        track: of a MIDI file, the melody's by name or number from 1; None for the likeliest.
        key: semitones by which the melody is transposed up for the network, and its answer back;
            None for the octaves that bring it into the range of the training music.
        melody_only: return of the melody only what the network gets, without chords and a left
            hand.
        keep: an accompaniment, bool `(T, 128, K)` as it is returned, and which of it to keep, bool
            `(T, K)`: there its notes and rests stay as they are, and the rest is decided with them.
            None for nothing. What is said of the melody's own track is ignored.

    Returns:
        Bool `(samples, T, 128, K)`: the melody as it was given in `model.config.condition_track`,
        the generated tracks beside it (`model.tracks` names them), on the melody's own steps. For
        a file T counts from its beginning to the end of the last note's bar.

    Raises:
        TypeError, ValueError: for arguments that cannot be.
        UserError: if the file cannot be read, or has no melody.
    """
    limits.instances(model=(model, Model))
    seed, samples = limits.whole("seed", seed), limits.whole("samples", samples)
    temperature = limits.number("temperature", temperature)

    def answers(prepared: Melody) -> Iterator[np.ndarray]:
        return (answer_melody(model, prepared, seed, n, temperature) for n in range(samples))

    return _accompanied(model, melody, answers, decoding, track, key, melody_only, keep)


def between(
    model: Model,
    melody: Bool[np.ndarray, "T 128"] | AnyPath,
    seeds: Sequence[int],
    *,
    steps: int = 5,
    temperature: float = 1.0,
    decoding: str = OutputConfig.decoding,
    track: str | int | None = None,
    key: int | None = None,
    melody_only: bool = False,
    keep: tuple[np.ndarray, np.ndarray] | None = None,
) -> Bool[np.ndarray, "N T 128 K"]:
    """Walk between flavours: the noise is interpolated on the sphere (Shoemake 1985).

    Args:
        model: of `load` or `train`.
        melody: as for `accompany`.
        seeds: two, between whose first flavours to walk; or four, the corners of a grid by rows.
        steps: how many places from one to the other, both included; 2 at least.
        temperature: as for `accompany`; so are the others.
        decoding: the rule by which answers become notes.
        track: of a MIDI file, the melody's.
        key: semitones by which the melody is transposed for the network.
        melody_only: return of the melody only what the network gets.
        keep: notes to keep, and where.

    Returns:
        Bool `(steps, T, 128, K)`, `(steps * steps, ...)` for four seeds, row by row; the first and
        the last are the flavours themselves.

    Raises:
        TypeError, ValueError, UserError: as for `accompany`.
    """
    limits.instances(model=(model, Model))
    if len(seeds) not in (2, 4):
        raise ValueError(f"seeds has {len(seeds)} seeds; give two, or four for a grid")
    flavours = [Flavour(limits.whole("seed", seed)) for seed in seeds]
    steps = limits.whole("steps", steps)
    temperature = limits.number("temperature", temperature)

    def answers(prepared: Melody) -> Iterator[np.ndarray]:
        return walk(model, prepared, flavours, steps, temperature)

    return _accompanied(model, melody, answers, decoding, track, key, melody_only, keep)


def _accompanied(
    model: Model,
    melody: Any,
    answers: Callable[[Melody], Iterable[np.ndarray]],
    decoding: str,
    track: str | int | None,
    key: int | None,
    melody_only: bool,
    keep: Any,
) -> np.ndarray:
    """The network's answers to a melody as rolls `(N, T, 128, K)`; arguments as for `accompany`."""
    key = None if key is None else limits.whole("key", key)
    limits.one_of("decoding", decoding, DECODING)
    melody_track = model.config.condition_track
    whole = None if keep is None else check_held(keep, len(model.tracks), melody_track)
    _keep_programs()
    if isinstance(melody, (str, os.PathLike)):
        name, length = str(melody), None
        score = load_melody(name)
    else:
        roll = _check_roll(melody, model)
        name, length = "the roll", len(roll)
        tune = [Track("Melody", 0)]
        score = midi.parse(midi.from_roll(roll[..., None], tune, model.steps_per_beat, 100), name)
    part = pick_part(score, None if track is None else str(track), name)
    prepared = prepare(score, part, model, key)
    start, end = prepared.offset, prepared.offset + prepared.steps
    held = None if whole is None else Held(whole.roll[start:], whole.where[start:])
    shown = showing(model, prepared, held)
    made = [played(model, prepared, answer, decoding, held) for answer in answers(shown)]
    accompanied = np.pad(np.stack(made), ((0, 0), (start, 0), (0, 0), (0, 0)))
    own = part.notes[prepared.on_line] if melody_only else part.notes
    notes = midi.quantise(own, score.ticks_per_beat / model.steps_per_beat)
    accompanied[..., melody_track] = midi.to_roll(notes, end)
    if length is not None:
        padding = max(length - end, 0)
        accompanied = np.pad(accompanied[:, :length], ((0, 0), (0, padding), (0, 0), (0, 0)))
    if whole is None:
        return accompanied
    return np.stack([whole.moved(0, len(each)).written(each) for each in accompanied])


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
    longest = min(MAX_STEPS, midi.MAX_BEATS * model.steps_per_beat)
    if len(roll) > longest:
        raise ValueError(f"melody has {len(roll)} steps (T); up to {longest} are accompanied")
    return roll


def _keep_programs() -> None:
    """Keep compiled programs as the command does, and as it does not where bits must repeat."""
    if not determinism.is_set():
        compilation_cache.keep()
