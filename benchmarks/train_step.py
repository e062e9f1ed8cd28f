"""Time the compiled training iteration over batch sizes, precisions and strategies.

COMMAND   uv run python benchmarks/train_step.py --config configs/reference.py --turns 8
          uv run python benchmarks/train_step.py --batch-sizes 64,256,1024 \
              --precisions float32,bfloat16 --json benchmarks/results/train_step_DEVICE.json
TIME      a minute for each row on two CPU cores, half of it compiling

Data are synthetic, as dense as chorales. Compiling is timed separately. A turn is as many
iterations as take a fifth of a second, dispatched as in training: the metrics are read one
iteration late. The first three turns do not count. MFU is the minimum operation count
(`peaks.minimum`) per second over the device's bf16 peak, for any precision; a large matrix product
is timed for comparison. Memory is the compiler's figure for one device.
"""

import itertools
import math
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import records
import several
from musegan_jax import config as configs
from musegan_jax.data.batches import Windows
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs import peaks
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel

TURN = 0.2  # seconds
WARM_UP = 3  # turns; the first also loads the program


def synthetic_windows(config: configs.Config) -> Windows:
    """Random rolls as dense as chorales: one pitch per step and track."""
    random = np.random.default_rng(0)
    steps, tracks = 64 * config.data.window_steps, config.model.tracks
    roll = np.zeros((steps, tracks, 128), bool)
    low = config.model.lowest_pitch
    pitches = low + random.integers(0, config.model.pitches, (steps // 4, tracks)).repeat(4, axis=0)
    np.put_along_axis(roll, pitches[:, :, None], True, axis=2)
    starts = np.arange(0, steps - config.data.window_steps, 16, dtype=np.int32)
    return Windows(
        np.packbits(roll, axis=-1),
        starts,
        np.zeros((len(starts), 2), np.int32),
        np.zeros(tracks, bool),
    )


def matmul_flops(dtype: str) -> float:
    """FLOP/s of a large square matrix product on one device, the best of five runs."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    multiply = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(multiply(x, x))
    best = math.inf
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(multiply(x, x))
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def peak_memory(compiled) -> int:
    """Peak bytes of the program on one device, arguments and results included."""
    memory = compiled.memory_analysis()
    return (
        memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )


def run_turn(step, state, data, count: int):
    """Dispatch `count` times as the training loop does; return the finished state."""
    pending = None
    for _ in range(count):
        state, metrics = step(state, data)
        if pending is not None:
            jax.device_get(pending)
        pending = metrics
    return jax.block_until_ready(state)


def measure(config: configs.Config, turns: int, together: int = 1) -> dict:
    """One row: the training iteration of the config, on synthetic data, `together` at a time."""
    layout = parallel.make_layout(config)
    batch, devices = config.training.batch_size, len(layout.devices)
    row = {
        "batch_size": batch,
        "precision": config.model.dtype,
        "strategy": config.parallel.strategy,
        "devices": devices,
        "together": together,
    }
    try:
        data = layout.replicate(synthetic_windows(config))
        state = parallel.initial_state(config, layout)
        begin = time.perf_counter()
        step = several.compile_steps(config, layout, state, data, together)
        compile_s = time.perf_counter() - begin
        seconds, count = [], 1
        for turn in range(WARM_UP + turns):
            begin = time.perf_counter()
            state = run_turn(step, state, data, count)
            elapsed = (time.perf_counter() - begin) / (count * together)
            if turn == 1:
                count = math.ceil(TURN / (elapsed * together))
            seconds.append(elapsed)
    except jax.errors.JaxRuntimeError as error:
        return row | {"failed": first_line(error)}
    found = records.spread(seconds[WARM_UP:])
    rate = 1 / found["median_s"]
    examples = batch * (config.training.critic_updates + 1)
    achieved = peaks.minimum(config)["iteration"] * batch * rate
    peak = peaks.peak_of(layout.devices[0].device_kind)
    # Not every backend counts operations.
    costs, memory = step.compiled.cost_analysis() or {}, step.compiled.memory_analysis()
    return row | {
        "compile_s": compile_s,
        **found,
        "iterations_per_s": rate,
        "samples_per_s": examples * rate,
        "samples_per_s_per_device": examples * rate / devices,
        "tflops": achieved / 1e12,
        "mfu": achieved / (devices * peak.flops) if peak else None,
        "flops": costs.get("flops"),
        "bytes_accessed": costs.get("bytes accessed"),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "peak_memory_bytes": peak_memory(step.compiled),
    }


def wall(config: configs.Config, iterations: int) -> float:
    """Seconds for `iterations` iterations, including compiling but not Python's start."""
    begin = time.perf_counter()
    layout = parallel.make_layout(config)
    data = layout.replicate(synthetic_windows(config))
    state = parallel.initial_state(config, layout)
    step = parallel.compile_step(config, layout, state, data)
    run_turn(step, state, data, iterations)
    return time.perf_counter() - begin


def describe(row: dict) -> str:
    """A row in two lines of at most 80 columns."""
    head = f"batch {row['batch_size']}, {row['precision']}, {row['strategy']} on {row['devices']}: "
    if "failed" in row:
        return f"{head}failed\n  {row['failed']}"
    mfu = "" if row["mfu"] is None else f", MFU {row['mfu']:.1%}"
    return (
        f"{head}median of {len(row['seconds'])}: {row['median_s'] * 1e3:.4g} ms\n"
        f"  p10 {row['p10_s'] * 1e3:.4g}, p90 {row['p90_s'] * 1e3:.4g}; compile "
        f"{row['compile_s']:.1f} s; {row['samples_per_s']:.4g} examples/s; "
        f"{row['tflops']:.3g} TFLOP/s{mfu}; {row['peak_memory_bytes'] / 1e6:.0f} MB"
    )


FIELDS = {
    "--batch-sizes": "training.batch_size",
    "--precisions": "model.dtype",
    "--strategies": "parallel.strategy",
}


def choices(base: configs.Config, option: str, name: str, text: str | None) -> list[str]:
    """An option's values for a field of the config; without the option the config's own.

    Raises:
        UserError: for an invalid value, naming the option.
    """
    section, field = name.split(".")
    if text is None:
        return [str(getattr(getattr(base, section), field))]
    values = text.split(",")
    for value in values:
        try:
            if not value:
                raise UserError("give values, separated by commas")
            configs.override(base, [f"--{name}={value}"])
        except UserError as error:
            raise UserError(f"{option} {text}: {error}") from None
    return values


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument("--batch-sizes", help="separated by commas (default: the config's)")
    parser.add_argument("--precisions", help="float32, bfloat16 or both (default: the config's)")
    parser.add_argument("--strategies", help="some of jit, mesh, pmap (default: the config's)")
    parser.add_argument(
        "--turns", type=int, default=8, help="timed turns per row (default: %(default)s)"
    )
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="iterations in one program, so one dispatch (default: %(default)s)",
    )
    parser.add_argument(
        "--wall",
        type=int,
        default=0,
        metavar="N",
        help="first time N iterations, including compiling (default: 0, do not)",
    )
    arguments, overrides = parser.parse_known_args()
    records.need_target("--json", arguments.json)
    records.need_at_least(1, turns=arguments.turns, together=arguments.together)
    records.need_at_least(0, wall=arguments.wall)
    base = configs.override(configs.load(arguments.config), overrides)
    fields = {
        field: choices(base, option, field, getattr(arguments, option[2:].replace("-", "_")))
        for option, field in FIELDS.items()
    }
    # Check all rows first, so that an error does not show after an hour.
    chosen = [
        configs.override(base, [f"--{n}={v}" for n, v in zip(fields, values, strict=True)])
        for values in itertools.product(*fields.values())
    ]
    for config in chosen:
        parallel.make_layout(config)
    # Must come first, before anything else is compiled or tuned in this process.
    seconds = wall(base, arguments.wall) if arguments.wall else None
    peak = peaks.peak_of(jax.devices()[0].device_kind)
    record = {
        "benchmark": "train_step",
        "environment": environment(base),
        "config": base.to_dict(),
        "minimum_flops": peaks.minimum(base),
        "peak": peak._asdict() if peak else None,
        "matmul_tflops": {dtype: matmul_flops(dtype) / 1e12 for dtype in fields["model.dtype"]},
        "rows": [],
    }
    if seconds is not None:
        record["wall"] = {"iterations": arguments.wall, "seconds": seconds}
        print(f"{arguments.wall} iterations with compiling: {seconds:.1f} s", flush=True)
        records.write(arguments.json, record)
    for dtype, reached in record["matmul_tflops"].items():
        print(f"a {dtype} matrix product reaches {reached:.3g} TFLOP/s here")
    for config in chosen:
        record["rows"].append(measure(config, arguments.turns, arguments.together))
        print(describe(record["rows"][-1]), flush=True)
        records.write(arguments.json, record)  # after each row: kept if a later row fails


if __name__ == "__main__":
    sys.exit(records.command(run))
