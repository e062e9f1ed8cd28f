"""The tables of benchmarks/README.md, a function for the records of each benchmark."""

import statistics
import textwrap
from collections.abc import Sequence

import numpy as np

import charts
import peaks
from musegan_jax import config as configs

REASON = 80  # characters of a compiler's message


def number(value: float) -> str:
    """Four significant digits, whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def optional(value: float | None, shown: str = "{:.4g}") -> str:
    """A figure that not every device has."""
    return "" if value is None else shown.format(value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, without the columns that no row has anything in."""
    # A message of a compiler may hold what ends a cell or a line.
    cells = [[" ".join(str(cell).replace("|", "/").split()) for cell in row] for row in rows]
    kept = [k for k in range(len(header)) if not rows or any(row[k] for row in cells)]
    lines = [[line[k] for k in kept] for line in (header, ["---"] * len(header), *cells)]
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
    """Median, p10 and p90 as one cell, in units of `factor` to the second; one measurement once."""
    names = ("median_s", "p10_s", "p90_s") if count(row) > 1 else ("median_s",)
    return ", ".join(number(factor * row[name]) for name in names)


def count(row: dict) -> int:
    """How many measurements a row's median is of."""
    return len(row["turns"] if "turns" in row else row["seconds"])


def timed(what: str, rows: Sequence[dict], unit: str) -> str:
    """The header of a column of `spread`."""
    several = any(count(row) > 1 for row in rows)
    return f"{what}: median, p10, p90, {unit}" if several else f"{what}, {unit}"


def train_step(record: dict) -> list[str]:
    """Time, throughput and memory of the compiled iteration."""
    minimum = record["minimum_flops"]
    facts = [
        f"Least work of an iteration: {minimum['iteration'] / 1e9:.1f} GFLOP for each example of "
        f"its batch, all updates included; TFLOP/s{' and MFU' * bool(record['peak'])} count this "
        "work, whatever the compiler made of it."
    ]
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
    measured = [row for row in record["rows"] if "failed" not in row]
    factor, unit = charts.time_unit(measured)
    header = (
        "batch",
        "precision",
        "strategy",
        "devices",
        "compile, s",
        "n",
        timed("iteration", measured, unit),
        "examples/s",
        "examples/s a device",
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
            rows.append([*cells, "", "", reason, *[""] * 6])
            continue
        peak_memory = row["peak_memory_bytes"]
        rows.append(
            [
                *cells,
                f"{row['compile_s']:.1f}",
                count(row),
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
    versions = {
        package: version
        for one in record["implementations"].values()
        for package, version in one.get("versions", {}).items()
    }
    rows = []
    for name, result in record["results"].items():
        ratios = result.get("ratios")
        ratio = (
            f"{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
            if ratios
            else ""
        )
        rows.append([name, f"{result['compile_s']:.1f}", count(result), spread(result), ratio])
    return [
        ", ".join(" ".join(pair) for pair in versions.items())
        + ". Ours and a peer take turns; a ratio is of a turn of ours and the peer's next.",
        "",
        *table(
            (
                "implementation",
                "compile, s",
                "n",
                timed("iteration", list(record["results"].values()), "s"),
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
    note = (
        "Compiled, not run. For one chip; GFLOP: operations of the part as compiled, beside them "
        "how many times the least that it needs (`peaks.minimum`); roofline from published peaks "
        "of operations and memory, without the time of collectives."
    )
    if "before" in record:
        note += f" Before → after; before: {record['before']['where']}."
    header = (
        "slice",
        "batch a chip",
        "part",
        "GFLOP",
        "times the minimum",
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
            count(row),
            spread(row, factor),
            number(row["examples_per_s"]),
            number(row["examples_per_s_per_device"]),
            optional(row["collectives"]["share"], "{:.1%}"),
        ]
        for row in record["rows"]
    ]
    note = (
        "Weak: the same batch on each device; strong: the same batch in all. The largest weak and "
        "strong row are one measurement where their batches are the same. In collectives: a share "
        "of the operations' time, from a trace of a few further iterations."
        + " Simulated devices share the cores: ideal is a constant number of examples/s in all."
        * record["simulated"]
    )
    header = (
        "scaling",
        "strategy",
        "devices",
        "batch",
        "n",
        timed("iteration", record["rows"], unit),
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
        [title, count(feed[name]), spread(feed[name], 1e3), cost]
        for name, title, cost in (
            ("device", "data on the device", share(feed["cost"]["device"])),
            ("host", "fed by the host", share(feed["cost"]["host"])),
            ("once", "sent once, used for all", ""),
        )
    ]
    apart = [
        [title, count(alone[name]), spread(alone[name], 1e3)]
        for name, title in (
            ("draw", "drawing the batch of an update"),
            ("host_feed", "the host's feed of an iteration"),
        )
    ]
    return [
        "Building a dataset file from MIDI files, each folder once:",
        "",
        *table(("files", "files/s", "MB in use before", "MB at most"), build),
        "",
        f"Feeding, n turns of {feed['iterations_per_turn']} iterations; the cost is the share of "
        "the iteration's time, turn by turn, and below 0 where noise is larger:",
        "",
        *table(
            (
                "data",
                "n",
                timed("iteration", [feed["once"]], "ms"),
                "cost of feeding: median, p10 to p90",
            ),
            fed,
        ),
        "",
        "Alone:",
        "",
        *table(("what", "n", timed("once", list(alone.values()), "ms")), apart),
    ]


def share(cost: dict) -> str:
    """What feeding costs: median over the turns, p10 to p90."""
    low, high = np.quantile(cost["shares"], (0.1, 0.9))
    return f"{cost['median']:.1%}, {low:.1%} to {high:.1%}"


def compose(record: dict) -> list[str]:
    """From a melody to MIDI, WAV and PNG."""
    rows = [
        [
            row["name"],
            f"{row['music_s']:.0f}",
            row["notes"],
            count(row["cold"]),
            spread(row["cold"]),
            spread(row["warm"]),
        ]
        for row in record["rows"]
    ]
    header = (
        "melody",
        "music, s",
        "notes",
        "n",
        timed("new process", [row["cold"] for row in record["rows"]], "s"),
        timed("second call", [row["warm"] for row in record["rows"]], "s"),
    )
    return [f"Sound by {record['sound']}.", "", *table(header, rows)]
