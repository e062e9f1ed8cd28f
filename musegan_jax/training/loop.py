"""`train`: the loop, in a fixed order."""

import contextlib
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from musegan_jax import compose, files, rng
from musegan_jax.config import Config
from musegan_jax.data import batches, chorales, dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import metrics as music
from musegan_jax.training import parallel, record
from musegan_jax.training.checkpoint import Checkpoints
from musegan_jax.training.logging import Progress, Scalars
from musegan_jax.training.state import TrainState, inference_variables
from musegan_jax.training.timing import Clock


def load_dataset(name_or_path: str) -> dataset.Dataset:
    """The dataset that a config names: a built-in source, or a file of `data build`.

    Raises:
        UserError: if it cannot be had.
    """
    if name_or_path == "chorales":
        return chorales.read_chorales()[0]
    return dataset.load(name_or_path)


def train(config: Config, workdir: str | Path) -> list[Path]:
    """Train, or go on training, the run in `workdir` until `config.training.iterations`.

    The order within an iteration is fixed: sample and save the state as it is -> step -> read the
    metrics of the step before, so that the device never waits for the host. A resumed run
    re-enters at the saved state, before sampling, and so computes the same numbers.

    Args:
        config: the run.
        workdir: folder of the run; created, or continued if it holds one.

    Returns:
        The files of the last samples; empty if SIGINT or SIGTERM ended the run before its end.

    Raises:
        UserError: for whatever the user can mend; also when a loss or norm is not finite.
    """
    workdir = Path(workdir)
    data = load_dataset(config.data.dataset)
    windows = batches.make_windows(data, config)
    new = record.make(config, data)
    listeners = _listeners(config, new)
    files.make_folder(workdir)
    old = record.read(workdir)
    checkpoints = Checkpoints(workdir, config.output.keep_checkpoints)
    if old is not None:
        record.check_same(workdir, old, new)
    elif checkpoints.latest is not None:
        raise UserError(
            f"{workdir}: it has checkpoints but no {record.FILE}; use another --workdir"
        )
    # Decide where to begin: the newest checkpoint of this workdir, else from the seed.
    if checkpoints.latest is not None:
        state, seconds = checkpoints.restore(parallel.abstract_state(config))
    else:
        state, seconds = parallel.initial_state(config), 0.0
    record.write(workdir, {**new, "started": (old or new)["started"]})
    try:
        return _loop(config, workdir, checkpoints, listeners, windows, state, seconds)
    finally:
        checkpoints.close()


def _loop(
    config: Config,
    workdir: Path,
    checkpoints: Checkpoints,
    listeners: "_Listeners",
    windows: batches.Windows,
    state: TrainState,
    seconds: float,
) -> list[Path]:
    first = iteration = int(state.step)
    last = config.training.iterations
    clock = Clock(seconds)
    scalars = Scalars(workdir, first)
    samples = config.training.batch_size * (config.training.critic_updates + 1)
    progress = Progress(last, first, samples, clock)
    progress.say(_opening(config, workdir, windows, first))
    windows, root = parallel.place(windows), rng.root_key(config.training.seed)
    every = config.output
    written: list[Path] = []
    pending: Any = None  # metrics still on the device, of the step that led to `iteration`

    def settle() -> None:
        """Wait for the device; from here on `state` is known to be finite."""
        nonlocal pending
        jax.block_until_ready(state)
        clock.stop()
        if pending is not None:
            _report(config, iteration, pending, clock, scalars, progress)
            pending = None

    with _stop_signal() as stopped, contextlib.closing(scalars), contextlib.closing(progress):
        step = parallel.compile_step(config, state, windows, root) if first < last else None
        while True:
            ends = iteration >= last or bool(stopped)
            # Who stops a run waits for it: saving comes at once, the samples when it goes on.
            if not stopped and (ends or _due(iteration, every.sample_every)):
                settle()
                written = _sample(listeners, state, iteration, workdir, scalars)
            if ends or (iteration > first and _due(iteration, every.save_every)):
                settle()
                checkpoints.save(iteration, state, clock.seconds)
            if ends:
                break
            clock.start()
            assert step is not None
            # Anything that slips from host to device here would stall every iteration.
            with jax.transfer_guard("disallow"):
                state, metrics = step(state, windows, root)
            if pending is not None:
                _report(config, iteration, pending, clock, scalars, progress)
            pending = metrics
            iteration += 1
            clock.iterations += 1
        checkpoints.wait()
    _finish(workdir, scalars, progress, iteration, last, clock, stopped)
    return [] if stopped else written


