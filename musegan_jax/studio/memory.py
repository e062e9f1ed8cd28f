"""Memory that nobody needs any more, for other processes."""

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    A compiler frees hundreds of megabytes in small pieces, in many threads, and glibc keeps them.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows has none to ask
        return lambda _: None
