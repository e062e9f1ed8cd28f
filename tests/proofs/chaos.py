"""Disturb a run of several processes in every way, again and again; count what is lost.

COMMAND   python tests/proofs/chaos.py --events 200
          python tests/proofs/chaos.py --events 200 --heartbeat 30     (as shipped; slower)
TIME      15 s an event on two quiet cores; full disks need root, for a tmpfs

Faults, at random moments of the start and of the training, to random processes:
pauses (SIGSTOP) shorter than the heartbeat, a disk on which every fsync takes long, folder
listings that do not show what is new: the run must go on. SIGTERM: all must save and end with
status 0. SIGKILL of one or of all, a pause longer than the heartbeat, a full disk: all must end by
themselves, then all are started again. Every state that was saved must have the fingerprint that
a run left alone has at this iteration, and every restart must begin at the newest checkpoint that
was announced. Processes are forked from one that has imported everything but started no JAX
backend, which saves the time of importing; the compiled programs are kept.
"""

import argparse
import atexit
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

SAVE_EVERY = 5
MINOR = ("pause", "slow disk", "old listing")
FATAL = ("kill one", "kill one", "kill all", "terminate", "full disk", "long pause")
PATIENCE = 240  # seconds; a run that neither trains nor ends for so long hangs


def disturb(control: Path, workdir: Path) -> None:
    """In a child: make disk and listings as `control` says, at every call."""
    fsync, listdir, scandir = os.fsync, os.listdir, os.scandir

    def now(what):
        try:
            return json.loads(control.read_text()).get(what, 0)
        except (OSError, ValueError):
            return 0

    def slow(descriptor):
        time.sleep(now("slow"))
        fsync(descriptor)

    def hidden(path, name):
        lag = now("lag")
        if not lag or isinstance(path, int):
            return False
        if os.path.abspath(path) not in (str(workdir), str(workdir / "checkpoints")):
            return False
        try:
            return time.time() - os.lstat(os.path.join(path, name)).st_ctime < lag
        except OSError:
            return False

    class Scanned:
        def __init__(self, entries):
            self.entries = iter(entries)

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

    def scanned(path="."):
        with scandir(path) as entries:
            return Scanned([each for each in entries if not hidden(path, each.name)])

    os.fsync, os.scandir = slow, scanned
    os.listdir = lambda path=".": [name for name in listdir(path) if not hidden(path, name)]


class Child:
    """A process of the run."""

    def __init__(self, words: list[str], said: Path, mark: Path, setup) -> None:
        """Fork, and call the command with `words`; it touches `mark` when it has joined."""
        self.said, self.mark = said, mark
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            os.setpgid(0, 0)
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            setup()
            from musegan_jax import cli
            from musegan_jax.training import agreement

            check = agreement.on_the_command
            agreement.on_the_command = lambda config: (mark.touch(), check(config))
            status = cli.main(words)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            atexit._run_exitfuncs()  # the end of a program: JAX leaves the others there
            os._exit(status or 0)

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def send(self, number: int) -> None:
        if not self.ended():
            os.kill(self.pid, number)

    def text(self) -> str:
        return self.said.read_text(errors="replace")


