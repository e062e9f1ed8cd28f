"""Two flavours of each melody in the generator's update: their noise, and what rewards them."""

import jax
import jax.numpy as jnp

from musegan_jax.config import Config
from musegan_jax.shapes import Key
from musegan_jax.training import losses


def two_flavours(
    keys: Key[jax.Array, " B"],
) -> tuple[Key[jax.Array, " B"], Key[jax.Array, " B"]]:
    """Two noise keys per example, `(B,)` each, from one, `(B,)`.

    Draw nothing from the given keys: if a key is both drawn from and folded, nothing guarantees
    independent numbers.
    """
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return fold(keys, 0), fold(keys, 1)


def flavour_terms(
    config: Config, value: jax.Array, fake: jax.Array, real: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Add the diversity and the supervised term to a value; `fake` has all first flavours first."""
    t, melody = config.training, config.model.condition_track
    first, second = jnp.split(fake, 2)
    apart = losses.disagreement(first, second, melody)
    metrics = {"disagreement": jnp.mean(apart)}
    value += t.diversity_weight * jnp.mean(jax.nn.relu(t.diversity_target - apart))
    if t.supervised_weight:
        entropies = (losses.cross_entropy(each, real, melody) for each in (first, second))
        metrics["cross_entropy"] = jnp.mean(jnp.minimum(*entropies))
        value += t.supervised_weight * metrics["cross_entropy"]
    return value, metrics
