"""The reader of Palestrina's masses: small kern files made here, and the installed corpus."""

import shutil

import numpy as np
import pytest

from musegan_jax import config as configs
from musegan_jax import pianoroll
from musegan_jax.data import midi, sources
from musegan_jax.data.batches import make_windows
from musegan_jax.data.readers import palestrina, scores
from musegan_jax.data.readers.chorales import installed_folder
from musegan_jax.errors import UserError

VOICES = "!Bassus\t!Tenor\t!Altus\t!Cantus"
BAR = "0r\t0r\t0r\t0c"


def kern(*rows: str, mass: str = "Missa prima", voices: str = VOICES, meter: str = "*M4/2") -> str:
    """A movement; a row has a token of Bassus, Tenor, Altus and Cantus."""
    meters = "\t".join([meter] * 4)
    head = [f"!!!OPR: {mass}", "\t".join(["**kern"] * 4), voices, meters, "=1\t=1\t=1\t=1"]
    return "\n".join([*head, *rows, "==\t==\t==\t==", "*-\t*-\t*-\t*-", "!!!YEC: nobody"])


def read(tmp_path, **movements: str):
    for name, text in movements.items():
        (tmp_path / f"{name}.krn").write_text(text)
    return palestrina.read_palestrina(tmp_path)


def notes(dataset, piece: int, track: int) -> list[list[int]]:
    return pianoroll.runs(pianoroll.unpack(dataset.packed(piece))[:, :, track]).tolist()


def test_lengths_octaves_accidentals_and_ties(tmp_path):
    """A whole note is eight steps; c is middle C."""
    rows = [
        "1CC\t2.cc#\t[2b-\t1r",
        ".\t.\t2b-_\t.",
        ".\t4r\t.\t.",
        "2D\t8e\t4b-]\t1ff",
        ".\t8f\t.\t.",
        ".\t4g\t4r\t.",
        "2E-\t2a\t2a\t.",
        "=2\t=2\t=2\t=2",
        "0C\t0r\t1.an\t0f",
        ".\t.\t2r\t.",
    ]
    built, skipped = read(tmp_path, Kyrie=kern(*rows))
    assert not skipped and built.names == ("Missa prima/Kyrie",)
    assert [track.name for track in built.tracks] == ["Cantus", "Altus", "Tenor", "Bassus"]
    assert notes(built, 0, 0) == [[8, 16, 77], [16, 32, 65]]
    assert notes(built, 0, 1) == [[0, 10, 70], [12, 28, 69]]
    assert notes(built, 0, 2) == [[0, 6, 73], [8, 9, 64], [9, 10, 65], [10, 12, 67], [12, 16, 69]]
    assert notes(built, 0, 3) == [[0, 8, 36], [8, 12, 50], [12, 16, 51], [16, 32, 48]]
    assert built.bars.tolist() == [0, 16] and len(built.timeline) == 32


REASONS = {
    "not the four voices": kern(BAR, voices=VOICES.replace("Bassus", "Tenor 2")),
    "not in 4/2": kern(BAR, meter="*M3/2"),
    "not on the grid": kern("16r\t16r\t16r\t16c", "16r\t16r\t16r\t16c"),
    "different lengths": kern("0r\t0r\t0r\t1c"),
    "bars of different": kern("1r\t1r\t1r\t1c", "=2\t=2\t=2\t=2", BAR, "=3\t=3\t=3\t=3", BAR),
    "voices that divide": kern("*^\t*\t*\t*", BAR),
    "overlaps itself": kern("0r\t0r\t0r\t1c", "1r\t.\t.\t.", "1r\t.\t.\t."),
    "not read (0c 0e)": kern("0r\t0r\t0r\t0c 0e"),
    "no notes": kern("0r\t0r\t0r\t0r"),
    "outside": kern("0r\t0r\t0r\t0" + "c" * 9),
    "longest": kern("\t".join(["0" * 16 + "c"] * 4)),
    "not readable as kern": kern("0r\t0r\t0r\t0c\t0d"),
}


@pytest.mark.parametrize("why", REASONS)
def test_other_movements_are_skipped_and_named(tmp_path, why):
    built, skipped = read(tmp_path, good=kern(BAR), bad=REASONS[why])
    assert built.names == ("Missa prima/good",)
    assert [each.name for each in skipped] == ["bad.krn"] and why in skipped[0].reason


def test_movements_of_a_mass_are_in_one_split(tmp_path):
    masses = [f"Missa {n}" for n in range(40)]
    movements = {
        f"{kind}_{n}": kern(BAR, mass=mass + suffix)
        for n, mass in enumerate(masses)
        for kind, suffix in (("Kyrie", " (1570)"), ("Gloria", ""), ("Credo", " (II)"))
    }
    built, _ = read(tmp_path, **movements)
    splits = {}
    for name, split in zip(built.names, built.split.tolist(), strict=True):
        splits.setdefault(name.split("/")[0].split(" (")[0], set()).add(split)
    assert len(splits) == 40 and all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {0, 1, 2}


@pytest.mark.slow
def test_the_installed_corpus_as_music21_reads_it(tmp_path):
    """All movements; three of them note for note and bar for bar."""
    pytest.importorskip("music21")
    built = sources.load("palestrina")
    assert len(built.names) == 288 and np.bincount(built.split).tolist() == [249, 10, 29]
    assert len(make_windows(built, configs.load("palestrina")).starts) == 15403
    for piece in (3, 100, 200):
        path = installed_folder("palestrina") / f"{built.names[piece].split('/')[1]}.krn"
        score = scores.read(shutil.copy(path, tmp_path))[0]
        per_step = score.ticks_per_beat / 2  # its quarter note is half a beat
        for track, part in enumerate(score.parts):
            roll = midi.to_roll(midi.quantise(part.notes, per_step), len(built.packed(piece)))
            assert pianoroll.runs(roll).tolist() == notes(built, piece, track)
        bars = midi.quantise_ticks(score.bar_lines, per_step)[:-1]
        assert (bars + built.boundaries[piece]).tolist() == built.bars_of(piece).tolist()


def test_without_a_usable_movement_it_fails_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no piece could be used"):
        palestrina.read_palestrina(tmp_path)
