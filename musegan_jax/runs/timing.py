"""Training time, without saving and sampling."""

import time


class Clock:
    """Training seconds and iterations, across restarts; runs only between `start` and `stop`.

    Call `stop` after the device has finished; otherwise queued work is not counted.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """Continue from the `seconds` of earlier sessions."""
        self.before = seconds
        self.iterations = 0
        self._session = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Start; no effect if already running."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Pause; no effect if already paused."""
        self._session = self._running()
        self._since = None

    def _running(self) -> float:
        since = self._since
        return self._session + (0.0 if since is None else time.perf_counter() - since)

    @property
    def seconds(self) -> float:
        """Training seconds of this and earlier sessions."""
        return self.before + self._running()

    @property
    def rate(self) -> float:
        """Iterations per second in this session; 0 before the first."""
        elapsed = self._running()
        return self.iterations / elapsed if elapsed > 0 else 0.0
