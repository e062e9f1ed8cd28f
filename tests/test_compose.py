"""From a melody to an accompanied piece, with an untrained generator."""

import dataclasses
import io
import sys
import tracemalloc
import wave

import jax
import jax.numpy as jnp
import mido
import numpy as np
import pytest
from proofs import any_melody

from conftest import changed
from musegan_jax import pianoroll
from musegan_jax.composing import arrangement, decoding
from musegan_jax.composing.accompany import accompany, answer_melody, decode_melody
from musegan_jax.composing.melody import Melody, load_melody, remarks
from musegan_jax.composing.melody import prepare as prepare_part
from musegan_jax.composing.song import beginning, write_song
from musegan_jax.config import ModelConfig
from musegan_jax.data import melodies, midi
from musegan_jax.data.instruments import programs_for
from musegan_jax.data.melody_line import pick_part
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.errors import UserError
from musegan_jax.evaluation.accompaniments import as_measured
from musegan_jax.models.generator import make_generator, noise_shape
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track
from musegan_jax.rendering import audio, plots
from test_midi import END, meter, off, on, program, smf, tempo

MELODY_CHANNEL = 2
LOW, PITCHES = 28, 64  # MIDI 28 to 91


@pytest.fixture(scope="module")
def model() -> Model:
    """Untrained: it plays noise, in every voice; the third voice is drums."""
    config = ModelConfig(tracks=4, generator_filters=(4, 8), pitches=PITCHES, lowest_pitch=LOW)
    condition = jnp.zeros((1, 8, PITCHES, 1))
    noise = jnp.zeros((1, *noise_shape(config.generator_filters, 8, PITCHES)))
    variables = make_generator(config).init(jax.random.key(0), condition, noise, train=False)
    tracks = (Track("Tune", 40), Track("Alto", 41), Track("Kit", 0, True), Track("Bass", 43))
    ranges = ((60, 81),) + ((0, 127),) * (len(tracks) - 1)
    return Model(
        config, 32, TrainingMusic(tracks, 4, ranges, (True, False, False, False)), variables
    )


def make_song(lines=None, meter=(4, 4), resolution=480, tempo=500_000) -> midi.Score:
    """A file of named lines, `{(name, channel): [(start, end, pitch), ...]}` in beats."""
    lines = {("Tune", 0): [(0, 1, 60)]} if lines is None else lines
    head = [
        mido.MetaMessage("set_tempo", tempo=tempo),
        mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]),
    ]
    file = mido.MidiFile(type=1, ticks_per_beat=resolution)
    file.tracks = [mido.MidiTrack(head)]
    for (name, channel), notes in lines.items():
        rows = [(round(s * resolution), round(e * resolution), p, 90) for s, e, p in notes]
        file.tracks.append(midi.note_track(name, channel, 0, np.array(rows).reshape(-1, 4)))
    return midi.parse(file, "song")


def prepare(model, score, track=None) -> Melody:
    return prepare_part(score, pick_part(score, track, "song"), model)


def sparse_roll(melody: Melody, seed: int = 0) -> np.ndarray:
    """An answer that is quick to write: few notes, but one on the first step and the last.

    None begins when the melody has ended: those would not be written.
    """
    roll = np.random.default_rng(seed).random((melody.steps, PITCHES, 4)) < 0.01
    last = np.flatnonzero(melody.condition.any(axis=1))[-1]
    roll[last:] = False  # what sounds there would be held to the end of the bar
    roll[0, 30] = roll[last:, 30] = True
    return roll


def content_of(song: mido.MidiFile) -> bytes:
    buffer = io.BytesIO()
    song.save(file=buffer)
    return buffer.getvalue()


def absolute(track: mido.MidiTrack, keep) -> list[tuple[int, mido.Message]]:
    """The kept messages with their ticks from the beginning."""
    ticks = np.cumsum([message.time for message in track]).tolist()
    return [(t, m.copy(time=0)) for t, m in zip(ticks, track, strict=True) if keep(m)]


# --- The piece that is written ------------------------------------------------------------------


