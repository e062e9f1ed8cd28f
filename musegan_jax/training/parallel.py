"""How the one pure step is compiled, and how a run lies over devices. Nothing else decides this.

The state is the same on every device, the batch is split. Three ways to compile: `jit` on one
device; `jit` over a mesh, and `pmap`, where the step is mapped over the devices and itself averages
gradients and statistics over them. One device axis, "data", everywhere.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musegan_jax import rng
from musegan_jax.config import Config
from musegan_jax.data.batches import HostBatch, Windows, choose, gather
from musegan_jax.errors import UserError, first_line
from musegan_jax.training.state import TrainState, create_state
from musegan_jax.training.step import Metrics, train_step

AXIS = "data"
FITS = 2**30  # bytes of training data that `parallel.data = auto` puts on every device

# How the devices share what the host feeds, as pmap's axes and as partitions.
HOST_AXES: Any = HostBatch(*cast(Any, (0, 0, None)))
HOST_SPECS: Any = HostBatch(*cast(Any, (PartitionSpec(AXIS), PartitionSpec(AXIS), PartitionSpec())))

Feed = Callable[[int], Windows | HostBatch]


class CompiledStep(NamedTuple):
    """`train_step`, ready to run: `step(state, data)` gives the new state and the metrics.

    Attributes:
        compiled: the program, with what the compiler knows of its operations and memory.
        root: the run's root key, on every device.
        examples: int32 `(B,)`, split over the devices.
    """

    compiled: Any
    root: jax.Array
    examples: jax.Array

    def __call__(self, state: TrainState, data: Windows | HostBatch) -> tuple[TrainState, Metrics]:
        """Dispatch one iteration. The state is donated: its buffers are those of the new one."""
        return self.compiled(state, data, self.root, self.examples)


class Layout(NamedTuple):
    """Which devices a run uses, and how arrays lie on them.

    Attributes:
        strategy: jit, mesh or pmap.
        mesh: of one axis: the devices of all processes, each process's in a row.
    """

    strategy: str
    mesh: Mesh

    @property
    def devices(self) -> list[Any]:
        """In the order in which they share the batch."""
        return list(self.mesh.devices.flat)

    @property
    def own(self) -> list[int]:
        """The places of this process's devices among them."""
        process = jax.process_index()
        return [n for n, d in enumerate(self.devices) if d.process_index == process]

    @property
    def replicated(self) -> NamedSharding:
        """Of what every device holds whole: the state, and data that fit."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        """Of what the devices share by the leading axis: the batch."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def rows(self, batch_size: int) -> np.ndarray:
        """The global indices of the examples that this process's devices work on, int32 `(b,)`."""
        each = batch_size // len(self.devices)
        return np.arange(self.own[0] * each, (self.own[-1] + 1) * each, dtype=np.int32)

    def replicate(self, tree: Any) -> Any:
        """Host arrays, the same in every process, onto every device."""
        put = functools.partial(jax.make_array_from_process_local_data, self.replicated)
        return jax.tree.map(lambda leaf: put(np.asarray(leaf)), tree)

    def distribute(self, rows: Any) -> jax.Array:
        """This process's rows `(b, ...)` of a batch over its devices: the global `(B, ...)`.

        Under pmap `(devices, B / devices, ...)`.
        """
        if self.strategy == "pmap":
            rows = rows.reshape(len(self.own), -1, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.sharded, rows)


def make_layout(config: Config) -> Layout:
    """The layout that `config.parallel` describes on the devices that are there.

    Raises:
        UserError: if there are not so many devices, or the batch does not divide over them.
    """
    strategy, wanted = config.parallel.strategy, config.parallel.devices
    try:
        found = jax.devices()
    # A driver or a plugin that does not start fails in a way of its own.
    except Exception as error:
        raise UserError(
            f"JAX finds no device to compute on ({first_line(error)}); the environment variable "
            "JAX_PLATFORMS chooses, for example JAX_PLATFORMS=cpu"
        ) from error
    # A process's devices stand in a row, so that its part of the batch does.
    devices = sorted(found, key=lambda device: (device.process_index, device.id))
    if jax.process_count() > 1 and (wanted or strategy == "jit"):
        raise UserError(
            f"config: parallel.strategy = {strategy}, parallel.devices = {wanted}: a run of "
            f"{jax.process_count()} processes takes all of their devices, by mesh or pmap; set "
            "--parallel.strategy=mesh --parallel.devices=0"
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
            f"the {len(devices)} devices; change it, or set --parallel.devices to a number that "
            "divides it"
        )
    # Auto axes, said in full: `jax.make_mesh` makes explicit ones unless told.
    return Layout(strategy, Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,)))


