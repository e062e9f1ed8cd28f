"""The files that a reader could not use."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from musegan_jax import files


class Skipped(NamedTuple):
    """A file that gave no piece, and why."""

    name: str
    reason: str


def summarise(skipped: list[Skipped]) -> Iterator[str]:
    """Lines that say how many files were skipped for which reason, with a few names each."""
    reasons = collections.defaultdict(list)
    for name, reason in skipped:
        reasons[reason].append(name)
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield f"skipped {len(names)}: {reason} ({shown})"


def write_report(skipped: list[Skipped], path: Path) -> None:
    """Write every skipped file with its reason, one per line.

    Raises:
        UserError: if the file cannot be written.
    """
    with files.replacing(path) as temporary:
        lines = "".join(f"{name}: {reason}\n" for name, reason in skipped)
        temporary.write_text(lines, encoding="utf-8")
