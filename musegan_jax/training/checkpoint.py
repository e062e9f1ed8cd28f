"""Checkpoints: Orbax behind one small class."""

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from musegan_jax.compose import Model
from musegan_jax.config import from_dict
from musegan_jax.errors import UserError
from musegan_jax.training import parallel, record
from musegan_jax.training.state import TrainState, inference_variables

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of a workdir, by iteration; the newest `keep` stay.

    Saving is asynchronous: the arrays are copied at once and written behind the training's back.
    Orbax writes to a temporary name and renames, so a killed save leaves the older ones whole.
    """

    def __init__(self, workdir: str | Path, keep: int = 1) -> None:
        """Open, and create where missing, the checkpoint folder of `workdir`."""
        self._path = Path(workdir).resolve() / FOLDER
        self._manager = ocp.CheckpointManager(
            self._path,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.LatestN(keep),
                save_decision_policy=policies.FixedIntervalPolicy(1),
            ),
        )

    @property
    def latest(self) -> int | None:
        """The iteration of the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, iteration: int, state: TrainState, seconds: float) -> None:
        """Save unless this iteration is saved already.

        Args:
            iteration: finished iterations.
            state: what training changes.
            seconds: training time so far, over all restarts.

        Raises:
            UserError: if the checkpoint cannot be written (perhaps the one before it: saving is
                asynchronous).
        """
        if self.latest == iteration:
            return
        try:
            self._manager.save(
                iteration,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave({"iteration": iteration, "seconds": seconds}),
                ),
            )
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def restore(self, abstract: Any) -> tuple[TrainState, float]:
        """The newest checkpoint: the state, placed as `abstract` says, and the training seconds.

        Raises:
            UserError: if there is none, or it cannot be read.
        """
        if self.latest is None:
            raise UserError(f"{self._path}: no checkpoint; train first with `musegan-jax train`")
        try:
            found = self._manager.restore(
                self.latest,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()
                ),
            )
            return found["state"], float(found["progress"]["seconds"])
        # Damage makes Orbax and TensorStore fail in whatever way it brings about.
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "damaged"
            raise UserError(
                f"{self._path / str(self.latest)}: this checkpoint cannot be read ({reason}); "
                "delete its folder to go on from the one before"
            ) from error

    def wait(self) -> None:
        """Return when everything saved is on disk.

        Raises:
            UserError: if it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Finish writing and let go of the folder."""
        self._manager.close()

    def _failed(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0][:200]
        return UserError(
            f"{self._path}: a checkpoint cannot be written ({reason}); the older ones are whole"
        )


def load_model(workdir: str | Path) -> Model:
    """The generator of the newest checkpoint of a run, to compose with.

    Raises:
        UserError: if `workdir` is not a run, or has no readable checkpoint yet.
    """
    workdir = Path(workdir)
    run = record.read(workdir)
    if run is None or not (workdir / FOLDER).is_dir():
        raise UserError(
            f"{workdir}: not the folder of a training run; make one with `musegan-jax train`"
        )
    checkpoints = Checkpoints(workdir)
    try:
        state, _ = checkpoints.restore(parallel.abstract_state(from_dict(run["config"])))
    finally:
        checkpoints.close()
    return record.model(run, inference_variables(state))
