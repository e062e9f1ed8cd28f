"""The pictures of benchmarks/README.md, and that of two records compared."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

import tables
from musegan_jax import files
from musegan_jax.rendering.plots import COLOURS

A, B = COLOURS[1], COLOURS[2]
OTHER = COLOURS[5]  # beside A: peers, what was before
MARKERS = "os^Dv"
TIMES = "per iteration: median, whiskers from p10 to p90"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with files.replacing(path) as temporary:
        # Without the metadata the file depends on the picture alone, not on matplotlib's version.
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _panels(
    height: float, columns: int = 1, grid: str = "x", lines: int = 1
) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(8, height), layout="constrained")  # inches; as wide as the page
    made = figure.subplots(lines, columns, squeeze=False, sharex=grid == "x", sharey=True)
    panels = made.ravel()
    for axes in panels:
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    return figure, panels


def _plain(axis: Any) -> None:
    """Numbers instead of powers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,.10g}")
    axis.set_minor_formatter("")


def _medians(rows: Sequence[dict], factor: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Medians, and the distances of p10 and p90 from them."""
    median, low, high = factor * np.array(
        [[row[name] for row in rows] for name in tables.QUANTILES]
    )
    return median, [median - low, high - median]


def _throughput(rows: Sequence[dict], lines: Sequence[str], x: str, y: str, label: str) -> Figure:
    """`y` against `x`, powers of two mostly: a panel for each kind of scaling, a line for each of
    the combinations of `lines`.
    """
    panels = {}
    for row in rows:
        panel = panels.setdefault(row.get("scaling", ""), {})
        panel.setdefault(", ".join(row[name] for name in lines), []).append((row[x], row[y]))
    figure, drawn = _panels(3.6 if any(panels) else 4.2, len(panels), grid="both")
    for axes, (title, panel) in zip(drawn, panels.items(), strict=True):
        for k, (name, points) in enumerate(panel.items()):
            style = {"color": COLOURS[1 + k % 7], "marker": MARKERS[k % len(MARKERS)]}
            axes.plot(*zip(*sorted(points), strict=True), label=name, linewidth=1.8, **style)
        ticks = sorted({n for points in panel.values() for n, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_xticks([], minor=True)
        axes.set_title(title and f"{title} scaling", loc="left", fontsize="medium")
        axes.set_xlabel(label)
        axes.legend(frameon=False)
    drawn[0].set_ylabel("examples per second")
    drawn[0].set_yscale("log")
    _plain(drawn[0].yaxis)
    return figure


def train_step(record: dict) -> Figure | None:
    """Examples per second against batch size, a line for each precision and strategy."""
    rows = [row for row in record["rows"] if "failed" not in row]
    if len({row["batch_size"] for row in rows}) < 2:
        return None
    lines = ("precision", "strategy")
    return _throughput(rows, lines, "batch_size", "samples_per_s", "batch size")


def scaling(record: dict) -> Figure | None:
    """Examples per second against devices, a line for each strategy."""
    rows, simulated = record["rows"], record["simulated"]
    if not rows:
        return None
    label = "simulated devices" if simulated else "devices"
    figure = _throughput(rows, ["strategy"], "devices", "examples_per_s", label)
    if simulated:
        # They share the cores: ideal is a constant, and a logarithm would magnify noise.
        figure.axes[0].set_yscale("linear")
        figure.axes[0].set_ylim(0, 1.1 * max(row["examples_per_s"] for row in rows))
    return figure


def peers(record: dict) -> Figure | None:
    """Bars: median time of an iteration, ours and the peers, p10 to p90."""
    results = record["results"]
    if not results:
        return None
    factor, unit = tables.time_unit(list(results.values()))
    medians, whiskers = _medians(list(results.values()), factor)
    figure, (axes,) = _panels(1.0 + 0.5 * len(results))
    colours = [A if name == "ours" else OTHER for name in results]
    bars = axes.barh(list(results), medians, 0.65, xerr=whiskers, capsize=3, color=colours)
    axes.bar_label(bars, [f"{median:.4g} {unit}" for median in medians], padding=6)
    axes.margins(x=0.12)  # for these labels
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit} {TIMES}")
    return figure


def tpu_compile(record: dict) -> Figure | None:
    """Bars: gigabytes that each part of the step moves, for each slice."""
    return _compiled(record, "bytes_accessed", "chip")


def gpu_compile(record: dict) -> Figure | None:
    """Bars: gigabytes that each part of the step moves, for each kind and number of GPUs."""
    return _compiled(record, "bytes_moved", "GPU")


def _compiled(record: dict, moved: str, device: str) -> Figure | None:
    rows = tables.compiled_rows(record)
    if not rows:
        return None
    slices = list(dict.fromkeys((row["slice"], row["batch_size"]) for row in rows))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    versions = {"before": OTHER, "after": A} if "before" in record else {"after": A}
    columns = min(3, len(slices))
    lines = -(-len(slices) // columns)
    figure, panels = _panels((1.3 + 0.75 * len(parts)) * lines, columns, lines=lines)
    for axes in panels[len(slices) :]:
        axes.set_axis_off()
    for axes, one in zip(panels, slices, strict=False):
        here = [row for row in rows if (row["slice"], row["batch_size"]) == one]
        for k, (version, colour) in enumerate(versions.items()):
            offset = (2 * k + 1 - len(versions)) * 0.4 / len(versions)
            y = [parts.index(row["part"]) + offset for row in here]
            values = [(row[moved][k] or math.nan) / 1e9 for row in here]
            bars = axes.barh(y, values, 0.736 / len(versions), color=colour, label=version)
            axes.bar_label(bars, fmt="%#.3g", padding=3)
        axes.set_title(f"{one[0]}, batch {one[1]}", loc="left", fontsize="medium")
        axes.set_yticks(range(len(parts)), parts)
        axes.margins(x=0.14)  # for the numbers at the bars' ends
        axes.set_xlabel(f"GB moved by one {device}")
        axes.tick_params(labelbottom=True)  # also where no panel is below
    panels[0].invert_yaxis()  # shared
    if len(versions) > 1:
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=2, frameon=False)
    return figure


# The first line of its docstring is what a picture is described by on the page.
CHARTS = {chart.__name__: chart for chart in (train_step, scaling, peers, tpu_compile, gpu_compile)}


def compared(pairs: dict[str, tuple], names: Sequence[str], verdicts: Sequence[str]) -> Figure:
    """Times of A and B in pairs, one below the other, with the verdict on each at the right."""
    factor, unit = tables.time_unit([row for pair in pairs.values() for row in pair])
    figure, (axes,) = _panels(1.4 + 0.36 * len(pairs))
    y = np.arange(len(pairs))
    for k, rows in enumerate(zip(*pairs.values(), strict=True)):
        medians, whiskers = _medians(rows, factor)
        style = {"fmt": MARKERS[k], "color": (A, B)[k], "markersize": 5, "capsize": 3}
        axes.errorbar(medians, y + 0.3 * (k - 0.5), xerr=whiskers, label=names[k], **style)
    for k, verdict in enumerate(verdicts):
        axes.text(1.01, k, verdict, transform=axes.get_yaxis_transform(), va="center")
        if k:
            axes.axhline(k - 0.5, color="#eeeeee", linewidth=0.8)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks(y, map(" ".join, pairs))
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlabel(f"{unit} {TIMES}")
    figure.legend(loc="outside upper left", fontsize="small", frameon=False)
    return figure
