"""Four processes and a gigabyte of data: memory of each, and time to the first iteration.

COMMAND   python tests/proofs/memory.py --megabytes 1000
TIME      5 min on two quiet cores

Each process has one CPU device, and gets its part of each batch from the host. The dataset file is
made here. Both are taken from outside, from /proc and from the log, so that other versions can be
measured alike: run the script with PYTHONPATH set to their checkout.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROCESSES = 4


def make(path: Path, megabytes: int) -> None:
    """Held notes at random, 64 bytes a step of four tracks, in pieces of 4096 steps."""
    from musegan_jax import pianoroll
    from musegan_jax.data import dataset

    numbers = np.random.default_rng(0)
    steps, pieces = 4096, []
    for n in range(max(10, megabytes * 1_000_000 // (steps * 64))):
        roll = np.zeros((steps, 128, 4), bool)
        for voice, root in enumerate((72, 60, 55, 48)):
            notes = root + numbers.integers(0, 12, steps // 4)
            roll[np.arange(steps), np.repeat(notes, 4), voice] = True
        bars = np.arange(0, steps, 16)
        pieces.append(dataset.Piece(f"piece {n}", pianoroll.pack(roll), bars))
    tracks = [pianoroll.Track(name, 40 + k) for k, name in enumerate("SATB")]
    dataset.save(dataset.build(pieces, tracks, 4, "made up"), path)


def peak(pid: int) -> float:
    """Megabytes of the process's largest resident set so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1000 if lines else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--data", default=None, help="a dataset file that is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments.data or Path(folder) / "made.npz")
        if not path.exists():
            make(path, arguments.megabytes)
            print(f"{arguments.megabytes} MB of bits, in a file of {path.stat().st_size / 1e6:.0f}")
        with socket.socket() as one:
            one.bind(("localhost", 0))
            address = f"localhost:{one.getsockname()[1]}"
        workdir = Path(folder) / "run"
        flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
        begin = time.monotonic()
        processes = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
                    "--workdir", str(workdir), f"--data.dataset={path}", "--output.melodies=",
                    "--output.save_every=0", "--training.iterations=20", "--parallel.data=host",
                    "--distributed", "--coordinator", address, "--processes", str(PROCESSES),
                    "--process-id", str(n),
                ],
                env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
                stderr=subprocess.PIPE, text=True,
            )
            for n in range(PROCESSES)
        ]  # fmt: skip
        peaks, first = [0.0] * PROCESSES, None
        while any(each.poll() is None for each in processes):
            peaks = [max(p, peak(each.pid)) for p, each in zip(peaks, processes, strict=True)]
            log = workdir / "metrics.jsonl"
            if first is None and log.exists() and log.stat().st_size:
                first = time.monotonic() - begin
            time.sleep(0.05)
        said = [each.communicate()[1] for each in processes]
    assert not any(each.returncode for each in processes), said
    print(f"peak memory, MB: {' '.join(f'{each:.0f}' for each in peaks)}")
    print(f"first iteration after {first:.0f} s")


if __name__ == "__main__":
    main()
