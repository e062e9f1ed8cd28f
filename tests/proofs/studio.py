"""The studio's page used at random, timed, and photographed.

COMMAND   uv run python tests/proofs/studio.py clicks --minutes 30
          uv run python tests/proofs/studio.py times [--cold]
          uv run python tests/proofs/studio.py crowd
          uv run python tests/proofs/studio.py pictures docs
TIME      as asked; the others about a minute each on two quiet CPU cores
RESULT    clicks: no error in the browser's console, none in the terminal, and the memory of server
          and page in the last third within a quarter of that in the middle third, else exit status
          1. times: seconds, on the clock and of all processors, from the command to the page, and
          from *Answer* to the first answer, the first sound and the fourth answer; `--cold` begins
          with an empty cache of compiled programs, as the first start ever does. crowd: a hundred
          answers at once: how many came, and how long the page's own requests and frames took
          meanwhile. pictures: the page on a desk and on a phone, in light and dark.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import browser, browser_path, opened, until

PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20
TARGETS = """() => {
  const all = [...document.querySelectorAll("button, select, input, summary, canvas")];
  return all.filter((each) => each.offsetParent && !each.disabled && each.id !== "load")
    .map((each) => [each.id, each.tagName, each.type ?? ""]);
}"""
FIND = """(n) => {
  const all = [...document.querySelectorAll("button, select, input, summary, canvas")];
  const each = all.filter((each) => each.offsetParent && !each.disabled && each.id !== "load")[n];
  each?.scrollIntoView({block: "center"});
  const box = each?.getBoundingClientRect();
  return box && [box.x, box.y, box.width, box.height];
}"""
KEYS = ["Space", "Home", "r", "r", "Enter", "Delete", "ArrowUp", "ArrowLeft", "Shift+ArrowRight",
        "Alt+ArrowUp", "Control+z", "Control+y", "a", "s", "x", "z", "k", "Escape"]  # fmt: skip


@contextmanager
def command(cache: str | None = None) -> Iterator[tuple[subprocess.Popen, str]]:
    """The command in a process of its own, and its address.

    Args:
        cache: folder of compiled programs; None for the usual one.
    """
    variables = os.environ | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {})
    words = [sys.executable, "-m", "musegan_jax", "studio", "--no-browser", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=variables)  # fmt: skip
    assert process.stdout and process.stderr
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        said = process.stderr.read().splitlines()
        process.wait()
        process.said = [line for line in said if "the studio" not in line]  # pyright: ignore


def megabytes(process: subprocess.Popen) -> float:
    """Of memory that a process has."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE


def clicks(minutes: float, seed: int) -> int:
    """Use the page at random."""
    said: list[str] = []
    rng, seen = random.Random(seed), []
    with command() as (process, address), browser() as chromium:
        page = opened(chromium, address, said)
        session = page.context.new_cdp_session(page)
        page.select_option("#melodies", label="twinkle")
        begin = last = time.monotonic()
        count = 0
        while time.monotonic() < begin + 60 * minutes:
            act(page, rng)
            count += 1
            if time.monotonic() - last > 60 * minutes / 30:
                last = time.monotonic()
                session.send("HeapProfiler.collectGarbage")
                heap = session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
                seen.append((megabytes(process), heap))
                print(f"{(last - begin) / 60:6.1f} minutes, {count} acts, server {seen[-1][0]:.0f} "
                      f"MB, page {heap:.1f} MB, {len(said)} errors", flush=True)  # fmt: skip
        assert process.poll() is None, "the server has ended"
    third = len(seen) // 3
    flat = True
    for name, values in zip(("server", "page"), zip(*seen, strict=True), strict=True):
        middle, end = (statistics.median(values[n * third : (n + 1) * third]) for n in (1, 2))
        print(f"{name}: {middle:.1f} MB in the middle third, {end:.1f} MB in the last")
        flat &= end < 1.25 * middle
    # What cannot be answered, such as an empty melody, is refused: the browser calls that an error.
    wrong = [line for line in said if "400 (Bad Request)" not in line] + process.said  # pyright: ignore
    print("\n".join(wrong[:20]) or "no error")
    return int(bool(wrong) or not flat)


def act(page: Any, rng: random.Random) -> None:
    """One thing that a hand might do."""
    chance = rng.random()
    if chance < 0.2:
        page.keyboard.press(rng.choice(KEYS))
        return
    targets = page.evaluate(TARGETS)
    roll = next((n for n, each in enumerate(targets) if each[0] == "roll"), None)
    n = roll if roll is not None and chance < 0.45 else rng.randrange(len(targets))
    box = page.evaluate(FIND, n)
    if box is None:
        return
    x, y, width, height = box
    page.mouse.move(x + rng.random() * width, y + rng.random() * height)
    kind, tag = targets[n][2], targets[n][1]
    if tag == "SELECT":
        page.evaluate(
            """([n, r]) => {
              const all = [...document.querySelectorAll("button, select, input, summary, canvas")];
              const each = all.filter((e) => e.offsetParent && !e.disabled && e.id !== "load")[n];
              if (each?.tagName !== "SELECT" || !each.options.length) return;
              each.selectedIndex = Math.floor(r * each.options.length);
              each.dispatchEvent(new Event("change", {bubbles: true}));
            }""",
            [n, rng.random()],
        )
        return
    page.mouse.down(button="right" if tag == "CANVAS" and rng.random() < 0.1 else "left")
    if tag == "CANVAS" or kind == "range":
        page.mouse.move(x + rng.random() * width, y + rng.random() * height, steps=3)
    page.mouse.up()
    page.mouse.up(button="right")
    if kind == "number":
        page.keyboard.type(str(rng.randrange(300)))
    if targets[n][0] == "help":
        page.keyboard.press("Escape")


