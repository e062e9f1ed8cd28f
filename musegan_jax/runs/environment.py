"""The environment of a run: program, packages, devices, flags."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import musegan_jax
from musegan_jax import numerics
from musegan_jax.config import Config
from musegan_jax.runs.compilation_cache import cpu_threads

PACKAGES = ("musegan-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment(config: Config) -> dict[str, Any]:
    """What a run's numbers and speed depend on besides config and data; ready for JSON."""
    return {
        "commit": _commit(),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.devices()[0].platform,
            "count": jax.device_count(),
        },
        "cpu": {"model": cpu_model(), "threads": cpu_threads()},
        "processes": jax.process_count(),
        "strategy": config.parallel.strategy,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "prng_partitionable": getattr(jax.config, "jax_threefry_partitionable", None),
        "precision": {
            "networks": config.model.dtype,
            "matmul": getattr(jax.config, "jax_default_matmul_precision", None) or "default",
        },
        "deterministic": config.training.deterministic,
        "settings": numerics.settings(),
        "variables": numerics.variables(),
    }


def cpu_model() -> str:
    """The name of the processor: compiled code depends on its features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def version(name: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, "+changes" if files differ; None if not in a checkout."""
    folder = Path(musegan_jax.__file__).resolve().parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
        )
        done.check_returncode()
        return done.stdout.strip()

    try:
        # The package may be installed inside another project's checkout.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None
