"""The pictures of benchmarks/README.md, and that of two records compared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from musegan_jax import files
from musegan_jax.rendering.plots import COLOURS

A, B = COLOURS[1], COLOURS[2]  # also before and after
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


def _plain(axis: Any, ticks: Sequence[int] | None = None) -> None:
    """Numbers instead of powers on a logarithmic axis; with `ticks` at these only."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if ticks is None:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_ticks(ticks)
        axis.set_minor_locator(NullLocator())


def _whiskers(rows: Sequence[dict], factor: float) -> list[list[float]]:
    """Distances of p10 and p90 from the median, as matplotlib wants them."""
    return [
        [factor * (row["median_s"] - row["p10_s"]) for row in rows],
        [factor * (row["p90_s"] - row["median_s"]) for row in rows],
    ]


def time_unit(rows: Sequence[dict]) -> tuple[float, str]:
    """Seconds if a median is as long as that, else milliseconds: (units in a second, name)."""
    return (1.0, "s") if max(row["median_s"] for row in rows) >= 1 else (1e3, "ms")


def _lines(axes: Any, rows: Sequence[dict], x: str, name: Callable[[dict], str]) -> None:
    """Samples/s against `x` of the rows, a line for each name; both axes logarithmic."""
    names = list(dict.fromkeys(map(name, rows)))
    for k, label in enumerate(names):
        points = sorted((row[x], row["samples_per_s"]) for row in rows if name(row) == label)
        style = {"color": COLOURS[1 + k % 7], "marker": MARKERS[k % len(MARKERS)]}
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.8, **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _plain(axes.xaxis, sorted({row[x] for row in rows}))
    _plain(axes.yaxis)


def train_step(record: dict) -> Any | None:
    """Samples/s against batch size; None if no row has a time."""
    rows = [row for row in record["rows"] if "failed" not in row]
    if not rows:
        return None
    figure, (axes,) = _panels(4.2)
    _lines(axes, rows, "batch_size", lambda row: f"{row['precision']}, {row['strategy']}")
    axes.set_xlabel("batch size")
    axes.set_ylabel("samples per second")
    axes.legend(frameon=False)
    return figure


def scaling(record: dict) -> Any | None:
    """Samples/s against devices, weak and strong apart; None without rows."""
    rows = record["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    if not kinds:
        return None
    figure, panels = _panels(3.6, len(kinds), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        chosen = [row for row in rows if row["kind"] == kind]
        _lines(axes, chosen, "devices", lambda row: row["strategy"])
        axes.set_title(f"{kind} scaling", loc="left", fontsize="medium")
        axes.set_xlabel("simulated devices" if record["simulated"] else "devices")
        axes.legend(frameon=False)
    panels[0].set_ylabel("samples per second")
    return figure


def peers(record: dict) -> Any | None:
    """Median time of each implementation as bars; None if none was timed."""
    results = record["results"]
    if not results:
        return None
    rows = list(results.values())
    factor, unit = time_unit(rows)
    figure, (axes,) = _panels(1.0 + 0.5 * len(rows))
    bars = axes.barh(
        list(results),
        [factor * row["median_s"] for row in rows],
        xerr=_whiskers(rows, factor),
        color=[A if name == "ours" else COLOURS[5] for name in results],
        height=0.65,
        capsize=3,
    )
    # At the foot of the bar, where no whisker is.
    axes.bar_label(
        bars, [f" {factor * row['median_s']:.4g} {unit}" for row in rows], label_type="center"
    )
    for text, name in zip(axes.texts, results, strict=True):
        text.set_color("white" if name == "ours" else "black")
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
    height = 0.8 / len(versions)
    for axes, one in zip(panels, slices, strict=True):
        for k, (version, parts) in enumerate(versions.items()):
            here = [(n, parts[*one, name]) for n, name in enumerate(names) if (*one, name) in parts]
            bars = axes.barh(
                [n + (k - (len(versions) - 1) / 2) * height for n, _ in here],
                [part["bytes_accessed"] / 1e9 for _, part in here],
                height=0.92 * height,
                color=(A, B)[k],
                label=version,
            )
            axes.bar_label(bars, fmt="%.3g", padding=3)
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


def compared(pairs: dict[str, tuple[dict, dict]], names: tuple[str, str]) -> Any:
    """Times of A and B in pairs, a line of the picture for each; `names` are of the two."""
    factor, unit = time_unit([row for pair in pairs.values() for row in pair])
    figure, (axes,) = _panels(1.4 + 0.32 * len(pairs))
    for y, (a, b) in enumerate(pairs.values()):
        ends = (factor * a["median_s"], factor * b["median_s"])
        axes.plot(ends, (y, y), color="#bbbbbb", linewidth=3, zorder=1)
    for k, (name, colour) in enumerate(zip(names, (A, B), strict=True)):
        rows = [pair[k] for pair in pairs.values()]
        axes.errorbar(
            [factor * row["median_s"] for row in rows],
            range(len(rows)),
            xerr=_whiskers(rows, factor),
            fmt=MARKERS[k],
            color=colour,
            capsize=3,
            label=name,
        )
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{unit} per iteration: median, whiskers from p10 to p90")
    figure.legend(loc="outside upper left", ncols=1, frameon=False)
    return figure
