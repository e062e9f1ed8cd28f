"""What a set-up can do: devices, processes, connections, disk; and what is slow about it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musegan_jax import files, numerics
from musegan_jax.runs import environment, processes
from musegan_jax.runs.compilation_cache import cpu_threads
from musegan_jax.runs.peaks import peak_of

MIB = 2**20
SLOW_DISK = 50e6  # bytes a second: a state of 125 MB takes longer than two seconds
SLOW_MATMUL = 0.4  # of the device's peak
SLOW_SETTINGS = (
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_disable_most_optimizations",
    "jax_log_compiles",
)


def examine(workdir: Any | None) -> Iterator[str]:
    """Measure for a few seconds; yields the lines of a report, in process 0 alone.

    All processes call this.

    Args:
        workdir: a folder or bucket to write a test file into; None for none.
    """
    with numerics.pinned():
        device = jax.local_devices()[0]
        matmuls = {name: _matmul(device, name) for name in ("bfloat16", "float32")}
        reduced = _all_reduce() if jax.device_count() > 1 else None
        own = {
            "kind": device.device_kind,
            "devices": jax.local_device_count(),
            "host": os.uname().nodename if hasattr(os, "uname") else "",
            "matmul": matmuls["bfloat16" if device.platform != "cpu" else "float32"],
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        }
        everyone = processes.gather(own, "the measurements")
        disk = _disk(files.locate(workdir)) if workdir and jax.process_index() == 0 else None
    if jax.process_index():
        return
    versions = (f"{name} {environment.version(name)}" for name in environment.PACKAGES[:6])
    yield from _wrapped("versions", ", ".join(versions))
    cores = f"{os.cpu_count()} cores, {cpu_threads()} used"
    yield f"{'host':<12}{environment.cpu_model()[:40]}, {cores}"
    yield f"{'devices':<12}{jax.device_count()} x {device.device_kind} ({device.platform})"
    yield f"{'processes':<12}{jax.process_count()}"
    for number, each in enumerate(everyone if len(everyone) > 1 else ()):
        if number == 8:
            yield f"{'':<12}... and {len(everyone) - 8} more"
            break
        rate = f"{each['matmul'] / 1e12:.3g} TFLOP/s"
        yield f"{'':<12}{number}: {each['host'][:30]}, {each['devices']} devices, {rate}"
    peak = peak_of(device.device_kind)
    for name, rate in matmuls.items():
        share = f", {rate / peak.flops:.0%} of the bf16 peak" if peak else ""
        yield f"{'matmul':<12}{name}: {rate / 1e12:.3g} TFLOP/s a device{share}"
    if reduced:
        seconds, size = reduced
        moved = 2 * (1 - 1 / jax.device_count()) * size / seconds
        yield (
            f"{'all-reduce':<12}{size // MIB} MiB over {jax.device_count()} devices: "
            f"{1000 * seconds:.3g} ms, {moved / 1e9:.3g} GB/s"
        )
    if disk:
        wrote, read = disk
        yield f"{'disk':<12}write {wrote / 1e6:.0f} MB/s, read {read / 1e6:.0f} MB/s"
    remarks = list(_remarks(everyone, matmuls, disk))
    for remark in remarks or ["nothing found"]:
        yield from _wrapped("slow here", remark)


def _wrapped(title: str, text: str) -> Iterator[str]:
    import textwrap

    for line in textwrap.wrap(text, 66):
        yield f"{title:<12}{line}"
        title = ""


def _best(run: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of some runs, after one that compiles."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _matmul(device: Any, dtype: str) -> float:
    """FLOP/s of a large square product on one device."""
    size = 1024 if device.platform == "cpu" else 8192
    matrix = jax.device_put(np.ones((size, size), np.float32), device).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * size**3 / _best(lambda: product(matrix))


def _all_reduce() -> tuple[float, int]:
    """Seconds and bytes of a sum over all devices of all processes."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    size = 4 * MIB if devices[0].platform == "cpu" else 128 * MIB
    mesh = Mesh(np.array(devices), ("all",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("all"))
    shape = (len(devices), size // 4)
    array = jax.jit(lambda: jnp.ones(shape, jnp.float32), out_shardings=sharding)()
    summed = jax.jit(
        jax.shard_map(
            lambda part: jax.lax.psum(part, "all"),
            mesh=mesh,
            in_specs=PartitionSpec("all"),
            out_specs=PartitionSpec(None),
        )
    )
    return _best(lambda: summed(array)), size


def _disk(folder: Any) -> tuple[float, float]:
    """Bytes a second of writing a file of 32 MiB, until it is on the disk, and of reading it."""
    files.make_folder(folder)
    path = folder / f".doctor-{os.getpid()}"
    content = os.urandom(32 * MIB)
    begin = time.perf_counter()
    try:
        path.write_bytes(content)
        if not files.is_remote(path):
            files.sync(path)
        wrote = time.perf_counter() - begin
        begin = time.perf_counter()
        path.read_bytes()
        return len(content) / wrote, len(content) / (time.perf_counter() - begin)
    finally:
        path.unlink(missing_ok=True)


def _remarks(
    everyone: list[dict[str, Any]], matmuls: dict[str, float], disk: tuple[float, float] | None
) -> Iterator[str]:
    """What makes training slower here than it could be, and what to do."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        if shutil.which("nvidia-smi"):
            yield "there is an NVIDIA GPU, but JAX uses the CPU: install the extra for its CUDA"
        elif list(Path("/dev").glob("accel*")):
            yield "there is a TPU, but JAX uses the CPU: install the extra `tpu`"
        if cpu_threads() < (os.cpu_count() or 1):
            yield f"JAX uses {cpu_threads()} of {os.cpu_count()} cores (NPROC, or the affinity)"
    peak = peak_of(device.device_kind)
    if peak and matmuls["bfloat16"] < SLOW_MATMUL * peak.flops:
        yield "a large bf16 product is far below the device's peak: is another program using it?"
    slowest = min(each["matmul"] for each in everyone)
    if slowest < 0.8 * max(each["matmul"] for each in everyone):
        number = [each["matmul"] for each in everyone].index(slowest)
        rate = f"{slowest / 1e12:.3g} TFLOP/s"
        yield f"process {number} is slowest, and all others wait for it: {rate}"
    if max(each["load"] for each in everyone) > (os.cpu_count() or 1):
        load = max(each["load"] for each in everyone)
        yield f"other programs are using the host's cores (load {load:.0f})"
    if len({each["kind"] for each in everyone}) > 1:
        yield "the devices are of several kinds: the fast ones wait for the slow ones"
    if disk and disk[0] < SLOW_DISK:
        yield "the workdir is slow to write: save less often (output.save_every), or elsewhere"
    values: Any = jax.config.values
    for name in SLOW_SETTINGS:
        if values.get(name):
            yield f"{name} is on"
    if not values.get("jax_compilation_cache_dir"):
        yield "compiled programs are not kept: the home folder cannot be written"
