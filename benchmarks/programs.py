"""What the scripts share that compile the training step for devices that are not here."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from musegan_jax import config as configs
from musegan_jax import rng
from musegan_jax.data.batches import Windows, batch_of
from musegan_jax.errors import UserError, first_line
from musegan_jax.training import fused, parallel, step
from musegan_jax.training.state import abstract_state


def critic_update(config, state, data, root, examples, axis=None):
    """The first critic update of an iteration, with its draws and the generator's answers."""
    keys = step.update_keys(root, state.step, 0, examples)
    real = batch_of(config, data, 0, keys.data)
    fake = step.answer(config, state, real, keys.noise)
    return step.critic_step(config, state, real, fake, keys, axis)


def generator_update(config, state, data, root, examples, axis=None):
    """The generator update of an iteration, with its draws."""
    update = config.training.critic_updates
    keys = step.update_keys(root, state.step, update, examples)
    return step.generator_step(config, state, batch_of(config, data, update, keys.data), keys, axis)


def critic_update_fused(config, state, data, root, examples, axis=None):
    """`critic_update` in the form for GPUs."""
    keys = step.update_keys(root, state.step, 0, examples)
    real = batch_of(config, data, 0, keys.data)
    fake = step.answer(config, state, real, keys.noise)
    weights = jax.vmap(jax.random.uniform)(keys.penalty)[None]
    return fused.critic_steps(config, state, [real], [fake], weights, axis, [None])


def generator_update_fused(config, state, data, root, examples, axis=None):
    """`generator_update` in the form for GPUs."""
    update = config.training.critic_updates
    keys = step.update_keys(root, state.step, update, examples)
    real = batch_of(config, data, update, keys.data)
    return fused.generator_step(config, state, real, keys, axis, None)


# Each part as `step` has it, and as `fused`.
PARTS = {
    "critic update": (critic_update, critic_update_fused),
    "generator update": (generator_update, generator_update_fused),
    "iteration": (step.train_step, fused.train_step),
}


def layout_of(name: str, **described: Any) -> parallel.Layout:
    """All devices of a topology as one data axis.

    Args:
        name: as it was given on the command line, for the message.
        described: what `topologies.get_topology_desc` takes.

    Raises:
        UserError: if there is no such topology.
    """
    try:
        found = topologies.get_topology_desc(**described)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology {name}: {first_line(error)}") from error
    mesh = Mesh(np.array(found.devices), (parallel.AXIS,), axis_types=(AxisType.Auto,))
    return parallel.Layout("mesh", mesh)


def abstract_arguments(config: configs.Config, layout: parallel.Layout) -> tuple:
    """Shapes of a step's arguments, with data as large as the chorales."""

    def whole(tree, places):
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            tree,
            places,
        )

    steps, windows, tracks = 68316, 2072, config.model.tracks
    shape = jax.ShapeDtypeStruct
    data = Windows(
        shape((steps, tracks, 16), np.uint8),
        shape((windows,), np.int32),
        shape((windows, 2), np.int32),
        shape((tracks,), bool),
    )
    examples = shape((config.training.batch_size,), np.int32, sharding=layout.sharded)
    root = jax.eval_shape(lambda: rng.root_key(0))
    state = abstract_state(config)
    data, root = (whole(x, jax.tree.map(lambda _: layout.replicated, x)) for x in (data, root))
    return whole(state, parallel.places_of(layout, state)), data, root, examples


def lower(part: str, config: configs.Config, layout: parallel.Layout) -> Any:
    """A part of `PARTS`, traced for a layout, ready to compile."""
    form = PARTS[part][parallel.is_fused(layout)]
    return parallel.lower(form, config, layout, *abstract_arguments(config, layout))


def configured(config: configs.Config, words: Sequence[str], devices: int, each: int):
    """The config in bf16 unless `words`, fields of the command line, say otherwise.

    Args:
        config: of a file.
        words: as in `--model.dtype=float32`.
        devices: in the topology.
        each: examples per device.
    """
    batch = f"--training.batch_size={devices * each}"
    return configs.override(config, ["--model.dtype=bfloat16", *words, batch])
