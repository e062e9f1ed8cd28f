"""The command `musegan-jax`: how it runs and how it ends."""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

from musegan_jax.arguments import make_parser
from musegan_jax.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 with one line on stderr."""
    if argv is None:
        _end_on_interrupt()
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.overrides = rest
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        if arguments.debug:
            traceback.print_exc()
        return _failed(" ".join(str(error).split()), own_process=argv is None)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would flush and complain
        return 0
    except OSError as error:  # a full disk, say: nobody nearer knew more
        if arguments.debug:
            traceback.print_exc()
        reason = error.strerror or " ".join(str(error).split())
        return _failed(f"{error.filename or 'writing'}: {reason}", own_process=argv is None)


def _failed(message: str, own_process: bool) -> int:
    print(f"musegan-jax: {message}", file=sys.stderr, flush=True)
    if own_process and "jax" in sys.modules:
        # An orderly exit would wait for other processes that may never come, and for Orbax to
        # write what it cannot, with a traceback for each file.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(2)
    return 2


def _interrupted() -> NoReturn:
    print("musegan-jax: interrupted", file=sys.stderr, flush=True)
    # Python's own way out crashes when XLA is compiling in other threads.
    os._exit(130)


def _end_on_interrupt() -> None:
    """Let Ctrl-C end the command within two seconds, wherever it is.

    Python raises KeyboardInterrupt when its main thread comes to it: not while XLA compiles; and
    in a callback of the garbage collector it is lost. A thread hears of the signal at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            # A running training has a handler of its own: it saves first.
            if signal.getsignal(number[0]) is signal.default_int_handler:
                time.sleep(2)
                _interrupted()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())
