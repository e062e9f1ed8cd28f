"""What is printed: names from files must not move the cursor, nor fake lines of ours."""

import contextlib
import sys
import time
from typing import Any

LONGEST = 4000  # characters of a line


def shown(text: Any, longest: int = LONGEST) -> str:
    """Text on one line, with control characters and bytes that are no UTF-8 as escapes, shortened.

    Args:
        text: anything; its `str`.
        longest: characters, from which on the rest is left out.
    """
    text = str(text)
    cut = text[:longest] + ("..." if len(text) > longest else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def say(text: Any) -> None:
    """Print a line for the user on stderr; a reader who has left, or a full disk, is no error."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(shown(text), file=sys.stderr, flush=True)


def show(text: Any) -> None:
    """Print a line of a command's result on stdout.

    Raises:
        OSError: if it cannot be written.
    """
    print(shown(text))


def is_text(value: Any, longest: int) -> bool:
    """Whether a value read from a file is text that can be hashed and written as UTF-8."""
    return (
        type(value) is str
        and len(value) <= longest
        # JSON can hold half of a surrogate pair.
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


class Progress:
    """How many of all are done, how fast, and how long it will take.

    On a terminal a line that changes, elsewhere a line each half minute; nothing of what takes less
    than a second.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._total, self._first = what, total, done
        self._begin = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._open = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._write("\n")

    def __call__(self, done: int) -> None:
        """Say that so many are done."""
        now = time.monotonic()
        if now - self._told < (1 if self._terminal else 30):
            return
        self._told = now
        rate = max(done - self._first, 1) / (now - self._begin)
        minutes, seconds = divmod(round((self._total - done) / rate), 60)
        line = (
            f"{done:,} of {self._total:,} {self._what}  {rate:.0f}/s  {minutes}:{seconds:02} left"
        )
        self._open = self._terminal
        self._write(f"\r{line:<70}" if self._terminal else f"{line}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
