"""Time the input pipeline: building a dataset file, and feeding the training iteration.

COMMAND   uv run python benchmarks/input_pipeline.py \
              --json benchmarks/results/input_pipeline_cpu.json
TIME      4 minutes on two CPU cores, most of it compiling

Building: folders of synthetic MIDI files of four tracks, read and written as by `musegan-jax data
build midi --parts 4`, each folder in its own process. Making the files is not timed. Memory is the
peak resident memory of the process, Python and JAX included.

Feeding: three ways alternate in one process, dispatched as in the training loop (an iteration is
dispatched before waiting for the previous one): data on the device, which draws its own batches;
batches gathered by the host for every iteration; and the host's batches of one iteration, sent once
and used for all. The last is the time without any input, so feeding costs the share
(fed - once) / fed of an iteration, computed turn by turn; likewise for the device.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mido
import numpy as np

import records
from musegan_jax import config as configs
from musegan_jax import rng
from musegan_jax.data import dataset, midi
from musegan_jax.data.batches import Windows, draw_batch
from musegan_jax.data.readers.midi_folder import MIDI, read_folder
from musegan_jax.data.readers.songs import Options
from musegan_jax.errors import UserError
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel
from musegan_jax.training.state import TrainState
from train_step import synthetic_windows

WARM_UP = 2
BARS = 32  # of a synthetic piece
TICKS = 480
VOICES = (("Soprano", 72), ("Alto", 65), ("Tenor", 57), ("Bass", 48))


def voice(random: np.random.Generator, beats: int, middle: int) -> np.ndarray:
    """A line of quarters and eighths within an octave, notes as `midi.note_track` takes them."""
    lengths = np.concatenate(
        [[TICKS] if random.random() < 0.6 else [TICKS // 2] * 2 for _ in range(beats)]
    )
    ends = np.cumsum(lengths)
    pitches = middle + random.integers(-6, 7, len(ends))
    return np.column_stack([ends - lengths, ends, pitches, np.full(len(ends), 80)])


def write_pieces(folder: Path, count: int, bars: int = BARS) -> int:
    """Write MIDI files of four tracks, 4/4 at 120 bpm; return their total number of notes."""
    notes = 0
    for n in range(count):
        random = np.random.default_rng(n)
        song = mido.MidiFile(type=1, ticks_per_beat=TICKS)
        for channel, (name, middle) in enumerate(VOICES):
            line = voice(random, 4 * bars, middle)
            song.tracks.append(midi.note_track(name, channel, 0, line))
            notes += len(line)
        song.save(folder / f"{n:05d}.mid")
    return notes


def peak_memory() -> int:
    """Peak resident memory of this process, bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux `ru_maxrss` starts at the parent's value, which exceeds a build's; this does not.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def build(folder: Path) -> None:
    """Build a dataset file from a folder; print seconds, peak bytes before and after."""
    before = peak_memory()
    begin = time.perf_counter()
    built = read_folder(folder, MIDI, Options(parts=len(VOICES))).dataset
    dataset.save(built, folder / "pieces.npz")
    print(time.perf_counter() - begin, before, peak_memory())


def measure_build(count: int) -> dict[str, Any]:
    """Build a dataset from `count` files in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        notes = write_pieces(Path(folder), count)
        command = [sys.executable, os.path.abspath(__file__), "--build", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise UserError(f"the build of {count} files failed, see above")
        seconds, before, peak = (float(word) for word in done.stdout.split())
        size = (Path(folder) / "pieces.npz").stat().st_size
    return {
        "files": count,
        "notes_per_file": notes / count,
        "seconds": seconds,
        "files_per_s": count / seconds,
        "before_bytes": int(before),
        "peak_bytes": int(peak),
        "dataset_bytes": size,
    }


def feeds(
    config: configs.Config, layout: parallel.Layout, windows: Windows
) -> dict[str, parallel.Feed]:
    """The three ways of feeding an iteration, by name."""

    def feed(where: str) -> parallel.Feed:
        return parallel.make_feed(
            configs.override(config, [f"--parallel.data={where}"]), layout, windows
        )

    host = feed("host")
    fed = jax.block_until_ready(host(0))
    return {"device": feed("device"), "host": host, "once": lambda iteration: fed}


def turn(
    step: parallel.CompiledStep, feed: parallel.Feed, state: TrainState, iterations: int
) -> tuple[TrainState, float]:
    """Iterate as the training loop does; return the state and the seconds per iteration."""
    jax.block_until_ready(state)
    pending = None
    begin = time.perf_counter()
    for iteration in range(iterations):
        state, metrics = step(state, feed(iteration))
        if pending is not None:
            jax.device_get(pending)
        pending = metrics
    jax.block_until_ready(state)
    return state, (time.perf_counter() - begin) / iterations


def measure_feeds(
    config: configs.Config, windows: Windows, turns: int, iterations: int
) -> dict[str, Any]:
    """Time an iteration with the three ways in alternation, and the cost of feeding."""
    layout = parallel.make_layout(config)
    ways = feeds(config, layout, windows)
    steps, states = {}, {}
    for name, feed in ways.items():
        states[name] = parallel.initial_state(config, layout)
        # Data gathered by the host have the same program, however often they are sent.
        steps[name] = steps.get("host") or parallel.compile_step(
            config, layout, states[name], feed(0)
        )
        states[name], _ = turn(steps[name], feed, states[name], WARM_UP)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, feed in ways.items():
            states[name], took = turn(steps[name], feed, states[name], iterations)
            seconds[name].append(took)

    def cost(name: str) -> dict[str, Any]:
        pairs = zip(seconds[name], seconds["once"], strict=True)
        shares = [(fed - once) / fed for fed, once in pairs]
        return {"shares": shares, "median": statistics.median(shares)}

    return {
        "iterations_per_turn": iterations,
        **{name: records.spread(took) for name, took in seconds.items()},
        "cost": {name: cost(name) for name in ("device", "host")},
    }


def repeat(call: Callable[[int], Any], times: int) -> list[float]:
    """Seconds of each of several calls, after warm-up calls."""
    seconds = []
    for n in range(WARM_UP + times):
        begin = time.perf_counter()
        jax.block_until_ready(call(n))
        seconds.append(time.perf_counter() - begin)
    return seconds[WARM_UP:]


def measure_alone(config: configs.Config, windows: Windows, times: int) -> dict[str, Any]:
    """Drawing the batch of one update on one device, and the host's feed of one iteration."""
    layout = parallel.make_layout(config)
    resident = jax.tree.map(lambda array: jax.device_put(array, layout.devices[0]), windows)
    examples = jnp.arange(config.training.batch_size)

    @jax.jit
    def draw(windows: Windows, iteration: int) -> jax.Array:
        key = rng.update_key(rng.root_key(config.training.seed), "data", iteration, 0)
        return draw_batch(config, windows, rng.example_keys(key, examples))

    host = parallel.make_feed(configs.override(config, ["--parallel.data=host"]), layout, windows)
    return {
        "draw": records.spread(repeat(lambda n: draw(resident, n), times)),
        "host_feed": records.spread(repeat(host, times)),
    }


