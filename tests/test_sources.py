"""Readers: what becomes a piece, and that everything else is named, never fatal."""

import os
import sys

import mido
import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.data import dataset, midi
from musegan_jax.data.readers import midi_folder, songs
from musegan_jax.data.readers import skipped as reports
from musegan_jax.errors import UserError

RESOLUTION = 480


def write_song(path, *parts, head=()) -> None:
    """A type 1 file; a part is `(name, channel, program, notes)`, notes `(start, end, pitch)`."""
    file = mido.MidiFile(type=1, ticks_per_beat=RESOLUTION)
    file.tracks = [mido.MidiTrack(head)]
    for name, channel, program, notes in parts:
        rows = np.array([(*note, 90) for note in notes], np.int64).reshape(-1, 4)
        file.tracks.append(midi.note_track(name, channel, program, rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(path)


def line(pitch: int, beats: int = 4) -> list[tuple[int, int, int]]:
    """A quarter note of one pitch on every beat."""
    return [(RESOLUTION * b, RESOLUTION * (b + 1), pitch) for b in range(beats)]


def read_midi_folder(folder, parts, steps_per_beat, melody=None) -> songs.Reading:
    options = songs.Options(parts, steps_per_beat, melody)
    return midi_folder.read_folder(folder, midi_folder.MIDI, options)


def rolls(built: dataset.Dataset, name: str) -> np.ndarray:
    """Bool `(T, 128, K)` of the piece of that name."""
    n = built.names.index(name)
    return pianoroll.unpack(built.timeline[built.boundaries[n] : built.boundaries[n + 1]])


def sounding(roll: np.ndarray, track: int) -> list[int]:
    return np.flatnonzero(roll[:, :, track].any(axis=0)).tolist()


def test_parts_mode_takes_the_first_pitched_parts(tmp_path):
    drums = ("Kit", 9, 0, line(38))
    voices = [("Flute", 0, 73, line(72)), drums, ("Viola", 1, 41, line(60)), ("Bass", 2, 32, [])]
    write_song(tmp_path / "b.mid", *voices)
    write_song(tmp_path / "deep" / "er" / "A.MID", *voices, ("Third", 3, 0, line(48, beats=5)))
    write_song(tmp_path / "deep" / "c.Midi", *voices[::-1])
    write_song(tmp_path / "solo.mid", voices[0], drums)
    write_song(tmp_path / "silent.mid")
    (tmp_path / "broken.mid").write_bytes(b"MThd\0")
    (tmp_path / "empty.midi").touch()
    (tmp_path / "readme.txt").write_text("not music")
    os.symlink(tmp_path / "gone.mid", tmp_path / "link.mid")
    built, skipped, _ = read_midi_folder(tmp_path, 2, 4)
    assert built.names == ("b.mid", "deep/c.Midi", "deep/er/A.MID")
    # The names that most files have; in the third file the flute comes last.
    assert built.tracks == (("Flute", 73, False), ("Viola", 41, False))  # the melody first
    assert built.steps_per_beat == 4
    roll = rolls(built, "b.mid")
    assert roll.shape == (16, 128, 2)
    assert roll[:, 72, 0].all() and roll[:, 60, 1].all() and roll.sum() == 32
    # The third part is no track, but its fifth beat opens a second bar of the song.
    assert rolls(built, "deep/er/A.MID").shape == (16, 128, 2)
    reasons = dict(skipped)
    assert sorted(reasons) == ["broken.mid", "empty.midi", "link.mid", "silent.mid", "solo.mid"]
    assert reasons["solo.mid"] == "1 pitched parts; 2 are wanted"
    assert reasons["silent.mid"] == "no notes"
    assert reasons["link.mid"] == "no such file"
    assert "damaged" in reasons["broken.mid"] and "empty" in reasons["empty.midi"]
    assert str(tmp_path) not in "".join(reasons.values())


def test_parts_without_telling_names_are_numbered(tmp_path):
    write_song(tmp_path / "a.mid", ("", 0, 5, line(60)), ("", 1, 6, line(50)))
    write_song(tmp_path / "b.mid", ("Same", 0, 7, line(60)), ("Same", 1, 6, line(50)))
    write_song(tmp_path / "c.mid", ("", 0, 5, line(60)), ("Same", 1, 6, line(50)))
    built, _, _ = read_midi_folder(tmp_path, 2, 4)
    assert built.tracks == (("Part 1", 5, False), ("Part 2", 6, False))


def test_the_family_rule_of_lpd_5():
    """`data_sources.md`: drum flag; program // 8; below 96 and 104 to 111 to Strings; else none."""

    def families(programs, channel=0):
        part = [midi.Part("", 0, channel, p, np.zeros((0, 4), np.int64)) for p in programs]
        return {songs.FAMILIES[k].name if k is not None else None for k in map(songs.family, part)}

    assert families(range(128), channel=9) == {"Drums"}
    assert families(range(8)) == {"Piano"}
    assert families(range(24, 32)) == {"Guitar"}
    assert families(range(32, 40)) == {"Bass"}
    assert families([*range(8, 24), *range(40, 96), *range(104, 112)]) == {"Strings"}
    assert families([*range(96, 104), *range(112, 128)]) == {None}
    assert [track.is_drum for track in songs.FAMILIES] == [False] * 4 + [True]


def test_families_mode_merges_by_maximum(tmp_path):
    write_song(
        tmp_path / "band.mid",
        ("a", 0, 0, line(60)),
        ("b", 1, 7, line(64, beats=2) + line(60, beats=1)),  # also a piano
        ("c", 2, 30, line(55)),
        ("d", 3, 73, line(79)),  # a flute: Strings
        ("e", 4, 120, line(40)),  # guitar fret noise: dropped
        ("f", 9, 0, line(36)),
    )
    write_song(tmp_path / "drums.mid", ("f", 9, 0, line(36)))
    # Only drums are left of it, because it is damaged.
    write_song(tmp_path / "cut.mid", ("f", 9, 0, line(36)), ("Lead", 0, 0, line(60)))
    content = (tmp_path / "cut.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(content[: content.index(b"Lead")])
    write_song(tmp_path / "noise.mid", ("e", 4, 120, line(40)))
    write_song(tmp_path / "silent.mid", ("e", 4, 120, []))
    built, skipped, remarks = read_midi_folder(tmp_path, None, 2)
    assert [track.name for track in built.tracks] == ["Melody", "Piano", "Guitar", "Drums"]
    assert "left out, as no file has notes for them: Bass, Strings" in remarks
    assert built.tracks[0].program == 73 and built.tracks[3].is_drum
    roll = rolls(built, "band.mid")
    assert roll.shape == (8, 128, 4)  # two steps a beat
    assert [sounding(roll, k) for k in range(4)] == [[79], [60, 64], [55], [36]]
    assert roll[:, 60, 1].all() and roll[:, 64, 1].tolist() == [True] * 4 + [False] * 4
    assert skipped == [
        ("cut.mid", "damaged: only drums left"),
        ("drums.mid", "drums only, no melody"),
        ("silent.mid", "no notes"),
    ]


def pop(path, name="Lead", late=0, second="Guitar") -> None:
    """Bass, chords, drums and, last, the melody, which may enter late."""
    chords = [(s, e, p) for s, e, _ in line(0, 16) for p in (55, 59, 62)]
    write_song(
        path,
        ("Bass", 0, 33, line(40, 16)),
        (second, 1, 25, chords),
        ("Drums", 9, 0, line(36, 16)),
        (name, 2, 80, line(74, 16)[late:]),
    )


@pytest.mark.parametrize("parts", [None, 3])
def test_the_melody_is_on_the_first_track_of_every_layout(tmp_path, parts):
    """Wherever it is in the file: the network learns to answer to the first track."""
    pop(tmp_path / "a.mid")
    pop(tmp_path / "b.mid", "Vocals", late=8)
    pop(tmp_path / "c.mid", "Guitar")
    built, _, remarks = read_midi_folder(tmp_path, parts, 4)
    for name in "abc":
        assert sounding(rolls(built, f"{name}.mid"), 0) == [74]
    assert sounding(rolls(built, "a.mid"), 1) == ([55, 59, 62] if parts is None else [40])
    assert remarks[0] == (
        "melody: of 3 files, the track Lead in 1, Vocals in 1, Guitar in 1 (another: --melody)"
    )
    assert (
        remarks[1].startswith("1 file has several tracks with its name") and "c.mid" in remarks[1]
    )


def test_the_melody_may_be_named_or_numbered(tmp_path):
    pop(tmp_path / "a.mid")
    pop(tmp_path / "b.mid", "Solo")
    built, skipped, _ = read_midi_folder(tmp_path, None, 4, "lead")
    assert built.names == ("a.mid",) and skipped == [("b.mid", "no track 'lead'")]
    built, skipped, _ = read_midi_folder(tmp_path, 2, 4, "1")
    assert [sounding(rolls(built, "b.mid"), k) for k in (0, 1)] == [[40], [55, 59, 62]]
    with pytest.raises(UserError, match=r"none of 2 MIDI files .* a\.mid: no track 'Flute'"):
        read_midi_folder(tmp_path, None, 4, "Flute")


def test_of_a_piano_the_melody_is_the_right_hand(tmp_path):
    """And the left hand is another track, so that a folder of piano pieces can be learnt."""
    left = [(s, e, p) for s, e, _ in line(0, 16) for p in (40, 47)]
    write_song(tmp_path / "a.mid", ("Piano", 0, 0, line(76, 16)[:8] + left))
    built, _, remarks = read_midi_folder(tmp_path, None, 4)
    assert [track.name for track in built.tracks] == ["Melody", "Piano"]
    roll = rolls(built, "a.mid")
    assert sounding(roll, 0) == [76] and sounding(roll, 1) == [40, 47]
    assert roll[:, 76, 0].sum() == 32 and roll[:, 40, 1].all()
    assert any("chords or a left hand" in line for line in remarks)


def test_a_damaged_file_is_read_and_named(tmp_path):
    pop(tmp_path / "a.mid")
    content = (tmp_path / "a.mid").read_bytes()
    (tmp_path / "a.mid").write_bytes(content[:-20])
    built, skipped, remarks = read_midi_folder(tmp_path, None, 4)
    assert not skipped and sounding(rolls(built, "a.mid"), 0) == [74]
    assert "1 file has damage, read as far as possible: a.mid" in remarks


def test_bars_and_length_follow_the_meter(tmp_path):
    head = [
        mido.MetaMessage("time_signature", numerator=3, denominator=4),
        mido.MetaMessage("time_signature", numerator=4, denominator=4, time=3 * RESOLUTION),
    ]
    # One bar of 3/4, one and a bit of 4/4: the last bar is filled up.
    write_song(tmp_path / "x.mid", ("", 0, 0, line(60, beats=8)), head=head)
    built, _, _ = read_midi_folder(tmp_path, 1, 4)
    assert built.bars.tolist() == [0, 12, 28]
    assert len(built.timeline) == 12 + 16 + 16
    assert rolls(built, "x.mid")[:, 60, 0].sum() == 32


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are always text")
def test_a_name_that_is_no_text_is_a_name(tmp_path):
    """Old archives hold names in old encodings; they are read, reported and hashed all the same."""
    for name, content in ((b"caf\xe9.mid", None), (b"bl\xf6d.mid", b"MThd")):
        path = os.path.join(os.fsencode(tmp_path), name)
        write_song(tmp_path / "temporary", ("", 0, 0, line(60)))
        os.rename(tmp_path / "temporary", path)
        if content:
            with open(path, "wb") as file:
                file.write(content)
    built, skipped, _ = read_midi_folder(tmp_path, 1, 4)
    assert built.names == ("caf\\udce9.mid",)
    assert [name for name, _ in skipped] == ["bl\\udcf6d.mid"]
    dataset.save(built, tmp_path / "data.npz")
    assert dataset.load(tmp_path / "data.npz").names == built.names
    reports.write_report(skipped, tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8").startswith("bl\\udcf6d.mid: ")


def test_folders_that_give_nothing(tmp_path):
    with pytest.raises(UserError, match="missing: no such folder"):
        read_midi_folder(tmp_path / "missing", 2, 4)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no \.mid or \.midi file"):
        read_midi_folder(tmp_path, 2, 4)
    with pytest.raises(UserError, match="not a folder; give a folder of MIDI files"):
        read_midi_folder(tmp_path / "notes.txt", 2, 4)
    (tmp_path / "a.mid").write_bytes(b"x")
    write_song(tmp_path / "b.mid", ("", 0, 0, line(60)))
    with pytest.raises(UserError, match=r"none of 2 MIDI files .* a\.mid: not a MIDI file"):
        read_midi_folder(tmp_path, 2, 4)


def test_the_report_names_every_skipped_file(tmp_path):
    skipped = [reports.Skipped(f"{n}.mid", "empty") for n in range(5)]
    skipped.append(reports.Skipped("x.mid", "type 2"))
    assert list(reports.summarise(skipped)) == [
        "skipped 5: empty (0.mid, 1.mid, 2.mid, ...)",
        "skipped 1: type 2 (x.mid)",
    ]
    reports.write_report(skipped, tmp_path / "report.txt")
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert lines == [f"{name}: {reason}" for name, reason in skipped]
    with pytest.raises(UserError, match="cannot be written"):
        reports.write_report(skipped, tmp_path / "report.txt" / "below.txt")
