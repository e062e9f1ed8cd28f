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
    "eager_constant_folding",
    "jax_accurate_erf_inv",
    "jax_compilation_cache_expect_pgle",
    "jax_compiler_enable_remat_pass",
    "jax_cpu_collectives_implementation",
    "jax_custom_jvp3",
    "jax_custom_vjp3",
    "jax_disable_most_optimizations",
    "jax_embedded_constants_max_bytes",
    "jax_enable_pgle",
    "jax_error_checking_behavior_divide",
    "jax_error_checking_behavior_nan",
    "jax_error_checking_behavior_oob",
    "jax_exec_time_optimization_effort",
    "jax_explicit_x64_dtypes",
    "jax_high_dynamic_range_gumbel",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_optimization_level",
    "jax_persistent_cache_enable_xla_caches",
    "jax_pgle_aggregation_percentile",
    "jax_pgle_profiling_runs",
    "jax_pjrt_client_create_options",
    "jax_remat3",
    "jax_remat_barrier_no_cotangents",
    "jax_remove_size_one_mesh_axis_from_type",
    "jax_scan3",
    "jax_softmax_custom_jvp",
    "jax_sort_devices_by_process_index",
    "jax_threefry_gpu_kernel_lowering",
    "jax_use_direct_linearize",
    "jax_use_hlo_logistic_lowering",
    "jax_use_rgv3",
    "jax_use_shardy_partitioner",
    "jax_use_simplified_jaxpr_constants",
    "jax_xla_profile_version",
)
# Recorded where they are set: XLA and the libraries under it read them.
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDNN_ERRATA_JSON_FILE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "LIBTPU_INIT_ARGS",
    "NCCL_ALGO",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NTHREADS",
    "NCCL_PROTO",
    "NPROC",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "PJRT_NAMES_AND_LIBRARY_PATHS",
    "PJRT_NPROC",
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_FORCE_UNIFIED_MEMORY",
    "TF_FP16_CONV_USE_FP32_COMPUTE",
    "TF_PER_DEVICE_MEMORY_LIMIT_MB",
    "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT",
    "TPU_LIBRARY_PATH",
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_USE_TFRT_GPU_CLIENT",
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
