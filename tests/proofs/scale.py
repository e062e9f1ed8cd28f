"""A hundred thousand files, and a million bars: what building and training on them take.

    python tests/proofs/scale.py files [--count 100000] [--workers 2]
    python tests/proofs/scale.py bars [--bars 1000000] [--iterations 60]

`files` makes small MIDI files in a temporary folder (five tracks, 16 bars; one in a thousand is
damaged), builds a dataset of them with the command, builds it again with an interruption (SIGKILL
of the process and its workers half-way), and in three parts that are merged: all files must have
equal bytes. It prints files/s, processor seconds per file (of all processes), and the peak memory
of the largest process.

`bars` writes a dataset of five tracks, and prints: seconds to load it, to find its windows, and to
collect the facts of its music, with the peak memory of a process that does this; the time of an
iteration of `--config lpd5` shrunk to small networks with the dataset on the device and fed by the
host, in turns, three times each, and the ratio of each turn.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMMAND = [sys.executable, "-m", "musegan_jax", "data"]
TPQ = 24


def _number(value: int) -> bytes:
    """MIDI's numbers of varying length."""
    parts = [value & 127]
    while value := value >> 7:
        parts.append(128 | value & 127)
    return bytes(reversed(parts))


def song(rng: random.Random) -> bytes:
    """A type 1 file of five tracks in 16 bars; made by hand, as mido takes milliseconds."""
    tracks = []
    for channel, program, low in ((9, 0, 36), (0, 0, 60), (1, 25, 52), (2, 33, 36), (3, 48, 55)):
        events = b"" if channel == 9 else bytes((0, 0xC0 | channel, program))
        for _ in range(32):
            pitch, length = low + rng.randrange(12), rng.choice((12, 24, 36, 48))
            events += bytes((0, 0x90 | channel, pitch, 90))
            events += _number(length) + bytes((0x80 | channel, pitch, 0))
        events += b"\x00\xff\x2f\x00"
        tracks.append(b"MTrk" + len(events).to_bytes(4, "big") + events)
    head = b"MThd" + (6).to_bytes(4, "big") + bytes((0, 1, 0, len(tracks), 0, TPQ))
    return head + b"".join(tracks)


def make_files(folder: Path, count: int) -> None:
    """`count` files in folders of a thousand."""
    rng = random.Random(0)
    for n in range(count):
        if n % 1000 == 0:
            (folder / f"{n // 1000:03d}").mkdir(parents=True)
        content = song(rng)
        if n % 1000 == 7:
            content = content[:9]
        (folder / f"{n // 1000:03d}" / f"{n:06d}.mid").write_bytes(content)


