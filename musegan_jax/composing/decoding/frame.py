"""How melody and accompaniment will be played, relative to the network's pitches."""

from typing import NamedTuple

from musegan_jax.composing.decoding.held import Held


class Frame(NamedTuple):
    """The melody's shift in two parts, `shift + 12 * octaves`.

    The accompaniment is moved back by `shift` only: whole octaves would take the voices out of
    their ranges.

    Attributes:
        shift: semitones from the played pitches up to the network's, of both, from -6 to 5.
        octaves: further octaves of the melody alone.
        held: what of the accompaniment is given, at the network's pitches.
    """

    shift: int = 0
    octaves: int = 0
    held: Held | None = None


AS_HEARD = Frame()


def frame_of(shift: int) -> Frame:
    """The frame of a melody that was moved up by `shift` semitones for the network."""
    octaves = (shift + 6) // 12
    return Frame(shift - 12 * octaves, octaves)
