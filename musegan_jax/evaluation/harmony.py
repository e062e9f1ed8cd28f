"""Measures of harmony and voice leading: what a teacher hears first.

Input is one whole piece: bool `(T, 128, K)`, pitched tracks only, the melody among them. It is
measured from the first step that sounds to the last. A *sonority* is the set of pitch classes of
all tracks at the first step of a beat. Its *bass* is the pitch of the bass track, the one other
than the melody whose mean pitch is lowest; where that rests, the lowest pitch that sounds. A *line*
is a track of single notes; other tracks take part in the sonorities only. An *onset* of a line is a
step at which it sounds another pitch than at the step before, or sounds after a rest; the piece's
first step is none. A *move* is an onset without a rest before it.

Each measure of a piece is one count divided by another. A score is the mean over pieces of these
quotients, ignoring NaN (`Counts.score`); `Counts.pool` divides the sums of the counts instead.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from musegan_jax.data.statistics import highest
from musegan_jax.shapes import Bool, Float, Int

TRIADS = ((0, 4, 7), (0, 3, 7), (0, 3, 6))  # major, minor, diminished
# Dominant, minor, major, half-diminished and diminished sevenths.
SEVENTHS = ((0, 4, 7, 10), (0, 3, 7, 10), (0, 4, 7, 11), (0, 3, 6, 10), (0, 3, 6, 9))
FIFTH = 7  # semitones; a larger move is a leap
Counted = dict[str, tuple[int, int | float]]  # measure -> part and whole
BITS = 1 << np.arange(12)  # a set of pitch classes as a number below 4096


def _sets(shapes: Sequence[Sequence[int]]) -> Int[np.ndarray, "12 N"]:
    """Each chord on each root, as numbers."""
    return np.array(
        [[sum(1 << (pc + root) % 12 for pc in shape) for shape in shapes] for root in range(12)]
    )


# By number: whether the set is part of a chord; the root of a complete triad, or -1.
IN_CHORD = np.any(np.arange(4096) & ~_sets(TRIADS + SEVENTHS).reshape(-1, 1) == 0, axis=0)
ROOTS = np.full(4096, -1)
ROOTS[_sets(TRIADS)] = np.arange(12)[:, None]
NAMES = (
    "chord",
    "full",
    "clash",
    "parallels",
    "crossing",
    "leaps",
    "off_beat",
    "moves",
    "root_or_third",
    "chord_change",
    "phrase_end",
    "final_triad",
    "final_tonic",
)


class Counts(NamedTuple):
    """The counts behind the measures of some pieces.

    Attributes:
        part: float `(pieces, len(NAMES))`.
        whole: float, the same shape; 0 where a measure is undefined.
    """

    part: Float[np.ndarray, "N M"]
    whole: Float[np.ndarray, "N M"]

    def values(self) -> Float[np.ndarray, "N M"]:
        """The measures of each piece, in the order of `NAMES`; NaN where undefined."""
        return _divide(self.part, self.whole)

    def score(self) -> Float[np.ndarray, " M"]:
        """Mean over the pieces of each measure, ignoring NaN."""
        values = self.values()
        known = ~np.isnan(values)
        return _divide(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))

    def pool(self) -> Float[np.ndarray, " M"]:
        """Each measure of all pieces together: the sums of the counts, divided."""
        return _divide(self.part.sum(axis=0), self.whole.sum(axis=0))


def measure(
    rolls: Iterable[Bool[np.ndarray, "_ 128 K"]],
    references: Iterable[Bool[np.ndarray, "_ 128 K"]],
    lines: Sequence[int],
    melody: int | None,
    steps_per_beat: int,
) -> Counts:
    """Count in several pieces; the arguments are those of `count`, which says what is counted."""
    each = [
        count(roll, reference, lines, melody, steps_per_beat)
        for roll, reference in zip(rolls, references, strict=True)
    ]
    table = np.array([[counts[name] for name in NAMES] for counts in each], np.float64)
    table = table.reshape(len(each), len(NAMES), 2)
    return Counts(table[..., 0], table[..., 1])


def count(
    roll: Bool[np.ndarray, "T 128 K"],
    reference: Bool[np.ndarray, "_ 128 K"],
    lines: Sequence[int],
    melody: int | None,
    steps_per_beat: int,
) -> Counted:
    """Count in one piece: for each measure in `NAMES` the part and the whole.

    - `chord`: sonorities that are a subset of one major, minor or diminished triad or of one
      dominant, minor, major, half-diminished or diminished seventh chord; of all that sound.
    - `full`: sonorities of at least three pitch classes; of all that sound.
    - `clash`: sonorities with two pitch classes a semitone apart; of all that sound.
    - `parallels`: of 100 moves of two lines at the same step, those in the same direction from a
      fifth to a fifth, or from a unison or octave to the same; intervals are taken modulo 12, the
      lower line remains the lower. All pairs of lines, the melody included.
    - `crossing`: steps at which the lower of two neighbouring lines lies above the upper; of those
      at which both sound, all neighbours together. Lines are ordered by their mean pitch in the
      reference, so that a bass that stays above the tenor crosses it.
    - `leaps`: moves by more than a fifth; of all moves of the lines but the melody.
    - `off_beat`: onsets that are not on a beat; of all onsets of the lines but the melody.
    - `moves`: onsets of the lines but the melody; per line and beat.
    - `root_or_third`: sonorities with the bass on the root or the third; of those that are a
      complete major, minor or diminished triad.
    - `chord_change`: sonorities that differ from that of the beat before; of all but the first,
      without those that are silent like the one before.
    - `phrase_end`: ends of phrases on a complete triad in root position; of all but the piece's
      last. A phrase ends with a note of the melody that lasts two beats or more, or that a rest
      follows; its last step counts.
    - `final_triad`: 1 if the pitch classes of the last full chord lie above its bass as in a major,
      minor or diminished triad in root position, some of which may be missing; of 1. The last full
      chord is the last step at which as many tracks sound as ever do at once in the piece.
    - `final_tonic`: 1 if the bass of the last full chord is that of the reference's last full chord
      (modulo 12); of 1.

    Args:
        roll: the piece, step 0 on a beat; pitched tracks only.
        reference: the real piece with the same melody; `roll` itself if this is the real one.
        lines: the tracks that are lines; of two pitches at once the higher counts.
        melody: the track that was given, whose own motion is not judged; None for none.
        steps_per_beat: time steps in a quarter note.
    """
    order = np.argsort([-_height(reference[..., k]) for k in lines], kind="stable")
    sounding = np.flatnonzero(roll.any(axis=(1, 2)))
    first, end = (sounding[0], sounding[-1] + 1) if len(sounding) else (0, 0)
    on_beat = np.arange(first, end) % steps_per_beat == 0
    roll = roll[first:end]
    pitches = highest(roll[..., list(lines)])
    own = pitches[:, [k != melody for k in lines]]
    return {
        **_sonorities(roll, on_beat, melody),
        **_phrases(roll, melody, steps_per_beat),
        **_pairs(pitches, order),
        **_motion(own, on_beat, len(roll) / steps_per_beat),
        **_ending(roll, reference, melody),
    }


def _sonorities(roll: np.ndarray, on_beat: np.ndarray, melody: int | None) -> Counted:
    classes, bass = (each[on_beat] for each in sonorities(roll, melody))
    number = classes @ BITS
    sounds = number > 0
    sounding = int(sounds.sum())
    triad = ROOTS[number] >= 0
    above = (bass - ROOTS[number]) % 12
    near = classes & np.roll(classes, 1, axis=1)
    return {
        "chord": (int(IN_CHORD[number[sounds]].sum()), sounding),
        "full": (int((classes.sum(axis=1) >= 3).sum()), sounding),
        "clash": (int(near.any(axis=1).sum()), sounding),
        "root_or_third": (int((triad & np.isin(above, (0, 3, 4))).sum()), int(triad.sum())),
        "chord_change": (
            int((number[1:] != number[:-1]).sum()),
            int((sounds[1:] | sounds[:-1]).sum()),
        ),
    }


def _phrases(roll: np.ndarray, melody: int | None, steps_per_beat: int) -> Counted:
    if melody is None:
        return {"phrase_end": (0, 0)}
    tune = highest(roll[..., [melody]])[:, 0]
    ends = np.flatnonzero(tune[1:] != tune[:-1])  # the last steps of notes and rests
    lengths = np.diff(ends, prepend=-1)
    ends = ends[(tune[ends] >= 0) & ((lengths >= 2 * steps_per_beat) | (tune[ends + 1] < 0))]
    classes, bass = (each[ends] for each in sonorities(roll, melody))
    root = ROOTS[classes @ BITS]
    return {"phrase_end": (int(((root >= 0) & (root == bass % 12)).sum()), len(ends))}


def sonorities(
    roll: Bool[np.ndarray, "T 128 K"], melody: int | None
) -> tuple[Bool[np.ndarray, "T 12"], Int[np.ndarray, " T"]]:
    """The pitch classes and the bass of each step of a roll without drums.

    Returns:
        Bool `(T, 12)`, and the bass's MIDI pitch, int `(T,)`, -1 where nothing sounds.
    """
    merged = np.any(roll, axis=2)
    classes = np.stack([np.any(merged[:, pc::12], axis=1) for pc in range(12)], axis=1)
    heights = [
        np.inf if k == melody or not roll[..., k].any() else _height(roll[..., k])
        for k in range(roll.shape[2])
    ]
    voice = roll[..., int(np.argmin(heights))]
    lowest = np.where(np.any(voice, axis=1), voice.argmax(axis=1), merged.argmax(axis=1))
    return classes, np.where(np.any(merged, axis=1), lowest, -1)


def _pairs(pitches: np.ndarray, order: np.ndarray) -> Counted:
    upper, lower = np.triu_indices(pitches.shape[1], 1)
    step, moved = np.diff(pitches, axis=0), _moves(pitches)
    both = moved[:, upper] & moved[:, lower]
    along = both & (np.sign(step[:, upper]) == np.sign(step[:, lower]))
    apart = pitches[:, upper] - pitches[:, lower]
    before, after = apart[:-1], apart[1:]
    kept = (np.abs(before) % 12 == np.abs(after) % 12) & (np.sign(before) * np.sign(after) >= 0)
    perfect = np.isin(np.abs(before) % 12, (0, FIFTH))
    ordered = pitches[:, order]
    high, low = ordered[:, :-1], ordered[:, 1:]
    return {
        "parallels": (100 * int((along & kept & perfect).sum()), int(both.sum())),
        "crossing": (
            int(((low > high) & (high >= 0)).sum()),
            int(((low >= 0) & (high >= 0)).sum()),
        ),
    }


def _motion(pitches: np.ndarray, on_beat: np.ndarray, beats: float) -> Counted:
    begins = (pitches[1:] >= 0) & (pitches[1:] != pitches[:-1])
    moved, onsets = _moves(pitches), int(begins.sum())
    wide = np.abs(np.diff(pitches, axis=0)) > FIFTH
    return {
        "leaps": (int((moved & wide).sum()), int(moved.sum())),
        "off_beat": (int(begins[~on_beat[1:]].sum()), onsets),
        "moves": (onsets, beats * pitches.shape[1]),
    }


def _ending(roll: np.ndarray, reference: np.ndarray, melody: int | None) -> Counted:
    above, root = _last_chord(roll, melody)
    _, wanted = _last_chord(reference, melody)
    if root < 0:
        return {"final_triad": (0, 0), "final_tonic": (0, 0)}
    return {
        "final_triad": (int(any(above <= set(shape) for shape in TRIADS)), 1),
        "final_tonic": (int(root == wanted), int(wanted >= 0)),
    }


def _last_chord(roll: np.ndarray, melody: int | None) -> tuple[set[int], int]:
    """Semitones of the last full chord above its bass, and the bass's pitch class; -1 if silent."""
    tracks = roll.any(axis=1).sum(axis=1)
    if not tracks.any():
        return set(), -1
    last = int(np.flatnonzero(tracks == tracks.max())[-1])
    classes, bass = sonorities(roll, melody)
    root = int(bass[last]) % 12
    return {int(pc - root) % 12 for pc in np.flatnonzero(classes[last])}, root


def _moves(pitches: np.ndarray) -> np.ndarray:
    """Where a line goes to another pitch without a rest: bool `(T - 1, K)`."""
    return (pitches[1:] >= 0) & (pitches[:-1] >= 0) & (pitches[1:] != pitches[:-1])


def _height(column: np.ndarray) -> float:
    """The mean pitch of a track's sounding cells, bool `(T, 128)`; 0 if silent."""
    cells = column.sum(axis=0)
    return float(cells @ np.arange(len(cells))) / max(int(cells.sum()), 1)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
