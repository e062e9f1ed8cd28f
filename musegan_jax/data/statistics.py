"""Counts in the training music that the decoding rule `joint` uses: sonorities, motion, endings.

First order in time: nothing looks back more than one step. Nothing in them is specific to a style:
other music has other counts. They are stored with a model, so they come from the pieces that it was
trained on and from no others.
"""

import base64
import itertools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.shapes import Bool, Int

MOST_LINES = 8  # the counts of pairs grow with the square of the number of lines
SONORITIES = 2**11  # sets of pitch classes above the lowest sounding pitch
MOTIONS = 5  # of two lines: none, the first, the second, both in one direction, both apart
WIDEST = 24  # semitones; a wider melodic interval counts as this one
MOST_BYTES = 2**24  # of the unpacked counts


class Statistics(NamedTuple):
    """Counts, int32. L lines (single-line pitched tracks and the melody), S steps in a beat.

    Pairs are those of `itertools.combinations(range(L), 2)`; the first of a pair is called a, the
    second b. Intervals are in semitones. The melody counts by its highest notes.

    Attributes:
        ranges: `(L, 2)`, lowest and highest pitch, before any transposition; -1 if silent.
        silent: `(L, 2)`, steps in which a line sounds, and in which it does not.
        rests: `(L, 2, 2)`, from sounding (0) or silent (1) to sounding or silent.
        sonorities: `(S, 2048)`, by position in the beat. The set of pitch classes above the lowest
            pitch: bit n is set if one is n + 1 semitones above it (modulo 12).
        last_sonorities: `(2048,)`, of the last sounding step of each piece.
        orders: `(pairs, 3)`, whether a is lower than, equal to or higher than b.
        motions: `(pairs, S, 5)`, by position in the beat; see `motion`.
        intervals: `(pairs, 5, 12, 12)`, a above b modulo 12, by motion, before and after.
        melodic: `(L, 49)`, intervals of the moves, from 24 down to 24 up.
        degrees: `(12,)`, steps of the melody by pitch class above the last bass note of the piece.
        last_degrees: `(12,)`, the same of the melody's last note.
    """

    ranges: Int[np.ndarray, "L 2"]
    silent: Int[np.ndarray, "L 2"]
    rests: Int[np.ndarray, "L 2 2"]
    sonorities: Int[np.ndarray, "S 2048"]
    last_sonorities: Int[np.ndarray, " 2048"]
    orders: Int[np.ndarray, "N 3"]
    motions: Int[np.ndarray, "N S 5"]
    intervals: Int[np.ndarray, "N 5 12 12"]
    melodic: Int[np.ndarray, "L 49"]
    degrees: Int[np.ndarray, " 12"]
    last_degrees: Int[np.ndarray, " 12"]

    def to_text(self) -> str:
        """As text: base64 of the compressed counts. A few kB, as nearly all are 0."""
        data = b"".join(np.ascontiguousarray(array, "<i4").tobytes() for array in self)
        return base64.b64encode(zlib.compress(data, 9)).decode()


def empty(lines: int, steps_per_beat: int) -> Statistics:
    """Counts of no music."""
    pairs = lines * (lines - 1) // 2

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    return Statistics(
        ranges=zeros(lines, 2) - 1,
        silent=zeros(lines, 2),
        rests=zeros(lines, 2, 2),
        sonorities=zeros(steps_per_beat, SONORITIES),
        last_sonorities=zeros(SONORITIES),
        orders=zeros(pairs, 3),
        motions=zeros(pairs, steps_per_beat, MOTIONS),
        intervals=zeros(pairs, MOTIONS, 12, 12),
        melodic=zeros(lines, 2 * WIDEST + 1),
        degrees=zeros(12),
        last_degrees=zeros(12),
    )


def from_text(text: str, lines: int, steps_per_beat: int) -> Statistics:
    """The inverse of `Statistics.to_text`.

    Raises:
        ValueError: if the text is not that of counts of this size.
    """
    counts = empty(lines, steps_per_beat)
    size = sum(array.nbytes for array in counts)
    if size > MOST_BYTES:
        raise ValueError("its statistics would be too large")
    try:
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, TypeError, zlib.error) as error:
        raise ValueError(f"its statistics are damaged ({error})") from error
    if len(data) != size:
        raise ValueError("its statistics are not of its tracks")
    values = np.frombuffer(data, "<i4")
    ends = np.cumsum([array.size for array in counts])[:-1]
    parts = np.split(values, ends)
    read = Statistics(
        *(part.reshape(array.shape) for part, array in zip(parts, counts, strict=True))
    )
    low, high = read.ranges.T
    negative = (read.ranges < -1).any() or any((counts < 0).any() for counts in read[1:])
    if negative or (low > high).any() or (high >= pianoroll.MIDI_PITCHES).any():
        raise ValueError("its statistics are out of range")
    return read


