"""The reader of musegan's training file, `train_x_lpd_5_phr.npz`.

The Lakh Pianoroll Dataset cut into phrases of four bars, as MuseGAN (Dong, Hsiao, Yang and Yang,
2018) was trained on: `shape` is `(phrases, 4 bars, 48 steps, 84 pitches, 5 tracks)`, `nonzero`
`(5, N)` the indices of the notes' cells, by phrase. The whole array would take 8 GB: it is read as
a stream, one phrase after another.
"""

import contextlib
import io
import itertools
import math
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import mido
import numpy as np

from musegan_jax import files, limits, pianoroll
from musegan_jax.data import midi, npz
from musegan_jax.data.readers.lpd import FIVE
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.data.readers.songs import Options, Reading, Song, join, song_of
from musegan_jax.errors import UserError

LOWEST_PITCH = 24
BEATS = 4  # in a bar
CHUNK = 2**18  # cells that are read at once: 2 MiB for each axis
CELLS = 48 * 48 * 84 * 5 * 4  # the most in a phrase, of bars of any length
NAME = "phrase"


def read_musegan(path: str | Path, options: Options) -> Reading:
    """Read a file of phrases; a piece is a phrase, called by its number, `phrase 000007`.

    Args:
        path: the `.npz` file.
        options: how phrases become pieces; `families` are `lpd.FIVE`, `parts` None.

    Raises:
        UserError: if it cannot be read, or has no usable phrase.
    """
    path = Path(path)
    songs: list[Song] = []
    skipped: list[Skipped] = []
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        for n, score in _phrases(path):
            name = f"{NAME} {n:06d}"
            try:
                songs.append(song_of(score, name, options))
            except UserError as error:
                skipped.append(Skipped(name, str(error)))
    except UserError:
        raise
    # A damaged file can make the parsers raise anything.
    except Exception as error:
        raise files.unreadable(path, error, "phrases") from error
    if not songs:
        raise UserError(f"{path}: none of its {len(skipped)} phrases has notes that can be used")
    return join(songs, skipped, options, f"phrases {path.name}")


def _phrases(path: Path) -> Iterator[tuple[int, midi.Score]]:
    """The number and the notes of each phrase that has any, in order."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("shape.npy")
        if npz.check_member(archive, member).bytes > 64:
            raise ValueError("its shape is no shape")
        read = np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
        shape = tuple(read.tolist())
        _check(shape)
        member = archive.getinfo("nonzero.npy")
        with contextlib.closing(_cells(archive, member, shape)) as cells:
            for phrase, of_phrase in itertools.groupby(_split(cells), key=lambda pair: pair[0]):
                parts: list[np.ndarray] = []
                for _, part in of_phrase:
                    parts.append(part)
                    # They are kept until the phrase ends: a small file may hold a great many.
                    if sum(map(len, parts)) > math.prod(shape[1:]):
                        raise ValueError(f"more cells in phrase {phrase} than its shape has")
                yield phrase, _score(np.concatenate(parts), shape)


def _check(shape: tuple[int, ...]) -> None:
    if len(shape) != 5 or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"its shape is {shape}, not phrases, bars, steps, pitches, tracks")
    phrases, bars, steps, pitches, tracks = shape
    if phrases > limits.MAX_PIECES:
        raise ValueError(f"{phrases} phrases; up to {limits.MAX_PIECES} are read")
    fits = tracks == len(FIVE) and pitches <= pianoroll.MIDI_PITCHES - LOWEST_PITCH
    if not fits or steps % BEATS or bars * steps * pitches * tracks > CELLS:
        raise ValueError(f"its phrases are {shape[1:]}, not such as (4, 48, 84, 5)")


def _cells(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, shape: tuple[int, ...]
) -> Generator[np.ndarray, None, None]:
    """The indices of the notes' cells, int `(n, 5)`, in pieces of which `CHUNK` is the largest."""
    header = npz.check_member(archive, member)
    whole = len(header.shape) == 2 and header.shape[0] == 5 and header.dtype.kind in "iu"
    if not whole:
        raise ValueError(f"its cells are {header.shape} of {header.dtype}, not (5, N) indices")
    count, size = header.shape[1], header.dtype.itemsize
    if count > 2 * shape[0] * CELLS:
        raise ValueError("more cells than its shape has")
    with contextlib.ExitStack() as stack:
        # Each axis lies after the other: five places in the file are read at once.
        files = []
        for axis in range(1 if header.fortran else 5):
            file = stack.enter_context(archive.open(member))
            npz.read_header(file)
            file.seek(axis * count * size, io.SEEK_CUR)
            files.append(file)
        for first in range(0, count, CHUNK):
            n = min(CHUNK, count - first)
            if header.fortran:
                rows = _read(files[0], 5 * n, header.dtype).reshape(n, 5)
            else:
                rows = np.column_stack([_read(file, n, header.dtype) for file in files])
            if (rows < 0).any() or (rows >= np.array(shape)).any():
                raise ValueError("a cell outside its shape")
            yield rows


def _read(file: IO[bytes], count: int, dtype: np.dtype) -> np.ndarray:
    content = file.read(count * dtype.itemsize)
    return np.frombuffer(content, dtype).astype(np.int64)


def _split(chunks: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Cells by phrase; those of one may come in two parts, where a chunk ends."""
    last = 0
    for rows in chunks:
        starts = np.flatnonzero(np.diff(rows[:, 0], prepend=rows[0, 0] - 1))
        for part in np.split(rows, starts[1:]):
            phrase = int(part[0, 0])
            if phrase < last:
                raise ValueError("its phrases are not in order")
            last = phrase
            yield phrase, part[:, 1:]


def _score(cells: np.ndarray, shape: tuple[int, ...]) -> midi.Score:
    """The notes of a phrase, from cells `(n, 4)` of bar, step, pitch and track."""
    _, bars, steps, pitches, tracks = shape
    bar, step, pitch, track = cells.T
    roll = np.zeros((tracks, bars * steps, pitches), bool)
    roll[track, bar * steps + step, pitch] = True
    parts = []
    for k, about in enumerate(FIVE):
        runs = pianoroll.runs(roll[k]) + (0, 0, LOWEST_PITCH)
        if len(runs):
            notes = np.column_stack([runs, np.full(len(runs), midi.VELOCITY)])
            channel = midi.DRUM_CHANNEL if about.is_drum else 0
            parts.append(midi.Part(about.name, k, channel, about.program, notes))
    file = mido.MidiFile(ticks_per_beat=steps // BEATS)
    return midi.Score(file, tuple(parts), ((0, midi.DEFAULT_TEMPO),), ((0, BEATS, 4),))
