"""Work beside the training: one job at a time, in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from musegan_jax.runs import processes


class Background:
    """Runs one job at a time; its result and its error wait for `collect`."""

    def __init__(self, name: str, say: Callable[[str], None] = processes.say) -> None:
        """Start nothing yet.

        Args:
            name: of the threads, and of what they make.
            say: called with a line when something waits long for a job.
        """
        self._name, self._say = name, say
        self._job: Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and not self._job.done()

    def start(self, job: Callable[[], Any]) -> Future[Any]:
        """Begin a job, once the result of the one before has been collected.

        Raises:
            RuntimeError: if the system has no thread left; there is no job then.
        """
        assert self._job is None
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except BaseException as error:  # told by `collect`, whatever it is
                future.set_exception(error)

        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=run, name=self._name, daemon=True).start()
        self._job = future  # not before: nobody may wait for a job that does not run
        return future

    def settle(self, seconds: float | None) -> bool:
        """Wait for a running job, at most this long; drop its result and its error.

        Returns:
            Whether none is running any more.
        """
        if self._job is None:
            return True
        self._wait(self._job, seconds)
        done, self._job = self._job.done(), None
        return done

    def collect(self, wait: bool) -> Any:
        """The result of the job, once; None if there is none, or it is not ready.

        Args:
            wait: for a running job, however long it takes, with a line now and then.

        Raises:
            Exception: that the job raised.
        """
        if self._job is None or not (wait or self._job.done()):
            return None
        job = self._job
        try:
            self._wait(job, None)
            return job.result()
        finally:  # after a signal it still runs: `settle` must know of it
            if job.done():
                self._job = None

    def _wait(self, job: "Future[Any]", seconds: float | None) -> None:
        if seconds is not None:
            wait([job], seconds)
            return
        waited, patience = 0.0, processes.PATIENCE
        while not wait([job], patience).done:
            waited, patience = waited + patience, 2 * patience
            self._say(f"waiting for the {self._name}, not done after {waited:.0f} s")
