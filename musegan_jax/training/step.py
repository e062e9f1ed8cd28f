"""One training iteration: pure functions of (state, batch, keys).

How they are compiled, and for which devices, is `parallel`'s business. Each of them sees a part of
the global batch where `axis` names a mapped axis, and else the whole.
Reference: WGAN-GP (Gulrajani et al. 2017, algorithm 1) as the AWS DeepComposer lab trains it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from musegan_jax import rng
from musegan_jax.config import Config
from musegan_jax.data.batches import HostBatch, Windows, batch_of
from musegan_jax.models.critic import make_critic
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.training import losses
from musegan_jax.training.state import TrainState, make_optimizers

Metrics = dict[str, jax.Array]


class UpdateKeys(NamedTuple):
    """One key per example, `(B,)` each, for one update."""

    data: jax.Array
    noise: jax.Array
    penalty: jax.Array


def update_keys(
    root: jax.Array, iteration: jax.Array, update: int, examples: jax.Array
) -> UpdateKeys:
    """The keys of update `update` for the global example indices `examples`, `(B,)` int32."""
    return UpdateKeys(
        *(
            rng.example_keys(rng.update_key(root, name, iteration, update), examples)
            for name in UpdateKeys._fields
        )
    )


def condition_of(config: Config, roll: jax.Array) -> jax.Array:
    """The conditioning track of `(B, T, P, K)` rolls: `(B, T, P, 1)`."""
    track = config.model.condition_track
    return roll[..., track : track + 1]


def _noise(config: Config, keys: jax.Array, roll: jax.Array) -> jax.Array:
    _, steps, pitches, _ = roll.shape
    return draw_noise(keys, noise_shape(config.model.generator_filters, steps, pitches))


def two_flavours(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two keys for the noise of each example, `(B,)` each, from one, `(B,)`.

    The given keys draw nothing themselves: a key that is both drawn from and folded into others
    gives numbers that nothing says are independent.
    """
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return fold(keys, 0), fold(keys, 1)


def _at_rate(config: Config, state: TrainState, updates: Any) -> Any:
    """An optimizer's updates, smaller towards the end: linearly to 0 from `decay_from` on.

    By the iteration, which is in the state already: a schedule inside the optimizer would count
    updates, and the critic makes more of them than the generator.
    """
    t = config.training
    if t.decay_from == 1:
        return updates
    begin = int(t.last_decayed * t.decay_from)
    factor = optax.linear_schedule(1.0, 0.0, t.last_decayed - begin, begin)(state.step)
    return jax.tree.map(lambda update: factor * update, updates)


