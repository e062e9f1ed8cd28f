"""The tables of benchmarks/README.md: the columns of each, and what a record puts into them."""

import collections
import statistics
import string
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from musegan_jax import config as configs
from musegan_jax.runs import peaks

# The columns of each table: the header, and in braces the key and format of what it shows of a
# row, as in `str.format`; without a key it is the row. Formats are Python's and FORMATS; `/1e9`
# before one divides, and after `?` there may be no value. UNIT is s or ms, as long as times are.
TABLES = {
    "train_step": """
        batch {batch_size} | precision {precision} | strategy {strategy} | devices {devices} |
        iterations a dispatch {together} | compile, s {compile_s:.1f} | n {:count} |
        iteration: median, p10, p90, UNIT {:UNIT} |
        examples/s {samples_per_s:number} | examples/s a device {samples_per_s_per_device:number} |
        TFLOP/s {tflops:number} | MFU {mfu:?.1%} | GB temporary {temporary_bytes:/1e9 .2f} |
        GB peak {peak_memory_bytes:?/1e9 .2f}""",
    "peers": """
        implementation {name} | compile, s {compile_s:.1f} | n {:count} |
        iteration: median, p10, p90, s {:s} | ours / it: median, range {ratios:?ratio}""",
    "tpu_compile": """
        slice {slice} | batch a chip {batch_size} | part {part} | GFLOP {flops:/1e9 .0f} |
        times the minimum {over_minimum:.2f} | GB moved {bytes_accessed:/1e9 .2f} |
        in the main memory {main_bytes:?/1e9 .2f} | MB temporary {temporary_bytes:/1e6 .0f} |
        gradient all-reduces {gradients} | roofline, ms {bound_s:?/1e-3 .2f} |
        MFU it allows {mfu:?.0%}""",
    "gpu_compile": """
        GPUs {slice} | batch a GPU {batch_size} | part {part} | kernels {kernels} |
        of them cuDNN's {convolutions} | copies {copies} | with a transpose {with_transpose} |
        of an activation {of_activations} | GB moved {bytes_moved:/1e9 .2f} |
        outside convolutions {outside_bytes:/1e9 .2f} | MB temporary {temporary_bytes:/1e6 .0f} |
        GFLOP {flops:/1e9 .0f} | convolutions in {dtypes} | gradient all-reduces {gradients} |
        roofline, ms {roofline_s:/1e-3 .2f} | MFU it allows {mfu:.0%}""",
    "kernels": """
        kind {kind} | kernels {kernels} | ms {kernel_s:/1e-3 .3f} | GB {bytes:/1e9 .2f} |
        GB/s {gb_per_s:.0f} | TFLOP/s {tflops:.1f} | roofline, ms {roofline_s:?/1e-3 .3f}""",
    "slowest": """
        kernel {name} | ms {kernel_s:/1e-3 .3f} | MB {bytes:/1e6 .1f} | GB/s {gb_per_s:.0f} |
        TFLOP/s {tflops:.1f} | roofline, ms {roofline_s:?/1e-3 .3f} | of {source}""",
    "repeat": """
        mode {mode} | two runs equal {equal} | n {:count} |
        iteration: median, p10, p90, ms {:ms}""",
    "scaling": """
        scaling {scaling} | strategy {strategy} | devices {devices} | batch {batch_size} |
        n {:count} | iteration: median, p10, p90, UNIT {:UNIT} | examples/s {examples_per_s:number}
        | examples/s a device {examples_per_s_per_device:number} |
        in collectives {collectives[share]:?.1%}""",
    "build": """
        files {files} | files/s {files_per_s:number} |
        MB in use before {before_bytes:/1e6 .0f} | MB at most {peak_bytes:/1e6 .0f}""",
    "feed": """
        data {what} | n {:count} | iteration: median, p10, p90, ms {:ms} |
        cost of feeding: median, p10 to p90 {cost:?share}""",
    "alone": "what {what} | n {:count} | once: median, p10, p90, ms {:ms}",
    "compose": """
        melody {name} | music, s {music_s:.0f} | notes {notes} | n {cold:count} |
        new process: median, p10, p90, s {cold:s} | second call: median, p10, p90, s {warm:s}""",
}
BENCHMARKS = (
    *("train_step", "peers", "tpu_compile", "gpu_compile", "kernels", "repeat", "scaling"),
    *("input_pipeline", "compose"),
)
COMPILED = {  # what may have been otherwise before, by benchmark
    "tpu_compile": """flops over_minimum bytes_accessed main_bytes temporary_bytes gradients bound_s
        mfu""".split(),
    "gpu_compile": """kernels convolutions copies with_transpose of_activations bytes_moved
        outside_bytes temporary_bytes flops dtypes gradients roofline_s mfu""".split(),
}
QUANTILES = ("median_s", "p10_s", "p90_s")


