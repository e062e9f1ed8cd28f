"""The dataset file: pieces as bit-packed timelines, with splits and provenance.

An `.npz` without pickled objects. All windows of a piece share a split.
"""

import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.config.fields import SPLITS
from musegan_jax.data import archive
from musegan_jax.data.archive import Streamed
from musegan_jax.data.splits import splits_of
from musegan_jax.errors import UserError, first_line
from musegan_jax.hashing import sha256
from musegan_jax.pianoroll import Track, is_track
from musegan_jax.terminal import is_text

FORMAT = 1
CHUNK = 2**16  # steps that are looked at, hashed or written at once
MAX_BYTES = 16 * 2**30  # of unpacked arrays; Lakh's 21,425 songs are about 6 GiB
# Rolls of music shrink to a fiftieth when packed, and to a 170th on the finest grid; zip shrinks
# silence to a thousandth, so that a file of 3 MB could take 3 GB of memory.
MAX_RATIO = 250
FREE_BYTES = 64 * 2**20  # a small file may hold any music
MAX_PATH = 2**16  # characters in a piece's name


class Piece(NamedTuple):
    """One piece, as a reader returns it.

    `roll` is packed uint8 `(T, K, 16)`; `bars` int `(N,)` are the steps at which bars begin,
    without a pick-up bar.
    """

    name: str
    roll: np.ndarray
    bars: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """All pieces end to end.

    Attributes:
        timeline: uint8 `(S, K, 16)`, packed.
        boundaries: int64 `(N + 1,)`; piece n is steps `boundaries[n]` to `boundaries[n + 1]`.
        bars: int64 `(M,)`, steps of the timeline at which bars begin, increasing.
        split: uint8 `(N,)`, index into `SPLITS`.
        names: of the pieces.
        tracks: of the rolls.
        steps_per_beat: time steps in a quarter note.
        source: where the pieces came from.
    """

    timeline: np.ndarray
    boundaries: np.ndarray
    bars: np.ndarray
    split: np.ndarray
    names: tuple[str, ...]
    tracks: tuple[Track, ...]
    steps_per_beat: int
    source: str

    def pieces_of(self, splits: Iterable[str]) -> np.ndarray:
        """Indices of the pieces in the named splits, int64."""
        return np.flatnonzero(np.isin(self.split, [SPLITS.index(name) for name in splits]))

    def bars_of(self, piece: int) -> np.ndarray:
        """Steps of the timeline at which the bars of one piece begin, int64."""
        first, last = np.searchsorted(self.bars, self.boundaries[piece : piece + 2])
        return self.bars[first:last]

    def packed(self, piece: int) -> np.ndarray:
        """The roll of one piece, packed uint8 `(T, K, 16)`."""
        return self.timeline[self.boundaries[piece] : self.boundaries[piece + 1]]

    def digest(self) -> str:
        """SHA-256 of everything but `source`: equal music has an equal hash."""
        if "_digest" in self.__dict__:  # of a file that was read: hashed once, it may be many GiB
            return self.__dict__["_digest"]
        parts: list[str | np.ndarray] = []
        for array in (self.timeline, self.boundaries, self.bars, self.split):
            parts += [f"{array.dtype.str}{array.shape}", *_chunks(array)]
        parts.append(json.dumps([self.names, self.tracks, self.steps_per_beat]))
        return sha256(parts)

    def edges(self) -> np.ndarray:
        """The lowest and the highest pitch at each step, uint8 `(S, K, 2)` (`pianoroll.edges`)."""
        if "_edges" not in self.__dict__:  # of no file, or of one that does not say: found once
            found = np.concatenate([*map(pianoroll.edges, _chunks(self.timeline))])
            object.__setattr__(self, "_edges", found)
        return self.__dict__["_edges"]

    def bounds(self, pieces: np.ndarray | None = None) -> list[tuple[int, int]]:
        """The lowest and the highest pitch of each track, in some pieces only, if given.

        `(pianoroll.SILENT, 0)` of a track without notes.
        """
        if pieces is None:
            first, last = np.array([0]), np.array([len(self.timeline)])
        else:
            first, last = self.boundaries[pieces], self.boundaries[np.asarray(pieces) + 1]
        low, high = pianoroll.edges_over(self.edges(), first, last)
        lows = low.min(0, initial=pianoroll.SILENT).tolist()
        return list(zip(lows, high.max(0, initial=0).tolist(), strict=True))


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in parts, at least one: it may lie on a disk, and what is made of it take memory."""
    for start in range(0, max(len(array), 1), CHUNK):
        yield array[start : start + CHUNK]


def build(
    pieces: Iterable[Piece], tracks: Iterable[Track], steps_per_beat: int, source: str
) -> Dataset:
    """Join pieces into a dataset, sorted by name.

    Raises:
        UserError: if there is no piece.
    """
    ordered = sorted(pieces, key=lambda piece: piece.name)
    if not ordered:
        raise UserError(f"{source}: no piece could be used")
    timeline = np.concatenate([piece.roll for piece in ordered])
    listed = [Listed(piece.name, len(piece.roll), piece.bars) for piece in ordered]
    return from_timeline(timeline, listed, tracks, steps_per_beat, source)


class Listed(NamedTuple):
    """A piece of a timeline: its name, its length, and its steps at which bars begin."""

    name: str
    steps: int
    bars: Sequence[int] | np.ndarray


def from_timeline(
    timeline: np.ndarray,
    pieces: Sequence[Listed],
    tracks: Iterable[Track],
    steps_per_beat: int,
    source: str,
) -> Dataset:
    """The dataset of a timeline `(S, K, 16)` that holds these pieces, which are sorted by name."""
    boundaries = np.concatenate([[0], np.cumsum([piece.steps for piece in pieces])])
    bars = [
        np.asarray(piece.bars, np.int64) + start
        for piece, start in zip(pieces, boundaries[:-1], strict=True)
    ]
    return Dataset(
        timeline=timeline,
        boundaries=boundaries.astype(np.int64),
        bars=np.concatenate([np.zeros(0, np.int64), *bars]),
        split=splits_of([piece.name for piece in pieces]),
        names=tuple(piece.name for piece in pieces),
        tracks=tuple(tracks),
        steps_per_beat=steps_per_beat,
        source=source,
    )


def save(dataset: Dataset, path: str | Path, shard: dict[str, Any] | None = None) -> None:
    """Write the dataset file.

    Args:
        dataset: to be written.
        path: the file.
        shard: of a part of a build, what `merge` needs to know; see `shard_of`.

    Raises:
        UserError: if it cannot be written.
    """
    arrays = {
        name: Streamed(array.shape, array.dtype, _chunks(array))
        for name, array in _arrays(dataset).items()
    }
    # While zlib compresses, another core hashes and finds the edges: seconds for each GiB.
    beside = ThreadPoolExecutor(1)
    digest, edges = beside.submit(dataset.digest), beside.submit(dataset.edges)

    def edges_found() -> Iterator[np.ndarray]:
        yield from _chunks(edges.result())

    def about() -> dict[str, Any]:
        return {
            "format": FORMAT,
            "names": dataset.names,
            "tracks": dataset.tracks,
            "steps_per_beat": dataset.steps_per_beat,
            "source": dataset.source,
            "sha256": digest.result(),
        } | ({} if shard is None else {"shard": shard})

    shape = (*dataset.timeline.shape[:2], 2)
    arrays["edges"] = Streamed(shape, np.dtype(np.uint8), edges_found())
    try:
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            archive.write(file, arrays, about)
    finally:  # an error does not wait for them
        beside.shutdown(wait=False, cancel_futures=True)


def shard_of(dataset: Dataset) -> dict[str, Any] | None:
    """What a file says of the build that it is a part of; None if of none."""
    return dataset.__dict__.get("_shard")


def _arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    return {name: getattr(dataset, name) for name in ("timeline", "boundaries", "bars", "split")}


def load(path: files.AnyPath) -> Dataset:
    """Read a dataset file, also from an address such as `gs://bucket/mine.npz`, and check it.

    Its shape, and its hash or, where it is sealed (`archive`), that it is as it was written.

    Raises:
        UserError: if it is missing, damaged, not a dataset file, or cannot be reached.
    """
    source = _fetched(path) if files.is_remote(path) else Path(path)
    try:
        if isinstance(source, Path) and source.is_dir():
            raise _folder(path)
        arrays, sealed = archive.read(source, MAX_BYTES, FREE_BYTES, MAX_RATIO)
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise UserError(
                f"{path}: dataset format {about['format']}, this version reads {FORMAT}; "
                "build it again with `musegan-jax data build`"
            )
        dataset = Dataset(
            timeline=arrays["timeline"],
            boundaries=arrays["boundaries"],
            bars=arrays["bars"],
            split=arrays["split"],
            names=tuple(about["names"]),
            tracks=tuple(Track(*track) for track in about["tracks"]),
            steps_per_beat=about["steps_per_beat"],
            source=about["source"],
        )
        _check_shape(dataset)
        digest = about["sha256"] if sealed else dataset.digest()
        if digest != about["sha256"] or sealed is False:
            raise UserError(f"{path}: damaged (its hash differs); build it again")
        for array in _arrays(dataset).values():
            array.flags.writeable = False
        object.__setattr__(dataset, "_digest", digest)  # which no array can leave now
        object.__setattr__(dataset, "_shard", about.get("shard"))
        if sealed and _is_edges(arrays["edges"], dataset) and is_text(digest, 64):
            object.__setattr__(dataset, "_edges", arrays["edges"])
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    # A damaged file can make the parsers raise anything.
    except Exception as error:
        raise UserError(
            f"{path}: not a valid dataset file ({error}); build it again with "
            "`musegan-jax data build`"
        ) from error
    return dataset


def _fetched(path: files.AnyPath) -> io.BytesIO:
    """The content of a file at a remote address."""
    where = files.locate(path)
    try:
        if where.is_dir():
            raise _folder(path)
        return io.BytesIO(where.read_bytes())
    except UserError:
        raise
    except FileNotFoundError:
        raise _missing(path) from None
    except Exception as error:  # network, permission, client: may raise anything
        raise UserError(f"{path}: cannot be reached ({first_line(error)})") from error


def _folder(path: files.AnyPath) -> UserError:
    return UserError(
        f"{path}: a folder; make a dataset file from it with `musegan-jax data build midi`"
    )


def _missing(path: files.AnyPath) -> UserError:
    return UserError(f"{path}: no such dataset file; make one with `musegan-jax data build`")


def _check_shape(dataset: Dataset) -> None:
    pieces, steps = len(dataset.names), len(dataset.timeline)
    whole = [
        array.dtype.kind in "iu" and array.ndim == 1
        for array in (dataset.boundaries, dataset.bars, dataset.split)
    ]
    names = [*dataset.names, dataset.source]
    expected: list[tuple[str, Any, Any]] = [
        ("whole numbers", whole, [True] * 3),
        ("names", all(is_text(name, MAX_PATH) for name in names), True),
        ("tracks", all(map(is_track, dataset.tracks)), True),
        ("steps per beat", _is_grid(dataset.steps_per_beat), True),
        ("tracks and pitches", dataset.timeline.shape[1:], (len(dataset.tracks), 16)),
        ("bits", dataset.timeline.dtype, np.uint8),
        ("boundaries", dataset.boundaries.shape, (pieces + 1,)),
        ("splits", dataset.split.shape, (pieces,)),
        ("first step", dataset.boundaries[0], 0),
        ("last step", dataset.boundaries[-1], steps),
        ("order of pieces", bool(np.all(np.diff(dataset.boundaries) > 0)), True),
        ("range of bars", bool(np.all((0 <= dataset.bars) & (dataset.bars < steps))), True),
        ("order of bars", bool(np.all(np.diff(dataset.bars) > 0)), True),
        ("bars", dataset.bars.ndim, 1),
        ("split numbers", bool(np.all(dataset.split < len(SPLITS))), True),
    ]
    for what, found, wanted in expected:
        if found != wanted:
            raise ValueError(f"{what}: {found}, not {wanted}")


def _is_edges(edges: np.ndarray, dataset: Dataset) -> bool:
    return edges.shape == (*dataset.timeline.shape[:2], 2) and edges.dtype == np.uint8


def _is_grid(steps_per_beat: Any) -> bool:
    return type(steps_per_beat) is int and 1 <= steps_per_beat <= 96
