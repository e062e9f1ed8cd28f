"""The determinism switch. Nothing here imports JAX before it is needed."""

import os
import sys

from musegan_jax.config import Config
from musegan_jax.errors import UserError

# On a GPU the order of additions in some sums depends on thread timing, and the algorithm of a
# convolution is the one that was fastest at start-up; the flag rules out both. CPU and TPU do not
# need it.
FLAG = "--xla_gpu_deterministic_ops=true"


def enable(config: Config) -> None:
    """Set the flag if the config asks for it. Call this before JAX looks for devices.

    Raises:
        UserError: if JAX has already done so.
    """
    if not config.training.deterministic or is_set():
        return
    if "jax" in sys.modules:
        from jax._src import xla_bridge  # there is no public function for this

        if xla_bridge.backends_are_initialized():
            raise UserError(_TOO_LATE)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()


def check(config: Config) -> None:
    """Check that a deterministic run has the flag where it needs it.

    Raises:
        UserError: if it runs on a GPU without the flag.
    """
    import jax

    if config.training.deterministic and jax.devices()[0].platform == "gpu" and not is_set():
        raise UserError(_TOO_LATE)


_TOO_LATE = (
    "config: training.deterministic = true: JAX has started already and reads no more flags; set "
    f"the environment variable XLA_FLAGS={FLAG} before it starts"
)


def is_set() -> bool:
    """Whether XLA's flag is set."""
    return FLAG in os.environ.get("XLA_FLAGS", "").split()
