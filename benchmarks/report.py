"""Write the tables and plots of benchmarks/README.md from the records in benchmarks/results/.

COMMAND   uv run python benchmarks/report.py
          uv run python benchmarks/report.py A.json B.json [--plot OUT.png]

Two records of train_step.py, or of peers.py, are compared: for what both have timed, B's time over
A's.
"""

import contextlib
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import charts
import records
import tables
from musegan_jax import files
from musegan_jax.errors import UserError

HERE = Path(__file__).parent
START = "<!-- Below this line benchmarks/report.py writes. -->\n"
COMPARED_BY = {"train_step": ("batch_size", "precision", "strategy"), "peers": ("name",)}
# What rows of a record say themselves, or the line about the machine.
NOT_COMPARED = {
    *("training.batch_size", "model.dtype", "parallel.strategy", "strategy", "precision.networks"),
    *("commit", "python", "packages.jax", "device", "cpu"),
}
# What reading a file that is not a record may raise.
DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, UserError)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a record becomes one line that names its file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except DAMAGE as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: not a record of these benchmarks ({reason})") from error


def load(path: Path) -> dict:
    """A record."""
    with reading(path):
        record = json.loads(path.read_text())
        found = record.get("benchmark") if isinstance(record, dict) else None
        if found not in tables.BENCHMARKS:
            known = ", ".join(tables.BENCHMARKS)
            raise ValueError(f"its benchmark is {found!r}, none of {known}")
        return record


def load_all(results: Path) -> dict[Path, dict]:
    """The records of a folder; what was compiled before is put into the record it came before."""
    found = {path: load(path) for path in sorted(results.glob("*.json"))}
    for path, record in list(found.items()):
        after = found.get(path.with_name(path.name.replace("_before.json", ".json")), record)
        if after is not record and record["benchmark"] in tables.COMPILED:
            with reading(path):
                place = tables.where(record["environment"])
                after["before"] = {"parts": tables.compiled_parts(record), "where": place}
            del found[path]
    return found


def section(path: Path, record: dict) -> tuple[str, Any | None]:
    """Text and figure of a record."""
    chart = charts.CHARTS.get(record["benchmark"])
    with reading(path):
        figure = chart and chart(record)
        place = tables.where(record["environment"])
        blocks = [f"## {path.stem}", f"{place}; [record](results/{path.name})."]
        blocks.append(tables.config_line(record))
        if "command" in record:  # older records did not keep it
            blocks.append(f"Made by `{record['command']}`.")
        for name, note, rows in tables.contents(record):
            blocks += [note, tables.table(name, rows)]
    if figure is not None:
        alt = chart.__doc__.splitlines()[0].rstrip(".")
        blocks.append(f"![{alt}](plots/{path.stem}.png)")
    return "\n\n".join(blocks) + "\n", figure


def write_readme(folder: Path) -> None:
    """Write what is below the mark in `folder`/README.md, and `folder`/plots/, if all is well."""
    readme = folder / "README.md"
    try:
        head, mark, _ = readme.read_text().partition(START)
    except OSError as error:
        raise UserError(f"--folder: {readme}: {error.strerror}") from error
    if not mark:
        raise UserError(f"--folder: {readme}: the line {START.strip()!r} is missing")
    loaded = load_all(folder / "results")
    sections = {path.stem: section(path, record) for path, record in loaded.items()}
    plots = files.make_folder(folder / "plots")
    for name, (_, figure) in sections.items():
        if figure is not None:
            charts.save(figure, plots / f"{name}.png")
    with files.replacing(readme) as temporary:
        temporary.write_text("\n".join([head + START, *(text for text, _ in sections.values())]))


def side(path: Path) -> SimpleNamespace:
    """The part of a record that is compared."""
    record = load(path)
    kind = record["benchmark"]
    if kind not in COMPARED_BY:
        raise UserError(f"{path}: {kind} records are not compared")
    with reading(path):
        where = tables.where(record["environment"])
        settings, timed, failed = {}, {}, {}
        for section, value in (record["config"] | record["environment"]).items():
            fields = value if isinstance(value, dict) else {"": value}
            for name, field in fields.items():
                full = f"{section}.{name}" if name else section
                if not {section, full} & NOT_COMPARED:
                    settings[full] = field
        for row in tables.contents(record)[0][2]:
            key = tuple(str(row[name]) for name in COMPARED_BY[kind])
            if "failed" in row:
                failed[key] = row["failed"]
            else:
                names = (*tables.QUANTILES, "compile_s")
                timed[key] = {name: float(row[name]) for name in names} | {"n": tables.count(row)}
    return SimpleNamespace(kind=kind, where=where, settings=settings, timed=timed, failed=failed)


