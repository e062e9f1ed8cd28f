"""Compile the training step for TPU slices without having one, and count its operations.

COMMAND   uv run --extra tpu python benchmarks/tpu_compile.py \
              --json benchmarks/results/tpu_compile.json
NEEDS     the extra `tpu`, on any machine; no TPU
TIME      9 minutes on two CPU cores, half of it the whole iteration

The compiler is the real one, so operations, bytes, temporary memory and collectives are exact and
free of noise. The two kinds of update are compiled separately, because an iteration contains
several of them; then the whole iteration, for its memory. Figures are for one chip. XLA's count of
bytes includes what moves in the chip's fast memory, where the compiler keeps most activations; the
bytes of the main memory are read from the program (`hlo.py`). "Roofline" is the larger of FLOPs /
peak and main memory's bytes / its bandwidth: an estimate, not a measurement, and without the time
of collectives and of the fast memory.
"""

import collections
import importlib.metadata
import importlib.util
import os
import re
import sys

# Set before JAX starts, so that it does not look for TPUs or query a TPU machine's metadata.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TPU_SKIP_MDS_QUERY"] = "1"

import hlo
import programs
import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from musegan_jax.runs import peaks
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel

TPUS = [name for name in peaks.PEAKS if name.startswith("v")]
COLLECTIVE = re.compile(rf"= (\S.*?) {hlo.COLLECTIVES.pattern}\(")


def layout_of(topology: str) -> parallel.Layout:
    """All chips of a slice such as v5e:16x16 as one data axis.

    Raises:
        UserError: if there is no such slice.
    """
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}
    return programs.layout_of(topology, platform="tpu", topology_name=topology, **bounds)


def measure(part: str, config: configs.Config, layout: parallel.Layout, chip: str) -> dict:
    """Compile one part and return the compiler's figures for one chip."""
    compiled = programs.lower(part, config, layout).compile()
    costs, memory = compiled.cost_analysis(), compiled.memory_analysis()
    flops, text = costs["flops"], compiled.as_text()
    by_kind = collections.defaultdict(lambda: [0, 0, 0])  # how many, bytes, in the main memory
    for one in hlo.kernels(hlo.parse(text)):
        kind = "copy ahead" if one.instruction.op in hlo.AHEAD else one.kind
        for n, value in enumerate((1, one.bytes, one.main_bytes)):
            by_kind[kind][n] += value * one.times
    main = sum(values[2] for values in by_kind.values())
    peak = peaks.PEAKS[chip]
    collectives = [
        {"kind": name, "bytes": sum(array.bytes for array in hlo.shapes_of(result))}
        for result, name, _ in COLLECTIVE.findall(text)
    ]
    return {
        "flops": flops,
        "bytes_accessed": costs["bytes accessed"],
        "main_bytes": main,
        "by_kind": dict(by_kind),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "collectives": collectives,
        "peak_flops": peak.flops,
        # Not "roofline_s": in earlier records that is of all bytes, whatever their memory.
        "bound_s": max(flops / peak.flops, main / peak.bandwidth),
    }


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument(
        "--topology",
        nargs="+",
        default=["v5e:1x1", "v5e:16x16"],
        metavar="SLICE",
        help="slices, such as v5e:16x16 (default: v5e:1x1 v5e:16x16)",
    )
    parser.add_argument(
        "--batch-per-chip",
        type=int,
        default=256,
        metavar="N",
        help="examples per chip (default: %(default)s)",
    )
    arguments, overrides = parser.parse_known_args()
    records.need_at_least(1, batch_per_chip=arguments.batch_per_chip)
    records.need_target("--json", arguments.json)
    for topology in arguments.topology:
        if topology.partition(":")[0] not in TPUS:
            raise UserError(
                f"--topology {topology}: use {', '.join(TPUS)} and a shape, as in v5e:16x16"
            )
    # If libtpu is not installed as a package, this variable may give its path.
    packaged = importlib.util.find_spec("libtpu") is not None
    if not packaged and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(
            "the compiler for TPUs, libtpu, is not installed; install it with the extra `tpu`: "
            "uv run --extra tpu python benchmarks/tpu_compile.py"
        )
    loaded = configs.load(arguments.config)
    base = programs.configured(loaded, overrides, 1, arguments.batch_per_chip)
    record = {
        "benchmark": "tpu_compile",
        "environment": environment(base),
        "compiler": {"libtpu": importlib.metadata.version("libtpu")} if packaged else {},
        "slices": [],
    }
    # Check all slices first, so that an error does not show after minutes of compiling.
    layouts = {topology: layout_of(topology) for topology in arguments.topology}
    for topology, layout in layouts.items():
        kind, chips = topology.split(":")[0], layout.mesh.size
        config = programs.configured(loaded, overrides, chips, arguments.batch_per_chip)
        print(
            f"{topology}: {chips} x {arguments.batch_per_chip} examples, {config.model.dtype}; for "
            "one chip: operations, bytes moved\n  (in the main memory), temporary memory, "
            "collectives, roofline",
            flush=True,
        )
        parts = {}
        for name in programs.PARTS:
            found = parts[name] = measure(name, config, layout, kind)
            reduced = [collective["bytes"] for collective in found["collectives"]]
            print(
                f"  {name:<17}{found['flops'] / 1e9:7.0f} GFLOP"
                f"{found['bytes_accessed'] / 1e9:7.2f} GB ({found['main_bytes'] / 1e9:.2f})"
                f"{found['temporary_bytes'] / 1e6:7.0f} MB"
                f"{len(reduced):4d} collectives of {sum(reduced) / 1e6:.1f} MB"
                f"{found['bound_s'] * 1e3:7.2f} ms",
                flush=True,
            )
        record["slices"].append(
            {"topology": topology, "chips": chips, "config": config.to_dict(), "parts": parts}
        )
        records.write(arguments.json, record)


if __name__ == "__main__":
    sys.exit(records.command(run))
