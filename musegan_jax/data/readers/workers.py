"""Work on many items in processes of their own, each item within a time and a size of memory.

Not `concurrent.futures`: there, one process that is ended breaks the pool, and loses the rest.
"""

import contextlib
import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from musegan_jax.errors import UserError

try:
    import resource
except ImportError:  # Windows, where items are not bounded
    resource = None

AHEAD = 8  # batches for each worker that may wait for one before them: bounds the memory
READY = "ready"  # the first that a worker sends
PATIENCE = 10  # a worker that computes nothing is given so many times the seconds


class Ended(NamedTuple):
    """In place of a result: why the item has none."""

    reason: str


class _Worker:
    """A process, and the batch that it works on."""

    def __init__(self, function: Callable[[Any], Any], seconds: int, memory: int) -> None:
        # Not forked: JAX's threads would not be in the copy, and their locks would.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, function, seconds, memory)
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that its end is heard of
        self.number: int | None = None
        self.items: Sequence[Any] = ()
        self.results: list[Any] = []
        self.ready = False  # whether it has started
        self.fresh = True  # whether the item that it works on is its first
        self.again = False  # whether another worker was ended by this item

    def give(
        self, number: int, items: Sequence[Any], results: list[Any], again: bool = False
    ) -> None:
        """Hand over a batch of which some results are known; it may be ended already."""
        self.number, self.items, self.results = number, items, results
        self.again = again
        with contextlib.suppress(OSError):
            self.connection.send(items[len(results) :])

    def hear(self) -> bool:
        """Take what it sent; returns whether it goes on.

        Raises:
            EOFError, OSError: if it has ended, as `Connection.recv`.
        """
        heard = self.connection.recv()
        if not self.ready:
            self.ready = True
        elif isinstance(heard, Ended):  # out of memory, and it ends
            return False
        else:
            self.results.append(heard)
            self.fresh = self.again = False
        return True

    def end(self) -> int | None:
        """End the process; returns its exit status."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def each(
    function: Callable[[Any], Any],
    batches: Sequence[Sequence[Any]],
    workers: int,
    seconds: int,
    memory: int,
) -> Generator[list[Any], None, None]:
    """The results of a function for the items of each batch, in order.

    Args:
        function: of a module, or a `functools.partial` of one; raises `MemoryError` at most.
        batches: of items.
        workers: processes.
        seconds: of a processor that an item may take.
        memory: bytes by which a process may grow.

    Yields:
        For each batch a list with a result, or `Ended`, for each item.

    Raises:
        UserError: if a process cannot start: that is of no item.
    """
    waiting = deque(enumerate(batches))
    done: dict[int, list[Any]] = {}
    team: list[_Worker] = []
    following = 0
    try:
        while following < len(batches):
            while len(team) < min(workers, len(waiting) + len(team)):
                team.append(_Worker(function, seconds, memory))
            for worker in team:
                near = waiting and waiting[0][0] < following + AHEAD * workers
                if worker.number is None and near:
                    worker.give(*waiting.popleft(), [])
            busy = {worker.connection: worker for worker in team if worker.number is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    full = not worker.hear()
                except (EOFError, OSError):
                    full = None
                if full is not False:
                    team.remove(worker)
                    team.append(_after(worker, bool(full), function, seconds, memory))
                    worker = team[-1]
                if worker.number is not None and len(worker.results) == len(worker.items):
                    done[worker.number], worker.number = worker.results, None
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        for worker in team:
            worker.end()


def _after(worker: _Worker, full: bool, function: Callable, seconds: int, memory: int) -> _Worker:
    """A new worker in place of one that ended; `full`: as it was out of memory.

    It goes on after the item that ended the old one. It takes that once more if the cause may have
    been another: the machine's memory, or what the old one kept of the items before.
    """
    # One that was killed by its own alarm has ended; `end` then changes nothing.
    worker.process.join(timeout=10)
    status = worker.end()
    killed = signal.Signals(-status).name if status is not None and status < 0 else None
    how = f"was ended by {killed}" if killed else f"ended with status {status}"
    if not worker.ready:
        raise UserError(
            f"a process that reads files {how} before it could start; what it printed says why"
        )
    reason = f"its reader {how}"
    if full:
        reason = f"takes more than {memory >> 20} MiB of memory"
    elif killed in ("SIGPROF", "SIGALRM"):
        reason = f"takes more than {seconds} s"
    again = not worker.again and (not worker.fresh if full else killed == "SIGKILL")
    results = worker.results if again else [*worker.results, Ended(reason)]
    new = _Worker(function, seconds, memory)
    new.give(worker.number or 0, worker.items, results, again)
    return new


def _work(connection: Connection, function: Callable, seconds: int, memory: int) -> None:
    """In the worker: batches of items come, and a result for each goes back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends
    gc.freeze()  # else every search for garbage goes through all imports: an eighth of the time
    if resource is not None:
        _bound(memory)
    # Without its parent, the connection ends.
    with contextlib.suppress(EOFError, OSError):
        connection.send(READY)
        while True:
            for item in connection.recv():
                full = False
                try:
                    connection.send(_one(function, item, seconds))
                except MemoryError:
                    full = True
                if full:  # what fills it may be kept: another worker goes on
                    connection.send(Ended("out of memory"))
                    return


def _one(function: Callable, item: Any, seconds: int) -> Any:
    if resource is not None:
        # Their signals end the process, whatever it is in; the parent goes on with the next item.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        return function(item)
    finally:
        if resource is not None:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _bound(memory: int) -> None:
    """Let this process grow by so many bytes; what it has, threads above all, is not counted."""
    assert resource is not None
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere than on Linux the limit is not honoured
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmData"))
        most = 1024 * int(line.split()[1]) + memory
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
