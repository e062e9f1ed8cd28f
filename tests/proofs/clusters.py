"""Run the examples for clusters of docs/clusters here, as far as that is possible.

COMMAND   uv run --with pyyaml python tests/proofs/clusters.py
TIME      3 min on two cores

The SLURM script runs whole, on a small config: `srun` is a few lines that start four tasks with
SLURM's environment. Then it is run again, and all tasks get SIGTERM, as before a time limit, and a
third time to the end. Of the JobSets the files are parsed, and the command of the one for GPUs is
run in four processes, each with the environment that Kubernetes gives a pod of it, the name of the
first pod replaced by localhost. For TPUs JAX's own rules give each pod's process id from what GKE
sets. The XLA flags of all examples are given to XLA, which refuses those that it does not know.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASKS = 4
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
tasks = [
    subprocess.Popen(sys.argv[1:], env={{
        **os.environ, "SLURM_PROCID": str(n), "SLURM_LOCALID": "0", "SLURM_NTASKS": "{TASKS}",
        "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "{TASKS}",
    }})
    for n in range({TASKS})
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


def environment(folder: Path) -> dict[str, str]:
    """With the fake `srun`, the command, and one CPU device a process."""
    for name, text in (
        ("srun", SRUN),
        ("musegan-jax", f'#!/bin/sh\nexec "{sys.executable}" -m musegan_jax.cli "$@"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }


def words(folder: Path, run: str, iterations: int) -> list[str]:
    return [
        "--config=tiny", f"--data.dataset={folder / 'made.npz'}", "--output.melodies=",
        f"--workdir={folder / run}", f"--training.iterations={iterations}",
    ]  # fmt: skip


def said(text: str) -> list[str]:
    return [line for line in text.splitlines() if "[Gloo]" not in line]


def slurm(folder: Path) -> None:
    """The script, to its end; stopped by SIGTERM; resumed."""
    env = {**environment(folder), "SLURM_JOB_ID": str(os.getpid())}
    script = ["bash", "docs/clusters/slurm.sh"]
    for iterations, stop in ((4, False), (10**6, True)):
        log = open(folder / "slurm.log", "w+")
        job = subprocess.Popen(
            [*script, *words(folder, "slurm", iterations)], env=env, stdout=log, stderr=log
        )
        if stop:
            metrics = folder / "slurm" / "metrics.jsonl"
            while len(metrics.read_text().splitlines()) <= 4:
                assert job.poll() is None, said((folder / "slurm.log").read_text())
                time.sleep(0.2)
            srun = subprocess.check_output(["pgrep", "-P", str(job.pid)], text=True)
            os.kill(int(srun.split()[0]), signal.SIGTERM)
        status = job.wait(600)
        lines = said((folder / "slurm.log").read_text())
        assert status == 0, lines
        print(f"SLURM, {TASKS} tasks: {lines[0]}\n  ... {lines[-1]}".replace(str(folder), ""))


def jobset_of_gpus(folder: Path) -> None:
    import yaml

    found = yaml.safe_load(Path("docs/clusters/jobset-gpu.yaml").read_text())
    job = found["spec"]["replicatedJobs"][0]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    host = f"{found['metadata']['name']}-{job['name']}-0-0.{found['metadata']['name']}"
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    line = container["command"][-1]
    assert f"--coordinator={host}:1234" in line
    assert f"--processes={job['template']['spec']['completions']}" in line
    line = line.replace(f"{host}:1234", f"localhost:{port}")
    line = re.sub("--config=.*", " ".join(words(folder, "jobset", 4)), line)
    flags = " ".join(each["value"] for each in container["env"] if each["name"] == "XLA_FLAGS")
    env = environment(folder)
    env["XLA_FLAGS"] += f" {flags}"
    pods = [
        subprocess.Popen(
            ["sh", "-c", line], env={**env, "JOB_COMPLETION_INDEX": str(n)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for n in range(TASKS)
    ]  # fmt: skip
    lines = [said(each.communicate(timeout=600)[1]) for each in pods]
    assert [each.returncode for each in pods] == [0] * TASKS, lines
    assert pod["terminationGracePeriodSeconds"] > 60
    print(f"JobSet, {TASKS} pods: {lines[0][0]}".replace(str(folder), ""))


def jobset_of_tpus() -> None:
    import yaml
    from jax._src.clusters.cloud_tpu_cluster import GkeTpuCluster

    found = yaml.safe_load(Path("docs/clusters/jobset-tpu.yaml").read_text())
    (job,) = found["spec"]["replicatedJobs"]
    hosts, slices = job["template"]["spec"]["completions"], job["replicas"]
    os.environ["TPU_WORKER_HOSTNAMES"] = ",".join(f"host-{n}" for n in range(hosts))
    os.environ["MEGASCALE_NUM_SLICES"] = str(slices)
    ids = []
    for part in range(slices):
        for host in range(hosts):
            os.environ |= {"TPU_WORKER_ID": str(host), "MEGASCALE_SLICE_ID": str(part)}
            ids.append(GkeTpuCluster.get_process_id())
    assert ids == list(range(hosts * slices)), ids
    assert GkeTpuCluster.get_process_count() == hosts * slices
    print(f"JobSet of {slices} slices of {hosts} hosts: JAX numbers them {ids}")


def flags() -> None:
    """XLA aborts at one that it does not know."""
    texts = [path.read_text() for path in Path("docs").rglob("*") if path.is_file()
             and path.suffix in (".md", ".sh", ".yaml")]  # fmt: skip
    found = sorted(set(re.findall(r"--xla_(?:gpu|force|backend)\w+=\w+", " ".join(texts))))
    for flag, known in [*((each, True) for each in found), ("--xla_gpu_no_such_flag=true", False)]:
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
        code = "import jax; jax.devices()"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True)
        assert (done.returncode == 0) == known, (flag, done.stderr[-300:])
    print(f"known to XLA: {' '.join(found)}")


def main() -> None:
    sys.path.insert(0, "tests")
    from conftest import make_dataset
    from musegan_jax.data import dataset

    with tempfile.TemporaryDirectory() as name:
        dataset.save(make_dataset(), Path(name) / "made.npz")
        jobset_of_tpus()
        flags()
        slurm(Path(name))
        jobset_of_gpus(Path(name))


if __name__ == "__main__":
    main()
