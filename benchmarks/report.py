"""Write the tables and plots of benchmarks/README.md from the records in benchmarks/results/.

COMMAND   python benchmarks/report.py
          python benchmarks/report.py A.json B.json [--plot OUT.png]

Two records of train_step.py, or of peers.py, are compared: for what both have timed, B's time over
A's.
"""

import argparse
import contextlib
import json
import statistics
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import charts
import peaks
import records
from musegan_jax import config as configs
from musegan_jax import files
from musegan_jax.errors import UserError

HERE = Path(__file__).parent
START = "<!-- Below this line benchmarks/report.py writes. -->\n"
REASON = 80  # characters of a compiler's message
FIGURES = ("median_s", "p10_s", "p90_s", "compile_s")  # that are compared
# What rows of a record say themselves, or the line about the machine.
NOT_COMPARED = {
    "training.batch_size",
    "model.dtype",
    "parallel.strategy",
    "strategy",
    "precision.networks",
    "commit",
    "python",
    "packages.jax",
}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a record becomes one line that names its file.

    Raises:
        UserError: that line.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except KeyError as error:
        raise UserError(f"{path}: not a record of these benchmarks (no {error})") from error
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, UserError) as error:
        raise UserError(f"{path}: not a record of these benchmarks ({error})") from error


def number(value: float) -> str:
    """Four significant digits, whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def optional(value: float | None, shown: str = "{:.4g}") -> str:
    """A figure that not every device has."""
    return "" if value is None else shown.format(value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    # A message of a compiler may hold what ends a cell or a line.
    cells = [[" ".join(str(cell).replace("|", "/").split()) for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def where(environment: dict) -> str:
    """The machine and the versions of a record, in a line."""
    device, jax = environment["device"], environment["packages"]["jax"]
    kind = f"{device['count']} x {device['kind']}"
    if device["platform"] == "cpu":
        kind = f"{environment['cpu']['model']}, {environment['cpu']['threads']} threads"
    commit, changed, _ = (environment["commit"] or "unknown").partition("+")
    commit = commit[:12] + (" and changes" if changed else "")
    return f"{kind}; jax {jax}, Python {environment['python']}, commit {commit}"


def spread(row: dict, factor: float = 1.0) -> str:
    """Median, p10 and p90 as one cell, in units of `factor` to the second."""
    return ", ".join(number(factor * row[name]) for name in ("median_s", "p10_s", "p90_s"))


def train_step(record: dict) -> list[str]:
    """Time, throughput and memory of the compiled iteration."""
    minimum = record["minimum_flops"]
    facts = [f"Least work of an iteration: {minimum['iteration'] / 1e9:.1f} GFLOP an example."]
    if peak := record["peak"]:
        facts.append(
            f"Peak of one device: {peak['flops'] / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{peak['bandwidth'] / 1e12:.2f} TB/s."
        )
    if matmul := record["matmul_tflops"]:
        speeds = ", ".join(f"{number(speed)} in {name}" for name, speed in matmul.items())
        facts.append(f"Large matrix products, TFLOP/s: {speeds}.")
    if wall := record.get("wall"):
        facts.append(
            f"{wall['iterations']} iterations from nothing, compiling included: "
            f"{number(wall['seconds'])} s."
        )
    factor, unit = charts.time_unit([row for row in record["rows"] if "failed" not in row])
    header = (
        "batch",
        "precision",
        "strategy",
        "devices",
        "compile, s",
        f"median, p10, p90, {unit}",
        "samples/s",
        "samples/s a device",
        "TFLOP/s",
        "MFU",
        "GB temporary",
        "GB peak",
    )
    rows = []
    for row in record["rows"]:
        cells = [row[name] for name in ("batch_size", "precision", "strategy", "devices")]
        if "failed" in row:
            reason = textwrap.shorten(f"failed: {row['failed']}", REASON)
            rows.append([*cells, "", reason, *[""] * 6])
            continue
        peak_memory = row["peak_memory_bytes"]
        rows.append(
            [
                *cells,
                f"{row['compile_s']:.1f}",
                spread(row, factor),
                number(row["samples_per_s"]),
                number(row["samples_per_s_per_device"]),
                number(row["tflops"]),
                optional(row["mfu"], "{:.1%}"),
                f"{row['temporary_bytes'] / 1e9:.2f}",
                optional(None if peak_memory is None else peak_memory / 1e9, "{:.2f}"),
            ]
        )
    return [" ".join(facts), "", *table(header, rows)]


def peers(record: dict) -> list[str]:
    """Our iteration's time against that of the peers, pair by pair."""
    batch = record["config"]["training"]["batch_size"]
    rows = []
    for name, result in record["results"].items():
        ratios = result.get("ratios")
        ratio = (
            f"{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
            if ratios
            else ""
        )
        rows.append([name, f"{result['compile_s']:.1f}", spread(result), ratio])
    return [
        f"Batch {batch}, {record['precision']}. A pair is ours, then the peer.",
        "",
        *table(
            (
                "implementation",
                "compile, s",
                "median, p10, p90, s",
                "ours / it: median, range",
            ),
            rows,
        ),
    ]