def busy_file(kind: int, resolution: int) -> mido.MidiFile:
    """A melody with all that belongs to one, beside a piano and drums; the ticks are odd."""
    meta, message = mido.MetaMessage, mido.Message
    own = {"channel": MELODY_CHANNEL}
    tick = 0.37 * resolution
    head = [
        (0, meta("track_name", name="A song")),
        (0, meta("copyright", text="1824")),
        (0, meta("set_tempo", tempo=480_000)),
        (0, meta("time_signature", numerator=3, denominator=4)),
        (0, meta("key_signature", key="Ebm")),
        (9 * tick, meta("set_tempo", tempo=731_113)),
        (20 * tick, meta("marker", text="here")),
        (33 * tick, meta("time_signature", numerator=4, denominator=4)),
    ]
    tune = [
        (0, meta("track_name", name="Tune")),
        (0, message("program_change", program=68, **own)),
        (0, message("control_change", control=7, value=99, **own)),
        (tick, message("note_on", note=64, velocity=77, **own)),
        (2 * tick, message("pitchwheel", pitch=-300, **own)),
        (2 * tick, meta("lyrics", text="Freu")),
        (3 * tick, message("note_on", note=67, velocity=1, **own)),
        (4 * tick, message("note_off", note=64, velocity=33, **own)),
        (5 * tick, message("aftertouch", value=3, **own)),
        (6 * tick, message("note_on", note=67, velocity=0, **own)),
        (10 * tick, message("note_on", note=76, **own)),  # nothing ends it but the end
        (40 * tick, message("note_on", note=71, velocity=127, **own)),
        (40 * tick + 1, message("note_off", note=71, **own)),
    ]
    rest = [
        (t * tick, message(name, channel=channel, note=note, velocity=60))
        for t, name in ((0, "note_on"), (30, "note_off"))
        for channel, note in ((0, 48), (0, 52), (9, 36))
    ]
    tracks = [head, tune, rest] if kind == 1 else [sorted(head + tune + rest, key=lambda e: e[0])]
    file = mido.MidiFile(type=kind, ticks_per_beat=resolution)
    for track in tracks:
        timed = [(round(when), what) for when, what in track]
        timed.append((round(50 * tick), meta("end_of_track")))
        file.tracks.append(arrangement._relative(timed))
    return file


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("resolution", [1, 7, 96, 220, 480, 32767])
def test_the_melody_is_kept_and_the_rest_lies_on_the_grid(model, tmp_path, kind, resolution):
    busy_file(kind, resolution).save(tmp_path / "in.mid")
    score = midi.read(tmp_path / "in.mid")
    before = score.midi.tracks
    number = [p.channel for p in score.parts if not p.is_drum].index(MELODY_CHANNEL) + 1
    melody = prepare(model, score, str(number))
    roll = sparse_roll(melody)
    arrangement.to_midi(model, melody, roll).save(tmp_path / "out.mid")
    song = midi.read(tmp_path / "out.mid")
    assert song.midi.type == 1 and song.ticks_per_beat == resolution

    # Every message of the melody, at its tick, and nothing of the piano and the drums.
    def own(message):
        channel = getattr(message, "channel", None)
        return channel == MELODY_CHANNEL or message.type in ("track_name", "lyrics")

    wanted = absolute(before[kind], own)
    assert len(wanted) >= 12
    assert absolute(song.midi.tracks[1], lambda m: m.type != "end_of_track") == wanted
    np.testing.assert_array_equal(song.parts[0].notes, melody.part.notes)

    # Tempo, meter and key.
    marks = ("copyright", "set_tempo", "time_signature", "key_signature", "marker")
    wanted = absolute(before[0], lambda m: m.type in marks)
    assert len(wanted) == 7
    assert absolute(song.midi.tracks[0], lambda m: m.type != "end_of_track") == wanted
    assert song.tempos == score.tempos

    # The accompaniment.
    names = [track.name for track in song.midi.tracks[2:]]
    assert names == ["Alto", "Kit", "Bass"]
    channels = [
        {m.channel for m in track if not m.is_meta and m.type != "program_change"}
        for track in song.midi.tracks[2:]
    ]
    assert channels[1] == {midi.DRUM_CHANNEL}
    assert channels[0] != channels[2] and all(len(channel) == 1 for channel in channels)
    assert not (channels[0] | channels[2]) & {MELODY_CHANNEL, midi.DRUM_CHANNEL}
    step = resolution / 4
    grid = np.floor((melody.offset + np.arange(melody.steps + 1)) * step + 0.5)
    for k, part in zip((1, 2, 3), song.parts[1:], strict=True):
        assert np.isin(part.notes[:, :2], grid).all()
        assert set(part.notes[:, 3]) == {midi.VELOCITY}
        # Where a step is less than a tick, some notes have no length and fall out. Else all are
        # there to be read back.
        if resolution >= 4:
            steps = midi.quantise(part.notes, step) - np.array([melody.offset] * 2 + [0, 0])
            again = midi.to_roll(steps, melody.steps)[:, LOW : LOW + PITCHES]
            np.testing.assert_array_equal(again, roll[:, :, k])
            assert (part.notes[:, 0].min(), part.notes[:, 1].max()) == (grid[0], grid[-1])


def test_a_note_shorter_than_a_tick_does_not_sound_for_ever(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 8, 60)]}, resolution=1))
    roll = np.zeros((32, PITCHES, 4), bool)
    roll[0, 10, 1] = True  # from tick 0 to tick 1/4, both written as 0
    roll[8:16, 20, 1] = True  # beats 2 and 3
    _, alto = midi.parse(arrangement.to_midi(model, melody, roll), "song").parts
    assert alto.notes[:, :3].tolist() == [[2, 4, LOW + 20]]


def test_more_tracks_than_channels_share_them(model):
    tracks = tuple(Track(f"T{k}", k) for k in range(20))
    many = changed(
        model,
        tracks=tracks,
        config=ModelConfig(tracks=20, pitches=PITCHES),
        ranges=((0, 127),) * 20,
        single_lines=(True,) + (False,) * 19,
    )
    song = make_song({("Tune", 5): [(0, 1, 60)]})
    melody = prepare(model, song)
    answer = arrangement.to_midi(many, melody, np.ones((melody.steps, PITCHES, 20), bool))
    channels = [m.channel for track in answer.tracks[2:] for m in track if m.type == "note_on"]
    assert len(answer.tracks) == 21 and set(channels) == set(range(16)) - {5, midi.DRUM_CHANNEL}


def test_equal_seeds_give_equal_bytes(model):
    melody = prepare(model, melodies.melody("twinkle"))

    def answer(seed, sample):
        return accompany(model, melody, seed, sample)

    first = answer(0, 0)
    assert first.shape == (melody.steps, PITCHES, 4) and first.dtype == bool
    song, again = (arrangement.to_midi(model, melody, roll) for roll in (first, answer(0, 0)))
    assert content_of(song) == content_of(again)
    for other in (answer(1, 0), answer(0, 1), answer(2**32 - 1, 0)):
        # Independent noise, not a few cells.
        assert np.mean(other != first) > 0.01


