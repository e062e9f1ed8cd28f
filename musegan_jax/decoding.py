"""From the generator's real numbers to notes."""

from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll


class Costs(NamedTuple):
    """What a line pays. A cell that the network is sure of is worth 1 to it, one surely silent -1.

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


FREE = Costs(change=0.0, rest=0.0, clash=0.0)  # the strongest cell above 0
CHOSEN = Costs(change=0.5, rest=-0.8, clash=1.0)  # on the chorales' split `valid`; docs/music.md
# What tells checkpoints apart must not be mended: lines that avoid clashes have none even in noise.
UNMENDED = CHOSEN._replace(clash=0.0)


def decode(
    signed: np.ndarray,
    given: np.ndarray,
    melody: int,
    single_lines: np.ndarray,
    pitched: np.ndarray,
    costs: Costs = CHOSEN,
) -> np.ndarray:
    """The notes of an answer.

    A track of single lines has one pitch or none at each step: of all lines the one whose cells
    sum up to most, less what it costs (Viterbi 1967). These tracks are decided by number, each
    with those before it in its ears, and the given melody, and tracks of chords, which have every
    cell above 0. The melody's own track pays for no clash. Drums pay nothing, and nobody pays for
    them.

    Args:
        signed: float `(T, P, K)` in [-1, 1], T steps, P rows of pitches.
        given: bool `(T, P)`, the melody that will sound, whatever the network makes of it.
        melody: its track.
        single_lines: bool `(K,)`.
        pitched: bool `(K,)`, False for drums.
        costs: of a line.

    Returns:
        Bool `(T, P, K)`.
    """
    notes = pianoroll.binarise(signed)
    notes[..., single_lines] = False
    heard = notes.copy()
    heard[..., melody] = given
    for k in np.flatnonzero(single_lines):
        own = costs if pitched[k] else FREE
        worth = signed[..., k]
        if k != melody:
            worth = worth - np.float32(own.clash) * _clashes(heard[..., pitched])
        notes[..., k] = _line(worth, own.change, own.rest)
        if k != melody:
            heard[..., k] = notes[..., k]
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
