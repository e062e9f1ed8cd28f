"""Fingerprints of states, 64 hexadecimal digits to compare runs; checksums, made on devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax.hashing import sha256

Fingerprint = dict[str, str]


def fingerprint(state: Any) -> Fingerprint:
    """SHA-256 of each part of a state, and of the whole state under `state`.

    Hashes every array in tree order: path, dtype and shape, then its bytes, little-endian. Two
    states have the same fingerprint only if every bit is the same.

    Args:
        state: a NamedTuple of trees of NumPy arrays (`processes.on_host`); parts that are None are
            left out.
    """
    parts = {name: _digest(part) for name, part in state._asdict().items() if part is not None}
    everything = "".join(f"{name}:{digest}\n" for name, digest in parts.items())
    return {"state": sha256([everything]), **parts}


def _digest(tree: Any) -> str:
    parts: list[str | np.ndarray] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        parts += [f"{name}:{leaf.dtype.name}:{leaf.shape}\n", np.asarray(leaf)]
    return sha256(parts)


def checksum(tree: Any) -> jax.Array:
    """Two numbers, uint32 `(2,)`, that tell whether trees on two devices are the same.

    Computed on the device. Any single changed bit changes both; whole numbers are added, so the
    order of additions does not matter. Not made against anybody: that is `fingerprint`.
    """

    def bits(leaf: jax.Array) -> jax.Array:
        width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
        return jax.lax.bitcast_convert_type(leaf, width).ravel().astype(jnp.uint32)

    words = jnp.concatenate([bits(leaf) for leaf in jax.tree.leaves(tree)])
    # Products with odd numbers are one to one. The second sum sees high bits in low places.
    odd = 2 * jnp.arange(words.size, dtype=jnp.uint32) + 1
    mixed = (words ^ (words >> 15)) * jnp.uint32(0x2C1B3C6D)
    return jnp.stack([jnp.sum(words * odd), jnp.sum((mixed ^ (mixed >> 12)) * odd)])
