"""Compiled programs outlive their process: the second start of a command need not compile again."""

import os
from pathlib import Path


def cpu_threads() -> int:
    """Threads that XLA computes with on CPU: sums are split among them, so the bits follow."""
    wanted = os.environ.get("NPROC", "")
    if wanted.isdecimal():
        return int(wanted)
    # Not every system can say which of its cores are ours.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep() -> None:
    """Keep programs that took a second or more to compile, unless JAX is told where, or not to.

    JAX's own settings win: the environment variables `JAX_COMPILATION_CACHE_DIR` (another folder)
    and `JAX_ENABLE_COMPILATION_CACHE=false` (none). A folder that cannot be written is done
    without. JAX finds a program by a hash of what it is made from: the step, versions, compiler
    flags, devices.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    # The hash leaves the number of threads out, and a program for two gives other bits than one
    # for one: `NPROC=1` must not find the former.
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "musegan-jax" / f"compiled-{cpu_threads()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home at all is a RuntimeError
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
