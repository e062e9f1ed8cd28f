"""The command `musegan-jax`: how it runs and how it ends."""

# Few imports here: before `main` runs, Ctrl-C is a traceback.
import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from musegan_jax.errors import UserError
from musegan_jax.terminal import say

FAULT = 3  # exit status for what should not happen; 1 means that two runs differ


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 with one line on stderr."""
    own = argv is None
    try:
        if own:
            _open_streams()
            _end_on_interrupt()
        status = _run(argv)
        sys.stdout.flush()
        return status
    except UserError as error:
        return _failed(" ".join(str(error).split()), own, error)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        _discard_output(own)
        return 0
    except OSError as error:  # a full disk, say: nobody nearer knew more
        _discard_output(own)
        reason = error.strerror or " ".join(str(error).split())
        return _failed(f"{error.filename or 'writing'}: {reason}", own, error)
    except Exception as error:
        if not own:
            raise
        if _interrupts:  # an import that is interrupted may end in any error
            _interrupted()
        _debug.append(True)
        message = "this is a fault of the program, not of what it was given; please report it"
        return _failed(message, own, error, FAULT)


_debug: list[bool] = []  # not empty if the traceback of an error is to be shown
_interrupts: list[int] = []  # signals for Ctrl-C so far


def _run(argv: Sequence[str] | None) -> int:
    from musegan_jax.arguments import make_parser

    _debug.clear()
    parser = make_parser()
    try:
        arguments, rest = parser.parse_known_args(argv)
        if rest and not hasattr(arguments, "overrides"):
            parser.error(f"unknown arguments: {' '.join(rest)}")
    except SystemExit as end:  # after --help, or an error that has been told
        return end.code if isinstance(end.code, int) else 0
    arguments.overrides = rest
    if arguments.debug:
        _debug.append(True)
    if argv is None and signal.getsignal(signal.SIGINT) is _leave:
        # Every command needs JAX. While it is imported, an exception of Ctrl-C may be raised where
        # its C++ code calls Python, which aborts the process: until then the handler ends at once.
        import jax  # noqa: F401

        # From here on files are being written, and an exception lets them be cleaned up.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return arguments.run(arguments) or 0


def _failed(message: str, own: bool, error: BaseException, status: int = 2) -> int:
    if _debug:
        import traceback

        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    say(f"musegan-jax: {message}")
    if own and "jax" in sys.modules:
        # An orderly exit would wait for other processes that may never come, and for Orbax to
        # write what it cannot, with a traceback for each file.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    return status


def _open_streams() -> None:
    """Give closed streams the null device, or the next file to be opened would get their number."""
    with contextlib.suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(opened)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    # A terminal that cannot show a letter gets an escape for it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output(own: bool) -> None:
    """Else the interpreter would try to write the rest when it ends, and complain."""
    with contextlib.suppress(OSError):
        if own:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _interrupted() -> NoReturn:
    say("musegan-jax: interrupted")
    # Python's own way out crashes when XLA is compiling in other threads.
    os._exit(130)


def _leave(number: int, frame: object) -> None:
    _interrupted()


def _end_on_interrupt() -> None:
    """Let Ctrl-C end the command within two seconds, wherever it is.

    Python raises KeyboardInterrupt when its main thread comes to it: not while XLA compiles; and
    in a callback of the garbage collector it is lost. A thread hears of the signal at once. Until
    the command is parsed there is nothing to clean up, and the handler ends at once.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    told = sys.unraisablehook

    def lost(failure: Any) -> None:
        # In a callback Python prints the interrupt and goes on; the thread below ends the command.
        if not issubclass(failure.exc_type, KeyboardInterrupt):
            told(failure)

    sys.unraisablehook = lost

    def watch() -> None:
        while number := os.read(reader, 1):
            _interrupts.append(number[0])
            # A running training has a handler of its own: it saves first.
            if signal.getsignal(number[0]) is signal.default_int_handler:
                time.sleep(2)
                _interrupted()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())
