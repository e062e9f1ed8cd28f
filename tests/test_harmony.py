"""Measures of harmony and voice leading, on bars small enough to count by hand."""

import dataclasses
import itertools

import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.data import dataset
from musegan_jax.evaluation import harmony, judge, measures
from musegan_jax.pianoroll import Track

C, F, G, A = 60, 65, 67, 69
VOICES = (0, 1, 2, 3)


def roll_of(*voices, hold: int = 1) -> np.ndarray:
    """One track a voice: a pitch, a chord, or None for a rest, each `hold` steps long."""
    steps = len(voices[0])
    roll = np.zeros((steps * hold, 128, len(voices)), bool)
    for k, voice in enumerate(voices):
        for n, pitches in enumerate(voice):
            if pitches is not None:
                roll[n * hold : (n + 1) * hold, pitches, k] = True
    return roll


def counted(roll: np.ndarray, reference=None, lines=None, melody=0, beat=1) -> dict:
    reference = roll if reference is None else reference
    lines = range(roll.shape[2]) if lines is None else lines
    return harmony.count(roll, reference, list(lines), melody, beat)


def measured(roll: np.ndarray, **more) -> dict:
    return {
        n: part / whole if whole else np.nan for n, (part, whole) in counted(roll, **more).items()
    }


@pytest.mark.parametrize(
    ("upper", "lower", "found"),
    [
        ([G, A], [C, C + 2], (100, 1)),  # a fifth to a fifth
        ([G + 12, A + 12], [C, C + 2], (100, 1)),  # twelfths
        ([G, A + 12], [C, C + 2], (100, 1)),  # from a fifth to a twelfth, both upwards
        ([C + 12, C + 14], [C, C + 2], (100, 1)),  # octaves
        ([C, C + 2], [C, C + 2], (100, 1)),  # unisons
        ([C, C + 14], [C, C + 2], (100, 1)),  # from a unison to an octave
        ([G, G - 1], [C, C - 1], (100, 1)),  # downwards
        ([G, A, A + 2], [C, C + 2, C + 4], (200, 2)),  # twice
        ([G, A + 12], [C, C - 10], (0, 1)),  # in contrary motion
        ([G, G], [C, C], (0, 0)),  # repeated: nobody moves
        ([G, G], [C, C - 12], (0, 0)),  # oblique
        ([C + 4, A], [C, C + 2], (0, 1)),  # a hidden fifth: from a third
        ([F, G], [C, C + 2], (0, 1)),  # fourths
        ([G, C + 14], [C, C + 2], (0, 1)),  # from a fifth to an octave
        ([C, G + 12], [G, C + 12], (0, 1)),  # the lower line becomes the upper
        ([G, None, A], [C, None, C + 2], (0, 0)),  # after a rest
    ],
)
def test_parallels(upper, lower, found):
    assert counted(roll_of(upper, lower))["parallels"] == found
    # Neither which line is which nor which one is given changes anything.
    assert counted(roll_of(lower, upper), melody=None)["parallels"] == found


def test_parallels_of_every_pair():
    roll = roll_of([G, A], [C + 4, F], [C, C + 2], [C - 12, C - 10])
    # Of six pairs soprano and tenor go in fifths, soprano and bass in twelfths, tenor and bass
    # in octaves.
    assert counted(roll)["parallels"] == (300, 6)
    assert counted(roll, lines=[1, 2])["parallels"] == (0, 1)
    assert np.isnan(measured(roll, lines=[2])["parallels"])


@pytest.mark.parametrize(
    ("pitches", "chord", "full", "clash"),
    [
        ([C, 64, G], 1, 1, 0),
        ([64, G, 72], 1, 1, 0),  # the first inversion
        ([C, 63, G], 1, 1, 0),
        ([C, 63, 66], 1, 1, 0),
        ([C, 64, 68], 0, 1, 0),  # augmented: no chord here
        ([C, G, 72], 1, 0, 0),  # an open fifth is part of a triad
        ([C], 1, 0, 0),
        ([C, 62], 1, 0, 0),  # part of a seventh chord on D
        ([C, 61], 1, 0, 1),  # part of a major seventh chord on C sharp
        ([C, 61, 62], 0, 1, 1),
        ([C, 71], 1, 0, 1),  # pitch classes lie on a circle
        ([C, 64, G, 70], 1, 1, 0),
        ([C, 64, G, 71], 1, 1, 1),
        ([C, 63, G, 70], 1, 1, 0),
        ([C, 63, 66, 70], 1, 1, 0),
        ([C, 63, 66, 69], 1, 1, 0),
        ([C, 63, G, 71], 0, 1, 1),  # minor with a major seventh
        ([C, F, G], 0, 1, 0),  # suspended
    ],
)
def test_sonorities(pitches, chord, full, clash):
    found = counted(roll_of(*([pitch] for pitch in pitches)))
    assert (found["chord"][0], found["full"][0], found["clash"][0]) == (chord, full, clash)
    assert found["chord"][1] == found["full"][1] == found["clash"][1] == 1
    # A track of chords takes part as well.
    together = counted(roll_of([pitches], [pitches[0]]), lines=[1])
    assert [together[name] for name in ("chord", "full", "clash")] == [
        (chord, 1), (full, 1), (clash, 1),
    ]  # fmt: skip