def tpu_parts(record: dict) -> dict[tuple[str, int, str], dict]:
    """What is compiled, by slice, batch a chip and part; with FLOPs over the least possible."""
    found = {}
    for one in record["slices"]:
        config = configs.from_dict(one["config"])
        batch = config.training.batch_size // int(one["chips"])
        least = peaks.minimum(config)
        for name, part in one["parts"].items():
            over = part["flops"] / (least[name.replace(" ", "_")] * batch)
            found[one["topology"], batch, name] = {**part, "over_minimum": over}
    return found


def tpu_cells(part: dict | None) -> list[str]:
    """The figures of one compiled part; dashes for one that was not compiled."""
    if part is None:
        return ["-"] * 6
    # Statistics and losses are kilobytes; a gradient is all of a network.
    gradients = [one["bytes"] for one in part["collectives"] if one["bytes"] > 1e6]
    return [
        f"{part['flops'] / 1e9:.0f}",
        f"{part['over_minimum']:.2f}",
        f"{part['bytes_accessed'] / 1e9:.2f}",
        f"{part['temporary_bytes'] / 1e6:.0f}",
        f"{len(gradients)} ({sum(gradients) / 1e6:.1f} MB)" if gradients else "0",
        f"{part['roofline_s'] * 1e3:.2f}",
    ]


def tpu_versions(record: dict) -> dict[str, dict]:
    """The parts of the record, and of the one `before` it if there is one."""
    before = {"before": record["before"]["parts"]} if "before" in record else {}
    return {**before, "after": tpu_parts(record)}


def tpu_compile(record: dict) -> list[str]:
    """Operations, bytes and collectives of the compiled step, for one chip of each slice."""
    versions = tpu_versions(record)
    rows = []
    for key in dict.fromkeys(key for parts in versions.values() for key in parts):
        cells = [tpu_cells(parts.get(key)) for parts in versions.values()]
        rows.append([*key, *(" → ".join(pair) for pair in zip(*cells, strict=True))])
    note = "Compiled, not run. For one chip; roofline from published peaks."
    if "before" in record:
        note += f" Before → after; before: {record['before']['where']}."
    header = (
        "slice",
        "batch a chip",
        "part",
        "GFLOP",
        "of the minimum",
        "GB moved",
        "MB temporary",
        "gradient all-reduces",
        "roofline, ms",
    )
    return [note, "", *table(header, rows)]


def scaling(record: dict) -> list[str]:
    """Throughput over the number of devices."""
    factor, unit = charts.time_unit(record["rows"])
    rows = [
        [
            *(row[name] for name in ("scaling", "strategy", "devices", "batch_size")),
            spread(row, factor),
            number(row["examples_per_s"]),
            number(row["examples_per_s_per_device"]),
            optional(row["collectives"]["share"], "{:.1%}"),
        ]
        for row in record["rows"]
    ]
    note = (
        "Weak: the same batch on each device; strong: the same batch in all."
        + " Simulated devices share the cores: ideal is a constant number of examples/s in all."
        * record["simulated"]
    )
    header = (
        "scaling",
        "strategy",
        "devices",
        "batch",
        f"median, p10, p90, {unit}",
        "examples/s",
        "examples/s a device",
        "in collectives",
    )
    return [note, "", *table(header, rows)]


def input_pipeline(record: dict) -> list[str]:
    """Building a dataset file, and what feeding costs an iteration."""
    build = [
        [one["files"], number(one["files_per_s"])]
        + [f"{one[name] / 1e6:.0f}" for name in ("before_bytes", "peak_bytes")]
        for one in record["build"]
    ]
    feed, alone = record["feed"], record["alone"]
    fed = [
        [title, spread(feed[name], 1e3), *cost]
        for name, title, cost in (
            ("device", "data on the device", [f"{feed['cost']['device']['median']:.1%}"]),
            ("host", "fed by the host", [f"{feed['cost']['host']['median']:.1%}"]),
            ("once", "sent once, used for all", [""]),
        )
    ]
    return [
        "Building a dataset file from MIDI files:",
        "",
        *table(("files", "files/s", "MB in use before", "MB at most"), build),
        "",
        f"Feeding, batch {record['config']['training']['batch_size']}; the cost is the share of "
        "the iteration's time, turn by turn:",
        "",
        *table(("data", "iteration: median, p10, p90, ms", "cost of feeding"), fed),
        "",
        f"Alone: drawing the batch of an update {number(1e3 * alone['draw']['median_s'])} ms, "
        f"the host's feed of an iteration {number(1e3 * alone['host_feed']['median_s'])} ms.",
    ]


