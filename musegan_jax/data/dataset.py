"""The dataset file: pieces as bit-packed timelines, with splits and provenance.

An `.npz` without pickled objects. A hash of a piece's name decides its split, so that all windows
of a piece share a split, and a new file never moves an old one to another. Where that would leave
a small collection without held-out pieces, see `splits_of`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.config.fields import SPLITS
from musegan_jax.data import npz
from musegan_jax.errors import UserError
from musegan_jax.hashing import sha256
from musegan_jax.pianoroll import Track, is_track
from musegan_jax.terminal import is_text, shown

FORMAT = 1
MAX_BYTES = 16 * 2**30  # of unpacked arrays; Lakh's 21,425 songs are about 6 GiB
# Rolls of music shrink to a fiftieth when packed, and to a 170th on the finest grid; zip shrinks
# silence to a thousandth, so that a file of 3 MB could take 3 GB of memory.
MAX_RATIO = 250
FREE_BYTES = 64 * 2**20  # a small file may hold any music
MAX_PATH = 2**16  # characters in a piece's name
SPLIT_ENDS = (0.8, 0.9)  # train below the first, valid below the second, test above


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
        parts: list[str | np.ndarray] = []
        for array in (self.timeline, self.boundaries, self.bars, self.split):
            parts += [f"{array.dtype.str}{array.shape}", array]
        parts.append(json.dumps([self.names, self.tracks, self.steps_per_beat]))
        return sha256(parts)


def _share(name: str) -> float:
    """A hash of a name as a number in [0, 1), below which is the share of all names with less."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(name: str) -> int:
    """The split, as an index into `SPLITS`, of a piece of this name in a large collection."""
    return sum(_share(name) >= end for end in SPLIT_ENDS)


def splits_of(names: Sequence[str]) -> np.ndarray:
    """The split of each of all pieces of a collection, by name: uint8 `(N,)`, index into `SPLITS`.

    By the hash of its name alone, if that gives `valid` and `test` two pieces each, as it does for
    nearly every collection of a hundred: then no piece is ever moved by adding others. A smaller
    collection moves as few pieces as it can: those with the highest hashes are held out, two for
    each split, or one of fewer than eight pieces, none of fewer than four.
    """
    shares = np.array([_share(name) for name in names])
    split = np.array([split_of(name) for name in names], np.uint8)
    train, valid, test = (int((split == k).sum()) for k in range(3))
    least = min(len(names) // 4, 2)
    if least and min(valid, test) >= least and 2 * train >= len(names):
        return split
    valid, test = (max(least, min(count, len(names) // 4)) for count in (valid, test))
    highest = np.argsort(-shares, kind="stable")
    split[:] = 0
    split[highest[:test]] = 2
    split[highest[test : test + valid]] = 1
    return split


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
    lengths = [len(piece.roll) for piece in ordered]
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bars = [piece.bars + start for piece, start in zip(ordered, boundaries[:-1], strict=True)]
    return Dataset(
        timeline=np.concatenate([piece.roll for piece in ordered]),
        boundaries=boundaries,
        bars=np.concatenate(bars).astype(np.int64),
        split=splits_of([piece.name for piece in ordered]),
        names=tuple(piece.name for piece in ordered),
        tracks=tuple(tracks),
        steps_per_beat=steps_per_beat,
        source=source,
    )


def save(dataset: Dataset, path: str | Path) -> None:
    """Write the dataset file.

    Raises:
        UserError: if it cannot be written.
    """
    about = {
        "format": FORMAT,
        "names": dataset.names,
        "tracks": dataset.tracks,
        "steps_per_beat": dataset.steps_per_beat,
        "source": dataset.source,
        "sha256": dataset.digest(),
    }
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            timeline=dataset.timeline,
            boundaries=dataset.boundaries,
            bars=dataset.bars,
            split=dataset.split,
        )


def load(path: str | Path) -> Dataset:
    """Read a dataset file and check its shape and its hash.

    Raises:
        UserError: if it is missing, damaged, or not a dataset file.
    """
    if Path(path).is_dir():
        raise UserError(
            f"{path}: a folder; make a dataset file from it with `musegan-jax data build midi`"
        )
    try:
        arrays, _ = npz.read_arrays(Path(path), MAX_BYTES, FREE_BYTES, MAX_RATIO)
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
        damaged = dataset.digest() != about["sha256"]
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such dataset file; make one with `musegan-jax data build`"
        ) from None
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
    if damaged:
        raise UserError(f"{path}: damaged (its hash differs); build it again")
    return dataset


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


def _is_grid(steps_per_beat: Any) -> bool:
    return type(steps_per_beat) is int and 1 <= steps_per_beat <= 96


def describe(dataset: Dataset) -> str:
    """What `musegan-jax data info` prints."""
    lines = [
        f"source      {shown(dataset.source)}",
        f"sha256      {dataset.digest()}",
        f"pieces      {len(dataset.names)}",
        f"steps       {len(dataset.timeline)} ({dataset.steps_per_beat} per beat, "
        f"{len(dataset.bars)} bars)",
    ]
    for split, name in enumerate(SPLITS):
        steps = np.diff(dataset.boundaries)[dataset.split == split]
        lines.append(f"{name:<12}{len(steps)} pieces, {int(steps.sum())} steps")
    names = [shown(track.name, 40) for track in dataset.tracks]
    width = max(8, *map(len, names)) + 2
    lines.append(f"{'tracks':<{width}}  pitches  sounding  program")
    for k, track in enumerate(dataset.tracks):
        column = dataset.timeline[:, k : k + 1]
        bounds = pianoroll.pitch_bounds(column)
        sounding = np.mean(np.any(column, axis=(1, 2)))
        pitches = f"{bounds[0]}-{bounds[1]}" if bounds else "silent"
        program = "drums" if track.is_drum else str(track.program)
        lines.append(f"  {names[k]:<{width}}{pitches:<9}{sounding:<10.0%}{program}")
    return "\n".join(lines)


def shortcomings(dataset: Dataset) -> Iterator[str]:
    """What to know of a dataset before training on it, a line each."""
    train, valid, test = (int((dataset.split == k).sum()) for k in range(3))
    if min(valid, test) < 2:
        count = len(dataset.names)
        yield (
            f"{count} piece{'s' * (count > 1)}, {valid} held out in valid and {test} in test: from "
            "8 on, two each are; with fewer in valid, train with --output.held_out=0"
        )
    # Windows of four bars of 4/4, from every fourth bar.
    steps = 16 * dataset.steps_per_beat
    windows = [
        dataset.timeline[start : start + steps].any(axis=(0, 2))
        for piece in range(len(dataset.names))
        for start in dataset.bars_of(piece)[::4]
    ]
    silent = 1 - np.mean(windows, axis=0) if windows else np.ones(len(dataset.tracks))
    for track, share in zip(dataset.tracks, silent, strict=True):
        if share > 0.5:
            yield f"the track {track.name} is silent in {share:.0%} of the passages of four bars"
