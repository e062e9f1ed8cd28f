"""Compile the training step for GPUs without having one, and count its kernels and bytes.

COMMAND   uv run --extra cuda python benchmarks/gpu_compile.py \
              --json benchmarks/results/gpu_compile.json
NEEDS     the extra `cuda` (3 GB), on Linux; no GPU
TIME      1 to 2 minutes on two CPU cores for each topology

XLA's compiler for GPUs is the real one; only its choice of algorithms by trial needs the device. So
kernels, library calls, shapes, copies, temporary memory and collectives are exact, and there are no
times. Bytes are the operands and results of each kernel (`hlo.py`): what it would move if nothing
stayed in a cache. "Roofline" takes for each kernel the longer of its FLOPs at the published peak
and its bytes at the published bandwidth, and sums: a lower bound for a program whose kernels run
one by one, without the time of launches and collectives. Figures are for one GPU.
"""

import collections
import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

# Set before JAX starts, so that it does not look for GPUs.
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

import hlo
import programs
import records
from musegan_jax import config as configs
from musegan_jax.errors import UserError
from musegan_jax.runs import peaks
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel
from musegan_jax.training.state import abstract_state

# JAX's name; compute capability; multiprocessors and FP32 units in each; shared memory of a
# multiprocessor and of a block, bytes; L2 cache, MB; memory, GB; clock, GHz. From NVIDIA's data
# sheets and the CUDA programming guide's table of compute capabilities.
GPUS = {
    "A100": ("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 166912, 40, 80, 1.41),
    "H100": ("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 232448, 50, 80, 1.98),
    "H200": ("NVIDIA H200", (9, 0), 132, 128, 233472, 232448, 50, 141, 1.98),
    "B200": ("NVIDIA B200", (10, 0), 148, 128, 233472, 232448, 126, 180, 1.96),
}
TOPOLOGIES = ("A100:1", "H100:1", "H200:1", "B200:1", "H100:8", "H100:2x8")
PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
LISTED = 12  # kernels outside convolutions that a record names, those that move the most bytes


def description(gpu: str) -> str:
    """A GPU as XLA's compiler wants it described (`GpuTargetConfigProto` as text)."""
    name, capability, cores, units, shared, optin, cache, memory, clock = GPUS[gpu]
    major, minor = capability
    bandwidth = int(peaks.peak_of(name).bandwidth)
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
          shared_memory_per_core: {shared} shared_memory_per_block_optin: {optin}
          threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: {units}
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          memory_bandwidth: {bandwidth} l2_cache_size: {cache << 20} clock_rate_ghz: {clock}
          device_memory_size: {memory * 10**9} device_address_bits: 64
          cuda_compute_capability {{ major: {major} minor: {minor} }}
          device_vendor: "NVIDIA" name: "{name}" driver_version: "13.0.0"
          runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.28.0"
        }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 28 patch: 0 }}
        device_description_str: "{name}"
    """


def layout_of(topology: str) -> parallel.Layout:
    """All GPUs of a topology such as H100:8 (one process) or H100:2x8 (two) as one data axis.

    Raises:
        UserError: if there is no such topology.
    """
    gpu, _, shape = topology.partition(":")
    hosts, _, each = shape.rpartition("x")
    known = gpu in GPUS and each.isdecimal() and (hosts.isdecimal() or "x" not in shape)
    if not known or not int(each) or not int(hosts or 1):
        raise UserError(
            f"--topology {topology}: use {', '.join(GPUS)} and a number, as in H100:8, or the "
            "number of hosts and that of GPUs in each, as in H100:2x8"
        )
    return programs.layout_of(
        topology,
        platform="cuda",
        topology_name=gpu,
        target_config=description(gpu),
        topology=f"1x{hosts or 1}x{each}",
    )


def kernel_sizes(config: configs.Config) -> set[tuple[int, ...]]:
    """Sorted dimensions of the networks' kernels, in all forms that `models.layers` gives them: an
    array of any other is an activation.
    """
    state = abstract_state(config)
    found = set()
    for leaf in jax.tree.leaves((state.generator_params, state.critic_params)):
        found.add(tuple(sorted(leaf.shape)))
        if len(leaf.shape) == 4:
            *_, c, d = leaf.shape
            forms = ((5, 5, c, d), (5, 6, c, d), (5, 3, c, 2 * d), (5, 5, c // 2, d))
            found |= {tuple(sorted(form)) for form in forms}
    return found


def count(text: str, config: configs.Config, peak: peaks.Peak) -> dict[str, Any]:
    """What a program launches and moves, by its HLO text; see `report.py` for the table of it."""
    program = hlo.parse(text)
    found = hlo.kernels(program)
    launched, moved = collections.Counter(), collections.Counter()
    dtypes, transposes, activations = (collections.Counter() for _ in range(3))
    kernels = kernel_sizes(config)
    for kernel in found:
        launched[kernel.kind] += kernel.times
        moved[kernel.kind] += kernel.times * kernel.bytes
        dtypes["/".join(sorted(set(kernel.dtypes)))] += kernel.times
        for shape in set(kernel.transposes):
            is_kernel = tuple(sorted(shape.dims)) in kernels
            (transposes if is_kernel else activations)[str(shape)] += kernel.times
    dtypes.pop("", None)
    hidden = hlo.overlapped(program)
    outside = sorted(
        (kernel for kernel in found if kernel.kind != "convolution"),
        key=lambda kernel: -kernel.bytes,
    )
    seconds = [
        kernel.times * max(kernel.flops / peak.flops, kernel.bytes / peak.bandwidth)
        for kernel in found
    ]
    return {
        "kernels": launched.total(),
        "kernels_by_kind": dict(launched),
        "host_launches": hlo.host_launches(found),
        "bytes_moved": moved.total(),
        "bytes_by_kind": dict(moved),
        "flops": sum(kernel.times * kernel.flops for kernel in found),
        "convolution_dtypes": dict(dtypes),
        "with_transpose": sum(kernel.times for kernel in found if kernel.transposes),
        "kernel_transposes": dict(transposes),
        "activation_transposes": dict(activations),
        "collectives": [
            {
                "kind": kernel.instruction.op.removesuffix("-start"),
                "dtypes": sorted({shape.dtype for shape in kernel.reads}),
                "bytes": sum(shape.bytes for shape in kernel.reads),
                "hidden_by_bytes": hidden.get(kernel.instruction.name, 0),
            }
            for kernel in found
            if kernel.kind == "collective"
        ],
        "largest_outside": [
            {
                "name": kernel.instruction.name,
                "source": kernel.instruction.source,
                "writes": [str(shape) for shape in kernel.instruction.shapes],
                "reads": [str(shape) for shape in kernel.reads],
                "bytes": kernel.bytes,
            }
            for kernel in outside[:LISTED]
        ],
        "roofline_s": sum(seconds),
        "peak_flops": peak.flops,
    }


def measure(
    part: str, config: configs.Config, layout: parallel.Layout, flags: dict[str, str]
) -> dict[str, Any]:
    """Compile a part and return what is known of it for one GPU."""
    compiled = programs.lower(part, config, layout).compile(flags)
    memory, kind = compiled.memory_analysis(), layout.devices[0].device_kind
    peak = peaks.peak_of(kind)
    return count(compiled.as_text(), config, peak) | {
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
    }


def flags_of(words: list[str]) -> dict[str, Any]:
    """Compiler options from NAME=VALUE.

    Raises:
        UserError: if there is no `=`.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--flags {word}: give NAME=VALUE")
        found[name] = {"true": True, "false": False}.get(value, value)
    return found


