"""Time every kernel of the training iteration, beside the bytes that it must move.

COMMAND   uv run --extra cuda python benchmarks/kernels.py --model.dtype=bfloat16 \
              --json benchmarks/results/kernels_DEVICE.json
TIME      a minute on a GPU, most of it compiling

A trace of a few iterations says how long each instruction of the compiled program took; the
program's text says what it reads, writes and computes (`hlo.py`). Both together show which kernels
are far from what the device can do. On a GPU set XLA_FLAGS=--xla_gpu_enable_command_buffer= (with
nothing behind the last sign), as `gpu.py` does: kernels within a CUDA graph do not name their
instruction.
"""

import collections
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

import hlo
import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from musegan_jax.runs import peaks
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel
from scaling import outermost, spans
from train_step import synthetic_windows

WARM_UP = 3
LISTED = 40  # kernels in the record, those that take longest


def seconds_of(trace: Any) -> collections.Counter[str]:
    """Seconds of each instruction in a trace, by name."""
    found: collections.Counter[str] = collections.Counter()
    for line in spans(trace):
        for span in outermost(line):
            found[span.name] += span.duration / 1e9
    return found


def table(
    kernels: list[hlo.Kernel], seconds: collections.Counter[str], peak: peaks.Peak | None
) -> list[dict[str, Any]]:
    """A row for each kernel that is in the trace, the longest first; times of one iteration."""
    rows = [
        {
            "name": kernel.instruction.name,
            "kind": kernel.kind,
            "source": kernel.instruction.source,
            "kernel_s": seconds[kernel.instruction.name],
            "bytes": kernel.times * kernel.bytes,
            "flops": kernel.times * kernel.flops,
            "roofline_s": peak
            and kernel.times * max(kernel.flops / peak.flops, kernel.bytes / peak.bandwidth),
        }
        for kernel in kernels
        if kernel.instruction.name in seconds
    ]
    return sorted(rows, key=lambda row: -row["kernel_s"])


def by_kind(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums over the kernels of each kind, the longest first."""
    found = []
    for kind in sorted({row["kind"] for row in rows}):
        here = [row for row in rows if row["kind"] == kind]
        sums = {key: sum(row[key] for row in here) for key in ("kernel_s", "bytes", "flops")}
        limits = [row["roofline_s"] for row in here]
        found.append(
            {"kind": kind, "kernels": len(here), **sums}
            | {"roofline_s": None if None in limits else sum(limits)}
        )
    return sorted(found, key=lambda row: -row["kernel_s"])


def measure(config: configs.Config, iterations: int) -> dict[str, Any]:
    """Compile the iteration, trace it, and join the trace with the program's text."""
    layout = parallel.make_layout(config)
    state = parallel.initial_state(config, layout)
    data = layout.replicate(synthetic_windows(config))
    step = parallel.compile_step(config, layout, state, data)
    for _ in range(WARM_UP):
        state, _ = jax.block_until_ready(step(state, data))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            begin = time.perf_counter()
            for _ in range(iterations):
                state, metrics = step(state, data)
            jax.block_until_ready((state, metrics))
            wall = (time.perf_counter() - begin) / iterations
        (path,) = Path(folder).rglob("*.xplane.pb")
        with warnings.catch_warnings():  # on Python 3.13 the bindings' own types cause one
            warnings.simplefilter("ignore", DeprecationWarning)
            total = seconds_of(ProfileData.from_file(str(path)))
    seconds = collections.Counter({name: each / iterations for name, each in total.items()})
    peak = peaks.peak_of(layout.devices[0].device_kind)
    rows = table(hlo.kernels(hlo.parse(step.compiled.as_text())), seconds, peak)
    return {
        "batch_size": config.training.batch_size,
        "traced_iterations": iterations,
        "wall_s": wall,
        # In the trace, but no kernel of the entry computation: parts of others, or runtime's own.
        "other_s": seconds.total() - sum(row["kernel_s"] for row in rows),
        "kinds": by_kind(rows),
        "kernels": rows[:LISTED],
    }


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument(
        "--iterations", type=int, default=5, help="that are traced (default: %(default)s)"
    )
    arguments, overrides = parser.parse_known_args()
    records.need_target("--json", arguments.json)
    records.need_at_least(1, iterations=arguments.iterations)
    config = configs.override(configs.load(arguments.config), overrides)
    found = measure(config, arguments.iterations)
    if not found["kinds"]:
        raise UserError(
            "the trace names no kernel of the program; on a GPU set "
            "XLA_FLAGS=--xla_gpu_enable_command_buffer="
        )
    for row in found["kinds"]:
        print(
            f"{row['kind']:<12}{row['kernels']:5d} kernels {row['kernel_s'] * 1e3:9.3f} ms"
            f"{row['bytes'] / row['kernel_s'] / 1e9:9.0f} GB/s"
            f"{row['flops'] / row['kernel_s'] / 1e12:8.2f} TFLOP/s",
            flush=True,
        )
    print(f"an iteration under the profiler: {found['wall_s'] * 1e3:.3f} ms")
    record = {"benchmark": "kernels", "environment": environment(config)}
    records.write(arguments.json, record | {"config": config.to_dict(), **found})


if __name__ == "__main__":
    sys.exit(records.command(run))
