"""Whether a model plays its training data back."""

from collections.abc import Sequence

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.evaluation.measures import Music

SHIFTS = tuple(range(-5, 7))  # semitones: every key
CHUNK = 1024  # training passages compared at a time; some hundred MB


def passages(music: Sequence[Music], bars: int, hop: int) -> np.ndarray:
    """All passages of `bars` bars, one every `hop` bars: bool `(N, steps, 128, K)`."""
    shape = music[0].bars.shape
    found = [
        piece.bars[first : first + bars].reshape(-1, *shape[2:])
        for piece in music
        if piece.bars.shape[1] == shape[1]
        for first in range(0, len(piece.bars) - bars + 1, hop)
    ]
    return np.stack(found) if found else np.zeros((0, bars * shape[1], *shape[2:]), bool)


def nearest(windows: np.ndarray, training: np.ndarray) -> np.ndarray:
    """How far each window is from the training passage most like it, in any key: `(N,)`, 0 to 1.

    The distance is `metrics.disagreement`: 0 for a note-by-note copy.

    Args:
        windows: bool `(N, T, 128, K)`.
        training: bool `(M, T, 128, K)`.
    """
    sounding = np.flatnonzero(training.any(axis=(0, 1, 3)))
    pool = training[:, :, sounding[0] : sounding[-1] + 1].reshape(len(training), -1)
    pool_cells = pool.sum(axis=1)
    cells = windows.sum(axis=(1, 2, 3))
    best = np.ones(len(windows))
    # The windows are shifted, not the training data, which are many more. What a shift puts outside
    # the training data's range meets nothing there, and still counts in `cells`.
    shifted = [
        pianoroll.transpose(windows, shift)[:, :, sounding[0] : sounding[-1] + 1].reshape(
            len(windows), -1
        )
        for shift in SHIFTS
    ]
    flat = np.concatenate(shifted).astype(np.float32)
    for first in range(0, len(pool), CHUNK):
        chunk = pool[first : first + CHUNK].astype(np.float32)
        common = (flat @ chunk.T).reshape(len(SHIFTS), len(windows), -1).max(axis=0)
        total = cells[:, None] + pool_cells[first : first + CHUNK]
        best = np.minimum(best, (1 - 2 * common / np.maximum(total, 1)).min(axis=1))
    return best


def known_pieces(
    held: Sequence[Music], training: Sequence[Music], bars: int, closeness: float = 0.1
) -> list[str]:
    """Held-out pieces that are in the training data under another name.

    Those of which half of the passages of `bars` bars have a training passage, in any key, that
    differs in less than `closeness` of the cells, all tracks together.
    """
    own = [passages([piece], bars, bars) for piece in held]
    close = nearest(np.concatenate(own), passages(training, bars, 1)) < closeness
    parts = np.split(close, np.cumsum([len(windows) for windows in own])[:-1])
    return [
        piece.name
        for piece, part in zip(held, parts, strict=True)
        if len(part) and np.mean(part) >= 0.5
    ]
