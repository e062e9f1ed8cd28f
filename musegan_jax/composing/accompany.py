"""The network and a decoding rule, in one call."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax import numerics, rng
from musegan_jax.composing import decoding
from musegan_jax.composing.arrangement import completed, generated_tracks, placed
from musegan_jax.composing.decoding.frame import frame_of
from musegan_jax.composing.decoding.held import Held
from musegan_jax.composing.melody import Melody
from musegan_jax.models.model import Model, answer
from musegan_jax.pianoroll import MIDI_PITCHES
from musegan_jax.shapes import Bool, Float


def sample_key(seed: int, sample: int) -> jax.Array:
    """The scalar key of the noise for sample number `sample`."""
    return rng.update_key(rng.root_key(seed), "eval", sample, 0)


def answer_melody(
    model: Model, melody: Melody, seed: int, sample: int, temperature: float = 1.0
) -> Float[np.ndarray, "T P K"]:
    """The network's raw answer to a melody, `(T, P, K)` as in `models.model.answer`.

    If something is kept beside the melody, the mean of the answers without and with it.

    Args:
        model: with variables.
        melody: padded to T steps.
        seed: of the noise.
        sample: number of the noise drawn from that seed, from 0.
        temperature: factor of the noise.
    """
    with numerics.pinned():
        keys = rng.example_keys(sample_key(seed, sample), jnp.zeros(1, jnp.int32))
        return mean(
            answer(model, condition[None], keys, temperature, [melody.bars])[0]
            for condition in conditions(melody)
        )


def showing(model: Model, melody: Melody, held: Held | None) -> Melody:
    """The melody with what is held, for the network to see both.

    Trained on melodies alone, the network takes the notes beside one for a thicker melody: its
    answer fits them better, and leads its voices worse. The mean with its answer to the melody
    alone is better than either: with the bass of 16 chorales kept, the distance of all measures of
    harmony from theirs falls from 0.36 to 0.28 (docs/studio.md). Bars in which nothing is left to
    decide are not shown: shown, they make the bars beside them worse (0.14 to 0.23).

    Args:
        model: the generator.
        melody: prepared for it.
        held: as it is played, from the melody's first step on; None for nothing.
    """
    if held is None:
        return melody
    moved = held.moved(melody.shift, len(melody.condition))
    decided = np.all(moved.where[:, generated_tracks(model)], axis=1, keepdims=True)
    low, high = model.pitch_range
    pitches = np.arange(MIDI_PITCHES)
    shown = ~decided & (low <= pitches) & (pitches <= high)
    beside = np.any(moved.roll & moved.where[:, None], axis=-1)
    return melody._replace(beside=beside & shown)


def conditions(melody: Melody) -> list[Bool[np.ndarray, "T 128"]]:
    """What the network is asked with in turn: the melody; and if anything is kept, both."""
    if melody.beside is None or not melody.beside.any():
        return [melody.condition]
    return [melody.condition, melody.condition | melody.beside]


def mean(answers: Iterable[Float[np.ndarray, "T P K"]]) -> Float[np.ndarray, "T P K"]:
    """The mean of raw answers; of one, itself."""
    first, *others = answers
    return first if not others else np.stack([first, *others]).mean(axis=0)


def decode_melody(
    model: Model,
    melody: Melody,
    signed: np.ndarray,
    rule: str = decoding.DEFAULT,
    held: Held | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Decode a raw answer `(T, P, K)`: bool `(melody.steps, P, K)`.

    `held` is what must be kept of the accompaniment, as it is played, from the melody's first step
    on; `kept`, bool `(T, 128)`, what else will sound (`arrangement.kept_notes`).
    """
    frame = frame_of(melody.shift, kept)
    if held is not None:
        frame = frame._replace(held=held.moved(frame.shift, len(signed)))
    return decoding.decode(model, signed, melody.condition, rule, frame)[: melody.steps]


def accompany(
    model: Model,
    melody: Melody,
    seed: int = 0,
    sample: int = 0,
    temperature: float = 1.0,
    rule: str = decoding.DEFAULT,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Accompany a melody: bool `(melody.steps, P, K)`, with P the model's pitches.

    Arguments as for `answer_melody` and `decode_melody`; `rule` is a name in `decoding.RULES`.
    """
    signed = answer_melody(model, melody, seed, sample, temperature)
    return decode_melody(model, melody, signed, rule, kept=kept)


def played(
    model: Model,
    melody: Melody,
    signed: Float[np.ndarray, "T P K"],
    rule: str = decoding.DEFAULT,
    held: Held | None = None,
) -> Bool[np.ndarray, "_ 128 K"]:
    """Decode a raw answer to notes as they are played: bool `(melody.steps, 128, K)`.

    Args:
        model: whose answer this is.
        melody: that it answers.
        signed: the answer, padded as the melody is.
        rule: a name in `decoding.RULES`.
        held: notes to keep, from the melody's first step on; they are kept exactly.
    """
    notes = decode_melody(model, melody, signed, rule, held)
    made = completed(model, melody, placed(model, notes, melody.condition, melody.shift))
    return made if held is None else held.moved(0, len(made)).written(made)
