"""How melody and accompaniment will be played, relative to the network's pitches."""

from typing import NamedTuple

import numpy as np

from musegan_jax.composing.decoding.held import Held


class Frame(NamedTuple):
    """The melody's shift in two parts, `shift + 12 * octaves`.

    The accompaniment is moved back by `shift` only: whole octaves would take the voices out of
    their ranges.

    Attributes:
        shift: semitones from the played pitches up to the network's, of both, from -6 to 5.
        octaves: further octaves of the melody alone.
        held: what of the accompaniment is given, at the network's pitches.
        kept: bool `(T, 128)`, other notes that will sound, at the network's pitches (moved by
            `shift`), with which the accompaniment should agree; None if there are none.
    """

    shift: int = 0
    octaves: int = 0
    held: Held | None = None
    kept: np.ndarray | None = None


AS_HEARD = Frame()


def frame_of(shift: int, kept: np.ndarray | None = None) -> Frame:
    """The frame of a melody that was moved up by `shift` semitones for the network.

    `kept` is bool `(T, 128)`, the other notes that will sound, at their own pitches.
    """
    octaves = (shift + 6) // 12
    small = shift - 12 * octaves
    # Notes at the ends of the range come round: what counts of them is the pitch class.
    moved = None if kept is None else np.roll(kept, small, axis=1)
    return Frame(small, octaves, kept=moved)
