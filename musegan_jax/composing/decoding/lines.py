"""The rule `lines`: a track that is a single line in the training music becomes one.

Of all lines the one whose cells are worth most to the network, less what changes, rests and
semitones with the other tracks cost (Viterbi 1967).
"""

from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.models.model import Model


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


def decode(
    model: Model, signed: np.ndarray, given: np.ndarray, costs: Costs = CHOSEN
) -> np.ndarray:
    """The notes of an answer, penalised for clashes with the tracks that are decoded already.

    A track of single lines has one pitch or none at each step. Such tracks are decoded by number;
    each is penalised for semitones with the given melody, with tracks of chords, which have every
    cell above 0, and with the lines before it. The melody's own track pays for no clash. Drums pay
    nothing, and nobody pays for them.

    Args:
        model: says which tracks are the melody, single lines and drums.
        signed: float `(T, P, K)` in [-1, 1].
        given: bool `(T, P)`, the melody that will sound, whatever the network makes of it.
        costs: of a line.

    Returns:
        Bool `(T, P, K)`.
    """
    melody = model.config.condition_track
    single_lines = np.array(model.music.single_lines)
    pitched = np.array([not track.is_drum for track in model.tracks])
    notes = pianoroll.binarise(signed)
    notes[..., single_lines] = False
    sounding = notes.copy()
    sounding[..., melody] = given
    for k in np.flatnonzero(single_lines):
        own = costs if pitched[k] else FREE
        worth = signed[..., k]
        if k != melody:
            worth = worth - np.float32(own.clash) * _clashes(sounding[..., pitched])
        notes[..., k] = _line(worth, own.change, own.rest)
        if k != melody:
            sounding[..., k] = notes[..., k]
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
