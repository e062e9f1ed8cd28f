"""Stop requests and ends: the run saves, and all its processes stop at the same iteration.

A thread listens. It hears of a signal, and of what other processes tell, also while the main thread
waits for a device that never answers.
"""

import contextlib
import itertools
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from musegan_jax import terminal
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs import processes
from musegan_jax.training import distributed

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_POLL = 1.0  # seconds between looks at what other processes tell
_HEARD = 3.0  # seconds to hear from a process why it ended, before the connection to it is blamed
_HANGING = 5.0  # seconds to tell the others that one hangs
_NEVER = 2**31
_runs = itertools.count()  # in this process, which is the same in all


@contextlib.contextmanager
def stop_requests(seconds: float) -> Iterator["Stop"]:
    """Listen while the block runs; it should span loading, compiling and training.

    One process: SIGINT, SIGTERM or SIGHUP (a closed terminal) requests a stop, once training has
    begun; a second SIGINT interrupts as soon as Python can, a third ends the process at once.
    Several processes: a signal to any of them stops all at one iteration; otherwise the first to
    leave would leave the others waiting in a sum over devices. Before training has begun it ends
    all of them. And if a process leaves the block with an error, the others print that error and
    end.

    Args:
        seconds: from a request to the end of the block, after which the process ends with an error
            and exit status 2, because it, or another one, hangs. Not while a checkpoint is being
            written, however long that takes; not after SIGINT to one process.
    """
    stop = Stop(seconds)
    stop._listen()
    try:
        yield stop
    except BaseException as error:
        stop._failed(error)
        raise
    finally:
        stop._close()


