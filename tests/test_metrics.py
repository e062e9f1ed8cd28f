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


def test_used_pitches_and_classes():
    # SPARSE: C, E, G#. DENSE: B, C, D, C#, and C again an octave higher: 4 classes, 5 pitches.
    wanted = [[3, NAN], [4, 1], [NAN, NAN]]
    np.testing.assert_array_equal(metrics.used_pitch_classes(ALL), wanted)
    wanted = [[3, NAN], [5, 1], [NAN, NAN]]
    np.testing.assert_array_equal(metrics.used_pitches(ALL), wanted)


def test_qualified_notes_are_runs_cut_at_the_bar():
    # C lasts 1, E 2, C again 1, and G over the whole bar 4 steps: of four notes two have 2 or more.
    one = bar([(60, 67), (64, 67), (64, 67), (60, 67)])
    np.testing.assert_allclose(metrics.qualified_notes(one), [[1 / 2]])
    np.testing.assert_allclose(metrics.qualified_notes(one, 1), [[1]])
    np.testing.assert_allclose(metrics.qualified_notes(one, 3), [[1 / 4]])
    np.testing.assert_allclose(metrics.qualified_notes(one, 4), [[1 / 4]])
    # No note of a bar of 4 steps lasts 5.
    np.testing.assert_allclose(metrics.qualified_notes(one, 5), [[0]])
    np.testing.assert_array_equal(metrics.qualified_notes(SILENT), [[NAN, NAN]])
    # One step at the end of a bar and one at the beginning of the next are two short notes.
    tied = bars(bar([(), (), (), (60,)]), bar([(60,), (), (), ()]))
    np.testing.assert_allclose(metrics.qualified_notes(tied), [[0], [0]])


def test_polyphony():
    # DENSE, track 0: two pitches in the first step and in the last, of four.
    np.testing.assert_allclose(metrics.polyphony(ALL), [[0, NAN], [0.5, 0], [NAN, NAN]])
    np.testing.assert_allclose(metrics.polyphony(DENSE, 3), [[0, 0]])


def test_scale_consistency_is_the_best_of_all_scales():
    # D major, of which F# and C# are not in C major.
    d_major = bar([(62,), (64,), (66,), (67,), (69,), (71,), (73,)])
    np.testing.assert_allclose(metrics.scale_consistency(d_major), [[1]])
    np.testing.assert_allclose(metrics.in_scale(d_major), [[5 / 7]])
    # Every scale has seven of twelve.
    chromatic = bar([(n,) for n in range(60, 72)])
    np.testing.assert_allclose(metrics.scale_consistency(chromatic), [[7 / 12]])
    for shift in range(12):
        moved = np.roll(DENSE, shift, axis=2)
        np.testing.assert_allclose(
            metrics.scale_consistency(moved), metrics.scale_consistency(DENSE)
        )


def test_drum_pattern():
    # 16 steps: onsets at 0 and 4 (on both grids), at 3 (on that of 16 only).
    steps: list[tuple[int, ...]] = [()] * 16
    steps[0], steps[3], steps[4] = (36,), (42,), (36, 38)
    drums = bar(steps)
    np.testing.assert_allclose(metrics.drum_pattern(drums, 16), [[1]])
    np.testing.assert_allclose(metrics.drum_pattern(drums, 8), [[3 / 4]])
    # On a grid of 48 steps the third is 3 of 48: a sixteenth, which eighths lack.
    fine = np.zeros((1, 48, 128, 1), bool)
    fine[0, [0, 3, 6, 7], 36, 0] = True
    # 7 goes on from 6: no onset. Of 0, 3 and 6 all are sixteenths, 0 and 6 eighths.
    np.testing.assert_allclose(metrics.drum_pattern(fine, 16), [[1]])
    np.testing.assert_allclose(metrics.drum_pattern(fine, 8), [[2 / 3]])
    np.testing.assert_array_equal(metrics.drum_pattern(SILENT), [[NAN, NAN]])


