"""The measures of music against bars whose values are worked out by hand."""

import numpy as np
import pytest

from musegan_jax.evaluation import metrics

NAN = np.nan


def bar(*tracks: list[tuple[int, ...]]) -> np.ndarray:
    """Bool `(1, steps, 128, K)`; a track is the pitches that sound at each step."""
    roll = np.zeros((1, len(tracks[0]), 128, len(tracks)), bool)
    for k, steps in enumerate(tracks):
        for step, pitches in enumerate(steps):
            roll[0, step, list(pitches), k] = True
    return roll


def bars(*single: np.ndarray) -> np.ndarray:
    return np.concatenate(single)


# Track 0: C E G# -, of which two in C major. Track 1: nothing.
SPARSE = bar([(60,), (64,), (68,), ()], [(), (), (), ()])
# Track 0: B under C, D, C sharp, C under its octave. Track 1: C, C, C, C.
DENSE = bar([(59, 60), (62,), (61,), (60, 72)], [(48,), (48,), (48,), (48,)])
SILENT = bar([(), (), (), ()], [(), (), (), ()])
ALL = bars(SPARSE, DENSE, SILENT)


def test_chroma_counts_pitch_modulo_12():
    chroma = metrics.chroma(DENSE)
    assert chroma.shape == (1, 4, 12, 2)
    # Neighbouring pitches are different classes; octaves are one class, and count twice.
    assert chroma[0, 0, :, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert chroma[0, 3, :, 0].tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    every = np.zeros((1, 1, 128, 1), bool)
    for pitch in range(128):
        every[:] = False
        every[0, 0, pitch, 0] = True
        assert np.flatnonzero(metrics.chroma(every)) == [pitch % 12]


def test_empty_bars():
    np.testing.assert_array_equal(metrics.empty_bars(ALL), [[0, 1], [0, 0], [1, 1]])


def test_in_scale():
    # SPARSE: C and E of C, E, G#. DENSE: B, C, D, C, C of those and C sharp: 5 of 6.
    np.testing.assert_allclose(metrics.in_scale(ALL), [[2 / 3, NAN], [5 / 6, 1], [NAN, NAN]])
    chromatic = bar([(n,) for n in range(60, 72)])
    np.testing.assert_allclose(metrics.in_scale(chromatic), [[7 / 12]])


def test_semitone_clash_merges_tracks_on_the_circle():
    # SPARSE: three steps sound, one pitch each: no clash.
    # DENSE: B and C clash across the octave's seam; D and C do not; C sharp in one track and C in
    # another do, though an octave lies between; C and its octaves do not: 2 of 4 steps.
    np.testing.assert_allclose(metrics.semitone_clash(ALL), [0, 0.5, NAN])
    # Every neighbouring pair of classes clashes, and no other pair does.
    for low in range(12):
        for high in range(low, 12):
            apart = min(high - low, low - high + 12)
            pair = bar([(60 + low, 36 + high)])
            assert metrics.semitone_clash(pair) == (apart == 1)
    # Rests are no steps: one clash among one sounding step.
    np.testing.assert_allclose(metrics.semitone_clash(bar([(60, 61), (), (), ()])), [1])


def test_a_score_is_the_mean_of_what_is_known():
    values = np.array([[1.0, NAN, NAN], [0.5, 0.25, NAN], [NAN, 0.75, NAN]])
    np.testing.assert_allclose(metrics.score(values), [0.75, 0.5, NAN])
    np.testing.assert_allclose(metrics.score(np.array([NAN, 0.5])), 0.5)
    assert np.isnan(metrics.score(np.zeros((0,))))


def test_bars_of_drops_what_is_no_whole_bar():
    roll = np.arange(7)[:, None, None] * np.ones((1, 2, 3))
    cut = metrics.bars_of(roll, 3)
    assert cut.shape == (2, 3, 2, 3)
    assert cut[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert metrics.bars_of(roll, 8).shape == (0, 8, 2, 3)


def test_quick_scores():
    melody = DENSE[0, :, :, :1]  # B+C, D, C sharp, C
    # C E G# -; nothing; C C C C
    generated = np.concatenate([SPARSE[0], DENSE[0, :, :, 1:]], axis=2)
    scores = metrics.quick_scores(melody, generated, 4)
    # One of three tracks is empty. In scale: 2/3 and 1, the empty one left out.
    # Together: B+C clash; C, D and E do not; C sharp and C do; C alone does not.
    # Wrong are 1/3, 1/6 and 1/2: a third in the mean.
    wanted = {"empty_bars": 1 / 3, "in_scale": 5 / 6, "semitone_clash": 0.5, "faults": 1 / 3}
    assert scores == pytest.approx(wanted)
    nothing = metrics.quick_scores(SILENT[0, :, :, :1], SILENT[0], 4)
    assert nothing["empty_bars"] == 1
    assert np.isnan(nothing["in_scale"]) and np.isnan(nothing["semitone_clash"])
