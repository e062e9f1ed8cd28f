"""Between flavours: answers to noise that lies between the noises of known ones."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from musegan_jax import numerics, rng
from musegan_jax.composing.accompany import answer_melody, conditions, mean, sample_key
from musegan_jax.composing.melody import Melody
from musegan_jax.models.model import Model, answer_noise, noise
from musegan_jax.shapes import Float


class Flavour(NamedTuple):
    """A seed, and the number of the noise drawn from it, from 0."""

    seed: int
    sample: int = 0


def noise_of(model: Model, melody: Melody, flavour: Flavour) -> Float[np.ndarray, "t p C"]:
    """The noise of a flavour of a melody, as `accompany.answer_melody` draws it."""
    with numerics.pinned():
        keys = rng.example_keys(sample_key(*flavour), jnp.zeros(1, jnp.int32))
        return noise(model.config, len(melody.condition), keys)[0]


def blend(a: np.ndarray, b: np.ndarray, place: float) -> np.ndarray:
    """Spherical interpolation (Shoemake 1985) from `a` at place 0 to `b` at 1; any one shape.

    A straight line would pass through noise that is smaller than any that the network was trained
    on: the mean of two independent normal vectors is shorter by the square root of two.
    """
    if place in (0.0, 1.0):
        return b if place else a
    size = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(np.vdot(a, b) / max(size, 1e-12), -1, 1))
    if angle < 1e-4:  # nearly one direction: the line is the arc
        return ((1 - place) * a + place * b).astype(a.dtype)
    parts = np.sin((1 - place) * angle) * a + np.sin(place * angle) * b
    return (parts / np.sin(angle)).astype(a.dtype)


def places(count: int) -> list[float]:
    """`count` >= 2 places from 0 to 1, evenly spaced."""
    return [n / (count - 1) for n in range(count)]


def answer_between(
    model: Model,
    melody: Melody,
    flavours: Sequence[Flavour],
    place: tuple[float, float] = (0.0, 0.0),
    temperature: float = 1.0,
) -> Float[np.ndarray, "T P K"]:
    """The network's raw answer between two flavours, or four, `(T, P, K)`.

    Args:
        model: with variables.
        melody: padded to T steps.
        flavours: two, at (0, 0) and (1, 0); or four, the next two at (0, 1) and (1, 1).
        place: where between them, each number from 0 to 1.
        temperature: factor of the noise.
    """
    noises = [noise_of(model, melody, flavour) for flavour in flavours]
    between = blend(noises[0], noises[1], place[0])
    if len(noises) == 4:
        between = blend(between, blend(noises[2], noises[3], place[0]), place[1])
    with numerics.pinned():
        between = np.float32(temperature) * between[None]
        return mean(
            answer_noise(model, condition[None], between, [melody.bars])[0]
            for condition in conditions(melody)
        )


def walk(
    model: Model, melody: Melody, flavours: Sequence[Flavour], count: int, temperature: float = 1.0
) -> Iterator[Float[np.ndarray, "T P K"]]:
    """`count` answers from one flavour to the other; a grid, `count` a row, between four."""
    for down in places(count) if len(flavours) == 4 else [0.0]:
        for across in places(count):
            yield answer_between(model, melody, flavours, (across, down), temperature)


def asked(
    model: Model, melody: Melody, seeds: Sequence[int], count: int, temperature: float
) -> Iterator[tuple[str, Float[np.ndarray, "T P K"]]]:
    """`count` flavours of one seed, or the walk between two; each with what it is, in words."""
    if len(seeds) == 1:
        for sample in range(count):
            yield f"seed {seeds[0]}", answer_melody(model, melody, seeds[0], sample, temperature)
        return
    answers = walk(model, melody, [Flavour(seed) for seed in seeds], count, temperature)
    for n, answer in enumerate(answers, 1):
        yield f"{n} of {count} from seed {seeds[0]} to seed {seeds[1]}", answer
