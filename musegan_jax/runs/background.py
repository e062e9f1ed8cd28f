"""Work beside the training: one job at a time, in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any


class Background:
    """Runs one job at a time; its result and its error wait for `collect`."""

    def __init__(self, name: str) -> None:
        """Start nothing yet; `name` is of the threads."""
        self._name = name
        self._job: Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and not self._job.done()

    def start(self, job: Callable[[], Any]) -> Future[Any]:
        """Begin a job, once the result of the one before has been collected."""
        assert self._job is None
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # told by `collect`, whatever it is
                future.set_exception(error)

        self._job = future
        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future

    def settle(self, seconds: float | None) -> None:
        """Wait for a running job, at most this long; drop its result and its error."""
        if self._job is not None:
            wait([self._job], seconds)
        self._job = None

    def collect(self, wait: bool) -> Any:
        """The result of the job, once; None if there is none, or it is not ready.

        Args:
            wait: for a running job.

        Raises:
            Exception: that the job raised.
        """
        if self._job is None or not (wait or self._job.done()):
            return None
        job = self._job
        try:
            return job.result()
        finally:  # after a signal it still runs: `settle` must know of it
            if job.done():
                self._job = None
