"""Compiled programs outlive their process: the second start of a command need not compile again."""

import os
from pathlib import Path


def keep() -> None:
    """Keep compiled programs on disk, unless the user has told JAX where, or not to.

    JAX's own settings win: the environment variables `JAX_COMPILATION_CACHE_DIR` (another folder)
    and `JAX_ENABLE_COMPILATION_CACHE=false` (none). JAX finds a program by a hash of all that it
    is made from, compiler, flags and devices included, so that it can only ever be the same one.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "musegan-jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
