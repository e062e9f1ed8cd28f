"""Write and read checkpoints, with Orbax."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from musegan_jax import files
from musegan_jax.config import OutputConfig
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs.fingerprint import Fingerprint, fingerprint

FOLDER = "checkpoints"
_CLEANING = 5.0  # seconds to remove what is still being written
KNOWN = "checkpoints.json"  # the names of the checkpoints: a listing of a folder may be older


class DamagedCheckpoint(UserError):
    """A checkpoint exists, but is unreadable or not what was saved."""


class Saved(NamedTuple):
    """A checkpoint that was read: its state as NumPy arrays of this process."""

    state: Any
    iteration: int
    seconds: float  # of training, over all restarts
    fingerprint: Fingerprint


def iterations(workdir: epath.Path) -> list[int]:
    """The iterations saved in `workdir`, ascending; incomplete saves do not count.

    Those that the last save knew of count as well, if they are there by their names: the listing of
    a network file system, or of a mounted bucket, may be older, and a run that does not see its
    newest checkpoint would train again what it has, then fail where it saves that again.
    """
    folder = workdir / FOLDER
    listed = {int(path.name) for path in _finished(folder) if _is_own(path.name)}
    hidden = (n for n in _known(workdir) - listed if _is_finished(folder / str(n)))
    return sorted(listed | set(hidden))


def _known(workdir: epath.Path) -> set[int]:
    """What the last save left in the file `KNOWN`; nothing if it cannot be read."""
    try:
        found = json.loads((workdir / KNOWN).read_text())["iterations"]
        return {int(each) for each in found if _is_own(str(each))}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return set()


def _finished(folder: epath.Path) -> list[epath.Path]:
    """The folders that Orbax takes for finished checkpoints."""
    return ocp.utils.checkpoint_steps_paths(folder) if folder.is_dir() else []


def _is_finished(folder: epath.Path) -> bool:
    return folder.is_dir() and ocp.utils.is_checkpoint_finalized(folder)


def _is_own(name: str) -> bool:
    """Whether a folder's name is that of an iteration, as we write it.

    Orbax takes others for iterations too, such as 007 or 5000000000, and then saves none below.
    """
    return name.isascii() and name.isdecimal() and name == str(int(name)) and int(name) < 2**31


def read(workdir: epath.Path, iteration: int, abstract: Any) -> Saved:
    """Read one checkpoint, saved on any topology; no other process takes part.

    Args:
        workdir: of the run.
        iteration: of the checkpoint.
        abstract: the state's shapes and dtypes, in the structure in which it was saved.

    Raises:
        DamagedCheckpoint: if it cannot be read, or is not what was saved.
        UserError: if there is no such checkpoint, or it cannot be reached.
    """
    folder = workdir / FOLDER / str(iteration)
    if iteration not in iterations(workdir):
        have = ", ".join(map(str, iterations(workdir))) or "none"
        raise UserError(f"{workdir}: no checkpoint of iteration {iteration}; there are: {have}")
    try:
        progress = json.loads((folder / "progress" / "metadata").read_text())
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract)
        with _reader() as reader:
            state = reader.restore(
                _absolute(folder) / "state",
                args=ocp.args.PyTreeRestore(item=abstract, restore_args=as_numpy),
            )
        found, wanted = fingerprint(state), progress["fingerprint"]
        if found != wanted:
            raise ValueError(f"its content has changed: sha256 {found['state'][:12]}...")
        seconds = float(progress["seconds"])
        if not 0 <= seconds < 1e12:
            raise ValueError("its training time is out of range")
        return Saved(state, iteration, seconds, found)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):  # network or permission: not damaged
            raise UserError(f"{folder}: cannot be reached ({first_line(error)})") from error
        raise DamagedCheckpoint(
            f"{folder}: this checkpoint cannot be read (a file is missing)"
        ) from error
    # Orbax and TensorStore may raise anything for a damaged checkpoint.
    except Exception as error:
        raise DamagedCheckpoint(
            f"{folder}: this checkpoint cannot be read ({first_line(error)})"
        ) from error


def _absolute(folder: epath.Path) -> epath.Path:
    """An absolute path, as Orbax requires. A remote address is one; `resolve` would break it."""
    return folder if files.is_remote(folder) else folder.resolve()


def _alone() -> ocp.options.MultiprocessingOptions:
    """For Orbax not to wait for other processes."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"alone{own}"
    )


def _reader() -> ocp.Checkpointer:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def newest_valid(
    workdir: epath.Path, abstract: Any, say: Callable[[str], None], set_aside: bool = False
) -> Saved | None:
    """The newest checkpoint that can be read; None if there is none.

    Of several processes one alone calls this and tells the others: a shared folder may look
    different from different machines.

    Args:
        workdir: of the run.
        abstract: shapes and dtypes of the state, as in `read`.
        say: called with a message for every checkpoint that is skipped.
        set_aside: move skipped ones to the folder `damaged`, so that the run can save there again.

    Raises:
        UserError: if there are checkpoints, but none can be read.
    """
    if set_aside:
        for path in _finished(workdir / FOLDER):
            if not _is_own(path.name):
                say(f"{path}: not a checkpoint of a run; moved to the folder {files.DAMAGED}")
                files.set_aside(path, workdir)
    skipped: dict[int, str] = {}
    for iteration in iterations(workdir)[::-1]:
        try:
            saved = read(workdir, iteration, abstract)
            break
        except DamagedCheckpoint as error:
            skipped[iteration] = str(error)
            say(f"{error}; going back to the one before")
    else:
        if not skipped:
            return None
        # Nothing is moved: the cause may lie elsewhere, not in the checkpoints.
        raise UserError(f"{list(skipped.values())[-1]}, and there is none before it")
    if set_aside:
        for iteration in skipped:
            folder = workdir / FOLDER / str(iteration)
            if folder.exists():  # an old listing may have shown what is gone
                files.set_aside(folder, workdir)
    return saved


