"""Measures of music, from their definitions.

Input is bool `(bars, steps, 128, K)`: bars of a roll over all MIDI pitches. Each function gives one
value per bar and track (or per bar), float64; a bar in which the measure means nothing is NaN.
A score is the mean over bars, NaN left out (`score`).
"""

import numpy as np

C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def bars_of(roll: np.ndarray, steps_per_bar: int) -> np.ndarray:
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


def chroma(bars: np.ndarray) -> np.ndarray:
    """Active cells per step and pitch class: int `(bars, steps, 12, K)`."""
    return np.stack([bars[:, :, pc::12].sum(axis=2) for pc in range(12)], axis=2)


def empty_bars(bars: np.ndarray) -> np.ndarray:
    """EB: 1 where a bar has no note, else 0: `(bars, K)`. Never NaN.

    Reference: Dong et al. 2018, "MuseGAN", section 5.2.
    """
    return np.all(~bars, axis=(1, 2)).astype(np.float64)


def in_scale(bars: np.ndarray) -> np.ndarray:
    """ISR: share of active cells whose pitch class is in C major: `(bars, K)`; NaN if empty.

    Reference: Dong et al. 2020, "MusPy" (`in_scale_rate`, which counts notes instead of cells).
    """
    cells = chroma(bars).sum(axis=1)
    total = cells.sum(axis=1)
    inside = cells[:, C_MAJOR].sum(axis=1)
    return np.where(total > 0, inside / np.maximum(total, 1), np.nan)


def semitone_clash(bars: np.ndarray) -> np.ndarray:
    """SC: share of sounding steps with two pitch classes a semitone apart: `(bars,)`.

    All tracks are merged, and pitch classes lie on a circle (B and C are neighbours). NaN where
    no step sounds.
    """
    classes = np.any(chroma(bars), axis=3)
    clashes = np.any(classes & np.roll(classes, 1, axis=2), axis=2).sum(axis=1)
    sounding = np.any(classes, axis=2).sum(axis=1)
    return np.where(sounding > 0, clashes / np.maximum(sounding, 1), np.nan)


def quick_scores(melody: np.ndarray, generated: np.ndarray, steps_per_bar: int) -> dict[str, float]:
    """Scores of one accompaniment, cheap enough for every sample of a training run.

    Args:
        melody: bool `(T, 128, 1)`.
        generated: bool `(T, 128, K)`, the tracks beside it.
        steps_per_bar: steps in a bar.

    Returns:
        `empty_bars` and `in_scale` as means over the generated tracks, `semitone_clash` of all
        tracks together, and `faults`, the mean of the shares that are wrong in the three. NaN where
        nothing sounds.
    """
    bars = bars_of(generated, steps_per_bar)
    together = bars_of(np.concatenate([melody, generated], axis=2), steps_per_bar)
    per_track = {"empty_bars": score(empty_bars(bars)), "in_scale": score(in_scale(bars))}
    means = {name: float(score(values)) for name, values in per_track.items()}
    clash = float(score(semitone_clash(together)))
    faults = (means["empty_bars"] + 1 - means["in_scale"] + clash) / 3
    return {**means, "semitone_clash": clash, "faults": faults}
