"""A queue of jobs, done one after the other, and tasks that nobody has asked for.

All jobs have one thread, because the network and the search use all that there is of a processor.
The other tasks have another one: whoever asks while it compiles need not wait for its end.
"""

import asyncio
import collections
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from musegan_jax.errors import UserError

LONGEST = 256  # jobs that may wait
TELL = 1.0  # seconds between two messages to a job that waits
FAULT = "this is a fault of the program; the terminal shows more"


class Full(Exception):
    """There are too many jobs already."""


class Job:
    """A list of results that is still being made; `results` gives them as they come."""

    def __init__(self, work: Callable[[], Iterable[Any]]) -> None:
        """Must be made in the event loop that will read the results."""
        self.work = work
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._made: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, result: Any) -> None:
        """Hand over a result, from any thread; None after the last."""
        try:
            self._loop.call_soon_threadsafe(self._made.put_nowait, result)
        except RuntimeError:  # the server has ended
            self.cancelled = True

    async def results(self, ahead: Callable[["Job"], int]) -> AsyncIterator[Any]:
        """The results; where one is long in coming, how many jobs are before this one.

        Whoever stops listening cancels the job.
        """
        coming = asyncio.ensure_future(self._made.get())
        try:
            while True:
                # Not `wait_for`: in Python 3.11 it can lose what comes as its time runs out.
                done, _ = await asyncio.wait({coming}, timeout=TELL)
                if not done:
                    yield {"ahead": ahead(self)}
                    continue
                result = coming.result()
                if result is None:
                    return
                yield result
                coming = asyncio.ensure_future(self._made.get())
        finally:
            coming.cancel()
            self.cancelled = True


class Worker:
    """The queue with its threads."""

    def __init__(
        self, idle: Iterator[Callable[[], Any]], report: Callable[[BaseException], None]
    ) -> None:
        """Begin. Each of `idle` begins while no job waits or runs; `report` is told of faults."""
        self._waiting: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._busy = self._ended = False
        self._idle, self._report = idle, report
        self._threads = [
            threading.Thread(target=self._run, name="studio", daemon=True),
            threading.Thread(target=self._unasked, name="studio-idle", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Job:
        """Add a job.

        Raises:
            Full: if too many wait.
        """
        with self._changed:
            waiting = [each for each in self._waiting if not each.cancelled]
            if len(waiting) >= LONGEST:
                raise Full
            self._waiting = collections.deque([*waiting, job])
            self._changed.notify_all()
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs that are still wanted will be done before this one."""
        with self._changed:
            waiting = list(self._waiting)
        place = waiting.index(job) if job in waiting else 0
        return sum(not each.cancelled for each in waiting[:place])

    def end(self, seconds: float) -> bool:
        """Stop after the steps that are being done; whether that was within so many seconds."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        latest = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, latest - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _next(self) -> Job | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or self._waiting)
            if self._ended:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)

    def _unasked(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or not (self._busy or self._waiting))
                if self._ended:
                    return
            try:
                # In here, as making the next task may fail: then the one after it is taken.
                task = next(self._idle, None)
                if task is None:
                    return
                task()
            except Exception as error:
                self._report(error)

    def _do(self, job: Job) -> None:
        if job.cancelled:
            return
        try:
            for result in job.work():
                job.put(result)
                if job.cancelled or self._ended:
                    break
        except UserError as error:
            job.put({"error": str(error)})
        except Exception as error:
            self._report(error)
            job.put({"error": FAULT})
        job.put(None)
