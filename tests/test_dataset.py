"""The dataset file: what is saved is loaded, and nothing else is."""

import dataclasses
import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from musegan_jax import pianoroll
from musegan_jax.config.fields import SPLITS
from musegan_jax.data import dataset, sources, splits, summary
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track


def piece(name: str, pitch: int = 60, bars: int = 1) -> dataset.Piece:
    """Two tracks: one note to the end, and silence."""
    roll = np.zeros((16 * bars, 128, 2), bool)
    roll[:, pitch, 0] = True
    return dataset.Piece(name, pianoroll.pack(roll), np.arange(0, 16 * bars, 16))


def build(*pieces: dataset.Piece) -> dataset.Dataset:
    tracks = [Track("Lead", 40), Track("Kit", 0, True)]
    return dataset.build(pieces, tracks, 4, "by hand")


def parts_of(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def zip_of(parts: dict[str, bytes], path):
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in parts.items():
            archive.writestr(member, content)
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def about(parts: dict[str, bytes], **changes) -> dict[str, bytes]:
    """The parts of a file with some facts of its description changed."""
    facts = json.loads(np.load(io.BytesIO(parts["about.npy"])).tobytes())
    content = json.dumps({**facts, **changes}).encode()
    return {**parts, "about.npy": npy(np.frombuffer(content, np.uint8))}


@pytest.fixture
def parts(tmp_path) -> dict[str, bytes]:
    """The members of a good file."""
    dataset.save(build(piece("a"), piece("b", 72, bars=2)), tmp_path / "good.npz")
    return parts_of(tmp_path / "good.npz")


def test_what_is_saved_is_loaded(data, tmp_path):
    path = tmp_path / "data.npz"
    dataset.save(data, path)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
    loaded = dataset.load(path)
    assert loaded.digest() == data.digest()
    for field in dataclasses.fields(data):
        before, after = getattr(data, field.name), getattr(loaded, field.name)
        np.testing.assert_array_equal(before, after)
        assert getattr(before, "dtype", None) == getattr(after, "dtype", None)
    assert all(isinstance(track, dataset.Track) for track in loaded.tracks)
    # Saving again replaces the file as a whole.
    dataset.save(build(piece("x")), path)
    assert dataset.load(path).names == ("x",)


def test_the_hash_is_of_the_music_not_of_where_it_came_from():
    one, other = build(piece("a"), piece("b")), build(piece("b"), piece("a"))
    assert one.digest() == other.digest(), "pieces lie in the order of their names"
    assert dataclasses.replace(one, source="elsewhere").digest() == one.digest()
    assert build(piece("a", 61), piece("b")).digest() != one.digest()
    assert build(piece("a"), piece("c")).digest() != one.digest()
    assert dataclasses.replace(one, steps_per_beat=8).digest() != one.digest()
    # Pinned: the hash is recorded with every run, so it must not change with NumPy or the code.
    assert one.digest()[:16] == "ca3d4523d0fb1850"


def test_pieces_lie_end_to_end():
    built = build(piece("b", 72, bars=2), piece("a"))
    assert built.names == ("a", "b")
    assert built.boundaries.tolist() == [0, 16, 48] and built.bars.tolist() == [0, 16, 32]
    assert built.bars_of(0).tolist() == [0] and built.bars_of(1).tolist() == [16, 32]
    assert built.bounds(np.array([1])) == [(72, 72), (pianoroll.SILENT, 0)]
    with pytest.raises(UserError, match="by hand: no piece"):
        build()


def test_a_split_hangs_on_the_name_alone():
    # Pinned: a version that moved pieces between splits would test on what was trained on.
    pinned = {"bwv10.7": 0, "bwv112.5": 1, "bwv127.5": 2}
    assert {name: splits.split_of(name) for name in pinned} == pinned
    many = [piece(f"piece {n}") for n in range(1000)]
    built = build(*many)
    for n, name in enumerate(built.names):
        assert built.split[n] == splits.split_of(name)
    # A hundred of them are where they are in the thousand.
    some = build(*many[::10])
    for n, name in enumerate(some.names):
        assert some.split[n] == built.split[built.names.index(name)]
    # 80, 10 and 10 per cent: three standard deviations of 1000 draws are .038 and .028.
    shares = [len(built.pieces_of([split])) / 1000 for split in SPLITS]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    both = built.pieces_of(["valid", "test"])
    assert len(both) == 1000 - len(built.pieces_of(["train"])) and np.all(built.split[both] > 0)


@pytest.mark.parametrize("count", range(1, 60))
def test_a_small_collection_has_held_out_pieces(count):
    """Whatever the names, and most pieces are trained on."""
    for prefix in ("song", "x", "tune "):
        split = splits.splits_of([f"{prefix}{n}" for n in range(count)])
        train, valid, test = np.bincount(split, minlength=3)
        assert valid >= min(count // 4, 2) and test >= min(count // 4, 3), prefix
        assert 2 * train >= count, prefix
        assert split.dtype == np.uint8


def test_a_small_collection_moves_few_pieces():
    names = [f"piece {n}" for n in range(20)]
    alone = np.array([splits.split_of(name) for name in names])
    assert (alone == 1).sum() < 2  # or this test tests nothing
    split = splits.splits_of(names)
    assert (split != alone).sum() <= 4
    held = [n for n in range(20) if alone[n]]
    assert all(split[n] for n in held)  # what would be held out of many is


def test_a_sealed_file_is_neither_hashed_nor_counted_again(data, tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    dataset.save(data, path)
    wanted = data.digest()

    def again(*_):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "sha256", again)
        patch.setattr(dataset.pianoroll, "edges", again)
        loaded = dataset.load(path)
        assert loaded.digest() == wanted and loaded.edges().shape == (*data.timeline.shape[:2], 2)
    np.testing.assert_array_equal(loaded.edges(), data.edges())
    # A copy with other music must not keep what was computed for this.
    other = dataclasses.replace(loaded, timeline=loaded.timeline[:, ::-1])
    assert other.digest() != wanted and not np.array_equal(other.edges(), loaded.edges())


def test_arrays_changed_behind_the_seal_are_noticed(tmp_path, parts):
    """In a zip whose own checks are right, and in one of earlier versions, without a seal."""
    path, timeline = tmp_path / "bad.npz", np.load(io.BytesIO(parts["timeline.npy"])).copy()
    timeline[3, 0, 4] ^= 1
    changed = {**parts, "timeline.npy": npy(timeline)}
    refuse(zip_of(changed, path), "its hash differs")
    refuse(zip_of({**parts, "edges.npy": npy(np.zeros((48, 2, 2), np.uint8))}, path), "its hash")
    del changed["seal.npy"], parts["seal.npy"]
    refuse(zip_of(changed, path), "its hash differs")
    assert dataset.load(zip_of(parts, path)).names == ("a", "b")


def test_equal_datasets_are_equal_files(data, tmp_path):
    for name in ("a", "b"):
        dataset.save(data, tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:  # nor do they tell the day
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_dataset_may_lie_at_a_remote_address(data, tmp_path, monkeypatch):
    """`gs://` is given by a folder here: what reads it is etils' path, as for runs."""
    dataset.save(data, tmp_path / "data.npz")
    real = dataset.files.locate

    def locate(path):
        assert str(path).startswith("gs://bucket/")
        return real(tmp_path / str(path).removeprefix("gs://bucket/"))

    monkeypatch.setattr(dataset.files, "locate", locate)
    assert sources.load("gs://bucket/data.npz").digest() == data.digest()
    with pytest.raises(UserError, match=r"gs://bucket/none.npz: no such dataset file"):
        sources.load("gs://bucket/none.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"gs://bucket/half.npz: not a valid dataset file"):
        sources.load("gs://bucket/half.npz")
    (tmp_path / "songs.npz").mkdir()
    with pytest.raises(UserError, match=r"gs://bucket/songs.npz: a folder"):
        sources.load("gs://bucket/songs.npz")


@pytest.mark.parametrize("method", ["is_dir", "read_bytes"])
def test_a_network_error_is_not_damage(method, monkeypatch):
    class Where:
        def is_dir(self):
            return method == "is_dir" and self.fail()

        def read_bytes(self):
            return self.fail()

        def fail(self):
            raise RuntimeError("connection reset")

    monkeypatch.setattr(dataset.files, "locate", lambda _: Where())
    why = r"gs://bucket/data.npz: cannot be reached \(connection reset\)"
    with pytest.raises(UserError, match=why):
        dataset.load("gs://bucket/data.npz")


def refuse(path, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        dataset.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_is_no_dataset_is_refused(tmp_path, parts):
    path = tmp_path / "bad.npz"
    refuse(tmp_path / "missing.npz", "no such dataset file; make one with `musegan-jax data build`")
    refuse(tmp_path, "a folder")
    for content in (b"", b"just text\n"):
        path.write_bytes(content)
        refuse(path, "not a valid dataset file")
    facts = {
        "format 2": (about(parts, format=2), "dataset format 2, this version reads 1"),
        "no format": (about(parts, format=None), "format None"),
        "another hash": (about(parts, sha256="0" * 64), "its hash differs"),
        "other names": (about(parts, names=["a", "c"]), "its hash differs"),
        "three names": (about(parts, names=["a", "b", "c"]), "boundaries"),
        "three tracks": (about(parts, tracks=[["x", 0, False]] * 3), "tracks and pitches"),
        "odd tracks": (about(parts, tracks=[1, 2]), "not a valid"),
        "not JSON": ({**parts, "about.npy": npy(np.zeros(9, np.uint8))}, "not a valid"),
        "JSON, no facts": ({**parts, "about.npy": npy(np.frombuffer(b"[]", np.uint8))}, "not a"),
        "deep JSON": ({**parts, "about.npy": npy(np.full(10**5, ord("["), np.uint8))}, "not a"),
        "no bars": ({k: v for k, v in parts.items() if k != "bars.npy"}, "bars"),
        "no boundaries": ({**parts, "boundaries.npy": npy(np.zeros(0, np.int64))}, "not a valid"),
        "scalar": ({**parts, "timeline.npy": npy(np.uint8(0))}, "not a valid"),
        "no zip of arrays": ({"readme.txt": b"hello"}, "not a valid"),
    }
    for name, (content, why) in facts.items():
        zip_of(content, path)
        with pytest.raises(UserError, match=why):
            pytest.fail(f"{name}: read as {dataset.load(path)}")


def test_hand_made_files_with_a_hash_that_fits_are_checked_as_well(tmp_path):
    whole = build(piece("a"), piece("b", 72, bars=2))
    changes = [
        {"boundaries": whole.boundaries.astype(float)},
        {"bars": whole.bars + 0.5},
        {"bars": whole.bars - 1},
        {"bars": np.array([0, 16, 48])},
        {"split": whole.split.astype(float)},
        {"names": (1, 2)},
        {"names": ("a", "x" * 100_000)},
        {"source": 3},
        {"tracks": (Track("Lead", 999), Track("Kit", 0, True))},
        {"tracks": (Track("Lead", 40.0), Track("Kit", 0, True))},
        {"tracks": (Track("Lead", True), Track("Kit", 0, True))},
        {"tracks": (Track("Lead", 40, 1), Track("Kit", 0, True))},
        {"tracks": (Track("\ud800", 40), Track("Kit", 0, True))},
        {"tracks": (Track("x" * 10_000, 40), Track("Kit", 0, True))},
        {"steps_per_beat": 0},
        {"steps_per_beat": 4.0},
        {"steps_per_beat": 10**6},
    ]
    for change in changes:
        dataset.save(dataclasses.replace(whole, **change), tmp_path / "bad.npz")
        with pytest.raises(UserError, match="not a valid dataset file"):
            pytest.fail(f"{change}: read as {dataset.load(tmp_path / 'bad.npz')}")


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class Trap:
    """Unpickling this sets a flag."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_nothing_is_ever_unpickled(tmp_path, parts):
    payload = pickle.dumps(Trap())
    pickle.loads(payload)
    assert Trap.sprung, "the trap works"
    Trap.sprung = False
    # As long as the header says, so that its size alone betrays nothing: 8 bytes an object.
    objects = -(-len(payload) // 8)
    trap = header(f"({objects},)", "|O") + payload.ljust(8 * objects, b".")
    for member in ("timeline.npy", "more.npy"):
        path = zip_of({**parts, member: trap}, tmp_path / "bad.npz")
        refuse(path, "Python objects, which are not read")
    # A bare pickle, which np.load would also open.
    (tmp_path / "bad.npz").write_bytes(payload)
    refuse(tmp_path / "bad.npz", "not a valid dataset file")
    assert not Trap.sprung


def test_a_header_cannot_claim_more_than_the_file_holds(tmp_path, parts):
    path = tmp_path / "bad.npz"
    claims = [
        header(f"({2**50},)") + b"little",
        header(f"({2**62}, {2**62})") + b"little",  # wraps round to 0 in 64 bits
        header("(-1,)") + b"little",
        header("(6,)", "<u8") + b"little",
        header("(1,", "|u1") + b"little",
        header("(6,)", "|O") + b"little",
        header("()", f"|V{2**31 - 1}") + b"little",
    ]
    tracemalloc.start()
    try:
        for claim in claims:
            refuse(zip_of({**parts, "timeline.npy": claim}, path), "not a valid dataset file")
        # The directory of the zip lies in step with the header: too large, before any room is made.
        zip_of({**parts, "timeline.npy": claims[0]}, path)
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"timeline.npy")  # of the directory, which lies at the end
        content[entry - 46 + 24 : entry - 46 + 28] = struct.pack("<L", 2**32 - 2)
        path.write_bytes(content)
        refuse(path, "not a valid dataset file")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_unpacked(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(dataset, "MAX_BYTES", 10_000)
    path = zip_of({**parts, "timeline.npy": header("(20000,)") + bytes(20000)}, tmp_path / "x.npz")
    refuse(path, "that unpack to")


def test_silence_does_not_fill_the_memory(tmp_path, parts):
    """A hundredth of the size that it unpacks to, or less; music is a fiftieth."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in parts.items():
            archive.writestr(member, content)
        with archive.open("more.npy", "w", force_zip64=True) as file:
            file.write(header(f"({100 * 2**20},)"))
            for _ in range(100):
                file.write(bytes(2**20))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        refuse(path, "more than music does")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_cut_off_anywhere(tmp_path, parts):
    whole = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refuse(path, "not a valid dataset file")


def test_a_wrong_byte_anywhere(tmp_path, parts):
    """The file is refused, or the byte meant nothing (a date in the zip) and the music is whole."""
    whole = (tmp_path / "good.npz").read_bytes()
    wanted = dataset.load(tmp_path / "good.npz").digest()
    path = tmp_path / "wrong.npz"
    refused = 0
    for position in range(len(whole)):
        wrong = bytearray(whole)
        wrong[position] ^= (1, 0x80, 0x55, 0xFF)[position % 4]
        path.write_bytes(wrong)
        try:
            assert dataset.load(path).digest() == wanted
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > len(whole) / 2


def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    # Below a regular file not even root can write.
    for path in (file / "data.npz", tmp_path / "missing" / "data.npz"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            dataset.save(build(piece("a")), path)
        assert str(caught.value).startswith(f"{path}: ")
    # Nor does a disk that fills up half-way, and the file from before stays.
    good = tmp_path / "good.npz"
    dataset.save(build(piece("a")), good)

    def full(file, *content):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset.archive, "write", full)
    with pytest.raises(UserError, match="No space left"):
        dataset.save(build(piece("b")), good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "good.npz"]
    assert file.read_text() == "mine" and dataset.load(good).names == ("a",)


def test_the_description_fits_the_screen(data):
    tracks = ("Soprano", "Electric Bass", "Kit", "Pad")
    named = dataclasses.replace(
        data,
        tracks=tuple(Track(name, 40 + k, name == "Kit") for k, name in enumerate(tracks)),
        source="Bach chorales of music21",
    )
    lines = summary.describe(named).splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert f"sha256      {named.digest()}" in lines and "pieces      12" in lines
    table = lines[-4:]
    # Every note lasts a beat and there are no rests: C major from each root within an octave.
    assert table[0].split() == ["Soprano", "72-83", "100%", "40"]
    assert table[1].split() == ["Electric", "Bass", "60-71", "100%", "41"]
    assert table[2].split() == ["Kit", "55-66", "100%", "drums"]
    assert len({line.index("100%") for line in table}) == 1, "columns are straight"
    silent = summary.describe(build(piece("a"))).splitlines()[-1]
    assert silent.split() == ["Kit", "silent", "0%", "drums"]


def test_what_a_dataset_lacks_is_said():
    assert list(summary.shortcomings(build(piece("a")))) == [
        "1 piece, 0 held out in valid and 0 in test: from 8 on, two each are, from 12 "
        "on three in test; with fewer in valid, train with --output.held_out=0",
        "the track Kit is silent in 100% of the passages of four bars",
    ]
    many = [piece(f"piece {n}", bars=8) for n in range(100)]
    for each in many:
        each.roll[:64, 1] = 1  # half of the passages
    assert not list(summary.shortcomings(build(*many)))
