"""What a reader may do to its process; a module of its own, as each process imports it."""

import os
import signal
import time
from pathlib import Path

KEPT: list[bytearray] = []


def trouble(item: str) -> str:
    """What a reader may do to its process."""
    if item == "sleeps":
        time.sleep(600)
    if item == "computes":
        while True:
            sum(range(1000))
    if item == "grows":
        return str(len(bytearray(2**32)))
    if item == "keeps":
        KEPT.append(bytearray(150 * 2**20))
    if item == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "is killed" or (item.startswith("/") and not Path(item).exists()):
        if item.startswith("/"):  # once
            Path(item).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item.upper()
