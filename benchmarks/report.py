"""Write the tables and plots of benchmarks/README.md from the records in benchmarks/results/.

COMMAND   uv run python benchmarks/report.py
          uv run python benchmarks/report.py A.json B.json [--plot OUT.png]

Two records of train_step.py, or of peers.py, are compared: for what both have timed, B's time over
A's.
"""

import contextlib
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import charts
import origin
import records
import tables
from musegan_jax import files
from musegan_jax.errors import UserError

HERE = Path(__file__).parent
START = "<!-- Below this line benchmarks/report.py writes. -->\n"
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


class Kind(NamedTuple):
    """What the report shows of one benchmark's records."""

    table: Callable[[dict], list[str]]
    chart: Callable[[dict], Any | None] = lambda _: None  # a figure, if there is anything to draw
    alt: str = ""


KINDS = {
    "train_step": Kind(
        tables.train_step,
        charts.train_step,
        "Examples per second against batch size, a line for each precision and strategy",
    ),
    "peers": Kind(
        tables.peers,
        charts.peers,
        "Bars: median time of an iteration, ours and the peers, p10 to p90",
    ),
    "tpu_compile": Kind(
        tables.tpu_compile,
        lambda record: charts.tpu_compile(tables.tpu_versions(record)),
        "Bars: gigabytes that each part of the step moves, for each slice",
    ),
    "scaling": Kind(
        tables.scaling,
        charts.scaling,
        "Examples per second against devices, a line for each strategy",
    ),
    "input_pipeline": Kind(tables.input_pipeline),
    "compose": Kind(tables.compose),
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
                earlier = {
                    "parts": tables.tpu_parts(record),
                    "where": tables.where(record["environment"]),
                }
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
            f"{tables.where(record['environment'])}; [record](results/{path.name}).",
            "",
            origin.config_line(record),
            "",
        ]
        if "command" in record:  # older records did not keep it
            lines += [f"Made by `{record['command']}`.", ""]
        lines += kind.table(record)
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
        raise UserError(f"--folder: {readme}: {error.strerror}") from error
    if not mark:
        raise UserError(f"--folder: {readme}: the line {START.strip()!r} is missing")
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
        shown = tables.where(environment)
        for told in ("device", "cpu"):
            del environment[told]
        settings = flat(record["config"]) | flat(environment)
        return Side(
            record["benchmark"],
            shown,
            {name: value for name, value in settings.items() if name not in NOT_COMPARED},
            {
                key: {name: float(row[name]) for name in FIGURES} | {"n": tables.count(row)}
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
            f"{'  '.join(cells)}{tables.number(factor * a['median_s']):>9}"
            f"{tables.number(factor * b['median_s']):>9}{b['median_s'] / a['median_s']:8.3f}"
            f"  {verdict(a, b):10}{a['compile_s']:15.1f}{b['compile_s']:7.1f}"
        )
    a, b = (
        " to ".join(dict.fromkeys(map(str, (min(counts), max(counts)))))
        for counts in zip(*((a["n"], b["n"]) for a, b in pairs.values()), strict=True)
    )
    return [
        *lines,
        f"Medians of an iteration, n: A {a}, B {b}; ~ where ranges from p10 to p90 overlap.",
    ]


def only(name: str, mine: Side, other: str, theirs: Side) -> list[str]:
    """Lines for what one side alone has timed, and why the other has not."""
    lines = []
    for key in mine.rows:
        if key not in theirs.rows:
            lines.append(f"only in {name}: {' '.join(key)}")
            if key in theirs.failed:
                lines.append(
                    textwrap.shorten(f"{other} failed: {theirs.failed[key]}", tables.REASON)
                )
    return lines


def compare(a: Side, b: Side) -> str:
    """Text for a terminal: two accelerators by the same benchmark.

    Raises:
        UserError: if they have timed nothing that is the same.
    """
    if not common(a, b):
        has_a, has_b = (
            textwrap.shorten(
                "; ".join(" ".join(key) for key in one.rows) or "nothing", tables.REASON
            )
            for one in (a, b)
        )
        raise UserError(f"A and B have timed nothing in common: A {has_a}, B {has_b}")
    lines = [f"A: {a.where}", f"B: {b.where}"]
    unlike = [
        f"  {name}: A {one}, B {other}"
        for name in a.settings | b.settings
        if (one := a.settings.get(name, "-")) != (other := b.settings.get(name, "-"))
    ]
    lines += ["not the same in both:", *unlike] if unlike else []
    lines += ["", *times(common(a, b))]
    alone = only("A", a, "B", b) + only("B", b, "A", a)
    return "\n".join(lines + ["", *alone] if alone else lines)


def run() -> None:
    parser = records.parser(__doc__, record=False)
    parser.add_argument(
        "record", nargs="*", type=Path, help="two to compare: A, then B (default: write the page)"
    )
    parser.add_argument(
        "--plot", type=Path, help="draw the comparison as this PNG (default: none is drawn)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=HERE,
        help="where results/, plots/ and README.md are (default: benchmarks)",
    )
    arguments = parser.parse_args()
    if len(arguments.record) not in (0, 2):
        raise UserError("give no record, or two to compare")
    if not arguments.record:
        if arguments.plot:
            raise UserError("--plot: draws a comparison; give two records")
        write_readme(arguments.folder)
        return
    if arguments.plot and arguments.plot.suffix != ".png":
        raise UserError(f"--plot {arguments.plot}: the name must end in .png")
    records.need_target("--plot", arguments.plot)
    a, b = map(side, arguments.record)
    if a.benchmark != b.benchmark:
        raise UserError(f"A is of {a.benchmark}, B of {b.benchmark}: give two of one benchmark")
    print(compare(a, b))
    if arguments.plot:
        pairs = {" ".join(key): pair for key, pair in common(a, b).items()}
        verdicts = [verdict(*pair) for pair in pairs.values()]
        names = f"A: {a.where}", f"B: {b.where}"
        charts.save(charts.compared(pairs, names, verdicts), arguments.plot)


if __name__ == "__main__":
    raise SystemExit(records.command(run))