def _opening(config: Config, workdir: Path, windows: batches.Windows, first: int) -> str:
    what = f"{len(windows.starts)} windows, {jax.devices()[0].device_kind}"
    goal = f"{config.training.iterations} iterations"
    if first >= config.training.iterations:
        return f"{workdir}: {first} of {goal} are done already"
    if first:
        return f"{workdir}: going on from iteration {first} to {goal} ({what})"
    return f"{workdir}: {goal} from the start ({what})"


def _finish(
    workdir: Path,
    scalars: Scalars,
    progress: Progress,
    iteration: int,
    last: int,
    clock: Clock,
    stopped: list[str],
) -> None:
    from musegan_jax.rendering import plots

    plots.curves(scalars.path, workdir / "curves.png")
    if stopped:
        progress.say(
            f"{stopped[0]}: stopped at iteration {iteration} of {last} and saved; "
            "the same command goes on from here"
        )
    else:
        progress.say(f"{iteration} iterations, {clock.seconds:.0f} s of training")


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _report(
    config: Config, iteration: int, metrics: Any, clock: Clock, scalars: Scalars, progress: Progress
) -> None:
    """Read one step's metrics, refuse what is not finite, log the rest.

    Raises:
        UserError: if a loss or norm is not finite.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"iteration {iteration}: {name} is {value}; the run was stopped and its last "
                "checkpoint is from before. Lower training.generator_learning_rate and "
                "training.critic_learning_rate, or use another training.seed, in a new --workdir"
            )
    progress.update(iteration, values)
    if iteration % config.output.log_every == 0 or iteration == config.training.iterations:
        scalars.write(iteration, {"seconds": round(clock.seconds, 3), **values})


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[str]]:
    """A list that gets the signal's name when SIGINT or SIGTERM comes; a second one is not held.

    Python runs handlers in the main thread only; elsewhere the list stays empty.
    """
    caught: list[str] = []
    old: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)

    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, handle)
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Listeners(NamedTuple):
    """The fixed melodies, accompanied again and again while the network learns."""

    model: compose.Model  # without variables
    melodies: dict[str, compose.Melody]  # by the name their files get


def _listeners(config: Config, run: dict[str, Any]) -> _Listeners:
    """Read and prepare the melodies.

    Raises:
        UserError: if one cannot be read or does not fit the model.
    """
    model = record.model(run, None)
    melodies = {}
    for name in config.output.melodies:
        score = compose.load_melody(name)
        if Path(name).stem in melodies:
            raise UserError(
                f"config: output.melodies: two are called {Path(name).stem}, and their samples "
                "would be; rename one"
            )
        melodies[Path(name).stem] = compose.prepare(
            score, compose.pick_part(score, None, name), model
        )
    return _Listeners(model, melodies)


def _sample(
    listeners: _Listeners, state: TrainState, iteration: int, workdir: Path, scalars: Scalars
) -> list[Path]:
    """Accompany the fixed melodies; write songs, and the means of their measures as scalars."""
    model = listeners.model._replace(variables=inference_variables(state))
    folder = files.make_folder(workdir / "samples" / f"{iteration:06d}")
    written: list[Path] = []
    scores: list[dict[str, float]] = []
    for stem, melody in listeners.melodies.items():
        roll = compose.generate(model, melody, seed=0, sample=0)
        scores.append(music.quick_scores(*compose.voices(model, melody, roll)))
        song = compose.to_midi(model, melody, roll)
        written += compose.write_song(song, folder, stem, f"{stem}, iteration {iteration}")
    if scores:
        means = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
        scalars.write(iteration, {name: v for name, v in means.items() if math.isfinite(v)})
    return written