@pytest.mark.parametrize("beats, bars", [(0.25, 1), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_a_melody_may_have_any_length(model, beats, bars):
    notes = [(n, n + min(1, beats - n), 60 + n % 12) for n in range(int(np.ceil(beats)))]
    melody = prepare(model, make_song({("Tune", 0): notes}))
    # To the end of the bar, so that the accompaniment does not break off.
    assert (melody.offset, melody.steps, melody.shift) == (0, 16 * bars, 0)
    assert len(melody.condition) % 4 == 0  # the network's stride
    assert melody.condition.sum() == 4 * beats
    assert accompany(model, melody, 0, 0).shape == (16 * bars, PITCHES, 4)


@pytest.mark.parametrize("meter, bar", [((4, 4), 16), ((3, 4), 12), ((7, 8), 14), ((5, 16), 5)])
def test_a_late_melody_keeps_its_place(model, meter, bar):
    # The first note sounds on beat 9, of 4 steps; the bar in which that is begins no earlier note.
    melody = prepare(model, make_song({("Tune", 0): [(9, 10, 60), (11, 12, 62)]}, meter=meter))
    assert melody.offset == 36 // bar * bar
    # All bars up to the one in which the last note ends, on step 48.
    assert melody.offset + melody.steps == -(-48 // bar) * bar
    assert np.flatnonzero(melody.condition[:, 60])[0] == 36 - melody.offset
    assert len(melody.condition) % 4 == 0 and not melody.condition[melody.steps :].any()
    song = midi.parse(arrangement.to_midi(model, melody, sparse_roll(melody)), "song")
    assert song.parts[0].notes.tolist() == melody.part.notes.tolist()
    starts = [int(part.notes[:, 0].min()) for part in song.parts[1:]]
    assert starts == [melody.offset * 120] * 3


def test_a_piece_at_the_longest_length_can_still_be_finished(model, monkeypatch):
    """The accompaniment's last bar may end after what a reader accepts."""
    # A model of fewer steps a beat could accompany it.
    monkeypatch.setattr("musegan_jax.composing.melody.MAX_STEPS", 50_000)
    notes = {("Tune", 0): [(0, 9_999, 60), (9_999, 10_000, 62)]}
    score = make_song(notes, meter=(7, 4), resolution=1, tempo=360_000)
    melody = prepare(model, score)
    assert melody.steps == 4 * 10_003  # 1,429 bars of seven
    song = arrangement.to_midi(model, melody, sparse_roll(melody))
    assert midi.parse(song, "song").end == 10_003


# --- What the network sees ----------------------------------------------------------------------


def test_of_notes_together_the_highest_is_the_melody(model):
    chords = [(0, 2, 60), (0, 1, 64), (0.5, 1, 67), (3, 4, 72), (3, 4, 71)]
    melody = prepare(model, make_song({("Tune", 0): chords}))
    # What was held below does not become the melody when that rests.
    top = [64] * 2 + [67] * 2 + [None] * 8 + [72] * 4
    assert [np.flatnonzero(row).tolist() for row in melody.condition[:16]] == [
        [] if pitch is None else [pitch] for pitch in top
    ]


@pytest.mark.parametrize(
    "pitches, shift",
    [
        ((60, 81), 0),  # as trained
        ((58, 72, 74), 0),  # one note too low, but an octave up would not have fewer outside
        ((108, 110), -36),  # 84 and 86 have rows, but lie above what was trained
        ((0, 2), 60),  # the smallest of the shifts that fit
        ((28, 91), 0),  # as wide as the model: it fits nowhere else
    ],
)
def test_a_melody_is_moved_by_octaves_and_back(model, pitches, shift):
    notes = [(n, n + 1, pitch) for n, pitch in enumerate(pitches)]
    melody = prepare(model, make_song({("Tune", 0): notes}))
    assert melody.shift == shift
    for n, pitch in enumerate(pitches):
        assert np.flatnonzero(melody.condition[4 * n]).tolist() == [pitch + shift]
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[:4, [0, 63], :] = True
    song = midi.parse(arrangement.to_midi(model, melody, roll), "song")
    alto, kit, _ = song.parts[1:]
    # Only the melody moves by whole octaves: the voices stay in their ranges.
    assert alto.notes[:, 2].tolist() == [28, 91] and kit.notes[:, 2].tolist() == [28, 91]
    said = [line for line in remarks(model, melody) if "octave" in line]
    assert bool(said) == bool(shift)
    if shift:
        octaves = "1 octave" if abs(shift) == 12 else f"{abs(shift) // 12} octaves"
        assert f"{octaves} {'higher' if shift > 0 else 'lower'}" in said[0]


def test_a_key_of_ones_own(model):
    score = make_song({("Tune", 0): [(0, 1, 60), (1, 2, 64)]})
    part = pick_part(score, None, "song")
    melody = prepare_part(score, part, model, shift=-5)
    assert np.flatnonzero(melody.condition[0]).tolist() == [55]
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[:4, 20, 1] = True
    alto = midi.parse(arrangement.to_midi(model, melody, roll), "song").parts[1]
    assert alto.notes[:, 2].tolist() == [LOW + 20 + 5]
    assert any("5 semitones lower" in line for line in remarks(model, melody))
    melody = prepare_part(score, part, model, shift=40)  # 100 and 104, above the rows
    assert [np.flatnonzero(row).tolist() for row in melody.condition[:8:4]] == [
        [76],
        [80],
    ]  # together
    assert melody.folded == 2


def test_voices_stay_in_their_ranges(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 4, 60)]}))
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    for step, pitch in enumerate((30, 41, 42, 53, 54, 80)):
        roll[step, pitch - LOW] = True

    def pitches(low, high):
        narrow = changed(model, ranges=((0, 127), (low, high), (50, 50), (0, 127)))
        song = midi.parse(arrangement.to_midi(narrow, melody, roll), "song")
        return [part.notes[:, 2].tolist() for part in song.parts[1:]]

    given = [30, 41, 42, 53, 54, 80]
    # By the fewest octaves; drums and the voice that has room are as they were.
    assert pitches(42, 53) == [[42, 53, 42, 53, 42, 44], given, given]
    # A range of less than an octave has no room for every pitch class.
    assert pitches(42, 52) == [given, given, given]


def test_notes_that_become_one_pitch_do_not_cut_each_other_off(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 4, 60)]}))
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[0:8, 60 - LOW, 1] = roll[4:12, 72 - LOW, 1] = True
    narrow = changed(model, ranges=((0, 127), (40, 70), (0, 127), (0, 127)))
    alto = midi.parse(arrangement.to_midi(narrow, melody, roll), "song").parts[1]
    assert alto.notes[:, :3].tolist() == [[0, 12 * 480 // 4, 60]]


def test_no_voice_begins_after_the_melody(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 2.5, 60)]}))  # of a bar of 4
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[8:, 20, 1] = True  # begun before and left to ring
    roll[9:10, 30, 1] = roll[10:, 40, 1] = True  # the last step of the melody, and after it
    alto = midi.parse(arrangement.to_midi(model, melody, roll), "song").parts[1]
    assert alto.notes[:, 2].tolist() == [LOW + 20, LOW + 30]
    assert alto.notes[0, 1] == 4 * 480


