"""What is printed: names from files must not move the cursor, nor fake lines of ours."""

import contextlib
import sys
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
