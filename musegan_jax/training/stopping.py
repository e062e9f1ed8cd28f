"""Stop requests: the run saves, and all its processes stop at the same iteration."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

Stop = Callable[[int], str | None]


@contextlib.contextmanager
def stop_requests() -> Iterator[Stop]:
    """Yield `stop(iteration)`: the signal that requests a stop, or None.

    Call it once before every iteration. One process: SIGINT, SIGTERM or SIGHUP (a closed terminal);
    a second signal interrupts at once. Several processes: a SIGTERM to any of them, or a preemption
    notice. JAX's coordination service catches it and makes all stop at one iteration; otherwise the
    first to leave would leave the others waiting in a sum over devices. The other two signals are
    forwarded as SIGTERM.
    """
    caught: list[str] = []
    old: dict[signal.Signals, Any] = {}
    several = jax.process_count() > 1

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(iteration: int) -> str | None:
        if not several:
            return caught[0] if caught else None
        reached = multihost_utils.reached_preemption_sync_point(iteration)
        return "SIGTERM" if reached else None

    # Signal handlers can be set in the main thread only; elsewhere there are no stop requests.
    with contextlib.suppress(ValueError):
        for number in _SIGNALS:
            # `nohup` ignores SIGHUP on purpose; with several processes JAX itself handles SIGTERM.
            taken = several and number == signal.SIGTERM
            if not taken and signal.getsignal(number) != signal.SIG_IGN:
                old[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