def test_a_short_last_bar_is_completed(model):
    """The last chord is held to the end of the tune's bar, though a left hand goes on."""
    notes = [(0, 2, 60), (4, 6.5, 62), (0, 16, 40), (0, 16, 43), (0, 16, 47)]
    melody = prepare(model, make_song({("Tune", 0): notes}))
    assert melody.steps == 64 and np.flatnonzero(melody.condition.any(axis=1))[-1] == 25
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[20:26, 20] = True
    song = midi.parse(arrangement.to_midi(model, melody, roll), "song")
    ends = {part.name: part.notes[:, :2].tolist() for part in song.parts[1:]}
    assert ends == {"Alto": [[5 * 480, 8 * 480]], "Kit": [[5 * 480, 26 * 120]],
                    "Bass": [[5 * 480, 8 * 480]]}  # fmt: skip


def test_what_the_network_does_not_hear_is_said(model):
    def said(*notes):
        return " ".join(remarks(model, prepare(model, make_song({("Tune", 0): notes}))))

    assert "chords" not in said((0, 1, 60), (1, 2, 64)) and "longer" not in said((0, 1, 60))
    assert "1 of 2 notes are chords or a left hand, not melody" in said((0, 2, 60), (0, 2, 64))
    assert "given longer ones" in said((0, 1, 60), (1, 1.1, 64))


def test_nothing_drones_on_where_a_left_hand_goes_on(model):
    """The tune ends after two bars, the left hand of the same track plays two bars more."""
    right = [(n, n + 1, 72 + n % 3) for n in range(8)]
    left = [(n, n + 1, 40 + n % 2) for n in range(16)]
    melody = prepare(model, make_song({("Tune", 0): [*right, *left]}))
    assert melody.steps == 64 and not melody.condition[32:].any()
    held = arrangement.completed(model, melody, np.ones((64, 128, 4), bool))
    assert held[:32].all() and not held[32:, :, [0, 1, 3]].any() and held[32:, :, 2].all()