class Run:
    """A workdir, the processes that train in it, and what is known of it."""

    def __init__(self, folder: Path, workdir: Path, options, disturbed: bool) -> None:
        self.folder, self.workdir, self.options = folder, workdir, options
        self.control = folder / f"control-{workdir.name}.json"
        self.disturbed = disturbed
        self.children: list[Child] = []

    def start(self, iterations: int) -> None:
        with socket.socket() as one:
            one.bind(("localhost", 0))
            address = f"localhost:{one.getsockname()[1]}"
        words = [
            "train", "--config", "configs/tiny.py", "--workdir", str(self.workdir),
            f"--data.dataset={self.folder / 'made.npz'}", "--output.melodies=",
            f"--output.save_every={SAVE_EVERY}", f"--training.iterations={iterations}",
            "--distributed", "--coordinator", address, "--processes", str(self.options.processes),
        ]  # fmt: skip

        def setup() -> None:
            # Quick to compile: of another process than 0, JAX keeps no programs.
            flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
            os.environ["XLA_FLAGS"] = flags
            from musegan_jax.training import distributed

            distributed.HEARTBEAT_SECONDS = self.options.heartbeat
            if self.disturbed:
                disturb(self.control, self.workdir)

        self.children = []
        for n in range(self.options.processes):
            mark = self.folder / f"mark-{n}"
            mark.unlink(missing_ok=True)
            said = self.folder / f"{self.workdir.name}-{n}.log"
            self.children.append(Child([*words, "--process-id", str(n)], said, mark, setup))

    def tell(self, **settings) -> None:
        temporary = self.control.with_suffix(".new")
        temporary.write_text(json.dumps(settings))
        temporary.replace(self.control)

    def logged(self) -> int:
        found = [line["iteration"] for line in lines(self.workdir / "metrics.jsonl")]
        return max(found, default=0)

    def marks(self) -> dict[int, str]:
        found = lines(self.workdir / "fingerprints.jsonl")
        return {line["iteration"]: line["state"] for line in found}

    def wait(self, done, what: str, limit: float = PATIENCE) -> float:
        """Seconds until `done()`."""
        begin = time.monotonic()
        while not done():
            if time.monotonic() - begin > limit:
                said = "\n".join(child.text()[-2000:] for child in self.children)
                for child in self.children:
                    child.send(signal.SIGKILL)
                raise SystemExit(f"HANGS: {what}, {limit:.0f} s\n{said}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def all_ended(self) -> bool:
        return all([child.ended() for child in self.children])

    def any_ended(self) -> bool:
        return any(child.ended() for child in self.children)


def lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    found = []
    for text in path.read_text().splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:  # being written
            continue
    return found


class Chaos:
    """The faults, and the account of them."""

    def __init__(self, run: Run, disk: Path | None, moments: random.Random) -> None:
        self.run, self.disk, self.moments = run, disk, moments
        self.count: collections.Counter[str] = collections.Counter()
        self.longest: dict[str, float] = {}
        self.lost: list[int] = []
        self.wrong: list[str] = []
        self.seen: dict[int, str] = {}

    def account(self) -> None:
        """Compare what was saved with what was saved at the same iteration before."""
        for iteration, mark in self.run.marks().items():
            if self.seen.setdefault(iteration, mark) != mark:
                self.wrong.append(f"iteration {iteration}: other bits when trained again")

    def cycle(self) -> str:
        """Start, disturb, end; returns what was done."""
        run, moments = self.run, self.moments
        announced, reached = max(run.marks(), default=0), run.logged()
        lag = moments.choice((0, 0, 5, 600))
        run.tell(lag=lag)
        run.start(10**6)
        done = [f"listing {lag} s old"] * bool(lag)
        self.count["old listing"] += bool(lag)
        run.wait(
            lambda: run.any_ended() or all(child.mark.exists() for child in run.children), "joining"
        )
        if moments.random() < 0.8:
            first = run.children[0]
            run.wait(lambda: run.any_ended() or "iterations" in first.text(), "the start")
            found = re.search(r"resuming at iteration (\d+)", first.text())
            begun = int(found[1]) if found else 0
            if not run.any_ended():
                if begun < announced:
                    self.wrong.append(f"begun at {begun}, though {announced} was announced")
                self.lost.append(max(0, reached - begun))
            target = begun + moments.randrange(1, 4 * SAVE_EVERY)
            run.wait(lambda: run.any_ended() or run.logged() > target, "the first iterations")
            for _ in range(moments.randrange(10)):
                done.append(self.minor())
        else:
            time.sleep(moments.uniform(0, 3))
            done.append("early")
        if run.any_ended():
            said = "\n".join(child.text() for child in run.children)
            self.wrong.append(f"ended without a fault that ends it: {said[-1500:]}")
            run.wait(run.all_ended, "the end")
        else:
            done.append(self.fatal())
        self.account()
        return ", ".join(done)

    def minor(self) -> str:
        run, moments = self.run, self.moments
        kind = moments.choice(MINOR)
        self.count[kind] += 1
        if kind == "pause":
            child = moments.choice(run.children)
            child.send(signal.SIGSTOP)
            time.sleep(moments.uniform(0.05, 0.3 * run.options.heartbeat))
            child.send(signal.SIGCONT)
        else:
            run.tell(**({"slow": 0.5} if kind == "slow disk" else {"lag": 600}))
            time.sleep(moments.uniform(0.5, 3))
        before = run.logged()
        run.wait(lambda: run.any_ended() or run.logged() > before, f"after a {kind}")
        run.tell()
        return kind

    def fatal(self) -> str:
        run, moments = self.run, self.moments
        kind = moments.choice([each for each in FATAL if self.disk or each != "full disk"])
        victim = moments.choice(run.children)
        ballast = run.workdir.parent / "ballast"
        begin = time.monotonic()
        if kind == "kill one":
            victim.send(signal.SIGKILL)
        elif kind == "kill all":
            for child in run.children:
                child.send(signal.SIGKILL)
        elif kind == "terminate":
            victim.send(signal.SIGTERM)
        elif kind == "full disk":
            status = os.statvfs(self.disk)
            room = status.f_bavail * status.f_frsize
            with contextlib.suppress(OSError):  # the run may be quicker to fill it
                ballast.write_bytes(bytes(max(0, room - moments.randrange(0, 200_000))))
        else:
            victim.send(signal.SIGSTOP)
            others = [child for child in run.children if child is not victim]
            run.wait(lambda: all([child.ended() for child in others]), "after a long pause")
            self.longest["long pause, the others"] = max(
                self.longest.get("long pause, the others", 0), time.monotonic() - begin
            )
            begin = time.monotonic()
            victim.send(signal.SIGCONT)
        run.wait(run.all_ended, f"after a {kind}")
        self.count[kind] += 1
        self.longest[kind] = max(self.longest.get(kind, 0), time.monotonic() - begin)
        ballast.unlink(missing_ok=True)
        self.judge(kind, victim)
        return f"{kind} ({time.monotonic() - begin:.1f} s)"

    def judge(self, kind: str, victim: Child) -> None:
        """Whether each process ended as it should, with a line."""
        for n, child in enumerate(self.run.children):
            text = child.text()
            killed = kind == "kill all" or (kind == "kill one" and child is victim)
            if killed or (kind == "terminate" and child.status in (0, 128 + signal.SIGTERM)):
                continue
            # The watching process of one that was aborted prints a moment later.
            end = time.monotonic() + 10
            while "musegan-jax: " not in child.text() and time.monotonic() < end:
                time.sleep(0.1)
            text = child.text()
            if child.status == 0 or "musegan-jax: " not in text or "Traceback" in text:
                self.wrong.append(f"{kind}: process {n} ended {child.status}: {text[-1500:]}")
            if kind == "full disk" and "space" not in text.lower():
                self.wrong.append(f"full disk: process {n} says {text[-500:]}")

    def report(self) -> None:
        total = sum(self.count.values())
        print(f"{total} events: {', '.join(f'{n} {kind}' for kind, n in self.count.items())}")
        print(
            f"lost iterations: {sum(self.lost)} in {len(self.lost)} restarts, at most "
            f"{max(self.lost, default=0)} (saved every {SAVE_EVERY})"
        )
        for kind, seconds in self.longest.items():
            print(f"longest time until all had ended: {kind} {seconds:.1f} s")


def straight(run: Run, iterations: int) -> dict[int, str]:
    """Train without disturbance; the fingerprints."""
    run.start(iterations)
    run.wait(run.all_ended, "the run left alone", 3600)
    assert all(child.status == 0 for child in run.children), run.children[0].text()
    return run.marks()


def prepare(folder: Path) -> None:
    """Import everything, before the first fork."""
    sys.path.insert(0, "tests")
    sys.argv[1:] = []
    from conftest import make_dataset

    for name in ("JAX_ENABLE_COMPILATION_CACHE", "XLA_FLAGS"):  # set for the tests
        os.environ.pop(name, None)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    import jax

    jax.config.update("jax_enable_compilation_cache", True)
    import musegan_jax.cli
    import musegan_jax.training.loop
    import musegan_jax.training.profiling  # noqa: F401
    from musegan_jax.data import dataset
    from musegan_jax.rendering import plots  # noqa: F401

    dataset.save(make_dataset(), folder / "made.npz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=600, help="end earlier than that")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--heartbeat", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp())
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(disk)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    end = time.monotonic() + 60 * options.minutes
    try:
        prepare(folder)
        run = Run(folder, disk / "run", options, disturbed=True)
        chaos = Chaos(run, disk if mounted else None, random.Random(seed))
        while sum(chaos.count.values()) < options.events and time.monotonic() < end:
            done = chaos.cycle()
            print(f"{sum(chaos.count.values())} at {run.logged()}: {done}", flush=True)
            for problem in chaos.wrong:
                print(f"  WRONG: {problem}", flush=True)
        chaos.report()
        run.tell()
        last = max(run.marks(), default=0) + 2
        found = {**chaos.seen, **straight(run, last)}
        print(f"left alone to iteration {last} ...", flush=True)
        wanted = straight(Run(folder, folder / "straight", options, disturbed=False), last)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    differ = [n for n, mark in wanted.items() if n in found and found[n] != mark]
    common = sum(n in found for n in wanted)
    print(f"{common} states compared with a run left alone (seed {seed}): {len(differ)} differ")
    print(f"{len(chaos.wrong)} other faults")
    return int(bool(differ or chaos.wrong) or not common)


if __name__ == "__main__":
    raise SystemExit(main())
