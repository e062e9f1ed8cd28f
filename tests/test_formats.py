"""Readers and writers of other programs' formats: the same notes, whatever they come in.

Files are written here, by pypianoroll and music21, or by the published layout; none is a copy.
"""

import json
import pickle
import zipfile
from pathlib import Path

import mido
import numpy as np
import pytest

from musegan_jax import cli, limits, pianoroll
from musegan_jax.data import dataset, export, merge, midi, notation
from musegan_jax.data.readers import chorales, jsb, lpd, midi_folder, musegan, scores
from musegan_jax.data.readers.songs import NO_MELODY, SEVENTEEN, Options
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

ORDER = ("Drums", "Piano", "Guitar", "Bass", "Strings")


def roll_of(built: dataset.Dataset, name: str) -> np.ndarray:
    return pianoroll.unpack(built.packed(built.names.index(name)))


def band(seed: int, bars: int = 4, per_beat: int = 24) -> np.ndarray:
    """Five tracks in LPD-5's order on the grid of sixteenths: bool `(T, 128, 5)`.

    The strings have a tune, one note a beat; no two notes of a pitch touch.
    """
    rng = np.random.default_rng(seed)
    roll = np.zeros((bars * 4 * per_beat, 128, 5), bool)
    sixteenth = per_beat // 4
    for beat in range(bars * 4):
        at = beat * per_beat
        root = int(rng.choice([48, 53, 55]))
        roll[at : at + sixteenth, 36 + 2 * (beat % 2), 0] = True
        for third in (0, 4, 7):
            roll[at : at + 2 * sixteenth, root + third, 1] = True
        roll[at : at + 3 * sixteenth, root + 7, 2] = True
        roll[at : at + 3 * sixteenth, root - 12, 3] = True
        roll[at : at + 3 * sixteenth, root + 24 + int(rng.choice([0, 4, 7])), 4] = True
    return roll


def write_lpd(
    path, roll: np.ndarray, tracks=lpd.FIVE, per_beat: int = 24, form: str = "csc", **changes
) -> None:
    """pypianoroll's layout, of SciPy's matrices."""
    from scipy import sparse

    arrays = {"tempo": np.full(len(roll), 120.0), "downbeat": np.zeros(len(roll), bool)}
    arrays["downbeat"][:: 4 * per_beat] = True
    info = {"beat_resolution": per_beat, "name": path.stem}
    for k, track in enumerate(tracks):
        matrix = getattr(sparse, f"{form}_matrix")(roll[..., k].astype(np.uint8) * 100)
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"pianoroll_{k}_{form}_{part}"] = np.asarray(getattr(matrix, part))
        info[str(k)] = {"program": track.program, "is_drum": track.is_drum, "name": track.name}
    info |= changes.pop("info", {})
    np.savez_compressed(path, **arrays | changes)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("info.json", json.dumps(info))


def test_lpd_files_keep_every_note_of_the_grid(tmp_path):
    rolls = {f"{n}.npz": band(n) for n in range(3)}
    for form, (name, roll) in zip(("csc", "csr", "csc"), rolls.items(), strict=True):
        write_lpd(tmp_path / name, roll, form=form)
    options = Options(melody=NO_MELODY, families=lpd.FIVE)
    built, skipped, remarks = lpd.read_lpd(tmp_path, options)
    assert tuple(track.name for track in built.tracks) == ORDER and built.tracks[0].is_drum
    assert not skipped and not remarks
    for name, roll in rolls.items():
        np.testing.assert_array_equal(roll_of(built, name), roll[::6])
        assert (built.bars_of(built.names.index(name)) % 64 % 16 == 0).all()
    # With a melody, it is the tune of the strings, which are then silent, and so left out.
    built, _, remarks = lpd.read_lpd(tmp_path, Options(families=lpd.FIVE))
    assert tuple(track.name for track in built.tracks) == ("Melody", *ORDER[:-1])
    np.testing.assert_array_equal(roll_of(built, "0.npz")[..., 0], rolls["0.npz"][::6, :, 4])
    assert "Strings in 3" in remarks[0]
    fine, _, _ = lpd.read_lpd(tmp_path, options._replace(steps_per_beat=24))
    np.testing.assert_array_equal(roll_of(fine, "1.npz"), rolls["1.npz"])


