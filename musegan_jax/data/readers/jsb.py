"""The reader of the JSB chorales' files, JSON and `.npz`.

Bach's chorales as pianoroll lists, first used by Boulanger-Lewandowski, Bengio and Vincent (2012),
in the two layouts of https://github.com/czhuang/JSB-Chorales-dataset: `train`, `valid` and `test`
are lists of pieces, a piece a list of time steps. A step is `[soprano, alto, tenor, bass]`, MIDI
pitches, with -1 (or NaN) for a rest; or, where voices are not told apart, a list of up to four
pitches, with no rests in it. The splits of the file are kept, so that results can be compared.
"""

import dataclasses
import io
import json
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import mido
import numpy as np

from musegan_jax import files, limits, pianoroll
from musegan_jax.config.fields import SPLITS
from musegan_jax.data import midi, npz
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers import songs
from musegan_jax.data.readers.chorales import TRACKS
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.data.readers.songs import Options, Reading
from musegan_jax.errors import UserError, first_line
from musegan_jax.pianoroll import Track

VOICES = len(TRACKS)
BEATS = 4  # in a bar
# The names under which NumPy pickles arrays: what is made for them is our own (`MADE`).
ALLOWED = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # of bytes that Python 2 wrote
}


def read_jsb(path: str | Path, steps_per_beat: int = 4, pickled: bool = False) -> Reading:
    """Read a file of the JSB chorales.

    Pieces are called by their split and number, `train 007`. Bars are of four beats from the
    beginning: the files do not say where they begin. Where voices are not told apart, the melody
    line is found as in a folder of MIDI files.

    Args:
        path: a `.json` or `.npz` file.
        steps_per_beat: the file's time steps in a quarter note: 4 in those of sixteenths.
        pickled: read arrays that were saved with pickle, as those of the published `.npz`. Nothing
            that a pickle names is called; even so, give only files that you trust.

    Raises:
        UserError: if it cannot be read, or gives no piece.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        size, most = path.stat().st_size, limits.MAX_COLLECTION_BYTES
        if size > most:
            raise UserError(f"{path}: {size} bytes; up to {most} are read as JSB chorales")
        if path.suffix.lower() == ".npz":
            content = _read_npz(path, pickled)
        else:
            content = json.loads(path.read_bytes())
        splits = [(name, content[name]) for name in SPLITS if name in content]
        if not splits:
            raise ValueError(f"it has none of {', '.join(SPLITS)}")
        if not all(isinstance(pieces, list) for _, pieces in splits):
            raise ValueError("its splits are no lists of pieces")
    except UserError:
        raise
    # A damaged file can make the parsers raise anything.
    except Exception as error:
        raise files.unreadable(path, error, "JSB chorales") from error
    pieces = {
        f"{split} {n:03d}": piece for split, listed in splits for n, piece in enumerate(listed)
    }
    if len(pieces) > limits.MAX_PIECES:
        raise UserError(f"{path}: {len(pieces)} pieces; up to {limits.MAX_PIECES} are read")
    return _read_pieces(path, pieces, steps_per_beat)


def _read_pieces(path: Path, pieces: dict[str, Any], steps_per_beat: int) -> Reading:
    skipped: list[Skipped] = []
    usable: dict[str, list[list[int]]] = {}
    for name, piece in pieces.items():
        try:
            usable[name] = _steps(piece, steps_per_beat)
        except (TypeError, ValueError, OverflowError) as error:
            skipped.append(Skipped(name, first_line(error)))
    if not usable:
        why = f"; the first, {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise UserError(f"{path}: none of {len(pieces)} pieces could be used{why}")
    source = f"JSB chorales {path.name}"
    if all(len(step) == VOICES for steps in usable.values() for step in steps):
        made = [_separate(name, steps, steps_per_beat) for name, steps in usable.items()]
        return Reading(_with_splits(build(made, TRACKS, steps_per_beat, source)), skipped, [])
    options = Options(steps_per_beat=steps_per_beat)
    whole = [
        songs.song_of(_together(steps, steps_per_beat), name, options)
        for name, steps in usable.items()
    ]
    reading = songs.join(whole, skipped, options, source)
    remark = f"{path.name} does not tell the voices apart: the melody line is found in the chords"
    return Reading(_with_splits(reading.dataset), skipped, [remark])


def _with_splits(dataset: Dataset) -> Dataset:
    split = [SPLITS.index(name.split()[0]) for name in dataset.names]
    return dataclasses.replace(dataset, split=np.array(split, np.uint8))


def _steps(piece: Any, steps_per_beat: int) -> list[list[int]]:
    """A piece's steps as lists of pitches, rests as -1.

    Raises:
        ValueError, TypeError: if it is no such piece.
    """
    if len(piece) > midi.MAX_BEATS * steps_per_beat:
        raise ValueError(f"it has more than {midi.MAX_BEATS} beats")
    steps = []
    for step in piece:
        # Before its pitches are looked at: text has a length too.
        if isinstance(step, (str, bytes, dict)):
            raise ValueError("its steps are no lists of pitches")
        pitches = [-1 if pitch is None or math.isnan(pitch) else pitch for pitch in step]
        if any(pitch != int(pitch) or not -1 <= pitch <= 127 for pitch in pitches):
            raise ValueError("its pitches are not MIDI's, whole numbers from 0 to 127")
        steps.append([int(pitch) for pitch in pitches])
    if not any(pitch >= 0 for step in steps for pitch in step):
        raise ValueError("no notes")
    return steps


def _separate(name: str, steps: list[list[int]], steps_per_beat: int) -> Piece:
    rows = np.array(steps)
    roll = np.zeros((len(rows), pianoroll.MIDI_PITCHES, VOICES), bool)
    step, voice = np.nonzero(rows >= 0)
    roll[step, rows[step, voice], voice] = True
    return Piece(name, pianoroll.pack(roll), np.arange(0, len(rows), BEATS * steps_per_beat))


def _together(steps: list[list[int]], steps_per_beat: int) -> midi.Score:
    roll = np.zeros((len(steps), pianoroll.MIDI_PITCHES), bool)
    for n, step in enumerate(steps):
        roll[n, [pitch for pitch in step if pitch >= 0]] = True
    runs = pianoroll.runs(roll)
    notes = np.column_stack([runs, np.full(len(runs), midi.VELOCITY)])
    part = midi.Part("", 0, 0, Track("Piano", 0).program, notes)
    file = mido.MidiFile(ticks_per_beat=steps_per_beat)
    return midi.Score(file, (part,), ((0, midi.DEFAULT_TEMPO),), ((0, BEATS, 4),))


def _read_npz(path: Path, pickled: bool) -> dict[str, Any]:
    """The splits of an `.npz`, each of an object array of pieces, or a whole `(N, T, 4)` array."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        npz.check_size(archive, limits.MAX_COLLECTION_BYTES)
        for name in SPLITS:
            if f"{name}.npy" not in archive.namelist():
                continue
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as file:
                header = npz.read_header(file)
                if not header.dtype.hasobject:
                    npz.check_member(archive, member)
                    found[name] = list(_padded(archive.read(member)))
                elif pickled:
                    found[name] = _unpickled(file)
                else:
                    raise UserError(
                        f"{path}: its arrays were saved with pickle, which can run programs; use "
                        "the JSON file, or --pickled if you trust this one"
                    )
    return found


