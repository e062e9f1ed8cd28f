"""Starting the processes of one run. Nothing here imports JAX before it is needed."""

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator

from musegan_jax.errors import UserError, first_line

# A lost process must end the others soon, and a slow one must not.
HEARTBEAT_SECONDS = 30

# Reads lines of its standard input until that ends; then, unless the last one was "end", the
# process that wrote them died without a word, and this says the last of them instead.
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

    JAX ends a process that loses the others, or cannot find them, from within, with an abort that
    Python does not see; a small process beside this one then tells the person what happened.

    Args:
        coordinator: HOST:PORT of process 0; None on Cloud TPU, SLURM and Kubernetes, where JAX
            finds out all three by itself.
        processes: how many.
        process_id: which this is, from 0.

    Raises:
        UserError: if that cannot be.
    """
    given = [value is not None for value in (coordinator, processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --processes and --process-id belong together: give all three, or none "
            "where a cluster (Cloud TPU, SLURM, Kubernetes) tells JAX"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator {coordinator}: it must be HOST:PORT of process 0")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise UserError(f"--process-id must be from 0 to {processes - 1}")
    import jax

    with _watched() as say:
        where = coordinator or "the coordinator that the cluster names"
        say(
            f"this process could not join the run at {where}; is process 0 running there, is its "
            "port free, and are all processes started?"
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
            f"{who}: ended because another process of the run was lost, or was killed itself; "
            "start all of them again: the run goes on from its newest checkpoint"
        )
        try:
            yield
        except (UserError, OSError, KeyboardInterrupt):
            raise
        except BaseException:
            # An orderly exit would wait for the others, and they for this one.
            traceback.print_exc()
            say("end")
            os._exit(1)


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[str], None]]:
    # A session of its own, or Ctrl-C would reach it too.
    watch = subprocess.Popen(
        [sys.executable, "-c", _WATCH], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    pipe = watch.stdin
    assert pipe is not None

    def say(line: str) -> None:
        # Whoever watches may be gone; the training is worth more.
        with contextlib.suppress(OSError):
            pipe.write(line + "\n")
            pipe.flush()

    try:
        yield say
    finally:
        say("end")
        with contextlib.suppress(OSError):
            pipe.close()
        watch.wait()