def test_style(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 8, 60)]}))
    roll = np.zeros((melody.steps, PITCHES, 4), bool)
    roll[:, 20] = True
    roll[3::4, 20] = False  # notes of three steps, one a beat

    def play(**style):
        song = arrangement.to_midi(model, melody, roll, arrangement.Style(**style))
        return song, midi.parse(song, "song").parts

    _, plain = play()
    song, parts = play(programs=(7, 8))
    assert [part.program for part in parts if not part.is_drum] == [plain[0].program, 7, 8]
    _, flutes = play(programs=(73, 42))  # a flute has no C below middle C, a cello has it
    assert [part.notes[0, 2] for part in flutes if not part.is_drum] == [60, 60, 48]
    song, parts = play(keep_melody=False)
    assert [part.name for part in parts] == ["Tune", "Alto", "Kit", "Bass"]
    assert parts[0].notes[:, 2].tolist() == [48] * 8  # as the network has it

    _, human = play(humanise=1)
    _, again = play(humanise=1)
    _, other = play(humanise=2)
    for before, a, b, c in zip(plain[1:], human[1:], again[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a.notes, b.notes)
        assert (a.notes != c.notes).any()
        # Late by at most 10 ms (9.6 ticks at 120 bpm and 480 a beat), never longer, never early.
        late = a.notes[:, 0] - before.notes[:, 0]
        assert (late >= 0).all() and (late <= 10).all() and late.any()
        np.testing.assert_array_equal(a.notes[:, 1:3], before.notes[:, 1:3])
        loud = a.notes[:, 3] - midi.VELOCITY
        assert (loud >= -4).all() and (loud <= 12).all()
    # Voices that begin together are late together, and the first of a bar is an accent.
    np.testing.assert_array_equal(human[0].notes, plain[0].notes)
    assert all((voice.notes[0, 3] >= 74) for voice in human[1:])


BAND = {
    ("Tune", 0): [(4, 8, 72), (4, 6, 48), (6, 8, 52), (8, 12, 74), (8, 12, 62)],
    ("Bass", 1): [(0, 12, 40)],
    ("Kit", 9): [(0, 0.25, 36), (20, 20.25, 38)],
}


def test_the_other_tracks_of_the_file_stay_if_asked(model):
    score = make_song(BAND)
    melody = prepare(model, score)
    style = arrangement.Style(keep_accompaniment=True)
    song = midi.parse(arrangement.to_midi(model, melody, sparse_roll(melody), style), "song")
    assert [part.name for part in song.parts] == [
        *("Tune", "Alto", "Kit (new)", "Bass (new)", "Bass", "Kit")
    ]
    for kept, own in zip(song.parts[-2:], score.parts[1:], strict=True):
        np.testing.assert_array_equal(kept.notes, own.notes)
        assert (kept.channel, kept.program) == (own.channel, own.program)
    # The generated tracks have channels of their own.
    assert not {part.channel for part in (song.parts[1], song.parts[3])} & {0, 1, 9}
    (left,) = [s for s in arrangement.remarks(melody, arrangement.AS_GIVEN) if "left out" in s]
    assert (
        left == "left out, the file's other tracks: Bass, Kit (they stay with --keep-accompaniment)"
    )
    assert not [line for line in arrangement.remarks(melody, style) if "left out" in line]


def test_a_model_that_was_given_chords_is_given_all_notes(model):
    """As in training; those outside of its rows, 28 to 91, in the nearest octave within."""
    chords = [(0, 2, 60), (0, 2, 64), (1, 2, 67), (2, 3, 20), (2, 3, 60), (3, 4, 104)]
    score = make_song({("Piano", 0): chords})
    line = prepare(model, score)
    assert line.condition.sum(axis=1).max() == 1 and not line.on_line.all()
    melody = prepare_part(score, score.parts[0], changed(model, single_lines=(False,) * 4), shift=0)
    assert melody.on_line.all() and melody.folded == 2
    wanted = midi.to_roll(np.array([(4 * s, 4 * e, p, 0) for s, e, p in chords]), 16)
    wanted[8:12, [20, 32]], wanted[12:16, [104, 80]] = (False, True), (False, True)
    np.testing.assert_array_equal(melody.condition[:16], wanted)
    assert not melody.condition[16:].any()


def test_a_left_hand_goes_if_asked(model):
    score = make_song(BAND)
    melody = prepare(model, score)
    assert melody.on_line.tolist() == [False, True, False, False, True]
    whole = midi.parse(arrangement.to_midi(model, melody, sparse_roll(melody)), "song").parts[0]
    np.testing.assert_array_equal(whole.notes, score.parts[0].notes)
    style = arrangement.Style(melody_only=True)
    song = arrangement.to_midi(model, melody, sparse_roll(melody), style)
    np.testing.assert_array_equal(
        midi.parse(song, "song").parts[0].notes, score.parts[0].notes[melody.on_line]
    )
    assert any("sound on" in line for line in arrangement.remarks(melody, arrangement.AS_GIVEN))
    assert "left out, 3 notes of chords or a left hand" in arrangement.remarks(melody, style)


def test_a_dropped_note_of_a_pitch_that_sounds_ends_it(model):
    """One key, struck by the melody and again by the left hand: the second is silent."""
    score = make_song({("Tune", 0): [(0, 2, 60), (2, 4, 60), (4, 6, 60)]})
    part = score.parts[0]
    for dropped, left in (([0], [1, 2]), ([1], [0, 2]), ([0, 2], [1]), ([2], [0, 1])):
        track = arrangement._own_track(score, part, part.notes[dropped])
        file = mido.MidiFile(ticks_per_beat=480)
        file.tracks = [track]
        np.testing.assert_array_equal(midi.parse(file, "").parts[0].notes, part.notes[left])


def test_more_kept_tracks_than_channels(model):
    lines = {(f"T{n}", n): [(0, 4, 40 + n)] for n in range(16)}
    melody = prepare(model, make_song(lines), "T15")
    style = arrangement.Style(keep_accompaniment=True)
    song = midi.parse(arrangement.to_midi(model, melody, sparse_roll(melody), style), "song")
    assert len(song.parts) == 1 + 3 + 15


def test_temperature(model):
    melody = prepare(model, melodies.melody("twinkle"))
    cold = [accompany(model, melody, 0, n, temperature=0.0) for n in (0, 1)]
    np.testing.assert_array_equal(*cold)
    usual = [accompany(model, melody, 0, n) for n in (0, 1)]
    hot = [accompany(model, melody, 0, n, temperature=5.0) for n in (0, 1)]
    assert 0 < np.mean(usual[0] != usual[1]) < np.mean(hot[0] != hot[1])


def test_an_accompaniment_is_the_decoded_answer(model):
    """The rule is told of the melody as given, the tracks' kinds, and the length."""
    config = dataclasses.replace(model.config, condition_track=1)
    other = changed(model, config=config, single_lines=(True, True, False, True))
    melody = prepare(model, make_song({("Tune", 0): [(2, 5, 61), (6, 7.5, 63)]}))
    signed = answer_melody(other, melody, 3, 1)
    assert signed.dtype == np.float32 and signed.shape == (len(melody.condition), PITCHES, 4)
    given = pianoroll.crop(melody.condition[..., None], LOW, PITCHES)[..., 0]
    for rule in decoding.RULES:
        wanted = decoding.RULES[rule](other, signed, given)[: melody.steps]
        np.testing.assert_array_equal(decode_melody(other, melody, signed, rule), wanted)
        np.testing.assert_array_equal(accompany(other, melody, 3, 1, rule=rule), wanted)
    lines = decode_melody(other, melody, signed, "lines")
    for changes in (
        {"config": model.config},
        {"tracks": tuple(t._replace(is_drum=False) for t in model.tracks)},
    ):
        assert (decode_melody(changed(other, **changes), melody, signed, "lines") != lines).any()


def test_an_empty_accompaniment_is_noticed(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 4, 60)]}))
    roll = np.zeros((melody.steps, model.config.pitches, len(model.tracks)), bool)
    roll[0, 10, model.config.condition_track] = True  # what the network makes of the melody
    assert not arrangement.has_accompaniment(model, roll)
    roll[0, 10, 1 - model.config.condition_track] = True
    assert arrangement.has_accompaniment(model, roll)


def folded(model, *pitches) -> list[int]:
    """The pitches that the network is given, relative to the shift; a rest is None."""
    notes = [(n, n + 1, pitch) for n, pitch in enumerate(pitches) if pitch is not None]
    melody = prepare(model, make_song({("Tune", 0): notes}))
    rows = [np.flatnonzero(row) for row in melody.condition[: 4 * len(pitches) : 4]]
    return [int(row[0]) - melody.shift if len(row) else None for row in rows]


def test_notes_outside_the_range_are_folded_by_octaves(model):
    """One stray note alone; a phrase that stays outside as one; never refused."""
    tune = [30, 45, 60, 75, 90] * 6  # so wide that no shift of all of it is better
    assert folded(model, *tune) == tune
    assert folded(model, *tune, 20, *tune) == [*tune, 32, *tune]
    high = [88, 90, 92, 95, 93, 92, 90, 88, 92, 95]  # now in the range, now out of it
    found = folded(model, *tune, None, None, *high, None, None, *tune)
    assert found == [*tune, None, None, *(p - 12 for p in high), None, None, *tune]
    # A phrase that hardly leaves the range does not follow its highest note.
    peak = [72, 74, 76, 77, 79, 81, 83, 84, 92, 84, 83, 81, 79, 77, 76, 74, 72]
    assert folded(model, *tune, *peak) == [*tune, *(80 if p == 92 else p for p in peak)]
    everywhere = folded(model, *range(0, 128, 5))
    assert all((p - q) % 12 == 0 for p, q in zip(everywhere, range(0, 128, 5), strict=True))
    wide = make_song({("Tune", 0): [(0, 4, 20), (4, 24, 90)]})
    said = list(remarks(model, prepare(model, wide)))
    assert said[0].startswith("1 notes outside the model's MIDI pitches 28 to 91")