def test_tonal_distance():
    # C against C: 0. C against G, one step on the circle of fifths. Its angle is 7 pi / 6 for one
    # semitone and so 49 pi / 6, or pi / 6, for seven: a chord of 2 sin(pi / 12); that of minor
    # thirds 21 pi / 2, or pi / 2: a chord of 2 sin(pi / 4); major thirds 14 pi / 3, or 2 pi / 3,
    # radius one half: 2 sin(pi / 3) / 2.
    same = metrics.tonal_distance(bar([(60,)], [(72,)]), 1)
    np.testing.assert_allclose(same, np.zeros((1, 2, 2)), atol=1e-12)
    fifth = np.sqrt(
        (2 * np.sin(np.pi / 12)) ** 2 + (2 * np.sin(np.pi / 4)) ** 2 + np.sin(np.pi / 3) ** 2
    )
    apart = metrics.tonal_distance(bar([(60,)], [(67,)]), 1)
    np.testing.assert_allclose(apart[0], [[0, fifth], [fifth, 0]], atol=1e-12)
    # Two beats of two steps; in the second one track rests, so only the first counts, in which
    # loudness does not: one step of G weighs as two.
    some = metrics.tonal_distance(
        bar([(60,), (60,), (61,), (61,)], [(67,), (), (), ()]), steps_per_beat=2
    )
    np.testing.assert_allclose(some[0, 0, 1], fifth)
    never = metrics.tonal_distance(bar([(60,), ()], [(), (60,)]), 1)
    assert np.isnan(never[0, 0, 1])


def test_pitch_class_entropy_counts_notes():
    # C (held for two steps: one note), C an octave up, E, G: shares 1/2, 1/4, 1/4: 1.5 bits.
    one = bar([(60,), (60,), (72,), (64, 67)])
    np.testing.assert_allclose(metrics.pitch_class_entropy(one), [[1.5]])
    np.testing.assert_allclose(metrics.pitch_class_entropy(bar([(60,), (72,)])), [[0]])
    every = bar([(n,) for n in range(60, 72)])
    np.testing.assert_allclose(metrics.pitch_class_entropy(every), [[np.log2(12)]])
    assert np.isnan(metrics.pitch_class_entropy(SILENT)).all()


def test_groove_consistency_compares_with_the_bar_before():
    beats = bar([(60,), (), (62,), ()])  # onsets 1 0 1 0
    other = bar([(67,), (65,), (65,), ()])  # 1 1 0 0: the second half of 65 is no onset
    piece = bars(beats, beats, other, bar([(), (), (), ()]), beats)
    wanted = [[NAN], [1], [0.5], [NAN], [NAN]]
    np.testing.assert_allclose(metrics.groove_consistency(piece), wanted)
    assert np.isnan(metrics.groove_consistency(beats)).all()


def test_melody_fidelity_is_f1():
    condition = bars(DENSE, SPARSE, SILENT, SILENT)[..., 0]
    # All right; one of three cells right and one wrong beside: 2 / (2 + 3); something for nothing.
    answer = condition.copy()
    answer[1] = bar([(60,), (65,), (), ()])[0, ..., 0]
    answer[2, 0, 60] = True
    np.testing.assert_allclose(metrics.melody_fidelity(answer, condition), [1, 2 / 5, 0, NAN])


def test_disagreement_and_diversity():
    a, b = DENSE[0], SPARSE[0]
    # 6 + 4 cells and 3, of which one is in both, C of the first step.
    assert metrics.disagreement(a, b) == pytest.approx(11 / 13)
    assert metrics.disagreement(a, a) == 0
    assert metrics.disagreement(a, SILENT[0]) == 1
    assert metrics.disagreement(SILENT[0], SILENT[0]) == 0
    # Against references that differ in 4 cells (two pairs of 4 and one of 4 in the mean): flavours
    # that differ in 2 cells are half as far apart; equal ones not at all.
    low, high, other = (bar([(n,), (n,)])[0] for n in (60, 61, 62))
    half = bar([(60,), (61,)])[0]
    found = metrics.diversity(np.stack([[low, half], [low, low]]), np.stack([low, high, other]))
    np.testing.assert_allclose(found, [0.5, 0])
    # Unequal notes do not change what the mean is over: pairs (low, half), (low, high), (half,
    # high) differ in 2, 4 and 2 cells.
    found = metrics.diversity(np.stack([[low, half, high]]), np.stack([low, high]))
    np.testing.assert_allclose(found, [(2 + 4 + 2) / 3 / 4])
