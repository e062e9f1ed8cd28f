"""Which track is the melody, and which notes of it, on hand-made music."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegan_jax.data import midi
from musegan_jax.data.melodies import melody
from musegan_jax.data.melody_line import melody_line, namesakes, of_line, pick_part

STEPS = 4  # in a beat


def line_of(*voices: list[tuple[int, int, int]], steps_per_beat: int = STEPS) -> list[int]:
    notes = np.array(sorted((*note, 90) for voice in voices for note in voice), np.int64)
    return melody_line(notes, steps_per_beat).tolist()


def drawn(voice: list[tuple[int, int, int]], length: int) -> list[int]:
    """A single line by itself: what the melody should be."""
    steps = [-1] * length
    for start, end, pitch in voice:
        steps[start:end] = [pitch] * (end - start)
    return steps


def right_hand(seed: int, bars: int, low: int = 72) -> list[tuple[int, int, int]]:
    """Quarters and halves in C major that rest now and then, once for a whole bar."""
    rng = np.random.default_rng(seed)
    now, voice = 0, []
    while now < 16 * bars:
        length = int(rng.choice([4, 4, 8]))
        if rng.random() > 0.2 and not 64 <= now < 80:
            voice.append((now, now + length, low + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12]))))
        now += length
    return voice


def left_hand(bars: int, low: int = 48) -> list[tuple[int, int, int]]:
    """Eighths of broken chords, without a rest."""
    return [(2 * n, 2 * n + 2, low + (0, 7, 4, 7)[n % 4]) for n in range(8 * bars)]


def test_a_single_line_is_the_melody_whatever_its_leaps():
    voice = [(4 * n, 4 * n + 4, pitch) for n, pitch in enumerate((60, 96, 24, 60, 127, 0))]
    assert line_of(voice) == drawn(voice, 24)
    # Played legato: the notes overlap a little.
    legato = [(4 * n, 4 * n + 5, 60 + 2 * (n % 5)) for n in range(100)]
    assert set(line_of(legato)) == {60, 62, 64, 66, 68} and -1 not in line_of(legato)


@pytest.mark.parametrize("seed", range(6))
def test_of_two_hands_the_melody_is_the_right_and_rests_where_it_rests(seed):
    right, left = right_hand(seed, 12), left_hand(12)
    assert line_of(right, left) == drawn(right, 192)


def test_a_left_hand_that_begins_and_ends_alone_is_no_melody():
    right = [note for note in right_hand(0, 16) if 128 <= note[0] < 192]
    assert line_of(right, left_hand(16)) == drawn(right, 256)


def test_three_octaves_below_is_a_rest_and_an_octave_below_is_not():
    chord = [(0, 16, 72), (0, 16, 67), (0, 16, 64)]
    low = [(16, 20, 36), (20, 32, 71), (20, 32, 67)]
    assert line_of(chord, low)[16:20] == [-1] * 4
    near = [(16, 20, 60), (20, 32, 71), (20, 32, 67)]
    assert line_of(chord, near)[16:20] == [60] * 4


def test_of_chords_the_melody_is_the_highest_note():
    top = right_hand(3, 8)
    chords = [(s, e, p - down) for s, e, p in top for down in (3, 7, 12)]
    assert line_of(top, chords) == drawn(top, max(e for _, e, _ in top))


def test_a_note_held_below_does_not_become_the_melody():
    # The upper voice stops; the lower one was there before.
    assert line_of([(0, 8, 76)], [(0, 24, 67)], [(24, 32, 74), (24, 32, 65)]) == (
        [76] * 8 + [-1] * 16 + [74] * 8
    )


notes_in_steps = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 12), st.integers(0, 127)), min_size=1, max_size=60
)


@settings(deadline=None, max_examples=60)
@given(notes_in_steps, st.sampled_from([1, 4, 24]))
def test_a_line_is_made_of_the_parts_own_notes(voice, steps_per_beat):
    notes = np.array(sorted((s, s + n, p, 90) for s, n, p in voice), np.int64)
    line = melody_line(notes, steps_per_beat)
    roll = midi.to_roll(notes, int(notes[:, 1].max()))
    assert len(line) == len(roll)
    sounding = np.flatnonzero(line >= 0)
    assert len(sounding) and roll[sounding, line[sounding]].all()
    chosen = of_line(notes, line)
    assert chosen.tolist() == [pitch in line[start:end] for start, end, pitch, _ in notes]
    again = midi.to_roll(notes[chosen], len(roll))
    assert again[sounding, line[sounding]].all()
    if (roll.sum(axis=1) <= 1).all():
        assert chosen.all() and ((line >= 0) == roll.any(axis=1)).all()


def test_notes_of_a_line_are_those_that_it_goes_through():
    rng = np.random.default_rng(0)
    for _ in range(500):
        line = rng.integers(-1, 3, rng.integers(1, 12))
        starts = rng.integers(0, len(line), rng.integers(0, 6))
        ends = starts + 1 + rng.integers(0, len(line) - starts)
        pitches = rng.choice([0, 1, 2, 127], len(starts))
        notes = np.column_stack([starts, ends, pitches, pitches])
        rows = zip(starts, ends, pitches, strict=True)
        assert of_line(notes, line).tolist() == [p in line[s:e] for s, e, p in rows]


# --- Which track --------------------------------------------------------------------------------


def score(*parts: tuple[str, int, list[tuple[int, int, int]]], drums: bool = False) -> midi.Score:
    """A file of `(name, program, notes in beats)`."""
    made = []
    for n, (name, program, notes) in enumerate(parts):
        rows = np.array([(480 * s, 480 * e, p, 90) for s, e, p in sorted(notes)], np.int64)
        made.append(midi.Part(name, n, midi.DRUM_CHANNEL if drums else n, program, rows))
    return dataclasses.replace(melody("twinkle"), parts=tuple(made))


TUNE = [(n, n + 1, 67 + n % 5) for n in range(64)]
CHORDS = [(n, n + 2, p) for n in range(0, 64, 2) for p in (60, 64, 67)]
BASS = [(n, n + 1, 40 + n % 3) for n in range(64)]


def picked(*parts, track=None) -> int:
    made = score(*parts)
    part = pick_part(made, track, "song.mid")
    return next(n for n, each in enumerate(made.parts) if each is part)


def test_a_name_of_a_melody_is_preferred_to_one_of_a_lead():
    riff = [(n, n + 0.5, 84 + n % 4) for n in range(64)]
    for name in ("Melody", "VOCALS", "Vox", "soprano"):
        assert picked(("Lead guitar", 30, riff), (name, 0, TUNE)) == 1
    assert picked(("Strings", 48, riff), ("Lead", 80, TUNE)) == 1
    # Backing vocals are no lead.
    assert picked(("Backing vocals", 53, riff), ("Vocals", 53, TUNE)) == 1


def test_a_track_that_plays_throughout_is_preferred_to_an_intro():
    intro = [(n, n + 1, 76) for n in range(8)]
    assert picked(("", 0, intro), ("", 0, TUNE)) == 1
    assert picked(("", 0, TUNE), ("", 0, CHORDS), ("", 33, BASS)) == 0
    assert picked(("", 120, [(s, e, p + 30) for s, e, p in TUNE]), ("", 0, TUNE)) == 1


def test_a_track_that_enters_late_is_still_the_melody():
    late = [note for note in TUNE if note[0] >= 16]
    assert picked(("Bass", 33, BASS), ("Guitar", 25, CHORDS), ("Lead", 80, late)) == 2
    assert picked(("", 33, BASS), ("", 25, CHORDS), ("", 80, late)) == 2


def test_of_equal_names_the_likelier_is_taken_and_the_others_are_known():
    made = score(("Piano", 0, CHORDS), ("piano", 0, TUNE), ("", 33, BASS), ("", 33, BASS))
    part = pick_part(made, "PIANO", "song.mid")
    assert part is made.parts[1] and namesakes(made, part) == [1]
    assert namesakes(made, made.parts[2]) == []  # no name is none