def test_a_model_of_few_rows_leaves_out_what_it_has_no_row_for(model):
    config = dataclasses.replace(model.config, lowest_pitch=60, pitches=8)
    assert folded(changed(model, config=config), 60, 62, 70, 67) == [60, 62, None, 67]


def test_voices_are_the_melody_and_the_rest_on_all_pitches(model):
    melody = prepare(model, make_song({("Tune", 0): [(0, 5, 100)]}, meter=(3, 4)))
    roll = sparse_roll(melody)
    tune, rest, bar = as_measured(model, melody, roll)
    assert tune.shape == (24, 128, 1) and rest.shape == (24, 128, 2) and bar == 12
    assert tune[:20, 100 + melody.shift].all() and tune.sum() == 20
    pitched = roll[:, :, [k for k in (1, 2, 3) if not model.tracks[k].is_drum]]
    np.testing.assert_array_equal(pianoroll.crop(rest, LOW, PITCHES), pitched)
    assert rest.sum() == pitched.sum()


def test_remarks_say_how_melody_and_model_meet(model):
    score = make_song({("Tune", 0): [(0, 9, 72)], ("Bass", 1): [(0, 9, 40)]})
    assert list(remarks(model, prepare(model, score))) == [
        "melody: track 1 of 2, Tune (another: --track)",
        "12 beats in one pass; the model was trained on windows of 8 beats",
    ]
    assert not list(remarks(model, prepare(model, make_song())))
    score = make_song({("Lead", 0): [(0, 4, 60)], ("lead", 1): [(0, 4, 72)], ("", 2): CHORDS})
    said = list(remarks(model, prepare(model, score)))
    assert said[0] == "melody: track 2 of 3, lead; so called are 1, too (another: --track)"


@pytest.mark.parametrize("kind", any_melody.KINDS)
def test_melodies_that_are_often_refused(model, tmp_path, kind):
    """Five files of each kind: the true line is found, and none is refused."""
    for name, made in any_melody.forty().items():
        if name.startswith(kind):
            (tmp_path / "song.mid").write_bytes(made.content)
            heard = prepare(model, midi.read(tmp_path / "song.mid"))
            assert any_melody.line_right(heard, made.tune) >= 0.95, name
            assert bool(heard.score.damage) == (kind == "damaged"), name


# --- Which part ---------------------------------------------------------------------------------

CHORDS = [(n, n + 1, pitch) for n in range(8) for pitch in (48, 52, 55)]
TUNE = [(n, n + 1, 70 + n % 3) for n in range(8)]
DRUMS = [(n, n + 0.25, 36) for n in range(8)]


def test_the_part_is_chosen_by_number_name_or_looks():
    score = make_song({("Piano", 0): CHORDS, ("Kit", 9): DRUMS, ("Flute", 1): TUNE})
    piano, _, flute = score.parts

    def pick(track):
        return pick_part(score, track, "song.mid")

    assert pick("1") is piano and pick("2") is flute  # drums have no number
    assert pick("flute") is flute and pick("PIANO") is piano
    assert pick(None) is flute
    for track in ("0", "3", "-1", "Kit", "flut", "", "\N{SUPERSCRIPT TWO}"):
        with pytest.raises(UserError) as caught:
            pick(track)
        near = ", perhaps Flute" if track == "flut" else ""
        assert str(caught.value) == f"song.mid: no track {track!r}{near}; it has 1 Piano; 2 Flute"


def test_a_name_tells_more_than_the_notes():
    # A descant above the tune; the file says which is which.
    above = [(s, e, p + 12) for s, e, p in TUNE]
    for name in ("Melody", "Lead vocals", "Soprano"):
        score = make_song({("Strings", 0): above, (name, 1): TUNE, ("", 2): CHORDS})
        assert pick_part(score, None, "").name == name
    with pytest.raises(UserError, match="3 unnamed"):
        pick_part(score, "x", "")
    # A high pad of chords is no tune.
    score = make_song({("", 0): [(s, e, p + 24) for s, e, p in CHORDS], ("", 1): TUNE})
    assert pick_part(score, None, "") is score.parts[1]


def test_a_file_without_a_melody_is_refused():
    with pytest.raises(UserError, match=r"beat\.mid: it has drums only"):
        pick_part(make_song({("Kit", 9): DRUMS}), None, "beat.mid")
    damaged = dataclasses.replace(make_song({("Kit", 9): DRUMS}), damage=("track 2 is cut off",))
    with pytest.raises(UserError, match=r"beat\.mid: a damaged .* only drums .*track 2 is cut off"):
        pick_part(damaged, None, "beat.mid")
    with pytest.raises(UserError, match=r"rest\.mid: it has no notes"):
        pick_part(make_song({}), "1", "rest.mid")


def test_melodies_come_by_name_or_from_a_file(tmp_path):
    assert load_melody("twinkle").parts[0].notes[0, 2] == 60
    make_song().midi.save(tmp_path / "mine.mid")
    assert load_melody(str(tmp_path / "mine.mid")).parts[0].name == "Tune"
    with pytest.raises(
        UserError, match=r"tinkle: no such file, .*\(twinkle, ode_to_joy, korobeiniki\)"
    ):
        load_melody("tinkle")
    with pytest.raises(UserError, match="choose one of twinkle, ode_to_joy"):
        melodies.melody("tinkle")


def test_another_file_is_told_what_to_give(tmp_path):
    """The reader of MIDI cannot know of scores and built-in melodies."""
    path = tmp_path / "tune.mid"
    path.write_bytes(b"ID3 some sound")
    with pytest.raises(UserError, match=r"give one, a score \(.*\.mxl.*\(twinkle"):
        load_melody(str(path))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="empty"):
        load_melody(str(path))


