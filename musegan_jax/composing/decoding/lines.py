"""The rule `lines`: tracks that are single lines in the training music become single lines.

Of all lines, choose the one with the largest sum of the network's cells, minus costs for changes,
rests and semitone clashes with other tracks (Viterbi 1967).
"""

from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.decoding.frame import AS_HEARD, Frame
from musegan_jax.models.model import Model
from musegan_jax.shapes import Bool, Float


class Costs(NamedTuple):
    """Costs of a line. For scale: a cell is worth 1 if surely a note, -1 if surely silent.

    Attributes:
        change: cost per change of pitch, or between pitch and silence; at least 0.
        rest: worth of a silent step, in [-1, 1]; lower values fill more gaps where the network is
            unsure.
        clash: cost per step and other track in which the note is a semitone from a pitch class of
            that track; at least 0.
    """

    change: float
    rest: float
    clash: float


FREE = Costs(change=0.0, rest=0.0, clash=0.0)  # at each step the largest cell above 0
CHOSEN = Costs(change=0.5, rest=-0.8, clash=1.0)  # tuned on the split `valid`; see docs/music.md


def decode(
    model: Model,
    signed: Float[np.ndarray, "T P K"],
    given: Bool[np.ndarray, "T P"],
    frame: Frame = AS_HEARD,
    costs: Costs = CHOSEN,
) -> Bool[np.ndarray, "T P K"]:
    """Decode an answer; each line is penalised for clashes with the tracks already decoded.

    A single-line track has at most one pitch per step. These tracks are decoded in order; each is
    penalised for semitones with the given melody, with the lines decoded before it, and with chord
    tracks, whose notes are all cells above 0. The melody's own track is not penalised for clashes.
    Drums have no costs and cause none.

    Args:
        model: determines which tracks are the melody, single lines and drums.
        signed: float `(T, P, K)` in [-1, 1].
        given: bool `(T, P)`, the melody that will sound, not the network's version of it.
        frame: what is kept beside the accompaniment causes clashes, too.
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
    if frame.kept is not None:
        sounding = np.concatenate([sounding, _in_rows(frame.kept, model)[..., None]], axis=2)
        pitched = np.append(pitched, True)
    for k in np.flatnonzero(single_lines):
        own = costs if pitched[k] else FREE
        worth = signed[..., k]
        if k != melody:
            worth = worth - np.float32(own.clash) * _clashes(sounding[..., pitched])
        notes[..., k] = _line(worth, own.change, own.rest)
        if k != melody:
            sounding[..., k] = notes[..., k]
    return notes


def _in_rows(kept: np.ndarray, model: Model) -> np.ndarray:
    """Notes `(T, 128)` in every octave of the model's rows: `(T, P)`."""
    rows = model.config.lowest_pitch + np.arange(model.config.pitches)
    return pianoroll.pitch_classes(kept)[:, rows % 12]


def _clashes(notes: np.ndarray) -> np.ndarray:
    """How many tracks have a pitch class a semitone from each cell: `(T, P, K)` -> `(T, P)`."""
    steps, pitches, tracks = notes.shape
    octaves = -(-pitches // 12)
    padded = np.pad(notes, ((0, 0), (0, 12 * octaves - pitches), (0, 0)))
    classes = padded.reshape(steps, octaves, 12, tracks).any(axis=1)
    beside = np.roll(classes, 1, axis=1) | np.roll(classes, -1, axis=1)
    return np.tile(beside.sum(axis=2, dtype=np.float32), (1, octaves))[:, :pitches]


def _line(worth: np.ndarray, change: float, rest: float) -> np.ndarray:
    """The best line, given the worth of each cell: `(T, P)` -> bool `(T, P)`."""
    steps, pitches = worth.shape
    # Silence first: argmax takes the first of equals, so a note must be worth more than silence.
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
