"""From the generator's real numbers to notes."""

from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll


class Costs(NamedTuple):
    """What a line pays, where a sure cell is worth 1 and a sure silence -1.

    Attributes:
        change: for each change of pitch, or between pitch and silence; at least 0.
        rest: the worth of a silent step, in [-1, 1]; lower, and gaps where the network hesitates
            are filled.
        clash: for each step that a note sounds a semitone from a pitch class of another track, per
            such track; at least 0.
    """

    change: float
    rest: float
    clash: float


CHOSEN = Costs(change=0.5, rest=-0.8, clash=1.0)  # on the chorales' split `valid`; docs/music.md


def decode(
    signed: np.ndarray,
    single_lines: np.ndarray,
    pitched: np.ndarray,
    melody: int = 0,
    costs: Costs = CHOSEN,
) -> np.ndarray:
    """The notes of an answer.

    A track of single lines has one pitch or none at each step: of all lines the one whose cells
    sum up to most, less what it costs (Viterbi's algorithm). The tracks are decided one after
    another, the melody's first, and each sees those before it. Other tracks have every cell above
    0, and are decided before all lines.

    Args:
        signed: float `(T, P, K)` in [-1, 1].
        single_lines: bool `(K,)`.
        pitched: bool `(K,)`: tracks without pitches clash with nothing.
        melody: the track that the others go by; it pays for no clash.
        costs: of a line.

    Returns:
        Bool `(T, P, K)`.
    """
    notes = pianoroll.binarise(signed)
    notes[..., single_lines] = False
    for k in sorted(np.flatnonzero(single_lines), key=lambda k: k != melody):
        worth = signed[..., k]
        if pitched[k] and k != melody:
            worth = worth - np.float32(costs.clash) * _clashes(notes[..., pitched])
        notes[..., k] = _line(worth, costs.change, costs.rest)
    return notes


def _clashes(notes: np.ndarray) -> np.ndarray:
    """How many tracks have a pitch class a semitone from each cell: `(T, P, K)` -> `(T, P)`."""
    steps, pitches, tracks = notes.shape
    octaves = -(-pitches // 12)
    padded = np.pad(notes, ((0, 0), (0, 12 * octaves - pitches), (0, 0)))
    classes = padded.reshape(steps, octaves, 12, tracks).any(axis=1)
    beside = np.roll(classes, 1, axis=1) | np.roll(classes, -1, axis=1)
    return np.tile(beside.sum(axis=2, dtype=np.float32), (1, octaves))[:, :pitches]


def _line(worth: np.ndarray, change: float, rest: float) -> np.ndarray:
    """The best line through the worths of cells: `(T, P)` -> bool `(T, P)`."""
    steps, pitches = worth.shape
    # Silence comes first: of equals the first is taken, and a note must be above it.
    gain = np.concatenate([np.full((steps, 1), rest, worth.dtype), worth], axis=1)
    total = gain[0]
    came_from = np.zeros((steps, pitches + 1), np.int32)
    states = np.arange(pitches + 1)
    for t in range(1, steps):
        best = int(total.argmax())
        changed = total[best] - change > total
        came_from[t] = np.where(changed, best, states)
        total = np.where(changed, total[best] - change, total) + gain[t]
    line = np.zeros((steps, pitches + 1), bool)
    state = int(total.argmax())
    for t in range(steps - 1, -1, -1):
        line[t, state] = True
        state = int(came_from[t, state])
    return line[:, 1:]
