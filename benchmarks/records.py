"""What every benchmark shares: how a time is summed up, and how a record is written."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import files
from musegan_jax.errors import UserError


def spread(seconds: list[float]) -> dict[str, Any]:
    """Raw times with their median, p10 and p90, all in seconds."""
    return {
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "p10_s": float(np.quantile(seconds, 0.1)),
        "p90_s": float(np.quantile(seconds, 0.9)),
    }


def write(path: Path | None, record: dict) -> None:
    """Write a record as JSON, whole or not at all; nothing without a path."""
    if path is not None:
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have.

    `documentation` is the script's docstring; its first line says what it does.
    """
    made = argparse.ArgumentParser(description=(documentation or "").splitlines()[0])
    made.add_argument("--json", type=Path, help="write the record here")
    return made


def command(run: Callable[[], None]) -> int:
    """Exit status of `run()`: 2 and one line for what the user can mend.

    Nothing is taken from a disk that a benchmark should compile, here or in a child process.
    """
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_compilation_cache", False)
    try:
        run()
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    return 0
