"""Four simulated CPU devices and strict numerics, set before JAX starts."""

import os
import signal
import subprocess
import sys
import tempfile

# What a shell starts in the background ignores SIGINT, and so would the runs that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["JAX_PLATFORMS"] = "cpu"
# Nothing is left in anybody's home. The workers of a run of the tests share a folder of their own.
SHARED = "MUSEGAN_TEST_PROGRAMS"
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true" if SHARED in os.environ else "false"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
# Tests compile many small programs and run each a few times: unoptimised code is ready in a third
# of the time. The contract tests are run as users compile them as well: see .ci/run.
if not os.environ.get("MUSEGAN_TEST_OPTIMISED"):
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"

# Shapes and dtypes in signatures are checked at every call; not in the modules whose functions name
# the axes of wrong arguments themselves (`api`, `data.notes`, `models.model`, the two networks).
from jaxtyping import install_import_hook

CHECKED = [
    "musegan_jax.composing",
    "musegan_jax.data.batches",
    "musegan_jax.evaluation",
    "musegan_jax.models.layers",
    "musegan_jax.pianoroll",
    "musegan_jax.rng",
    "musegan_jax.training.losses",
    "musegan_jax.training.step",
]
install_import_hook(CHECKED, "beartype.beartype")

import dataclasses

import jax
import numpy as np
import pytest

from musegan_jax import config as configs
from musegan_jax import pianoroll
from musegan_jax.data import dataset

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """What one worker or its processes compile, the others find, as users' commands do.

    Not where the contract tests are compiled as users compile: there equal bits must come from
    programs that were compiled twice.
    """
    if hasattr(config, "workerinput") or os.environ.get("MUSEGAN_TEST_OPTIMISED"):
        return
    folder = tempfile.TemporaryDirectory(prefix="compiled-")
    config.add_cleanup(folder.cleanup)
    os.environ[SHARED] = os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"


@pytest.fixture
def strict_promotion():
    """No silent change of dtype. Not for whole steps: optax's Adam raises a float to an int."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def make_dataset(pieces: int = 12, bars: int = 4, seed: int = 0) -> dataset.Dataset:
    """A dataset of made-up four-part pieces: one held note per voice and beat, in C major."""
    rng = np.random.default_rng(seed)
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    made = []
    for n in range(pieces):
        roll = np.zeros((16 * bars, 128, 4), bool)
        for voice, root in enumerate((72, 60, 55, 48)):
            for beat in range(4 * bars):
                roll[4 * beat : 4 * beat + 4, root + rng.choice(scale), voice] = True
        made.append(dataset.Piece(f"piece {n}", pianoroll.pack(roll), np.arange(0, 16 * bars, 16)))
    tracks = [pianoroll.Track(name, 40 + k) for k, name in enumerate("SATB")]
    return dataset.build(made, tracks, 4, "made up")


def in_new_process(code: str, **environment: str) -> str:
    """Run code in a Python of its own, which must not fail; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(model, **facts):
    """A model with other facts, of its own or of its training music."""
    music = {name: facts.pop(name) for name in list(facts) if name in model.music._fields}
    return dataclasses.replace(model, music=model.music._replace(**music), **facts)


@pytest.fixture(scope="session")
def data() -> dataset.Dataset:
    """A small dataset."""
    return make_dataset()


@pytest.fixture(scope="session")
def data_file(data, tmp_path_factory) -> str:
    """The same as a file."""
    path = tmp_path_factory.mktemp("data") / "made.npz"
    dataset.save(data, path)
    return str(path)


@pytest.fixture(scope="session")
def tiny(data_file) -> configs.Config:
    """The shipped `configs/tiny.py` on the small dataset."""
    return configs.override(
        configs.load("configs/tiny.py"), ["--data.dataset", data_file, "--output.melodies="]
    )
