"""The key tree: root -> named stream -> iteration -> update -> example.

Every random number of a run is addressed by (seed, stream, iteration, update, example), so no
key is ever stored or passed on: a resumed run, or one on more devices, rebuilds the same keys.
The tree is wide (`fold_in` by an address), never a chain of splits.
"""

import hashlib

import jax
import jax.numpy as jnp

# JAX's other way of counting gives other numbers, and others again when an array is spread over
# devices; an environment variable can choose it. Set here, where every key of a run comes from.
jax.config.update("jax_threefry_partitionable", True)

STREAMS = ("init", "data", "noise", "penalty", "eval")


def root_key(seed: int) -> jax.Array:
    """The scalar key that a whole run grows from.

    The generator is named: JAX's default may be changed by an environment variable, and a run
    must not change with it.
    """
    return jax.random.key(seed, impl="threefry2x32")


def stream(root: jax.Array, name: str) -> jax.Array:
    """The scalar key of one named stream of `root`; `name` is one of `STREAMS`.

    The name enters through SHA-256 because Python's own `hash` differs from process to process.
    """
    if name not in STREAMS:
        raise ValueError(f"unknown random stream {name!r}; one of {', '.join(STREAMS)}")
    digest = hashlib.sha256(name.encode()).digest()
    return jax.random.fold_in(root, int.from_bytes(digest[:4], "big"))


def update_key(root: jax.Array, name: str, iteration: jax.Array | int, update: int) -> jax.Array:
    """The scalar key of one update (critic 0..n-1, generator n) within one iteration."""
    return jax.random.fold_in(jax.random.fold_in(stream(root, name), iteration), update)


def example_keys(key: jax.Array, examples: jax.Array) -> jax.Array:
    """One key per example, `(B,)`, from the example's index in the *global* batch, `(B,)` int32.

    Drawing one `(B, ...)` array from `key` instead would tie the numbers to how the batch is
    laid out over devices.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(examples))
