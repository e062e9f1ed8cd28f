"""Time the compiled training iteration of a config on synthetic data.

COMMAND   python benchmarks/train_step.py --config configs/reference.py --iterations 8
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from musegan_jax import config as configs
from musegan_jax import files
from musegan_jax.data.batches import Windows
from musegan_jax.training import parallel
from musegan_jax.training.environment import environment

WARM_UP = 2


def synthetic_windows(config: configs.Config) -> Windows:
    """Random rolls as dense as chorales: one of 36 pitches a step and track; never zeros."""
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


def measure(config: configs.Config, iterations: int) -> dict:
    layout = parallel.make_layout(config)
    data = layout.replicate(synthetic_windows(config))
    state = parallel.initial_state(config, layout)
    begin = time.perf_counter()
    step = parallel.compile_step(config, layout, state, data)
    compiled = time.perf_counter() - begin
    seconds = []
    for _ in range(WARM_UP + iterations):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, data))
        seconds.append(time.perf_counter() - begin)
    seconds = seconds[WARM_UP:]
    median = statistics.median(seconds)
    examples = config.training.batch_size * (config.training.critic_updates + 1)
    return {
        "benchmark": "train_step",
        "config": config.to_dict(),
        "environment": environment(config),
        "compile_s": compiled,
        "iteration_s": seconds,
        "median_s": median,
        "p10_s": float(np.quantile(seconds, 0.1)),
        "p90_s": float(np.quantile(seconds, 0.9)),
        "samples_per_s": examples / median,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/reference.py")
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the record here")
    arguments, overrides = parser.parse_known_args()
    config = configs.override(configs.load(arguments.config), overrides)
    record = measure(config, arguments.iterations)
    print(
        f"compile {record['compile_s']:.1f} s; iteration median {record['median_s']:.3f} s "
        f"(p10 {record['p10_s']:.3f}, p90 {record['p90_s']:.3f}); "
        f"{record['samples_per_s']:.1f} samples/s"
    )
    if arguments.json:
        with files.replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
