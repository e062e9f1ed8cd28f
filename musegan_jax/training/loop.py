"""`train`: the training loop."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from musegan_jax import files, numerics
from musegan_jax.config import Config
from musegan_jax.data import batches, fit, sources
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs import processes, record
from musegan_jax.runs.checkpoint import Checkpoints, iterations, newest_valid
from musegan_jax.runs.fingerprint import Fingerprint
from musegan_jax.runs.logging import Log
from musegan_jax.runs.timing import Clock
from musegan_jax.training import determinism, parallel, sampling
from musegan_jax.training.state import TrainState, abstract_state
from musegan_jax.training.stopping import stop_requests


def train(config: Config, workdir: Any, data: Dataset | None = None) -> list[epath.Path] | None:
    """Start or resume the run in `workdir` and train it to `config.training.iterations`.

    All processes of a run call this, with the same arguments.

    Args:
        config: the run.
        workdir: folder of the run, local or a remote address; created if missing, resumed if it
            holds a run.
        data: what `config.data.dataset` names, if it is loaded already.

    Returns:
        In process 0 the files of the last samples, in others none; None if the run was asked to
        stop early.

    Raises:
        UserError: for everything that the user can fix; also if a loss or norm is not finite.
    """
    with numerics.pinned():
        return _train(config, workdir, data)


def _train(config: Config, workdir: Any, data: Dataset | None) -> list[epath.Path] | None:
    layout = parallel.make_layout(config)
    determinism.check(config)
    workdir = files.locate(workdir)
    data = sources.load(config.data.dataset) if data is None else data
    config = fit.for_dataset(config, data)
    windows = batches.make_windows(data, config, processes.say)
    new = record.make(config, data)
    processes.agree("the config", record.config_digest(config))
    processes.agree("the dataset", new.dataset_sha256)
    sampler = sampling.prepare_sampler(config, new.music, data)
    run = _Run(config, workdir, layout, windows, sampler, new)
    files.make_folder(run.workdir)
    alone = files.locked(run.workdir) if jax.process_index() == 0 else contextlib.nullcontext()
    try:
        with alone:
            return _resume(run)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(_explain(error)) from error


class _Run(NamedTuple):
    """What stays the same from the first iteration to the last."""

    config: Config
    workdir: epath.Path
    layout: parallel.Layout
    windows: batches.Windows
    sampler: sampling.Sampler
    record: record.Record


def _resume(run: _Run) -> list[epath.Path] | None:
    """Begin at the newest valid checkpoint of the workdir; without one, from the seed."""
    config, workdir = run.config, run.workdir
    old = None
    # A record without a checkpoint is of a run that never saved: ignore it.
    if processes.from_process_0(np.array(len(iterations(workdir)))):
        old = record.read(workdir)
        if old is None:
            raise UserError(
                f"{workdir}: it has checkpoints but no {record.FILE}; use another workdir"
            )
        record.check_same(workdir, old, run.record)
    saved = newest_valid(workdir, abstract_state(config), processes.say, set_aside=True)
    if saved is None:
        state, clock = parallel.initial_state(config, run.layout), Clock()
    else:
        state, clock = run.layout.replicate(saved.state), Clock(saved.seconds)
    first = 0 if saved is None else saved.iteration
    run = run._replace(record=run.record.begin(old, first))
    if first >= config.training.iterations and old is not None and old.result:
        # No training will follow: keep the record, but for what an earlier version did not count.
        run = run._replace(record=dataclasses.replace(old, music=run.record.music))
    with (
        Checkpoints(workdir, config.output) as checkpoints,
        contextlib.closing(Log(config, workdir, first, clock)) as log,
    ):
        _write(workdir, run.record)
        log.say(_opening(run, first))
        if old is not None and saved is not None and first < config.training.iterations:
            for line in _changes(old, run.record):
                log.say(line)
        if saved is not None:
            # The run may have been killed after the checkpoint but before this line.
            log.saved(first, saved.fingerprint)
        return _loop(run, state, clock, checkpoints, log)


def _loop(
    run: _Run, state: TrainState, clock: Clock, checkpoints: Checkpoints, log: Log
) -> list[epath.Path] | None:
    """Iterate.

    The order is fixed: sample and save the current state -> step -> read the metrics of the step
    before, so that the device never waits for the host. A resumed run enters at the saved state,
    before sampling from it, and so computes the same numbers.
    """
    config, every = run.config, run.config.output
    first = iteration = int(state.step)
    last = config.training.iterations
    feed = parallel.make_feed(config, run.layout, run.windows)
    step = None
    if first < last:
        step = parallel.compile_step(config, run.layout, state, feed(first))
    written: list[epath.Path] = []
    fingerprint: Fingerprint = {}
    pending: Any = None  # metrics of the step that led to `iteration`, still on the device

    with stop_requests() as stop:
        while True:
            asked = stop(iteration)
            ends = iteration >= last or asked is not None
            save = ends or (iteration > first and _due(iteration, every.save_every))
            # On a stop request save now; the samples are written when the run resumes.
            sample = asked is None and (
                ends or _due(iteration, every.sample_every) or (save and every.keep_best > 0)
            )
            if save or sample:
                jax.block_until_ready(state)
                clock.stop()
                if pending is not None:
                    log.step(iteration, pending)  # fails if the state is not finite
                    pending = None
            samples = run.sampler.sample(state) if sample else None
            if save:
                score = sampling.best_score(config, samples)
                log.publish()
                progress = _progress(config, iteration, clock)
                fingerprint = checkpoints.save(state, iteration, progress, score)
                log.saved(iteration, fingerprint)
            if samples is not None:
                # Large files last, and only when the checkpoint is on the disk: saving goes on in
                # the background, and samples must not take the room that it needs.
                checkpoints.wait()
                log.scalars(iteration, samples.finite)
                folder = run.workdir / "samples" / f"{iteration:06d}"
                written = sampling.write(samples, folder, iteration)
            if ends:
                break
            clock.start()
            assert step is not None
            data = feed(iteration)
            # An unnoticed transfer from host to device here would stall every iteration.
            with jax.transfer_guard("disallow"):
                state, metrics = step(state, data)
            if pending is not None:
                log.step(iteration, pending)
            pending = metrics
            iteration += 1
            clock.iterations += 1
        checkpoints.wait()
    if run.record.result is None:
        _write(run.workdir, run.record.end(iteration, fingerprint))
    _finish(run, iteration, asked, clock, log)
    return written if asked is None else None


def _finish(run: _Run, iteration: int, asked: str | None, clock: Clock, log: Log) -> None:
    """Draw the curves, and say how the run ended: done, or `asked` to stop."""
    log.curves(run.workdir / "curves.png")
    if asked is None:
        log.say(f"{iteration} iterations, {clock.seconds:.0f} s of training")
    else:
        log.say(
            f"{asked}: stopped at iteration {iteration} of {run.config.training.iterations} and "
            "saved; the same command resumes from here"
        )


def _progress(config: Config, iteration: int, clock: Clock) -> dict[str, Any]:
    """What a checkpoint holds besides the state."""
    updates = config.training.critic_updates + 1
    return {
        "seed": config.training.seed,
        "examples": iteration * updates * config.training.batch_size,
        "seconds": clock.seconds,
        "config": config.to_dict(),
    }


def _write(workdir: epath.Path, run: record.Record) -> None:
    if jax.process_index() == 0:
        record.write(workdir, run)


def _opening(run: _Run, first: int) -> str:
    kind, count = run.layout.devices[0].device_kind, len(run.layout.devices)
    what = f"{len(run.windows.starts)} windows, {kind if count == 1 else f'{count} x {kind}'}"
    goal = f"{run.config.training.iterations} iterations"
    if first >= run.config.training.iterations:
        return f"{run.workdir}: {first} of {goal} are already done"
    if first:
        return f"{run.workdir}: resuming at iteration {first} of {goal} ({what})"
    return f"{run.workdir}: {goal} from the start ({what})"


def _changes(old: record.Record, new: record.Record) -> Iterator[str]:
    """What is not as in the last session, so that numbers differ from a run never stopped."""
    before, now = record.last_decayed(old.config), record.last_decayed(new.config)
    if before != now:
        yield (
            f"the learning rates now reach 0 at iteration {now}, not {before}: a run that was "
            "given this end from the start has other numbers"
        )
    lines = record.differences(old.sessions[-1], new.sessions[-1])
    if lines:
        yield f"not as in the last session, so bits may differ: {'; '.join(lines)}"


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _explain(error: Exception) -> str:
    """A message to the user for a failure of the runtime."""
    reason = first_line(error)
    if "RESOURCE_EXHAUSTED" in reason:
        return (
            f"the device is out of memory ({reason}); lower training.batch_size, or use more "
            "devices"
        )
    if jax.process_count() > 1:
        return (
            f"process {jax.process_index()} of {jax.process_count()} lost the others ({reason}); "
            "start all of them again: the run continues from its newest checkpoint"
        )
    return f"the device failed ({reason}); the same command resumes from the newest checkpoint"
