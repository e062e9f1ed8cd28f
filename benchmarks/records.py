"""What every benchmark shares: command line, how a time is summed up, how a record is written."""

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
# What `uv run` must install besides the project, for the scripts that need it.
NEEDS = {
    "tpu_compile": "--extra tpu ",
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
    """Write a record and its command as JSON, whole or not at all; nothing without a path."""
    if path is not None:
        first = {"benchmark": record["benchmark"], "command": command_line(sys.argv)}
        with files.replacing(path) as temporary:
            temporary.write_text(json.dumps(first | record, indent=2) + "\n")


def command_line(words: Sequence[str]) -> str:
    """A script's `sys.argv` as one types it in the checkout."""
    script = Path(words[0])
    needs = NEEDS.get(script.stem, "")
    # gpu.py gives whole paths, which say where the checkout lies and are of use nowhere else.
    typed = shlex.join(word.removeprefix(f"{CHECKOUT}/") for word in words[1:])
    return f"uv run {needs}python benchmarks/{script.name} {typed}".rstrip()


def parser(
    documentation: str | None, *, record: bool = True, config: str | None = None
) -> argparse.ArgumentParser:
    """A command line with the options that most benchmarks have.

    Args:
        documentation: the script's docstring, whose first paragraph says what it does.
        record: whether the script writes one.
        config: the file that it takes its config from by default, if that can be chosen.
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
    """Make sure that a file can be written, before hours are spent on what goes into it.

    Raises:
        UserError: if not, naming the option that wants it; without a path all is well.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{option} {path}: this is a folder; name a file in it")
    need_folder(option, path.parent)


def need_folder(option: str, folder: Path) -> None:
    """The same for files in a folder.

    Raises:
        UserError: if it is not there, or nothing can be written into it.
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
    """Refuse numbers that are too small, or none; options are given by their names in Python.

    Raises:
        UserError: naming the first.
    """
    for name, value in options.items():
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be at least {least}")


def command(run: Callable[[], None]) -> int:
    """Exit status of `run()`: 2 and one line for what the user can mend, 1 if no one reads on.

    Nothing is taken from a disk that a benchmark should compile, here or in a child process.
    """
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_compilation_cache", False)
    try:
        run()
        sys.stdout.flush()  # else a closed pipe shows when Python ends, where none can catch it
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as from `| head`
        # What is still to be written must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