def verdict(a: dict[str, float], b: dict[str, float]) -> str:
    """Which is ahead and by what factor; ~ where the ranges from p10 to p90 overlap."""
    ratio = b["median_s"] / a["median_s"]
    factor = f"{max(ratio, 1 / ratio):.2f}x"
    ahead = "even" if factor == "1.00x" else f"{'A' if ratio > 1 else 'B'} {factor}"
    overlap = a["p10_s"] <= b["p90_s"] and b["p10_s"] <= a["p90_s"]
    return ahead + (" ~" if overlap else "")


def times(pairs: dict[tuple[str, ...], tuple[dict, dict]]) -> list[str]:
    """The table of a comparison."""
    factor, unit = tables.time_unit([row for pair in pairs.values() for row in pair])
    columns = []
    for column in zip(*pairs, strict=True):
        width = max(map(len, column))
        columns.append([x.rjust(width) if x.isdecimal() else x.ljust(width) for x in column])
    names = ["  ".join(parts) for parts in zip(*columns, strict=True)]
    lines = [
        f"{'':{len(names[0])}}{'A, ' + unit:>9}{'B, ' + unit:>9}{'B / A':>8}"
        f"  {'ahead':10}{'compile, s: A':>15}{'B':>7}"
    ]
    for name, (a, b) in zip(names, pairs.values(), strict=True):
        one, other = (tables.number(factor * row["median_s"]) for row in (a, b))
        lines.append(
            f"{name}{one:>9}{other:>9}{b['median_s'] / a['median_s']:8.3f}"
            f"  {verdict(a, b):10}{a['compile_s']:15.1f}{b['compile_s']:7.1f}"
        )
    counts = [[row["n"] for row in rows] for rows in zip(*pairs.values(), strict=True)]
    a, b = (" to ".join(map(str, sorted({min(n), max(n)}))) for n in counts)
    lines.append(
        f"Medians of an iteration, n: A {a}, B {b}; ~ where ranges from p10 to p90 overlap."
    )
    return lines


def compare(a: SimpleNamespace, b: SimpleNamespace, plot: Path | None) -> str:
    """Text for a terminal, and a plot if wanted: two accelerators by the same benchmark."""
    if a.kind != b.kind:
        raise UserError(f"A is of {a.kind}, B of {b.kind}: give two of one benchmark")
    pairs = {key: (row, b.timed[key]) for key, row in a.timed.items() if key in b.timed}
    if not pairs:
        has = ["; ".join(map(" ".join, one.timed)) or "nothing" for one in (a, b)]
        has_a, has_b = (textwrap.shorten(text, 80) for text in has)
        raise UserError(f"A and B have timed nothing in common: A {has_a}, B {has_b}")
    heads = [f"A: {a.where}", f"B: {b.where}"]
    if plot:
        charts.save(
            charts.compared(pairs, heads, [verdict(*pair) for pair in pairs.values()]), plot
        )
    differ = [
        f"  {name}: A {a.settings.get(name, '-')}, B {b.settings.get(name, '-')}"
        for name in a.settings | b.settings
        if a.settings.get(name, "-") != b.settings.get(name, "-")
    ]
    alone = []
    for name, mine, other, theirs in (("A", a, "B", b), ("B", b, "A", a)):
        for key in [key for key in mine.timed if key not in pairs]:
            alone.append(f"only in {name}: {' '.join(key)}")
            if key in theirs.failed:
                alone.append(textwrap.shorten(f"{other} failed: {theirs.failed[key]}", 80))
    lines = heads + (["not the same in both:", *differ] if differ else [])
    return "\n".join([*lines, "", *times(pairs), *(["", *alone] if alone else [])])


def run() -> None:
    parser = records.parser(__doc__, record=False)
    two = "two to compare: A, then B (default: write the page)"
    parser.add_argument("record", nargs="*", type=Path, help=two)
    drawn = "draw the comparison as this PNG (default: none is drawn)"
    parser.add_argument("--plot", type=Path, help=drawn)
    where = "where results/, plots/ and README.md are (default: benchmarks)"
    parser.add_argument("--folder", type=Path, default=HERE, help=where)
    arguments = parser.parse_args()
    plot = arguments.plot
    if len(arguments.record) not in (0, 2):
        raise UserError("give no record, or two to compare")
    if plot and not arguments.record:
        raise UserError("--plot: draws a comparison; give two records")
    if plot and plot.suffix != ".png":
        raise UserError(f"--plot {plot}: the name must end in .png")
    records.need_target("--plot", plot)
    if arguments.record:
        print(compare(*map(side, arguments.record), plot))
    else:
        write_readme(arguments.folder)


if __name__ == "__main__":
    raise SystemExit(records.command(run))
