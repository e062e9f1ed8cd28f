"""Run the training iteration twice from one seed: are the bits equal, and what does that cost?

COMMAND   uv run --extra cuda python benchmarks/repeat.py --model.dtype=bfloat16 \
              --json benchmarks/results/repeat_DEVICE.json
TIME      two minutes on a GPU, most of it compiling

Four processes: two as trained by default, two with `training.deterministic`, as
`musegan-jax train --deterministic` sets it. Each trains a few iterations and prints the SHA-256 of
its state and the time of an iteration.
"""

import json
import subprocess
import sys
import time
from typing import Any

import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from musegan_jax.training import determinism

MODES = {"default": [], "deterministic": ["--training.deterministic=true"]}


def child(config: configs.Config, iterations: int) -> None:
    """Train and print one JSON object: fingerprint, seconds of every iteration, environment."""
    determinism.enable(config)  # before JAX looks for devices
    import jax

    from musegan_jax.runs.environment import environment
    from musegan_jax.runs.fingerprint import fingerprint
    from musegan_jax.training import parallel
    from train_step import synthetic_windows

    layout = parallel.make_layout(config)
    data = layout.replicate(synthetic_windows(config))
    state = parallel.initial_state(config, layout)
    step = parallel.compile_step(config, layout, state, data)
    seconds = []
    for _ in range(iterations):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, data))
        seconds.append(time.perf_counter() - begin)
    found = {
        "sha256": fingerprint(jax.device_get(state))["state"],
        "environment": environment(config),
    }
    print(json.dumps(found | {"seconds": seconds[1:]}))  # the first one loads the program


def ask(words: list[str]) -> dict[str, Any]:
    """What a child process prints.

    Raises:
        UserError: if it fails.
    """
    done = subprocess.run(
        [sys.executable, __file__, "--child", *words], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise UserError("a training process failed; its message is above")
    return json.loads(done.stdout.splitlines()[-1])


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument(
        "--iterations", type=int, default=20, help="of each process (default: %(default)s)"
    )
    parser.add_argument("--child", action="store_true", help="be one of the processes")
    arguments, overrides = parser.parse_known_args()
    records.need_target("--json", arguments.json)
    records.need_at_least(2, iterations=arguments.iterations)
    config = configs.override(configs.load(arguments.config), overrides)
    if arguments.child:
        return child(config, arguments.iterations)
    words = ["--config", arguments.config, "--iterations", str(arguments.iterations), *overrides]
    rows, where = [], {}
    for mode, fields in MODES.items():
        pair = [ask([*words, *fields]) for _ in range(2)]
        where = pair[0]["environment"] if mode == "default" else where
        prints = [one["sha256"] for one in pair]
        row = {"mode": mode, "equal": prints[0] == prints[1], "sha256": prints}
        row |= records.spread([each for one in pair for each in one["seconds"]])
        rows.append(row)
        print(
            f"{mode}: two runs of {arguments.iterations} iterations are "
            f"{'equal bit for bit' if row['equal'] else 'not equal'}; an iteration takes "
            f"{row['median_s'] * 1e3:.4g} ms",
            flush=True,
        )
        records.write(
            arguments.json,
            {
                "benchmark": "repeat",
                "environment": where,
                "config": config.to_dict(),
                "iterations": arguments.iterations,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    sys.exit(records.command(run))
