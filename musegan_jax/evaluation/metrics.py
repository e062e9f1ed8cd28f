"""Measures of music, from their definitions.

Input is bool `(bars, steps, 128, K)`: bars of a roll over all MIDI pitches. Each function gives one
value per bar and track (or per bar), float64; NaN for a bar where the measure is undefined, usually
an empty bar. A score is the mean over bars, ignoring NaN (`score`). Notes are runs of equal pitch,
cut at the bar line.
"""

import numpy as np

from musegan_jax.shapes import Bool, Float, Int, Shaped

C_MAJOR = (0, 2, 4, 5, 7, 9, 11)
# Radii of the circles of fifths, minor thirds and major thirds (`tonal_distance`).
RADII = (1.0, 1.0, 0.5)

Bars = Bool[np.ndarray, "N T 128 K"]
PerBar = Float[np.ndarray, "N K"]


def bars_of(roll: Shaped[np.ndarray, "S P K"], steps_per_bar: int) -> Shaped[np.ndarray, "N T P K"]:
    """Cut `(T, P, K)` into whole bars `(bars, steps, P, K)`; steps past the last are dropped."""
    bars = len(roll) // steps_per_bar
    return roll[: bars * steps_per_bar].reshape(bars, steps_per_bar, *roll.shape[1:])