def test_bars_follow_the_downbeats(tmp_path):
    """A pick-up of a beat, two bars of 3/4, then 4/4."""
    roll = band(0, bars=3)
    beats = np.zeros(len(roll), bool)
    beats[[24, 96, 168, 264]] = True
    write_lpd(tmp_path / "a.npz", roll, downbeat=beats)
    built, _, _ = lpd.read_lpd(tmp_path, Options(melody=NO_MELODY, families=lpd.FIVE))
    assert built.bars.tolist() == [0, 4, 16, 28, 44]
    # What is no downbeats is none.
    write_lpd(tmp_path / "a.npz", roll, downbeat=np.zeros(0))
    built, _, _ = lpd.read_lpd(tmp_path, Options(melody=NO_MELODY, families=lpd.FIVE))
    assert built.bars.tolist() == [0, 16, 32]


def test_seventeen_tracks_stay_apart_or_become_five(tmp_path):
    roll = np.zeros((96, 128, 17), bool)
    for k in range(17):
        roll[::2, 40 + k, k] = True
    write_lpd(tmp_path / "a.npz", roll, SEVENTEEN)
    options = Options(melody=NO_MELODY, families=SEVENTEEN, steps_per_beat=24)
    built, _, _ = lpd.read_lpd(tmp_path, options)
    assert built.tracks == SEVENTEEN
    np.testing.assert_array_equal(roll_of(built, "a.npz")[:95], roll[:95])
    built, _, _ = lpd.read_lpd(tmp_path, options._replace(families=lpd.FIVE))
    assert [track.name for track in built.tracks] == list(ORDER)
    strings = np.flatnonzero(roll_of(built, "a.npz")[0, :, 4])
    # All groups below 96 but Piano, Guitar and Bass, and 104 to 111; LPD-5 drops the rest.
    assert strings.tolist() == [42, 43, 46, 47, 48, 49, 50, 51, 52, 54]


def test_pypianoroll_reads_what_is_exported_and_we_what_it_writes(data, tmp_path):
    pypianoroll = pytest.importorskip("pypianoroll")
    paths = list(export.export(data, tmp_path / "ours", "pypianoroll"))
    song = pypianoroll.load(paths[0])
    assert song.resolution == 4 and [track.name for track in song.tracks] == list("SATB")
    wanted = roll_of(data, data.names[0])
    for k, track in enumerate(song.tracks):
        np.testing.assert_array_equal(track.pianoroll > 0, wanted[..., k])
    assert np.flatnonzero(song.downbeat).tolist() == [0, 16, 32, 48]
    (tmp_path / "theirs").mkdir()
    for compressed in (True, False):
        song.save(tmp_path / "theirs" / f"{compressed}.npz", compressed=compressed)
    options = Options(parts=4, melody=NO_MELODY)
    built, skipped, _ = lpd.read_lpd(tmp_path / "theirs", options)
    assert not skipped and built.names == ("False.npz", "True.npz")
    for name in built.names:
        np.testing.assert_array_equal(roll_of(built, name), wanted)
    assert built.tracks == data.tracks and built.bars_of(1).tolist() == [64, 80, 96, 112]


CHORALES = ("bwv66.6", "bwv253", "bwv255")


@pytest.fixture(scope="module")
def parsed():
    """Music21's own reading of some chorales."""
    folder = chorales.installed_folder()
    return {name: scores.read(folder / f"{name}.mxl")[0] for name in CHORALES}


