"""Readers: what becomes a piece, and that everything else is named, never fatal."""

import io
import os
import sys
import zipfile

import mido
import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.data import dataset, midi, sources
from musegan_jax.errors import UserError

RESOLUTION = 480

# --- A folder of MIDI files ---------------------------------------------------------------------


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
    built, skipped = sources.read_midi_folder(tmp_path, 2, 4)
    assert built.names == ("b.mid", "deep/c.Midi", "deep/er/A.MID")
    # The names that most files have; the third file has them the other way round.
    assert built.tracks == (("Flute", 73, False), ("Viola", 41, False))
    assert built.steps_per_beat == 4
    roll = rolls(built, "b.mid")
    assert roll.shape == (16, 128, 2)
    assert roll[:, 72, 0].all() and roll[:, 60, 1].all() and roll.sum() == 32
    # The third part is no track, but its fifth beat opens a second bar of the song.
    assert rolls(built, "deep/er/A.MID").shape == (16, 128, 2)
    reasons = dict(skipped)
    assert sorted(reasons) == ["broken.mid", "empty.midi", "link.mid", "silent.mid", "solo.mid"]
    assert reasons["solo.mid"] == "1 pitched parts; 2 are wanted"
    assert reasons["silent.mid"] == "0 pitched parts; 2 are wanted"
    assert reasons["link.mid"] == "no such file"
    assert "damaged" in reasons["broken.mid"] and "empty" in reasons["empty.midi"]
    assert str(tmp_path) not in "".join(reasons.values())


def test_parts_without_telling_names_are_numbered(tmp_path):
    write_song(tmp_path / "a.mid", ("", 0, 5, line(60)), ("", 1, 6, line(50)))
    write_song(tmp_path / "b.mid", ("Same", 0, 7, line(60)), ("Same", 1, 6, line(50)))
    write_song(tmp_path / "c.mid", ("", 0, 5, line(60)), ("Same", 1, 6, line(50)))
    built, _ = sources.read_midi_folder(tmp_path, 2, 4)
    assert built.tracks == (("Part 1", 5, False), ("Part 2", 6, False))


def test_the_family_rule_of_lpd_5():
    """`data_sources.md`: drum flag; program // 8; below 96 and 104 to 111 to Strings; else none."""

    def families(programs, channel=0):
        part = [midi.Part("", 0, channel, p, np.zeros((0, 4), np.int64)) for p in programs]
        return {
            sources.FAMILIES[k].name if k is not None else None for k in map(sources.family, part)
        }

    assert families(range(128), channel=9) == {"Drums"}
    assert families(range(8)) == {"Piano"}
    assert families(range(24, 32)) == {"Guitar"}
    assert families(range(32, 40)) == {"Bass"}
    assert families([*range(8, 24), *range(40, 96), *range(104, 112)]) == {"Strings"}
    assert families([*range(96, 104), *range(112, 128)]) == {None}
    assert [track.is_drum for track in sources.FAMILIES] == [False] * 4 + [True]


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
    write_song(tmp_path / "noise.mid", ("e", 4, 120, line(40)))
    write_song(tmp_path / "silent.mid", ("e", 4, 120, []))
    built, skipped = sources.read_midi_folder(tmp_path, None, 2)
    assert built.tracks == sources.FAMILIES
    roll = rolls(built, "band.mid")
    assert roll.shape == (8, 128, 5)  # two steps a beat
    assert [sounding(roll, k) for k in range(5)] == [[60, 64], [55], [], [79], [36]]
    assert roll[:, 60, 0].all() and roll[:, 64, 0].tolist() == [True] * 4 + [False] * 4
    assert sounding(rolls(built, "drums.mid"), 4) == [36]
    assert skipped == [
        ("noise.mid", "no notes of a family that is kept"),
        ("silent.mid", "no notes"),
    ]