def compose(record: dict) -> list[str]:
    """From a melody to MIDI, WAV and PNG."""
    rows = [
        [
            row["name"],
            f"{row['music_s']:.0f}",
            row["notes"],
            spread(row["cold"]),
            spread(row["warm"]),
        ]
        for row in record["rows"]
    ]
    header = ("melody", "music, s", "notes", "new process: median, p10, p90, s", "second call, s")
    return [f"Sound by {record['sound']}.", "", *table(header, rows)]


class Kind(NamedTuple):
    """What the report shows of one benchmark's records."""

    table: Callable[[dict], list[str]]
    chart: Callable[[dict], Any | None] = lambda _: None  # a figure, if there is anything to draw
    alt: str = ""


KINDS = {
    "train_step": Kind(
        train_step,
        charts.train_step,
        "Samples per second against batch size, a line for each precision and strategy",
    ),
    "peers": Kind(
        peers, charts.peers, "Bars: median time of an iteration, ours and the peers, p10 to p90"
    ),
    "tpu_compile": Kind(
        tpu_compile,
        lambda record: charts.tpu_compile(tpu_versions(record)),
        "Bars: gigabytes that each part of the step moves, for each slice",
    ),
    "scaling": Kind(
        scaling, charts.scaling, "Examples per second against devices, a line for each strategy"
    ),
    "input_pipeline": Kind(input_pipeline),
    "compose": Kind(compose),
}


def load(path: Path) -> dict:
    """A record.

    Raises:
        UserError: if it is none.
    """
    with reading(path):
        record = json.loads(path.read_text())
        benchmark = record.get("benchmark") if isinstance(record, dict) else None
        if benchmark not in KINDS:
            raise ValueError(f"its benchmark is {benchmark!r}, none of {', '.join(KINDS)}")
        return record


def load_all(results: Path) -> dict[Path, dict]:
    """The records of a folder; tpu_compile_before.json is put into the record it came before."""
    found = {path: load(path) for path in sorted(results.glob("*.json"))}
    for path, record in list(found.items()):
        after = path.with_name(path.name.replace("_before.json", ".json"))
        if after != path and after in found and record["benchmark"] == "tpu_compile":
            with reading(path):
                earlier = {"parts": tpu_parts(record), "where": where(record["environment"])}
            found[after]["before"] = earlier
            del found[path]
    return found


def section(path: Path, record: dict) -> tuple[str, Any | None]:
    """Text and figure of a record."""
    kind = KINDS[record["benchmark"]]
    with reading(path):
        figure = kind.chart(record)
        lines = [
            f"## {path.stem}",
            "",
            f"{where(record['environment'])}; [record](results/{path.name}).",
            "",
            *kind.table(record),
        ]
    if figure is not None:
        lines += ["", f"![{kind.alt}](plots/{path.stem}.png)"]
    return "\n".join(lines) + "\n", figure


def write_readme(folder: Path) -> None:
    """Write what is below the mark in `folder`/README.md, and `folder`/plots/.

    Raises:
        UserError: if a record is none, or the README has no mark; then nothing is written.
    """
    readme = folder / "README.md"
    try:
        head, mark, _ = readme.read_text().partition(START)
    except OSError as error:
        raise UserError(f"{readme}: {error.strerror}") from error
    if not mark:
        raise UserError(f"{readme}: the line {START.strip()!r} is missing")
    sections = {
        path: section(path, record) for path, record in load_all(folder / "results").items()
    }
    plots = files.make_folder(folder / "plots")
    for path, (_, figure) in sections.items():
        if figure is not None:
            charts.save(figure, plots / f"{path.stem}.png")
    with files.replacing(readme) as temporary:
        temporary.write_text(head + START + "\n" + "\n".join(text for text, _ in sections.values()))


class Side(NamedTuple):
    """What of a record is compared."""

    benchmark: str
    where: str
    settings: dict[str, Any]  # config fields and versions by name
    rows: dict[tuple[str, ...], dict[str, float]]  # times of what was timed
    failed: dict[tuple[str, ...], str]  # why there is no time


def side(path: Path) -> Side:
    """The side of a comparison that a file is.

    Raises:
        UserError: if it is no record, or of a benchmark that cannot be compared.
    """
    record = load(path)
    if record["benchmark"] not in ("train_step", "peers"):
        raise UserError(f"{path}: {record['benchmark']} records are not compared")
    with reading(path):
        if record["benchmark"] == "peers":
            named = {(name,): row for name, row in record["results"].items()}
        else:
            named = {
                (str(row["batch_size"]), row["precision"], row["strategy"]): row
                for row in record["rows"]
            }
        environment = dict(record["environment"])
        shown = where(environment)
        for told in ("device", "cpu"):
            del environment[told]
        settings = flat(record["config"]) | flat(environment)
        return Side(
            record["benchmark"],
            shown,
            {name: value for name, value in settings.items() if name not in NOT_COMPARED},
            {
                key: {name: float(row[name]) for name in FIGURES}
                for key, row in named.items()
                if "failed" not in row
            },
            {key: row["failed"] for key, row in named.items() if "failed" in row},
        )


def flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Leaves by their names, such as training.batch_size."""
    leaves = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def verdict(a: dict[str, float], b: dict[str, float]) -> str:
    """Which is ahead and by what factor; ~ where the ranges from p10 to p90 overlap."""
    ratio = b["median_s"] / a["median_s"]
    factor = f"{max(ratio, 1 / ratio):.2f}x"
    ahead = "even" if factor == "1.00x" else f"{'A' if ratio > 1 else 'B'} {factor}"
    overlap = a["p10_s"] <= b["p90_s"] and b["p10_s"] <= a["p90_s"]
    return ahead + (" ~" if overlap else "")


def common(a: Side, b: Side) -> dict[tuple[str, ...], tuple[dict, dict]]:
    """What both have timed."""
    return {key: (row, b.rows[key]) for key, row in a.rows.items() if key in b.rows}


def times(pairs: dict[tuple[str, ...], tuple[dict, dict]]) -> list[str]:
    """The table of a comparison."""
    factor, unit = charts.time_unit([row for pair in pairs.values() for row in pair])
    widths = [max(map(len, column)) for column in zip(*pairs, strict=True)]
    lines = [
        f"{'':{sum(widths) + 2 * len(widths) - 2}}{'A, ' + unit:>9}{'B, ' + unit:>9}{'B / A':>8}"
        f"  {'ahead':10}{'compile, s: A':>15}{'B':>7}"
    ]
    for key, (a, b) in pairs.items():
        cells = [
            cell.rjust(width) if cell.isdecimal() else cell.ljust(width)
            for cell, width in zip(key, widths, strict=True)
        ]
        lines.append(
            f"{'  '.join(cells)}{number(factor * a['median_s']):>9}"
            f"{number(factor * b['median_s']):>9}{b['median_s'] / a['median_s']:8.3f}"
            f"  {verdict(a, b):10}{a['compile_s']:15.1f}{b['compile_s']:7.1f}"
        )
    return [*lines, "Medians of an iteration; ~ where the ranges from p10 to p90 overlap."]


def only(name: str, mine: Side, other: str, theirs: Side) -> list[str]:
    """Lines for what one side alone has timed, and why the other has not."""
    lines = []
    for key in mine.rows:
        if key not in theirs.rows:
            lines.append(f"only in {name}: {' '.join(key)}")
            if key in theirs.failed:
                lines.append(textwrap.shorten(f"{other} failed: {theirs.failed[key]}", REASON))
    return lines


def compare(a: Side, b: Side) -> str:
    """Text for a terminal: two accelerators by the same benchmark."""
    lines = [f"A: {a.where}", f"B: {b.where}"]
    unlike = [
        f"  {name}: A {one}, B {other}"
        for name in a.settings | b.settings
        if (one := a.settings.get(name, "-")) != (other := b.settings.get(name, "-"))
    ]
    lines += ["not the same in both:", *unlike] if unlike else []
    if pairs := common(a, b):
        lines += ["", *times(pairs)]
    alone = only("A", a, "B", b) + only("B", b, "A", a)
    return "\n".join(lines + ["", *alone] if alone else lines)


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("record", nargs="*", type=Path, help="none, or two to compare: A, then B")
    parser.add_argument("--plot", type=Path, help="draw the comparison as this PNG")
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="where results/, plots/ and README.md are"
    )
    arguments = parser.parse_args()
    if len(arguments.record) not in (0, 2):
        raise UserError("give no record, or two to compare")
    if not arguments.record:
        if arguments.plot:
            raise UserError("--plot: draws a comparison; give two records")
        write_readme(arguments.folder)
        return
    a, b = map(side, arguments.record)
    if a.benchmark != b.benchmark:
        raise UserError(f"A is of {a.benchmark}, B of {b.benchmark}: give two of one benchmark")
    print(compare(a, b))
    if arguments.plot:
        pairs = {" ".join(key): pair for key, pair in common(a, b).items()}
        if not pairs:
            raise UserError(f"{arguments.plot}: nothing to draw, both have timed nothing alike")
        verdicts = [verdict(*pair) for pair in pairs.values()]
        names = f"A: {a.where}", f"B: {b.where}"
        charts.save(charts.compared(pairs, names, verdicts), arguments.plot)


if __name__ == "__main__":
    raise SystemExit(records.command(run))