def number(value: float) -> str:
    """Four significant digits, whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def count(row: dict) -> int:
    """How many measurements a row's median is of."""
    return len(row["turns" if "turns" in row else "seconds"])


def time_unit(rows: Sequence[dict]) -> tuple[float, str]:
    """Seconds if a median is as long as that, else milliseconds: (units in a second, name)."""
    longest = max((row["median_s"] for row in rows), default=0)
    return (1.0, "s") if longest >= 1 else (1e3, "ms")


def times(row: dict, factor: float) -> str:
    """Median, p10 and p90, or the only measurement, or why there is none."""
    if "failed" in row:
        return textwrap.shorten(f"failed: {row['failed']}", 80)
    names = QUANTILES if count(row) > 1 else QUANTILES[:1]
    return ", ".join(number(factor * row[name]) for name in names)


def share(cost: dict) -> str:
    """What feeding costs: median over the turns, p10 to p90."""
    low, high = np.quantile(cost["shares"], (0.1, 0.9))
    return f"{cost['median']:.1%}, {low:.1%} to {high:.1%}"


FORMATS = {
    "number": number,
    "count": lambda row: "" if "failed" in row else count(row),
    "s": lambda row: times(row, 1),
    "ms": lambda row: times(row, 1e3),
    "ratio": lambda turns: f"{statistics.median(turns):.2f}, {min(turns):.2f} to {max(turns):.2f}",
    "share": share,
}


class Cells(string.Formatter):
    """`str.format` with the formats of TABLES."""

    def format_field(self, value: Any, spec: str) -> str:
        """A value as text; a tuple, of what was before and what is now, with arrows."""
        if isinstance(value, tuple):
            return " → ".join("-" if one is None else self.format_field(one, spec) for one in value)
        if value == "" or (value is None and spec.startswith("?")):
            return ""
        spec = spec.removeprefix("?")
        if spec in FORMATS:
            return str(FORMATS[spec](value))
        if spec.startswith("/"):
            unit, spec = spec[1:].split()
            value = value / float(unit)
        return format(value, spec)


