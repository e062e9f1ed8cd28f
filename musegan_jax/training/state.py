"""The training state: everything that training changes, arrays only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from musegan_jax import limits, rng
from musegan_jax.config import Config
from musegan_jax.models.critic import make_critic
from musegan_jax.models.generator import make_generator, noise_shape


class TrainState(NamedTuple):
    """Everything that a resumed run needs. Keys are not stored: seed and `step` determine them.

    `ema_params` is None if averaging is off.
    """

    step: jax.Array  # int32 scalar: finished iterations
    generator_params: Any
    batch_stats: Any
    ema_params: Any
    critic_params: Any
    generator_opt: optax.OptState
    critic_opt: optax.OptState


def make_optimizers(config: Config) -> tuple[optax.GradientTransformation, ...]:
    """Adam for the generator and for the critic."""
    t = config.training
    return tuple(
        optax.adam(rate, b1=t.adam_b1, b2=t.adam_b2, eps=t.adam_epsilon)
        for rate in (t.generator_learning_rate, t.critic_learning_rate)
    )


def at_rate(config: Config, state: TrainState, updates: Any) -> Any:
    """An optimizer's updates, scaled linearly down to 0 from `decay_from` on.

    Scaled by iteration, which the state already has: a schedule inside the optimizer would count
    updates, of which the critic has more than the generator.
    """
    t = config.training
    if t.decay_from == 1:
        return updates
    begin = int(t.last_decayed * t.decay_from)
    factor = optax.linear_schedule(1.0, 0.0, t.last_decayed - begin, begin)(state.step)
    return jax.tree.map(lambda update: factor * update, updates)


def create_state(config: Config) -> TrainState:
    """The state before the first iteration, a pure function of the config and its seed.

    Use it under `jax.jit` (or `jax.eval_shape` for shapes alone).
    """
    limits.instances(config=(config, Config))
    key = rng.stream(rng.root_key(config.training.seed), "init")
    steps, pitches = config.data.window_steps, config.model.pitches
    condition = jnp.zeros((1, steps, pitches, config.model.condition_channels))
    roll = jnp.zeros((1, steps, pitches, config.model.tracks))
    noise = jnp.zeros((1, *noise_shape(config.model.generator_filters, steps, pitches)))
    generator = make_generator(config.model).init(
        jax.random.fold_in(key, 0), condition, noise, train=False
    )
    critic = make_critic(config.model).init(jax.random.fold_in(key, 1), roll, condition)
    generator_optimizer, critic_optimizer = make_optimizers(config)
    params = generator["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator_params=params,
        # A generator of one block has no normalisation, so no statistics.
        batch_stats=generator.get("batch_stats", {}),
        # A copy: two donated leaves must not share one buffer.
        ema_params=jax.tree.map(jnp.copy, params) if config.training.ema_decay else None,
        critic_params=critic["params"],
        generator_opt=generator_optimizer.init(params),
        critic_opt=critic_optimizer.init(critic["params"]),
    )


def abstract_state(config: Config) -> Any:
    """Shapes and dtypes of the state; allocates nothing."""
    return jax.eval_shape(lambda: create_state(config))


def inference_variables(state: TrainState) -> dict[str, Any]:
    """The generator's variables for composing: the averaged parameters if there are any."""
    params = state.generator_params if state.ema_params is None else state.ema_params
    return {"params": params, "batch_stats": state.batch_stats}
