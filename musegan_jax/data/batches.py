"""Training batches, a pure function of keys made from seed and iteration.

The timelines of all pieces lie bit-packed in device memory; a batch is a gather, a shift and an
unpacking there. If they do not fit, the host makes the same choices from the same keys and gathers
the packed windows; the device does the rest.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax import limits, pianoroll
from musegan_jax.config import Config
from musegan_jax.errors import UserError
from musegan_jax.meter import bar_positions
from musegan_jax.shapes import Array, Bool, Float, Int, Key, UInt8

if TYPE_CHECKING:  # the compiled step must not import the file formats
    from musegan_jax.data.dataset import Dataset


class Windows(NamedTuple):
    """Training examples: where they start in the timeline and how far each may be shifted."""

    timeline: Array  # uint8 (S, K, 16), all pieces end to end
    starts: Array  # int32 (N,)
    shifts: Array  # int32 (N, 2), lowest and highest shift, semitones
    drums: Array  # bool (K,): tracks whose pitches are instruments, never shifted
    # int32 (N, 2): the steps, first and end, that lie within the piece; None: all of them
    within: Array | None = None
    # With `model.bar_position`: float32 (M, T, 8), the different positions in the bar that windows
    # have (`meter.bar_positions`), and int32 (N,), which of them each has.
    positions: Array | None = None
    position: Array | None = None


def make_windows(
    dataset: "Dataset", config: Config, say: Callable[[str], None] | None = None
) -> Windows:
    """Find the windows of the config's splits, as NumPy arrays (put them on the device once).

    Windows start on bar lines, or with `data.hop_beats` on beats, and lie within one piece; with
    `data.overhang_steps`, they may reach into silence before its pick-up and after its end. Silent
    windows, windows whose melody is silent, and windows with a note outside the model's pitches are
    left out. Shifts are limited so that no note leaves them.

    Args:
        dataset: with as many tracks as the model.
        config: fitted to it (`fit.for_dataset`), or with all values its own.
        say: called with a line for each reason for which windows were left out, and for each track
            that is silent in most of the rest.

    Raises:
        TypeError: if an argument is no dataset or no Config.
        UserError: if the dataset and the model differ in tracks, or no window is left.
    """
    from musegan_jax.data.dataset import Dataset

    limits.instances(config=(config, Config), dataset=(dataset, Dataset))
    _check_tracks(dataset, config)
    overhang = config.data.overhang_steps
    steps, melody = config.data.window_steps, config.model.condition_track
    low = config.model.lowest_pitch
    high = low + config.model.pitches - 1
    drums = np.array([track.is_drum for track in dataset.tracks])
    pieces, starts, begins, ends = _candidates(dataset, config)
    first, last = np.maximum(starts, begins), np.minimum(starts + steps, ends)
    lowest, highest = pianoroll.edges_over(dataset.edges(), first, last)
    silent = lowest == pianoroll.SILENT
    outside = (lowest.min(1) < low) | (highest.max(1) > high)
    reasons = np.select([silent.all(1), outside, silent[:, melody]], [1, 2, 3])
    left_out = {
        why: int((reasons == n).sum()) for why, n in (("silent", 1), ("unheard", 3), ("outside", 2))
    }
    kept = reasons == 0
    total, pieces, starts = len(kept), pieces[kept], starts[kept]
    # A window of drums alone may be shifted by anything: there is nothing to be moved.
    lowest, highest = lowest[kept][:, ~drums].astype(int), highest[kept][:, ~drums].astype(int)
    mute = (lowest == pianoroll.SILENT).all(1)
    lowest = np.where(mute, low, lowest.min(1, initial=pianoroll.SILENT))
    highest = np.where(mute, high, highest.max(1, initial=0))
    down, up = config.data.transpose
    shifts = np.stack([np.maximum(down, low - lowest), np.minimum(up, high - highest)], axis=1)
    within = np.stack([first[kept] - starts, last[kept] - starts], axis=1)
    quiet = silent[kept].sum(0)
    told = _told(left_out, dataset.tracks[melody].name, low, high)
    if not len(starts):
        raise UserError(
            f"no window to train on: of {total} windows of {steps} steps in the split "
            f"{'+'.join(config.data.splits)}, {told or 'none lies within a piece'}; change "
            "data.splits, data.window_steps, model.condition_track, model.lowest_pitch or "
            "model.pitches"
        )
    if say and told:
        say(f"left out {total - len(starts)} of {total} windows: {told}")
    for track, count in zip(dataset.tracks, quiet, strict=True):
        if say and 2 * count > len(starts):
            say(f"the track {track.name} is silent in {count / len(starts):.0%} of the windows")
    return Windows(
        timeline=_padded(dataset.timeline, overhang),
        starts=starts.astype(np.int32) + np.int32(overhang),
        shifts=shifts.astype(np.int32),
        drums=drums,
        within=within.astype(np.int32) if overhang else None,
        **(_positions(dataset, pieces, starts, steps) if config.model.bar_position else {}),
    )


def _positions(
    dataset: "Dataset", pieces: np.ndarray, starts: np.ndarray, steps: int
) -> dict[str, np.ndarray]:
    """The fields `positions` and `position` of `Windows`: few windows differ in them."""
    numbers: dict[bytes, int] = {}
    known: dict[tuple[int, int], int] = {}
    found, which = [], np.empty(len(starts), np.int32)
    edges = np.flatnonzero(np.diff(pieces, prepend=-1, append=-1))
    for own in itertools.starmap(slice, itertools.pairwise(edges.tolist())):
        lines = dataset.bars_of(int(pieces[own.start]))
        lengths = np.unique(np.diff(lines))
        for n, start in enumerate(starts[own].tolist(), own.start):
            # Where all bars are of one length, only the place in the bar matters.
            key = (
                (int(lengths[0]), int(start - lines[0]) % int(lengths[0]))
                if len(lengths) == 1
                else None
            )
            number = known.get(key) if key else None
            if number is None:
                position = bar_positions(lines - start, steps, dataset.steps_per_beat)
                number = numbers.setdefault(position.tobytes(), len(numbers))
                if number == len(found):
                    found.append(position)
                if key:
                    known[key] = number
            which[n] = number
    return {"positions": np.stack(found), "position": which}


def _padded(timeline: np.ndarray, overhang: int) -> np.ndarray:
    """With silence at both ends, so that windows of the first and last piece lie within it."""
    if not overhang:
        return timeline  # it may be many GiB: no copy
    return np.pad(timeline, ((overhang, overhang), (0, 0), (0, 0)))


def _told(left_out: dict[str, int], melody: str, low: int, high: int) -> str:
    """Why how many windows were left out; empty if none was."""
    reasons = {
        "silent": "all tracks are silent",
        "unheard": f"the melody (track {melody}) is silent",
        "outside": f"a note lies outside MIDI pitches {low} to {high}",
    }
    return ", ".join(f"in {n} {reasons[why]}" for why, n in left_out.items() if n)


def _with_pick_up(bars: np.ndarray, begin: int, overhang: int) -> np.ndarray:
    """A piece's bar lines, and the one before its pick-up if that is near enough.

    A pick-up bar has no bar line of its own in a dataset: it ends at the first one.
    """
    if len(bars) < 2 or bars[0] == begin:
        return bars
    before = 2 * bars[0] - bars[1]
    return np.append(before, bars) if before >= begin - overhang else bars


def _check_tracks(dataset: "Dataset", config: Config) -> None:
    if len(dataset.tracks) != config.model.tracks:
        names = ", ".join(track.name for track in dataset.tracks)
        raise UserError(
            f"the dataset has {len(dataset.tracks)} tracks ({names}), the model "
            f"{config.model.tracks}: set model.tracks={len(dataset.tracks)}"
        )
    if not config.model.pitches:
        raise UserError(
            "model.pitches = 0: the dataset's, which are not yet known; from Python, use "
            "musegan_jax.fit_config(config, dataset)"
        )


def _candidates(
    dataset: "Dataset", config: Config
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Piece and step at which windows of the config's splits may start, and the pieces' bounds."""
    steps, overhang = config.data.window_steps, config.data.overhang_steps
    hop = config.data.hop_bars
    found = [np.empty((4, 0), np.int64)]
    for piece in dataset.pieces_of(config.data.splits).tolist():
        begin, end = dataset.boundaries[piece : piece + 2].tolist()
        bars = _with_pick_up(dataset.bars_of(piece), begin, overhang)
        if config.data.hop_beats:
            apart = config.data.hop_beats * dataset.steps_per_beat
            starts = np.arange(bars[0], end, apart) if len(bars) else bars
        else:
            starts = bars[::hop] if hop else bars[:1]
        starts = starts[starts + steps <= end + overhang]
        found.append(np.stack(np.broadcast_arrays(piece, starts, begin, end)))
    pieces, starts, begins, ends = np.concatenate(found, axis=1)
    return pieces, starts, begins, ends


