"""One training iteration as GPUs run it best: fewer and larger kernels.

The same rule, keys and updates as `step.train_step`, which CPUs and TPUs run; results differ by
rounding. At small batches a GPU is bound by its launches, so what `step` does for each update is
done once for all of them: keys, draws, and the generator's answers, which no critic update changes.
The critic's gradient is one pass (`critic_gradient.joint`), where that pays, and the squares of all
updates' gradients are summed together. Counted by `benchmarks/gpu_compile.py`;
`benchmarks/NOTES.md` has the figures.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from musegan_jax import limits
from musegan_jax.config import Config
from musegan_jax.data.batches import HostBatch, Windows, batch_of, position_of
from musegan_jax.shapes import Array, Float, Int, Key
from musegan_jax.training import critic_gradient, losses, step
from musegan_jax.training.state import TrainState, at_rate, make_optimizers

SMALL = 2**14  # elements; squares of fewer are summed with all others
# Examples on a device, up to which the critic's gradient is one pass: for each, that moves 0.46 MB
# more, to put the tangents into their place, and it saves some 20 launches an update.
FEW = 128


def train_step(
    config: Config,
    state: TrainState,
    data: Windows | HostBatch,
    root: Key[jax.Array, ""],
    examples: Int[Array, " B"],
    axis: str | None = None,
) -> tuple[TrainState, step.Metrics]:
    """One iteration; arguments and results are those of `step.train_step`."""
    limits.instances(
        config=(config, Config), state=(state, TrainState), data=(data, (Windows, HostBatch))
    )
    last = config.training.critic_updates
    keys = jax.vmap(lambda n: step.update_keys(root, state.step, n, examples))(jnp.arange(last + 1))
    reals, positions = _batches(config, data, keys.data)
    fakes = _answers(config, state, reals[:last], keys.noise[:last], positions)
    weights = jax.vmap(jax.vmap(jax.random.uniform))(keys.penalty[:last])
    state, metrics = critic_steps(
        config, state, reals[:last], fakes, weights, axis, positions[:last]
    )
    own = jax.tree.map(lambda key: key[last], keys)
    state, more = generator_step(config, state, reals[last], own, axis, positions[last])
    # As in `step`: finite only if all that a checkpoint would hold is.
    everything = (state.generator_params, state.batch_stats, state.critic_params)
    more["parameter_norm"] = length([squares(everything)])[0]
    return state._replace(step=state.step + 1), {**metrics, **more}


def _batches(
    config: Config, data: Windows | HostBatch, keys: Key[jax.Array, "U B"]
) -> tuple[list[jax.Array], list[Any]]:
    """The real rolls of each update and their positions in the bar, drawn at once."""
    numbers = range(len(keys))
    if isinstance(data, HostBatch):
        return (
            [batch_of(config, data, n, keys[n]) for n in numbers],
            [position_of(config, data, n, keys[n]) for n in numbers],
        )
    flat = keys.reshape(-1)
    reals = jnp.split(batch_of(config, data, 0, flat), len(keys))
    position = position_of(config, data, 0, flat)
    return reals, [None] * len(keys) if position is None else jnp.split(position, len(keys))


def _answers(
    config: Config,
    state: TrainState,
    reals: list[jax.Array],
    keys: Key[jax.Array, "U B"],
    positions: list[Any],
) -> list[jax.Array]:
    """The generator's answers for all critic updates, in one pass."""
    position = None if positions[0] is None else jnp.concatenate(positions[: len(reals)])
    answers = step.answer(config, state, jnp.concatenate(reals), keys.reshape(-1), position)
    # In the dtype of the critic's first convolution: half the bytes in bf16. Without the barrier
    # XLA keeps them in float32, from which blended rolls are made.
    return jax.lax.optimization_barrier(jnp.split(answers.astype(config.model.dtype), len(reals)))