def run() -> None:
    parser = records.parser(__doc__, config="configs/reference.py")
    parser.add_argument(
        "--topology",
        nargs="+",
        default=list(TOPOLOGIES),
        metavar="GPUS",
        help=f"GPUs, such as H100:8 or H100:2x8 (default: {' '.join(TOPOLOGIES)})",
    )
    parser.add_argument(
        "--batch-per-gpu",
        type=int,
        default=256,
        metavar="N",
        help="examples per GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--flags",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="XLA's options, without dashes (default: none)",
    )
    arguments, overrides = parser.parse_known_args()
    records.need_at_least(1, batch_per_gpu=arguments.batch_per_gpu)
    records.need_target("--json", arguments.json)
    flags = flags_of(arguments.flags)
    plugin = next((name for name in PLUGINS if importlib.util.find_spec(module(name))), None)
    if plugin is None:
        raise UserError(
            "the compiler for GPUs is not installed; install it with the extra `cuda`: "
            "uv run --extra cuda python benchmarks/gpu_compile.py"
        )
    loaded = configs.load(arguments.config)
    base = programs.configured(loaded, overrides, 1, arguments.batch_per_gpu)
    # Check all topologies first, so that an error does not show after minutes of compiling.
    layouts = {topology: layout_of(topology) for topology in arguments.topology}
    record = {
        "benchmark": "gpu_compile",
        "environment": environment(base),
        "compiler": {plugin: importlib.metadata.version(plugin)},
        "flags": flags,
        "slices": [],
    }
    for topology, layout in layouts.items():
        gpus = layout.mesh.size
        config = programs.configured(loaded, overrides, gpus, arguments.batch_per_gpu)
        print(
            f"{topology}: {gpus} x {arguments.batch_per_gpu} examples, {config.model.dtype}; for "
            "one GPU: kernels, launches by the host,\n  bytes moved (outside convolutions), "
            "temporary memory, collectives, roofline",
            flush=True,
        )
        parts = {}
        for name in programs.PARTS:
            found = parts[name] = measure(name, config, layout, flags)
            outside = found["bytes_moved"] - found["bytes_by_kind"].get("convolution", 0)
            reduced = [collective["bytes"] for collective in found["collectives"]]
            print(
                f"  {name:<17}{found['kernels']:5d} kernels in {found['host_launches']} launches"
                f"{found['bytes_moved'] / 1e9:7.2f} GB ({outside / 1e9:.2f})"
                f"{found['temporary_bytes'] / 1e6:7.0f} MB"
                f"{len(reduced):4d} collectives of {sum(reduced) / 1e6:.1f} MB"
                f"{found['roofline_s'] * 1e3:7.2f} ms",
                flush=True,
            )
        record["slices"].append(
            {"topology": topology, "chips": gpus, "config": config.to_dict(), "parts": parts}
        )
        records.write(arguments.json, record)


def module(plugin: str) -> str:
    """The module of a plugin's package, such as jax_cuda13_plugin."""
    return plugin.replace("-", "_")


if __name__ == "__main__":
    sys.exit(records.command(run))
