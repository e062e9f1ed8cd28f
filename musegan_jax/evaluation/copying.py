"""Whether a model copies its training data."""

from collections.abc import Sequence

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.evaluation.measures import Music

SHIFTS = tuple(range(-5, 7))  # semitones: every key
WINDOWS, POOL = 64, 1024  # compared at a time; some hundred MB


def passages(music: Sequence[Music], bars: int, hop: int) -> np.ndarray:
    """All passages of `bars` bars, one every `hop` bars: bool `(N, steps, 128, K)`.

    Raises:
        ValueError: if the pieces' bars differ in shape.
    """
    shape = music[0].bars.shape[1:]
    found = [
        piece.bars[first : first + bars].reshape(-1, *shape[1:])
        for piece in music
        for first in range(0, len(piece.bars) - bars + 1, hop)
    ]
    return np.stack(found) if found else np.zeros((0, bars * shape[0], *shape[1:]), bool)


def nearest(
    windows: np.ndarray, training: np.ndarray, shifts: Sequence[int] = SHIFTS
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each window to the nearest training passage in any key, and that passage.

    The distance is `metrics.disagreement`: 0 for a note-by-note copy.

    Args:
        windows: bool `(N, T, 128, K)`, pitched tracks only.
        training: bool `(M, T, 128, K)`.
        shifts: semitones by which the windows are moved for comparison.

    Returns:
        Distances, `(N,)`, 0 to 1, and indices into `training`, int `(N,)`. If no training
        passage has notes, 1 and 0.
    """
    best, which = np.ones(len(windows)), np.zeros(len(windows), int)
    sounding = np.flatnonzero(training.any(axis=(0, 1, 3)))
    if not len(sounding):
        return best, which
    rows_used = slice(sounding[0], sounding[-1] + 1)
    pool_cells = training.sum(axis=(1, 2, 3))
    cells = windows.sum(axis=(1, 2, 3))
    for first in range(0, len(windows), WINDOWS):
        rows = slice(first, first + WINDOWS)
        # The windows are shifted, not the training passages, which are many more. Cells shifted out
        # of the training data's range match nothing, and still count in `cells`.
        moved = [pianoroll.transpose(windows[rows], shift)[:, :, rows_used] for shift in shifts]
        count = len(moved[0])
        flat = np.concatenate(moved).reshape(len(shifts) * count, -1).astype(np.float32)
        for start in range(0, len(training), POOL):
            chunk = training[start : start + POOL, :, rows_used]
            chunk = chunk.reshape(len(chunk), -1).astype(np.float32)
            common = (flat @ chunk.T).reshape(len(shifts), count, -1).max(axis=0)
            total = cells[rows, None] + pool_cells[start : start + POOL]
            apart = 1 - 2 * common / np.maximum(total, 1)
            nearer = apart.min(axis=1) < best[rows]
            which[rows] = np.where(nearer, start + apart.argmin(axis=1), which[rows])
            best[rows] = np.minimum(best[rows], apart.min(axis=1))
    return best, which


def known_pieces(
    held: Sequence[Music],
    training: Sequence[Music],
    tracks: Sequence[int],
    bars: int,
    closeness: float = 0.1,
) -> list[str]:
    """Held-out pieces that are in the training data under another name.

    Those for which at least half of the passages of `bars` bars have a training passage, in any
    key, at a distance below `closeness` in `tracks`, the pitched ones.
    """
    own = [passages([piece], bars, bars)[..., tracks] for piece in held]
    pool = passages(training, bars, 1)[..., tracks]
    close = nearest(np.concatenate(own), pool)[0] < closeness
    parts = np.split(close, np.cumsum([len(windows) for windows in own])[:-1])
    return [
        piece.name
        for piece, part in zip(held, parts, strict=True)
        if len(part) and np.mean(part) >= 0.5
    ]
