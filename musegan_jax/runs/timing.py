"""Training time, throughput, and the shares of time that the devices may have waited for."""

import contextlib
import time
from collections.abc import Iterator

from musegan_jax.runs.peaks import peak_of

# What the loop may wait for, besides the devices.
WAITS = ("input", "sample", "save")
# Scalars that are not the same when a run is repeated.
MEASURED = ("seconds", "examples_per_second", "tflops", "mfu", *(f"{n}_share" for n in WAITS))


class Clock:
    """Training seconds and iterations, across restarts; runs only between `start` and `stop`.

    Call `stop` after the device has finished; otherwise queued work is not counted.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """Continue from the `seconds` of earlier sessions."""
        self.before = seconds
        self.iterations = 0
        self.waited: dict[str, float] = dict.fromkeys(WAITS, 0.0)
        self._session = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Start; no effect if already running."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Pause; no effect if already paused."""
        self._session = self.running
        self._since = None

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time of the block as waiting for one of `WAITS`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.waited[what] += time.perf_counter() - begin

    @property
    def running(self) -> float:
        """Training seconds of this session."""
        since = self._since
        return self._session + (0.0 if since is None else time.perf_counter() - since)

    @property
    def seconds(self) -> float:
        """Training seconds of this and earlier sessions."""
        return self.before + self.running

    @property
    def rate(self) -> float:
        """Iterations per second in this session; 0 before the first."""
        elapsed = self.running
        return self.iterations / elapsed if elapsed > 0 else 0.0


class Meter:
    """Throughput since it was last read."""

    def __init__(self, clock: Clock, examples: int, flops: float, kinds: list[str]) -> None:
        """Begin now.

        Args:
            clock: of the run.
            examples: of an iteration, over all its updates.
            flops: the least operations of an iteration (`peaks.minimum`).
            kinds: JAX's name for each device of the run.
        """
        self._clock, self._examples, self._flops = clock, examples, flops
        peaks = [peak_of(kind) for kind in kinds]
        self._peak = sum(peak.flops for peak in peaks if peak) if all(peaks) else None
        self._last = self._now()

    def _now(self) -> tuple[int, float, dict[str, float]]:
        return self._clock.iterations, self._clock.running, dict(self._clock.waited)

    def read(self) -> dict[str, float]:
        """`MEASURED` but `seconds`; `mfu` only for devices whose peak is known."""
        (iterations, seconds, waited), self._last = self._last, self._now()
        iterations, seconds = self._last[0] - iterations, self._last[1] - seconds
        if iterations <= 0 or seconds <= 0:
            return {}
        rate = iterations / seconds
        found = {
            "examples_per_second": rate * self._examples,
            "tflops": rate * self._flops / 1e12,
        }
        if self._peak:
            found["mfu"] = rate * self._flops / self._peak
        for what in WAITS:
            found[f"{what}_share"] = (self._last[2][what] - waited[what]) / seconds
        return {name: float(f"{value:.4g}") for name, value in found.items()}
