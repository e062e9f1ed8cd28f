"""Hostile files: each is refused in one clear line, and a folder that holds them still builds.

`proofs/readers.py` is the longer form: random changes of good files of every format.
"""

import io
import json
import os
import re
import sys
import tracemalloc
import zipfile

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from musegan_jax import limits
from musegan_jax.data.readers import jsb, lpd, midi_folder, musegan, scores
from musegan_jax.data.readers.songs import NO_MELODY, Options
from musegan_jax.errors import UserError
from test_formats import ABC, band, write_lpd, write_phrases

OPTIONS = Options(melody=NO_MELODY, families=lpd.FIVE)
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refused(read, path) -> str:
    """The line with which a reader refuses a file."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    assert peak < 100 * 2**20, f"{peak >> 20} MiB"
    return line


def zipped(path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)


def header(shape: str, descr: str = "|b1") -> bytes:
    """An array's header, which may claim anything, without the array."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": eval(shape)}
    )
    return buffer.getvalue()


def lpd_with(path, track=None, about=None, info=None, **changes) -> None:
    """A file of one track, some of it changed."""
    about = {"program": 0, "is_drum": False, "name": "a"} | (about or {})
    info = {"resolution": 24, "0": about} | (info or {})
    content = {"pianoroll_0": np.ones((24, 128), bool) if track is None else track} | changes
    np.savez_compressed(path, **content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("info.json", json.dumps(info))


LPD = {
    "not a zip": (lambda p: p.write_bytes(b"\x93NUMPY"), "not readable"),
    "no info": (lambda p: np.savez(p, a=np.zeros(3)), "not of pypianoroll"),
    "info is a list": (lambda p: zipped(p, info_json=b"[1]"), "not readable"),
    "bomb": (lambda p: zipped(p, a_npy=bytes(65 * 2**20)), "more than music does"),
    "claims a terabyte": (
        lambda p: zipped(p, info_json=b"{}", a_npy=header("(2**40,)")), "not what its header says"
    ),
    "objects": (
        lambda p: lpd_with(p, np.array([{}], object)), "holds Python objects"
    ),
    "wrong shape": (lambda p: lpd_with(p, np.ones((24, 84), bool)), r"shape \(24, 84\)"),
    "flat": (lambda p: lpd_with(p, np.ones(24, bool)), "shape"),
    "text": (lambda p: lpd_with(p, np.full((24, 128), "x")), "velocities"),
    "too long": (lambda p: lpd_with(p, np.zeros((240_001, 128), bool)), "up to 240000"),
    "resolution 0": (lambda p: lpd_with(p, info={"resolution": 0}), "a resolution of 0"),
    "resolution text": (lambda p: lpd_with(p, info={"resolution": "24"}), "a resolution of 24"),
    "program": (lambda p: lpd_with(p, about={"program": 128}), "program or drum flag"),
    "no such track": (
        lambda p: lpd_with(p, info={"7": {"program": 0, "is_drum": False, "name": ""}}),
        "it has no pianoroll_7",
    ),
    "thousands of tracks": (
        lambda p: lpd_with(p, info={str(n): {} for n in range(5000)}), "5000 tracks"
    ),
    "silence": (lambda p: lpd_with(p, np.zeros((24, 128))), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LPD)
def test_lpd_files_that_are_refused(tmp_path, case):
    make, words = LPD[case]
    path = tmp_path / "x.npz"
    make(path)
    if words is None:
        assert not lpd.read(path).parts
    else:
        line = refused(lpd.read, path)
        assert re.search(words, line), line


CSC = ("data", "indices", "indptr", "shape")


@QUICK
@given(
    part=st.sampled_from(CSC),
    array=arrays.arrays(
        st.sampled_from(["i8", "i4", "u1", "f8", "?"]),
        arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=130),
        elements=st.sampled_from([0, 1]),
    ),
    factor=st.sampled_from([1, -1, 5, 2**40]),
)
def test_sparse_matrices_that_are_none(tmp_path, part, array, factor):
    """NumPy counts negative indices from the end, and SciPy's code trusts what it is given."""
    path = tmp_path / "x.npz"
    if array.dtype == "i8":
        array = array * factor
    write_lpd(path, band(0, bars=1), **{f"pianoroll_1_csc_{part}": array})
    try:
        lpd.read(path)
    except UserError as error:
        assert "\n" not in str(error)


def test_indices_of_a_sparse_matrix_lie_in_it(tmp_path):
    path = tmp_path / "x.npz"
    write_lpd(path, band(0, bars=1))
    with np.load(path) as good:
        indices = good["pianoroll_1_csc_indices"]
    for wrong in (indices - 1, indices + 96):
        write_lpd(path, band(0, bars=1), pianoroll_1_csc_indices=wrong)
        assert "pianoroll_1: its sparse matrix is not whole" in refused(lpd.read, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)  # fmt: skip


@QUICK
@given(value=st.fixed_dictionaries({"train": JSON}) | JSON)
def test_jsb_files_of_any_json(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    try:
        built = jsb.read_jsb(path).dataset
        assert built.timeline.any()
    except UserError as error:
        assert "\n" not in str(error)


def test_jsb_files_that_are_refused(tmp_path):
    path = tmp_path / "x.json"
    for content, words in (
        (b"", "not readable"), (b"[" * 100_000, "not readable"), (b"{}", "none of train"),
        (b'{"train": [[[60, 1e99, 3, 4]]]}', "pitches are not MIDI's"),
        (b'{"train": [[[60.5, 1, 3, 4]]]}', "pitches are not MIDI's"),
        (b'{"train": [["abcd"]]}', "no lists"), (b'{"train": []}', "none of 0 pieces"),
    ):  # fmt: skip
        path.write_bytes(content)
        assert words in refused(jsb.read_jsb, path)
    path = tmp_path / "x.npz"
    zipped(path, train_npy=header("(2**40, 16, 4)", "<f2"))
    assert "not what its header says" in refused(jsb.read_jsb, path)
    np.savez(path, train=np.zeros((2, 3, 5)))
    assert "pitches" in refused(jsb.read_jsb, path)


def test_phrases_that_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    cells = np.zeros((2, 4, 48, 84, 5), bool)
    cells[0, 0, 0, 10, 0] = cells[1, 0, 0, 10, 1] = True

    def read(file):
        return musegan.read_musegan(file, OPTIONS)

    good = np.array(np.nonzero(cells))
    for changes, words in (
        ({"shape": np.array([2, 4, 48, 84])}, "not phrases, bars"),
        ({"shape": np.array([2, 4, 48, 84, 17])}, "not such as"),
        ({"shape": np.array([2**40, 4, 48, 84, 5])}, "up to 1000000"),
        ({"shape": np.array([2, 2**20, 2**20, 84, 5])}, "not such as"),
        ({"shape": np.array([2.5] * 5)}, "not phrases"),
        ({"nonzero": good[:, ::-1]}, "not in order"),
        ({"nonzero": good * 1000}, "outside its shape"),
        ({"nonzero": np.repeat(good[:, :1], 80_641, axis=1)}, "more cells in phrase 0"),
        ({"nonzero": -good}, "outside its shape"),
        ({"nonzero": good.T}, r"not (5, N)"),
        ({"nonzero": good.astype(float)}, r"not (5, N)"),
        ({"nonzero": good[:, :0]}, "none of its 0 phrases"),
        ({"nonzero": np.array([{}], object)}, "Python objects"),
    ):
        write_phrases(path, cells, **changes)
        assert words in refused(read, path)
    zipped(path, shape_npy=header("(5,)", "<i8"))
    assert "not readable" in refused(read, path)


def test_scores_that_are_refused(tmp_path, monkeypatch):
    """Before music21 sees them: it would take seconds or gigabytes."""
    path = tmp_path / "x.musicxml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bb">]><score-partwise>&b;</score-partwise>')
    assert "declares XML entities" in refused(scores.read, path)
    path.write_text("<score-partwise>" + '<score-part id="a"/>' * 5000)
    assert f"more than {limits.MAX_TRACKS} parts" in refused(scores.read, path)
    monkeypatch.setattr(limits, "MAX_XML_BYTES", 2**20)
    path.write_bytes(bytes(2**20 + 1))
    assert "up to 1 MiB are read" in refused(scores.read, path)
    path = tmp_path / "x.mxl"
    container = b'<container><rootfile full-path="a.xml"/></container>'
    zipped(path, **{"META-INF__container_xml": container, "a_xml": bytes(2**21)})
    assert "2 MiB long; up to 1" in refused(scores.read, path)
    zipped(path, **{"META-INF__container_xml": container})
    assert "not readable as MusicXML" in refused(scores.read, path)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_a_folder_with_bad_files_still_builds(tmp_path):
    folder, outside = tmp_path / "in", tmp_path / "outside.npz"
    folder.mkdir()
    write_lpd(outside, band(0))
    for n in range(3):
        write_lpd(folder / f"good {n}.npz", band(n))
    for n, (make, _) in enumerate(LPD.values()):
        make(folder / f"bad {n}.npz")
    os.symlink(outside, folder / "link.npz")
    os.symlink(folder / "good 0.npz", folder / "within.npz")
    os.symlink(folder / "circle.npz", folder / "circle.npz")
    os.mkfifo(folder / "pipe.npz")
    (folder / "folder.npz").mkdir()
    built, skipped, _ = lpd.read_lpd(folder, OPTIONS)
    assert built.names == ("good 0.npz", "good 1.npz", "good 2.npz", "within.npz")
    reasons = dict(skipped)
    assert len(skipped) == len(LPD) + 3 and not any("\n" in reason for reason in reasons.values())
    assert reasons["link.npz"] == "a link to a file outside the folder"
    assert reasons["pipe.npz"] == "not a file" and "circle.npz" in reasons


def test_midi_of_every_bad_kind_is_skipped(tmp_path):
    def save(name, kind=1, resolution=480, tracks=1):
        file = mido.MidiFile(type=1, ticks_per_beat=480)
        note = [
            mido.Message("note_on", note=60, velocity=9),
            mido.Message("note_on", note=60, time=480),
        ]
        file.tracks = [mido.MidiTrack(note) for _ in range(tracks)]
        file.save(tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        content[8:10], content[12:14] = kind.to_bytes(2, "big"), resolution.to_bytes(2, "big")
        (tmp_path / name).write_bytes(content)

    save("good.mid")
    save("many.mid", tracks=3000)
    save("type 2.mid", kind=2)
    save("smpte.mid", resolution=0xE728)
    save("zero.mid", resolution=0)
    built, skipped, _ = midi_folder.read_folder(tmp_path, midi_folder.MIDI, Options())
    assert "good.mid" in built.names
    reasons = dict(skipped)
    assert "type 2" in reasons["type 2.mid"] and "SMPTE" in reasons["smpte.mid"]
    assert "resolution of 0" in reasons["zero.mid"]


def test_a_tune_book_keeps_its_good_tunes(tmp_path):
    (tmp_path / "a.abc").write_text(ABC + "\nX:3\nT:Silent\nM:4/4\nL:1/4\nK:C\nz4|\n")
    built, skipped, _ = scores.read_score_folder(tmp_path, Options())
    assert built.names == ("a.abc/1", "a.abc/2") and skipped == [("a.abc/3", "no notes")]