def cpu_seconds(process: subprocess.Popen) -> float:
    """Of all processors that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times(cold: bool) -> int:
    """From the command to the page to the sound."""
    folder = tempfile.TemporaryDirectory() if cold else nullcontext()
    began = time.monotonic()
    with folder as cache, command(cache) as (process, address), browser() as chromium:
        served, used = time.monotonic() - began, cpu_seconds(process)
        print(f"served {served:.2f} s after the command ({used:.2f} s of a processor)")
        began = time.monotonic()
        page = opened(chromium, address, [])
        print(f"page ready {time.monotonic() - began:.2f} s later")
        page.select_option("#melodies", label="ode to joy")
        began, used = time.monotonic(), cpu_seconds(process)

        def tell(what: str) -> None:
            now, spent = time.monotonic() - began, cpu_seconds(process) - used
            print(f"{what} {now:.2f} s after Answer (server: {spent:.2f} s of a processor)")

        page.click("#answer")
        until(page, "() => document.querySelectorAll('#cards .card').length >= 1")
        tell("first answer of 16 bars seen")
        until(page, """() => {
          const meter = studio.meter ??= studio.listen();
          const wave = new Float32Array(meter.fftSize);
          meter.getFloatTimeDomainData(wave);
          return wave.some((x) => Math.abs(x) > 0.001);
        }""")  # fmt: skip
        tell("heard")
        until(page, "() => document.querySelectorAll('#cards .card').length >= 4")
        tell("fourth answer seen")
    return 0


QUICK = """async () => {
  const answer = async () => {
    const began = performance.now();
    const headers = {"X-Studio-Token": sessionStorage.getItem("studio-key")};
    await (await fetch("api/about", {headers})).json();
    return performance.now() - began;
  };
  const frame = () => new Promise((done) => {
    const began = performance.now();
    requestAnimationFrame(() => done(performance.now() - began));
  });
  return [await answer(), await frame()];
}"""


def crowd(count: int) -> int:
    """Many answers at once, and how quick the page is meanwhile."""
    notes = [[480 * n, 480 * n + 480, 60 + n % 8] for n in range(16)]
    body = json.dumps(
        {"model": "chorales", "bpm": 100, "metre": [4, 4], "key": None, "temperature": 1,
         "melody": {"notes": notes}, "wanted": [{"ends": [[0, 0]]}]}
    ).encode()  # fmt: skip
    with command() as (_, address), browser() as chromium:
        page = opened(chromium, address, [])
        base, _, key = address.partition("#")

        def ask(_: int) -> bool:
            request = urllib.request.Request(
                f"{base}api/answers", body, {"X-Studio-Token": key, "Host": base[7:-1]}
            )
            with urllib.request.urlopen(request, timeout=600) as reply:
                return bool(json.loads(reply.read().splitlines()[-1]).get("voices"))

        ask(0)
        began, waits = time.monotonic(), []
        with ThreadPoolExecutor(count) as pool:
            replies = [pool.submit(ask, n) for n in range(count)]
            while not all(reply.done() for reply in replies):
                waits.append(page.evaluate(QUICK))
                time.sleep(0.1)
            came = sum(reply.result() for reply in replies)
        print(f"{came} of {count} answers came, in {time.monotonic() - began:.1f} s")
        for name, values in zip(("a request", "a frame"), zip(*waits, strict=True), strict=True):
            print(f"{name} of the page meanwhile: median {statistics.median(values):.0f} ms, "
                  f"at most {max(values):.0f} ms, of {len(values)}")  # fmt: skip
    return int(came < count)


def pictures(folder: Path) -> int:
    """The page on a desk and on a phone."""
    desk = {"viewport": {"width": 1440, "height": 1080}}
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
    with command() as (_, address), browser() as chromium:
        for name, settings, scheme in (("studio", desk, "light"), ("studio-dark", desk, "dark"),
                                       ("studio-phone", phone, "light"),
                                       ("studio-phone-dark", phone, "dark")):  # fmt: skip
            page = opened(chromium, address, [], color_scheme=scheme, **settings)
            page.select_option("#melodies", label="ode to joy")
            page.click("#answer")
            until(page, "() => document.querySelectorAll('#cards .card').length >= 4")
            until(page, "() => document.getElementById('progress').hidden")
            page.evaluate("() => studio.player.stop({rewind: true})")
            page.locator(".voice").nth(3).get_by_role("button", name="Keep").click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            if name.startswith("studio-phone"):
                page.evaluate("() => scrollTo(0, 0)")
            page.screenshot(path=folder / f"{name}.png")
            page.context.close()
            print(folder / f"{name}.png", (folder / f"{name}.png").stat().st_size)
    return 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    what = parser.add_subparsers(dest="what", required=True)
    random_ = what.add_parser("clicks")
    random_.add_argument("--minutes", type=float, default=30)
    random_.add_argument("--seed", type=int, default=0)
    what.add_parser("times").add_argument("--cold", action="store_true")
    what.add_parser("crowd").add_argument("--count", type=int, default=100)
    what.add_parser("pictures").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if browser_path() is None:
        print("no Chromium on this machine")
        return 2
    if arguments.what == "clicks":
        return clicks(arguments.minutes, arguments.seed)
    if arguments.what == "times":
        return times(arguments.cold)
    return crowd(arguments.count) if arguments.what == "crowd" else pictures(arguments.folder)


if __name__ == "__main__":
    raise SystemExit(main())
