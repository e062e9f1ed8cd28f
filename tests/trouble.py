"""What a reader may do to its process; a module of its own, as each process imports it."""

import os
import signal
import time


def trouble(item: str) -> str:
    """What a reader may do to its process."""
    if item == "sleeps":
        time.sleep(600)
    if item == "computes":
        while True:
            sum(range(1000))
    if item == "grows":
        return str(len(bytearray(2**32)))
    if item == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    return item.upper()
