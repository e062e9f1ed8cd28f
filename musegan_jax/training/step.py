"""One training iteration: pure functions of (state, batch, keys).

`parallel` compiles them for the devices. Where `axis` names a mapped axis, each function sees one
shard of the global batch, otherwise all of it.
Reference: WGAN-GP (Gulrajani et al. 2017, algorithm 1) as the AWS DeepComposer lab trains it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from musegan_jax import limits, rng
from musegan_jax.config import Config
from musegan_jax.data.batches import HostBatch, Windows, batch_of, position_of
from musegan_jax.models.critic import make_critic, score_and_layers
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.models.layers import with_position
from musegan_jax.shapes import Array, Float, Int, Key
from musegan_jax.training import critic_gradient, losses
from musegan_jax.training.flavours import flavour_terms, two_flavours
from musegan_jax.training.state import TrainState, at_rate, make_optimizers

Metrics = dict[str, jax.Array]


class UpdateKeys(NamedTuple):
    """One key per example, `(B,)` each, for one update."""

    data: jax.Array
    noise: jax.Array
    penalty: jax.Array


def update_keys(
    root: Key[jax.Array, ""],
    iteration: Int[Array, ""] | int,
    update: Int[Array, ""] | int,
    examples: Int[Array, " B"],
) -> UpdateKeys:
    """The keys of update `update` for the global example indices `examples`, `(B,)` int32."""
    return UpdateKeys(
        *(
            rng.example_keys(rng.update_key(root, name, iteration, update), examples)
            for name in UpdateKeys._fields
        )
    )


def condition_of(
    config: Config,
    roll: Float[Array, "B T P K"],
    position: Float[Array, "B T 8"] | None = None,
) -> Float[Array, "B T P C"]:
    """What both networks are given: the conditioning track of rolls, and the position in the bar.

    Args:
        config: static.
        roll: `(B, T, P, K)`.
        position: `(B, T, 8)` from `data.batches.position_of`, where `model.bar_position` is set.

    Raises:
        ValueError: if there is a position and should be none, or the other way.
    """
    if config.model.bar_position != (position is not None):
        raise ValueError(
            "position must be given where model.bar_position is set, and only there: "
            "musegan_jax.draw_position(config, windows, keys)"
        )
    track = config.model.condition_track
    return with_position(roll[..., track : track + 1], position)


def _noise(config: Config, keys: jax.Array, roll: jax.Array) -> jax.Array:
    _, steps, pitches, _ = roll.shape
    return draw_noise(keys, noise_shape(config.model.generator_filters, steps, pitches))


def mean_over(axis: str | None, tree: Any) -> Any:
    """The mean over the shards of the batch, which are of equal size."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def answer(
    config: Config,
    state: TrainState,
    real: Float[Array, "B T P K"],
    noise_keys: Key[jax.Array, " B"],
    position: Float[Array, "B T 8"] | None = None,
) -> Float[Array, "B T P K"]:
    """The critic's fake rolls: the generator's answers, normalised by its running statistics.

    Args:
        config: static.
        state: the training state.
        real: `(B, T, P, K)` signed rolls, of which only the condition is used.
        noise_keys: one per example, `(B,)`.
        position: in the bar (`condition_of`).

    Returns:
        float32 `(B, T, P, K)`. An example's answer does not depend on the rest of the batch.
    """
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    noise = _noise(config, noise_keys, real)
    fake: Any = make_generator(config.model).apply(
        variables, condition_of(config, real, position), noise, train=False
    )
    return fake


def critic_step(
    config: Config,
    state: TrainState,
    real: Float[Array, "B T P K"],
    fake: Float[Array, "B T P K"],
    keys: UpdateKeys,
    axis: str | None = None,
    position: Float[Array, "B T 8"] | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the critic.

    Args:
        config: static.
        state: the training state.
        real: `(B, T, P, K)` signed rolls.
        fake: `(B, T, P, K)`, the result of `answer` for them.
        keys: of this update.
        axis: the mapped axis, if the batch is a shard of the global one.
        position: in the bar (`condition_of`).

    Returns:
        The new state and float32 scalars `critic_loss` (penalty included), `wasserstein`
        (`mean D(real) - mean D(fake)`), `penalty` (unweighted) and `critic_gradient_norm`.
    """
    limits.instances(config=(config, Config), state=(state, TrainState), keys=(keys, UpdateKeys))
    _, optimizer = make_optimizers(config)
    condition = condition_of(config, real, position)
    mixed = losses.blend(real, fake, jax.vmap(jax.random.uniform)(keys.penalty))
    gradient, wasserstein, penalty = mean_over(
        axis, critic_gradient.plain(config, state.critic_params, real, fake, mixed, condition)
    )
    weight = config.training.penalty_weight
    updates, opt = optimizer.update(gradient, state.critic_opt, state.critic_params)
    params = optax.apply_updates(state.critic_params, at_rate(config, state, updates))
    metrics = {
        "critic_loss": -wasserstein + weight * penalty,
        "wasserstein": wasserstein,
        "penalty": penalty,
        "critic_gradient_norm": optax.tree.norm(gradient),
    }
    return state._replace(critic_params=params, critic_opt=opt), metrics


def generator_step(
    config: Config,
    state: TrainState,
    real: Float[Array, "B T P K"],
    keys: UpdateKeys,
    axis: str | None = None,
    position: Float[Array, "B T 8"] | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the generator, normalised by batch statistics; updates the running ones.

    Args:
        config: static.
        state: the training state.
        real: `(B, T, P, K)` signed rolls; without a supervised or matching weight only the
            condition is used.
        keys: of this update.
        axis: the mapped axis, if the batch is a shard of the global one. Normalisation uses the
            statistics of the global batch in both cases.
        position: in the bar (`condition_of`).

    Returns:
        The new state and float32 scalars `generator_loss` (`-mean D(fake)`),
        `generator_gradient_norm`. With a diversity or supervised weight each melody has two
        flavours, and there are two further scalars, averaged over melodies:
        `disagreement`, how much the flavours differ (`losses.disagreement`); the minimised value
        contains `diversity_weight * max(0, diversity_target - disagreement)`, a bounded form of
        mode seeking (Mao et al. 2019);
        `cross_entropy` of the better flavour to the real accompaniment (`losses.cross_entropy`),
        in the minimised value times `supervised_weight`. As only the better one counts, flavours
        may be right in different ways (variety loss: Gupta et al. 2018, Social GAN, section 3.3).
        With a matching weight there is `feature_distance` (`losses.feature_distance`), in the
        minimised value times this weight.
    """
    limits.instances(config=(config, Config), state=(state, TrainState), keys=(keys, UpdateKeys))
    optimizer, _ = make_optimizers(config)
    gradient, metrics, batch_stats = generator_gradient(config, state, real, keys, axis, position)
    updates, opt = optimizer.update(gradient, state.generator_opt, state.generator_params)
    params = optax.apply_updates(state.generator_params, at_rate(config, state, updates))
    ema = state.ema_params
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - config.training.ema_decay)
    metrics["generator_gradient_norm"] = optax.tree.norm(gradient)
    state = state._replace(
        generator_params=params, batch_stats=batch_stats, ema_params=ema, generator_opt=opt
    )
    return state, metrics