def step_lists(score: midi.Score) -> list[list[int]]:
    """A score's four parts, pitches at each sixteenth, -1 for a rest."""
    steps = np.full((score.end // 120, 4), -1)
    for k, part in enumerate(score.parts):
        for start, end, pitch, _ in part.notes:
            steps[start // 120 : end // 120, k] = pitch
    return steps.tolist()


def test_jsb_json_equals_the_reading_of_the_same_pieces_by_music21(parsed, tmp_path):
    import shutil

    listed = [step_lists(score) for score in parsed.values()]
    (tmp_path / "jsb.json").write_text(
        json.dumps({"train": listed[:1], "valid": listed[1:2], "test": listed[2:]})
    )
    built, skipped, _ = jsb.read_jsb(tmp_path / "jsb.json")
    assert not skipped and built.tracks == chorales.TRACKS
    assert dict(zip(built.names, built.split.tolist(), strict=True)) == {
        "train 000": 0, "valid 000": 1, "test 000": 2,
    }  # fmt: skip
    for name in CHORALES:
        shutil.copy(chorales.installed_folder() / f"{name}.mxl", tmp_path)
    ours, _ = chorales.read_chorales(tmp_path)
    for split, name in zip(("train", "valid", "test"), CHORALES, strict=True):
        of_json = roll_of(built, f"{split} 000")
        of_xml = roll_of(ours, name)
        # A pick-up, which all three have, fills the end of a bar in a score that is read.
        n = ours.names.index(name)
        late = -int(ours.bars_of(n)[0] - ours.boundaries[n]) % 16
        assert of_xml.any() and late == 12
        for k in range(4):
            expected = pianoroll.runs(of_xml[..., k]) + (late, late, 0)
            np.testing.assert_array_equal(pianoroll.runs(of_json[..., k]), expected)


def test_jsb_without_voices_gets_a_melody(parsed, tmp_path):
    listed = [sorted(set(step) - {-1}) for step in step_lists(parsed["bwv253"])]
    (tmp_path / "jsb.json").write_text(json.dumps({"train": [listed] * 4}))
    built, _, remarks = jsb.read_jsb(tmp_path / "jsb.json")
    assert [track.name for track in built.tracks] == ["Melody", "Piano"]
    roll = roll_of(built, "train 000")
    wanted = np.zeros((len(roll), 128), bool)
    for n, step in enumerate(listed):
        wanted[n, step] = True
    # What is left out: notes that the line leaves while they sound.
    assert not (roll.any(axis=2) & ~wanted).any()
    assert roll.any(axis=2).sum() > 0.97 * wanted.sum()
    tops = [max(step, default=-1) for step in listed]
    line = [int(step.argmax()) if step.any() else -1 for step in roll[: len(tops), :, 0]]
    assert np.mean(np.array(line) == tops) > 0.9
    assert "does not tell the voices apart" in remarks[0]


class _Evil:
    def __reduce__(self):
        return print, ("run!",)


def test_jsb_npz_whole_or_pickled(tmp_path, capsys):
    piece = [[72, 67, 60, -1], [72, -1, 60, 48]] * 8
    other = [[74, 67, 62, 50]] * 3
    padded = np.full((2, 16, 4), np.nan, np.float16)
    for n, steps in enumerate((piece, other)):
        padded[n, : len(steps)] = np.where(np.array(steps) < 0, np.nan, steps)
    np.savez(tmp_path / "whole.npz", train=padded)
    objects = np.empty(2, object)
    objects[:] = [padded[0], padded[1, :3]]
    np.savez(tmp_path / "pickled.npz", train=objects)
    (tmp_path / "a.json").write_text(json.dumps({"train": [piece, other]}))
    wanted = jsb.read_jsb(tmp_path / "a.json").dataset.digest()
    assert jsb.read_jsb(tmp_path / "whole.npz").dataset.digest() == wanted
    with pytest.raises(UserError, match="saved with pickle, which can run programs"):
        jsb.read_jsb(tmp_path / "pickled.npz")
    assert jsb.read_jsb(tmp_path / "pickled.npz", pickled=True).dataset.digest() == wanted
    for name in ("evil", "eval"):
        objects[1] = _Evil() if name == "evil" else np.frombuffer
        np.savez(tmp_path / "evil.npz", train=objects)
        with pytest.raises(UserError, match=r"its pickle wants builtins\.print|numpy.*frombuffer"):
            jsb.read_jsb(tmp_path / "evil.npz", pickled=True)
    assert "run!" not in capsys.readouterr().out
    assert pickle.loads(pickle.dumps(_Evil())) is None  # it would have run


def test_a_small_pickle_cannot_ask_for_much_memory(tmp_path):
    """One that files an object under a huge number, and one of lists that hold another twice."""
    laughs: list = [60]
    for _ in range(40):
        laughs = [laughs, laughs]
    huge = (limits.MAX_PICKLED + 1).to_bytes(4, "little")
    header = np.zeros(1, object)
    for content in (b"\x80\x04]r" + huge + b".", pickle.dumps(laughs)):
        np.savez(tmp_path / "a.npz", train=header)
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            start = archive.read("train.npy")[:128]
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("train.npy", start + content)
        with pytest.raises(UserError, match=r"a\.npz: .*its pickle has more than \d+ objects"):
            jsb.read_jsb(tmp_path / "a.npz", pickled=True)


def write_phrases(path, rolls: np.ndarray, order: str = "C", **changes) -> None:
    """Musegan's layout; rolls are bool `(N, 4 bars, 48, 84, 5)`."""
    cells = np.asarray(np.array(np.nonzero(rolls)), order=order)
    np.savez_compressed(path, **{"shape": np.array(rolls.shape), "nonzero": cells} | changes)


def phrases(count: int) -> np.ndarray:
    """Phrases of a band; the third is silent."""
    rolls = np.stack([band(n, per_beat=12) for n in range(count)])[:, :, 24:108]
    rolls = rolls.reshape(count, 4, 48, 84, 5)
    rolls[2] = False
    return rolls


@pytest.mark.parametrize("order", ["C", "F"])
def test_musegans_phrases_are_read_as_a_stream(tmp_path, monkeypatch, order):
    rolls = phrases(6)
    write_phrases(tmp_path / "p.npz", rolls, order)
    # A phrase lies across the chunks that are read at once.
    monkeypatch.setattr(musegan, "CHUNK", 97)
    options = Options(steps_per_beat=12, melody=NO_MELODY, families=lpd.FIVE)
    built, skipped, _ = musegan.read_musegan(tmp_path / "p.npz", options)
    assert built.names == tuple(f"phrase {n:06d}" for n in (0, 1, 3, 4, 5)) and not skipped
    for n in (0, 5):
        roll = roll_of(built, f"phrase {n:06d}")
        np.testing.assert_array_equal(roll[:, 24:108], rolls[n].reshape(192, 84, 5)[: len(roll)])
        assert len(roll) == 192 and not roll[:, :24].any()
    coarse, _, _ = musegan.read_musegan(tmp_path / "p.npz", Options(families=lpd.FIVE))
    assert [track.name for track in coarse.tracks] == ["Melody", *ORDER[:-1]]
    np.testing.assert_array_equal(
        roll_of(coarse, "phrase 000001")[:, 24:108, 0], rolls[1].reshape(192, 84, 5)[::3, :, 4]
    )


ABC = """X:1
T:First
M:3/4
L:1/4
K:G
"G"G A B | "D"A2 d | "G"G3 |]

X:2
T:Second
M:4/4
L:1/8
K:C
c2 e2 g4 | c8 |]
"""
KERN = (
    "**kern\t**kern\n*M4/4\t*M4/4\n=1\t=1\n4C\t4cc\n4D\t4dd\n2E\t[2ee\n=2\t=2\n1C\t1ee]\n*-\t*-\n"
)


def test_abc_and_kern(tmp_path):
    (tmp_path / "tunes.abc").write_text(ABC)
    (tmp_path / "two.krn").write_text(KERN)
    (tmp_path / "bad.abc").write_text("no music")
    (tmp_path / "bad.krn").write_bytes(b"\x00\xff" * 50)
    built, skipped, _ = scores.read_score_folder(tmp_path, Options())
    assert built.names == ("tunes.abc/1", "tunes.abc/2", "two.krn")
    assert [name for name, _ in skipped] == ["bad.abc", "bad.krn"]
    first = roll_of(built, "tunes.abc/1")
    melody = [int(step.argmax()) for step in first[::4, :, 0]]
    assert melody == [67, 69, 71, 69, 69, 74, 67, 67, 67]
    assert [track.name for track in built.tracks][0] == "Melody"
    # The chord symbols sound: G, B, D below the first bar.
    chord = np.flatnonzero(first[0, :, 1:].any(axis=1)) % 12
    assert set(chord.tolist()) == {7, 11, 2}
    assert (built.bars_of(0) - built.boundaries[0]).tolist() == [0, 12, 24]
    second = roll_of(built, "two.krn")
    # The tie is one note, which the roll shows as one run.
    assert pianoroll.runs(second[..., 0]).tolist() == [[0, 4, 72], [4, 8, 74], [8, 32, 76]]


def notes_of(score: midi.Score) -> list[list[tuple[int, ...]]]:
    """Start, end and pitch of each part's notes, in 480ths of a quarter note."""
    scale = 480 / score.ticks_per_beat
    return [sorted((int(s * scale), int(e * scale), p) for s, e, p, _ in part.notes.tolist())
            for part in score.parts]  # fmt: skip


def polyphonic() -> midi.Score:
    """Chords that overlap, notes over bar lines, triplets, a change of meter, drums."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    head = [
        mido.MetaMessage("time_signature", numerator=3, denominator=4),
        mido.MetaMessage("key_signature", key="Eb"),
        mido.MetaMessage("set_tempo", tempo=400_000),
        mido.MetaMessage("time_signature", numerator=4, denominator=4, time=6 * 480),
    ]
    hands = [(0, 480, 60), (0, 480, 64), (480, 2400, 48), (480, 640, 67), (640, 800, 69)]
    hands += [
        (800, 960, 71),
        (1200, 1800, 72),
        (1320, 1560, 76),
        (2400, 5280, 55),
        (2400, 2520, 55 + 12),
    ]
    drums = [(480 * n, 480 * n + 120, 36 + 2 * (n % 2)) for n in range(10)]
    file.tracks = [mido.MidiTrack(head)]
    for name, channel, program, notes in (("Hände", 0, 5, hands), ("Kit", 9, 0, drums)):
        rows = np.array([(*note, 90) for note in notes], np.int64)
        file.tracks.append(midi.note_track(name, channel, program, rows))
    return midi.parse(file, "made")


def test_music21_reads_the_same_notes_from_written_musicxml(tmp_path):
    score = polyphonic()
    path = tmp_path / "a.musicxml"
    assert notation.grid_of(score, 4) == (12, True)
    assert notation.write(score, path, "A <title> & more", 4)
    assert b"<creator" not in path.read_bytes()  # music21 would name itself
    again = scores.read(path)[0]
    assert notes_of(again) == notes_of(score)
    assert [part.name for part in again.parts] == ["Hände", "Kit"]
    assert [part.program for part in again.parts] == [5, 0] and again.parts[1].is_drum
    assert again.tempos == score.tempos and again.meters == score.meters
    assert (
        "".join(str(m.key) for t in again.midi.tracks for m in t if m.type == "key_signature")
        == "Eb"
    )
    # What a player plays is rounded to the grid, and said.
    late = polyphonic()
    late.parts[0].notes[:, :2] += 53
    assert not notation.write(late, path, "late", 4)
    assert len(notes_of(scores.read(path)[0])[0]) >= 8


def test_a_grid_of_every_fineness_has_note_signs(tmp_path):
    for grid in (1, 2, 3, 5, 6, 7, 8, 12, 16, 24, 48, 96):
        for steps in {1, 2, 3, 5, grid, 4 * grid + 1}:
            assert 1 <= notation._longest(steps, grid) <= steps


def made_midi(folder, count: int = 8) -> None:
    """Files of two parts whose notes lie on the grid of sixteenths."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(count):
        file = mido.MidiFile(type=1, ticks_per_beat=96)
        file.tracks = [mido.MidiTrack([mido.MetaMessage("time_signature", numerator=3)])]
        for k, name in enumerate(("Lead", "Under")):
            starts = 24 * np.sort(rng.choice(48, 12, replace=False))
            rows = np.column_stack([
                starts, np.append(starts[1:], 48 * 24), 60 - 12 * k + np.arange(12), np.full(12, 80)
            ])  # fmt: skip
            file.tracks.append(midi.note_track(name, k, 40 + k, rows))
        file.save(folder / f"{n}.mid")


def test_midi_to_dataset_to_midi_is_exact_on_the_grid(tmp_path):
    made_midi(tmp_path / "in")
    options = Options(parts=2, melody=NO_MELODY)
    built = midi_folder.read_folder(tmp_path / "in", midi_folder.MIDI, options).dataset
    paths = list(export.export(built, tmp_path / "out", "midi"))
    assert [path.name for path in paths] == [f"{n}.mid" for n in range(8)]
    for n, path in enumerate(paths):
        before, after = midi.read(tmp_path / "in" / f"{n}.mid"), midi.read(path)
        assert notes_of(after) == notes_of(before) and after.meters == before.meters
    again = midi_folder.read_folder(tmp_path / "out", midi_folder.MIDI, options).dataset
    assert again.digest() == built.digest()
    # So do the other formats bring it back.
    for form, read in (("pypianoroll", lpd.read_lpd), ("musicxml", scores.read_score_folder)):
        list(export.export(built, tmp_path / form, form))
        back = read(tmp_path / form, options).dataset
        assert [len(each) for each in (back.timeline, back.bars)] == [
            len(built.timeline),
            len(built.bars),
        ]
        np.testing.assert_array_equal(back.timeline, built.timeline)
        assert back.tracks == built.tracks, form


def test_exported_names_stay_in_the_folder():
    names = (
        "../../etc/passwd",
        "/root/x.mid",
        "a.mid",
        "A.midi",
        "..",
        "con\x00\n:x",
        "x" * 300,
        "",
    )
    paths = export.file_names(names, ".mid")
    assert paths == [
        "etc/passwd.mid", "root/x.mid", "a.mid", "A-2.mid", "piece.mid", "con___x.mid",
        "x" * 200 + ".mid", "piece-2.mid",
    ]  # fmt: skip


def test_merging_checks_what_fits(data, tmp_path):
    import dataclasses

    halves = [
        dataset.build(
            [
                dataset.Piece(name, data.packed(n), data.bars_of(n) - int(data.boundaries[n]))
                for n, name in enumerate(data.names)
                if n % 2 == half
            ],
            data.tracks, 4, f"half {half}",
        )
        for half in (0, 1)
    ]  # fmt: skip
    paths = [Path("a.npz"), Path("b.npz")]
    whole, remarks = merge.merge(halves, paths)
    assert whole.digest() == data.digest() and whole.source == "half 0 + half 1"
    again, remarks = merge.merge([whole, data], paths)
    assert again.digest() == data.digest() and remarks == [
        "12 pieces are in several files, and kept once"
    ]
    other = dataclasses.replace(data, timeline=np.roll(data.timeline, 1, axis=2))
    both, remarks = merge.merge([data, other], paths)
    assert len(both.names) == 24 and "b/piece 0" in both.names
    again, remarks = merge.merge([data, other, other], [*paths, Path("c.npz")])
    assert again.digest() == both.digest() and "12 pieces are in several files" in remarks[0]
    with pytest.raises(UserError, match="give two dataset files"):
        merge.merge([data], paths[:1])
    tracks = (Track("S", 40), Track("A", 41), Track("T", 42), Track("Kit", 0, True))
    wrong = dataclasses.replace(data, tracks=tracks, steps_per_beat=8)
    with pytest.raises(UserError) as caught:
        merge.merge([data, wrong], paths)
    assert str(caught.value) == (
        "b.npz: does not fit a.npz: 8 steps a beat, not 4; its track 4 is Kit (drums), not B "
        "(program 43)"
    )
    fewer = dataclasses.replace(data, tracks=data.tracks[:2])
    with pytest.raises(UserError, match="its tracks are S, A, not S, A, T, B"):
        merge.merge([data, fewer], paths)


def command(capsys, *words) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command."""
    status = cli.main([str(word) for word in words])
    return (status, *capsys.readouterr())


SHRUNK = (
    "--model.generator_filters=4,8", "--model.critic_filters=4,8", "--training.iterations=2",
    "--training.batch_size=4", "--output.save_every=2", "--output.sample_every=0",
    "--output.melodies=", "--output.held_out=0",
)  # fmt: skip


@pytest.mark.slow
def test_five_tracks_from_an_lpd_folder_to_a_song(tmp_path, capsys):
    """`configs/lpd5.py`, shrunk: built, trained, composed from, and back to notation."""
    (tmp_path / "lpd").mkdir()
    for n in range(8):
        write_lpd(tmp_path / "lpd" / f"{n}.npz", band(n, bars=6))
    (tmp_path / "lpd" / "bad.npz").write_bytes(b"PK")
    data, run = tmp_path / "lpd5.npz", tmp_path / "run"
    build = ("data", "build", "lpd", tmp_path / "lpd", "--melody", "none", "--out", data)
    status, out, err = command(capsys, *build)
    assert status == 0 and "Drums" in out and "1 files skipped" in err
    words = ("train", "--config", "configs/lpd5.py", "--workdir", run, f"--data.dataset={data}")
    status, _, err = command(capsys, *words, *SHRUNK)
    assert status == 0, err
    # A tune of a bar: an untrained network fills it with hundreds of notes, which music21 writes.
    (tmp_path / "tune").mkdir()
    write_lpd(tmp_path / "tune" / "0.npz", band(0, bars=1))
    tune = tmp_path / "tune.npz"
    build = ("data", "build", "lpd", tmp_path / "tune", "--melody", "none", "--out", tune)
    assert command(capsys, *build)[0] == 0
    list(export.export(dataset.load(tune), tmp_path / "scores", "musicxml"))
    status, out, err = command(
        capsys, "compose", tmp_path / "scores" / "0.musicxml", "--out", tmp_path / "song",
        "--track", "Strings", "--workdir", run, "--musicxml", "--decoding", "threshold",
    )  # fmt: skip
    assert status == 0, err
    status, _, err = command(
        capsys, "compose", tmp_path / "scores" / "0.musicxml", "--out", tmp_path / "scores",
        "--workdir", run, "--musicxml",
    )  # fmt: skip
    assert status == 2 and "it would replace the melody" in err
    assert sorted(path.name for path in (tmp_path / "song").iterdir()) == [
        "0.mid", "0.musicxml", "0.png", "0.wav",
    ]  # fmt: skip
    song = midi.read(tmp_path / "song" / "0.mid")
    assert any(part.is_drum and part.name == "Drums" for part in song.parts)
    written = scores.read(tmp_path / "song" / "0.musicxml")[0]
    assert [part.name for part in written.parts] == [part.name for part in song.parts]
    # The melody's notes are where they were; the others but for the small delays of the MIDI file.
    assert notes_of(written)[0] == notes_of(song)[0]
    assert [len(each) for each in notes_of(written)] == [len(each) for each in notes_of(song)]


@pytest.mark.parametrize("kind", ["jsb", "musegan", "score"])
def test_every_other_format_is_built_by_its_command(tmp_path, capsys, kind):
    source, more = tmp_path / "in", ()
    if kind == "jsb":
        source = tmp_path / "jsb.json"
        source.write_text(json.dumps({"train": [[[72, 67, 60, 48]] * 16] * 4}))
    elif kind == "musegan":
        source, more = tmp_path / "p.npz", ("--melody", "none")
        write_phrases(source, phrases(4))
    else:
        source.mkdir()
        (source / "a.abc").write_text(ABC)
        more = ("--parts", "1")
    words = ("data", "build", kind, source, *more, "--out", tmp_path / "x.npz")
    status, out, err = command(capsys, *words)
    assert status == 0, err
    assert len(dataset.load(tmp_path / "x.npz").names) == {"jsb": 4, "musegan": 3, "score": 2}[kind]
    whole = ("data", "merge", tmp_path / "x.npz", tmp_path / "x.npz", "--out", tmp_path / "y.npz")
    assert command(capsys, *whole)[0] == 0
    exported = ("data", "export", tmp_path / "y.npz", "--out", tmp_path / "out")
    assert command(capsys, *exported)[0] == 0
    status, _, err = command(capsys, *exported)
    assert status == 2 and "is there already" in err and err.count("\n") == 1
