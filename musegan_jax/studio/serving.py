"""The studio's life: models, address, browser, and the end by Ctrl-C."""

import contextlib
import itertools
import os
import secrets
import signal
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from musegan_jax import files
from musegan_jax.errors import UserError
from musegan_jax.models import model_file
from musegan_jax.models.model import Model
from musegan_jax.runs import compilation_cache
from musegan_jax.studio.answering import usual_lengths
from musegan_jax.studio.guard import is_number
from musegan_jax.studio.jobs import Worker
from musegan_jax.studio.server import Studio
from musegan_jax.studio.watching import Watched
from musegan_jax.terminal import say
from musegan_jax.training.load import load_model

PORT = 8642  # if it is free; any other port if not
HERE = ("127.0.0.1", "localhost", "::1")


def serve(
    host: str = HERE[0],
    port: int | None = None,
    browser: bool = True,
    sources: Sequence[str] = (),
    watch: str | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        host: address to listen at.
        port: None for `PORT`, or any other where that is taken.
        browser: open the page in the browser of this machine.
        sources: model files and runs, beside the shipped model.
        watch: a run whose training the page shows.

    Raises:
        UserError: if a model cannot be loaded, or the port is taken.
    """
    with contextlib.closing(_listen(host, port)) as listening:
        compilation_cache.keep()
        models = load_models(sources)
        watched = None if watch is None else Watched(files.locate(watch))
        token = secrets.token_urlsafe(16)
        saved = watched and watched.model()
        every = [*models.values(), *([saved] if saved else [])]
        warm = itertools.chain.from_iterable(map(usual_lengths, every))
        worker = Worker(warm, _report)
        number = listening.getsockname()[1]
        app = Studio(models, worker, _report, watched).app(token, hosts(host, number))
        address = f"http://{_shown(host)}:{number}/#{token}"
        print(address, flush=True)
        if host not in HERE:
            say(
                f"--host {host}: whoever can reach this machine there and knows the address above "
                "can use the studio; what is sent is not encrypted"
            )
        say("the studio is open; Ctrl-C ends it")
        if browser:
            # In a thread: some browsers are run in the foreground.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        _Server(config).run(sockets=[listening])
        worker.end(1.0)
    say("the studio has ended")
    sys.stdout.flush()
    # An orderly exit would crash where XLA still compiles in the other thread, and takes seconds.
    os._exit(0)


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after its end; here Ctrl-C is the usual end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at the first signal, without waiting at the second."""

        def stop(number: int, frame: Any) -> None:
            self.force_exit, self.should_exit = self.should_exit, True

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def hosts(host: str, port: int) -> frozenset[str] | None:
    """The values of `Host` that are let in; None for any that is a number."""
    if host in HERE:
        return frozenset(f"{_shown(each)}:{port}" for each in HERE)
    return None if is_number(_shown(host)) else frozenset([f"{host}:{port}"])


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket at the address.

    Raises:
        UserError: if there is no such address, or its port is taken.
    """
    wanted = [PORT, 0] if port is None else [port]
    for number in wanted:
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except (OSError, OverflowError, UnicodeError) as error:
            if number == wanted[-1]:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"{host}:{number}: cannot listen there ({reason}); give another --port"
                ) from error
    raise AssertionError


def load_models(sources: Sequence[str]) -> dict[str, Model]:
    """The shipped models and others, by names that differ.

    Raises:
        UserError: if one cannot be loaded.
    """
    models = {name: model_file.load(path) for name, path in model_file.shipped_models().items()}
    for source in sources:
        run = files.is_remote(source) or Path(source).is_dir()
        model = load_model(files.locate(source)) if run else model_file.load(source)
        stem = Path(source).resolve().name if run else Path(source).stem
        names = (stem + (f" {n}" if n > 1 else "") for n in itertools.count(1))
        models[next(name for name in names if name not in models)] = model
    return models


def _report(error: BaseException) -> None:
    say("a fault of the program; please report it:")
    for line in traceback.format_exception(error):
        for part in line.splitlines():
            say(part)
