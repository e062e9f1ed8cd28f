"""Work on many items in processes of their own, each item within a time and a size of memory.

Not `concurrent.futures`: there, one process that is ended breaks the pool, and loses the rest.
"""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # Windows, where items are not bounded
    resource = None

AHEAD = 8  # batches for each worker that may wait for one before them: bounds the memory
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

    def give(self, number: int, items: Sequence[Any], results: list[Any]) -> None:
        """Hand over a batch of which some results are known; it may be ended already."""
        self.number, self.items, self.results = number, items, results
        with contextlib.suppress(OSError):
            self.connection.send(items[len(results) :])

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
        function: of a module, or a `functools.partial` of one; raises nothing.
        batches: of items.
        workers: processes.
        seconds: of a processor that an item may take.
        memory: bytes by which a process may grow.

    Yields:
        For each batch a list with a result, or `Ended`, for each item.
    """
    waiting = deque(enumerate(batches))
    done: dict[int, list[Any]] = {}
    team: list[_Worker] = []
    following = 0
    try:
        while following < len(batches):
            while len(team) < min(workers, len(waiting) + len(team)) and len(team) < workers:
                team.append(_Worker(function, seconds, memory))
            for worker in team:
                near = waiting and waiting[0][0] < following + AHEAD * workers
                if worker.number is None and near:
                    worker.give(*waiting.popleft(), [])
            busy = {worker.connection: worker for worker in team if worker.number is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    worker.results.append(worker.connection.recv())
                except (EOFError, OSError):
                    team.remove(worker)
                    team.append(_after(worker, function, seconds, memory))
                    worker = team[-1]
                if worker.number is not None and len(worker.results) == len(worker.items):
                    done[worker.number], worker.number = worker.results, None
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        for worker in team:
            worker.end()


def _after(worker: _Worker, function: Callable, seconds: int, memory: int) -> _Worker:
    """A new worker in place of one that ended, which goes on after the item that ended it."""
    # One that was killed by its own alarm has ended; `end` then changes nothing.
    worker.process.join(timeout=10)
    status = worker.end()
    new = _Worker(function, seconds, memory)
    reason = f"its reader ended with status {status}"
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        late = -status in (signal.SIGPROF, signal.SIGALRM)
        reason = f"takes more than {seconds} s" if late else f"its reader was ended by {name}"
    new.give(worker.number or 0, worker.items, [*worker.results, Ended(reason)])
    return new


def _work(connection: Connection, function: Callable, seconds: int, memory: int) -> None:
    """In the worker: batches of items come, and a result for each goes back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends
    if resource is not None:
        _bound(memory)
    # Without its parent, the connection ends.
    with contextlib.suppress(EOFError, OSError):
        while True:
            for item in connection.recv():
                connection.send(_one(function, item, seconds, memory))


def _one(function: Callable, item: Any, seconds: int, memory: int) -> Any:
    if resource is not None:
        # Their signals end the process, whatever it is in; the parent goes on with the next item.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        return function(item)
    except MemoryError:
        return Ended(f"takes more than {memory >> 20} MiB of memory")
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
