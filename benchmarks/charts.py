"""The pictures of benchmarks/README.md, and that of two records compared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from musegan_jax import files
from musegan_jax.rendering.plots import COLOURS

A, B = COLOURS[1], COLOURS[2]
OTHER = COLOURS[5]  # beside A: peers, what was before
MARKERS = "os^Dv"
WIDTH = 8  # inches; with DPI, the width at which a README is shown
DPI = 110


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG.

    Raises:
        UserError: if the file cannot be written.
    """
    with files.replacing(path) as temporary:
        # Without the metadata the file depends on the picture alone, not on matplotlib's version.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _panels(height: float, columns: int = 1, **options: Any) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False, **options)[0]
    for axes in panels:
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.8)
    return figure, panels


def _plain(axis: Any) -> None:
    """Numbers instead of powers on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _whiskers(rows: Sequence[dict], factor: float) -> list[list[float]]:
    """Distances of p10 and p90 from the median, as matplotlib wants them."""
    return [
        [factor * (row["median_s"] - row["p10_s"]) for row in rows],
        [factor * (row["p90_s"] - row["median_s"]) for row in rows],
    ]


def time_unit(rows: Sequence[dict]) -> tuple[float, str]:
    """Seconds if a median is as long as that, else milliseconds: (units in a second, name)."""
    longest = max((row["median_s"] for row in rows), default=0)
    return (1.0, "s") if longest >= 1 else (1e3, "ms")


def _lines(axes: Any, rows: Sequence[dict], x: str, y: str, name: Callable[[dict], str]) -> None:
    """`y` against `x`, powers of two mostly, of the rows: a line for each name."""
    names = list(dict.fromkeys(map(name, rows)))
    for k, label in enumerate(names):
        points = sorted((row[x], row[y]) for row in rows if name(row) == label)
        style = {"color": COLOURS[1 + k % 7], "marker": MARKERS[k % len(MARKERS)]}
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.8, **style)
    ticks = sorted({row[x] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)


def train_step(record: dict) -> Any | None:
    """Examples/s against batch size; None where fewer than two have times."""
    rows = [row for row in record["rows"] if "failed" not in row]
    if len({row["batch_size"] for row in rows}) < 2:
        return None
    figure, (axes,) = _panels(4.2)
    _lines(
        axes,
        rows,
        "batch_size",
        "samples_per_s",
        lambda row: f"{row['precision']}, {row['strategy']}",
    )
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.set_xlabel("batch size")
    axes.set_ylabel("examples per second")
    return figure


def scaling(record: dict) -> Any | None:
    """Examples/s against devices, weak and strong apart; None without rows."""
    rows = record["rows"]
    kinds = list(dict.fromkeys(row["scaling"] for row in rows))
    if not kinds:
        return None
    figure, panels = _panels(3.6, len(kinds), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        chosen = [row for row in rows if row["scaling"] == kind]
        _lines(axes, chosen, "devices", "examples_per_s", lambda row: row["strategy"])
        axes.set_title(f"{kind} scaling", loc="left", fontsize="medium")
        axes.set_xlabel("simulated devices" if record["simulated"] else "devices")
    if record["simulated"]:
        # They share the cores: ideal is a constant, and a logarithm would magnify noise.
        panels[0].set_ylim(0, 1.1 * max(row["examples_per_s"] for row in rows))
    else:
        panels[0].set_yscale("log")
        _plain(panels[0].yaxis)
    panels[0].set_ylabel("examples per second")
    return figure


def peers(record: dict) -> Any | None:
    """Median time of each implementation as bars; None if none was timed."""
    results = record["results"]
    if not results:
        return None
    rows = list(results.values())
    factor, unit = time_unit(rows)
    figure, (axes,) = _panels(1.0 + 0.5 * len(rows))
    axes.barh(
        list(results),
        [factor * row["median_s"] for row in rows],
        xerr=_whiskers(rows, factor),
        color=[A if name == "ours" else OTHER for name in results],
        height=0.65,
        capsize=3,
    )
    for y, row in enumerate(rows):
        axes.annotate(
            f"{factor * row['median_s']:.4g} {unit}",
            (factor * row["p90_s"], y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.margins(x=0.12)  # for these
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{unit} per iteration: median, whiskers from p10 to p90")
    return figure


def tpu_compile(versions: dict[str, dict[tuple, dict]]) -> Any | None:
    """Gigabytes moved, a panel for each slice; None without parts.

    `versions`: name ("before", "after") to parts; their keys are (slice, batch a chip, part).
    """
    keys = list(dict.fromkeys(key for parts in versions.values() for key in parts))
    slices = list(dict.fromkeys(key[:2] for key in keys))
    if not slices:
        return None
    names = list(dict.fromkeys(key[2] for key in keys))
    figure, panels = _panels(1.3 + 0.75 * len(names), len(slices), sharex=True, sharey=True)
    height, colours = 0.8 / len(versions), (OTHER, A)[-len(versions) :]
    for axes, one in zip(panels, slices, strict=True):
        for k, (version, parts) in enumerate(versions.items()):
            here = [(n, parts[*one, name]) for n, name in enumerate(names) if (*one, name) in parts]
            bars = axes.barh(
                [n + (k - (len(versions) - 1) / 2) * height for n, _ in here],
                [part["bytes_accessed"] / 1e9 for _, part in here],
                height=0.92 * height,
                color=colours[k],
                label=version,
            )
            axes.bar_label(bars, fmt="%#.3g", padding=3)
        axes.set_title(f"{one[0]}, {one[1]} examples a chip", loc="left", fontsize="medium")
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.14)  # for the numbers at the bars' ends
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("GB moved, one chip")
    panels[0].invert_yaxis()  # shared
    if len(versions) > 1:
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside upper right",
            ncols=len(versions),
            frameon=False,
        )
    return figure


def compared(
    pairs: dict[str, tuple[dict, dict]], names: tuple[str, str], verdicts: Sequence[str]
) -> Any:
    """Times of A and B in pairs, one below the other; `names` are of the two.

    `verdicts` are shown at the right, one for each pair.
    """
    factor, unit = time_unit([row for pair in pairs.values() for row in pair])
    figure, (axes,) = _panels(1.4 + 0.36 * len(pairs))
    for k, (name, colour) in enumerate(zip(names, (A, B), strict=True)):
        rows = [pair[k] for pair in pairs.values()]
        axes.errorbar(
            [factor * row["median_s"] for row in rows],
            [y + 0.3 * (k - 0.5) for y in range(len(rows))],
            xerr=_whiskers(rows, factor),
            fmt=MARKERS[k],
            color=colour,
            markersize=5,
            capsize=3,
            label=name,
        )
    for y, verdict in enumerate(verdicts):
        axes.text(1.01, y, verdict, transform=axes.get_yaxis_transform(), va="center")
        if y:
            axes.axhline(y - 0.5, color="#eeeeee", linewidth=0.8)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{unit} per iteration: median, whiskers from p10 to p90")
    figure.legend(loc="outside upper left", fontsize="small", frameon=False)
    return figure