def test_sonorities_are_those_of_beats_that_sound():
    # Off the beat there is a clash, in the third beat silence.
    roll = roll_of([C, C, C, 61, None, None, G, G], [64, 64, 64, 64, None, None, C, C])
    found = counted(roll, beat=2)
    assert found["clash"] == (0, 3) and found["chord"] == (3, 3)
    # Into silence and out of it the sonority changes; from the first to the second it does not.
    assert found["chord_change"] == (2, 3)
    still = counted(roll_of([C, None, None, C]))
    assert still["chord_change"] == (2, 2)


@pytest.mark.parametrize(
    ("pitches", "found"),
    [
        ((72, G, 64, C), (1, 1)),
        ((72, G, C, 52), (1, 1)),  # on the third
        ((72, 64, C, 55), (0, 1)),  # on the fifth
        ((71, F, 62, 59), (1, 1)),  # a diminished triad
        ((71, F, 62, 53), (0, 1)),
        ((72, G, C, 48), (0, 0)),  # no third: not complete
        ((71, G, 64, C), (0, 0)),  # a seventh chord
        ((72, C, 52, 55), (0, 1)),  # the bass crosses the tenor and is still the bass
        ((72, C, 52, None), (0, 0)),
    ],
)
def test_root_or_third(pitches, found):
    # A long low G tells which track is the bass.
    voices = [[None, None, pitch] for pitch in pitches[:3]] + [[31, 31, pitches[3]]]
    assert counted(roll_of(*voices))["root_or_third"] == found


def test_where_the_bass_rests_the_lowest_voice_is_heard():
    roll = roll_of([72, 72], [G, G], [64, 64], [None, 36])
    assert counted(roll)["root_or_third"] == (2, 2)
    roll = roll_of([72, 72], [64, G], [55, 64], [None, 36])
    assert counted(roll)["root_or_third"] == (1, 2)


def test_crossing():
    # The second and third line cross once, the third and fourth touch; the second rests once.
    roll = roll_of([C, C, C], [55, 50, None], [52, 52, 52], [48, 52, 48])
    assert counted(roll)["crossing"] == (1, 3 + 2 + 2)
    # Which line ought to be lower is told by the reference, in whatever order the tracks are.
    swapped = roll_of([C], [40], [52])
    assert counted(swapped)["crossing"] == (0, 2)
    assert counted(swapped, reference=roll_of([C], [52], [40]))["crossing"] == (1, 2)


def test_motion_of_the_lower_voices():
    # Beats of two steps; the melody leaps, and is not judged.
    roll = roll_of(
        [C, 80, C, 80, C, 80],
        [C, C, G, G, 75, 75],  # moves on the beat: a fifth, then a sixth
        [48, 50, 50, None, 40, 40],  # a move off the beat; an entry after a rest
    )
    found = counted(roll, beat=2)
    assert found["leaps"] == (1, 3)
    assert found["off_beat"] == (1, 4)
    assert found["moves"] == (4, 3 * 2)
    assert counted(roll, beat=2, melody=2)["leaps"][1] == 5 + 2  # the first two are judged then


def test_ends_of_phrases():
    # Beats of one step. C major in root position under a long note; in its first inversion before a
    # rest; then the last chord, which is no phrase's end.
    tune = [G, G, A, G, None, G, G]
    upper = [64, 64, 64, 60, 60, 64, 64]
    lower = [40, 48, 48, 52, 52, 48, 48]
    assert counted(roll_of(tune, upper, lower))["phrase_end"] == (1, 2)
    assert counted(roll_of(tune, upper, lower), beat=2)["phrase_end"] == (0, 1)  # only the rest
    assert counted(roll_of(tune, upper, lower), melody=None)["phrase_end"] == (0, 0)
    thin = roll_of(tune, lower)  # a fifth is no triad
    assert counted(thin)["phrase_end"] == (0, 2)


