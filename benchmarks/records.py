"""Shared by all benchmarks: command line, statistics of times, writing a record."""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax import files
from musegan_jax.errors import UserError

CHECKOUT = Path(__file__).parent.parent
# Arguments of `uv run` that install what a script needs besides the project.
NEEDS = {
    "tpu_compile": "--extra tpu ",
    "gpu_compile": "--extra cuda ",
    "kernels": "--extra cuda ",
    "repeat": "--extra cuda ",
    "peers": "--with keras --with tensorflow --with torch ",
}


def spread(seconds: list[float]) -> dict[str, Any]:
    """Raw times with their median, p10 and p90, all in seconds."""
    return {
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "p10_s": float(np.quantile(seconds, 0.1)),
        "p90_s": float(np.quantile(seconds, 0.9)),
    }


def write(path: Path | None, record: dict) -> None:
    """Write a record and its command as JSON, completely or not at all; `path` None: nowhere."""
    if path is not None:
        first = {"benchmark": record["benchmark"], "command": command_line(sys.argv)}
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(first | record, indent=2) + "\n")


def command_line(words: Sequence[str]) -> str:
    """The command, as typed in the checkout, for a script's `sys.argv`."""
    script = Path(words[0])
    needs = NEEDS.get(script.stem, "")
    # gpu.py passes absolute paths, which are useless on another machine.
    typed = shlex.join(word.removeprefix(f"{CHECKOUT}/") for word in words[1:])
    return f"uv run {needs}python benchmarks/{script.name} {typed}".rstrip()


def parser(
    documentation: str | None, *, record: bool = True, config: str | None = None
) -> argparse.ArgumentParser:
    """An argument parser with the options that most benchmarks have.

    Args:
        documentation: the script's docstring; its first paragraph becomes the description.
        record: whether the script writes a record.
        config: the default config file, if the script has the option `--config`.
    """
    made = argparse.ArgumentParser(description=(documentation or "").partition("\n\n")[0])
    if config is not None:
        made.add_argument("--config", default=config, help="config file (default: %(default)s)")
        made.epilog = "Every field of the config can be set as --SECTION.FIELD=VALUE."
    if record:
        made.add_argument(
            "--json", type=Path, help="write the record here (default: none is written)"
        )
    return made


def need_target(option: str, path: Path | None) -> None:
    """Check that a file can be written before spending hours on its content.

    Raises:
        UserError: if not, naming the option. Without a path nothing is checked.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{option} {path}: this is a folder; name a file in it")
    need_folder(option, path.parent)


def need_folder(option: str, folder: Path) -> None:
    """Check that files can be written into a folder.

    Raises:
        UserError: if it does not exist or is not writable.
    """
    if not folder.is_dir():
        raise UserError(f"{option}: {folder}: no such folder; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{option}: {folder}: cannot write into this folder ({error.strerror or error}); "
            "choose another"
        ) from error


def need_at_least(least: float, **options: float) -> None:
    """Refuse numbers below `least`, and NaN; options are given by their names in Python.

    Raises:
        UserError: naming the first such option.
    """
    for name, value in options.items():
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be at least {least}")


def command(run: Callable[[], None]) -> int:
    """Exit status of `run()`: 2 and one line for a `UserError`, 1 if the output pipe is closed.

    Turns the compilation cache off, here and in child processes: benchmarks time compiling.
    """
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_compilation_cache", False)
    try:
        run()
        sys.stdout.flush()  # a closed pipe must raise here, not at exit, where it cannot be caught
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as from `| head`
        # The remaining output must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
