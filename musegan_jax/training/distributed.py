"""Connecting the processes of one run. Nothing here imports JAX before it is needed."""

import atexit
import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from musegan_jax.errors import UserError, first_line

# Short, so that the others end soon after a process is lost; long enough for a slow process.
HEARTBEAT_SECONDS = 30

# Reads lines from standard input until it closes. If the last line is not "end", the process that
# wrote them died without printing an error, and this program prints that last line instead.
_WATCH = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
last = "end"
for line in sys.stdin:
    last = line.strip()
if last != "end":
    print("musegan-jax: " + last, file=sys.stderr, flush=True)
"""


@contextlib.contextmanager
def joined(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> Iterator[None]:
    """Join the other processes of the run; JAX must not have been used yet.

    If a process loses the others or cannot find them, JAX aborts it without a Python exception; a
    small watching process then prints what happened.

    Args:
        coordinator: HOST:PORT of process 0; None on Cloud TPU, SLURM and Kubernetes, where JAX
            finds all three by itself.
        processes: number of processes.
        process_id: of this one, from 0.

    Raises:
        UserError: if the arguments are inconsistent, or joining fails.
    """
    given = [value is not None for value in (coordinator, processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --processes and --process-id belong together: give all three, or none "
            "on Cloud TPU, SLURM and Kubernetes, where JAX finds them"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator {coordinator}: it must be HOST:PORT of process 0")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise UserError(f"--process-id must be from 0 to {processes - 1}")
    import jax

    # JAX would take SIGTERM for itself, and tell nobody until training asks: `stopping` listens.
    jax.config.update("jax_enable_preemption_service", False)
    with _watched() as say:
        where = coordinator or "the coordinator given by the cluster"
        say(
            f"this process could not join the run at {where}; check that process 0 runs there, its "
            "port is free, and all processes were started"
        )
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process_id,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"--distributed: cannot join the other processes ({first_line(error)}); "
                "outside a cluster give --coordinator HOST:PORT --processes N --process-id I"
            ) from error
        who = f"process {jax.process_index()} of {jax.process_count()}"
        say(
            f"{who}: it was killed, or ended because another process of the run was lost; start "
            "all of them again: the run continues from its newest checkpoint"
        )
        try:
            yield
        except (UserError, OSError):
            # The error is yet to be printed. Then JAX would wait for the others, which have heard
            # of it and are gone, and abort with a page of text when their heartbeats are missed.
            if jax.process_count() > 1:
                atexit.register(leave, 2)
            raise
        except KeyboardInterrupt:
            raise
        except BaseException:
            # A normal exit would deadlock: it waits for the others, and they wait for this process.
            traceback.print_exc()
            leave(1)


def leave(status: int) -> NoReturn:
    """End this process at once, from any thread, without waiting for the others.

    What is to be said has been said: the watching process stays silent.
    """
    for say in _watching:
        say("end")
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)


_watching: list[Callable[[str], None]] = []  # how to tell the watching process, if there is one


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[str], None]]:
    # In its own session, so that Ctrl-C does not reach it.
    watch = subprocess.Popen(
        [sys.executable, "-c", _WATCH], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    pipe = watch.stdin
    assert pipe is not None

    def say(line: str) -> None:
        # If the watching process is gone, training must continue.
        with contextlib.suppress(OSError):
            pipe.write(line + "\n")
            pipe.flush()

    _watching.append(say)
    try:
        yield say
    finally:
        _watching.remove(say)
        say("end")
        with contextlib.suppress(OSError):
            pipe.close()
        watch.wait()
