"""Communication between the processes of a run. All of them must call each
function but `say`.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from musegan_jax import terminal
from musegan_jax.errors import UserError


def from_process_0(array: np.ndarray) -> np.ndarray:
    """The array that process 0 passed."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def all_processes(fine: bool) -> bool:
    """Whether `fine` is true in every process. Waits for all of them."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def agree(what: str, sha256: str) -> None:
    """Check that all processes passed the same hash of `what`.

    Raises:
        UserError: in all processes, naming the first that differs from process 0.
    """
    if jax.process_count() == 1:
        return
    own = np.frombuffer(bytes.fromhex(sha256), np.uint8)
    everyone = np.asarray(multihost_utils.process_allgather(own))
    for process, other in enumerate(everyone):
        if not np.array_equal(other, everyone[0]):
            raise UserError(
                f"{what} of process {process} differs from process 0's (sha256 "
                f"{bytes(other).hex()[:12]}..., {bytes(everyone[0]).hex()[:12]}...); give all "
                "processes the same config and the same data"
            )


def say(line: str) -> None:
    """Print a remark for the user on stderr, in process 0."""
    if jax.process_index() == 0:
        terminal.say(line)


def on_host(tree: Any) -> Any:
    """The arrays of a replicated state as NumPy arrays of this process."""
    return jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
