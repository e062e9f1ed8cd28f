"""Time the compiled training iteration over 1, 2, 4, 8 devices, weak and strong scaling.

COMMAND   uv run python benchmarks/scaling.py --json benchmarks/results/scaling_cpu.json
          uv run python benchmarks/scaling.py --config configs/reference.py --batch-per-device 64
TIME      5 minutes on two CPU cores, most of it compiling

Weak: the batch per device is constant, the global batch grows. Strong: the global batch is
constant. Where both have the same batch, by default on the most devices, one measurement serves
both. Without --config the networks are small. If there are only CPUs, JAX simulates --simulate
devices. They share the same cores: then ideal weak scaling is a constant total number of examples
per second, not a constant time, and ideal strong scaling is a constant time.

"Collectives" is a share of the time of all operations, from a separate trace of a few iterations.
Numerator: the durations of all events of the compiled program's all-reduce, all-gather,
reduce-scatter, all-to-all and collective-permute instructions (including separate start and done).
Denominator: the durations of all events of operations; of nested ones only the outermost. Both are
summed over the lines of the trace (threads of a CPU, streams of a GPU, the line of operations of a
TPU) and over all devices. Waiting for the slowest device within a collective counts as collective,
also while a GPU computes on another stream; that computation adds to the denominator only. Idle
time does not count.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData

import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel
from train_step import synthetic_windows

WARM_UP = 2
TRACED = 2  # iterations
DEVICES = (1, 2, 4, 8)
# For eight simulated devices on two cores: networks of depth two compile in seconds.
SMALL = (
    "--model.generator_filters=16,32",
    "--model.critic_filters=16,32",
    "--training.batch_size=32",
)
COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?%?(\S+) = .*? "
    r"(?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start|-done)?\(",
    re.MULTILINE,
)


class Case(NamedTuple):
    """One program: the number of devices and the global batch size."""

    devices: int
    batch_size: int


class Span(NamedTuple):
    """An operation in one line of a trace, in nanoseconds."""

    name: str
    begin: float
    duration: float


def simulate(count: int) -> None:
    """Make JAX simulate `count` CPU devices, unless the environment already sets a number."""
    flag = "--xla_force_host_platform_device_count"
    flags = os.environ.get("XLA_FLAGS", "")
    # JAX reads this when it first looks for devices, not when it is imported.
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}={count}".strip()


def cases(counts: list[int], per_device: int, batch_size: int) -> dict[str, list[Case]]:
    """The programs of each kind of scaling; one may belong to both."""
    return {
        "weak": [Case(count, count * per_device) for count in counts],
        "strong": [Case(count, batch_size) for count in counts],
    }


def collectives(text: str) -> set[str]:
    """Names of a compiled program's collectives; JAX may name an all-reduce `psum.3`."""
    return set(COLLECTIVE.findall(text))


def spans(trace: Any) -> Iterator[list[Span]]:
    """The operations of each line of a trace."""
    for plane in trace.planes:
        lines = list(plane.lines)
        on_device = plane.name.startswith("/device:")
        # A TPU's plane also has lines of whole steps and modules, which repeat the same time.
        lines = [line for line in lines if line.name == "XLA Ops"] or lines
        for line in lines:
            found = []
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                # A host's plane also has other events; a device's has operations only.
                if name is not None or on_device:
                    label = str(name or event.name.split(" = ")[0]).lstrip("%")
                    found.append(Span(label, event.start_ns, event.duration_ns))
            yield found


def outermost(line: Iterable[Span]) -> Iterator[Span]:
    """The spans that lie within no other span."""
    end = 0.0
    for span in sorted(line, key=lambda span: (span.begin, -span.duration)):
        if span.begin >= end:
            end = span.begin + span.duration
            yield span


def communication(lines: Iterable[list[Span]], names: set[str]) -> dict[str, Any]:
    """Seconds of all operations, seconds of collectives, and their share."""
    operations = reduced = 0.0
    for line in lines:
        operations += sum(span.duration for span in outermost(line))
        # NCCL's kernels within a CUDA graph do not name their instruction.
        reduced += sum(
            span.duration for span in line if span.name in names or "nccl" in span.name.lower()
        )
    share = reduced / operations if operations else None
    return {"operations_s": operations / 1e9, "collectives_s": reduced / 1e9, "share": share}


