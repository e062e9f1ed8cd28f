"""What all processes of a run must have in common, checked before they train.

Else the first sum over their devices, or the first save, would hang or compute nonsense.
"""

import platform
import secrets
import time
from pathlib import Path

import jax
from etils import epath
from flax.traverse_util import flatten_dict

import musegan_jax
from musegan_jax import files
from musegan_jax.config import Config
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.hashing import sha256
from musegan_jax.runs import processes

_SEEN_AFTER = 10.0  # seconds that a network file system may take to show a new file


def on_the_command(config: Config) -> None:
    """Check that all processes run one program with one config, on devices of one kind.

    Raises:
        UserError: in all processes, naming what differs.
    """
    if jax.process_count() == 1:
        return
    devices = jax.local_devices()
    fields = flatten_dict(config.to_dict(), sep=".")
    fields.pop("data.dataset")  # may lie elsewhere: its hash is compared
    processes.agree(
        {
            **{f"the config: {name}": value for name, value in fields.items()},
            "the program": f"{musegan_jax.__version__} (sha256 {_sources()[:12]})",
            "jax": jax.__version__,
            "Python": platform.python_version(),
            "the kind of device": devices[0].device_kind,
            "the number of devices": len(devices),
        },
        "give all processes the same command, program and kind of machine",
    )


def on_the_data(config: Config, data: Dataset) -> None:
    """Check that all processes have loaded the same data; arguments and errors as above.

    Args:
        config: fitted to the data.
        data: of this process.
    """
    if jax.process_count() > 1:
        processes.agree(
            {"the dataset": f"sha256 {data.digest()[:12]}... ({data.source})"},
            f"give all processes the same file (data.dataset = {config.data.dataset} here)",
            processes.LONG,
        )


def on_the_workdir(workdir: epath.Path) -> None:
    """Make the folder in process 0, and check that all others see what it writes there.

    Raises:
        UserError: in all processes, if it cannot be made, or naming one that does not see it.
    """

    def make() -> list[str]:
        files.make_folder(workdir)
        if jax.process_count() == 1:
            return []
        mark = f".seen-by-all-{secrets.token_hex(8)}"
        (workdir / mark).write_text("removed at once\n")
        return [mark, str(workdir)]

    made = processes.decided(make, "the workdir")
    if not made:
        return
    mark, where = made
    end = time.monotonic() + _SEEN_AFTER
    # By its name, not by a listing, which may be older than the file.
    while not (seen := (workdir / mark).exists()) and time.monotonic() < end:
        time.sleep(0.2)
    everyone = processes.gather([seen, str(workdir)], "the workdir")
    if jax.process_index() == 0:
        (workdir / mark).unlink(missing_ok=True)
    for process, (sees, its) in enumerate(everyone):
        if not sees:
            raise UserError(
                f"process {process} does not see what process 0 writes into --workdir {where}: its "
                f"own is {its}; give all processes one folder that they share, or a bucket"
            )


def _sources() -> str:
    """A hash of this package's code."""
    folder = Path(musegan_jax.__file__).parent
    paths = sorted(folder.rglob("*.py"))
    return sha256(f"{path.relative_to(folder)}\n{path.read_text('utf-8')}" for path in paths)
