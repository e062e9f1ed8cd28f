"""A log of a run, read while the run writes it: each time only what is new."""

import os
from typing import Any

from etils import epath

from musegan_jax import files
from musegan_jax.runs import logging


class Follower:
    """Reads a file of `logging.JsonLines` as it grows."""

    def __init__(self, path: epath.Path) -> None:
        """Follow a file, which need not be there yet."""
        self._path = path
        self._state: Any = None  # by which a change is told
        self._read = 0  # bytes of a local file

    def new(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether all that was read before is void; and the lines since.

        It is void if the file was replaced, as by a run that goes on after it was stopped. A line
        that is still being written is left for the next time; damaged ones are skipped. A remote
        log, which is published in pieces now and then, is read whole where it has changed.

        Raises:
            OSError: if it cannot be read.
        """
        if files.is_remote(self._path):
            return self._remote()
        if not self._path.is_file():
            void, self._state, self._read = self._state is not None, None, 0
            return void, []
        with open(self._path, "rb") as file:
            about = os.fstat(file.fileno())
            same = (about.st_dev, about.st_ino)
            void = self._state is not None and (same != self._state or about.st_size < self._read)
            if void:
                self._read = 0
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._state, self._read = same, self._read + len(whole)
        lines = map(logging.parse_line, whole.split(b"\n"))
        return void, [line for line in lines if line is not None]

    def _remote(self) -> tuple[bool, list[dict[str, Any]]]:
        there = [self._path] if self._path.exists() else []
        stats = [(each.name, each.stat()) for each in (*there, *logging.pieces(self._path))]
        state = [(name, stat.length, stat.mtime) for name, stat in stats]
        if state == (self._state or []):
            return False, []
        void, self._state = self._state is not None, state
        return void, logging.read_lines(self._path)