def run() -> None:
    parser = records.parser(__doc__, config="configs/chorales.py")
    parser.add_argument(
        "--files",
        type=int,
        nargs="+",
        default=[100, 400],
        metavar="N",
        help="numbers of files, one folder for each number (default: 100 400)",
    )
    parser.add_argument(
        "--turns", type=int, default=8, help="turns of each way of feeding (default: %(default)s)"
    )
    parser.add_argument(
        "--iterations", type=int, default=2, help="iterations in a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--build",
        type=Path,
        metavar="FOLDER",
        help="only build a dataset from FOLDER, as this script's child processes do "
        "(default: measure)",
    )
    arguments, overrides = parser.parse_known_args()
    if arguments.build:
        return build(arguments.build)
    records.need_target("--json", arguments.json)
    records.need_at_least(
        1, files=min(arguments.files), turns=arguments.turns, iterations=arguments.iterations
    )
    config = configs.override(configs.load(arguments.config), overrides)

    print("building a dataset file", flush=True)
    builds = []
    for count in arguments.files:
        builds.append(made := measure_build(count))
        print(
            f"  {count:6} files of {made['notes_per_file']:.0f} notes{made['seconds']:9.2f} s"
            f"{made['files_per_s']:8.0f} files/s   peak {made['peak_bytes'] / 1e6:.0f} MB "
            f"({made['before_bytes'] / 1e6:.0f} before)",
            flush=True,
        )

    windows = synthetic_windows(config)
    fed = measure_feeds(config, windows, arguments.turns, arguments.iterations)
    show_feeds(fed, config.training.batch_size)
    alone = measure_alone(config, windows, 10 * arguments.turns)
    print(f"alone, s{'median':>39}{'p10':>10}{'p90':>10}")
    print(f"  {'draw the batch of an update':<25}{figures(alone['draw'])[2:]}")
    print(f"  {'host: feed an iteration':<25}{figures(alone['host_feed'])}")
    records.write(
        arguments.json,
        {
            "benchmark": "input_pipeline",
            "environment": environment(config),
            "config": config.to_dict(),
            "build": builds,
            "feed": fed,
            "alone": alone,
        },
    )


def show_feeds(fed: dict[str, Any], batch: int) -> None:
    """Print what `measure_feeds` found."""
    print(f"an iteration at batch {batch}, s{'median':>20}{'p10':>10}{'p90':>10}")
    for name, title in (
        ("device", "data on the device"),
        ("host", "gathered by the host"),
        ("once", "sent once, used for all"),
    ):
        print(f"  {title:<25}{figures(fed[name])}")
    for name, title in (("device", "drawing on the device"), ("host", "feeding from the host")):
        shares = fed["cost"][name]["shares"]
        low, high = np.quantile(shares, (0.1, 0.9))
        print(
            f"  {title} costs {fed['cost'][name]['median']:.1%} of it, p10 {low:.1%}, p90 "
            f"{high:.1%} (median of {len(shares)} turns)"
        )


def figures(times: dict[str, Any]) -> str:
    """Median, p10 and p90 as columns."""
    return f"{times['median_s']:20.4g}{times['p10_s']:10.4g}{times['p90_s']:10.4g}"


if __name__ == "__main__":
    sys.exit(records.command(run))
