"""How far the same run drifts apart on 1, 2, 4 and 8 devices, under jit, a mesh and pmap.

COMMAND   python tests/proofs/topologies.py
TIME      2 minutes on two CPU cores

Eight simulated CPU devices, `configs/tiny.py` with batch 8 on made-up music. Prints the largest
differences from one device: relative in the losses and norms after 1 and after 20 iterations,
absolute in parameters and in running statistics after 20; and whether the real rolls, the noise and
the blends of all updates are equal bit for bit. `test_parallel.py` holds the first iteration.
"""

import os
import sys

sys.path.insert(0, "tests")
from conftest import make_dataset  # noqa: E402 - it sets flags of its own, which these replace

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import numpy as np  # noqa: E402

from musegan_jax import config as configs  # noqa: E402
from musegan_jax import rng  # noqa: E402
from musegan_jax.data import batches  # noqa: E402
from musegan_jax.runs import processes  # noqa: E402
from musegan_jax.training import parallel  # noqa: E402
from test_parallel import draws  # noqa: E402

ITERATIONS = 20
LAYOUTS = [("jit", 1), *((s, n) for s in ("mesh", "pmap") for n in (1, 2, 4, 8))]


def largest(function, a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(function(np.float64(x), np.float64(y)))) for x, y in pairs)


def relative(a, b):
    return abs(a - b) / np.maximum(abs(b), 1e-12)


def drawn(config, layout, windows):
    """Every random array of one update, as one host sees them."""
    examples = layout.distribute(layout.rows(config.training.batch_size))
    windows = layout.replicate(windows)

    def draw(windows, root, examples):
        return draws(config, windows, root, examples)

    if layout.strategy == "pmap":
        mapped = jax.pmap(draw, in_axes=(None, None, 0), devices=layout.devices)
        found = mapped(windows, rng.root_key(0), examples)
        return [np.asarray(part).reshape(-1, *part.shape[2:]) for part in found]
    root = jax.jit(lambda: rng.root_key(0), out_shardings=layout.replicated)()
    return jax.device_get(jax.jit(draw)(windows, root, examples))


def main() -> None:
    base = configs.override(configs.load("configs/tiny.py"), ["--training.batch_size=8"])
    windows = batches.make_windows(make_dataset(), base)
    reference = None
    print("| layout | draws | losses, 1 it. | losses, 20 it. | parameters | statistics |")
    print("|---|---|---|---|---|---|")
    for strategy, devices in LAYOUTS:
        config = configs.override(
            base, [f"--parallel.strategy={strategy}", f"--parallel.devices={devices}"]
        )
        layout = parallel.make_layout(config)
        feed = parallel.make_feed(config, layout, windows)
        state = parallel.initial_state(config, layout)
        step = parallel.compile_step(config, layout, state, feed(0))
        history = []
        for iteration in range(ITERATIONS):
            state, metrics = step(state, feed(iteration))
            history.append(processes.on_host(metrics))
        end, draw = processes.on_host(state), drawn(config, layout, windows)
        if reference is None:
            reference = history, end, draw
        metrics, state0, draw0 = reference
        equal = all(np.array_equal(a, b) for a, b in zip(draw, draw0, strict=True))
        losses = [largest(relative, history[n], metrics[n]) for n in (0, ITERATIONS - 1)]
        parts = [("generator_params", "critic_params"), ("batch_stats",)]
        apart = [
            max(
                largest(lambda a, b: abs(a - b), getattr(end, n), getattr(state0, n)) for n in names
            )
            for names in parts
        ]
        cells = " | ".join(f"{value:.1e}" for value in (*losses, *apart))
        print(f"| {strategy}, {devices} | {'equal' if equal else 'DIFFER'} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
