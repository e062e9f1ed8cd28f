"""JAX's settings that change numbers: which we pin, and which a run records.

JAX reads each from an environment variable of the same name in capitals. docs/reproducibility.md
has the whole table.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax

# Recorded by value: they change what is compiled, so the last bits, and are a user's to choose.
# `runs.environment` records two more by names of their own: the precision of products, XLA_FLAGS.
RECORDED = (
    "jax_compiler_enable_remat_pass",
    "jax_cpu_collectives_implementation",
    "jax_disable_most_optimizations",
    "jax_enable_pgle",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_optimization_level",
    "jax_pjrt_client_create_options",
    "jax_threefry_gpu_kernel_lowering",
    "jax_use_direct_linearize",
    "jax_use_shardy_partitioner",
    "jax_use_simplified_jaxpr_constants",
    "jax_xla_profile_version",
)
# Recorded where they are set: XLA and the libraries under it read them.
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "LIBTPU_INIT_ARGS",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NPROC",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "PJRT_NPROC",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with 32-bit numbers, compiled, with NumPy's promotion, whatever the environment says.

    In this thread, while the block runs. `musegan_jax.rng` pins what concerns random numbers for
    the whole process, because keys are also made outside of such blocks.
    """
    config: Any = jax.config  # whose attributes type checkers do not know
    with contextlib.ExitStack() as stack:
        # Only where they differ: to enter a context makes JAX trace functions again.
        if config.jax_enable_x64:
            stack.enter_context(jax.enable_x64(False))
        if config.jax_disable_jit:
            stack.enter_context(jax.disable_jit(False))
        if config.jax_numpy_dtype_promotion != "standard":
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def settings() -> dict[str, Any]:
    """The values of `RECORDED` that this version of JAX has, as plain values."""
    values: Any = jax.config.values  # some have no attribute of their own
    found = {name: values[name] for name in RECORDED if name in values}
    return {name: value if _is_plain(value) else str(value) for name, value in found.items()}


def variables() -> dict[str, str]:
    """Those of `VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
