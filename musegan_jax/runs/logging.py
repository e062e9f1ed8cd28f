"""Logging of a run: scalars to files, progress to stderr. Only process 0 writes."""

import contextlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from musegan_jax import files
from musegan_jax.config import Config
from musegan_jax.errors import UserError
from musegan_jax.runs.peaks import minimum
from musegan_jax.runs.timing import Clock, Meter
from musegan_jax.terminal import say

LINES_EVERY = 30.0  # seconds between progress lines where there is no terminal


class Log:
    """The log of a run: `metrics.jsonl`, `fingerprints.jsonl`, TensorBoard, and a progress bar.

    In other processes than 0 it only checks that losses and norms are finite.
    """

    def __init__(
        self, config: Config, workdir: epath.Path, iteration: int, clock: Clock, kinds: list[str]
    ) -> None:
        """Continue after `iteration`; drop what a killed run logged beyond it.

        Args:
            config: of the run.
            workdir: of the run.
            iteration: finished before.
            clock: of the run.
            kinds: JAX's name for each of its devices.
        """
        self._every, self._last = config.output.log_every, config.training.iterations
        self._clock = clock
        self._primary = jax.process_index() == 0
        if not self._primary:
            return
        batch, updates = config.training.batch_size, config.training.critic_updates + 1
        flops = batch * minimum(config)["iteration"]
        self._meter = Meter(clock, batch * updates, flops, kinds)
        self._progress = TrainingProgress(self._last, iteration, clock)
        self._scalars = JsonLines(workdir / "metrics.jsonl", iteration, self.say)
        self._fingerprints = JsonLines(workdir / "fingerprints.jsonl", iteration, self.say)
        self._board = _tensorboard(workdir / "tensorboard", iteration, self.say)

    def say(self, text: str) -> None:
        """Print a line for the user."""
        if self._primary:
            self._progress.say(text)

    def step(self, iteration: int, metrics: Any) -> None:
        """Report the step that led to `iteration`, waiting for its metrics.

        Raises:
            UserError: if a loss or norm is not finite.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise UserError(
                    f"iteration {iteration}: {name} is {value}; the run was stopped, its last "
                    "checkpoint is earlier. Lower training.generator_learning_rate and "
                    "training.critic_learning_rate, or use another training.seed, in a new "
                    "workdir"
                )
        if not self._primary:
            return
        if iteration % self._every == 0 or iteration == self._last:
            measured = self._meter.read()
            seconds = {"seconds": round(self._clock.seconds, 3)}
            self.scalars(iteration, {**seconds, **values, **measured})
            self._progress.measured(measured)
        self._progress.update(iteration, values)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write scalars of the state after `iteration` iterations."""
        if self._primary and values and self._scalars.write({"iteration": iteration, **values}):
            for name, value in values.items() if self._board else ():
                self._board.add_scalar(name, value, iteration)

    def saved(self, iteration: int, fingerprint: Mapping[str, str]) -> None:
        """Write the fingerprint of a saved state."""
        if self._primary:
            self._fingerprints.write({"iteration": iteration, **fingerprint})

    def publish(self) -> None:
        """Copy what was logged since the last call to remote files; any thread may call this."""
        if self._primary:
            self._scalars.publish()
            self._fingerprints.publish()

    def curves(self, path: epath.Path) -> None:
        """Draw all scalars so far into a PNG."""
        if self._primary:
            from musegan_jax.rendering import plots

            plots.curves(self._scalars.local, path)

    def close(self) -> None:
        """Close the files and the progress bar."""
        if not self._primary:
            return
        self._progress.close()
        # A full disk has already failed an earlier write; report that error, not this one.
        for each in (self._scalars, self._fingerprints, self._board):
            with contextlib.suppress(OSError):
                if each:
                    each.close()


class JsonLines:
    """A file with one JSON object per line, each with an `iteration`.

    Remote files cannot be appended to: for a remote workdir lines go to a local file, and `publish`
    copies new ones into pieces beside the remote file, named as it is with a number. `close`, or
    the next start, joins them.
    """

    def __init__(self, path: epath.Path, iteration: int, say: Callable[[str], None]) -> None:
        """Open for appending after `iteration`; drop later lines.

        A log never keeps a run from going on: what is damaged is kept in the folder `damaged`, and
        `say` is called with a line that says so.
        """
        if path.exists() and not path.is_file():
            say(f"{path}: not a file; moved to {files.set_aside(path, path.parent)}")
        lines, damaged = _parse(path)
        kept = [line for line in lines if line["iteration"] <= iteration]
        if damaged:
            copy = files.make_folder(path.parent / files.DAMAGED) / path.name
            earlier = copy.read_bytes() if copy.exists() else b""
            with files.replacing(copy) as temporary:
                temporary.write_bytes(earlier + b"".join(text + b"\n" for text in damaged))
            say(f"{path}: damaged lines ({len(damaged)}) were moved to {copy}")
        self._path = path
        self._folder = None
        self.local = Path(path)
        if files.is_remote(path):
            self._folder = tempfile.TemporaryDirectory()
            self.local = Path(self._folder.name) / path.name
        with files.replacing(self.local) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._published, self._pieces = self.local.stat().st_size, 0
        if self._folder is not None:
            self._join()
        # A resumed run samples and saves the state it resumes from again: the same lines.
        self._first = iteration
        self._known = [line for line in kept if line["iteration"] == iteration]
        self._file = open(self.local, "a", encoding="utf-8", buffering=1)

    def write(self, values: Mapping[str, Any]) -> bool:
        """Append a line unless the file already has it; return whether it was appended."""
        if values["iteration"] == self._first:
            if values in self._known:
                return False
            self._known.append(dict(values))
        self._file.write(json.dumps(values) + "\n")
        return True

    def publish(self) -> None:
        """Copy the lines since the last call into a new piece, if the path is remote."""
        if self._folder is None:
            return
        with open(self.local, "rb") as file:
            file.seek(self._published)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]  # the last may be being written
        if lines:
            self._pieces += 1
            _piece(self._path, self._pieces).write_bytes(lines)
            self._published += len(lines)

    def close(self) -> None:
        """Publish all and close."""
        self._file.close()
        if self._folder is not None:
            self._join()
            self._folder.cleanup()

    def _join(self) -> None:
        """Write the remote file whole, then remove its pieces: never is a line in neither."""
        self._path.write_bytes(self.local.read_bytes())
        for piece in pieces(self._path):
            piece.unlink()


