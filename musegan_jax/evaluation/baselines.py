"""Baselines that a model must beat: accompaniments made without a network."""

from collections.abc import Sequence

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.evaluation.copying import nearest, passages
from musegan_jax.evaluation.measures import Measures, Music


def noise_floor(held: Measures, training: Measures, draws: int, seed: int) -> np.ndarray:
    """How far real music is from real music: mean distance of each score, `(columns,)`.

    It is the mean over `draws` random sets of training pieces, each as many as there are held-out
    ones (or all, if fewer), of the distance between the scores of the two sets.
    """
    generator = np.random.default_rng(seed)
    count, pool = len(np.unique(held.pieces)), np.unique(training.pieces)
    wanted = held.scores()
    apart = [
        np.abs(training.of(generator.choice(pool, min(count, len(pool)), False)).scores() - wanted)
        for _ in range(draws)
    ]
    return np.mean(apart, axis=0)


def nearest_copied(
    held: Sequence[Music], training: Sequence[Music], condition_track: int, bars: int
) -> list[Music]:
    """Each melody with the accompaniment of the training passage whose melody is nearest.

    Passages are `bars` bars long, not transposed. A shorter remainder is left out.
    """
    pool = passages(training, bars, 1)
    accompanied = []
    for piece in held:
        melodies = passages([piece], bars, bars)[..., [condition_track]]
        if not len(melodies) or not len(pool):
            continue
        _, which = nearest(melodies, pool[..., [condition_track]], shifts=(0,))
        copied = pool[which].reshape(-1, *piece.bars.shape[1:])
        copied[..., condition_track] = piece.bars[: len(copied), ..., condition_track]
        accompanied.append(Music(piece.name, copied))
    return accompanied


def copied_whole(
    held: Sequence[Music], training: Sequence[Music], condition_track: int, bars: int
) -> list[Music]:
    """As `nearest_copied`, but the shorter remainder gets a passage of its own length."""
    parts = {piece.name: [piece.bars[:0]] for piece in held}
    for size in range(bars, 0, -1):
        if size == bars:
            group = held
        else:
            ending = [piece for piece in held if len(piece.bars) % bars == size]
            group = [Music(piece.name, piece.bars[-size:]) for piece in ending]
        for piece in nearest_copied(group, training, condition_track, size):
            parts[piece.name].append(piece.bars)
    answers = [Music(name, np.concatenate(found)) for name, found in parts.items()]
    lengths = {piece.name: len(piece.bars) for piece in held}
    return [answer for answer in answers if len(answer.bars) == lengths[answer.name]]


def random_voices(
    held: Sequence[Music], training: Sequence[Music], condition_track: int, seed: int
) -> list[Music]:
    """Each melody with voices of random notes.

    Each track is one note after another without rests, its lengths and pitches drawn from the
    training music's notes of that track, independently of one another and of the other tracks.
    """
    generator = np.random.default_rng(seed)
    tracks = held[0].bars.shape[-1]
    notes = [
        np.concatenate([pianoroll.runs(np.concatenate(piece.bars)[..., k]) for piece in training])
        for k in range(tracks)
    ]
    accompanied = []
    for piece in held:
        roll = np.zeros_like(np.concatenate(piece.bars))
        for k in range(tracks):
            now = 0
            while k != condition_track and len(notes[k]) and now < len(roll):
                start, end, _ = notes[k][generator.integers(len(notes[k]))]
                pitch = notes[k][generator.integers(len(notes[k])), 2]
                roll[now : now + end - start, pitch, k] = True
                now += end - start
        roll[..., condition_track] = np.concatenate(piece.bars)[..., condition_track]
        accompanied.append(Music(piece.name, roll.reshape(piece.bars.shape)))
    return accompanied