class Stop:
    """`stop(iteration)`: the signal that requests a stop, or None; call it before each iteration.

    Call `begin` before the first.
    """

    def __init__(self, seconds: float) -> None:
        """Begin to listen with `stop_requests`."""
        self._seconds = seconds
        self._several = jax.process_count() > 1
        run = next(_runs)
        self._notes, self._acknowledged = f"control-{run}", f"heard-{run}"
        self._stops = f"stops-{run}"
        self._asked: str | None = None
        self._training = False
        self._writing: Callable[[], bool] = lambda: False
        self._ending = False
        self._at = -1  # the last iteration asked about
        self._target: int | None = None  # of several processes: where all of them stop
        # Whoever holds it decides where to stop, while the main thread may not begin an iteration.
        self._lock = threading.Lock()
        self._old: dict[signal.Signals, Any] = {}
        self._interrupts = self._pressed = 0  # SIGINTs that the main, the listening thread heard
        self._wakeup: int | None = None
        self._reader, self._writer = socket.socketpair()  # on Windows, select knows no pipes
        self._thread = threading.Thread(target=self._watch, name="stop requests", daemon=True)

    def begin(self, writing: Callable[[], bool]) -> None:
        """From now on a request saves, then stops; call it where the loop begins.

        Args:
            writing: whether this process is writing a checkpoint.
        """
        self._training, self._writing = True, writing
        if not self._several:
            self._set_handlers()

    def __call__(self, iteration: int) -> str | None:
        """See the class."""
        with self._lock:
            self._at = iteration
            if self._several and (self._target is None or iteration < self._target):
                return None
            return self._asked

    def _listen(self) -> None:
        for end in (self._reader, self._writer):
            end.setblocking(False)
        if self._several:
            self._set_handlers()
        self._thread.start()

    def _set_handlers(self) -> None:
        # Signal handlers can be set in the main thread only; elsewhere there are no stop requests.
        with contextlib.suppress(ValueError):
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in _SIGNALS:
                # `nohup` ignores SIGHUP on purpose.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        """In the main thread, when it comes to it; the listening thread heard before."""
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        while not self._ending:
            if select.select([self._reader], [], [], _POLL if self._several else None)[0]:
                for number in self._reader.recv(64):
                    self._hear(number)
            if self._several:
                self._read_notes()

    def _hear(self, number: int) -> None:
        if number not in _SIGNALS:  # 0: the block has ended
            return
        name = signal.Signals(number).name
        self._pressed += number == signal.SIGINT
        if self._pressed > 2:  # the main thread waits for what cannot be interrupted
            self._leave(f"{name}, for the third time: ended at once", 128 + number)
        elif not self._training:
            self._leave(f"{name}: stopped before training began, nothing was saved", 128 + number)
        elif self._asked is None:
            self._request(name, timed=self._several or number != signal.SIGINT)

    def _request(self, name: str, timed: bool = True) -> None:
        self._asked = name
        if timed:  # first: telling the others may hang as well
            timer = threading.Timer(self._seconds, self._late)
            timer.daemon = True
            timer.start()
        if self._several:
            processes.tell(self._notes, "stop", name)
            self._agree()

    def _agree(self) -> None:
        """Decide with the other processes where to stop: before an iteration that none has begun.

        Meanwhile none can begin one. A process that is ahead cannot be needed by one that waits
        here: what it has begun, it has given to its devices already.
        """
        with self._lock:
            processes.tell(self._stops, str(jax.process_index()), self._at)
            while len(stops := processes.told(self._stops)) < jax.process_count():
                if self._ending:
                    return
                time.sleep(0.05)
            self._target = max(stops.values()) + 1

    def _late(self) -> None:
        if jax.process_index():
            time.sleep(2 * _POLL)  # process 0 tells if it is writing; it then ends the others
        written = False
        while not self._ending:
            if self._writing():
                written = True
                terminal.say(f"{self._asked}: the checkpoint is still being written, wait for it")
                if self._several:
                    processes.tell(self._notes, "writing", True)
                time.sleep(self._seconds)
            elif jax.process_index() and "writing" in processes.told(self._notes):
                return
            elif written and not self._several:
                # What comes after it has its time, too. Not where another process may hang: JAX
                # aborts this one when heartbeats have been missed, so it must be gone before.
                written = False
                time.sleep(self._seconds)
            else:
                self._leave(
                    f"a stop request was not answered within {self._seconds:.0f} s: this process "
                    "or another one of the run hangs; the run continues from its newest checkpoint",
                    2,
                    # One that hangs never hears it, and may send no heartbeats: then JAX aborts
                    # this process, at the earliest half of `HEARTBEAT_SECONDS` after the request.
                    linger=_HANGING,
                )

    def _read_notes(self) -> None:
        notes = processes.told(self._notes)
        if "end" in notes and not self._ending:
            status, message = notes["end"]
            self._leave(message, status)
        if "stop" in notes and self._asked is None:
            self._request(notes["stop"])

    def _leave(self, message: str, status: int, linger: float = processes.LINGER) -> None:
        """End this process, wherever its main thread is."""
        self._ending = True
        terminal.say(f"musegan-jax: {message}")
        self._tell_end(message, status, linger)
        distributed.leave(status)

    def _tell_end(self, message: str, status: int, linger: float = processes.LINGER) -> None:
        def tell() -> None:
            processes.tell(self._notes, "end", [status, message])
            processes.tell(self._acknowledged, str(jax.process_index()), True)
            processes.linger(self._acknowledged, linger)

        if self._several:
            # In a thread: process 0, which keeps the notes, may hang.
            telling = threading.Thread(target=tell, daemon=True)
            telling.start()
            telling.join(linger + 5)

    def _failed(self, error: BaseException) -> None:
        if self._several and isinstance(error.__cause__, jax.errors.JaxRuntimeError):
            time.sleep(_HEARD)  # the listening thread may know more, and leave
        self._ending = True
        message = " ".join(str(error).split()) if isinstance(error, UserError) else ""
        who = f"process {jax.process_index()} ended"
        self._tell_end(f"{who}: {message or first_line(error)}", 2)

    def _close(self) -> None:
        self._ending = True
        if self._several:
            # Done, so it has no iteration to stop before; a request need not wait for it.
            processes.tell(self._stops, str(jax.process_index()), _NEVER)
        for number, handler in self._old.items():
            # None: a handler that Python does not know, of JAX say.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup)
        self._writer.send(b"\0")
        self._thread.join(2 * _POLL)
        if not self._thread.is_alive():  # else it asks a process 0 that hangs, and needs them
            self._reader.close()
            self._writer.close()