def critic_steps(
    config: Config,
    state: TrainState,
    reals: list[Float[Array, "B T P K"]],
    fakes: list[Float[Array, "B T P K"]],
    weights: Float[Array, "U B"],
    axis: str | None,
    positions: list[Any],
) -> tuple[TrainState, step.Metrics]:
    """An update of the critic for each batch; the metrics of `step.critic_step`, averaged.

    `weights` are those of the real rolls in the blended ones.
    """
    _, optimizer = make_optimizers(config)
    params, found = state.critic_params, []
    one_pass = critic_gradient.knows(config.model, params) and len(reals[0]) <= FEW
    form = critic_gradient.joint if one_pass else critic_gradient.plain
    opt = state.critic_opt
    for real, fake, weight, position in zip(reals, fakes, weights, positions, strict=True):
        condition = step.condition_of(config, real, position)
        mixed = losses.blend(real, fake, weight)
        gradient, wasserstein, penalty = step.mean_over(
            axis, form(config, params, real, fake, mixed, condition)
        )
        updates, opt = optimizer.update(gradient, opt, params)
        params = optax.apply_updates(params, at_rate(config, state, updates))
        found.append((wasserstein, penalty, squares(gradient)))
    *means, vectors = zip(*found, strict=True)
    wasserstein, penalty = (jnp.mean(jnp.stack(each)) for each in means)
    metrics = {
        "critic_loss": -wasserstein + config.training.penalty_weight * penalty,
        "wasserstein": wasserstein,
        "penalty": penalty,
        "critic_gradient_norm": jnp.mean(length(vectors)),
    }
    return state._replace(critic_params=params, critic_opt=opt), metrics


def generator_step(
    config: Config,
    state: TrainState,
    real: Float[Array, "B T P K"],
    keys: step.UpdateKeys,
    axis: str | None,
    position: Float[Array, "B T 8"] | None,
) -> tuple[TrainState, step.Metrics]:
    """`step.generator_step` without the sums that come to nothing."""
    optimizer, _ = make_optimizers(config)
    gradient, metrics, batch_stats = step.generator_gradient(
        config, state, real, keys, axis, position, _without_void
    )
    updates, opt = optimizer.update(gradient, state.generator_opt, state.generator_params)
    params = optax.apply_updates(state.generator_params, at_rate(config, state, updates))
    ema = state.ema_params
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - config.training.ema_decay)
    metrics["generator_gradient_norm"] = length([squares(gradient)])[0]
    state = state._replace(
        generator_params=params, batch_stats=batch_stats, ema_params=ema, generator_opt=opt
    )
    return state, metrics


def _without_void(params: Any) -> Any:
    """Parameters without the gradients that are nothing but rounding.

    Normalisation by the batch takes off what the bias of an upsampling layer just before it adds.
    """
    count = sum(name.startswith("UpsampleConv_") for name in params)
    held = {}
    for name in (f"UpsampleConv_{n}" for n in range(count - 1)):  # the last has none after it
        held[name] = {**params[name], "bias": jax.lax.stop_gradient(params[name]["bias"])}
    return {**params, **held}


def squares(tree: Any) -> jax.Array:
    """A vector whose sum is that of all squares in a tree.

    A large array is summed along all axes but one: the kernel that writes it can do so in passing.
    """

    def vector(leaf: jax.Array) -> jax.Array:
        if leaf.size < SMALL:
            return leaf.ravel() ** 2
        kept = max(range(leaf.ndim), key=lambda axis: leaf.shape[axis])
        return jnp.sum(leaf**2, axis=[axis for axis in range(leaf.ndim) if axis != kept])

    return jnp.concatenate([vector(leaf) for leaf in jax.tree.leaves(tree)])


def length(vectors: Sequence[jax.Array]) -> jax.Array:
    """The norms of trees, from their `squares`.

    All at once, and behind a barrier: XLA would make a sum of its own of each array put together.
    """
    return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.stack(vectors)), axis=1))
