"""The determinism switch. Nothing here imports JAX before it is needed."""

import os
import sys

from musegan_jax.config import Config
from musegan_jax.errors import UserError

# On a GPU some sums are added in whatever order the threads arrive, and the algorithm of a
# convolution is whichever was fastest at start-up; the flag rules out both. CPU and TPU need none.
FLAG = "--xla_gpu_deterministic_ops=true"


def enable(config: Config) -> None:
    """Set the flag if the config wants it; call this before JAX has looked for devices.

    Raises:
        UserError: if JAX has done so already.
    """
    if not config.training.deterministic or _is_set():
        return
    if "jax" in sys.modules:
        from jax._src import xla_bridge  # no public function tells

        if xla_bridge.backends_are_initialized():
            raise UserError(_TOO_LATE)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()


def check(config: Config) -> None:
    """Make sure that a run that wants determinism has it.

    Raises:
        UserError: if it runs on a GPU without the flag.
    """
    import jax

    if config.training.deterministic and jax.devices()[0].platform == "gpu" and not _is_set():
        raise UserError(_TOO_LATE)


_TOO_LATE = (
    "config: training.deterministic = true: JAX has started already and no longer reads its flags; "
    f"set the environment variable XLA_FLAGS={FLAG} before it starts"
)


def _is_set() -> bool:
    return FLAG in os.environ.get("XLA_FLAGS", "").split()
