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
from musegan_jax.runs import processes, record
from musegan_jax.runs.checkpoint import Checkpoints, iterations, newest_valid
from musegan_jax.runs.fingerprint import Fingerprint
from musegan_jax.runs.logging import Log
from musegan_jax.runs.timing import Clock
from musegan_jax.training import determinism, parallel, sampling
from musegan_jax.training.state import TrainState, abstract_state
from musegan_jax.training.stopping import stop_requests


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


def _resume(run: _Run) -> list[epath.Path]:
    """Decide where to begin: the newest valid checkpoint of the workdir, else from the seed."""
    config, workdir = run.config, run.workdir
    old = None
    # A record without a checkpoint is of a run that never came to anything: it binds nobody.
    if processes.from_process_0(np.array(len(iterations(workdir)))):
        old = record.read(workdir)
        if old is None:
            raise UserError(
                f"{workdir}: it has checkpoints but no {record.FILE}; use another --workdir"
            )
        record.check_same(workdir, old, run.record)
    saved = newest_valid(workdir, abstract_state(config), _say, set_aside=True)
    if saved is None:
        state, clock = parallel.initial_state(config, run.layout), Clock()
    else:
        state, clock = run.layout.replicate(saved.state), Clock(saved.seconds)
    first = 0 if saved is None else saved.iteration
    run = run._replace(record=run.record.begin(old, first))
    if first >= config.training.iterations and old is not None and old.result:
        run = run._replace(record=old)  # nothing will be added to what it says
    with (
        Checkpoints(workdir, config.output) as checkpoints,
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

    The order within an iteration is fixed: sample and save the state as it is -> step -> read the
    metrics of the step before, so that the device never waits for the host. A resumed run
    re-enters at the saved state, before sampling from it, and so computes the same numbers.
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
    pending: Any = None  # metrics still on the device, of the step that led to `iteration`

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
                    log.step(iteration, pending)  # from here on the state is known to be finite
                    pending = None
            samples = run.sampler.sample(state) if sample else None
            if save:
                score = sampling.best_score(config, samples)
                log.publish()
                progress = _progress(config, iteration, clock)
                fingerprint = checkpoints.save(state, iteration, progress, score)
                log.saved(iteration, fingerprint)
            if samples is not None:
                # Large files last: what they find no room for must not cost the checkpoint.
                log.scalars(iteration, samples.finite)
                folder = run.workdir / "samples" / f"{iteration:06d}"
                written = sampling.write(samples, folder, iteration)
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
    if run.record.result is None:
        _write(run.workdir, run.record.end(iteration, fingerprint))
    log.curves(run.workdir / "curves.png")
    if asked is not None:
        log.say(
            f"{asked}: stopped at iteration {iteration} of {last} and saved; "
            "the same command goes on from here"
        )
        return []
    log.say(f"{iteration} iterations, {clock.seconds:.0f} s of training")
    return written


def _progress(config: Config, iteration: int, clock: Clock) -> dict[str, Any]:
    """What a checkpoint says beside the state."""
    updates = config.training.critic_updates + 1
    return {
        "seed": config.training.seed,
        "examples": iteration * updates * config.training.batch_size,
        "seconds": clock.seconds,
        "config": config.to_dict(),
    }


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
