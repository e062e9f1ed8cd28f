"""The piano roll, the one data type of the project.

Axes: **B** batch, **T** time steps, **P** pitches, **K** tracks. A roll is `(T, P, K)`, time
first. It has three forms; only these functions convert between them:

- *bool*: a note sounds at this step, pitch and track;
- *packed*: uint8 `(T, K, 16)`, the 128 MIDI pitches as bits (on disk and in device memory);
- *signed*: float -1/+1 (in the networks).

`Array` is a NumPy or JAX array; functions of either return the same kind.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax.shapes import Array, Bool, Float, Int, Shaped, UInt8
from musegan_jax.terminal import is_text

MIDI_PITCHES = 128
MAX_NAME = 200  # characters in a track's name


class Track(NamedTuple):
    """One track of a roll: its name, General MIDI program (0..127) and drum flag."""

    name: str
    program: int
    is_drum: bool = False


def is_track(track: Track) -> bool:
    """Whether a track read from a file is one: it may hold values of any kind."""
    name, program, is_drum = track
    return (
        is_text(name, MAX_NAME)
        and type(program) is int
        and 0 <= program <= 127
        and type(is_drum) is bool
    )


def _module(array: Array) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def pack(roll: Bool[Array, "*b T P K"]) -> UInt8[Array, "*b T K 16"]:
    """Bool `(..., T, 128, K)` -> packed uint8 `(..., T, K, 16)`.

    Raises:
        ValueError: if there are not 128 pitches.
    """
    if roll.shape[-2] != MIDI_PITCHES:
        raise ValueError(f"a packed roll holds {MIDI_PITCHES} pitches, not {roll.shape[-2]}")
    return _module(roll).packbits(roll.swapaxes(-1, -2), axis=-1)


def unpack(packed: UInt8[Array, "*b T K 16"]) -> Bool[Array, "*b T 128 K"]:
    """Packed uint8 `(..., T, K, 16)` -> bool `(..., T, 128, K)`."""
    return _module(packed).unpackbits(packed, axis=-1).swapaxes(-1, -2).astype(bool)


def to_signed(roll: Bool[Array, "*b"], dtype: Any = np.float32) -> Float[Array, "*b"]:
    """Bool -> -1/+1 of `dtype`, same shape."""
    xp = _module(roll)
    return xp.where(roll, xp.ones((), dtype), -xp.ones((), dtype))


def binarise(signed: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Signed (or any real network output) -> bool: a note where the value is above 0."""
    return signed > 0


def crop(
    roll: Shaped[Array, "*b T 128 K"], lowest_pitch: int, pitches: int
) -> Shaped[Array, "*b T P K"]:
    """The `pitches` rows from `lowest_pitch` up: `(..., T, 128, K)` -> `(..., T, pitches, K)`."""
    return roll[..., lowest_pitch : lowest_pitch + pitches, :]


def uncrop(roll: Bool[np.ndarray, "*b T P K"], lowest_pitch: int) -> Bool[np.ndarray, "*b T 128 K"]:
    """Inverse of `crop`: bool `(..., T, pitches, K)` -> `(..., T, 128, K)`, other rows silent."""
    *outer, pitches, tracks = roll.shape
    full = np.zeros((*outer, MIDI_PITCHES, tracks), bool)
    full[..., lowest_pitch : lowest_pitch + pitches, :] = roll
    return full


def transpose(
    roll: Shaped[Array, "*b P K"], semitones: Int[Array, ""] | int
) -> Shaped[Array, "*b P K"]:
    """Shift `(..., T, P, K)` up by `semitones` (may be traced). Rows wrap round.

    The caller must bound `semitones` so that only silent rows wrap: inside a compiled step the
    values are not known, so they cannot be checked here.
    """
    return _module(roll).roll(roll, semitones, axis=-2)


def pitch_classes(roll: Bool[np.ndarray, "T 128"]) -> Bool[np.ndarray, "T 12"]:
    """Which pitch classes sound at each step: bool `(T, 128)` -> `(T, 12)`."""
    padded = np.pad(roll, ((0, 0), (0, 4)))
    return np.any(padded.reshape(len(roll), 11, 12), axis=1)


SILENT = 255  # in place of the lowest pitch, where there is none


def edges(packed: UInt8[np.ndarray, "T K 16"]) -> UInt8[np.ndarray, "T K 2"]:
    """The lowest and the highest pitch of each step and track; silent: `SILENT`, 0."""
    halves = (
        np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    )  # (T, K, 2), 64 pitches each
    low, high = halves[..., 0], halves[..., 1]
    found = np.empty((*packed.shape[:2], 2), np.uint8)
    # Pitch 0 is the first bit.
    found[..., 0] = np.where(low, _leading(low), 64 + _leading(high))
    found[..., 1] = np.where(high, 127 - _trailing(high), 63 - _trailing(low))
    found[(low | high) == 0] = SILENT, 0
    return found


def _leading(numbers: np.ndarray) -> np.ndarray:
    """Zeros before the first set bit of 64: all bits below it are set, and counted."""
    for shift in (1, 2, 4, 8, 16, 32):
        numbers = numbers | (numbers >> np.uint64(shift))
    return 64 - np.bitwise_count(numbers).astype(np.int16)


def _trailing(numbers: np.ndarray) -> np.ndarray:
    """Zeros after the last set bit of 64."""
    return np.bitwise_count(~numbers & (numbers - np.uint64(1))).astype(np.int16)


def edges_over(
    edges: UInt8[np.ndarray, "S K 2"], first: Int[np.ndarray, " N"], last: Int[np.ndarray, " N"]
) -> tuple[UInt8[np.ndarray, "N K"], UInt8[np.ndarray, "N K"]]:
    """The lowest and the highest pitch of each track in N spans from `first` to before `last`.

    An empty span is silent. Minima of doubled length are made of those before: each costs a pass.
    """
    spans = last - first
    low = np.full((len(first), edges.shape[1]), SILENT, np.uint8)
    high = np.zeros_like(low)
    lows, highs = edges[..., 0], edges[..., 1]
    width = 1
    while width <= spans.max(initial=0):
        of = (spans >= width) & (spans < 2 * width)
        for found, level, join in ((low, lows, np.minimum), (high, highs, np.maximum)):
            found[of] = join(level[first[of]], level[last[of] - width])
        lows, highs = (
            np.minimum(lows[:-width], lows[width:]),
            np.maximum(highs[:-width], highs[width:]),
        )
        width *= 2
    return low, high


def most_at_once(packed: UInt8[np.ndarray, "T K 16"]) -> Int[np.ndarray, " K"]:
    """The most pitches that each track of a packed `(T, K, 16)` roll has at once: int `(K,)`."""
    return np.bitwise_count(packed).sum(axis=2, dtype=int).max(axis=0, initial=0)


def runs(column: Bool[np.ndarray, "T P"]) -> Int[np.ndarray, "N 3"]:
    """The notes of a bool `(T, P)` roll: int `(N, 3)` rows `start, end, pitch`.

    A note is a maximal run of steps at one pitch; `end` is exclusive. Sorted by start, then pitch.
    """
    padded = np.zeros((column.shape[0] + 2, column.shape[1]), np.int8)
    padded[1:-1] = column
    change = np.diff(padded, axis=0)
    # Pitch-major order makes the k-th onset and the k-th release belong to the same note.
    pitch, start = np.nonzero(change.T == 1)
    _, end = np.nonzero(change.T == -1)
    notes = np.stack([start, end, pitch], axis=1)
    return notes[np.lexsort((pitch, start))]
