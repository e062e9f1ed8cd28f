"""A trained generator, with the facts needed to use it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from musegan_jax import limits, pianoroll
from musegan_jax.config import ModelConfig
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.meter import bar_positions
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.models.layers import with_position
from musegan_jax.pianoroll import Track
from musegan_jax.shapes import Bool, Float, Int, Key

PROGRAMS = 32  # compiled ones that are kept, the last that were used; 12 MB each


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """The result of training, stored in a model file, used by composing and evaluation.

    Attributes:
        config: of the networks.
        window_steps: length of the examples in training, time steps.
        music: facts about the training music.
        variables: the generator's, `{"params": ..., "batch_stats": ...}`; None before training.
        origin: provenance as plain values: `config` of the run, `iteration`, `fingerprint` and
            others. It does not affect the answers; empty if unknown.
    """

    config: ModelConfig
    window_steps: int
    music: TrainingMusic
    variables: Any = None
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The K tracks of an answer; the melody's is `config.condition_track`."""
        return self.music.tracks

    @property
    def steps_per_beat(self) -> int:
        """Time steps in a quarter note."""
        return self.music.steps_per_beat

    @property
    def stride(self) -> int:
        """The length of a melody must be a multiple of this many steps."""
        return 2 ** len(self.config.generator_filters)

    @property
    def pitch_range(self) -> tuple[int, int]:
        """Lowest and highest MIDI pitch that the network has a row for."""
        low = self.config.lowest_pitch
        return low, low + self.config.pitches - 1

    def __repr__(self) -> str:
        """A summary without the arrays, which would fill pages."""
        names = ", ".join(track.name for track in self.tracks)
        low, high = self.pitch_range
        melody = self.tracks[self.config.condition_track].name
        return (
            f"Model(tracks {names}; melody {melody}; MIDI pitches {low} to {high}; "
            f"{self.steps_per_beat} steps a beat)"
        )


def answer(
    model: Model,
    conditions: Bool[np.ndarray, "B T 128"],
    keys: Key[jax.Array, " B"],
    temperature: float = 1.0,
    bars: Sequence[Int[np.ndarray, " _"] | None] | None = None,
) -> Float[np.ndarray, "B T P K"]:
    """Run the generator on melodies of one length; returns its raw answers.

    The network is convolutional, so a long piece is one pass and has no seams.

    Args:
        model: with variables.
        conditions: bool `(B, T, 128)`, melodies in the model's range, T a multiple of its stride
            and not 0.
        keys: of the noise, `(B,)`.
        temperature: factor of the noise; 1 as in training, 0 for none.
        bars: for each melody the steps at which its bars begin (`meter.bar_positions`); None for
            4/4 from its first step. Only a model with `config.bar_position` is shown them.

    Returns:
        float32 `(B, T, P, K)` in [-1, 1], P the model's pitches; a note where it is above 0.

    Raises:
        TypeError, ValueError: if an argument is not of this form.
    """
    temperature = limits.number("temperature", temperature)
    condition, position = _condition(model, conditions, bars)
    typed = isinstance(keys, jax.Array) and jax.numpy.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed:
        raise TypeError("keys must be typed JAX keys (B,), as musegan_jax.example_keys makes them")
    if np.shape(keys) != condition.shape[:1]:
        raise ValueError(
            f"keys has shape {np.shape(keys)}; it must be {condition.shape[:1]}, one a melody"
        )
    apply = _program(_apply, model.config, _noise_shape(model.config, condition.shape[1]))
    return np.asarray(apply(model.variables, condition, keys, temperature, position))


