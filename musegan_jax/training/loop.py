"""`train`: the training loop."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from musegan_jax import files, numerics, terminal
from musegan_jax.config import Config
from musegan_jax.data import batches, fit, sources
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs import processes, record
from musegan_jax.runs.checkpoint import Saved, iterations, newest_valid
from musegan_jax.runs.logging import Log
from musegan_jax.runs.timing import Clock
from musegan_jax.training import agreement, determinism, parallel, sampling
from musegan_jax.training.outputs import Outputs
from musegan_jax.training.profiling import Profile
from musegan_jax.training.state import TrainState, abstract_state
from musegan_jax.training.stopping import Stop, stop_requests


def train(
    config: Config,
    workdir: Any,
    data: Dataset | None = None,
    profile: tuple[int, int] | None = None,
) -> list[epath.Path] | None:
    """Start or resume the run in `workdir` and train it to `config.training.iterations`.

    All processes of a run call this, with the same arguments.

    Args:
        config: the run.
        workdir: folder of the run, local or a remote address; created if missing, resumed if it
            holds a run.
        data: what `config.data.dataset` names, if it is loaded already.
        profile: iterations, first and end, of which process 0 writes a trace into the folder
            `profile` of `workdir`.

    Returns:
        In process 0 the files of the last samples, in others none; None if the run was asked to
        stop early.

    Raises:
        UserError: for everything that the user can fix; also if a loss or norm is not finite.
    """
    with numerics.pinned(), contextlib.ExitStack() as stack:
        layout = parallel.make_layout(config)  # first: nothing else may look for devices
        stop = stack.enter_context(stop_requests(config.parallel.stop_seconds))
        try:
            return _train(config, files.locate(workdir), data, layout, Profile(profile), stop)
        except jax.errors.JaxRuntimeError as error:
            if str(error) != first_line(error):  # such as where the memory went
                for line in str(error).splitlines():
                    terminal.say(line)
            raise UserError(_explain(error)) from error


def _train(
    config: Config,
    workdir: epath.Path,
    data: Dataset | None,
    layout: parallel.Layout,
    profile: Profile,
    stop: Stop,
) -> list[epath.Path] | None:
    determinism.check(config)
    agreement.on_the_command(config)
    data = sources.load(config.data.dataset) if data is None else data
    config = fit.for_dataset(config, data)
    windows = batches.make_windows(data, config, processes.say)
    agreement.on_the_data(config, data)
    run = _Run(config, workdir, layout, windows, profile, stop)
    with contextlib.ExitStack() as stack:
        found: list[_Found] = []

        def find() -> tuple[int, float] | None:
            found.append(_find(run, data))
            saved = found[0].saved
            return None if saved is None else (saved.iteration, saved.seconds)

        agreement.on_the_workdir(workdir)
        if jax.process_index() == 0:
            stack.enter_context(files.locked(workdir))
        # What depends on the disk is decided by process 0, and told; none reads on its own.
        begin = processes.decided(find, "the newest checkpoint", processes.LONG)
        return _begin(run, found[0] if found else None, begin)


class _Run(NamedTuple):
    """What stays the same from the first iteration to the last."""

    config: Config
    workdir: epath.Path
    layout: parallel.Layout
    windows: batches.Windows
    profile: Profile
    stop: Stop


class _Found(NamedTuple):
    """What process 0 has found in the workdir, and prepared; others have none of it."""

    new: record.Record
    old: record.Record | None
    saved: Saved | None
    sampler: sampling.Sampler


def _find(run: _Run, data: Dataset) -> _Found:
    """The record and the newest valid checkpoint of the workdir; the new record; the sampler."""
    config, workdir = run.config, run.workdir
    new = record.make(config, data)
    sampler = sampling.prepare_sampler(config, new.music, data)
    old = None
    # A record without a checkpoint is of a run that never saved: ignore it.
    if iterations(workdir):
        old = record.read(workdir)
        if old is None:
            raise UserError(
                f"{workdir}: it has checkpoints but no {record.FILE}; use another workdir"
            )
        record.check_same(workdir, old, new)
    saved = newest_valid(workdir, abstract_state(config), processes.say, set_aside=True)
    first = 0 if saved is None else saved.iteration
    if first >= config.training.iterations and old is not None and old.result:
        # No training will follow: keep the record, but for what an earlier version did not count.
        new = dataclasses.replace(old, music=new.music)
    else:
        new = new.begin(old, first)
    return _Found(new, old, saved, sampler)


def _begin(
    run: _Run, found: _Found | None, begin: tuple[int, float] | None
) -> list[epath.Path] | None:
    """Begin at the checkpoint that was found; without one, from the seed."""
    config = run.config
    first, seconds = (0, 0.0) if begin is None else begin
    saved = None if found is None else found.saved
    if begin is None:
        state = parallel.initial_state(config, run.layout)
    else:
        empty = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), abstract_state(config))
        found_state = processes.broadcast(empty if saved is None else saved.state)
        state = parallel.restored_state(found_state, run.layout)
    clock = Clock(seconds)
    kinds = [device.device_kind for device in run.layout.devices]
    with contextlib.closing(Log(config, run.workdir, first, clock, kinds)) as log:
        if found is not None:
            record.write(run.workdir, found.new)
            log.say(_opening(run, first))
            if found.old is not None and saved and first < config.training.iterations:
                for line in _changes(found.old, found.new):
                    log.say(line)
        if saved is not None:
            # The run may have been killed after the checkpoint but before this line.
            log.saved(first, saved.fingerprint)
        sampler = None if found is None else found.sampler
        outputs = Outputs(config, run.workdir, run.layout, sampler, state, log, clock)
        with outputs:
            iteration, asked = _loop(run, state, first, clock, outputs, log)
        if found is not None and found.new.result is None:
            record.write(run.workdir, found.new.end(iteration, outputs.fingerprint))
        _finish(run, iteration, asked, clock, log)
    # Process 0 may have written for long, or in vain: the others must not have ended before.
    processes.gather(None, "the end of the run", None)
    return outputs.written if asked is None else None


def _loop(
    run: _Run, state: TrainState, first: int, clock: Clock, outputs: Outputs, log: Log
) -> tuple[int, str | None]:
    """Iterate; returns the last iteration, and the signal that asked to stop early.

    The order is fixed: sample and save the current state -> step -> read the metrics of the step
    before, so that the device never waits for the host. A resumed run enters at the saved state,
    before sampling from it, and so computes the same numbers.
    """
    config, every = run.config, run.config.output
    iteration, last = first, config.training.iterations
    feed = parallel.make_feed(config, run.layout, run.windows)
    step = None
    if first < last:
        step = parallel.compile_step(config, run.layout, state, feed(first))
        # Compiling may take minutes longer in one process than in another, whose cache has the
        # program; connections between devices, made at the first step, are waited for shortly.
        processes.gather(None, "the first iteration", None)
    pending: Any = None  # metrics of the step that led to `iteration`, still on the device
    run.stop.begin(outputs.writing)
    while True:
        outputs.check()
        asked = run.stop(iteration)
        ends = iteration >= last or asked is not None
        save = ends or (iteration > first and _due(iteration, every.save_every))
        # On a stop request save now; the samples are written when the run resumes.
        sample = asked is None and (
            ends or _due(iteration, every.sample_every) or (save and every.keep_best > 0)
        )
        if ends and pending is not None:
            log.step(iteration, pending)  # fails if the state is not finite
            pending = None
        if ends:
            jax.block_until_ready(state)
            clock.stop()
        run.profile.at(run.workdir, iteration, state, ends, log.say)
        if save or sample:
            outputs.take(state, iteration, pending, save, sample, last=ends)
        if ends:
            break
        clock.start()
        assert step is not None
        with clock.waiting("input"):
            data = feed(iteration)
        # An unnoticed transfer from host to device here would stall every iteration.
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, data)
        if pending is not None:
            log.step(iteration, pending)
        pending = metrics
        iteration += 1
        clock.iterations += 1
    outputs.finish(stopped=asked is not None)
    return iteration, asked


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
