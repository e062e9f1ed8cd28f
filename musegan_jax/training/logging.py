"""Scalars to JSON lines and TensorBoard; progress for the person who waits."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from musegan_jax import files
from musegan_jax.training.timing import Clock

LINES_EVERY = 30.0  # seconds between progress lines where there is no terminal


class Scalars:
    """Appends to `metrics.jsonl` of a workdir, and to TensorBoard where the extra is installed.

    One JSON object a line: `iteration`, then the scalars known at it.
    """

    def __init__(self, workdir: Path, iteration: int) -> None:
        """Go on after `iteration`: what a killed run had logged beyond it is dropped."""
        self.path = workdir / "metrics.jsonl"
        kept = []
        if self.path.exists():
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if _is_until(line, iteration)]
        with files.replacing(self.path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept))
        # A resumed run samples again the state that it resumes from: the same line a second time.
        self._known = {line for line in kept if json.loads(line)["iteration"] == iteration}
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(workdir / "tensorboard", iteration)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write the scalars that belong to `iteration` finished iterations."""
        line = json.dumps({"iteration": iteration, **values})
        if line in self._known:
            return
        self._file.write(line + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Close the files.

        What a full disk refuses now it has refused before: that error is the one to be heard.
        """
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()


def _is_until(line: str, iteration: int) -> bool:
    try:
        return json.loads(line)["iteration"] <= iteration
    except (ValueError, KeyError, TypeError):
        return False  # a line that a killed process left half-written


def _tensorboard(folder: Path, iteration: int):  # noqa: ANN202 - the type is an optional package's
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=iteration + 1)


class Progress:
    """A bar on a terminal, else a line now and then: rates, losses and time left."""

    def __init__(self, total: int, done: int, samples: int, clock: Clock) -> None:
        """Begin at `done` of `total` iterations, of `samples` examples each (all updates)."""
        self._total, self._samples, self._clock = total, samples, clock
        self._losses = "compiling"
        self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=done,
                dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {desc}",
            )
            self._bar.set_description_str(self._losses)

    def update(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Show the state after `iteration` finished iterations."""
        rate = self._clock.rate
        left = (self._total - iteration) / rate if rate > 0 else 0.0
        self._losses = (
            f"{rate:.2f} it/s {rate * self._samples:.0f} samples/s "
            f"C {metrics['critic_loss']:.2f} G {metrics['generator_loss']:.2f} "
            f"{_clock_time(left)} left"
        )
        if self._bar is not None:
            self._bar.set_description_str(self._losses, refresh=False)
            self._bar.update(iteration - self._bar.n)
        elif time.monotonic() - self._last_line >= LINES_EVERY:
            self._last_line = time.monotonic()
            self.say(f"{iteration}/{self._total}  {self._losses}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
