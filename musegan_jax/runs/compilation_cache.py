"""Keep compiled programs on disk, so that the second start of a command need not compile."""

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import Any


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
        _heal(folder)


def _heal(folder: Path) -> None:
    """Remove entries that JAX cannot read, which it warns of, but never replaces.

    A process that is killed while it writes one leaves a part of it. JAX reads an entry before it
    compiles, and writes only what is not there: removed in between, it is written anew.
    """
    usual = warnings.showwarning

    def show(message: Any, *arguments: Any, **options: Any) -> None:
        found = re.match(r"Error reading persistent compilation cache.* '([^'/]+)'", str(message))
        if not found:
            usual(message, *arguments, **options)
            return
        # JAX names the program, not the entry: all entries of this program go.
        for path in folder.iterdir():
            if path.name.startswith(f"{found[1]}-"):
                with contextlib.suppress(OSError):
                    path.unlink()

    warnings.showwarning = show
