"""How the pure training step is compiled, and how arrays are laid out over devices.

Only this module decides that. The state is replicated, the batch is sharded over one device axis,
"data". Three ways to compile: `jit` on one device; `jit` over a mesh, and `pmap`, where the step is
mapped over the devices and averages gradients and statistics over them itself.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.experimental.layout import Format
from jax.experimental.layout import Layout as Order
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musegan_jax import rng
from musegan_jax.config import Config
from musegan_jax.data.batches import HostBatch, Windows, choose, gather
from musegan_jax.errors import UserError, first_line
from musegan_jax.runs.fingerprint import checksum
from musegan_jax.training import fused
from musegan_jax.training.state import TrainState, abstract_state, create_state
from musegan_jax.training.step import Metrics, train_step

AXIS = "data"
FITS = 2**30  # `parallel.data = auto` replicates training data of up to this many bytes

# How a `HostBatch` is sharded: as axes for pmap, and as partition specs.
HOST_AXES: Any = HostBatch(*cast(Any, (0, 0, None, 0)))
_SHARDED = PartitionSpec(AXIS)
HOST_SPECS: Any = HostBatch(*cast(Any, (_SHARDED, _SHARDED, PartitionSpec(), _SHARDED)))

Feed = Callable[[int], Windows | HostBatch]


class CompiledStep(NamedTuple):
    """`train_step`, ready to run: `step(state, data)` gives the new state and the metrics.

    Attributes:
        compiled: the program; its methods report operation counts and memory.
        root: the run's root key, replicated.
        examples: int32 `(B,)`, sharded.
    """

    compiled: Any
    root: jax.Array
    examples: jax.Array

    def __call__(self, state: TrainState, data: Windows | HostBatch) -> tuple[TrainState, Metrics]:
        """Dispatch one iteration. The state is donated: the new state reuses its buffers."""
        return self.compiled(state, data, self.root, self.examples)


class Layout(NamedTuple):
    """Which devices a run uses, and how arrays are laid out on them.

    Attributes:
        strategy: jit, mesh or pmap.
        mesh: one axis with the devices of all processes; those of one process are adjacent.
    """

    strategy: str
    mesh: Mesh

    @property
    def devices(self) -> list[Any]:
        """In the order of their shards of the batch."""
        return list(self.mesh.devices.flat)

    @property
    def own(self) -> list[int]:
        """Positions of this process's devices in `devices`."""
        process = jax.process_index()
        return [n for n, d in enumerate(self.devices) if d.process_index == process]

    @property
    def replicated(self) -> NamedSharding:
        """For the state, and for training data that fit."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        """For the batch: sharded by its leading axis."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def rows(self, batch_size: int) -> np.ndarray:
        """The global indices of the examples that this process's devices work on, int32 `(b,)`."""
        each = batch_size // len(self.devices)
        return np.arange(self.own[0] * each, (self.own[-1] + 1) * each, dtype=np.int32)

    def replicate(self, tree: Any) -> Any:
        """Copy host arrays, the same in every process, to every device."""
        put = functools.partial(jax.make_array_from_process_local_data, self.replicated)
        return jax.tree.map(lambda leaf: put(np.asarray(leaf)), tree)

    def distribute(self, rows: Any) -> jax.Array:
        """Shard a batch: this process's rows `(b, ...)` become part of the global `(B, ...)`.

        Under pmap the result is `(devices, B / devices, ...)`.
        """
        if self.strategy == "pmap":
            rows = rows.reshape(len(self.own), -1, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.sharded, rows)