class HostBatch(NamedTuple):
    """The batches of one iteration, gathered on the host: `U` updates of `B` examples."""

    bits: Array  # uint8 (B, U, T, K, 16), windows, packed as in the timeline
    shifts: Array  # int32 (B, U), semitones
    drums: Array  # bool (K,)
    position: Array | None = None  # float32 (B, U, T, 8), in the bar, with `model.bar_position`


def choose(
    shifts: Int[Array, "N 2"], keys: Key[jax.Array, " B"]
) -> tuple[Int[jax.Array, " B"], Int[jax.Array, " B"]]:
    """Choose one example per key: a uniform window, and a uniform shift within its limits.

    Args:
        shifts: `Windows.shifts`, int32 `(N, 2)`.
        keys: `(B,)`.

    Returns:
        Window indices and semitones, int32 `(B,)` each.
    """
    shifts = jnp.asarray(shifts)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        which, how_far = jax.random.split(key)
        n = jax.random.randint(which, (), 0, shifts.shape[0])
        return n, jax.random.randint(how_far, (), shifts[n, 0], shifts[n, 1] + 1)

    return jax.vmap(one)(keys)


def to_rolls(
    config: Config,
    bits: UInt8[Array, "B T K 16"],
    shifts: Int[Array, " B"],
    drums: Bool[Array, " K"],
) -> Float[jax.Array, "B T P K"]:
    """Unpack, shift and crop windows to the networks' input.

    Args:
        config: static.
        bits: uint8 `(B, T, K, 16)`.
        shifts: int32 `(B,)`, semitones.
        drums: bool `(K,)`, tracks that are not shifted.

    Returns:
        Signed float32 `(B, T, P, K)`.
    """

    def one(window: Array, shift: Array) -> jax.Array:
        roll = pianoroll.unpack(window)
        roll = jnp.where(drums[None, None, :], roll, pianoroll.transpose(roll, shift))
        roll = pianoroll.crop(roll, config.model.lowest_pitch, config.model.pitches)
        return pianoroll.to_signed(roll, jnp.float32)

    return jax.vmap(one)(bits, shifts)


