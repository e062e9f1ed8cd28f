"""The reader of Bach's chorales: small MusicXML files made here, and the installed corpus."""

import io
import zipfile

import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.data import dataset
from musegan_jax.data.readers import chorales
from musegan_jax.errors import UserError


def rolls(built: dataset.Dataset, name: str) -> np.ndarray:
    """Bool `(T, 128, K)` of the piece of that name."""
    n = built.names.index(name)
    return pianoroll.unpack(built.timeline[built.boundaries[n] : built.boundaries[n + 1]])


def sounding(roll: np.ndarray, track: int) -> list[int]:
    return np.flatnonzero(roll[:, :, track].any(axis=0)).tolist()


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
    names = [track.name for track in chorales.TRACKS]
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
    built, skipped = chorales.read_chorales(folder)
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
    assert built.tracks == chorales.TRACKS and built.bars.tolist() == [0, 16]
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
        chorales.read_chorales(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install music21"):
        chorales.read_chorales()


@pytest.mark.slow
def test_the_installed_chorales():
    """The counts of `data_sources.md`: a music21 that brings other music should be noticed."""
    built, skipped = chorales.read_chorales()
    assert (len(built.names), len(skipped)) == (323, 85)
    assert (np.diff(built.boundaries) // 32).sum() == 2_072  # disjoint windows of two bars
