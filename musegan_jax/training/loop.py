"""`train`: the loop, in a fixed order."""

import contextlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from musegan_jax import files
from musegan_jax.config import Config
from musegan_jax.data import batches, sources
from musegan_jax.errors import UserError, first_line
from musegan_jax.training import determinism, parallel, record, samples
from musegan_jax.training.checkpoint import Checkpoints, iterations, newest_valid
from musegan_jax.training.fingerprint import Fingerprint
from musegan_jax.training.logging import Log
from musegan_jax.training.state import TrainState
from musegan_jax.training.stopping import stop_requests
from musegan_jax.training.timing import Clock


def train(config: Config, workdir: Any) -> list[epath.Path]:
    """Train, or go on training, the run in `workdir` until `config.training.iterations`.

    All processes of a run call this, with the same arguments.

    Args:
        config: the run.
        workdir: folder of the run, or a remote one's address; created, or continued if it holds a
            run.

    Returns:
        The files of the last samples, in process 0; empty if the run was asked to stop before its
        end.

    Raises:
        UserError: for whatever the user can mend; also when a loss or norm is not finite.
    """
    layout = parallel.make_layout(config)
    determinism.check(config)
    workdir = files.locate(workdir)
    data = sources.load(config.data.dataset)
    windows = batches.make_windows(data, config)
    new = record.make(config, data)
    parallel.agree("the config", record.config_digest(config))
    parallel.agree("the dataset", new["dataset"]["sha256"])
    listeners = samples.prepare(config, new, data)
    run = _Run(config, workdir, layout, windows, listeners, new)
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
    listeners: samples.Listeners
    record: record.Record


def _resume(run: _Run) -> list[epath.Path]:
    """Decide where to begin: the newest valid checkpoint of the workdir, else from the seed."""
    config, workdir = run.config, run.workdir
    old = None
    # A record without a checkpoint is of a run that never came to anything: it binds nobody.
    if parallel.from_process_0(np.array(len(iterations(workdir)))):
        old = record.read(workdir)
        if old is None:
            raise UserError(
                f"{workdir}: it has checkpoints but no {record.FILE}; use another --workdir"
            )
        record.check_same(workdir, old, run.record)
    saved = newest_valid(workdir, config, _say, set_aside=True)
    if saved is None:
        state, clock = parallel.initial_state(config, run.layout), Clock()
    else:
        state, clock = run.layout.replicate(saved.state), Clock(saved.seconds)
    first = 0 if saved is None else int(saved.state.step)
    run = run._replace(record=record.begin(old, run.record, config, first))
    if first >= config.training.iterations and old is not None and old["result"]:
        run = run._replace(record=old)  # nothing will be added to what it says
    with (
        Checkpoints(workdir, config) as checkpoints,
        contextlib.closing(Log(config, workdir, first, clock)) as log,
    ):
        _write(workdir, run.record)
        log.say(_opening(run, first))
        if saved is not None:
            # A run that was killed between saving and writing this down writes it now.
            log.saved(first, saved.fingerprint)
        return _loop(run, state, clock, checkpoints, log)


def _loop(
    run: _Run, state: TrainState, clock: Clock, checkpoints: Checkpoints, log: Log
) -> list[epath.Path]:
    """Iterate.

    The order within an iteration is fixed: hear and save the state as it is -> step -> read the
    metrics of the step before, so that the device never waits for the host. A resumed run
    re-enters at the saved state, before hearing it, and so computes the same numbers.
    """
    config, every = run.config, run.config.output
    first = iteration = int(state.step)
    last = config.training.iterations
    feed = parallel.make_feed(config, run.layout, run.windows)
    step = None
    if first < last:
        step = parallel.compile_step(config, run.layout, state, feed(first))
    written: list[epath.Path] = []
    marks: Fingerprint = {}
    pending: Any = None  # metrics still on the device, of the step that led to `iteration`

    with stop_requests() as stop:
        while True:
            asked = stop(iteration)
            ends = iteration >= last or asked is not None
            save = ends or (iteration > first and _due(iteration, every.save_every))
            # Who stops a run waits for it: saving comes at once, the samples when it goes on.
            hear = asked is None and (
                ends or _due(iteration, every.sample_every) or (save and every.keep_best > 0)
            )
            if save or hear:
                jax.block_until_ready(state)
                clock.stop()
                if pending is not None:
                    log.step(iteration, pending)  # from here on the state is known to be finite
                    pending = None
            heard = run.listeners.hear(state) if hear else None
            if save:
                score = samples.best_score(config, heard)
                log.publish()
                marks = checkpoints.save(state, clock.seconds, score)
                log.saved(iteration, marks)
            if heard is not None:
                # Large files last: what they find no room for must not cost the checkpoint.
                log.scalars(iteration, heard.finite)
                written = samples.write(
                    heard, run.workdir / "samples" / f"{iteration:06d}", iteration
                )
            if ends:
                break
            clock.start()
            assert step is not None
            data = feed(iteration)
            # Anything that slips from host to device here would stall every iteration.
            with jax.transfer_guard("disallow"):
                state, metrics = step(state, data)
            if pending is not None:
                log.step(iteration, pending)
            pending = metrics
            iteration += 1
            clock.iterations += 1
        checkpoints.wait()
    if run.record["result"] is None:
        _write(run.workdir, record.end(run.record, iteration, marks))
    log.curves(run.workdir / "curves.png")
    if asked is not None:
        log.say(
            f"{asked}: stopped at iteration {iteration} of {last} and saved; "
            "the same command goes on from here"
        )
        return []
    log.say(f"{iteration} iterations, {clock.seconds:.0f} s of training")
    return written


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


def _write(workdir: epath.Path, run: record.Record) -> None:
    if jax.process_index() == 0:
        record.write(workdir, run)


def _opening(run: _Run, first: int) -> str:
    kind, count = run.layout.devices[0].device_kind, len(run.layout.devices)
    what = f"{len(run.windows.starts)} windows, {kind if count == 1 else f'{count} x {kind}'}"
    goal = f"{run.config.training.iterations} iterations"
    if first >= run.config.training.iterations:
        return f"{run.workdir}: {first} of {goal} are done already"
    if first:
        return f"{run.workdir}: going on from iteration {first} to {goal} ({what})"
    return f"{run.workdir}: {goal} from the start ({what})"


def _due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _explain(error: Exception) -> str:
    """What the runtime's failure means for the person."""
    reason = first_line(error)
    if "RESOURCE_EXHAUSTED" in reason:
        return (
            f"the device's memory is full ({reason}); lower training.batch_size, or use more "
            "devices"
        )
    if jax.process_count() > 1:
        return (
            f"process {jax.process_index()} of {jax.process_count()} lost the others ({reason}); "
            "start all of them again: the run goes on from its newest checkpoint"
        )
    return f"the device failed ({reason}); the same command goes on from the newest checkpoint"