def _padded(content: bytes) -> Iterator[np.ndarray]:
    """The pieces of an array `(N, T, 4)`, without the steps of rests at the end."""
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.ndim != 3 or array.shape[2] != VOICES or array.dtype.kind not in "iuf":
        raise ValueError(f"an array {array.shape} of {array.dtype}, not (N, T, {VOICES}) pitches")
    for piece in array:
        last = np.flatnonzero((piece >= 0).any(axis=1))
        yield piece[: last[-1] + 1 if len(last) else 0]


class _Dtype:
    """In place of `numpy.dtype`, which a damaged pickle can make crash the process."""

    def __init__(self, kind: str, *_: object) -> None:
        self.kind, self.order = kind, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """In place of `numpy.ndarray`: keeps what a pickle says of one, until it has been checked."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.content = state


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, _: str = "latin1") -> bytes:
    return text.encode("latin1")


MADE = {
    "_reconstruct": _reconstruct,
    "ndarray": _Array,
    "dtype": _Dtype,
    "encode": _encode,
}


class _Arrays(pickle.Unpickler):
    """Keeps what is said of NumPy's arrays, and calls nothing of any package."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(f"its pickle wants {module}.{name}, not an array")
        return MADE[name]


def _check_opcodes(content: bytes) -> None:
    """Refuse a pickle that takes memory without end; one that is cut off, too.

    The unpickler makes room for the highest number that an object is filed under, in Python's own
    code: a file of 400 bytes took 18 GiB.

    Raises:
        ValueError: if it is such a pickle.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        number = argument if opcode.name.endswith("PUT") else 0
        if max(count, number or 0) >= limits.MAX_PICKLED:
            raise ValueError(f"its pickle has more than {limits.MAX_PICKLED} objects")


def _made(value: Any, budget: Iterator[int]) -> Any:
    """The arrays that a pickle described, those of objects as lists.

    A list may hold another many times, and that a third: `budget` has a number for each value.

    Raises:
        ValueError: if there are more values, or an array is not of pitches.
    """
    if next(budget, None) is None:
        raise ValueError(f"its pickle has more than {limits.MAX_PICKLED} objects")
    if isinstance(value, (list, tuple)):
        return [_made(each, budget) for each in value]
    if not isinstance(value, _Array):
        return value
    if value.dtype.kind in ("O", "O8"):
        return _made(value.content, budget) if len(value.shape) == 1 else []
    content = value.content
    if isinstance(content, str):  # written by Python 2
        content = content.encode("latin1")
    dtype = np.dtype(f"{value.dtype.order}{value.dtype.kind}".replace("|", ""))
    if dtype.kind not in "iuf":
        raise ValueError(f"its pickle has an array of {dtype}, not of pitches")
    order = "F" if value.fortran else "C"
    return np.frombuffer(bytes(content), dtype).reshape(value.shape, order=order)


def _unpickled(file: IO[bytes]) -> list[Any]:
    content = file.read()
    _check_opcodes(content)
    # Those of Python 2 hold bytes as text.
    value = _Arrays(io.BytesIO(content), encoding="latin1").load()
    made = _made(value, iter(range(limits.MAX_PICKLED)))
    if not isinstance(made, (list, np.ndarray)) or (isinstance(made, np.ndarray) and not made.ndim):
        raise ValueError("its pickle is no array of pieces")
    return list(made)
