"""How long training takes, writing and sampling not counted."""

import time


class Clock:
    """Training seconds and iterations, across restarts; runs only between `start` and `stop`.

    Call `stop` after the device has finished, or queued work is counted nowhere.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """Go on from the `seconds` of an earlier run."""
        self.before = seconds
        self.iterations = 0
        self._session = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Run; nothing happens if it runs already."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Pause; nothing happens if it is paused already."""
        self._session = self._running()
        self._since = None

    def _running(self) -> float:
        since = self._since
        return self._session + (0.0 if since is None else time.perf_counter() - since)

    @property
    def seconds(self) -> float:
        """Training seconds of this and the earlier runs."""
        return self.before + self._running()

    @property
    def rate(self) -> float:
        """Iterations per second of this run; 0 before the first."""
        elapsed = self._running()
        return self.iterations / elapsed if elapsed > 0 else 0.0