def test_the_last_chord():
    cadence = [[74, 72], [67, 67], [71, 64], [43, 48]]
    roll = roll_of(*cadence)
    found = counted(roll)
    assert found["final_triad"] == (1, 1) and found["final_tonic"] == (1, 1)
    # A lone voice afterwards is not the last chord.
    lone = roll_of(*([*voice, None] for voice in cadence[:3]), [43, 48, 41])
    assert counted(lone, roll)["final_triad"] == counted(lone, roll)["final_tonic"] == (1, 1)
    inverted = roll_of([74, 72], [67, 67], [71, 60], [43, 52])
    assert (
        counted(inverted, roll)["final_triad"] == counted(inverted, roll)["final_tonic"] == (0, 1)
    )
    # The relative minor: a triad in root position, on another bass.
    minor = roll_of([74, 72], [67, 69], [71, 64], [43, 45])
    assert counted(minor, roll)["final_triad"] == (1, 1)
    assert counted(minor, roll)["final_tonic"] == (0, 1)
    # An octave lower is the same bass; without the fifth it is part of a triad; a seventh is not.
    assert counted(pianoroll.transpose(roll, -12), roll)["final_tonic"] == (1, 1)
    assert counted(roll_of([74, 72], [67, 72], [71, 64], [43, 48]))["final_triad"] == (1, 1)
    assert counted(roll_of([74, 72], [67, 70], [71, 64], [43, 48]))["final_triad"] == (0, 1)


def test_silence_has_no_harmony():
    silent = np.zeros((16, 128, 4), bool)
    assert all(np.isnan(value) for value in measured(silent, beat=4).values())
    assert all(np.isnan(value) for value in measured(silent[:0], beat=4).values())
    # A melody alone has no voices to judge; its tones are parts of chords, and its end is one.
    alone = measured(roll_of([C, 62, 64, C]))
    defined = {name for name, value in alone.items() if not np.isnan(value)}
    assert defined == {"chord", "full", "clash", "chord_change", "final_triad", "final_tonic"}
    assert counted(roll_of([C]), reference=silent[..., :1])["final_tonic"] == (0, 0)


def random_piece(seed: int) -> np.ndarray:
    """Four lines that hold, step, leap and rest, and cross."""
    generator = np.random.default_rng(seed)
    pitches = np.array([72, 65, 58, 50])[:, None] + np.cumsum(
        generator.choice([-9, -2, -1, 0, 0, 0, 0, 1, 2, 9], (4, 400)), axis=1
    )
    rests = generator.random((4, 400)) < 0.05
    rests[:, 0] = False
    voices = [
        [None if rest else int(pitch) for pitch, rest in zip(*voice, strict=True)]
        for voice in zip(np.clip(pitches, 30, 100), rests, strict=True)
    ]
    return roll_of(*voices)


@pytest.mark.parametrize("seed", range(4))
def test_what_changes_no_measure(seed):
    roll = random_piece(seed)
    found = counted(roll, beat=4)
    assert all(whole for _, whole in found.values())
    for semitones in (-12, -1, 5, 12):  # whichever key
        moved = pianoroll.transpose(roll, semitones)
        assert counted(moved, beat=4) == found
    # An octave from the reference, but for the order of lines, which is its own.
    assert counted(pianoroll.transpose(roll, 12), reference=roll, beat=4) == found
    # Silence around it, in whole beats before it.
    assert counted(np.pad(roll, ((8, 3), (0, 0), (0, 0))), beat=4) == found
    # Tracks in another order; a track of chords that only doubles, which is no line.
    order = [2, 0, 3, 1]
    assert counted(roll[..., order], melody=1, beat=4) == found
    doubled = np.concatenate([roll, pianoroll.transpose(roll.any(axis=2)[..., None], 24)], axis=2)
    other = counted(doubled, lines=VOICES, beat=4)
    assert other.pop("final_triad")[1] == other.pop("final_tonic")[1] == 1  # five tracks may end
    assert other == {name: found[name] for name in other}


