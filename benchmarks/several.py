"""Several iterations in one program, to see what a dispatch by the host costs.

The training loop has no use for it: NOTES.md says why.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from musegan_jax import limits
from musegan_jax.config import Config
from musegan_jax.data.batches import Windows
from musegan_jax.shapes import Array, Int, Key
from musegan_jax.training import parallel
from musegan_jax.training.state import TrainState
from musegan_jax.training.step import Metrics


def train_steps(
    step: Callable[..., tuple[TrainState, Metrics]],
    iterations: int,
    config: Config,
    state: TrainState,
    data: Windows,
    root: Key[jax.Array, ""],
    examples: Int[Array, " B"],
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Several iterations in one program: one dispatch by the host, the same numbers.

    A loop on accelerators; unrolled on CPU, where compiling takes `iterations` times as long.

    Args:
        step: `step.train_step` or `fused.train_step`, static.
        iterations: how many, static.
        config: static.
        state: the training state; donate it.
        data: the training data on the device.
        root: `rng.root_key` of the run.
        examples: `(B,)` int32, as for `train_step`.
        axis: the mapped axis, if there is one.

    Returns:
        The new state, and the metrics of each iteration, `(iterations,)`.

    Raises:
        TypeError: for a `HostBatch`, which has the data of one iteration only.
    """
    limits.instances(data=(data, Windows))

    def one(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
        return step(config, state, data, root, examples, axis)

    def unrolled(state: TrainState) -> tuple[TrainState, Metrics]:
        metrics: list[Any] = [None] * iterations
        for n in range(iterations):
            state, metrics[n] = one(state, None)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *metrics)

    looped = functools.partial(jax.lax.scan, one, length=iterations)
    return jax.lax.platform_dependent(state, cpu=unrolled, default=looped)


def compile_steps(
    config: Config, layout: parallel.Layout, state: TrainState, data: Windows, iterations: int
) -> parallel.CompiledStep:
    """`parallel.compile_step` of several iterations; of one, that of training."""
    step = parallel.step_for(layout)
    if iterations > 1:
        step = functools.partial(train_steps, step, iterations)
    return parallel.compile_step(config, layout, state, data, step)