def generator_gradient(
    config: Config,
    state: TrainState,
    real: Float[Array, "B T P K"],
    keys: UpdateKeys,
    axis: str | None = None,
    position: Float[Array, "B T 8"] | None = None,
    held: Callable[[Any], Any] = lambda params: params,
) -> tuple[Any, Metrics, Any]:
    """The gradient that `generator_step` applies, its metrics, and the new running statistics.

    `held` is applied to the parameters first, and may stop the gradients of some.
    """
    generator, critic = make_generator(config.model, axis), make_critic(config.model)
    condition = condition_of(config, real, position)
    two = config.training.diversity_weight > 0 or config.training.supervised_weight > 0
    if two:  # flavours of each melody: all first ones, then all second ones
        condition = jnp.concatenate([condition, condition])
        noise = jnp.concatenate([_noise(config, each, real) for each in two_flavours(keys.noise)])
    else:
        noise = _noise(config, keys.noise, real)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        fake, moved = generator.apply(
            {"params": held(params), "batch_stats": state.batch_stats},
            condition,
            noise,
            train=True,
            mutable=["batch_stats"],
        )
        score, layers = score_and_layers(critic, state.critic_params, fake, condition)
        value = -jnp.mean(score)
        metrics = {"generator_loss": value}
        if weight := config.training.matching_weight:
            given = condition[: len(real)]
            _, wanted = score_and_layers(critic, state.critic_params, real, given)
            metrics["feature_distance"] = losses.feature_distance(layers, wanted, axis)
            value += weight * metrics["feature_distance"]
        if two:
            value, more = flavour_terms(config, value, fake, real)
            metrics |= more
        return value, (metrics, moved.get("batch_stats", {}))

    gradient, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.generator_params)
    gradient, metrics = mean_over(axis, (gradient, metrics))
    return gradient, metrics, batch_stats


def train_step(
    config: Config,
    state: TrainState,
    data: Windows | HostBatch,
    root: Key[jax.Array, ""],
    examples: Int[Array, " B"],
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One iteration: `critic_updates` critic updates, then one generator update.

    Every update draws a fresh batch and fresh noise. The updates are unrolled, not scanned: on
    CPU, convolutions in a compiled loop miss XLA's fast path and are fifty times slower.

    Args:
        config: static.
        state: the training state; donate it.
        data: the training data, or this iteration's part of them, gathered by the host.
        root: `rng.root_key` of the run.
        examples: `(B,)` int32, indices in the *global* batch of the examples to work on. They
            address all random numbers, so these do not depend on the layout over devices.
        axis: the mapped axis, if `examples` is a shard of the global batch.

    Returns:
        The new state, with `step` increased by 1; and the metrics of both networks, the critic's
        averaged over its updates, with `parameter_norm`, finite only if every new parameter is.
    """
    limits.instances(
        config=(config, Config), state=(state, TrainState), data=(data, (Windows, HostBatch))
    )
    critic_metrics = []
    for update in range(config.training.critic_updates):
        keys = update_keys(root, state.step, update, examples)
        real = batch_of(config, data, update, keys.data)
        position = position_of(config, data, update, keys.data)
        fake = answer(config, state, real, keys.noise, position)
        state, metrics = critic_step(config, state, real, fake, keys, axis, position)
        critic_metrics.append(metrics)
    update = config.training.critic_updates
    keys = update_keys(root, state.step, update, examples)
    real = batch_of(config, data, update, keys.data)
    position = position_of(config, data, update, keys.data)
    state, generator_metrics = generator_step(config, state, real, keys, axis, position)
    # Losses and gradients precede the update; this norm covers what a checkpoint would hold.
    everything = (state.generator_params, state.batch_stats, state.critic_params)
    generator_metrics["parameter_norm"] = optax.tree.norm(everything)
    mean = jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *critic_metrics)
    return state._replace(step=state.step + 1), {**mean, **generator_metrics}
