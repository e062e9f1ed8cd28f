"""How the one pure step is compiled, and how a run lies over devices. Nothing else decides this.

The state is the same on every device, the batch is split. Three ways to compile: `jit` on one
device; `jit` over a mesh, and `pmap`, where the step is mapped over the devices and itself averages
gradients and statistics over them. One device axis, "data", everywhere.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musegan_jax import rng
from musegan_jax.config import Config
from musegan_jax.data.batches import Fed, Windows, choose, gather
from musegan_jax.errors import UserError, first_line
from musegan_jax.training.state import TrainState, create_state
from musegan_jax.training.step import Metrics, train_step

AXIS = "data"
FITS = 2**30  # bytes of training data that `parallel.data = auto` puts on every device

# How the devices share what the host feeds, as pmap's axes and as partitions.
FED_AXES: Any = Fed(0, 0, None)  # type: ignore[arg-type]
FED_SPECS: Any = Fed(PartitionSpec(AXIS), PartitionSpec(AXIS), PartitionSpec())  # type: ignore

Feed = Callable[[int], Windows | Fed]


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

    def __call__(self, state: TrainState, data: Windows | Fed) -> tuple[TrainState, Metrics]:
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
    def whole(self) -> NamedSharding:
        """Of what every device holds whole: the state, and data that fit."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """Of what the devices share by the leading axis: the batch."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def rows(self, batch_size: int) -> np.ndarray:
        """The global indices of the examples that this process's devices work on, int32 `(b,)`."""
        each = batch_size // len(self.devices)
        return np.arange(self.own[0] * each, (self.own[-1] + 1) * each, dtype=np.int32)

    def replicate(self, tree: Any) -> Any:
        """Host arrays, the same in every process, onto every device."""
        put = functools.partial(jax.make_array_from_process_local_data, self.whole)
        return jax.tree.map(lambda leaf: put(np.asarray(leaf)), tree)

    def distribute(self, rows: Any) -> jax.Array:
        """This process's rows `(b, ...)` of a batch over its devices: the global `(B, ...)`.

        Under pmap `(devices, B / devices, ...)`.
        """
        if self.strategy == "pmap":
            rows = rows.reshape(len(self.own), -1, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.split, rows)


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


def from_process_0(array: np.ndarray) -> np.ndarray:
    """What process 0 gave; every process of the run must call this."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def all_of(fine: bool) -> bool:
    """Whether it is so in every process; none goes on before all have said."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def agree(what: str, sha256: str) -> None:
    """Make sure that all processes have the same of something.

    Raises:
        UserError: in all of them, naming the first that differs from process 0.
    """
    if jax.process_count() == 1:
        return
    own = np.frombuffer(bytes.fromhex(sha256), np.uint8)
    everyone = np.asarray(multihost_utils.process_allgather(own))
    for process, other in enumerate(everyone):
        if not np.array_equal(other, everyone[0]):
            raise UserError(
                f"{what} of process {process} is not that of process 0 (sha256 "
                f"{bytes(other).hex()[:12]}..., {bytes(everyone[0]).hex()[:12]}...); give all "
                "processes the same config and the same data"
            )


def initial_state(config: Config, layout: Layout) -> TrainState:
    """The state before the first iteration, made where it will live."""
    return jax.jit(lambda: create_state(config), out_shardings=layout.whole)()


def abstract_state(config: Config) -> Any:
    """Shapes and dtypes of the state; no memory is taken."""
    return jax.eval_shape(lambda: create_state(config))


def on_host(tree: Any) -> Any:
    """The arrays of a state, wherever it lies, as NumPy arrays of this process."""
    return jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))


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

    def feed(iteration: int) -> Fed:
        # On the CPU, or it would queue up behind the step that is running.
        chosen, shifts = _host(choices, root, np.int32(iteration), windows.shifts, rows)
        fed = gather(windows, chosen, shifts, config.data.window_steps)
        return Fed(layout.distribute(fed.bits), layout.distribute(fed.shifts), drums)

    return feed


def _host(function: Callable, *arguments: Any) -> Any:
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
    config: Config, layout: Layout, state: TrainState, data: Windows | Fed
) -> CompiledStep:
    """`train_step` compiled ahead of time for these shapes.

    Ahead of time, a call with other shapes is an error, never a silent second compilation.
    """
    root = jax.jit(lambda: rng.root_key(config.training.seed), out_shardings=layout.whole)()
    examples = layout.distribute(layout.rows(config.training.batch_size))
    if layout.strategy == "pmap":
        # pmap is lowered for what one process has of a split array, and called with the whole.
        parts = _own_part(layout, (data, examples))
        lowered = lower(train_step, config, layout, state, parts[0], root, parts[1])
    else:
        lowered = lower(train_step, config, layout, state, data, root, examples)
    return CompiledStep(lowered.compile(), root, examples)


def lower(
    step: Callable, config: Config, layout: Layout, state: Any, data: Any, root: Any, examples: Any
) -> Any:
    """A step with the signature of `train_step`, traced for these arguments, ready to compile.

    The arguments may be abstract: then the devices need not be there either.
    """
    if layout.strategy == "pmap":
        # Whole data are the same for all; a fed batch is split, but for what it says of drums.
        split = FED_AXES if isinstance(data, Fed) else None
        return jax.pmap(
            functools.partial(step, config, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, split, None, 0),
            # The state stays one array, never a stack of copies.
            out_axes=(None, None),
            devices=None if jax.process_count() > 1 else layout.devices,
            donate_argnums=0,
        ).lower(state, data, root, examples)
    function = functools.partial(step, config)
    if layout.strategy == "mesh":
        # Mapped explicitly: where the compiler splits the batch by itself, it sums the gradient of
        # the scores and that of the penalty apart, and the generator's in bf16.
        whole, split = PartitionSpec(), PartitionSpec(AXIS)
        where = FED_SPECS if isinstance(data, Fed) else whole
        function = jax.shard_map(
            functools.partial(function, axis=AXIS),
            mesh=layout.mesh,
            in_specs=(whole, where, whole, split),
            out_specs=(whole, whole),
            # The step averages gradients itself; checked, JAX would sum them once before that.
            check_vma=False,
        )
    shardings = (layout.whole, layout.whole)
    compiling = jax.jit(function, donate_argnums=0, out_shardings=shardings)
    return compiling.lower(state, data, root, examples)


def _own_part(layout: Layout, tree: Any) -> Any:
    """Arrays as large as this process's part of the split ones; the others as they are."""

    def part(leaf: jax.Array) -> Any:
        if leaf.sharding == layout.whole:
            return leaf
        return np.zeros((len(layout.own), *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(part, tree)
