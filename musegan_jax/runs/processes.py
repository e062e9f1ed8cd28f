"""Communication between the processes of a run. All of them must call each function but `say`,
`tell` and `told`.

Decisions and agreements go through JAX's coordination service, not over the devices: it answers
while the devices compute or hang, and from every thread. A wait has an end, or it is for something
that may take any time, such as a slow disk: then process 0 says now and then what it waits for, and
a process that is lost is noticed by the heartbeats.
"""

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from musegan_jax import terminal
from musegan_jax.errors import UserError

# Seconds to wait for a process that computes; one that is lost is noticed earlier, by the
# heartbeats of `training.distributed`.
WAIT = 300.0
LONG = 3600.0  # the same for one that reads: large data, a large checkpoint, a slow bucket
PATIENCE = 60.0  # seconds until the first line about a wait; the next ones come after twice as long
LINGER = 15.0  # seconds that process 0, which serves the others, waits for them to hear its end
_ROOT = "musegan-jax"
_rounds: Counter[str] = Counter()  # of `gather` so far, the same in all processes


def _client() -> Any:
    from jax._src import distributed  # there is no public access

    return distributed.global_state.client


def gather(value: Any, what: str, seconds: float | None = WAIT, stream: str = "main") -> list[Any]:
    """What all processes passed, by process; waits for all of them.

    Args:
        value: anything that JSON can hold; small.
        what: that all processes come to, for the error.
        seconds: to wait for them; None: as long as they live.
        stream: calls of one stream must come in the same order in all processes; a thread of its
            own needs a stream of its own.

    Raises:
        UserError: if a process does not come in time.
    """
    own, count = jax.process_index(), jax.process_count()
    if count == 1:
        return [value]
    client, base = _client(), f"{_ROOT}/{stream}"
    key = f"{base}/{_rounds[stream]}"
    _rounds[stream] += 1
    client.key_value_set(f"{key}/{own}", json.dumps(value))
    begin, limit = time.monotonic(), math.inf if seconds is None else seconds

    def wait(name: str, late: str, limit: float) -> str:
        patience = PATIENCE
        while True:
            left = limit - (time.monotonic() - begin)
            try:
                # A millisecond at least, for what is there already.
                some = max(0.001, min(left, patience))
                return client.blocking_key_value_get(f"{key}/{name}", int(1000 * some) + 1)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
                if left <= patience:
                    raise UserError(
                        f"{late} has not come to {what} within {seconds:.0f} s; look at its log, "
                        "then start all processes again"
                    ) from error
            patience *= 2
            say(f"waiting for {late}: {what}")

    # Process 0 collects: with hundreds of processes not each of them can ask each other one.
    if own:  # a second later: process 0 knows better who is late
        return json.loads(wait("all", "process 0, or one it waits for,", limit + 1))
    values = [json.loads(wait(str(n), f"process {n} of {count}", limit)) for n in range(count)]
    client.key_value_set(f"{key}/all", json.dumps(values))
    # Whoever has come to this round has read the one before.
    if _rounds[stream] > 1:
        client.key_value_delete(f"{base}/{_rounds[stream] - 2}/")
    return values


def agree(facts: Mapping[str, Any], advice: str, seconds: float = WAIT) -> None:
    """Check that all processes passed the same facts.

    Args:
        facts: anything that JSON can hold, by name.
        advice: what the user should do if they differ.
        seconds: to wait for all of them.

    Raises:
        UserError: in all processes, naming the first process and fact that differ from process 0's.
    """
    everyone = gather(dict(facts), next(iter(facts)), seconds)
    for process, theirs in enumerate(everyone):
        for name in {**everyone[0], **theirs}:
            ours, other = everyone[0].get(name), theirs.get(name)
            if ours != other:
                raise UserError(
                    f"{name} of process {process} is {other}, of process 0 {ours}; {advice}"
                )


def decided(decide: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
    """What `decide`, called in process 0 alone, returns there: anything that JSON can hold.

    For all that depends on the disk, which may look different from different machines.

    Raises:
        UserError: in all processes, if `decide` raises it in process 0.
    """
    if jax.process_count() == 1:
        return decide()
    told: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            told = {"value": decide()}
        except UserError as error:
            told = {"error": str(error)}
    told = gather(told, what, seconds)[0]
    if "error" in told:
        raise UserError(told["error"])
    return told["value"]


def broadcast(tree: Any) -> Any:
    """The arrays of process 0, as NumPy arrays; other processes pass some of the same shapes."""
    if jax.process_count() == 1:
        return tree
    # As bytes: arrays are summed over the processes, which would make +0.0 of -0.0.
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    packed = [np.frombuffer(np.ascontiguousarray(leaf).tobytes(), np.uint8) for leaf in leaves]
    received = multihost_utils.broadcast_one_to_all(packed)
    return jax.tree.unflatten(
        structure,
        [
            np.frombuffer(np.asarray(data).tobytes(), leaf.dtype).reshape(leaf.shape)
            for data, leaf in zip(received, leaves, strict=True)
        ],
    )


def tell(channel: str, name: str, value: Any) -> None:
    """Leave a note for all processes; only the first of a name counts."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # told already, or nobody is left
        _client().key_value_set(f"{_ROOT}/{channel}/{name}", json.dumps(value))


def told(channel: str) -> dict[str, Any]:
    """The notes that processes have left, by name."""
    try:
        found = _client().key_value_dir_get(f"{_ROOT}/{channel}/")
    except jax.errors.JaxRuntimeError:
        return {}
    return {key.rpartition("/")[2]: json.loads(value) for key, value in found}


def linger(channel: str, seconds: float = LINGER) -> None:
    """In process 0, which serves the notes, wait until all have left one in the channel, and end.

    JAX aborts a process that loses process 0, with a page of text.
    """
    if jax.process_index():
        return
    end = time.monotonic() + seconds
    while len(told(channel)) < jax.process_count() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)


def say(line: str) -> None:
    """Print a remark for the user on stderr, in process 0."""
    if jax.process_index() == 0:
        terminal.say(line)


def on_host(tree: Any) -> Any:
    """The arrays of a replicated state as NumPy arrays of this process."""
    return jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