def pieces(path: epath.Path) -> list[epath.Path]:
    """What `publish` has written beside a log, in order."""
    found = {each.stem[len(path.stem) + 1 :] for each in path.parent.glob(f"{path.stem}-*")}
    # Exactly as `_piece` names them: they are removed, and a file of the user's must not be.
    numbers = {int(each) for each in found if each.isdecimal() and len(each) == 6}
    number = max(numbers, default=0)
    # Newer ones by their names: a listing may be older than they.
    while _piece(path, number := number + 1).exists():
        numbers.add(number)
    return [_piece(path, number) for number in sorted(numbers)]


def _piece(path: epath.Path, number: int) -> epath.Path:
    return path.parent / f"{path.stem}-{number:06d}{path.suffix}"


def read_lines(path: epath.Path) -> list[dict[str, Any]]:
    """The objects of a file of `JsonLines`; none if there is no file. Damaged lines are skipped."""
    return _parse(path)[0]


def _parse(path: epath.Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The objects of the lines, and the lines that are damaged."""
    found, damaged = [], []
    content = path.read_bytes() if path.is_file() else b""
    *texts, last = content.split(b"\n")
    if files.is_remote(path):  # a kill between joining and removing leaves lines in both
        more = b"".join(piece.read_bytes() for piece in pieces(path))
        texts = list(dict.fromkeys([*texts, *more.split(b"\n")]))
    for text in (*texts, last):
        line = parse_line(text)
        if line is not None:
            found.append(line)
        elif text and text is not last:  # a killed process leaves the last line incomplete
            damaged.append(text)
    return found, damaged


def parse_line(text: bytes) -> dict[str, Any] | None:
    """The object of a line of a log; None if it is damaged."""
    try:
        line = json.loads(text.decode())
    # Nesting too deep is a RecursionError; numbers of thousands of digits are ValueErrors.
    except (ValueError, RecursionError):
        return None
    return line if _is_line(line) else None


def _is_line(line: Any) -> bool:
    """Whether this can be a line of a log: an iteration, and numbers or text that we write."""

    def plain(value: Any) -> bool:
        if isinstance(value, str):
            return len(value) < 1000
        return type(value) in (int, float) and abs(value) < 1e39  # float32's; NaN is not below

    if not isinstance(line, dict) or not all(map(plain, line.values())):
        return False
    iteration = line.get("iteration")
    return type(iteration) is int and 0 <= iteration < 2**31


def _tensorboard(folder: epath.Path, iteration: int, say: Callable[[str], None]) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    # The writer appends, which is impossible for remote files.
    if files.is_remote(folder):
        return None
    try:
        return SummaryWriter(str(folder), purge_step=iteration + 1)
    except OSError as error:
        say(f"{folder}: cannot be written ({error.strerror or error}); the run goes on without")
        return None


class TrainingProgress:
    """Rates, losses and time left: as a bar on a terminal, otherwise as occasional lines."""

    def __init__(self, total: int, done: int, clock: Clock) -> None:
        """Begin at `done` of `total` iterations."""
        self._total, self._clock = total, clock
        self._measured: Mapping[str, float] = {}
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

    def measured(self, values: Mapping[str, float]) -> None:
        """Show this throughput (`timing.MEASURED`) from now on."""
        self._measured = values

    def update(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Show the state after `iteration` finished iterations."""
        rate = self._clock.rate
        left = (self._total - iteration) / rate if rate > 0 else 0.0
        self._losses = (
            f"{rate:.2f} it/s {self._throughput()}"
            f"C {metrics['critic_loss']:.2f} G {metrics['generator_loss']:.2f} "
            f"{_clock_time(left)} left"
        )
        if self._bar is not None:
            self._bar.set_description_str(self._losses, refresh=False)
            self._bar.update(iteration - self._bar.n)
        elif time.monotonic() - self._last_line >= LINES_EVERY:
            self._last_line = time.monotonic()
            self.say(f"{iteration}/{self._total}  {self._losses}")

    def _throughput(self) -> str:
        if not self._measured:
            return ""
        mfu = self._measured.get("mfu")
        examples = f"{self._measured['examples_per_second']:.0f} ex/s "
        return examples + (f"MFU {mfu:.0%} " if mfu else f"{self._measured['tflops']:.2g} TFLOP/s ")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        say(text)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