def score(values: np.ndarray) -> np.ndarray:
    """Mean over bars (axis 0) of the values that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    count = np.sum(known, axis=0)
    total = np.sum(np.where(known, values, 0), axis=0)
    mean = np.full(np.shape(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def chroma(bars: Bars) -> Int[np.ndarray, "N T 12 K"]:
    """Active cells per step and pitch class: int `(bars, steps, 12, K)`."""
    return np.stack([bars[:, :, pc::12].sum(axis=2) for pc in range(12)], axis=2)


def empty_bars(bars: Bars) -> PerBar:
    """EB: 1 where a bar has no note, else 0: `(bars, K)`. Never NaN.

    Reference: Dong et al. 2018, "MuseGAN", section 5.2.
    """
    return np.all(~bars, axis=(1, 2)).astype(np.float64)


def used_pitch_classes(bars: Bars) -> PerBar:
    """UPC: distinct pitch classes in the bar, 1 to 12: `(bars, K)`; NaN if empty.

    Reference: Dong et al. 2018, "MuseGAN", section 5.2.
    """
    return _known(np.any(chroma(bars), axis=1).sum(axis=1))


def used_pitches(bars: Bars) -> PerBar:
    """UP: distinct pitches in the bar, 1 to 128: `(bars, K)`; NaN if empty."""
    return _known(np.any(bars, axis=1).sum(axis=1))


def onsets(bars: Bars) -> Bars:
    """Cells in which a note begins: bool, like `bars`. A note held into a bar begins at step 0."""
    begins = bars.copy()
    begins[:, 1:] &= ~bars[:, :-1]
    return begins


def qualified_notes(bars: Bars, min_steps: int = 2) -> PerBar:
    """QN: share of notes that last `min_steps` steps or longer: `(bars, K)`; NaN if empty.

    2 of 16 steps in a bar are an eighth note. Reference: Dong et al. 2018, section 5.2.
    """
    # A note is long enough if it begins and then sounds for `min_steps` steps in this bar.
    reach = bars.shape[1] - min_steps + 1
    lasting = onsets(bars)[:, : max(reach, 0)].copy()
    for later in range(1, min_steps if reach > 0 else 0):
        lasting &= bars[:, later : later + reach]
    return _share(lasting.sum(axis=(1, 2)), onsets(bars).sum(axis=(1, 2)))


def polyphony(bars: Bars, voices: int = 2) -> PerBar:
    """PR: share of all steps of the bar with at least `voices` pitches: `(bars, K)`; NaN if empty.

    Reference: Dong et al. 2020, "MusPy" (`polyphony_rate`).
    """
    at_once = bars.sum(axis=2)
    return np.where(_sounds(bars), np.mean(at_once >= voices, axis=1), np.nan)


def in_scale(bars: Bars) -> PerBar:
    """ISR: share of active cells whose pitch class is in C major: `(bars, K)`; NaN if empty.

    Reference: Dong et al. 2020, "MusPy" (`in_scale_rate`, which counts notes instead of cells).
    """
    cells = chroma(bars).sum(axis=1)
    return _share(cells[:, C_MAJOR].sum(axis=1), cells.sum(axis=1))


def scale_consistency(bars: Bars) -> PerBar:
    """ISR of the scale that fits the bar best: `(bars, K)`; NaN if empty.

    The best of 12 major and 12 natural minor scales; a minor has the pitch classes of a major.
    Reference: Mogren 2016, "C-RNN-GAN", section 4.2.
    """
    cells = chroma(bars).sum(axis=1)
    keys = [cells[:, [(pc + key) % 12 for pc in C_MAJOR]].sum(axis=1) for key in range(12)]
    return _share(np.max(keys, axis=0), cells.sum(axis=1))


def drum_pattern(bars: Bars, beats: int = 16) -> PerBar:
    """DP: share of onsets that lie on the grid of `beats` equal parts of the bar: `(bars, K)`.

    For drum tracks; `beats` is 8 or 16. If a bar has no more steps than that, every step is on the
    grid and the value is 1. Grid points between steps are rounded to the nearest. NaN if empty.
    Reference: Dong et al. 2018, section 5.2.
    """
    steps = bars.shape[1]
    grid = np.unique(np.round(np.arange(beats) * steps / beats).astype(int) % steps)
    begins = onsets(bars).sum(axis=2)
    return _share(begins[:, grid].sum(axis=1), begins.sum(axis=1))


def tonal_distance(bars: Bars, steps_per_beat: int) -> Float[np.ndarray, "N K K"]:
    """TD: harmonic distance between every two tracks, at least 0: `(bars, K, K)`, symmetric.

    The chroma of a track in a beat, summed and divided by its L1 norm, is placed on the circles of
    fifths, minor thirds and major thirds (a point in 6 dimensions). The Euclidean distance between
    two tracks is averaged over the beats in which both sound; NaN if there is none. Steps after the
    last whole beat are left out. Reference: Harte, Sandler and Gasser 2006, "Detecting Harmonic
    Change in Musical Audio".
    """
    beats = bars.shape[1] // steps_per_beat
    cells = chroma(bars[:, : beats * steps_per_beat])
    cells = cells.reshape(len(bars), beats, steps_per_beat, 12, bars.shape[-1]).sum(axis=2)
    total = cells.sum(axis=2, keepdims=True)
    angles = np.outer((7 * np.pi / 6, 3 * np.pi / 2, 2 * np.pi / 3), np.arange(12))
    circles = np.stack([np.sin(angles), np.cos(angles)], axis=1) * np.array(RADII)[:, None, None]
    points = np.einsum("dc,nbck->nbdk", circles.reshape(6, 12), cells / np.maximum(total, 1))
    apart = np.linalg.norm(points[..., :, None] - points[..., None, :], axis=2)
    sounds = total[:, :, 0] > 0
    both = sounds[..., :, None] & sounds[..., None, :]
    return score(np.moveaxis(np.where(both, apart, np.nan), 1, 0))


def semitone_clash(bars: Bars) -> Float[np.ndarray, " N"]:
    """SC: share of sounding steps with two pitch classes a semitone apart: `(bars,)`.

    All tracks are merged, and pitch classes lie on a circle (B and C are neighbours). NaN where
    no step sounds.
    """
    classes = np.any(chroma(bars), axis=3)
    clashes = np.any(classes & np.roll(classes, 1, axis=2), axis=2).sum(axis=1)
    sounding = np.any(classes, axis=2).sum(axis=1)
    return _share(clashes, sounding)


def pitch_class_entropy(bars: Bars) -> PerBar:
    """PCE: entropy of the notes' pitch classes, 0 to log2 12 bits: `(bars, K)`; NaN if empty.

    Reference: Wu and Yang 2020, "The Jazz Transformer", section 5.
    """
    notes = chroma(onsets(bars)).sum(axis=1)
    share = notes / np.maximum(notes.sum(axis=1, keepdims=True), 1)
    bits = -np.sum(share * np.log2(np.where(share > 0, share, 1)), axis=1)
    return np.where(_sounds(bars), np.abs(bits), np.nan)


def groove_consistency(bars: Bars) -> PerBar:
    """GC: share of steps in which a bar's onsets agree with the previous bar's: `(bars, K)`.

    It compares whether any note begins, not which. NaN for the first bar, and where either bar is
    empty. The bars must be consecutive: measure piece by piece.
    Reference: Wu and Yang 2020, section 5.
    """
    begins = np.any(onsets(bars), axis=2)
    agree = np.full((len(bars), bars.shape[-1]), np.nan)
    if len(bars) > 1:
        both = _sounds(bars)[1:] & _sounds(bars)[:-1]
        agree[1:] = np.where(both, np.mean(begins[1:] == begins[:-1], axis=1), np.nan)
    return agree


def melody_fidelity(
    bars: Bool[np.ndarray, "N T P"], condition: Bool[np.ndarray, "N T P"]
) -> Float[np.ndarray, " N"]:
    """MF: F1 of a track's cells against the melody's, 0 to 1: `(bars,)`.

    Args:
        bars: bool `(bars, steps, P)`, the network's own melody track.
        condition: bool, the same shape, the given melody.

    Returns:
        NaN where both are empty, 0 where only one is.
    """
    right = (bars & condition).sum(axis=(1, 2))
    return _share(2 * right, bars.sum(axis=(1, 2)) + condition.sum(axis=(1, 2)))


def disagreement(
    a: Bool[np.ndarray, "*b T P K"], b: Bool[np.ndarray, "*b T P K"]
) -> Float[np.ndarray, "*b"] | np.float64:
    """Hamming distance between two rolls, divided by the sum of their sounding cells.

    0 for equal rolls, 1 for rolls with nothing in common.
    `(..., T, P, K)` bool each, result `(...)`; 0 where both are empty.
    """
    axes = (-3, -2, -1)
    total = a.sum(axis=axes) + b.sum(axis=axes)
    return (a ^ b).sum(axis=axes) / np.maximum(total, 1)


def diversity(flavours: np.ndarray, references: np.ndarray) -> np.ndarray:
    """DIV: distance between accompaniments of one melody, relative to different pieces: `(M,)`.

    Args:
        flavours: bool `(M, N, T, P, K)`, N >= 2 accompaniments of each of M melodies.
        references: bool `(R, T, P, K)`, R >= 2 accompaniments from different real pieces.

    Returns:
        The mean pairwise Hamming distance between a melody's flavours, divided by that between the
        references: 0 if all flavours are equal, about 1 if they differ as much as different pieces.
    """
    apart = [mean_distance(each) for each in flavours]
    return np.array(apart) / mean_distance(references)


def mean_distance(rolls: np.ndarray) -> float:
    """Mean number of cells in which two arrays differ, over all pairs of `(N, ...)` bool arrays."""
    flat = rolls.reshape(len(rolls), -1).astype(np.float32)
    counts = flat.sum(axis=1)
    # |a xor b| = |a| + |b| - 2 |a and b|, in one matrix product; float32 is exact below 2^24.
    apart = counts[:, None] + counts[None] - 2 * flat @ flat.T
    return float(apart.sum()) / (len(rolls) * (len(rolls) - 1))


def _sounds(bars: np.ndarray) -> np.ndarray:
    return np.any(bars, axis=(1, 2))


def _known(counts: np.ndarray) -> np.ndarray:
    """Counts as floats, NaN instead of 0."""
    return np.where(counts > 0, counts, np.nan)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def quick_scores(melody: np.ndarray, generated: np.ndarray, steps_per_bar: int) -> dict[str, float]:
    """Scores of one accompaniment, cheap enough for every sample of a training run.

    Args:
        melody: bool `(T, 128, 1)`.
        generated: bool `(T, 128, K)`, the other tracks.
        steps_per_bar: steps in a bar.

    Returns:
        `empty_bars` and `in_scale` as means over the generated tracks, `semitone_clash` of all
        tracks together, and `faults`, the mean of `empty_bars`, 1 - `in_scale` and
        `semitone_clash`. NaN where nothing sounds.
    """
    bars = bars_of(generated, steps_per_bar)
    together = bars_of(np.concatenate([melody, generated], axis=2), steps_per_bar)
    per_track = {"empty_bars": score(empty_bars(bars)), "in_scale": score(in_scale(bars))}
    means = {name: float(score(values)) for name, values in per_track.items()}
    clash = float(score(semitone_clash(together)))
    faults = (means["empty_bars"] + 1 - means["in_scale"] + clash) / 3
    return {**means, "semitone_clash": clash, "faults": faults}
