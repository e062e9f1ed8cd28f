"""MIDI files: what is read from good ones, and what is said about bad ones."""

import struct
import tracemalloc

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musegan_jax.data import midi
from musegan_jax.errors import UserError

FAR = 0x0FFFFFFF  # the largest delta time that a MIDI file can hold
END = b"\x00\xff\x2f\x00"


def delta(ticks: int) -> bytes:
    """A MIDI variable-length number."""
    digits = [ticks & 0x7F]
    while ticks := ticks >> 7:
        digits.append(ticks & 0x7F | 0x80)
    return bytes(reversed(digits))


def smf(*tracks: bytes, kind: int = 1, resolution: int = 480) -> bytes:
    """A MIDI file by hand, so that what no writer would write can be written."""
    chunks = [b"MTrk" + struct.pack(">L", len(track)) + track for track in tracks]
    return b"MThd" + struct.pack(">LHHH", 6, kind, len(tracks), resolution) + b"".join(chunks)


def on(wait: int, pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    return delta(wait) + bytes([0x90 + channel, pitch, velocity])


def off(wait: int, pitch: int, channel: int = 0) -> bytes:
    return delta(wait) + bytes([0x80 + channel, pitch, 0])


def program(number: int, channel: int = 0) -> bytes:
    return b"\x00" + bytes([0xC0 + channel, number])


def tempo(wait: int, microseconds: int) -> bytes:
    return delta(wait) + b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def meter(wait: int, beats: int, beat_type: int) -> bytes:
    power = beat_type.bit_length() - 1
    return delta(wait) + b"\xff\x58\x04" + bytes([beats, power, 24, 8])


NOTE = on(0, 60) + off(480, 60)
# Every kind of message that the reader looks at, in two tracks.
VALID = smf(
    b"\x00\xff\x03\x04head" + tempo(0, 600_000) + meter(0, 3, 4) + tempo(960, 400_000) + END,
    b"\x00\xff\x03\x04Lead" + program(73) + on(0, 60) + off(480, 60)
    # running status, a second channel, a velocity of 0 as the release
    + on(10, 64) + b"\x60\x40\x00" + on(0, 38, 99, 9) + off(120, 38, 9) + END,
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("midi") / "some song.mid"


def read(path, content: bytes) -> midi.Score:
    path.write_bytes(content)
    return midi.read(path)


def refuse(path, content: bytes, why: str) -> None:
    """Reading ends in a message that names the file and says why."""
    with pytest.raises(UserError, match=why) as caught:
        read(path, content)
    assert str(caught.value).startswith(f"{path}: ")


def notes(path, *messages: bytes) -> list[list[int]]:
    """`[start, end, pitch, velocity]` of the only part."""
    (part,) = read(path, smf(b"".join(messages) + END)).parts
    return part.notes.tolist()


def test_parts_of_a_file(path):
    score = read(path, VALID)
    lead, drums = score.parts
    assert (lead.name, lead.track, lead.channel, lead.program) == ("Lead", 1, 0, 73)
    assert lead.notes.dtype == np.int64
    assert lead.notes.tolist() == [[0, 480, 60, 64], [490, 586, 64, 64]]
    assert drums.is_drum and not lead.is_drum
    assert drums.notes.tolist() == [[586, 706, 38, 99]]
    assert score.end == 706 and score.ticks_per_beat == 480


def test_types_0_and_1_give_the_same_parts(path):
    one = program(5) + on(7, 60) + off(100, 60)
    two = program(40, 1) + on(50, 67, 90, 1) + off(57, 67, 1)
    # The same events by time: 0, 0, 7, 50, 107, 107.
    both = program(5) + program(40, 1) + on(7, 60) + on(43, 67, 90, 1) + off(57, 60) + off(0, 67, 1)
    apart = read(path, smf(one + END, two + END, kind=1)).parts
    joined = read(path, smf(both + END, kind=0)).parts
    assert [part.track for part in apart] == [0, 1] and [part.track for part in joined] == [0, 0]
    for left, right in zip(apart, joined, strict=True):
        assert (left.channel, left.program) == (right.channel, right.program)
        np.testing.assert_array_equal(left.notes, right.notes)


def test_a_long_name_is_cut(path):
    content = b"\x00\xff\x03" + delta(900_000) + 900_000 * b"x"
    (part,) = read(path, smf(content + NOTE + END)).parts
    assert part.name == 200 * "x"


def test_the_program_is_that_of_the_first_note(path):
    (part,) = read(path, smf(program(3) + NOTE + program(9) + NOTE + END)).parts
    assert part.program == 3


def test_a_second_onset_ends_the_sounding_note(path):
    # One key cannot be down twice; the second release then finds nothing to end.
    pair = on(0, 60) + on(100, 60, 80) + off(100, 60) + off(100, 60)
    assert notes(path, pair) == [[0, 100, 60, 64], [100, 200, 60, 80]]


def test_a_note_that_is_never_ended_lasts_until_its_track_ends(path):
    assert notes(path, on(0, 60), on(50, 62), off(50, 62), delta(300) + b"\xb0\x07\x40") == [
        [0, 400, 60, 64],
        [50, 100, 62, 64],
    ]


def test_a_note_of_no_length_is_none(path):
    assert notes(path, on(5, 60), off(0, 60), on(5, 62), off(5, 62)) == [[10, 15, 62, 64]]
    assert read(path, smf(on(5, 60) + off(0, 60) + END)).parts == ()


def test_seconds_honour_every_tempo_change(path):
    # 480 ticks a beat. Default 120 bpm for a beat (0.5 s), then 60 bpm for two beats (2 s), then
    # 240 bpm: 0.25 s a beat, at last 6000 bpm. The changes stand in different tracks.
    score = read(
        path,
        smf(
            tempo(480, 1_000_000) + tempo(960, 250_000) + END,
            NOTE + tempo(1920, 10_000) + on(480, 60) + off(240, 60) + END,
        ),
    )
    ticks = np.array([0, 240, 480, 960, 1440, 1920, 2400, 2880])
    wanted = [0, 0.25, 0.5, 1.5, 2.5, 2.75, 3.0, 3.01]
    np.testing.assert_allclose(score.seconds(ticks), wanted, atol=2e-6)
    assert score.seconds(960).shape == ()
    # Of two tempos at one tick the later in the file holds: 1 s a beat.
    score = read(path, smf(tempo(0, 10_000) + tempo(0, 1_000_000) + NOTE + END))
    assert score.seconds(480) == 1.0
    with pytest.raises(UserError, match="a tempo of 0 microseconds a beat"):
        read(path, smf(tempo(0, 0) + NOTE + END))
    with pytest.raises(UserError, match="a tempo of 0 microseconds a beat"):
        read(path, smf(tempo(0, 0) + tempo(0, 500_000) + NOTE + END))


def test_bars_follow_the_time_signatures(path):
    # 3/4 (1440 ticks a bar) from 0; 6/8 (also 1440) from 2880; 4/4 at 3600, in the middle of a
    # bar, begins one; 5/16 (600) from 7440 to the end of the last note at 7440 + 1000.
    marks = meter(0, 3, 4) + meter(2880, 6, 8) + meter(720, 4, 4) + meter(3840, 5, 16)
    wanted = [0, 1440, 2880, 3600, 5520, 7440, 8040]
    score = read(path, smf(marks + END, on(7440, 60) + off(1000, 60) + END))
    np.testing.assert_array_equal(score.bar_lines[:-1], wanted)
    # Bars of no length, of a 32nd, and of 64 beats are damage: the 4/4 before them goes on.
    odd = meter(0, 0, 4) + meter(0, 1, 32) + meter(0, 64, 4)
    # A meter after the last note has no bars, though it may lie anywhere.
    odd += meter(FAR // 2, 3, 4) + meter(FAR // 2, 2, 4)
    score = read(path, smf(odd + END, on(0, 60) + off(1921, 60) + END))
    np.testing.assert_array_equal(score.bar_lines, [0, 1920, 3840])
    # 3/8 at 7 ticks a beat: bars of 10.5 ticks.
    score = read(path, smf(meter(0, 3, 8) + on(0, 60) + off(42, 60) + END, resolution=7))
    np.testing.assert_array_equal(score.bar_lines, [0, 10.5, 21, 31.5, 42])
    # No notes: one bar, not none, or whoever asks for the first would fail.
    np.testing.assert_array_equal(read(path, smf(END)).bar_lines[:-1], [0])


def test_quantise_rounds_to_the_grid_and_keeps_short_notes():
    # 120 ticks a step: 59 -> 0, 60 -> 1 (halves go up); 170 to 175 is lifted to a step's length.
    rows = np.array([[0, 59, 60, 1], [60, 300, 61, 2], [170, 175, 62, 3], [179, 181, 63, 4]])
    steps = midi.quantise(rows, 120)
    assert steps.tolist() == [[0, 1, 60, 1], [1, 3, 61, 2], [1, 2, 62, 3], [1, 2, 63, 4]]
    assert rows[1].tolist() == [60, 300, 61, 2], "the argument is left as it was"
    roll = midi.to_roll(steps, 2)  # shorter than the notes: the rest is cut
    assert roll.dtype == bool and roll.shape == (2, 128)
    assert np.argwhere(roll).tolist() == [[0, 60], [1, 61], [1, 62], [1, 63]]


# Per pitch: (gap before, length, velocity) of each note; a gap of 0 is a repeated note.
voices = st.dictionaries(
    st.integers(0, 127),
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 900), st.integers(1, 127)), max_size=6
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(voices, st.integers(0, 15), st.integers(0, 127), st.sampled_from([1, 7, 480, 32767]))
def test_notes_that_are_written_are_read_back(path, voices, channel, program, resolution):
    rows = []
    for pitch, events in voices.items():
        now = 0
        for gap, length, velocity in events:
            start, now = now + gap, now + gap + length
            rows.append((start, now, pitch, velocity))
    file = mido.MidiFile(type=1, ticks_per_beat=resolution)
    file.tracks = [midi.note_track("Fl\xf6te", channel, program, np.array(rows).reshape(-1, 4))]
    midi.write(file, path)
    parts = midi.read(path).parts
    if not rows:
        assert parts == ()
        return
    (part,) = parts
    assert (part.name, part.channel, part.program) == ("Fl\xf6te", channel, program)
    assert part.notes.tolist() == [list(row) for row in sorted(rows)]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for target in (file / "song.mid", tmp_path / "missing" / "song.mid"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            midi.write(mido.MidiFile(), target)
        assert str(target) in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


# What is wrong with a file: its content, and a word of the message.
BAD = {
    "empty": (b"", "empty"),
    "text": (b"Twinkle, twinkle, little star\n", "not a MIDI file"),
    "random bytes": (np.random.default_rng(0).bytes(500), "not a MIDI file"),
    "random track": (smf(np.random.default_rng(2).bytes(500)), "damaged"),
    "type 2": (smf(NOTE + END, kind=2), "type 2"),
    "type -1": (smf(NOTE + END, kind=0xFFFF), "type -1"),
    "resolution 0": (smf(NOTE + END, resolution=0), "resolution of 0"),
    "25 frames, 40 ticks a frame": (smf(NOTE + END, resolution=0xE728), "SMPTE"),
    "an event of 256 MiB": (smf(b"\x00\xf0" + delta(FAR)), "damaged"),
    # The largest delta time is 2**28 - 1 ticks: at 480 a beat, half a million beats.
    "a note that far": (smf(on(FAR - 480, 60) + off(480, 60) + END), "10000 beats"),
    "a note that long": (smf(on(0, 60) + off(FAR, 60) + END), "10000 beats"),
    "a note at tick 2**31": (smf(8 * (delta(FAR) + b"\xb0\x07\x40") + NOTE + END), "longer than"),
    "meters at tick 2**31": (smf(NOTE + 8 * meter(FAR, 3, 4) + END), "longer than"),
    "more beats than are read": (smf(on(10_000, 60) + off(1, 60) + END, resolution=1), "10000"),
    # 16.7 seconds a beat: 2,160 beats are ten hours.
    "ten slow hours": (smf(tempo(0, 0xFFFFFF) + on(2160, 60) + off(1, 60), resolution=1), "10.* h"),
    # Messages of two bytes, each of which takes 300 bytes of memory.
    "more messages than are read": (smf(program(1) + 60_000 * b"\x00\x01"), "60001 messages"),
    "an endless number": (smf(b"\xff" * 900_000), "endless"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_with_a_message_and_little_memory(path, what):
    content, why = BAD[what]
    tracemalloc.start()
    try:
        refuse(path, content, why)
        room = 200 if what == "more messages than are read" else 20
        assert tracemalloc.get_traced_memory()[1] < room * 2**20
    finally:
        tracemalloc.stop()


KEY = b"\x00\xff\x59\x02"
# Damage, what is said of it, and the pitches that are read all the same.
DAMAGED = {
    "a header of 4 GiB": (b"MThd\xff\xff\xff\xff" + VALID[8:], (), [60, 64, 38]),
    "a track of 4 GiB": (
        VALID[:18] + b"\xff\xff\xff\xff" + VALID[22:],
        ("track 1 is shorter than it says: read up to there",),
        [60, 64, 38],
    ),
    "32,767 tracks": (
        VALID[:10] + b"\x7f\xff" + VALID[12:],
        ("it should have 32767 tracks and has 2",),
        [60, 64, 38],
    ),
    "fewer tracks than it has": (
        VALID[:10] + b"\0\1" + VALID[12:],
        ("it should have 1 tracks and has 2",),
        [60, 64, 38],
    ),
    "a track that is cut off": (
        smf(on(0, 60) + off(480, 60) + on(0, 62) + off(480, 62) + END)[:-11],
        ("track 1 ends inside an event: read up to there",),
        [60],
    ),
    "an endless number": (
        smf(NOTE + b"\xff" * 30 + NOTE, on(0, 64) + off(9, 64) + END),
        ("track 1 has an endless number: read up to there",),
        [60, 64],
    ),
    "an unknown message": (
        smf(NOTE + b"\x00\xf5" + NOTE, on(0, 64) + off(9, 64) + END),
        ("track 1 has an unknown message 0xf5: read up to there",),
        [60, 64],
    ),
    "data before any message": (
        smf(b"\x00\x40\x40", on(0, 64) + off(9, 64) + END),
        ("track 1 has data without a message: read up to there",),
        [64],
    ),
    "a velocity above 127": (
        smf(on(0, 60, 200) + off(480, 60) + END),
        ("1 data bytes above 127, read as 127",),
        [60],
    ),
    "a key of nine sharps": (
        smf(KEY + b"\x09\x00" + NOTE + KEY + b"\x00\x07" + END),
        ("2 unreadable messages (key signature), left out",),
        [60],
    ),
    "a tempo of one byte": (
        smf(b"\x00\xff\x51\x01\x07" + NOTE + END),
        ("1 unreadable messages (tempo), left out",),
        [60],
    ),
    "five cut tracks": (
        smf(*[NOTE + b"\x00\xf5"] * 5),
        (
            *(f"track {n} has an unknown message 0xf5: read up to there" for n in (1, 2, 3)),
            "and 2 more tracks",
        ),
        [60] * 5,
    ),
    # No damage: containers and chunks of other kinds, messages of the system.
    "in a RIFF container": (b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + VALID, (), [60, 64, 38]),
    "another chunk": (VALID[:14] + b"XFIH\0\0\0\3abc" + VALID[14:], (), [60, 64, 38]),
    "a clock": (smf(on(0, 60) + b"\x00\xf8" + b"\x10\xf2\x01\x01" + off(464, 60) + END), (), [60]),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_read_as_far_as_it_goes(path, what):
    content, damage, pitches = DAMAGED[what]
    score = read(path, content)
    assert score.damage == damage
    assert [p for part in score.parts for p in part.notes[:, 2]] == pitches
    if "fewer" not in what and "velocity" not in what:
        ends = [part.notes[0, :2].tolist() for part in score.parts]
        assert ends[0] in ([0, 480], [0, 9])  # a message that is left out keeps its time


def test_a_sound_file_gives_the_messages_that_mido_reads(path):
    words = b"\x00\xff\x05\x03la-" + b"\x07\xf0\x04\x41\x10\x42\xf7"
    content = smf(words + tempo(3, 9_999_999) + KEY + b"\xfd\x01" + NOTE + END, NOTE + END)
    for whole in (VALID, content):
        path.write_bytes(whole)
        ours, theirs = midi.read(path), mido.MidiFile(path)
        assert ours.midi.tracks == theirs.tracks and not ours.damage
        assert (ours.midi.type, ours.midi.ticks_per_beat) == (theirs.type, theirs.ticks_per_beat)


def test_an_unknown_meta_message_keeps_its_time(path):
    """mido forgets it, and all that follows would be early."""
    assert notes(path, on(0, 60), b"\x83\x60\xff\x60\x01\x00", off(0, 60)) == [[0, 480, 60, 64]]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing\.mid: no such file"):
        midi.read(tmp_path / "missing.mid")
    with pytest.raises(UserError, match=f"{tmp_path}: not a file"):
        midi.read(tmp_path)
    with pytest.raises(UserError, match="below"):
        (tmp_path / "below").write_bytes(VALID)
        midi.read(tmp_path / "below" / "song.mid")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    large = tmp_path / "large.mid"
    with open(large, "wb") as file:
        file.write(VALID)
        file.truncate(2**40)  # sparse: a terabyte that takes no room
    with pytest.raises(UserError, match=r"large\.mid: 1048576 MiB long; up to 1 MiB"):
        midi.read(large)


def test_a_piece_of_the_longest_length_is_read(path):
    """The limits are not one off: 10,000 beats of .36 s, and marks far behind the last note."""
    content = tempo(0, 360_000) + on(9_999, 60) + off(1, 60)
    content += tempo(FAR // 2, 10_000) + meter(FAR // 4, 3, 4)
    score = read(path, smf(content, resolution=1))
    np.testing.assert_allclose(score.seconds(score.end), 3600)
    assert score.end == 10_000 and len(score.bar_lines) == 2_501


def survive(path, content: bytes) -> None:
    """The file is refused with a message, or read to the end; no other exception, little memory."""
    tracemalloc.start()
    try:
        score = read(path, content)
        bars = score.bar_lines[:-1]
        assert np.all(np.diff(bars) > 0) and np.isfinite(score.seconds(score.end))
        for part in score.parts:
            assert np.all(part.notes[:, 0] < part.notes[:, 1])
            midi.quantise(part.notes, score.ticks_per_beat / 4)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_file_cut_off_anywhere(path):
    survive(path, VALID)
    for length in range(len(VALID)):
        survive(path, VALID[:length])


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(st.integers(4, len(VALID) - 1), st.integers(0, 255), min_size=1, max_size=8))
def test_a_file_with_wrong_bytes(path, wrong):
    content = bytearray(VALID)
    for position, byte in wrong.items():
        content[position] = byte
    survive(path, bytes(content))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(1, 960))
def test_a_track_of_random_bytes(path, content, resolution):
    survive(path, smf(content, resolution=resolution))