@pytest.mark.parametrize("seed", range(4))
def test_parallels_as_one_would_count_them(seed):
    roll = random_piece(seed)
    parts = whole = 0
    line = [
        [int(p[0]) if len(p := np.flatnonzero(s)) else None for s in roll[..., k].copy()]
        for k in VOICES
    ]
    for a, b in itertools.combinations(line, 2):
        for n in range(1, len(roll)):
            a0, a1, b0, b1 = a[n - 1], a[n], b[n - 1], b[n]
            if None in (a0, a1, b0, b1) or a0 == a1 or b0 == b1:
                continue
            whole += 1
            before, after = (a0 - b0, a1 - b1) if a0 + a1 > b0 + b1 else (b0 - a0, b1 - a1)
            same = (a1 > a0) == (b1 > b0) and before >= 0 and after >= 0
            parts += same and before % 12 == after % 12 and before % 12 in (0, 7)
    assert counted(roll)["parallels"] == (100 * parts, whole) and parts > 0


def test_scores_are_means_of_pieces_and_may_be_pooled():
    fifths, thirds = roll_of([G, A], [C, C + 2]), roll_of([64, F, G, A], [C, 62, 64, F])
    pieces = [fifths, thirds, thirds[:1]]
    counts = harmony.measure(pieces, pieces, [0, 1], 0, 1)
    where = harmony.NAMES.index("parallels")
    np.testing.assert_array_equal(counts.values()[:, where], [100, 0, np.nan])
    assert counts.score()[where] == 50 and counts.pool()[where] == 25
    none = harmony.measure([], [], [0, 1], 0, 1)
    assert none.values().shape == (0, len(harmony.NAMES)) and np.isnan(none.score()).all()


TRACKS = (Track("Drums", 0, True), Track("Tune", 0), Track("Chords", 0), Track("Bass", 32))


def band() -> dataset.Dataset:
    """Drums, a tune, chords and a bass of which one step in a thousand has two pitches.

    In the split valid the bass plays chords.
    """
    roll = np.zeros((1000, 128, 4), bool)
    roll[:, 38, 0] = True
    roll[:, 72, 1] = True
    roll[:, [60, 64, 67], 2] = True
    roll[:, 48, 3] = True
    roll[7, 50, 3] = True
    other = roll.copy()
    other[:, 50, 3] = True
    pieces = [
        dataset.Piece(name, pianoroll.pack(each), np.arange(0, 1000, 16))
        for name, each in (("a", roll), ("b", other))
    ]
    built = dataset.build(pieces, TRACKS, 4, "band")
    return dataclasses.replace(built, split=np.array([0, 1], np.uint8))


def test_drums_and_chords_of_a_dataset():
    data = band()
    judged = judge.judge(data, melody=1)
    assert judged.pitched == [1, 2, 3] and judged.lines == [1, 3]
    (whole,) = measures.read_whole(data, data.pieces_of(["train"]))
    found = judged.measure_real([whole.music])
    value = dict(zip(found.names, found.scores(), strict=True))
    assert value["chord"] == value["full"] == value["root_or_third"] == 1 and value["clash"] == 0
    assert value["crossing"] == 0
    assert value["moves"] == pytest.approx(2 / 250)  # to the higher of two and back
    # A drum that is given is no pitched track; nothing of it is measured.
    assert judge.judge(data, melody=0).measure_real([whole.music]).scores()[0] == 1
    # Without training music nothing is known of the tracks.
    untrained = dataclasses.replace(data, split=np.ones_like(data.split))
    assert judge.judge(untrained, melody=1).lines == []


def test_a_piece_is_read_from_its_first_step_to_its_last():
    """A pick-up of one beat, two bars, three beats: between bar lines, as compose would hear it."""
    roll = np.zeros((4 + 16 + 16 + 12, 128, 1), bool)
    roll[0, 60], roll[4, 62], roll[47, 64] = True, True, True
    piece = dataset.Piece("pick-up", pianoroll.pack(roll), np.array([4, 20, 36]))
    built = dataset.build([piece], [Track("Tune", 0)], 4, "test")
    (whole,) = measures.read_whole(built, [0])
    assert whole.music.bars.shape == (4, 16, 128, 1)
    assert np.argwhere(whole.music.bars).tolist() == [
        [0, 12, 60, 0], [1, 0, 62, 0], [3, 11, 64, 0],
    ]  # fmt: skip
    assert whole.starts.tolist() == [16, 32]
    (read,) = measures.read_music(built, [0])
    np.testing.assert_array_equal(read.bars, whole.cut().bars)
