"""From the generator's real numbers to notes."""

import numpy as np

from musegan_jax import pianoroll

# Chosen on the chorales' split `valid`; see docs/music.md.
CHANGE_COST = 0.5
REST = -0.5


def decode(
    signed: np.ndarray,
    single_lines: np.ndarray,
    change_cost: float = CHANGE_COST,
    rest: float = REST,
) -> np.ndarray:
    """The notes of an answer.

    A track of single lines has one pitch or none at each step: of all lines the one whose cells
    sum up to most, where a silent step counts `rest` and each change of pitch, or between pitch
    and silence, costs `change_cost` (Viterbi's algorithm). With both 0 it is the strongest cell
    above 0. Other tracks have every cell above 0.

    Args:
        signed: float `(T, P, K)` in [-1, 1].
        single_lines: bool `(K,)`.
        change_cost: at least 0; 2 is what a note gains over silence where the network is sure.
        rest: in [-1, 1]; lower, and gaps where the network hesitates are filled.

    Returns:
        Bool `(T, P, K)`.
    """
    notes = pianoroll.binarise(signed)
    for k in np.flatnonzero(single_lines):
        notes[..., k] = _line(signed[..., k], change_cost, rest)
    return notes


def _line(signed: np.ndarray, change_cost: float, rest: float) -> np.ndarray:
    """The best line of one track: `(T, P)` -> bool `(T, P)`."""
    steps, pitches = signed.shape
    # Silence comes first: of equals the first is taken, and a note must be above it.
    gain = np.concatenate([np.full((steps, 1), rest, signed.dtype), signed], axis=1)
    total = gain[0]
    came_from = np.zeros((steps, pitches + 1), np.int32)
    states = np.arange(pitches + 1)
    for t in range(1, steps):
        best = int(total.argmax())
        changed = total[best] - change_cost > total
        came_from[t] = np.where(changed, best, states)
        total = np.where(changed, total[best] - change_cost, total) + gain[t]
    line = np.zeros((steps, pitches + 1), bool)
    state = int(total.argmax())
    for t in range(steps - 1, -1, -1):
        line[t, state] = True
        state = int(came_from[t, state])
    return line[:, 1:]
