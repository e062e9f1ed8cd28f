"""Keep compiled programs on disk, so that the second start of a command need not compile."""

import os
from pathlib import Path


def cpu_threads() -> int:
    """The number of XLA's threads on CPU. Sums are split among them, so the bits depend on it."""
    for name in ("PJRT_NPROC", "NPROC"):  # the first is the stronger
        wanted = os.environ.get(name, "")
        if wanted.isdecimal():
            return int(wanted)
    # Not every system has `sched_getaffinity`.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep() -> None:
    """Cache programs that took a second or more to compile.

    JAX's own settings take precedence: the environment variables `JAX_COMPILATION_CACHE_DIR`
    (another folder) and `JAX_ENABLE_COMPILATION_CACHE=false` (none). Without a writable folder
    there is no cache. JAX finds a program by a hash of the step, versions, compiler flags and
    devices.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    # The hash does not contain the number of threads, which changes the bits: a program compiled
    # for two threads must not be found under `NPROC=1`, so each number has its own folder.
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "musegan-jax" / f"compiled-{cpu_threads()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home at all is a RuntimeError
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