def traced(step: Any, state: Any, data: Any, names: set[str]) -> tuple[Any, dict[str, Any]]:
    """Run a few iterations under the profiler; return the state and `communication`."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(TRACED):
                state, _ = jax.block_until_ready(step(state, data))
        (path,) = Path(folder).rglob("*.xplane.pb")
        with warnings.catch_warnings():  # on Python 3.13 the bindings' own types cause one
            warnings.simplefilter("ignore", DeprecationWarning)
            return state, communication(spans(ProfileData.from_file(str(path))), names)


def measure(config: configs.Config, iterations: int) -> dict[str, Any]:
    """Compile, time and trace one program."""
    layout = parallel.make_layout(config)
    state = parallel.initial_state(config, layout)
    data = layout.replicate(synthetic_windows(config))
    begin = time.perf_counter()
    step = parallel.compile_step(config, layout, state, data)
    seconds, compile_s = [], time.perf_counter() - begin
    for _ in range(WARM_UP + iterations):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, data))
        seconds.append(time.perf_counter() - begin)
    names = collectives(step.compiled.as_text())
    _, collective = traced(step, state, data, names)
    seconds = seconds[WARM_UP:]
    devices, batch = len(layout.devices), config.training.batch_size
    examples = batch * (config.training.critic_updates + 1) / statistics.median(seconds)
    return {
        "strategy": layout.strategy,
        "devices": devices,
        "batch_size": batch,
        "compile_s": compile_s,
        **records.spread(seconds),
        "examples_per_s": examples,
        "examples_per_s_per_device": examples / devices,
        "collectives": {"count": len(names), **collective},
    }


def line(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    share = row["collectives"]["share"]
    return (
        f"{row['devices']:7}{row['batch_size']:7}{row['median_s']:11.4g}{row['p10_s']:9.4g}"
        f"{row['p90_s']:9.4g}{row['examples_per_s']:11.1f}"
        f"{row['examples_per_s_per_device']:11.1f}"
        + (f"{share:13.1%}" if share is not None else f"{'not seen':>13}")
    )


HEAD = (
    f"{'':25}{'iteration, s':^22}{'examples/s':^23}\n"
    f"{'devices':>7}{'batch':>7}{'median':>11}{'p10':>9}{'p90':>9}{'in all':>11}{'a device':>11}"
    f"{'collectives':>13}"
)


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = records.parser(__doc__)
    parser.epilog = "Every field of the config can be set as --SECTION.FIELD=VALUE."
    parser.add_argument(
        "--config", help="config file (default: configs/tiny.py with larger filters, batch 32)"
    )
    parser.add_argument(
        "--iterations", type=int, default=8, help="timed iterations per row (default: %(default)s)"
    )
    parser.add_argument(
        "--devices",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of devices (default: those of 1 2 4 8 that are available and divide the "
        "config's batch)",
    )
    parser.add_argument(
        "--strategies",
        nargs="+",
        default=["mesh", "pmap"],
        metavar="S",
        help="mesh, pmap or both (default: both)",
    )
    parser.add_argument(
        "--batch-per-device",
        type=int,
        metavar="N",
        help="batch per device in weak scaling (default: the config's batch over the most devices)",
    )
    parser.add_argument(
        "--simulate",
        type=int,
        default=8,
        metavar="N",
        help="simulated devices, if there are only CPUs (default: %(default)s)",
    )
    return parser


def run() -> None:
    arguments, overrides = options().parse_known_args()
    check(arguments)
    records.need_target("--json", arguments.json)
    simulate(arguments.simulate)
    config = configs.override(
        configs.load(arguments.config or "configs/tiny.py"),
        [*(() if arguments.config else SMALL), *overrides],
    )
    size = config.training.batch_size
    counts = counts_of(arguments.devices, jax.device_count(), size)
    plan = cases(counts, arguments.batch_per_device or size // counts[-1], size)

    device = jax.devices()[0]
    print(
        f"{jax.device_count()} x {device.device_kind}; {config.model.dtype}; "
        f"{arguments.iterations} iterations of each"
    )
    if device.platform == "cpu":
        print(
            "Simulated devices share the cores: ideal is the same total examples/s for "
            "any\nnumber of devices, not the same time."
        )
    measured: dict[tuple[str, Case], dict[str, Any]] = {}
    rows = []
    for strategy in arguments.strategies:
        for scaling, wanted in plan.items():
            print(f"\n{strategy}, {scaling} scaling\n{HEAD}", flush=True)
            for case in wanted:
                if (strategy, case) not in measured:
                    words = [
                        f"--parallel.strategy={strategy}",
                        f"--parallel.devices={case.devices}",
                        f"--training.batch_size={case.batch_size}",
                    ]
                    measured[strategy, case] = measure(
                        configs.override(config, words), arguments.iterations
                    )
                rows.append({"scaling": scaling, **measured[strategy, case]})
                print(line(rows[-1]), flush=True)
    records.write(
        arguments.json,
        {
            "benchmark": "scaling",
            "environment": environment(config),
            "config": config.to_dict(),
            "simulated": device.platform == "cpu",
            "rows": rows,
        },
    )


def counts_of(wanted: list[int] | None, there: int, batch_size: int) -> list[int]:
    """The numbers of devices to measure, ascending; without `wanted` all that are possible.

    Raises:
        UserError: if a wanted number is not possible.
    """
    if wanted is None:
        return [count for count in DEVICES if count <= there and batch_size % count == 0]
    for count in wanted:
        if count > there:
            raise UserError(
                f"--devices {count}: there are only {there}; --simulate gives more CPU devices"
            )
        if batch_size % count:
            raise UserError(
                f"--devices {count}: the batch of {batch_size} cannot be divided by {count}; "
                "leave it out, or set --training.batch_size to a multiple"
            )
    return sorted(set(wanted))


def check(arguments: argparse.Namespace) -> None:
    """Refuse invalid options.

    Raises:
        UserError: naming the first.
    """
    records.need_at_least(1, iterations=arguments.iterations, simulate=arguments.simulate)
    if arguments.batch_per_device is not None:
        records.need_at_least(1, batch_per_device=arguments.batch_per_device)
    if arguments.devices:
        records.need_at_least(1, devices=min(arguments.devices))
    for strategy in arguments.strategies:
        if strategy not in ("mesh", "pmap"):
            raise UserError(f"--strategies: {strategy!r} is none of mesh, pmap")


if __name__ == "__main__":
    sys.exit(records.command(run))