def make_layout(config: Config) -> Layout:
    """The layout that `config.parallel` describes, on the devices found.

    Raises:
        UserError: if there are too few devices, or they do not divide the batch.
    """
    strategy, wanted = config.parallel.strategy, config.parallel.devices
    try:
        found = jax.devices()
    # A driver or plugin that fails to start may raise anything.
    except Exception as error:
        raise UserError(
            f"JAX finds no device to compute on ({first_line(error)}); choose one with the "
            "environment variable JAX_PLATFORMS, for example JAX_PLATFORMS=cpu"
        ) from error
    # Devices of one process are adjacent, so that its rows of the batch are contiguous.
    devices = sorted(found, key=lambda device: (device.process_index, device.id))
    if jax.process_count() > 1 and (wanted or strategy == "jit"):
        raise UserError(
            f"config: parallel.strategy = {strategy}, parallel.devices = {wanted}: a run of "
            f"{jax.process_count()} processes uses all of their devices, with mesh or pmap; set "
            "parallel.strategy=mesh and parallel.devices=0"
        )
    if wanted > len(devices):
        raise UserError(
            f"config: parallel.devices = {wanted}: there are {len(devices)} "
            f"({devices[0].device_kind}); set a smaller number, or 0 for all"
        )
    devices = devices[: 1 if strategy == "jit" else wanted or None]
    if config.training.batch_size % len(devices):
        raise UserError(
            f"config: training.batch_size = {config.training.batch_size}: it must be a multiple of "
            f"the {len(devices)} devices; change it, or set parallel.devices to a number that "
            "divides it"
        )
    # Not `jax.make_mesh`, whose axes are explicit by default, not auto.
    return Layout(strategy, Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,)))


def initial_state(config: Config, layout: Layout) -> TrainState:
    """The state before the first iteration, created on the devices."""
    places = places_of(layout, abstract_state(config))
    return jax.jit(lambda: create_state(config), out_shardings=places)()


def restored_state(state: Any, layout: Layout) -> TrainState:
    """A state of host arrays, the same in every process, on the devices."""
    copied = layout.replicate(state)
    if not in_cudnns_order(layout):
        return copied
    return jax.jit(lambda state: state, out_shardings=places_of(layout, state))(copied)


def places_of(layout: Layout, state: Any) -> Any:
    """Where the arrays of a state lie: replicated, and for cuDNN the large kernels in its order.

    It reads a kernel `(h, w, C, D)` with the channels of the smaller map first. With the state in
    another order, every iteration would transpose parameters and moments on the way in and out.
    """

    def place(path: Any, leaf: Any) -> Any:
        if leaf.ndim != 4 or leaf.size < fused.SMALL:
            return layout.replicated
        upsampling = "UpsampleConv" in jax.tree_util.keystr(path)
        return Format(Order((2, 0, 1, 3) if upsampling else (3, 0, 1, 2)), layout.replicated)

    if not in_cudnns_order(layout):
        return jax.tree.map(lambda _: layout.replicated, state)
    return jax.tree_util.tree_map_with_path(place, state)


def in_cudnns_order(layout: Layout) -> bool:
    """Whether the state's kernels lie as cuDNN reads them. `pmap` has its own ideas of layouts."""
    return is_fused(layout) and layout.strategy != "pmap"


