"""One process per implementation: it works when asked, and waits on a pipe while others do.

In one process the frameworks would share an allocator and their thread pools' settings, and one's
threads may spin for a while after its work is done, on the cores that the other is timed on.
"""

import contextlib
import math
import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from musegan_jax.config import Config
from musegan_jax.errors import UserError


def _make(name: str, config: Config, rolls: Any) -> Any:
    if name == "ours":
        from peers.ours import Ours

        return Ours(config)
    if name == "keras":
        from peers.keras_peer import KerasPeer

        return KerasPeer(config, rolls)
    from peers.torch_peer import TorchPeer

    return TorchPeer(config, rolls, compiled=name == "torch")


def _timed(target: Any, iterations: int) -> dict[str, float]:
    """Seconds per iteration, by the clock and of all threads' work."""
    begin, cpu = time.perf_counter(), time.process_time()
    losses = target.run(iterations)
    seconds = {
        "wall_s": (time.perf_counter() - begin) / iterations,
        "cpu_s": (time.process_time() - cpu) / iterations,
    }
    if not all(map(math.isfinite, losses)):
        raise UserError(f"the losses are {losses}: a run that diverged is no measurement")
    return seconds


def _serve(connection: Connection, name: str, config: Config, rolls: Any) -> None:
    try:
        target = _make(name, config, rolls)
        while (request := connection.recv()) is not None:
            method, arguments = request
            if method == "time":
                answer = _timed(target, *arguments)
            else:
                answer = getattr(target, method)(*arguments)
            connection.send((True, answer))
    except UserError as error:
        connection.send((False, str(error)))
    except EOFError:  # whoever asked is gone
        return
    except Exception:
        with contextlib.suppress(OSError):  # unless whoever asked is gone
            connection.send((False, traceback.format_exc()))


class Worker:
    """An implementation in its own process; `name` is ours, keras or torch."""

    def __init__(self, name: str, config: Config, rolls: Any = None):
        """Start the process; `rolls` `(N, T, P, K)` are a peer's training data."""
        self.name = name
        # Two implementations share a GPU; JAX alone would take three quarters of its memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
        # PyTorch's threads spin while they wait for one another. Where something else runs on one
        # of the cores, that costs a time slice per operation: up to fifty times the time.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # A compilation is to be timed, not found on the disk.
        os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, name, config, rolls), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method there and wait for what it returns; `time` runs and times iterations.

        Raises:
            UserError: if it fails or the process ends.
        """
        try:
            self._connection.send((method, arguments))
            fine, answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            raise UserError(f"{self.name}: its process ended with status {code}") from None
        if not fine:
            raise UserError(f"{self.name}: {answer}")
        return answer

    def stop(self) -> None:
        """Let the process end."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(timeout=10)
        self._process.kill()
        self._process.join()
