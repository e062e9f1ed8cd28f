"""Every measure of every bar of a set of pieces, as one table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data.dataset import Dataset, Track
from musegan_jax.evaluation import metrics


class Music(NamedTuple):
    """A piece cut into bars: bool `(bars, steps, 128, K)`, all bars of one length.

    `lines`: int `(N,)`, the steps at which its own bars begin; None where they are these bars.
    """

    name: str
    bars: np.ndarray
    lines: np.ndarray | None = None

    @property
    def roll(self) -> np.ndarray:
        """The bars end to end: bool `(T, 128, K)`."""
        return self.bars.reshape(-1, *self.bars.shape[2:])


class Whole(NamedTuple):
    """A piece from its first step to its last.

    Attributes:
        music: all of it in bars of its most common length, from the bar line before its first step
            to the one after its last; steps outside the piece are silent.
        starts: int `(N,)`, the steps of `music.roll` at which bars of that length begin; a pick-up
            and bars of another length have none.
    """

    music: Music
    starts: np.ndarray

    def cut(self) -> Music:
        """Its bars of the most common length; the others are left out."""
        steps = self.music.bars.shape[1]
        bars = [self.music.roll[start : start + steps] for start in self.starts]
        return self.music._replace(bars=np.stack(bars), lines=None)


def cut_alike(pieces: Sequence[Whole], music: Sequence[Music]) -> list[Music]:
    """The bars of `music` at which those of `pieces` lie, which are as long."""
    both = zip(pieces, music, strict=True)
    return [piece._replace(music=each).cut() for piece, each in both]


def track_of(column: str) -> str:
    """The tracks in a column's name: one (`Alto`), two (`Alto-Bass`) or none."""
    return column.partition(".")[2]


class Measures(NamedTuple):
    """The measures of all bars of a set of pieces.

    Attributes:
        names: of the columns, such as `in_scale.Alto`: measure, full stop, tracks.
        values: float `(bars, columns)`, NaN where a measure is undefined.
        pieces: int `(bars,)`, the number of each bar's piece.
    """

    names: tuple[str, ...]
    values: np.ndarray
    pieces: np.ndarray

    def scores(self) -> np.ndarray:
        """Mean of each column over the bars: `(columns,)`."""
        return metrics.score(self.values)

    def by_piece(self) -> np.ndarray:
        """Mean of each column over the bars of each piece: `(pieces, columns)`."""
        return np.stack(
            [metrics.score(self.values[self.pieces == n]) for n in np.unique(self.pieces)]
        )

    def of(self, pieces: np.ndarray) -> "Measures":
        """The measures of some pieces, by number; a piece named twice counts twice."""
        rows = [np.flatnonzero(self.pieces == piece) for piece in pieces]
        numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return Measures(self.names, self.values[np.concatenate(rows)], numbers)


def read_whole(dataset: Dataset, pieces: Iterable[int | np.integer]) -> Iterator[Whole]:
    """Whole pieces of a dataset, one after another; those without bars are left out."""
    for piece in pieces:
        first, end = dataset.boundaries[piece : piece + 2]
        starts = dataset.bars_of(int(piece)) - first
        if not len(starts):
            continue
        lengths = np.diff(np.append(starts, end - first))
        usual = int(np.bincount(lengths).argmax())
        before = -int(starts[0]) % usual
        after = -(before + int(end - first)) % usual
        packed = np.pad(dataset.timeline[first:end], ((before, after), (0, 0), (0, 0)))
        bars = pianoroll.unpack(packed.reshape(-1, usual, *packed.shape[1:]))
        music = Music(dataset.names[piece], bars, before + starts)
        yield Whole(music, before + starts[lengths == usual])


def read_music(dataset: Dataset, pieces: Iterable[int | np.integer]) -> list[Music]:
    """Pieces of a dataset in bars of their most common length; other bars are left out.

    This drops pick-ups and bars of another meter; the bars on both sides then become neighbours.
    """
    return [piece.cut() for piece in read_whole(dataset, pieces)]


def measure(music: Sequence[Music], tracks: Sequence[Track], steps_per_beat: int) -> Measures:
    """Measure all bars of all pieces.

    Args:
        music: the pieces, all tracks of each.
        tracks: of the pieces.
        steps_per_beat: time steps in a quarter note.
    """
    tables = [dict(_columns(piece.bars, tracks, steps_per_beat)) for piece in music]
    names = tuple(tables[0])
    values = [np.stack([table[name] for name in names], axis=1) for table in tables]
    counts = [len(table) for table in values]
    return Measures(names, np.concatenate(values), np.repeat(np.arange(len(music)), counts))


def _columns(
    bars: np.ndarray, tracks: Sequence[Track], steps_per_beat: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of one piece, by name; `(bars,)` each."""
    pitched = [k for k, track in enumerate(tracks) if not track.is_drum]
    melodic = bars[..., pitched]
    eighth = max(steps_per_beat // 2, 1)
    per_track = {
        "empty_bars": metrics.empty_bars(bars),
        "groove_consistency": metrics.groove_consistency(bars),
        "qualified_notes": metrics.qualified_notes(bars, eighth),
        "polyphony": metrics.polyphony(bars),
    }
    harmonic = {
        "used_pitch_classes": metrics.used_pitch_classes(melodic),
        "used_pitches": metrics.used_pitches(melodic),
        "in_scale": metrics.in_scale(melodic),
        "scale_consistency": metrics.scale_consistency(melodic),
        "pitch_class_entropy": metrics.pitch_class_entropy(melodic),
    }
    for name, values in per_track.items():
        yield from ((f"{name}.{track.name}", values[:, k]) for k, track in enumerate(tracks))
    for name, values in harmonic.items():
        yield from ((f"{name}.{tracks[k].name}", values[:, n]) for n, k in enumerate(pitched))
    for k, track in enumerate(tracks):
        if track.is_drum:
            # With 16 steps or fewer every step is in the pattern of 16: the measure is constant.
            beats = 16 if bars.shape[1] > 16 else 8
            yield f"drum_pattern.{track.name}", metrics.drum_pattern(bars[..., [k]], beats)[:, 0]
    apart = metrics.tonal_distance(melodic, steps_per_beat)
    for a in range(len(pitched)):
        for b in range(a + 1, len(pitched)):
            names = "-".join(tracks[pitched[n]].name for n in (a, b))
            yield f"tonal_distance.{names}", apart[:, a, b]
    yield "semitone_clash", metrics.semitone_clash(melodic)