@pytest.mark.parametrize("name, bars", [("twinkle", 12), ("ode_to_joy", 16), ("korobeiniki", 8)])
def test_built_in_melodies_have_whole_bars(model, name, bars):
    lengths = [float(word.split(":")[1]) for word in melodies.MELODIES[name].split()]
    ends = np.cumsum(lengths)
    assert np.isin(np.arange(4, 4 * bars + 1, 4), ends).all(), "no note crosses a bar line"
    assert ends[-1] == 4 * bars
    score = melodies.melody(name)
    (part,) = score.parts
    assert len(part.notes) == len(lengths) and score.meters == ((0, 4, 4),)
    np.testing.assert_allclose(score.seconds(480), 0.6)  # 100 bpm
    assert np.isin(part.notes[:, 2] % 12, [0, 2, 4, 5, 7, 9, 11]).all()
    assert (part.notes[1:, 0] > part.notes[:-1, 1]).all(), "repeats are heard as two notes"
    melody = prepare(model, score)
    assert melody.steps == 16 * bars and melody.condition[: melody.steps].any(axis=1).all(), (
        "no gap on the grid"
    )


# --- Files --------------------------------------------------------------------------------------


def heard(path) -> np.ndarray:
    """Samples as shares of full scale, after a check that the file is a CD-quality WAV."""
    with wave.open(str(path)) as file:
        assert file.getparams()[:3] == (2, 2, 44100)
        content = file.readframes(file.getnframes())
    return np.frombuffer(content, "<i2") / 32768


