"""Accompaniments of whole pieces by a model."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax import pianoroll, rng
from musegan_jax.composing import decoding
from musegan_jax.composing.accompany import sample_key
from musegan_jax.composing.arrangement import placed
from musegan_jax.composing.melody import Melody
from musegan_jax.evaluation import metrics
from musegan_jax.evaluation.measures import Music
from musegan_jax.models.model import Model, answer

ROOM = 256  # steps; melodies are padded to multiples of it, so that few programs are compiled
CELLS = 2**24  # in a batch of rolls; about 2 GB in the network


class Accompaniments(NamedTuple):
    """The same pieces, accompanied several times.

    Attributes:
        flavours: for each noise, a list of the pieces: given melody and generated tracks.
        fidelity: per bar, of the network's own melody track (`metrics.melody_fidelity`), all
            flavours end to end.
    """

    flavours: list[list[Music]]
    fidelity: np.ndarray


def fits(model: Model, piece: Music) -> bool:
    """Whether a piece has a melody, all within the model's pitches."""
    pitches = np.flatnonzero(piece.bars[..., model.config.condition_track].any(axis=(0, 1)))
    low, high = model.pitch_range
    return bool(len(pitches) and low <= pitches[0] and pitches[-1] <= high)


def accompany_pieces(
    model: Model,
    music: Sequence[Music],
    flavours: int,
    seed: int,
    rule: str = decoding.DEFAULT,
    network: bool = True,
) -> Accompaniments:
    """Accompany the melody of each piece in one pass, as `compose` would play it.

    Args:
        model: the generator.
        music: the pieces that the melodies are taken from.
        flavours: noises for each melody.
        seed: of the noises.
        rule: a name in `decoding.RULES`.
        network: False for random numbers in place of the network's answers.
    """
    found: list[list[Music]] = [[] for _ in range(flavours)]
    fidelity = []
    melodies = [np.concatenate(piece.bars)[..., model.config.condition_track] for piece in music]
    lines = [
        np.arange(len(piece.bars)) * piece.bars.shape[1] if piece.lines is None else piece.lines
        for piece in music
    ]
    for flavour in range(flavours):
        rolls = _accompany_all(model, melodies, lines, sample_key(seed, flavour), rule, network)
        for piece, melody, roll in zip(music, melodies, rolls, strict=True):
            full = pianoroll.uncrop(roll, model.config.lowest_pitch)
            own = full[..., model.config.condition_track]
            shape = piece.bars.shape[:-1]
            fidelity.append(metrics.melody_fidelity(own.reshape(shape), melody.reshape(shape)))
            played = placed(model, roll, melody)
            played[..., model.config.condition_track] = melody
            found[flavour].append(Music(piece.name, played.reshape(piece.bars.shape)))
    return Accompaniments(found, np.concatenate(fidelity))


def _accompany_all(
    model: Model,
    melodies: Sequence[np.ndarray],
    lines: Sequence[np.ndarray],
    key: jax.Array,
    rule: str,
    network: bool,
) -> list[np.ndarray]:
    """Notes `(T, P, K)` for melodies `(T, 128)`, with noise by their place in the list."""
    unit = np.lcm(ROOM, model.stride)
    # With silence after the end, as `melody.prepare` has it.
    rooms = [-(-(len(melody) + model.stride) // unit) * unit for melody in melodies]
    rolls: list[np.ndarray] = [np.zeros(0)] * len(melodies)
    for room in sorted(set(rooms)):
        members = [n for n, size in enumerate(rooms) if size == room]
        batch = max(CELLS // (room * model.config.pitches * model.config.tracks), 1)
        for start in range(0, len(members), batch):
            # The last batch is filled up with its first melody: a new size would be compiled again.
            group = members[start : start + batch]
            padded = [
                group[n] if n < len(group) else group[0] for n in range(min(batch, len(members)))
            ]
            conditions = np.zeros((len(padded), room, pianoroll.MIDI_PITCHES), bool)
            for row, n in enumerate(padded):
                conditions[row, : len(melodies[n])] = melodies[n]
            keys = rng.example_keys(key, jnp.array(padded, jnp.int32))
            if network:
                answers = answer(model, conditions, keys, bars=[lines[n] for n in padded])
            else:
                shape = (room, model.config.pitches, model.config.tracks)
                draw = jax.vmap(
                    lambda own, shape=shape: jax.random.uniform(own, shape, minval=-1.0)
                )
                answers = np.asarray(draw(keys))
            for n, signed, condition in zip(group, answers, conditions, strict=False):
                roll = decoding.decode(model, signed, condition, rule)
                rolls[n] = roll[: len(melodies[n])]
    return rolls


def as_measured(
    model: Model, melody: Melody, roll: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Convert an accompaniment to the arguments of `metrics.quick_scores`.

    Args:
        model: the generator.
        melody: the accompanied melody.
        roll: bool `(steps, P, K)`, from `accompany`.

    Returns:
        The melody, bool `(steps, 128, 1)`; the generated pitched tracks, bool
        `(steps, 128, tracks)`; and the steps in the first bar.
    """
    condition = model.config.condition_track
    pitched = [k for k, t in enumerate(model.tracks) if k != condition and not t.is_drum]
    generated = pianoroll.uncrop(roll[:, :, pitched], model.config.lowest_pitch)
    _, beats, beat_type = melody.score.meters[0]
    per_bar = max(round(4 * beats / beat_type * model.steps_per_beat), 1)
    return melody.condition[: melody.steps, :, None], generated, per_bar
