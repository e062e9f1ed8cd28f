"""Piano rolls and training curves as pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset

# Okabe and Ito's colours, distinct also for colour-blind readers; black is kept for the melody.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
# The panels of a run's curves that show what held-out pieces tell; parallels are of 100.
HELD_OUT = (
    ("valid/disagreement", "valid/empty_bars", "valid/qualified_notes", "valid/semitone_clash"),
    ("valid/chord", "valid/root_or_third", "valid/final_triad", "valid/moves"),
    ("valid/parallels",),
)
BARS_PER_ROW = 8
MAX_LABELS = 32  # bars with a number in a row; a file may hold 160,000 bars
MAX_BOXES = 10_000  # notes that are drawn one by one
PIXELS = 1200  # of a row
MAX_ROWS = 16  # viewers fail on taller pictures; beyond it, rows get more bars


def _save(figure: Any, path: files.AnyPath) -> None:
    with files.replacing(path) as temporary:
        # No metadata: the file must not depend on matplotlib's version.
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def piano_roll(score: midi.Score, title: str, path: files.AnyPath, start: int = 0) -> None:
    """Draw a score as a PNG: one colour per part, the first part black; rows of numbered bars.

    Without the bars before the tick `start`; the others keep their numbers.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    lines = score.bar_lines
    skipped = min(int(np.searchsorted(lines, start)), len(lines) - 2)
    lines = lines[skipped:]
    bars = len(lines) - 1
    per_row = max(BARS_PER_ROW, -(-bars // MAX_ROWS))
    rows = -(-bars // per_row)
    sounding = [part for part in score.parts if not part.is_drum] or list(score.parts)
    low = min(int(part.notes[:, 2].min()) for part in sounding) - 2
    high = max(int(part.notes[:, 2].max()) for part in sounding) + 2
    figure = Figure(figsize=(12, 0.9 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, squeeze=False)[:, 0]
    in_rows = [lines[first : first + per_row + 1] for first in range(0, bars, per_row)]
    # One scale for all rows: a last row of fewer bars is shorter, not stretched.
    width = max(marks[-1] - marks[0] for marks in in_rows)
    every = -(-per_row // MAX_LABELS)
    crowded = sum(len(part.notes) for part in score.parts) > MAX_BOXES
    for row, (axes, marks) in enumerate(zip(panels, in_rows, strict=True)):
        for k, part in reversed(list(enumerate(score.parts))):
            colour = COLOURS[k % len(COLOURS)]
            # A note is cut at the row's end and continues in the next row; the last row cuts none.
            shown = part.notes[(part.notes[:, 1] > marks[0]) & (part.notes[:, 0] < marks[-1])]
            ends = np.minimum(shown[:, 1], marks[-1] if row < rows - 1 else np.inf)
            rows_of = np.column_stack([shown[:, 0], ends, shown[:, 2]])
            if crowded:
                _draw_crowd(axes, rows_of, colour, (marks[0], marks[0] + width), (low, high))
            else:
                _draw_notes(axes, rows_of, colour)
        axes.set_xlim(marks[0], marks[0] + width)
        axes.set_ylim(low, high)
        first = skipped + row * per_row + 1
        numbered = range(0, len(marks) - 1, every)
        axes.set_xticks([marks[n] for n in numbered], [str(first + n) for n in numbered])
        octaves = range(-(-low // 12) * 12, high + 1, 12)
        axes.set_yticks(list(octaves), [f"C{pitch // 12 - 1}" for pitch in octaves])
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[-1].set_xlabel("bar")
    # The highest part first, as in the picture; drums last.
    order = sorted(
        range(len(score.parts)),
        key=lambda k: (score.parts[k].is_drum, -score.parts[k].notes[:, 2].mean()),
    )
    handles = [
        (COLOURS[k % len(COLOURS)], _readable(score.parts[k].name) or f"Part {k + 1}")
        for k in order
    ]
    _legend(figure, _readable(title), handles)
    _save(figure, path)


def _draw_notes(axes: Any, notes: np.ndarray, colour: str) -> None:
    """Draw notes, rows `start, end, pitch`, as boxes."""
    from matplotlib.collections import PolyCollection

    boxes = [
        ((start, p - 0.42), (start, p + 0.42), (end, p + 0.42), (end, p - 0.42))
        for start, end, p in notes
    ]
    axes.add_collection(PolyCollection(boxes, facecolor=colour, edgecolor="white", linewidth=0.5))


def _draw_crowd(
    axes: Any, notes: np.ndarray, colour: str, ticks: tuple[float, float], pitches: tuple[int, int]
) -> None:
    """Draw notes as an image, whose cost does not grow with them."""
    from matplotlib.colors import to_rgba

    (left, right), (low, high) = ticks, pitches
    image = np.zeros((high - low + 1, PIXELS, 4))
    scale = PIXELS / (right - left)
    places = np.clip(((notes[:, :2] - left) * scale).astype(int), 0, PIXELS)
    for (start, end), pitch in zip(places, notes[:, 2].astype(int), strict=True):
        image[pitch - low, start : max(end, start + 1)] = to_rgba(colour)
    extent = (left, right, low - 0.5, high + 0.5)
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="nearest")


def _readable(text: str) -> str:
    """Text from a file, made safe to draw.

    A `$` would begin a formula, a leading `_` would hide a legend entry, and characters missing in
    the built-in font (those after Cyrillic, to be safe) would give boxes and warnings.
    """
    shown = "".join(c if c.isprintable() and ord(c) < 0x530 else "?" for c in text[:60])
    return shown.lstrip("_").replace("$", r"\$")


def _legend(figure: Any, title: str, handles: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(
        handles=[Patch(color=colour, label=label) for colour, label in handles],
        loc="outside upper right",
        ncols=min(len(handles), 6),
        frameon=False,
    )


def curves(metrics_file: str | Path, path: files.AnyPath) -> None:
    """Draw a run's `metrics.jsonl` as a PNG: losses above, measures of music below.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in Path(metrics_file).read_text().splitlines()]
    panels = (
        ("critic_loss", "generator_loss", "wasserstein"),
        ("critic_gradient_norm", "generator_gradient_norm"),
        ("empty_bars", "in_scale", "semitone_clash"),
    )
    known = {name for line in lines for name in line}
    panels = (*panels, *(names for names in HELD_OUT if known.intersection(names)))
    figure = Figure(figsize=(9, 2.7 * len(panels)), layout="constrained")
    for axes, names in zip(figure.subplots(len(panels)), panels, strict=True):
        for name, colour in zip(names, COLOURS[1:], strict=False):
            # A number, not the text that a damaged line may have there.
            points = [
                (line["iteration"], line[name])
                for line in lines
                if isinstance(line.get(name), (int, float))
            ]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, color=colour, linewidth=1)
            other = _of_real_music(name)
            real = [v for line in lines if isinstance(v := line.get(other), (int, float))]
            if real:  # the value of the held-out music itself, the target
                axes.axhline(real[-1], color=colour, linewidth=1, linestyle="--")
        axes.grid(color="#dddddd")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    # The first losses are a hundred times the rest, which a linear scale would flatten.
    figure.axes[0].set_yscale("symlog", linthresh=20)
    figure.axes[1].set_yscale("log")
    figure.axes[-1].set_xlabel("iteration")
    _save(figure, path)


def _of_real_music(name: str) -> str:
    return name.replace("valid/", "real/") if name.startswith("valid/") else ""


def distances(
    columns: Mapping[str, Mapping[str, float | None]], won: float, path: files.AnyPath
) -> None:
    """Draw distances from held-out music, in noise floors, as a PNG: one row per measure.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    names = list(next(iter(columns.values())))
    figure = Figure(figsize=(9, 1.2 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(0.05, won, color="#dddddd", label=f"won (up to {won:g})")
    for (column, values), colour in zip(columns.items(), COLOURS, strict=False):
        known = [(values[name], n) for n, name in enumerate(names) if values[name] is not None]
        # Values outside the logarithmic axis are drawn at its ends.
        at = [min(max(value, 0.05), 200) for value, _ in known if value is not None]
        axes.scatter(at, [n for _, n in known], s=16, color=colour, label=column, clip_on=False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(0.05, 200)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_xlabel("distance from held-out music, in noise floors")
    figure.legend(loc="outside upper left", ncols=6, frameon=False)
    _save(figure, path)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    titles: Sequence[str],
    melody: int,
    path: files.AnyPath,
    legend: Sequence[str] = (),
) -> None:
    """Draw rolls, bool `(T, 128, K)`, in rows and columns as a PNG; the track `melody` is black.

    `legend` may give the K tracks' names.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    sounding = np.any([roll.any(axis=(0, 2)) for row in rows for roll in row], axis=0)
    low, high = np.flatnonzero(sounding)[[0, -1]] if sounding.any() else (48, 72)
    figure = Figure(figsize=(3.2 * len(titles), 2.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, line, label in zip(rows, panels, labels, strict=True):
        line[0].set_ylabel(label)
        for roll, axes in zip(row, line, strict=True):
            image = np.ones((high - low + 1, len(roll), 3))
            tracks = [k for k in range(roll.shape[2]) if k != melody]
            # The melody last: it covers tracks that double it.
            for colour, k in [*enumerate(tracks, 1), (0, melody)]:
                image[roll[:, low : high + 1, k].T] = to_rgb(COLOURS[colour % len(COLOURS)])
            extent = (0, len(roll), low - 0.5, high + 0.5)
            axes.imshow(
                image, origin="lower", extent=extent, aspect="auto", interpolation="nearest"
            )
            octaves = range(-(-low // 12) * 12, high + 1, 12)
            axes.set_yticks(list(octaves), [f"C{pitch // 12 - 1}" for pitch in octaves])
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(_readable(title), fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("step")
    if legend:
        order = [melody, *(k for k in range(len(legend)) if k != melody)]
        handles = [(COLOURS[n % len(COLOURS)], _readable(legend[k])) for n, k in enumerate(order)]
        _legend(figure, "", handles)
    _save(figure, path)


def passages(dataset: Dataset, path: files.AnyPath, pieces: int = 5, bars: int = 4) -> None:
    """Draw passages of a dataset as a PNG: its first track black, a row for each of some pieces.

    From each piece, three passages: its beginning, its middle, its end.

    Raises:
        UserError: if the file cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(dataset.names) - 1, pieces).astype(int))
    rows, labels = [], []
    for piece in chosen:
        end = int(dataset.boundaries[piece + 1])
        starts = dataset.bars_of(piece)
        starts = starts if len(starts) else dataset.boundaries[piece : piece + 1]
        lines = np.append(starts, end)
        first = [0, max((len(starts) - bars) // 2, 0), max(len(starts) - bars, 0)]
        spans = [(lines[n], lines[min(n + bars, len(starts))]) for n in first]
        rows.append([pianoroll.unpack(dataset.timeline[a:b]) for a, b in spans])
        # A long name would be drawn over the row above.
        labels.append(_readable(dataset.names[piece])[-24:])
    names = [track.name for track in dataset.tracks]
    grid(rows, labels, ("beginning", "middle", "end"), 0, path, names)