def _mean_over(axis: str | None, tree: Any) -> Any:
    """The mean over the parts of the batch; they are of equal size."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def answer(config: Config, state: TrainState, real: jax.Array, noise_keys: jax.Array) -> jax.Array:
    """What the critic is shown as fake: the generator's answers, by its running statistics.

    Args:
        config: static.
        state: what training changes.
        real: `(B, T, P, K)` signed rolls, of which only the condition is used.
        noise_keys: one per example, `(B,)`.

    Returns:
        float32 `(B, T, P, K)`. Each example's is its own, however many are computed together.
    """
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    noise = _noise(config, noise_keys, real)
    fake: Any = make_generator(config.model).apply(
        variables, condition_of(config, real), noise, train=False
    )
    return fake


def critic_step(
    config: Config,
    state: TrainState,
    real: jax.Array,
    fake: jax.Array,
    keys: UpdateKeys,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the critic.

    Args:
        config: static.
        state: what training changes.
        real: `(B, T, P, K)` signed rolls.
        fake: `(B, T, P, K)`, what `answer` gives for them.
        keys: of this update.
        axis: the mapped axis, if the batch is a part of the global one.

    Returns:
        The new state and float32 scalars `critic_loss` (penalty included), `wasserstein`
        (`mean D(real) - mean D(fake)`), `penalty` (unweighted) and `critic_gradient_norm`.
    """
    critic = make_critic(config.model)
    _, optimizer = make_optimizers(config)
    condition = condition_of(config, real)
    mixed = losses.blend(real, fake, jax.vmap(jax.random.uniform)(keys.penalty))

    def score(params: Any, roll: jax.Array, condition: jax.Array) -> Any:
        return critic.apply({"params": params}, roll, condition)

    penalty, direction = losses.gradient_penalty(
        lambda roll: score(state.critic_params, roll, condition), mixed
    )
    penalty = jnp.mean(penalty)
    weight = config.training.penalty_weight
    # The weight goes in here and not onto the slopes below: so their gradient begins with ones, as
    # the penalty's does, and the compiler sees that both go the same way back through the critic.
    direction = direction * (weight / len(real))

    def surrogate(params: Any) -> tuple[jax.Array, jax.Array]:
        both = score(params, jnp.concatenate([real, fake]), jnp.concatenate([condition, condition]))
        wasserstein = jnp.mean(both[: len(real)]) - jnp.mean(both[len(real) :])
        slopes = losses.penalty_surrogate(
            lambda roll: score(params, roll, condition), mixed, direction
        )
        return jnp.sum(slopes) - wasserstein, wasserstein

    gradient, wasserstein = jax.grad(surrogate, has_aux=True)(state.critic_params)
    gradient, wasserstein, penalty = _mean_over(axis, (gradient, wasserstein, penalty))
    updates, opt = optimizer.update(gradient, state.critic_opt, state.critic_params)
    params = optax.apply_updates(state.critic_params, _at_rate(config, state, updates))
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
    real: jax.Array,
    keys: UpdateKeys,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the generator, by batch statistics; only here the running ones move.

    Args:
        config: static.
        state: what training changes.
        real: `(B, T, P, K)` signed rolls, of which only the condition is used.
        keys: of this update.
        axis: the mapped axis, if the batch is a part of the global one. Normalisation is by the
            statistics of the global batch either way.

    Returns:
        The new state and float32 scalars `generator_loss` (`-mean D(fake)`),
        `generator_gradient_norm` and, where the config weighs diversity, `disagreement`: how far
        two flavours of a melody are apart (`losses.disagreement`). What is minimised has
        `diversity_weight * max(0, diversity_target - disagreement)` of each melody besides, a
        bounded form of mode seeking (Mao et al. 2019).
    """
    generator, critic = make_generator(config.model, axis), make_critic(config.model)
    optimizer, _ = make_optimizers(config)
    condition = condition_of(config, real)
    weight, target = config.training.diversity_weight, config.training.diversity_target
    if weight:  # two flavours of each melody, all first ones first
        condition = jnp.concatenate([condition, condition])
        noise = jnp.concatenate([_noise(config, each, real) for each in two_flavours(keys.noise)])
    else:
        noise = _noise(config, keys.noise, real)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        fake, moved = generator.apply(
            {"params": params, "batch_stats": state.batch_stats},
            condition,
            noise,
            train=True,
            mutable=["batch_stats"],
        )
        score: Any = critic.apply({"params": state.critic_params}, fake, condition)
        metrics = {"generator_loss": -jnp.mean(score)}
        value = metrics["generator_loss"]
        if weight:
            first, second = jnp.split(fake, 2)
            apart = losses.disagreement(first, second, config.model.condition_track)
            metrics["disagreement"] = jnp.mean(apart)
            value += weight * jnp.mean(jax.nn.relu(target - apart))
        return value, (metrics, moved.get("batch_stats", {}))

    gradient, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.generator_params)
    gradient, metrics = _mean_over(axis, (gradient, metrics))
    updates, opt = optimizer.update(gradient, state.generator_opt, state.generator_params)
    params = optax.apply_updates(state.generator_params, _at_rate(config, state, updates))
    ema = state.ema_params
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - config.training.ema_decay)
    metrics["generator_gradient_norm"] = optax.tree.norm(gradient)
    state = state._replace(
        generator_params=params, batch_stats=batch_stats, ema_params=ema, generator_opt=opt
    )
    return state, metrics


def train_step(
    config: Config,
    state: TrainState,
    data: Windows | HostBatch,
    root: jax.Array,
    examples: jax.Array,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One iteration: `critic_updates` critic updates, then one generator update.

    Every update draws a fresh batch and fresh noise. The updates are unrolled, not scanned: on
    CPU a convolution inside a compiled loop misses XLA's fast path and is fifty times slower.

    Args:
        config: static.
        state: what training changes; donate it.
        data: the training data, or this iteration's part of them.
        root: `rng.root_key` of the run.
        examples: `(B,)` int32, indices in the *global* batch of the examples to work on. Every
            random number is addressed by them, so how they lie over devices changes none.
        axis: the mapped axis, if `examples` is a part of the global batch.

    Returns:
        The new state, `step` one further, and the metrics of both networks, the critic's as the
        mean over its updates, and `parameter_norm`, finite only if every new parameter is.
    """
    critic_metrics = []
    for update in range(config.training.critic_updates):
        keys = update_keys(root, state.step, update, examples)
        real = batch_of(config, data, update, keys.data)
        fake = answer(config, state, real, keys.noise)
        state, metrics = critic_step(config, state, real, fake, keys, axis)
        critic_metrics.append(metrics)
    update = config.training.critic_updates
    keys = update_keys(root, state.step, update, examples)
    real = batch_of(config, data, update, keys.data)
    state, generator_metrics = generator_step(config, state, real, keys, axis)
    # Losses and gradients are of before the update; this is what the next checkpoint would hold.
    everything = (state.generator_params, state.batch_stats, state.critic_params)
    generator_metrics["parameter_norm"] = optax.tree.norm(everything)
    mean = jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *critic_metrics)
    return state._replace(step=state.step + 1), {**mean, **generator_metrics}
