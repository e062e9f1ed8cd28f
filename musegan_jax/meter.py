"""The position in the bar, as input of the networks.

Their convolutions have no other way to know it: in the middle of a piece a steady map looks the
same on every step. Silence beyond the edges of the short windows of training would tell, but there
is none within a whole piece, which is composed in one pass.
"""

import numpy as np

from musegan_jax.shapes import Float, Int

POSITIONS = 8  # channels: cosine and sine of once and twice a bar, and once and twice a beat
BEAT = slice(1, None, 2)  # those of the beat


def bar_positions(
    lines: Int[np.ndarray, " N"], steps: int, steps_per_beat: int
) -> Float[np.ndarray, "T 8"]:
    """Where each step lies in its bar and in its beat.

    Args:
        lines: steps at which bars begin, increasing; some may lie outside of the piece. The first
            and the last bar repeat without end. Of fewer than two lines, bars are four beats long.
        steps: T.
        steps_per_beat: time steps in a quarter note, which is the beat in every meter.

    Returns:
        float32 `(T, POSITIONS)` in [-1, 1].
    """
    lines = np.unique(np.asarray(lines, np.int64))  # a bar without a step would be no length
    if len(lines) < 2:
        first = lines[0] if len(lines) else 0
        lines = first + np.array([0, 4 * steps_per_beat])
    lengths = np.diff(lines)
    now = np.arange(steps)
    bar = np.clip(np.searchsorted(lines, now, side="right") - 1, 0, len(lengths) - 1)
    within = (now - lines[bar]) % lengths[bar]
    turns = np.stack([within / lengths[bar], within % steps_per_beat / steps_per_beat], axis=1)
    angles = 2 * np.pi * np.concatenate([turns, 2 * turns], axis=1)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