@pytest.mark.parametrize("player", ["SoundFont", "plain"])
def test_a_song_is_three_files(model, tmp_path, monkeypatch, player):
    if player == "plain":
        monkeypatch.setitem(sys.modules, "symusic", None)
    melody = prepare(model, make_song({("Tune", 0): [(0, 4, 72)]}))
    song = arrangement.to_midi(model, melody, sparse_roll(melody))
    paths = list(write_song(song, tmp_path, "my song", "My song, seed 0"))
    assert [path.name for path in paths] == ["my song.mid", "my song.wav", "my song.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths), "nothing else is left"
    assert paths[0].read_bytes() == content_of(song)
    sound = heard(paths[1])
    assert 0.5 < np.abs(sound).max() < 0.95
    assert len(sound) / 2 / 44100 > 1.9  # four beats at 120 bpm
    assert paths[2].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_sound_and_picture_begin_a_bar_before_the_first_note(model, tmp_path, monkeypatch):
    """The MIDI file keeps its silence; the picture keeps the numbers of the bars."""
    from musegan_jax.rendering import plots

    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    song = make_song({("Tune", 0): [(41, 44, 72)]}, meter=(4, 4)).midi  # in bar 11
    for keep in (False, True):
        list(write_song(song, tmp_path, f"late {keep}", "Late", keep))
    first = [axes.get_xticklabels()[0].get_text() for axes in (f.axes[0] for f in figures)]
    assert first == ["10", "1"]
    assert midi.read(tmp_path / "late False.mid").parts[0].notes[0, 0] == 41 * 480
    short, whole = (heard(tmp_path / f"late {keep}.wav") for keep in (False, True))
    assert (len(whole) - len(short)) / 2 == pytest.approx(36 / 2 * 44100, abs=1)  # nine bars
    np.testing.assert_allclose(whole[-len(short) :], short, atol=1e-3)
    # From a bar before the bar of the first note, not before the file.
    assert [beginning(make_song({("", 0): [(b, b + 1, 60)]})) for b in (0, 5, 8)] == [0, 0, 4 * 480]


@pytest.mark.parametrize("player", ["SoundFont", "plain"])
def test_drums_sound(tmp_path, monkeypatch, player):
    if player == "plain":
        monkeypatch.setitem(sys.modules, "symusic", None)
    song = make_song({("Kit", 9): DRUMS}).midi
    paths = list(write_song(song, tmp_path, "beat", "Beat"))
    sound = heard(paths[1]).reshape(-1, 2)[:, 0]
    # Between the drums of 1/4 beat there is less than on them.
    on, off = sound[: 44100 // 16], sound[44100 // 4 - 44100 // 16 : 44100 // 4]
    assert np.std(on) > 2 * np.std(off)


def test_a_song_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError, match="cannot be written"):
            list(write_song(make_song().midi, folder, "song", "Song"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pictures_names_are_in_the_order_of_the_parts_in_it(monkeypatch, tmp_path):
    lines = {("Bass", 0): [(0, 4, 40)], ("Kit", 9): [(0, 4, 80)], ("Tune", 1): [(0, 4, 72)]}
    named = []
    monkeypatch.setattr(plots, "_legend", lambda figure, title, handles: named.extend(handles))
    plots.piano_roll(make_song(lines), "song", tmp_path / "song.png")
    assert [name for _, name in named] == ["Tune", "Bass", "Kit"]
    assert [colour for colour, _ in named] == [plots.COLOURS[k] for k in (2, 0, 1)]


def test_rows_of_a_picture_have_one_scale(monkeypatch, tmp_path):
    """Ten bars: eight, and two that are not stretched; a note over the break is in both rows."""
    from musegan_jax.rendering import plots

    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    score = make_song({("Tune", 0): [(0, 4, 60), (31, 33, 62), (39, 40, 64)]}, resolution=480)
    plots.piano_roll(score, "song", tmp_path / "song.png")
    bar = 4 * 480
    assert [axes.get_xlim() for axes in figures[0].axes] == [(0, 8 * bar), (8 * bar, 16 * bar)]
    drawn = [
        [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in paths.get_paths()]
        for axes in figures[0].axes
        for paths in axes.collections
    ]
    assert drawn[0] == [(0, bar), (31 * 480, 8 * bar)]
    assert drawn[1] == [(31 * 480, 33 * 480), (39 * 480, 10 * bar)]


@pytest.mark.parametrize(
    "name", ["x_{$ $^", "_hidden", "\u65cb\u5f8b \x01", "\u0441\u043e\u043b\u043e"]
)
def test_any_track_name_can_be_drawn(tmp_path, name):
    """A name is a stranger's text: no formula, no missing entry, no warning about glyphs."""
    from musegan_jax.rendering import plots

    notes = np.array([[0, 480, 60, 90]])
    part = midi.Part(name, 0, 0, 0, notes)
    score = dataclasses.replace(melodies.melody("twinkle"), parts=(part,))
    plots.piano_roll(score, name, tmp_path / "roll.png")
    assert (tmp_path / "roll.png").stat().st_size > 1000


def test_notes_at_the_top_of_the_range_are_played(tmp_path):
    """An untrained model paints every pitch; the SoundFont player never returned from such."""
    from musegan_jax.rendering import audio

    assert [audio._lowered(pitch) for pitch in (0, 96, 97, 108, 109, 127)] == [
        0,
        96,
        85,
        96,
        85,
        91,
    ]
    notes = np.array(
        [[240 * n, 240 * n + 240, pitch, 90] for n in range(8) for pitch in range(128)]
    )
    song = mido.MidiFile(ticks_per_beat=480)
    song.tracks.append(midi.note_track("All", 0, 40, notes))
    audio.write_wav(midi.parse(song, "all"), tmp_path / "all.wav")
    assert (tmp_path / "all.wav").stat().st_size > 4 * 44100


def test_instruments_have_numbers_and_names():
    assert programs_for("0, 127", ["a", "b"]) == (0, 127)
    assert programs_for("Acoustic Bass,FLUTE,honky", ["a", "b", "c"]) == (32, 73, 3)
    assert programs_for("trumpet", ["a"]) == (56,)  # there is a Muted Trumpet, too
    for text, why in (
        ("128", "128 is no General MIDI program"),
        ("guitar", "'guitar' may be 24 Acoustic Guitar .*give the number or the whole name"),
        ("violinn", "did you mean Violin"),
        ("\N{SUPERSCRIPT TWO}", "no General MIDI instrument"),
        ("", "no General MIDI instrument"),
        ("1,2", "it takes 1 General MIDI programs, .* for a$"),
    ):
        with pytest.raises(UserError, match=f"--programs.*{why}"):
            programs_for(text, ["a"])


# --- What a file may cost -----------------------------------------------------------------------


def score_of(tmp_path, *tracks: bytes) -> midi.Score:
    (tmp_path / "costly.mid").write_bytes(smf(*tracks))
    return midi.read(tmp_path / "costly.mid")


def test_all_keys_held_for_an_hour_are_played_for_a_while(tmp_path):
    """`tests/proofs/attack.py bills` measures the time and the memory of such files."""
    keys = range(128)
    held = b"".join(on(0, p) for p in keys) + off(7200 * 480, 0)
    score = score_of(tmp_path, held + b"".join(off(0, p) for p in keys[1:]) + END)
    part = audio.excerpt(score)
    sounding = sum(float(np.sum(np.diff(part.seconds(p.notes[:, :2])))) for p in part.parts)
    assert 0.99 * audio.LONGEST[True] < sounding <= audio.LONGEST[True]
    assert len(part.parts[0].notes) == 128
    # One note at a time: ten minutes of it.
    part = audio.excerpt(score_of(tmp_path, on(0, 60) + off(7200 * 480, 60) + END))
    assert part.seconds(part.end) == pytest.approx(audio.MAX_SECONDS, abs=0.01)
    short = make_song()
    assert audio.excerpt(short) is short


def test_the_sound_of_a_late_note_costs_no_silence(tmp_path):
    late = program(19) + on(7190 * 480, 60) + off(480, 60) + END
    score = score_of(tmp_path, tempo(480, 250_000) + tempo(480, 500_000) + END, late)
    part = audio.excerpt(score, 7190 * 480)
    assert part.parts[0].notes[:, :3].tolist() == [[0, 480, 60]] and part.parts[0].program == 19
    assert part.seconds(part.end) == 0.5
    audio.write_wav(score, tmp_path / "late.wav", 7190 * 480)
    with wave.open(str(tmp_path / "late.wav")) as sound:
        assert sound.getnframes() < 10 * audio.SAMPLE_RATE


def test_sound_is_written_block_by_block(tmp_path, monkeypatch):
    sound = np.full((16 * 2**20 // 8, 2), 0.5, np.float32)
    monkeypatch.setattr(audio, "play", lambda score: sound)
    monkeypatch.setattr(audio, "BLOCK", 2**16)
    tracemalloc.start()
    try:
        audio.write_wav(make_song(), tmp_path / "x.wav")
        assert tracemalloc.get_traced_memory()[1] < sound.nbytes / 4
    finally:
        tracemalloc.stop()
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert file.getnframes() == len(sound)


def test_a_picture_of_many_bars_and_notes_costs_no_more(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    bars = meter(0, 1, 16) + tempo(0, 360_000) + on(0, 60) + off(9_000 * 480, 60) + END
    plots.piano_roll(score_of(tmp_path, bars), "bars", tmp_path / "x.png")
    assert max(len(axes.get_xticks()) for axes in figures[0].axes) <= plots.MAX_LABELS
    crowd = b"".join(on(0, 60 + n % 3) + off(9, 60 + n % 3) for n in range(plots.MAX_BOXES + 1))
    monkeypatch.setattr(plots, "_draw_notes", None)
    score = score_of(tmp_path, crowd + END)
    plots.piano_roll(score, "crowd", tmp_path / "x.png")
    image = np.concatenate([axes.images[0].get_array() for axes in figures[1].axes], axis=1)
    assert set(np.flatnonzero(image[..., 3].any(axis=1)) + 58) == {60, 61, 62}


def test_a_melody_beyond_what_fits_into_memory_is_refused(model, tmp_path):
    score = score_of(tmp_path, tempo(0, 360_000) + on(0, 60) + off(1_251 * 480, 60) + END)
    with pytest.raises(UserError, match="up to 1250 are accompanied"):
        prepare(model, score)
    # It is the melody that counts, not the silence before it.
    late = tempo(0, 360_000) + on(9_000 * 480, 60) + off(480, 60) + END
    assert prepare(model, score_of(tmp_path, late)).steps == 16