def draw_batch(
    config: Config, windows: Windows, keys: Key[jax.Array, " B"]
) -> Float[jax.Array, "B T P K"]:
    """Draw one example per key, with replacement: keys `(B,)` -> signed float32 `(B, T, P, K)`.

    Raises:
        TypeError, ValueError: if the windows are none, or of other tracks than the config's.
    """
    limits.instances(config=(config, Config), windows=(windows, Windows))
    if windows.timeline.shape[1] != config.model.tracks:
        raise ValueError(
            f"the windows have {windows.timeline.shape[1]} tracks, the config "
            f"{config.model.tracks}: make_windows(dataset, config) makes those of a config"
        )
    windows = jax.tree.map(jnp.asarray, windows)  # outside a compiled step they may be NumPy's
    chosen, shifts = choose(windows.shifts, keys)
    steps = config.data.window_steps

    def window(n: jax.Array) -> jax.Array:
        bits = jax.lax.dynamic_slice_in_dim(windows.timeline, windows.starts[n], steps)
        if windows.within is None:
            return bits
        # Beyond its ends lie the pieces before and after it.
        return jnp.where(_inside(windows.within[n], steps, jnp)[:, None, None], bits, 0)

    return to_rolls(config, jax.vmap(window)(chosen), shifts, windows.drums)


def _inside(within: Array, steps: int, xp: Any) -> Any:
    """Which steps of windows lie within their pieces: `(..., 2)` -> bool `(..., steps)`."""
    return (xp.arange(steps) >= within[..., :1]) & (xp.arange(steps) < within[..., 1:])


def batch_of(config: Config, data: Windows | HostBatch, update: int, keys: jax.Array) -> jax.Array:
    """The real rolls of one update, `(B, T, P, K)`: drawn here, or already gathered by the host."""
    if isinstance(data, HostBatch):
        return to_rolls(config, data.bits[:, update], data.shifts[:, update], data.drums)
    return draw_batch(config, data, keys)


def draw_position(
    config: Config, windows: Windows, keys: Key[jax.Array, " B"]
) -> Float[jax.Array, "B T 8"] | None:
    """Where in their bars the steps lie of the examples that `draw_batch` draws with these keys.

    Returns:
        float32 `(B, T, 8)` (`meter.bar_positions`); None without `model.bar_position`.
    """
    if not config.model.bar_position:
        return None
    if windows.positions is None or windows.position is None:
        raise ValueError("the windows have no positions: make_windows with this config")
    chosen, _ = choose(windows.shifts, keys)
    return jnp.asarray(windows.positions)[jnp.asarray(windows.position)[chosen]]


def position_of(
    config: Config, data: Windows | HostBatch, update: int, keys: jax.Array
) -> Array | None:
    """The positions in the bar of the rolls of `batch_of`, `(B, T, 8)`; None if not shown."""
    if not isinstance(data, HostBatch):
        return draw_position(config, data, keys)
    return None if data.position is None else data.position[:, update]


def gather(
    windows: Windows, chosen: Int[Array, "B U"], shifts: Int[Array, "B U"], steps: int
) -> HostBatch:
    """Gather from host memory the windows that the device would have drawn.

    Args:
        windows: NumPy arrays.
        chosen: window indices `(B, U)`.
        shifts: semitones `(B, U)`.
        steps: T, length of a window.
    """
    rows = np.asarray(windows.starts)[chosen][..., None] + np.arange(steps)
    bits = np.asarray(windows.timeline)[rows]
    if windows.within is not None:
        inside = _inside(np.asarray(windows.within)[chosen], steps, np)
        bits = np.where(inside[..., None, None], bits, np.uint8(0))
    position = None
    if windows.positions is not None:
        position = np.asarray(windows.positions)[np.asarray(windows.position)[chosen]]
    return HostBatch(bits, np.asarray(shifts), np.asarray(windows.drums), position)
