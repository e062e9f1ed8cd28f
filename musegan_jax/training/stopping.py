"""Asking a run to stop: it saves first, and all of its processes stop at the same iteration."""

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
    """`stop(iteration)`: what asks the run to stop, or None; ask once before every iteration.

    One process: SIGINT, SIGTERM or SIGHUP (a closed terminal); a second one is not held. Several: a
    SIGTERM to any of them, which JAX's coordination service notices itself, as it does a notice of
    preemption; it makes all processes stop at one iteration, or the first to leave would leave the
    others hanging in a sum over devices. The other two signals are passed on as SIGTERM.
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

    # Python runs handlers in the main thread only; elsewhere nothing asks to stop.
    with contextlib.suppress(ValueError):
        for number in _SIGNALS:
            # `nohup` ignores SIGHUP on purpose; of several processes, JAX itself hears SIGTERM.
            taken = several and number == signal.SIGTERM
            if not taken and signal.getsignal(number) != signal.SIG_IGN:
                old[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