@functools.cache
def make_checksums(mesh: Mesh) -> Callable[[Any], jax.Array]:
    """A function of a replicated tree: `fingerprint.checksum` of each device's copy, `(D, 2)`."""
    return jax.jit(
        jax.shard_map(
            lambda tree: checksum(tree)[None],
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
    )


@jax.jit
def snapshot(tree: Any) -> Any:
    """Copies of arrays of one device, made on it, when what has been dispatched before is done."""
    return jax.tree.map(jax.numpy.copy, tree)


def make_feed(config: Config, layout: Layout, windows: Windows) -> Feed:
    """The source of the step's data: a function of the iteration.

    With data on the device it returns the same replicated arrays every time. With data on the host
    every process chooses, gathers and sends its own rows of the iteration's batches; the device
    would choose the same, bit for bit.

    Raises:
        UserError: if the data are on the host and JAX has no CPU backend.
    """
    where = config.parallel.data
    if where == "auto":
        where = "device" if windows.timeline.nbytes <= FITS else "host"
    if where == "device":
        resident = layout.replicate(windows)
        return lambda iteration: resident

    root = _host(rng.root_key, config.training.seed)
    rows = layout.rows(config.training.batch_size)
    drums = layout.replicate(windows.drums)

    @jax.jit
    def choices(root: jax.Array, iteration: jax.Array, shifts: Any, examples: Any) -> Any:
        updates = range(config.training.critic_updates + 1)
        keys = [rng.update_key(root, "data", iteration, update) for update in updates]
        chosen = [choose(shifts, rng.example_keys(key, examples)) for key in keys]
        return jax.tree.map(lambda *parts: jax.numpy.stack(parts, axis=1), *chosen)

    def feed(iteration: int) -> HostBatch:
        # On the CPU: on the accelerator it would queue behind the running step.
        chosen, shifts = _host(choices, root, np.int32(iteration), windows.shifts, rows)
        batch = gather(windows, chosen, shifts, config.data.window_steps)
        sent = jax.tree.map(layout.distribute, batch._replace(drums=None))
        return sent._replace(drums=drums)

    return feed


def _host(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on the host's CPU, also where there are accelerators.

    Raises:
        UserError: if JAX has no CPU backend.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            "config: parallel.data = host: JAX has no CPU backend; add cpu to the environment "
            "variable JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
    with jax.default_device(cpu):
        return jax.block_until_ready(function(*arguments))


def is_fused(layout: Layout) -> bool:
    """Whether the devices run `fused.train_step`: GPUs. Others run `step.train_step`."""
    return layout.devices[0].platform in ("gpu", "cuda")


def step_for(layout: Layout) -> Callable[..., tuple[TrainState, Metrics]]:
    """The form of `train_step` for the devices."""
    return fused.train_step if is_fused(layout) else train_step


def compile_step(
    config: Config,
    layout: Layout,
    state: TrainState,
    data: Windows | HostBatch,
    step: Callable[..., tuple[TrainState, Metrics]] | None = None,
) -> CompiledStep:
    """Compile a step ahead of time for these shapes: by default `step_for` the devices.

    Then a call with other shapes is an error, not a silent second compilation.
    """
    step = step or step_for(layout)
    root = jax.jit(lambda: rng.root_key(config.training.seed), out_shardings=layout.replicated)()
    examples = layout.distribute(layout.rows(config.training.batch_size))
    if layout.strategy == "pmap":
        # pmap is lowered for one process's shards, but called with global arrays.
        parts = _own_part(layout, (data, examples))
        lowered = lower(step, config, layout, state, parts[0], root, parts[1])
    else:
        lowered = lower(step, config, layout, state, data, root, examples)
    return CompiledStep(lowered.compile(), root, examples)


def lower(
    step: Callable[..., Any],
    config: Config,
    layout: Layout,
    state: Any,
    data: Any,
    root: Any,
    examples: Any,
) -> Any:
    """Trace a step with the signature of `train_step` for these arguments, ready to compile.

    With abstract arguments the devices need not exist.
    """
    if layout.strategy == "pmap":
        # `Windows` are replicated; a `HostBatch` is sharded, except for its drum flags.
        axes = HOST_AXES if isinstance(data, HostBatch) else None
        return jax.pmap(
            functools.partial(step, config, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, axes, None, 0),
            # Each array of the state stays one array, not a stack of copies.
            out_axes=(None, None),
            devices=None if jax.process_count() > 1 else layout.devices,
            donate_argnums=0,
        ).lower(state, data, root, examples)
    function = functools.partial(step, config)
    if layout.strategy == "mesh":
        # Mapped explicitly: a compiler that shards the batch itself reduces the gradients of the
        # scores and of the penalty separately, and the generator's in bf16.
        replicated, sharded = PartitionSpec(), PartitionSpec(AXIS)
        where = HOST_SPECS if isinstance(data, HostBatch) else replicated
        function = jax.shard_map(
            functools.partial(function, axis=AXIS),
            mesh=layout.mesh,
            in_specs=(replicated, where, replicated, sharded),
            out_specs=(replicated, replicated),
            # The step averages gradients itself; with the check on, JAX would also sum them.
            check_vma=False,
        )
    places = (places_of(layout, state), layout.replicated)
    compiling = jax.jit(function, donate_argnums=0, out_shardings=places)
    return compiling.lower(state, data, root, examples)


def _own_part(layout: Layout, tree: Any) -> Any:
    """Replace sharded arrays by zeros of the size of this process's part; keep the others."""

    def part(leaf: jax.Array) -> Any:
        if leaf.sharding == layout.replicated:
            return leaf
        return np.zeros((len(layout.own), *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(part, tree)
