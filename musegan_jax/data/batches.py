"""From (seed, iteration) to a batch, on the device.

The timelines of all pieces lie in device memory as bits; a batch is a gather, a shift and an
unpacking there, a pure function of keys.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax import pianoroll
from musegan_jax.config import Config
from musegan_jax.errors import UserError

if TYPE_CHECKING:  # the compiled step needs this module, and must not need the file formats
    from musegan_jax.data.dataset import Dataset


class Windows(NamedTuple):
    """Training examples: where they start in the timeline and how far each may be shifted."""

    timeline: jax.Array | np.ndarray  # uint8 (S, K, 16), all pieces end to end
    starts: jax.Array | np.ndarray  # int32 (N,)
    shifts: jax.Array | np.ndarray  # int32 (N, 2), lowest and highest shift, semitones
    drums: jax.Array | np.ndarray  # bool (K,): tracks whose pitches are instruments, never shifted


def make_windows(dataset: "Dataset", config: Config) -> Windows:
    """Find the windows of the config's splits, as NumPy arrays (put them on the device once).

    Windows start on bar lines and lie within one piece. Silent windows, and windows with a note
    outside the model's pitches, are left out. Shifts that would push a note out are not offered.

    Raises:
        UserError: if the dataset has other tracks than the model, or no window is left.
    """
    if len(dataset.tracks) != config.model.tracks:
        names = ", ".join(track.name for track in dataset.tracks)
        raise UserError(
            f"the dataset has {len(dataset.tracks)} tracks ({names}), the model "
            f"{config.model.tracks}: set --model.tracks={len(dataset.tracks)}"
        )
    steps = config.data.window_steps
    low = config.model.lowest_pitch
    high = low + config.model.pitches - 1
    drums = np.array([track.is_drum for track in dataset.tracks])
    starts, shifts = [], []
    candidates = 0
    for piece in dataset.pieces_of(config.data.splits):
        bars = dataset.bars_of(piece)
        bars = bars[bars + steps <= dataset.boundaries[piece + 1]]
        hop = config.data.hop_bars
        for start in bars[::hop] if hop else bars[:1]:
            candidates += 1
            window = dataset.timeline[start : start + steps]
            bounds = pianoroll.pitch_bounds(window)
            if bounds is None or bounds[0] < low or bounds[1] > high:
                continue
            bounds = pianoroll.pitch_bounds(window[:, ~drums]) or (low, high)
            starts.append(start)
            shifts.append(
                (
                    max(config.data.transpose[0], low - bounds[0]),
                    min(config.data.transpose[1], high - bounds[1]),
                )
            )
    if not starts:
        raise UserError(
            f"no window to train on: of {candidates} windows of {steps} steps in the split "
            f"{'+'.join(config.data.splits)}, none sounds within MIDI pitches {low} to {high}; "
            "see data.splits, data.window_steps, model.lowest_pitch and model.pitches"
        )
    return Windows(dataset.timeline, np.array(starts, np.int32), np.array(shifts, np.int32), drums)


def draw_batch(config: Config, windows: Windows, keys: jax.Array) -> jax.Array:
    """Draw one example per key, with replacement: keys `(B,)` -> signed float32 `(B, T, P, K)`.

    Each example is a window chosen uniformly, shifted by a number of semitones chosen uniformly
    among those that keep it within the model's pitches.
    """

    def draw(key: jax.Array) -> jax.Array:
        which, how_far = jax.random.split(key)
        n = jax.random.randint(which, (), 0, windows.starts.shape[0])
        window = jax.lax.dynamic_slice_in_dim(
            windows.timeline, windows.starts[n], config.data.window_steps
        )
        shift = jax.random.randint(how_far, (), windows.shifts[n, 0], windows.shifts[n, 1] + 1)
        roll = pianoroll.unpack(window)
        roll = jnp.where(windows.drums[None, None, :], roll, pianoroll.transpose(roll, shift))
        roll = pianoroll.crop(roll, config.model.lowest_pitch, config.model.pitches)
        return pianoroll.to_signed(roll, jnp.float32)

    return jax.vmap(draw)(keys)
