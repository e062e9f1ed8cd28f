"""The pieces of a dataset as files: MIDI, MusicXML, or pypianoroll's `.npz`."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import mido
import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError

BPM = 100  # a dataset has no tempo
FINEST = 64  # beat type
SUFFIXES = {"midi": ".mid", "musicxml": ".musicxml", "pypianoroll": ".npz"}
MUSIC = re.compile(r"\.(midi?|npz|musicxml|xml|mxl|abc|krn|kern)$", re.IGNORECASE)
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')  # in names, on some system
MAX_PART = 200  # characters in a file's name; file systems have 255 bytes


def export(dataset: Dataset, folder: Path, form: str) -> Iterator[Path]:
    """Write each piece into a folder, under its name; yield each path once written.

    A note is a run of steps at one pitch. Meters are those of the dataset's bars; the tempo is
    `BPM`, and loudness the same throughout.

    Args:
        dataset: whose pieces to write.
        folder: made if it is missing.
        form: `midi`, `musicxml` or `pypianoroll`.

    Raises:
        UserError: if one cannot be written, or is there already.
    """
    write: Callable[[Dataset, int, Path], None] = {
        "midi": lambda data, n, path: midi.write(to_midi(data, n), path),
        "musicxml": _musicxml,
        "pypianoroll": _pypianoroll,
    }[form]
    paths = [folder / name for name in file_names(dataset.names, SUFFIXES[form])]
    for path in paths:  # before the first is written
        if path.exists():
            raise UserError(f"{path}: is there already; name an empty folder")
    files.make_folder(folder)
    for n, path in enumerate(paths):
        files.make_folder(path.parent)
        write(dataset, n, path)
        yield path


def file_names(names: tuple[str, ...], suffix: str) -> list[str]:
    """A relative path for each piece, within the folder and unlike all others.

    Pieces may be called anything, `../../x` and `a.mid` and `A.midi` included.
    """
    taken: set[str] = set()
    paths = []
    for name in names:
        parts = [FORBIDDEN.sub("_", part)[:MAX_PART].strip(" .") for part in name.split("/")]
        stem = MUSIC.sub("", "/".join(part for part in parts if part)) or "piece"
        path, n = stem, 1
        while path.casefold() in taken:
            n += 1
            path = f"{stem}-{n}"
        taken.add(path.casefold())
        paths.append(path + suffix)
    return paths


def to_midi(dataset: Dataset, piece: int) -> mido.MidiFile:
    """A piece as a MIDI file, with a meter wherever the length of the bars changes.

    A pick-up is a bar of its own. Bars of lengths that are no meter have none.
    """
    roll = pianoroll.unpack(dataset.packed(piece))
    song = midi.from_roll(roll, dataset.tracks, dataset.steps_per_beat, BPM)
    now = 0
    for step, beats, beat_type in _meters(dataset, piece):
        tick = step * midi.TICKS_PER_BEAT // dataset.steps_per_beat
        message = mido.MetaMessage(
            "time_signature", numerator=beats, denominator=beat_type, time=tick - now
        )
        song.tracks[0].append(message)
        now = tick
    return song


def _meters(dataset: Dataset, piece: int) -> Iterator[tuple[int, int, int]]:
    """Step, beats and beat type of each change of meter."""
    first, end = (int(step) for step in dataset.boundaries[piece : piece + 2])
    bars = (dataset.bars_of(piece) - first).tolist()
    if not bars:
        return
    starts = bars if bars[0] == 0 else [0, *bars]
    before = 0
    for start, following in zip(starts, [*starts[1:], end - first], strict=True):
        length = following - start
        if length != before:
            meter = _meter(Fraction(length, 4 * dataset.steps_per_beat))
            if meter is not None:
                yield start, *meter
        before = length


def _meter(length: Fraction) -> tuple[int, int] | None:
    """The meter of bars of so many whole notes, in quarters or finer; None if there is none."""
    beat_type = max(length.denominator, 4)
    beats = int(length * beat_type)
    power_of_two = beat_type & (beat_type - 1) == 0
    return (beats, beat_type) if power_of_two and beat_type <= FINEST and beats < 256 else None


def _musicxml(dataset: Dataset, piece: int, path: Path) -> None:
    from musegan_jax.data import notation

    score = midi.parse(to_midi(dataset, piece), str(path))
    notation.write(score, path, dataset.names[piece], dataset.steps_per_beat)


def _pypianoroll(dataset: Dataset, piece: int, path: Path) -> None:
    """Write a file that `pypianoroll.load` reads; the format is told in `readers/lpd.py`."""
    roll = pianoroll.unpack(dataset.packed(piece))
    first = int(dataset.boundaries[piece])
    downbeat = np.zeros((len(roll), 1), bool)
    downbeat[dataset.bars_of(piece) - first] = True
    arrays = {"tempo": np.full((len(roll), 1), float(BPM)), "downbeat": downbeat}
    info: dict[str, object] = {
        "resolution": dataset.steps_per_beat,
        "name": dataset.names[piece],
    }
    for k, track in enumerate(dataset.tracks):
        pitch, step = np.nonzero(roll[..., k].T)
        starts = np.concatenate([[0], np.cumsum(np.bincount(pitch, minlength=roll.shape[1]))])
        arrays |= {
            f"pianoroll_{k}_csc_data": np.full(len(step), midi.VELOCITY, np.uint8),
            f"pianoroll_{k}_csc_indices": step.astype(np.int32),
            f"pianoroll_{k}_csc_indptr": starts.astype(np.int32),
            f"pianoroll_{k}_csc_shape": np.array(roll.shape[:2]),
        }
        info[str(k)] = {"program": track.program, "is_drum": track.is_drum, "name": track.name}
    with files.replacing(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr("info.json", json.dumps(info))
