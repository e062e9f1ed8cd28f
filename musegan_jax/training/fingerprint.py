"""What a state is, in 64 letters: to compare runs by."""

import hashlib
from typing import Any

import jax
import numpy as np

from musegan_jax.training.state import TrainState

Fingerprint = dict[str, str]


def fingerprint(state: TrainState) -> Fingerprint:
    """SHA-256 of each part of a state, and of all of it under `state`.

    Over every array in the order of the tree: its path, dtype and shape, then its bytes, little
    end first. Two states have the same one only if every bit is the same.

    Args:
        state: NumPy arrays (`parallel.on_host`).
    """
    parts = {name: _digest(part) for name, part in state._asdict().items() if part is not None}
    everything = "".join(f"{name}:{digest}\n" for name, digest in parts.items())
    return {"state": hashlib.sha256(everything.encode()).hexdigest(), **parts}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.ascontiguousarray(leaf).astype(leaf.dtype.newbyteorder("<"), copy=False)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name}:{array.dtype.name}:{leaf.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
