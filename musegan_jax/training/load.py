"""Load the model of a run from its folder."""

from collections.abc import Callable

from etils import epath

from musegan_jax.errors import UserError
from musegan_jax.models.model import Model
from musegan_jax.runs import checkpoint, record
from musegan_jax.runs.checkpoint import Saved
from musegan_jax.runs.processes import say
from musegan_jax.runs.record import Record
from musegan_jax.training.state import abstract_state, inference_variables


def load_model(
    workdir: epath.Path, iteration: int | None = None, say: Callable[[str], None] = say
) -> Model:
    """The model of a run.

    Args:
        workdir: folder of the run.
        iteration: of the checkpoint; None for the newest readable one.
        say: called with a message for every checkpoint that is skipped.

    Raises:
        UserError: if `workdir` is not a run, or has no such checkpoint.
    """
    run, saved = open_run(workdir, iteration, say)
    return Model(
        config=run.config.model,
        window_steps=run.config.data.window_steps,
        music=run.music,
        variables=inference_variables(saved.state),
        origin={
            "iteration": saved.iteration,
            "fingerprint": saved.fingerprint,
            "config": run.config.to_dict(),
            "dataset": {"source": run.dataset_source, "sha256": run.dataset_sha256},
            "session": run.sessions[-1],
        },
    )


def open_run(
    workdir: epath.Path, iteration: int | None = None, say: Callable[[str], None] = say
) -> tuple[Record, Saved]:
    """The record and a checkpoint of a run; arguments and errors as in `load_model`."""
    run = record.read(workdir)
    if run is None:
        raise UserError(
            f"{workdir}: not the folder of a training run; make one with `musegan-jax train`"
        )
    abstract = abstract_state(run.config)
    if iteration is not None:
        return run, checkpoint.read(workdir, iteration, abstract)
    saved = checkpoint.newest_valid(workdir, abstract, say)
    if saved is None:
        raise UserError(f"{workdir}: no checkpoint yet; train it first with `musegan-jax train`")
    return run, saved