def count(
    counts: Statistics,
    roll: Bool[np.ndarray, "T 128 K"],
    offset: int,
    lines: Sequence[int],
    melody: int,
) -> None:
    """Add the counts of a whole piece to `counts`.

    Args:
        counts: changed in place.
        roll: bool `(T, 128, K)`, the pitched tracks.
        offset: a step that lies on a beat.
        lines: the tracks that are lines, the melody's among them.
        melody: the melody's track.
    """
    sounding = np.flatnonzero(roll.any(axis=(1, 2)))
    if not len(sounding):
        return
    roll = roll[sounding[0] : sounding[-1] + 1]
    position = (np.arange(len(roll)) + sounding[0] - offset) % len(counts.sonorities)
    found = sonority_numbers(*bits_and_lowest(roll))
    np.add.at(counts.sonorities, (position[found >= 0], found[found >= 0]), 1)
    counts.last_sonorities[found[-1]] += 1
    pitches = highest(roll[..., list(lines)])
    _count_lines(counts, pitches)
    _count_pairs(counts, pitches, position)
    tune = highest(roll[..., [melody]])
    tune = tune[tune >= 0]
    if len(tune):
        bass = int(roll[-1].any(axis=1).argmax())
        np.add.at(counts.degrees, (tune - bass) % 12, 1)
        counts.last_degrees[(tune[-1] - bass) % 12] += 1


def _count_lines(counts: Statistics, pitches: np.ndarray) -> None:
    sounds = pitches >= 0
    both, change = sounds[1:] & sounds[:-1], np.diff(pitches, axis=0)
    for k in range(pitches.shape[1]):
        own = pitches[sounds[:, k], k]
        if len(own):
            low, high = counts.ranges[k]
            counts.ranges[k] = min(own.min(), low if low >= 0 else own.min()), max(own.max(), high)
        rests = (~sounds[:, k]).astype(int)
        counts.silent[k] += np.bincount(rests, minlength=2).astype(np.int32)
        np.add.at(counts.rests[k], (rests[:-1], rests[1:]), 1)
        moves = change[both[:, k] & (change[:, k] != 0), k]
        np.add.at(counts.melodic[k], np.clip(moves, -WIDEST, WIDEST) + WIDEST, 1)


def _count_pairs(counts: Statistics, pitches: np.ndarray, position: np.ndarray) -> None:
    sounds = pitches >= 0
    both = sounds[1:] & sounds[:-1]
    direction = np.sign(np.diff(pitches, axis=0)) * both
    for pair, (a, b) in enumerate(itertools.combinations(range(pitches.shape[1]), 2)):
        known = both[:, a] & both[:, b]
        kind = motion(direction[known, a], direction[known, b])
        apart = pitches[:, a] - pitches[:, b]
        np.add.at(counts.motions[pair], (position[1:][known], kind), 1)
        together = sounds[:, a] & sounds[:, b]
        # Where the voices have crossed, a fourth would count as a fifth: where they often do, as in
        # Palestrina, parallel fifths would seem to be usual.
        usual = np.sign(apart[together].sum())
        crossed = apart * usual < 0
        right = ~(crossed[:-1] | crossed[1:])[known]
        before, after = apart[:-1][known][right] % 12, apart[1:][known][right] % 12
        np.add.at(counts.intervals[pair], (kind[right], before, after), 1)
        order = np.sign(pitches[together, a] - pitches[together, b]) + 1
        np.add.at(counts.orders[pair], order, 1)


def motion(a: Int[np.ndarray, "*n"], b: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """The motion of two lines from their directions (-1, 0, 1; broadcast): 0 to `MOTIONS` - 1."""
    both = np.where(a == b, 3, 4)
    return np.where((a != 0) & (b != 0), both, np.where(a != 0, 1, np.where(b != 0, 2, 0)))


def highest(columns: Bool[np.ndarray, "T P K"]) -> Int[np.ndarray, "T K"]:
    """The highest sounding row at each step: int, -1 for a rest."""
    top = columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1)
    return np.where(columns.any(axis=1), top, -1)


def bits_and_lowest(
    roll: Bool[np.ndarray, "T 128 K"],
) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"]]:
    """The sounding pitch classes as 12 bits, and the lowest pitch, at each step; silent: 0, -1."""
    merged = np.any(roll, axis=2)
    classes = np.stack([np.any(merged[:, pc::12], axis=1) for pc in range(12)], axis=1)
    lowest = np.where(np.any(merged, axis=1), np.argmax(merged, axis=1), -1)
    return classes @ (1 << np.arange(12)), lowest


def sonority_numbers(
    bits: Int[np.ndarray, "*n"], lowest: Int[np.ndarray, "*n"]
) -> Int[np.ndarray, "*n"]:
    """Indices into `Statistics.sonorities`; -1 where nothing sounds (lowest is -1)."""
    root = lowest % 12
    turned = (bits >> root) | (bits << (12 - root))
    # Bit 0 is the lowest pitch's own class, which is always there.
    return np.where(lowest >= 0, (turned & 4095) >> 1, -1)