def test_bars_and_length_follow_the_meter(tmp_path):
    head = [
        mido.MetaMessage("time_signature", numerator=3, denominator=4),
        mido.MetaMessage("time_signature", numerator=4, denominator=4, time=3 * RESOLUTION),
    ]
    # One bar of 3/4, one and a bit of 4/4: the last bar is filled up.
    write_song(tmp_path / "x.mid", ("", 0, 0, line(60, beats=8)), head=head)
    built, _ = sources.read_midi_folder(tmp_path, 1, 4)
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
    built, skipped = sources.read_midi_folder(tmp_path, 1, 4)
    assert built.names == ("caf\\udce9.mid",)
    assert [name for name, _ in skipped] == ["bl\\udcf6d.mid"]
    dataset.save(built, tmp_path / "data.npz")
    assert dataset.load(tmp_path / "data.npz").names == built.names
    sources.write_report(skipped, tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8").startswith("bl\\udcf6d.mid: ")


def test_folders_that_give_nothing(tmp_path):
    with pytest.raises(UserError, match="missing: no such folder"):
        sources.read_midi_folder(tmp_path / "missing", 2, 4)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no \.mid or \.midi file"):
        sources.read_midi_folder(tmp_path, 2, 4)
    with pytest.raises(UserError, match="no such folder"):
        sources.read_midi_folder(tmp_path / "notes.txt", 2, 4)
    (tmp_path / "a.mid").write_bytes(b"x")
    write_song(tmp_path / "b.mid", ("", 0, 0, line(60)))
    with pytest.raises(UserError, match=r"none of 2 MIDI files .* a\.mid: not a MIDI file"):
        sources.read_midi_folder(tmp_path, 2, 4)


def test_the_report_names_every_skipped_file(tmp_path):
    skipped = [sources.Skipped(f"{n}.mid", "empty") for n in range(5)]
    skipped.append(sources.Skipped("x.mid", "type 2"))
    assert list(sources.summarise(skipped)) == [
        "skipped 5: empty (0.mid, 1.mid, 2.mid, ...)",
        "skipped 1: type 2 (x.mid)",
    ]
    sources.write_report(skipped, tmp_path / "report.txt")
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert lines == [f"{name}: {reason}" for name, reason in skipped]
    with pytest.raises(UserError, match="cannot be written"):
        sources.write_report(skipped, tmp_path / "report.txt" / "below.txt")


# --- Chorales -----------------------------------------------------------------------------------

COMMON_TIME = "<time><beats>4</beats><beat-type>4</beat-type></time>"


def note(pitch: str, length: int, extra: str = "") -> str:
    """`"C4"`, `"F#3"`, `"Bb2"` or `"rest"`; `length` in divisions, of which a beat has 4."""
    if pitch == "rest":
        what = "<rest/>"
    else:
        alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>"}.get(pitch[1:-1], "")
        what = f"<pitch><step>{pitch[0]}</step>{alter}<octave>{pitch[-1]}</octave></pitch>"
    return f"<note>{extra}{what}<duration>{length}</duration></note>"


def shift(kind: str, length: int) -> str:
    return f"<{kind}><duration>{length}</duration></{kind}>"


def score(voices: list[list[str]], time: str = COMMON_TIME, divisions: int = 4) -> str:
    """MusicXML of Soprano, Alto, Tenor, Bass; a voice is the contents of its measures."""
    names = [track.name for track in sources.CHORALE_TRACKS]
    listed = "".join(f"<score-part><part-name>{name}</part-name></score-part>" for name in names)
    attributes = f"<attributes><divisions>{divisions}</divisions>{time}</attributes>"
    parts = "".join(
        "<part>"
        + "".join(
            f"<measure>{attributes if n == 0 else ''}{content}</measure>"
            for n, content in enumerate(voice)
        )
        + "</part>"
        for voice in voices
    )
    return f"<score-partwise><part-list>{listed}</part-list>{parts}</score-partwise>"


def like(measures: list[str], **kwargs) -> str:
    """All four voices the same."""
    return score([measures] * 4, **kwargs)


def zipped(xml: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        root = '<container><rootfiles><rootfile full-path="the score.xml"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", root)
        archive.writestr("the score.xml", xml)
    return buffer.getvalue()


def read(folder, **scores) -> tuple[dataset.Dataset, dict[str, str]]:
    for name, content in scores.items():
        (folder / f"{name}.mxl").write_bytes(
            content if isinstance(content, bytes) else zipped(content)
        )
    built, skipped = sources.read_chorales(folder)
    return built, dict(skipped)


WHOLE = note("C4", 16)


def test_pitches_rests_ties_and_second_voices(tmp_path):
    tied = note("F#5", 8, '<tie type="start"/>'), note("F#5", 4, '<tie type="stop"/>')
    soprano = ["".join(tied) + note("rest", 4), note("Bb4", 16)]
    # A second voice: back to the second beat, a note there, on over the third.
    alto = [WHOLE + shift("backup", 12) + note("E4", 4) + shift("forward", 8), WHOLE]
    tenor = [note("B#3", 16) + note("Cb3", 16, "<chord/>"), note("G3", 16, "<grace/>") + WHOLE]
    bass = ["<direction/>" + note("rest", 16), note("C2", 16)]
    built, skipped = read(tmp_path, bwv1=score([soprano, alto, tenor, bass]))
    assert built.names == ("bwv1",) and not skipped
    assert built.tracks == sources.CHORALE_TRACKS and built.bars.tolist() == [0, 16]
    wanted = np.zeros((32, 128, 4), bool)
    wanted[:12, 78, 0] = True  # the tie: one note of three beats
    wanted[16:, 70, 0] = True
    wanted[:, 60, 1] = True
    wanted[4:8, 64, 1] = True
    wanted[:16, [60, 47], 2] = True  # B sharp is C of the next octave, C flat the B below
    wanted[16:, 60, 2] = True
    wanted[16:, 36, 3] = True
    np.testing.assert_array_equal(rolls(built, "bwv1"), wanted)


def test_which_measures_begin_bars(tmp_path):
    beat, three, bar = note("C4", 4), note("D4", 12), note("E4", 16)
    starts = {
        "pick_up": ([beat, bar, three], [4, 20]),
        # A repeat sign after the third beat cuts a bar in 12 + 4 steps.
        "repeat": ([beat, bar, three, beat, bar, three], [4, 20, 36, 52]),
        "repeat_first": ([bar, three, beat, three, beat, bar], [0, 16, 32, 48]),
        # Two short measures that make no bar together both begin one.
        "short": ([bar, three, three, bar], [0, 16, 28, 40]),
    }
    built, _ = read(tmp_path, **{name: like(measures) for name, (measures, _) in starts.items()})
    for n, name in enumerate(built.names):
        found = built.bars_of(n) - built.boundaries[n]
        assert found.tolist() == starts[name][1], name


def test_divisions_are_those_of_the_file(tmp_path):
    built, skipped = read(
        tmp_path,
        # 6 divisions a beat: an eighth has 3. A sixteenth would have 1.5, a triplet is off.
        eighths=like([note("C4", 3) + note("D4", 21)], divisions=6),
        triplets=like([note("C4", 2) + note("D4", 22)], divisions=6),
    )
    assert built.names == ("eighths",)
    assert rolls(built, "eighths")[:, 60, 0].sum() == 2
    assert skipped == {"triplets.mxl": "not on the grid of sixteenths"}


def test_what_is_not_used_is_skipped_with_its_reason(tmp_path):
    good = zipped(like([WHOLE]))
    three_four = COMMON_TIME.replace("<beats>4", "<beats>3")
    cases = {
        "waltz": (like([WHOLE], time=three_four), "not in 4/4"),
        "later": (like([WHOLE, f"<attributes>{three_four}</attributes>" + WHOLE]), "not in 4/4"),
        "duet": (like([WHOLE]).replace("Tenor", "Organ"), "Soprano, Alto, Tenor, Bass"),
        "uneven": (score([[WHOLE]] * 3 + [[note("C4", 12)]]), "bars differ"),
        "three": (score([[WHOLE]] * 3), "Soprano, Alto, Tenor, Bass"),
        "none": (score([]), "Soprano, Alto, Tenor, Bass"),
        "nothing": (like([]), "no notes"),
        "silent": (like([note("rest", 16)]), "no notes"),
        "high": (like([WHOLE.replace("<octave>4", "<octave>10")]), "outside"),
        "low": (like([WHOLE.replace("<octave>4", "<octave>-3")]), "outside"),
        "before": (like([shift("backup", 16) + WHOLE]), "outside"),
        "eternal": (like([note("rest", 10**15) + WHOLE]), "outside"),
        "words": (like([WHOLE.replace("16", "long")]), "not readable"),
        "step": (like([WHOLE.replace("<step>C", "<step>H")]), "not readable"),
        "zero": (like([WHOLE], divisions=0), "not readable"),
        "xml": (like([WHOLE])[:-9], "not readable"),
        "text": (b"not a zip", "not readable"),
        "empty": (b"", "not readable"),
        "cut": (good[:-30], "not readable"),
    }
    built, skipped = read(
        tmp_path, **{name: content for name, (content, _) in cases.items()}, good=good
    )
    assert built.names == ("good",)
    assert skipped.keys() == {f"{name}.mxl" for name in cases}
    for name, (_, why) in cases.items():
        assert why in skipped[f"{name}.mxl"], name


def test_a_damaged_archive_is_skipped_wherever_the_damage_is(tmp_path):
    good = zipped(like([WHOLE]))
    (tmp_path / "a good one.mxl").write_bytes(good)
    for position in range(len(good)):
        wrong = bytearray(good)
        wrong[position] ^= 0b0101_1101
        built, skipped = read(tmp_path, wrong=bytes(wrong))
        assert len(built.names) + len(skipped) == 2  # unharmed, where the byte means nothing


def test_no_chorales(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no piece could be used"):
        sources.read_chorales(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'musegan-jax\[chorales\]'"):
        sources.read_chorales()


def test_the_installed_chorales():
    """The counts of `data_sources.md`: a music21 that brings other music should be noticed."""
    built, skipped = sources.read_chorales()
    assert (len(built.names), len(skipped)) == (323, 85)
    assert (np.diff(built.boundaries) // 32).sum() == 2_072  # disjoint windows of two bars
