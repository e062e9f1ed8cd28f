"""What a run writes while it trains: checkpoints and samples, made in the background."""

import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
from etils import epath

from musegan_jax import numerics
from musegan_jax.config import Config
from musegan_jax.errors import UserError
from musegan_jax.runs import processes
from musegan_jax.runs.background import Background
from musegan_jax.runs.checkpoint import Checkpoints
from musegan_jax.runs.fingerprint import Fingerprint
from musegan_jax.runs.logging import Log
from musegan_jax.runs.timing import Clock
from musegan_jax.training import parallel, sampling
from musegan_jax.training.state import TrainState, inference_variables


class Outputs:
    """Checkpoints and samples of a run. Every process calls the same; process 0 writes.

    The state is copied on the device, which takes as long as reading and writing it there; then
    training goes on. One thread copies it to the host, hashes and writes it; another makes samples.
    All processes compare checksums of their devices' states, which must be the same.
    """

    def __init__(
        self,
        config: Config,
        workdir: epath.Path,
        layout: parallel.Layout,
        sampler: sampling.Sampler | None,
        state: TrainState,
        log: Log,
        clock: Clock,
    ) -> None:
        """Open the folder of checkpoints; `sampler` is of process 0, None in others."""
        self._config, self._log, self._clock = config, log, clock
        self._folder = workdir / "samples"
        self._sampler = sampler
        primary = jax.process_index() == 0
        self._checkpoints = Checkpoints(workdir, config.output) if primary else None
        self._checksums = None
        if len(layout.devices) > 1:
            self._checksums = parallel.make_checksums(layout.mesh)
            jax.block_until_ready(self._checksums(state))  # compiled now, not at the first save
        self._saver = Background("checkpoint", log.say)
        self._painter = Background("samples", log.say)
        self._writing = False
        self._saved: Future[Any] | None = None  # the last save
        self.fingerprint: Fingerprint = {}  # of the last state saved, in process 0
        self.written: list[epath.Path] = []  # files of the last samples, in process 0

    def take(
        self,
        state: TrainState,
        iteration: int,
        metrics: Any,
        save: bool,
        sample: bool,
        last: bool,
    ) -> None:
        """Begin to save the state, to sample from it, or both.

        Args:
            state: of all devices; it may be donated afterwards.
            iteration: that it is of.
            metrics: of the step that led to it, on the devices; None if they are known to be
                finite. If not, nothing is saved: the loop raises the error.
            save: write a checkpoint. Waits if the one before is not done.
            sample: make samples. If the ones before are not done, these are skipped, unless they
                are the last, or rank the checkpoint.
            last: whether the run ends here.

        Raises:
            UserError: from the checkpoint or samples before.
        """
        ranks = save and self._config.output.keep_best > 0
        sample = sample and self._sampler is not None
        if save:
            with self._clock.waiting("save"):
                self._collect_saved(wait=True)
        if sample and self._painter.busy and not (last or ranks):
            self._log.say(f"iteration {iteration}: no samples, the ones before are not done yet")
            sample = False
        if sample:
            with self._clock.waiting("sample"):
                self._collect_samples(wait=True)
        sums = self._checksums(state) if save and self._checksums is not None else None
        copied: Any = None
        if self._checkpoints is not None and (save or sample):
            copied = parallel.snapshot(jax.tree.map(lambda leaf: leaf.addressable_data(0), state))
        scores: Future[dict[str, float]] = Future()
        if save:
            ranked = scores if ranks and sample else None
            job = self._save_job(copied, iteration, metrics, sums, ranked)
            self._saved = self._saver.start(job)
        if sample:
            try:
                variables = inference_variables(copied)
                self._painter.start(
                    self._sample_job(variables, iteration, metrics, scores, self._saved)
                )
            except BaseException:
                scores.set_result({})  # the saver may wait
                raise

    def _save_job(
        self,
        copied: Any,
        iteration: int,
        metrics: Any,
        sums: jax.Array | None,
        scores: "Future[dict[str, float]] | None",
    ) -> Callable[[], Any]:
        progress = _progress(self._config, iteration, self._clock)

        def job() -> tuple[int, Fingerprint] | None:
            if not _finite(metrics):
                return None
            if sums is not None:
                compare(sums, iteration)
            if self._checkpoints is None:
                return None
            state = jax.device_get(copied)
            self._writing = True  # a stop request must not cut off the wait for the score, either
            try:
                score = None if scores is None else best_score(self._config, scores.result())
                fingerprint = self._checkpoints.save(state, iteration, progress, score)
                self._log.publish()
            finally:
                self._writing = False
            return iteration, fingerprint

        return job

    def _sample_job(
        self,
        variables: Any,
        iteration: int,
        metrics: Any,
        scores: "Future[dict[str, float]]",
        saved: "Future[Any] | None",
    ) -> Callable[[], Any]:
        sampler = self._sampler
        assert sampler is not None

        def job() -> tuple[int, dict[str, float], list[epath.Path]] | None:
            try:
                if not _finite(metrics):
                    scores.set_result({})
                    return None
                with numerics.pinned():  # a setting of the thread
                    samples = sampler.sample(jax.device_get(variables))
            except BaseException:
                scores.set_result({})  # the saver may wait; without a score it saves all the same
                raise
            scores.set_result(samples.scores)
            if saved is not None:
                # Large files last, and only when the checkpoint is on the disk: samples must not
                # take the room that it needs.
                saved.exception()
            if saved is not None and saved.exception():
                return iteration, samples.finite, []
            folder = self._folder / f"{iteration:06d}"
            return iteration, samples.finite, sampling.write(samples, folder, iteration)

        return job

    def check(self) -> None:
        """Log what is done.

        Raises:
            UserError: if a checkpoint or samples could not be written.
        """
        self._collect_saved(wait=False)
        self._collect_samples(wait=False)

    def finish(self, stopped: bool) -> None:
        """Wait for everything, but for samples if the run was `stopped`; raises as `check`."""
        self._collect_saved(wait=True)
        self._collect_samples(wait=not stopped)

    def writing(self) -> bool:
        """Whether a checkpoint is being written: then a wait is for the disk."""
        return self._writing

    def __enter__(self) -> "Outputs":
        """Itself; on leaving the block `close` is called."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """See `close`."""
        self.close(hurry=kind is not None and not issubclass(kind, Exception))

    def close(self, hurry: bool = False) -> None:
        """Wait for what is being written, and release the folder; errors are not raised.

        Args:
            hurry: wait for seconds only, as after a second Ctrl-C.
        """
        limit = 2.0 if hurry else None
        if jax.process_count() > 1:
            limit = 10.0  # the others of a lost process must not wait for it here, in `compare`
        saved = self._saver.settle(limit)
        # Samples are made again by who goes on; a run that is stopped must not wait for them.
        self._painter.settle(2.0)
        # Else the folder is still being written, and what looks like remains is not.
        if self._checkpoints is not None and saved:
            self._checkpoints.close()

    def _collect_saved(self, wait: bool) -> None:
        done = self._saver.collect(wait)
        if done is not None:
            iteration, self.fingerprint = done
            self._log.saved(iteration, self.fingerprint)

    def _collect_samples(self, wait: bool) -> None:
        done = self._painter.collect(wait)
        if done is not None:
            iteration, scores, self.written = done
            self._log.scalars(iteration, scores)


def compare(sums: jax.Array, iteration: int) -> None:
    """Check that all devices of all processes hold the same: else training computes nonsense.

    Args:
        sums: of `parallel.make_checksums`.
        iteration: of the state.

    Raises:
        UserError: in all processes, naming the first device that differs.
    """
    own = [np.asarray(shard.data)[0].tolist() for shard in sums.addressable_shards]
    # No limit: process 0 comes when it has written the one before, to a disk that may be slow.
    everyone = processes.gather(own, f"the save of iteration {iteration}", None, stream="save")
    for process, devices in enumerate(everyone):
        for number, each in enumerate(devices):
            if each != everyone[0][0]:
                raise UserError(
                    f"iteration {iteration}: the state on device {number} of process {process} "
                    "differs from process 0's; nothing was saved. A device or a connection is "
                    "faulty: start all processes again, without that machine"
                )


def _finite(metrics: Any) -> bool:
    """Whether the metrics of a step are finite, waiting for them; None are known to be."""
    return all(map(np.isfinite, jax.device_get(metrics or {}).values()))


def best_score(config: Config, scores: dict[str, float]) -> float | None:
    """The score for `output.keep_best`; None if there is none."""
    score = scores.get(config.output.best_by, math.nan)
    return score if math.isfinite(score) else None


def _progress(config: Config, iteration: int, clock: Clock) -> dict[str, Any]:
    """What a checkpoint holds besides the state."""
    updates = config.training.critic_updates + 1
    return {
        "seed": config.training.seed,
        "examples": iteration * updates * config.training.batch_size,
        "seconds": clock.seconds,
        "config": config.to_dict(),
    }
