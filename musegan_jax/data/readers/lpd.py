"""The reader of folders of pypianoroll's `.npz` files, such as the Lakh Pianoroll Dataset.

The format is that of pypianoroll 0.3 to 1.0
(https://salu133445.github.io/pypianoroll/save_load.html): track i is `pianoroll_{i}`, `(T, 128)`,
dense, or the parts of a sparse matrix of SciPy, whose names begin with `pianoroll_{i}_csc_`;
`downbeat`, `(T,)` or `(T, 1)`, is true where a bar begins; the zip member `info.json` has steps per
quarter note, and each track's name, program and drum flag. Read with NumPy alone, without pickle.
"""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import mido
import numpy as np

from musegan_jax import files, limits, pianoroll
from musegan_jax.data import midi, npz
from musegan_jax.data.readers.midi_folder import Kind, read_folder
from musegan_jax.data.readers.songs import FAMILIES, SEVENTEEN, Options, Reading
from musegan_jax.errors import UserError

FIVE = (FAMILIES[-1], *FAMILIES[:-1])  # in LPD-5's order, the drums first
INFO = "info.json"


def read_lpd(folder: str | Path, options: Options) -> Reading:
    """Read every `.npz` file below a folder; see `midi_folder.read_folder`.

    Args:
        folder: of files of `pypianoroll.save`.
        options: `families` are `FIVE` or `SEVENTEEN`.

    Raises:
        UserError: if no file gave a piece.
    """
    return read_folder(folder, KIND, options)


def layout(tracks: int) -> tuple[pianoroll.Track, ...]:
    """The tracks of LPD-5 or LPD-17.

    Raises:
        UserError: for another number.
    """
    if tracks not in (len(FIVE), len(SEVENTEEN)):
        raise UserError(f"--families {tracks}: it must be 5 or 17, as in LPD-5 and LPD-17")
    return FIVE if tracks == len(FIVE) else SEVENTEEN


def read(path: str | Path) -> midi.Score:
    """One file as a score with a tick for each time step.

    A note is a run of steps above 0 at one pitch: its velocities are not kept.

    Raises:
        UserError: if it cannot be read, or is larger or longer than a piece of music.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        arrays, others = npz.read_arrays(path, limits.MAX_ROLL_BYTES, other=(INFO,))
        if INFO not in others:
            raise ValueError(f"it has no {INFO}: it is not of pypianoroll")
        return _score(arrays, json.loads(others[INFO]))
    except UserError:
        raise
    # A damaged file can make the parsers raise anything.
    except Exception as error:
        raise files.unreadable(path, error, "pypianoroll's npz") from error


def _read(path: Path) -> list[midi.Score]:
    return [read(path)]


KIND = Kind("pypianoroll", (".npz",), _read)


def _score(arrays: dict[str, np.ndarray], info: Any) -> midi.Score:
    resolution = info.get("resolution", info.get("beat_resolution"))
    if type(resolution) is not int or not 1 <= resolution <= limits.MAX_RESOLUTION:
        raise ValueError(f"a resolution of {resolution}")
    numbers = sorted(int(key) for key in info if key.isascii() and key.isdecimal())
    if len(numbers) > limits.MAX_TRACKS:
        raise ValueError(f"{len(numbers)} tracks; up to {limits.MAX_TRACKS} are read")
    longest = midi.MAX_BEATS * resolution
    parts = []
    for n in numbers:
        about = info[str(n)]
        track = pianoroll.Track(
            str(about["name"] or "")[: pianoroll.MAX_NAME], about["program"], about["is_drum"]
        )
        if not pianoroll.is_track(track):
            raise ValueError(f"track {n} has a name, program or drum flag out of range")
        runs = pianoroll.runs(_roll(arrays, f"pianoroll_{n}", longest))
        if len(runs):
            notes = np.column_stack([runs, np.full(len(runs), midi.VELOCITY)])
            channel = midi.DRUM_CHANNEL if track.is_drum else 0
            parts.append(midi.Part(track.name, n, channel, track.program, notes))
    end = max((int(part.notes[:, 1].max()) for part in parts), default=0)
    meters = _meters(arrays.get("downbeat"), resolution, longest)
    return midi.Score(
        midi=mido.MidiFile(ticks_per_beat=resolution),
        parts=tuple(parts),
        tempos=((0, midi.DEFAULT_TEMPO),),
        meters=tuple(meter for meter in meters if meter[0] == 0 or meter[0] < end),
    )


def _roll(arrays: dict[str, np.ndarray], name: str, longest: int) -> np.ndarray:
    """One track, bool `(T, 128)`; silent if the file has none, or one of no length."""
    if name in arrays:
        roll = arrays[name]
        if not roll.size:
            return np.zeros((0, pianoroll.MIDI_PITCHES), bool)
        _check_roll(name, roll.shape, longest)
        return _sounding(roll)
    form = next((f for f in ("csc", "csr") if f"{name}_{f}_shape" in arrays), None)
    if form is None:
        raise ValueError(f"it has no {name}")
    data, indices, starts, shape = (
        arrays[f"{name}_{form}_{part}"] for part in ("data", "indices", "indptr", "shape")
    )
    for part in (indices, starts, shape):
        if part.dtype.kind not in "iu" or part.ndim != 1:
            raise ValueError(f"{name}: its indices are no whole numbers")
    length, pitches = shape.tolist()
    if length == 0:
        return np.zeros((0, pianoroll.MIDI_PITCHES), bool)
    _check_roll(name, (length, pitches), longest)
    outer, inner = (pitches, length) if form == "csc" else (length, pitches)
    counts = np.diff(starts.astype(np.int64))
    whole = starts.shape == (outer + 1,) and starts[0] == 0 and starts[-1] == len(indices)
    within = not len(indices) or (0 <= indices.min() and indices.max() < inner)
    if not whole or (counts < 0).any() or not within or data.shape != indices.shape:
        raise ValueError(f"{name}: its sparse matrix is not whole")
    roll = np.zeros((outer, inner), bool)
    roll[np.repeat(np.arange(outer), counts), indices] = _sounding(data)
    return roll.T if form == "csc" else roll


def _check_roll(name: str, shape: tuple[int, ...], longest: int) -> None:
    if len(shape) != 2 or shape[1] != pianoroll.MIDI_PITCHES:
        raise ValueError(f"{name} has shape {shape}, not (T, {pianoroll.MIDI_PITCHES})")
    if not 0 < shape[0] <= longest:
        raise ValueError(f"{name} is {shape[0]} steps long; up to {longest} are read")


def _sounding(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"velocities of dtype {values.dtype}")
    return values > 0


def _meters(downbeat: Any, resolution: int, longest: int) -> tuple[tuple[int, int, int], ...]:
    """Meters whose bars begin where the downbeats are; 4/4 throughout if the file has none."""
    common = ((0, 4, 4),)
    if downbeat is None or downbeat.dtype.kind != "b" or downbeat.size > longest:
        return common
    beats = np.flatnonzero(downbeat.ravel()).tolist()
    if not beats:
        return common
    meters: list[tuple[int, int, int]] = []
    starts = beats if beats[0] == 0 else [0, *beats]  # a pick-up is a bar of its own
    for start, end in itertools.pairwise(starts):
        length = Fraction(end - start, 4 * resolution)  # in whole notes
        meter = (length.numerator, length.denominator)
        if not meters or meters[-1][1:] != meter:
            meters.append((start, *meter))
    # Of the last bar only the beginning is known: as long as the one before.
    return tuple(meters) or common
