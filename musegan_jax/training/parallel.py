"""How the one pure step is compiled. Nothing else decides this."""

from collections.abc import Callable
from typing import Any

import jax

from musegan_jax.config import Config
from musegan_jax.data.batches import Windows
from musegan_jax.training.state import TrainState, create_state
from musegan_jax.training.step import Metrics, train_step

CompiledStep = Callable[[TrainState, Windows, jax.Array], tuple[TrainState, Metrics]]


def initial_state(config: Config) -> TrainState:
    """The state before the first iteration, made on the device."""
    return jax.jit(create_state, static_argnums=0)(config)


def abstract_state(config: Config) -> Any:
    """Shapes, dtypes and placement of the state, for restoring into; no memory is taken."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(lambda: create_state(config)),
    )


def place(windows: Windows) -> Windows:
    """The training data in the device's memory."""
    return jax.device_put(windows)


def compile_step(
    config: Config, state: TrainState, windows: Windows, root: jax.Array
) -> CompiledStep:
    """`train_step` compiled ahead of time for one device: `(state, windows, root) -> ...`.

    The state is donated: its buffers are reused for the new one, so the old one is gone. Ahead of
    time, a call with other shapes is an error, never a silent second compilation.
    """
    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)
    return step.lower(config, state, windows, root).compile()
