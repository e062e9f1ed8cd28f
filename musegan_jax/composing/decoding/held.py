"""What of an accompaniment is given: voices or bars that an answer must keep."""

from typing import Any, NamedTuple

import numpy as np

from musegan_jax.pianoroll import MIDI_PITCHES
from musegan_jax.shapes import Bool, Float, Int

FREE, REST = -2, -1  # of a line at a step: to be decided; held, and silent
CERTAIN = 1e3  # far beyond the network's answers, which lie in [-1, 1], and any cost of a line


class Held(NamedTuple):
    """Notes that are kept, T steps and K tracks.

    Attributes:
        roll: the notes; they count only where `where` is True.
        where: which tracks are held at which steps, sounding or silent.
    """

    roll: Bool[np.ndarray, "T 128 K"]
    where: Bool[np.ndarray, "T K"]

    def moved(self, semitones: int, steps: int) -> "Held":
        """The same that many semitones higher, cut or filled with free steps to `steps`.

        Notes that would leave the MIDI pitches are lost; their steps are held all the same.
        """
        roll = np.zeros((steps, *self.roll.shape[1:]), bool)
        where = np.zeros((steps, self.where.shape[1]), bool)
        length = min(steps, len(self.where))
        pitches = self.roll.shape[1]
        low, high = max(semitones, 0), pitches + min(semitones, 0)
        roll[:length, low:high] = self.roll[:length, low - semitones : high - semitones]
        where[:length] = self.where[:length]
        return Held(roll, where)

    def lines(self, tracks: list[int]) -> Int[np.ndarray, "T L"]:
        """The highest held pitch of tracks that are single lines; `REST` or `FREE` elsewhere."""
        roll = self.roll[..., tracks]
        top = roll.shape[1] - 1 - roll[:, ::-1].argmax(axis=1)
        pitches = np.where(roll.any(axis=1), top, REST)
        return np.where(self.where[:, tracks], pitches, FREE)

    def imposed(self, signed: Float[np.ndarray, "T P K"], low: int) -> Float[np.ndarray, "T P K"]:
        """A raw answer that is certain of what is held; `low` is the pitch of its lowest row."""
        rows = self.roll[:, low : low + signed.shape[1]]
        certain = np.where(rows, np.float32(CERTAIN), np.float32(-CERTAIN))
        return np.where(self.where[:, None], certain, signed)

    def written(self, notes: Bool[np.ndarray, "T P K"], low: int = 0) -> Bool[np.ndarray, "T P K"]:
        """Notes with what is held in place of theirs; `low` is the pitch of their lowest row."""
        rows = self.roll[:, low : low + notes.shape[1]]
        return np.where(self.where[:, None], rows, notes)


def check_held(keep: Any, tracks: int, melody: int) -> Held:
    """What a caller wants kept: a roll `(T, 128, K)` and where `(T, K)`, not of the melody's track.

    Raises:
        TypeError, ValueError: if it is not of this form.
    """
    if not isinstance(keep, (tuple, list)) or len(keep) != 2:
        raise TypeError("keep must be two arrays: a roll (T, 128, K), and where to keep it (T, K)")
    roll, where = map(np.asarray, keep)
    if roll.shape[1:] != (MIDI_PITCHES, tracks) or where.shape != (len(roll), tracks):
        raise ValueError(
            f"keep has shapes {roll.shape} and {where.shape}; they must be (T, 128, {tracks}) and "
            f"(T, {tracks}): time steps, MIDI pitches, tracks"
        )
    if roll.dtype != bool or where.dtype != bool:
        raise TypeError(f"keep has dtypes {roll.dtype} and {where.dtype}; both must be bool")
    where = where.copy()
    where[:, melody] = False
    return Held(roll, where)
