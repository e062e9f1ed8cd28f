"""Write the tables of benchmarks/README.md from the records in benchmarks/results/.

COMMAND   python benchmarks/report.py
          python benchmarks/report.py A.json B.json   (two records of train_step.py, side by side)
"""

import json
import sys
from pathlib import Path

from musegan_jax import files
from musegan_jax.errors import UserError

HERE = Path(__file__).parent
START = "<!-- Below this line benchmarks/report.py writes. -->\n"


def where(environment: dict) -> str:
    """The machine and the versions of a record, in a line."""
    device, jax = environment["device"], environment["packages"]["jax"]
    kind = f"{device['count']} x {device['kind']}"
    if device["platform"] == "cpu":
        kind = f"{environment['cpu']['model']}, {environment['cpu']['threads']} threads"
    return f"{kind}; jax {jax}, Python {environment['python']}, commit {environment['commit'][:12]}"


def tpu_compile(record: dict) -> list[str]:
    """Operations, bytes and collectives of the compiled step, for one chip of each slice."""
    lines = [
        "Compiled, not run. For one chip; roofline from published peaks.",
        "",
        "| slice | batch a chip | part | GFLOP | GB moved | MB temporary | gradient all-reduces "
        "| other all-reduces | roofline, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in record["slices"]:
        chips = int(found["chips"])
        for name, part in found["parts"].items():
            sizes = [collective["bytes"] for collective in part["collectives"]]
            # Statistics and losses are kilobytes; a gradient is all of a network.
            large = [size for size in sizes if size > 1e6]
            gradients = f"{len(large)} ({sum(large) / 1e6:.1f} MB)" if large else "0"
            lines.append(
                f"| {found['topology']} | {found['config']['training']['batch_size'] // chips} "
                f"| {name} | {part['flops'] / 1e9:.0f} | {part['bytes_accessed'] / 1e9:.2f} "
                f"| {part['temporary_bytes'] / 1e6:.0f} | {gradients} "
                f"| {len(sizes) - len(large)} | {part['roofline_s'] * 1e3:.2f} |"
            )
    return lines


def train_step(record: dict) -> list[str]:
    """Time of the compiled iteration."""
    training = record["config"]["training"]
    return [
        "| batch | precision | strategy | compile, s | median, p10, p90, s | examples/s |",
        "|---|---|---|---|---|---|",
        f"| {training['batch_size']} | {record['config']['model']['dtype']} "
        f"| {record['config']['parallel']['strategy']} | {record['compile_s']:.1f} "
        f"| {record['median_s']:.4g}, {record['p10_s']:.4g}, {record['p90_s']:.4g} "
        f"| {record['samples_per_s']:.1f} |",
    ]


def peers(record: dict) -> list[str]:
    """Our iteration's time against that of the peers, pair by pair."""
    training = record["config"]["training"]
    lines = [
        f"Batch {training['batch_size']}, {record['precision']}. A pair is ours, then the peer.",
        "",
        "| implementation | compile, s | median, p10, p90, s | ours / it: median, range |",
        "|---|---|---|---|",
    ]
    for name, result in record["results"].items():
        ratios = sorted(result.get("ratios", []))
        ratio = (
            f"{ratios[len(ratios) // 2]:.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else ""
        )
        lines.append(
            f"| {name} | {result['compile_s']:.1f} | {result['median_s']:.4g}, "
            f"{result['p10_s']:.4g}, {result['p90_s']:.4g} | {ratio} |"
        )
    return lines


TABLES = {"tpu_compile": tpu_compile, "train_step": train_step, "peers": peers}


def load(path: Path) -> dict:
    """A record.

    Raises:
        UserError: if it is none.
    """
    try:
        record = json.loads(path.read_text())
        if record["benchmark"] not in TABLES:
            raise KeyError(record["benchmark"])
        return record
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a record of these benchmarks ({error})") from error


def section(path: Path) -> str:
    record = load(path)
    title = f"## {path.stem}\n\n{where(record['environment'])}; [record](results/{path.name}).\n\n"
    return title + "\n".join(TABLES[record["benchmark"]](record)) + "\n"


def compare(a: dict, b: dict) -> str:
    """Two accelerators by the same benchmark: B's time over A's."""
    if not a["benchmark"] == b["benchmark"] == "train_step":
        raise UserError("two records of train_step.py can be compared")
    differ = [
        f"{section}.{name}"
        for section in ("model", "training", "data")
        for name, value in a["config"][section].items()
        if b["config"][section][name] != value
    ]
    lines = [f"A: {where(a['environment'])}", f"B: {where(b['environment'])}"]
    lines += [f"not the same in both: {', '.join(differ)}"] if differ else []
    lines += [
        f"iteration: A {a['median_s']:.4g} s, B {b['median_s']:.4g} s: B takes "
        f"{b['median_s'] / a['median_s']:.2f} of A's time",
        f"compile: A {a['compile_s']:.1f} s, B {b['compile_s']:.1f} s",
    ]
    return "\n".join(lines)


def main() -> int:
    try:
        if len(sys.argv) == 3:
            print(compare(*(load(Path(name)) for name in sys.argv[1:])))
            return 0
        if len(sys.argv) != 1:
            raise UserError("give no argument, or two records to compare")
        readme = HERE / "README.md"
        head = readme.read_text().partition(START)[0]
        sections = [section(path) for path in sorted((HERE / "results").glob("*.json"))]
        with files.replacing(readme) as temporary:
            temporary.write_text(head + START + "\n" + "\n".join(sections))
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