def answer_noise(
    model: Model,
    conditions: Bool[np.ndarray, "B T 128"],
    noise: Float[np.ndarray, "B t p C"],
    bars: Sequence[Int[np.ndarray, " _"] | None] | None = None,
) -> Float[np.ndarray, "B T P K"]:
    """As `answer`, with noise of your own, of the temperature that it should have.

    Args:
        model: with variables.
        conditions: as for `answer`.
        noise: `(B, T / stride, P / stride, C)`, as `draw_noise` draws it.
        bars: as for `answer`.

    Raises:
        TypeError, ValueError: if an argument is not of this form.
    """
    condition, position = _condition(model, conditions, bars)
    wanted = _noise_shape(model.config, condition.shape[1])
    if np.shape(noise) != (len(condition), *wanted):
        raise ValueError(
            f"noise has shape {np.shape(noise)}; it must be {(len(condition), *wanted)}"
        )
    apply = _program(_apply_noise, model.config, wanted)
    return np.asarray(apply(model.variables, condition, noise, position))


def noise(
    config: ModelConfig, steps: int, keys: Key[jax.Array, " B"]
) -> Float[np.ndarray, "B t p C"]:
    """The noise that `answer` draws for melodies of so many steps."""
    return np.asarray(_program(_noise, config, _noise_shape(config, steps))(keys))


def _noise_shape(config: ModelConfig, steps: int) -> tuple[int, int, int]:
    return noise_shape(config.generator_filters, steps, config.pitches)


def _condition(
    model: Model, conditions: Any, bars: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Melodies as the network takes them, signed `(B, T, P, 1)`, and its positions in the bars.

    Errors as in `answer`.
    """
    limits.instances(model=(model, Model))
    if model.variables is None:
        raise ValueError("the model has no variables; load a trained one with musegan_jax.load()")
    conditions = np.asarray(conditions)
    shape, (low, high) = conditions.shape, model.pitch_range
    fine = len(shape) == 3 and shape[2] == pianoroll.MIDI_PITCHES and shape[1]
    if not fine or shape[1] % model.stride:
        raise ValueError(
            f"conditions has shape {shape}; it must be (B, T, 128): melodies, time steps (a "
            f"multiple of {model.stride} and not 0), MIDI pitches"
        )
    if conditions.dtype != bool:
        raise TypeError(f"conditions has dtype {conditions.dtype}; it must be bool")
    if conditions[..., :low].any() or conditions[..., high + 1 :].any():
        raise ValueError(f"conditions has notes outside the model's MIDI pitches {low} to {high}")
    rows = pianoroll.crop(conditions[..., None], model.config.lowest_pitch, model.config.pitches)
    condition = pianoroll.to_signed(rows)
    if not model.config.bar_position:
        return condition, None
    lines = [None] * len(conditions) if bars is None else bars
    if len(lines) != len(conditions):
        raise ValueError(f"bars has {len(lines)} entries; it must have one a melody")
    unit = model.steps_per_beat
    return condition, np.stack(
        [bar_positions(np.zeros(0) if x is None else x, shape[1], unit) for x in lines]
    )


@functools.lru_cache(PROGRAMS)
def _program(run: Callable[..., Any], config: ModelConfig, shape: tuple[int, ...]) -> Any:
    """The program for one shape of noise. One `jit` would keep those of all shapes for ever."""
    return jax.jit(functools.partial(run, config, shape))


def _noise(config: ModelConfig, shape: tuple[int, int, int], keys: jax.Array) -> jax.Array:
    return draw_noise(keys, shape)


def _apply(
    config: ModelConfig,
    shape: tuple[int, int, int],
    variables: Any,
    condition: jax.Array,
    keys: jax.Array,
    temperature: Any,
    position: jax.Array | None = None,
) -> Any:
    return _run(config, variables, condition, temperature * draw_noise(keys, shape), position)


def _apply_noise(
    config: ModelConfig,
    shape: tuple[int, int, int],
    variables: Any,
    condition: jax.Array,
    noise: Any,
    position: jax.Array | None = None,
) -> Any:
    return _run(config, variables, condition, noise, position)


def _run(
    config: ModelConfig,
    variables: Any,
    condition: jax.Array,
    noise: Any,
    position: jax.Array | None,
) -> Any:
    given = with_position(condition, position)
    return make_generator(config).apply(variables, given, noise, train=False)