def run(*words: object) -> tuple[float, float, float]:
    """Seconds, processor seconds with those of all workers, and MiB of the largest process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run([*COMMAND, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, processor, after.ru_maxrss / 1024


def interrupted(words: list[object], index: Path, count: int) -> None:
    """Start a build and kill it, with its workers, when it has half of the files."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], start_new_session=True, stdout=subprocess.DEVNULL
    )
    wanted = f'"files": {count // 2 // 32 * 32}'.encode()
    while process.poll() is None and not (index.exists() and wanted in index.read_bytes()):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it was interrupted: give a larger --count"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def files(count: int, workers: int) -> None:
    """See the top of the file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "midi", Path(scratch) / "whole.npz"
        make_files(folder, count)
        words = ["build", "midi", folder, "--workers", workers, "--out"]
        seconds, processor, memory = run(*words, out)
        print(
            f"{count} files, {workers} workers: {count / seconds:.0f} files/s, "
            f"{1000 * processor / count:.2f} ms of a processor each, peak {memory:.0f} MiB, "
            f"dataset {out.stat().st_size / 2**20:.0f} MiB",
            flush=True,
        )
        again = Path(scratch) / "again.npz"
        interrupted([*words, again], Path(scratch) / "again.parts" / "index.jsonl", count)
        seconds, _, _ = run(*words, again)
        assert again.read_bytes() == out.read_bytes()
        print(f"killed half-way: the rest took {seconds:.0f} s, equal bytes", flush=True)
        parts = [Path(scratch) / f"part{n}.npz" for n in (1, 2, 3)]
        for n, part in enumerate(parts, 1):
            run(*words, part, "--shard", f"{n}/3")
        run("merge", *parts, "--out", again)
        assert again.read_bytes() == out.read_bytes()
        print("three shards, merged: equal bytes")


def write_bars(path: Path, bars: int) -> None:
    """A dataset of five tracks: pieces of 64 bars of chords, a line, a bass and drums."""
    from musegan_jax.data import dataset
    from musegan_jax.data.readers.lpd import FIVE

    rng = np.random.default_rng(0)
    steps, count = 16 * 64, -(-bars // 64)
    kinds = []
    for _ in range(64):  # pieces that repeat: drawing notes for all would take longer than training
        roll = np.zeros((steps, len(FIVE), 128), bool)
        for k, (low, high) in enumerate(((35, 50), (48, 80), (45, 70), (30, 45), (55, 75))):
            for start in range(0, steps, 4):
                roll[start : start + 4, k, rng.integers(low, high, 1 + (k in (1, 2)) * 2)] = True
        kinds.append(np.packbits(roll, axis=-1))
    timeline = np.concatenate([kinds[n % 64] for n in range(count)])
    lines = list(range(0, steps, 16))
    listed = [dataset.Listed(f"{n:06d}", steps, lines) for n in range(count)]
    dataset.save(dataset.from_timeline(timeline, listed, FIVE, 4, "made up"), path)


START = """
import resource, sys, time
begin = time.monotonic()
from musegan_jax import config
from musegan_jax.data import batches, fit, sources
from musegan_jax.data.training_music import training_music
imported = time.monotonic()
data = sources.load(sys.argv[1])
loaded = time.monotonic()
settings = fit.for_dataset(config.load("lpd5"), data)
windows = batches.make_windows(data, settings)
found = time.monotonic()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
training_music(data, settings)
facts = time.monotonic()
print(f"imports {imported - begin:.1f} s, load {loaded - imported:.1f} s, "
      f"{len(windows.starts)} windows {found - loaded:.1f} s, peak {peak} MiB "
      f"(data {data.timeline.nbytes >> 20} MiB); "
      f"facts of the music {facts - found:.1f} s (process 0 only)")
"""


def bars(count: int, iterations: int) -> None:
    """See the top of the file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bars.npz"
        write_bars(path, count)
        print(f"{count} bars of five tracks: file {path.stat().st_size >> 20} MiB", flush=True)
        subprocess.run([sys.executable, "-c", START, str(path)], check=True)
        times: dict[str, list[float]] = {"device": [], "host": []}
        for n in range(3):
            for where in times:
                run_folder = Path(scratch) / f"{where}{n}"
                words = [
                    *("train", "--config", "lpd5", "--workdir", run_folder),
                    f"--data.dataset={path}",
                    f"--training.iterations={iterations}",
                    "--model.generator_filters=16,32,64,128",
                    "--model.critic_filters=16,32,64,128",
                    f"--parallel.data={where}",
                    *("--output.sample_every=0", "--output.held_out=0", "--output.log_every=1"),
                ]
                begin = time.monotonic()
                subprocess.run(
                    [*COMMAND[:-1], *map(str, words)], check=True, stdout=subprocess.DEVNULL
                )
                spent = time.monotonic() - begin
                times[where].append(_iteration(run_folder / "metrics.jsonl"))
                print(f"{where}: {times[where][-1]:.3f} s an iteration, {spent:.0f} s in all")
                shutil.rmtree(run_folder)
        ratios = np.divide(times["host"], times["device"])
        print(f"host-fed / device-resident, in turns: {', '.join(f'{r:.3f}' for r in ratios)}")


def _iteration(path: Path) -> float:
    """The median seconds of an iteration, of a run's log."""
    import json

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    return float(np.median(np.diff(seconds[len(seconds) // 3 :])))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(required=True, dest="action")
    of_files, of_bars = actions.add_parser("files"), actions.add_parser("bars")
    of_files.add_argument("--count", type=int, default=100_000)
    of_files.add_argument("--workers", type=int, default=2)
    of_bars.add_argument("--bars", type=int, default=1_000_000)
    of_bars.add_argument("--iterations", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.action == "files":
        files(arguments.count, arguments.workers)
    else:
        bars(arguments.bars, arguments.iterations)


if __name__ == "__main__":
    main()
