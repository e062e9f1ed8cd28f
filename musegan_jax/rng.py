"""The key tree: root -> named stream -> iteration -> update -> example.

Every random number of a run is addressed by (seed, stream, iteration, update, example), so no
key is ever stored or passed on: a resumed run, or one on more devices, rebuilds the same keys.
The tree is wide (`fold_in` by an address), never a chain of splits.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from musegan_jax import limits
from musegan_jax.shapes import Key

# Environment variables can change these two settings: then JAX draws other numbers, which without
# the first depend on how an array is sharded. Set here, where every key of a run comes from.
jax.config.update("jax_threefry_partitionable", True)
jax.config.update("jax_random_seed_offset", 0)

STREAMS = ("init", "data", "noise", "penalty", "eval")


def root_key(seed: int) -> jax.Array:
    """The scalar key from which all keys of a run derive.

    The random bit generator is named because an environment variable can change JAX's default, and
    a run must not depend on that.

    Raises:
        TypeError: if `seed` is not a whole number.
        ValueError: if it is not from 0 to 2**32 - 1: JAX would wrap it round silently.
    """
    return jax.random.key(limits.whole("seed", seed), impl="threefry2x32")


def stream(root: jax.Array, name: str) -> jax.Array:
    """The scalar key of one named stream of `root`; `name` is one of `STREAMS`.

    The name enters through SHA-256 because Python's own `hash` differs from process to process.

    Raises:
        ValueError: for another name.
    """
    if name not in STREAMS:
        raise ValueError(f"unknown random stream {name!r}; one of {', '.join(STREAMS)}")
    digest = hashlib.sha256(name.encode()).digest()
    return jax.random.fold_in(root, int.from_bytes(digest[:4], "big"))


def update_key(
    root: jax.Array, name: str, iteration: jax.Array | int, update: jax.Array | int
) -> jax.Array:
    """The scalar key of one update (critic 0..n-1, generator n) within one iteration.

    Raises:
        ValueError: if `name` is not one of `STREAMS`.
    """
    return jax.random.fold_in(jax.random.fold_in(stream(root, name), iteration), update)


def example_keys(key: Key[jax.Array, ""], examples: Any) -> Key[jax.Array, " B"]:
    """One key per example, `(B,)`, from the example's index in the *global* batch, `(B,)` int32.

    Drawing one `(B, ...)` array from `key` instead would make the numbers depend on how the batch
    is laid out over devices.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(examples))
