"""Kill a run again and again, and see that it ends in the same state as one that was left alone.

COMMAND   python tests/proofs/kill.py --kills 20
          python tests/proofs/kill.py --kills 3 --processes 2
          python tests/proofs/kill.py --kills 10 --disk      (as root: it mounts a tmpfs)
TIME      17 s a kill with one process, half a minute with two, on two cores

Saves after every iteration, so that most kills fall into a save. With several processes (of two
CPU devices each) one of them is killed, the others must end by themselves within a minute, and all
are started again. With `--disk` the run writes samples as well, on a disk with room for a random
part of what it still has to write. Half of the times it is killed there, half it must end by
itself, in one line; every checkpoint that was there, or that it said was saved, must still be
there. The short versions in the test suite are test_distributed.py, test_train.py's
`test_sigkill_at_a_random_moment_changes_nothing` and test_checkpoint.py's
`test_a_full_disk_is_one_line_and_costs_no_checkpoint`.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_KILL = 12  # iterations that a run makes between two kills, about


def start(
    workdir: Path, dataset: Path, iterations: int, processes: int, melodies: str = ""
) -> list:
    command = [
        sys.executable, "-m", "musegan_jax.cli", "train", "--config", "configs/tiny.py",
        "--workdir", str(workdir), f"--data.dataset={dataset}",
        f"--output.melodies={melodies}", "--output.sample_every=1",
        "--output.save_every=1", f"--training.iterations={iterations}",
    ]  # fmt: skip
    flags = f"--xla_force_host_platform_device_count={2 if processes > 1 else 1}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    with socket.socket() as one:
        one.bind(("localhost", 0))
        address = f"localhost:{one.getsockname()[1]}"
    joining = ["--distributed", "--coordinator", address, "--processes", str(processes)]
    return [
        subprocess.Popen(
            [*command, *([*joining, "--process-id", str(n)] if processes > 1 else [])],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for n in range(processes)
    ]  # fmt: skip


def logged(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def end_of(processes: list, limit: float) -> list[str]:
    return [process.communicate(timeout=limit)[1] for process in processes]


def final(workdir: Path) -> dict:
    result = json.loads((workdir / "run.json").read_text())["result"]
    shown = subprocess.run(
        [sys.executable, "-m", "musegan_jax.cli", "fingerprint", str(workdir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # What the record says, and what the files of the checkpoint hold.
    return {**result["fingerprint"], "printed": shown.stdout}


def on_full_disks(made: Path, folder: Path, moments: random.Random, times: int) -> int:
    """Run out of room, or be killed nearly there, again and again; nothing saved may be lost."""
    straight, disk = folder / "straight", folder / "disk"
    said = end_of(processes := start(straight, made, times + 1, 1, "twinkle"), 600)
    assert processes[0].returncode == 0, said
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    workdir, kills, in_saves, lost, full = disk / "run", 0, 0, 0, 0
    try:
        for n in range(1, times + 1):
            status = os.statvfs(disk)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            # A checkpoint takes 0.1 MB, the song of a state 4 to 5 MB.
            size = used + int(moments.uniform(0.02, 0.5 if n % 4 < 2 else 14) * 2**20)
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            before = saved(workdir)
            (process,) = start(workdir, made, times + 1, 1, "twinkle")
            if n % 2:
                process.stderr.readline()  # the opening
                left, limit = moments.uniform(0, size - used), time.monotonic() + 60
                while room(disk) > left and process.poll() is None and time.monotonic() < limit:
                    time.sleep(0.002)
                time.sleep(moments.choice((0, 0, 0.05, 0.5)))
                left = room(disk)
                process.kill()
            error = process.communicate(timeout=600)[1]
            if process.returncode == 0:
                print(f"disk {n}: the run is done")
                break
            tmp = (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")
            if process.returncode < 0:
                kills += 1
                in_saves += any(tmp)
                error = f"killed with {left} bytes left"
            else:
                full += 1
                assert process.returncode == 2 and "Traceback" not in error, error
                assert not any(tmp), "the remains of a save keep the disk full"
            told = {json.loads(line)["iteration"] for line in lines(workdir / "fingerprints.jsonl")}
            # The last may have been announced in the log while it was being written.
            now, newest = max(saved(workdir) | {0}), max(told | {0})
            lost += now < max(before | {newest - 1})
            last = error.splitlines()[-1].replace(str(folder), "")[:150]
            print(f"disk {n}, {size - used} bytes free, at {now}: {last}", flush=True)
        subprocess.run(["mount", "-o", "remount,size=500m", str(disk)], check=True)
        said = end_of(processes := start(workdir, made, times + 1, 1, "twinkle"), 600)
        assert processes[0].returncode == 0, said
        equal = final(straight) == final(workdir)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    print(
        f"{kills} kills on a nearly full disk, {in_saves} of them in a save; {full} full disks; "
        f"{lost} checkpoints lost; {'the same' if equal else 'ANOTHER'} end"
    )
    return int(lost > 0 or not equal)


def room(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def saved(workdir: Path) -> set[int]:
    folder = workdir / "checkpoints"
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--disk", action="store_true", help="full disks instead of kills")
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    moments = random.Random(seed)
    iterations = PER_KILL * arguments.kills
    sys.path.insert(0, "tests")
    from conftest import make_dataset
    from musegan_jax.data import dataset

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.npz"
        dataset.save(make_dataset(), made)
        if arguments.disk:
            return on_full_disks(made, Path(folder), moments, arguments.kills)
        straight, killed = Path(folder) / "straight", Path(folder) / "killed"
        said = end_of(processes := start(straight, made, iterations, arguments.processes), 600)
        assert all(process.returncode == 0 for process in processes), said
        kills, in_saves = 0, 0
        while kills < arguments.kills:
            processes = start(killed, made, iterations, arguments.processes)
            before = logged(killed)
            while logged(killed) <= before and all(p.poll() is None for p in processes):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 1))
            victim = moments.choice(processes)
            if victim.poll() is not None:
                raise SystemExit(f"ended after {kills} kills: {end_of(processes, 60)}")
            victim.kill()
            kills += 1
            begin = time.monotonic()
            said = end_of(processes, 60)  # raises if a survivor hangs
            in_saves += any((killed / "checkpoints").glob("*.orbax-checkpoint-tmp"))
            others = [text for p, text in zip(processes, said, strict=True) if p is not victim]
            for text in others:
                assert "start all of them again" in text, text
            ended = f"; the others ended in {time.monotonic() - begin:.0f} s" if others else ""
            print(f"kill {kills} at about iteration {logged(killed)}{ended}", flush=True)
        said = end_of(processes := start(killed, made, iterations, arguments.processes), 600)
        assert all(process.returncode == 0 for process in processes), said
        equal = final(straight) == final(killed)
        damaged = list(killed.glob("damaged/*"))
    print(
        f"{kills} kills (seed {seed}), {in_saves} of them in a save, {len(damaged)} checkpoints "
        f"set aside as damaged; {iterations} iterations: "
        f"{'the same fingerprint' if equal else 'ANOTHER FINGERPRINT'} as the run left alone"
    )
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
