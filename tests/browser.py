"""The studio's page in the machine's browser, for tests, pictures and proofs."""

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEY = "the-key"


@functools.cache
def browser_path() -> str | None:
    """A Chromium of this machine that runs, or one that Playwright installed; None without."""
    own = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright"
    found = [shutil.which(name) for name in NAMES]
    found += sorted(map(str, Path(own).glob("chromium-*/chrome-linux*/chrome")))
    return next((path for path in found if path and _runs(path)), None)


def _runs(path: str) -> bool:
    """Whether it starts: a library may be missing, or it may only tell how to install one."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def served(studio: Any) -> Iterator[str]:
    """Serve a `Studio` in a thread; gives its address."""
    from musegan_jax.studio.serving import hosts

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = studio.app(KEY, hosts("127.0.0.1", port))
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/#{KEY}"
        finally:
            server.should_exit = True
            thread.join(30)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """The browser, by Playwright, without a window."""
    from playwright.sync_api import sync_playwright

    # A sandbox needs rights that root in a container has not.
    words = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=browser_path(), args=words)


def opened(browser: Any, address: str, said: list[str], **settings: Any) -> Any:
    """The page, once it is ready; what its console says of errors goes into `said`."""
    page = browser.new_context(
        **{"viewport": {"width": 1280, "height": 900}, **settings}
    ).new_page()
    page.set_default_timeout(120_000)
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.locator("html[data-ready]").wait_for(state="attached")
    return page


def until(page: Any, condition: str, seconds: float = 120) -> Any:
    """Wait until a function of JavaScript gives something true; gives that.

    Playwright's own way compiles text later, which the page's policy forbids.
    """
    end = time.monotonic() + seconds
    while not (found := page.evaluate(condition)):
        assert time.monotonic() < end, f"in vain: {condition}"
        time.sleep(0.05)
    return found


def spot(page: Any, tick: float, pitch: float) -> tuple[float, float]:
    """Where a time and a pitch are on the screen: the middle of the pitch's row."""
    return tuple(
        page.evaluate(
            """([tick, pitch]) => {
              const {canvas, frame, perBeat, row, high} = studio.roll;
              const box = canvas.getBoundingClientRect();
              return [box.left + 46 + tick * perBeat / 480 - frame.scrollLeft,
                      box.top + 26 + (high - pitch + 0.5) * row - frame.scrollTop];
            }""",
            [tick, pitch],
        )
    )