class Checkpoints:
    """Writes the checkpoints of a run, in process 0 alone.

    Orbax writes to a temporary name and renames, so a killed save leaves older ones intact.
    The newest `keep_checkpoints` and the best `keep_best` are kept.
    """

    def __init__(self, workdir: epath.Path, output: OutputConfig) -> None:
        """Open the checkpoint folder of `workdir`, creating it if missing."""
        self._folder = files.make_folder(workdir / FOLDER)
        several = jax.process_count() > 1
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone()),
            "progress": ocp.JsonCheckpointHandler(multiprocessing_options=_alone()),
            "metrics": ocp.JsonCheckpointHandler(multiprocessing_options=_alone()),
        }
        self._manager = ocp.CheckpointManager(
            _absolute(self._folder),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_preservation(output),
                save_decision_policy=policies.FixedIntervalPolicy(1),
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._sync),
                # Without these two Orbax would not store the scores.
                best_fn=(lambda metrics: metrics["score"]) if output.keep_best else None,
                best_mode="min",
                create=False,
                multiprocessing_options=(
                    _alone() if several else ocp.options.MultiprocessingOptions()
                ),
            ),
            item_handlers=handlers if several else None,
        )
        # Not by Orbax's listing alone: what it does not show must not be saved again.
        self._newest = max([*self._manager.all_steps(), *iterations(workdir)], default=-1)

    def save(
        self, state: Any, iteration: int, progress: dict[str, Any], score: float | None
    ) -> Fingerprint:
        """Save the state unless its iteration is already saved; return its fingerprint.

        On return it is on the disk.

        Args:
            state: a NamedTuple of trees of NumPy arrays.
            iteration: finished iterations.
            progress: plain values to save with it, including `seconds`, the training time over all
                restarts.
            score: ranks the checkpoint for `keep_best`, lower is better; None if unknown.

        Raises:
            UserError: if it cannot be written.
        """
        found = fingerprint(state)
        if iteration <= self._newest:
            return found
        progress = {"iteration": iteration, "fingerprint": found, **progress}
        try:
            saved = self._manager.save(
                iteration,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state),
                    progress=ocp.args.JsonSave(progress),
                ),
                metrics=None if score is None else {"score": score},
            )
            self._manager.wait_until_finished()
            if not files.is_remote(self._folder):
                files.sync(self._folder)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error
        if not saved:
            raise UserError(f"{self._folder}: Orbax refused to save iteration {iteration}")
        self._newest = iteration
        self._note()
        return found

    def _note(self) -> None:
        """Leave the names of the checkpoints, for `iterations`; only a help, so it may fail."""
        known = {*self._manager.all_steps(), self._newest}
        with contextlib.suppress(Exception), files.replacing(self._folder.parent / KNOWN) as path:
            path.write_text(json.dumps({"iterations": sorted(known)}) + "\n")

    def _sync(self) -> None:
        """Called by Orbax when all is written, before the rename that makes it a checkpoint.

        Orbax itself syncs the arrays only. Unsynced, its other files may be empty after a loss of
        power, while older checkpoints have already been deleted.
        """
        if not files.is_remote(self._folder):
            for path in self._folder.glob("*.orbax-checkpoint-tmp"):
                files.sync_tree(path)

    def close(self) -> None:
        """Release the folder, and remove what a failed save has left."""
        # A failed save is told where it fails; closing fails for the same reason.
        with contextlib.suppress(Exception):
            self._manager.close()
        self._clean()

    def _failed(self, error: Exception) -> UserError:
        full = "No space left on device" in str(error)
        reason = "no space left on device" if full else first_line(error)
        self._clean()
        kept = ", ".join(map(str, iterations(self._folder.parent))) or "none yet"
        return UserError(
            f"{self._folder}: a checkpoint cannot be written ({reason}); complete ones: {kept}. "
            "Make room; then the same command resumes from the newest"
        )

    def _clean(self) -> None:
        """Remove the remains of a failed save, which would keep a full disk full."""
        end = time.monotonic() + _CLEANING
        while remains := self._remains():
            for path in remains:
                with contextlib.suppress(OSError):
                    path.rmtree()
            # Of Orbax's threads one has failed, and others may still be writing there.
            if time.monotonic() > end:
                return
            time.sleep(0.1)

    def _remains(self) -> list[epath.Path]:
        with contextlib.suppress(OSError):
            return list(self._folder.glob("*.orbax-checkpoint-tmp"))
        return []


def _preservation(output: OutputConfig) -> policies.PreservationPolicy:
    newest = policies.LatestN(output.keep_checkpoints)
    if not output.keep_best:
        return newest
    best = policies.BestN(
        get_metric_fn=lambda metrics: metrics["score"],
        reverse=True,  # the lowest
        n=output.keep_best,
        keep_checkpoints_without_metrics=False,
    )
    return policies.AnyPreservationPolicy([newest, best])
