"""Fingerprints: a state as 64 hexadecimal digits, to compare runs."""

from typing import Any

import jax
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
