"""The output of an evaluation: table, pictures, JSON, songs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import files
from musegan_jax.composing.song import write_song
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset
from musegan_jax.evaluation import listening
from musegan_jax.evaluation.evaluate import Evaluation
from musegan_jax.evaluation.measures import Music
from musegan_jax.rendering import plots

BPM = 80  # of the songs
GRID = 4  # passages in the picture
SONGS = 4  # pieces written as songs
SHORT = {
    "groove_consistency": "groove",
    "pitch_class_entropy": "pitch_entropy",
    "scale_consistency": "scale",
    "tonal_distance": "tonal",
    "used_pitch_classes": "pitch_classes",
}
ROUNDING = 1e-9  # two sums of equal numbers may differ by it
WON = 1.5  # noise floors: a measure is won within this distance


def table(report: dict[str, Any]) -> Iterator[str]:
    """The lines of the terminal's table: 80 characters, and 12 for each further model.

    Each score is followed, in brackets, by its distance from the held-out music in noise floors.
    """
    columns = list(report["frechet_distance"])
    yield (
        f"{report['pieces']} held-out pieces ({report['split']}), {report['bars']} bars, "
        f"{report['flavours']} flavours each;"
    )
    yield f"compared with {report['training_pieces']} training pieces"
    for reason, names in report["left_out"].items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"left out, {reason}: {', '.join(names[:3])}{more}"[:80]
    width = max(map(len, map(_shortened, report["measures"])))
    head = f"{'real':>7}" + "".join(f"{name[:10]:>12}" for name in columns)
    yield " " * width + head
    yield from _rows(report["measures"], columns, width)
    title = f"{report['pieces']} whole pieces"
    yield from ("", f"{title[:width]:{width}}{head}")
    yield from _rows(report["harmony"], columns, width)
    yield ""
    for title, label in (("frechet_distance", "Fréchet distance"), ("melody_fidelity", "fidelity")):
        for name, value in report[title].items():
            yield f"{label:17} {name:22} {_number(value)}"
    for name, value in report["diversity"].items():
        yield f"{'diversity':17} {name:22} {_number(value)}"
    for name, value in report["nearest_training_passage"].items():
        yield (
            f"{'nearest passage':17} {name:22} {_number(value['mean'])} of cells differ, minimum "
            f"{_number(value['least'])}"
        )
    yield ""
    yield f"in brackets: distance from real, in noise floors; measures won (up to {WON:g}):"
    for column in columns:
        won, known = wins(report["measures"], column)
        of_harmony = "{} of {}".format(*wins(report["harmony"], column))
        yield f"  {column:12} {won} of {known}, of harmony {of_harmony}"


def _rows(measures: dict[str, Any], columns: list[str], width: int) -> Iterator[str]:
    """A line for each measure that held-out music has."""
    for name, row in measures.items():
        cells = (_cell(row, column) for column in columns)
        yield f"{_shortened(name):{width}}{_number(row['held_out']):>7}" + "".join(cells)


def wins(measures: dict[str, Any], column: str) -> tuple[int, int]:
    """How many measures a column wins, and of how many.

    Measures equal in all real music (noise floor 0) are not counted: they may hold by construction.
    A measure that is undefined for the column but not for real music is lost.
    """
    won = [
        (far := distance(row, column)) is not None and far <= WON
        for row in measures.values()
        if row["noise_floor"] and row["held_out"] is not None
    ]
    return sum(won), len(won)


def distance(row: dict[str, Any], column: str) -> float | None:
    """Distance of a column's score from the held-out music's, in noise floors.

    Where the floor is 0 (all real music has the same score) it is 0 or infinite; None if unknown.
    """
    score, real, floor = row["scores"][column], row["held_out"], row["noise_floor"]
    if score is None or real is None or floor is None:
        return None
    apart = abs(score - real)
    return apart / floor if floor else (0.0 if apart < ROUNDING else float("inf"))


def _shortened(name: str) -> str:
    """A measure's name, shortened to fit the table."""
    for long, short in SHORT.items():
        name = name.replace(long, short)
    return name


def _cell(row: dict[str, Any], column: str) -> str:
    far = distance(row, column)
    shown = "" if far is None else f"({min(far, 999):.{0 if far >= 9.95 else 1}f})"
    return f"{_number(row['scores'][column])}{shown:>6}".rjust(12)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.3f}"
        if abs(value) < 10
        else f"{value:.1f}"
        if abs(value) < 1e5
        else f"{value:.0e}"
    )


def write(result: Evaluation, dataset: Dataset, melody: int, folder: Any) -> Iterator[Any]:
    """Write `metrics.json`, two pictures, the listening page and the songs; yields each path.

    Raises:
        UserError: if one cannot be written.
    """
    files.make_folder(folder)
    with files.replacing(folder / "metrics.json") as temporary:
        Path(temporary).write_text(json.dumps(result.report, indent=2) + "\n")
    yield folder / "metrics.json"
    rows = {**result.report["measures"], **result.report["harmony"]}
    plots.distances(
        {
            column: {name: distance(row, column) for name, row in rows.items()}
            for column in result.report["frechet_distance"]
        },
        WON,
        folder / "distances.png",
    )
    yield folder / "distances.png"
    flavours = result.flavours
    shown = list(range(min(GRID, len(result.held))))
    rows = [[_opening(result.held[n]) for n in shown]]
    rows += [[_opening(flavour[n]) for n in shown] for flavour in flavours[:2]]
    labels = ["real", *(f"flavour {n + 1}" for n in range(len(rows) - 1))]
    plots.grid(rows, labels, [result.held[n].name for n in shown], melody, folder / "rolls.png")
    yield folder / "rolls.png"
    listening.write(
        result.held, flavours[0], dataset, result.report["seed"], folder / "listen.html"
    )
    yield folder / "listen.html"
    songs = files.make_folder(folder / "songs")
    for n in range(min(SONGS, len(result.held))):
        name = result.held[n].name[-60:]  # the end of a long path
        stem = f"{n + 1}-" + "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
        versions = {"real": result.held[n]}
        versions |= {f"flavour-{f + 1}": flavour[n] for f, flavour in enumerate(flavours[:2])}
        for label, music in versions.items():
            roll = np.concatenate(music.bars)
            song = midi.from_roll(roll, dataset.tracks, dataset.steps_per_beat, BPM)
            yield from write_song(song, songs, f"{stem}-{label}", f"{stem}, {label}")


def _opening(music: Music) -> np.ndarray:
    """The first four bars: bool `(steps, 128, K)`."""
    return np.concatenate(music.bars[:4])