def table(name: str, rows: Sequence[dict]) -> str:
    """A table in Markdown, without the columns that no row has anything in."""
    _, unit = time_unit([row for row in rows if "median_s" in row])
    columns = []
    for column in TABLES[name].replace("UNIT", unit).split("|"):
        header, field = column.strip().split(" {")
        cells = [Cells().vformat("{" + field, [row], row) for row in rows]
        measured = [cell for cell, row in zip(cells, rows, strict=True) if "failed" not in row]
        if not any(", " in cell for cell in measured):  # there is no more than a median
            header = header.replace(": median, p10, p90", "")
        if any(cell.strip("-→ ") for cell in cells) or not rows:
            # A compiler's message may hold what ends a cell or a line.
            cells = [" ".join(cell.replace("|", "/").split()) for cell in cells]
            columns.append([header, "---", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def where(environment: dict) -> str:
    """The machine and the versions of a record, in a line."""
    device, cpu = environment["device"], environment["cpu"]
    kind = f"{device['count']} x {device['kind']}"
    if device["platform"] == "cpu":
        kind = f"{cpu['model']}, {cpu['threads']} threads"
    commit, changed, _ = (environment["commit"] or "unknown").partition("+")
    versions = f"jax {environment['packages']['jax']}, Python {environment['python']}"
    return f"{kind}; {versions}, commit {commit[:12]}{' and changes' if changed else ''}"


def config_line(record: dict) -> str:
    """Sizes of the networks and of what they see; batch and precision where all rows have one."""
    slices, (_, _, rows) = record.get("slices"), contents(record)[0]
    config = slices[0]["config"] if slices else record["config"]  # slices differ in the batch only
    model, batch = config["model"], config["training"]["batch_size"]
    ours, theirs = (", ".join(map(str, model[f"{x}_filters"])) for x in ("generator", "critic"))
    filters = f"{ours} in both networks"
    if ours != theirs:
        filters = f"{ours} in the generator, {theirs} in the critic"
    steps = config["data"]["window_steps"]
    facts = [f"Config: filters {filters}", f"{model['pitches']} pitches", f"{steps} steps"]
    batches = {row.get("batch_size", batch) for row in rows or [{}]}
    if len(batches) == 1 and record["benchmark"] != "compose":  # which takes a melody at a time
        each = {"tpu_compile": " a chip", "gpu_compile": " a GPU"}.get(record["benchmark"], "")
        facts.append(f"batch {batches.pop()}{each}")
    precisions = {row.get("precision", model["dtype"]) for row in rows or [{}]}
    return "; ".join([*facts, *(precisions if len(precisions) == 1 else [])]) + "."


def contents(record: dict) -> list[tuple[str, str, list[dict]]]:
    """Of each table of a record: its name, the text above it and its rows."""
    benchmark = record["benchmark"]
    if benchmark == "input_pipeline":
        return input_pipeline(record)
    if benchmark == "kernels":
        return kernel_times(record)
    if benchmark == "peers":
        rows = [{"ratios": None, **row, "name": name} for name, row in record["results"].items()]
        versions = {}
        for one in record["implementations"].values():
            versions |= one.get("versions", {})
        note = f"""{", ".join(map(" ".join, versions.items()))}. Ours and a peer take turns; a ratio
            is of a turn of ours and the peer's next."""
    elif benchmark in COMPILED:
        rows, note = compiled_rows(record), compiled_note(record)
    elif benchmark == "scaling":
        rows = record["rows"]
        note = """Weak: the same batch on each device; strong: the same batch in all. The largest
            weak and strong row are one measurement where their batches are the same. In
            collectives: a share of the operations' time, from a trace of a few further
            iterations."""
        if record["simulated"]:
            note += """ Simulated devices share the cores: ideal is a constant number of examples/s
                in all."""
    elif benchmark == "repeat":
        rows = record["rows"]
        note = f"Two processes of each mode, {record['iterations']} iterations from one seed."
    elif benchmark == "compose":
        rows, note = record["rows"], f"Sound by {record['sound']}."
    else:
        # A row that failed has only its first cells.
        empty = collections.defaultdict(str)
        rows = [empty | row if "failed" in row else row for row in record["rows"]]
        rows = [row | {"together": several(row.get("together", 1))} for row in rows]
        note = train_step_note(record)
    return [(benchmark, " ".join(note.split()), rows)]


def several(together: int) -> int | str:
    """How many iterations a dispatch has, where it is more than one."""
    return together if together > 1 else ""


def train_step_note(record: dict) -> str:
    """The least work of an iteration, and the device's peak."""
    peak, matmul, wall = record["peak"], record["matmul_tflops"], record.get("wall")
    note = f"""Least work of an iteration: {record["minimum_flops"]["iteration"] / 1e9:.1f} GFLOP
        for each example of its batch, all updates included; TFLOP/s{" and MFU" if peak else ""}
        count this work, whatever the compiler made of it."""
    if peak:
        note += f""" Peak of one device: {peak["flops"] / 1e12:.0f} TFLOP/s in bfloat16,
            {peak["bandwidth"] / 1e12:.2f} TB/s."""
    if matmul:
        speeds = ", ".join(f"{number(speed)} in {name}" for name, speed in matmul.items())
        note += f" Large matrix products, TFLOP/s: {speeds}."
    if wall:
        note += f""" {wall["iterations"]} iterations from nothing, compiling included:
            {number(wall["seconds"])} s."""
    return note


def input_pipeline(record: dict) -> list[tuple[str, str, list[dict]]]:
    """`contents` of building a dataset file, and of what feeding costs an iteration."""
    feed, alone = record["feed"], record["alone"]
    built = "Building a dataset file from MIDI files, each folder once:"
    feeding = (
        f"Feeding, n turns of {feed['iterations_per_turn']} iterations; the cost is the share of "
        "the iteration's time, turn by turn, and below 0 where noise is larger:"
    )
    fed = [
        {"what": "data on the device", "cost": feed["cost"]["device"], **feed["device"]},
        {"what": "fed by the host", "cost": feed["cost"]["host"], **feed["host"]},
        {"what": "sent once, used for all", "cost": None, **feed["once"]},
    ]
    apart = [
        {"what": "drawing the batch of an update", **alone["draw"]},
        {"what": "the host's feed of an iteration", **alone["host_feed"]},
    ]
    return [("build", built, record["build"]), ("feed", feeding, fed), ("alone", "Alone:", apart)]


def kernel_times(record: dict) -> list[tuple[str, str, list[dict]]]:
    """`contents` of a traced iteration: kinds of kernels, and the ones that take longest."""

    def rates(rows: list[dict]) -> list[dict]:
        return [
            row
            | {"gb_per_s": row["bytes"] / row["kernel_s"] / 1e9}
            | {"tflops": row["flops"] / row["kernel_s"] / 1e12}
            for row in rows
        ]

    note = f"""One iteration, {record["wall_s"] * 1e3:.3f} ms under the profiler, mean of
        {record["traced_iterations"]}; {record["other_s"] * 1e3:.3f} ms in operations that are no
        kernel of the program's entry. Bytes are operands and results. Roofline: the longer of
        operations and bytes at the published peaks."""
    return [
        ("kernels", " ".join(note.split()), rates(record["kinds"])),
        ("slowest", "The kernels that take longest:", rates(record["kernels"][:15])),
    ]


def compiled_note(record: dict) -> str:
    """How to read what is compiled, and by which compiler."""
    if record["benchmark"] == "tpu_compile":
        note = """Compiled, not run. For one chip; GFLOP: operations of the part as compiled, beside
            them how many times the least that it needs (`peaks.minimum`). GB moved: XLA's count, in
            which a copy from the main memory to the chip's fast memory counts twice, and what moves
            in the fast memory counts as well. Roofline: the longer of the operations and the bytes
            in the main memory at the published peaks, without the time of collectives and of the
            fast memory; MFU: the least operations in that time."""
    else:
        note = """Compiled, not run. For one GPU; roofline: for each kernel the longer of its
            operations and its bytes at the published peaks, summed, without launches and
            collectives; MFU: the least operations (`peaks.minimum`) in that time. Transposes are
            part of a kernel that computes something else, mostly."""
    compiler = " ".join(" ".join(pair) for pair in record.get("compiler", {}).items())
    flags = ", ".join(f"{name}={value}" for name, value in record.get("flags", {}).items())
    note += f" Compiler: {compiler}." if compiler else ""
    note += f" With {flags}." if flags else ""
    if "before" in record:
        note += f" Before → after; before: {record['before']['where']}."
    return note


def compiled_parts(record: dict) -> dict[tuple[str, int, str], dict]:
    """Figures of what is compiled, by slice, batch a device and part."""
    found = {}
    for one in record["slices"]:
        config = configs.from_dict(one["config"])
        batch = config.training.batch_size // int(one["chips"])
        minimum = peaks.minimum(config)
        for name, part in one["parts"].items():
            # Statistics and losses are kilobytes; a gradient is all of a network.
            sizes = [one["bytes"] for one in part["collectives"] if one["bytes"] > 1e6]
            least = minimum[name.replace(" ", "_")] * batch
            figures = part | {
                "over_minimum": part["flops"] / least,
                "gradients": f"{len(sizes)} ({sum(sizes) / 1e6:.1f} MB)" if sizes else "0",
            }
            if record["benchmark"] == "gpu_compile":
                figures |= gpu_figures(part, least)
            elif "bound_s" in part:  # not in records of earlier versions
                figures["mfu"] = least / part["peak_flops"] / part["bound_s"]
            found[one["topology"], batch, name] = figures
    return found


def gpu_figures(part: dict, least: float) -> dict:
    """What the table shows of a part compiled for a GPU besides what is in the record."""
    kinds = part["kernels_by_kind"]
    return {
        "convolutions": kinds.get("convolution", 0),
        "copies": kinds.get("copy", 0),
        "of_activations": sum(part["activation_transposes"].values()),
        "outside_bytes": part["bytes_moved"] - part["bytes_by_kind"].get("convolution", 0),
        "dtypes": ", ".join(part["convolution_dtypes"]),
        "mfu": least / part["peak_flops"] / part["roofline_s"],
    }


def compiled_rows(record: dict) -> list[dict]:
    """A row for each part, its figures as tuples: before, if that is known, and now."""
    versions = [record["before"]["parts"]] if "before" in record else []
    versions.append(compiled_parts(record))
    rows = []
    for place in dict.fromkeys(place for parts in versions for place in parts):
        row = dict(zip(("slice", "batch_size", "part"), place, strict=True))
        parts = [version.get(place) for version in versions]
        for key in COMPILED[record["benchmark"]]:
            row[key] = tuple(None if part is None else part.get(key) for part in parts)
        rows.append(row)
    return rows