def initial_state(config: Config, layout: Layout) -> TrainState:
    """The state before the first iteration, made where it will live."""
    return jax.jit(lambda: create_state(config), out_shardings=layout.replicated)()


def make_feed(config: Config, layout: Layout, windows: Windows) -> Feed:
    """Where an iteration's data come from: `iteration -> the step's data`.

    On the device the data lie there once and for all. On the host every process chooses, gathers
    and sends its own part of the iteration's batches; the choices are the device's, bit for bit.

    Raises:
        UserError: if the host must choose, and JAX was told to leave the CPU alone.
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
        # On the CPU, or it would queue up behind the step that is running.
        chosen, shifts = _host(choices, root, np.int32(iteration), windows.shifts, rows)
        batch = gather(windows, chosen, shifts, config.data.window_steps)
        return HostBatch(layout.distribute(batch.bits), layout.distribute(batch.shifts), drums)

    return feed


def _host(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on the host's CPU, whatever accelerators there are.

    Raises:
        UserError: if JAX was told to leave the CPU alone.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            "config: parallel.data = host: JAX has no CPU backend here; add it to the environment "
            "variable JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
    with jax.default_device(cpu):
        return jax.block_until_ready(function(*arguments))


def compile_step(
    config: Config, layout: Layout, state: TrainState, data: Windows | HostBatch
) -> CompiledStep:
    """`train_step` compiled ahead of time for these shapes.

    Ahead of time, a call with other shapes is an error, never a silent second compilation.
    """
    root = jax.jit(lambda: rng.root_key(config.training.seed), out_shardings=layout.replicated)()
    examples = layout.distribute(layout.rows(config.training.batch_size))
    if layout.strategy == "pmap":
        # pmap is lowered for what one process has of a split array, and called with the whole.
        parts = _own_part(layout, (data, examples))
        lowered = lower(train_step, config, layout, state, parts[0], root, parts[1])
    else:
        lowered = lower(train_step, config, layout, state, data, root, examples)
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
    """A step with the signature of `train_step`, traced for these arguments, ready to compile.

    The arguments may be abstract: then the devices need not be there either.
    """
    if layout.strategy == "pmap":
        # Whole data are the same for all; a fed batch is split, but for what it says of drums.
        axes = HOST_AXES if isinstance(data, HostBatch) else None
        return jax.pmap(
            functools.partial(step, config, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, axes, None, 0),
            # The state stays one array, never a stack of copies.
            out_axes=(None, None),
            devices=None if jax.process_count() > 1 else layout.devices,
            donate_argnums=0,
        ).lower(state, data, root, examples)
    function = functools.partial(step, config)
    if layout.strategy == "mesh":
        # Mapped explicitly: where the compiler splits the batch by itself, it sums the gradient of
        # the scores and that of the penalty apart, and the generator's in bf16.
        replicated, sharded = PartitionSpec(), PartitionSpec(AXIS)
        where = HOST_SPECS if isinstance(data, HostBatch) else replicated
        function = jax.shard_map(
            functools.partial(function, axis=AXIS),
            mesh=layout.mesh,
            in_specs=(replicated, where, replicated, sharded),
            out_specs=(replicated, replicated),
            # The step averages gradients itself; checked, JAX would sum them once before that.
            check_vma=False,
        )
    shardings = (layout.replicated, layout.replicated)
    compiling = jax.jit(function, donate_argnums=0, out_shardings=shardings)
    return compiling.lower(state, data, root, examples)


def _own_part(layout: Layout, tree: Any) -> Any:
    """Arrays as large as this process's part of the split ones; the others as they are."""

    def part(leaf: jax.Array) -> Any:
        if leaf.sharding == layout.replicated:
            return leaf
        return np.zeros((len(layout.own), *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(part, tree)
