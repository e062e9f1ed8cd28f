"""Checks of values that people give, the same on the command line and from Python."""

import operator
from collections.abc import Iterable
from typing import Any

from musegan_jax.errors import UserError

LIMITS: dict[str, tuple[int, int]] = {  # lowest and highest
    "seed": (0, 2**32 - 1),
    "samples": (1, 1000),
    "steps": (2, 1000),
    "flavours": (2, 100),
    "temperature": (0, 10),
    "key": (-127, 127),
    "parts": (1, 16),
    "steps_per_beat": (1, 96),
    "program": (0, 127),
    "bpm": (1, 6000),
    "step": (0, 2**31 - 1),
    "workers": (1, 256),
}

# Of files that readers read: one beyond them is damaged, or no piece of music. Each is checked
# before anything of that size is allocated. Those of MIDI files are in `data/midi.py`.
MAX_ROLL_BYTES = 64 * 2**20  # all arrays of a piece's file of rolls, unpacked
MAX_RESOLUTION = 480  # time steps of such a roll in a quarter note
MAX_TRACKS = 256
MAX_XML_BYTES = 16 * 2**20  # a score as MusicXML, unpacked
MAX_TEXT_BYTES = 2**20  # a score as ABC or kern
MAX_COLLECTION_BYTES = 256 * 2**20  # a file of many pieces that is read as a whole
MAX_PICKLED = 2**22  # objects in a pickle, each array one: ten times JSB's, if each pitch were one
MAX_PIECES = 1_000_000  # in one file


class OutOfRange(UserError, ValueError):
    """A value that is not allowed: one line for the command, a ValueError in Python."""


def whole(name: str, value: Any, option: str = "") -> int:
    """A value as an int; `option` is what it is called in messages, if not `name`.

    Raises:
        TypeError: if it is not a whole number.
        OutOfRange: if it is outside its `LIMITS`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # an int of NumPy's too
    except TypeError:
        raise TypeError(f"{option or name} = {_short(value)}: it must be a whole number") from None
    return within(name, number, option)


def number(name: str, value: Any, option: str = "") -> float:
    """A value as a float; as `whole`."""
    try:
        if isinstance(value, (bool, str, bytes)) or getattr(value, "ndim", 0):
            raise TypeError
        found = float(value)
    except (TypeError, OverflowError):
        raise TypeError(f"{option or name} = {_short(value)}: it must be a number") from None
    return within(name, found, option)


def within(name: str, value: Any, option: str = "") -> Any:
    """A number within the limits of `name`; as `whole`, for one whose type is known."""
    low, high = LIMITS[name]
    if not low <= value <= high:  # also where it is not a number
        raise OutOfRange(f"{option or name} = {value}: it must be from {low} to {high}")
    return value


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """A name among those known.

    Raises:
        OutOfRange: if it is none of them.
    """
    if not isinstance(value, str) or value not in known:
        raise OutOfRange(f"{name} = {_short(value)}: it must be one of {', '.join(known)}")
    return value


def instances(**values: tuple[Any, type | tuple[type, ...]]) -> None:
    """Check that each value, given with its type or types, is of one.

    Raises:
        TypeError: naming the first that is not.
    """
    for name, (value, kinds) in values.items():
        if not isinstance(value, kinds):
            kinds = kinds if isinstance(kinds, tuple) else (kinds,)
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{name} is a {type(value).__name__}; it must be a {wanted}")


def _short(value: Any) -> str:
    """A value in a message: on one line, not a whole array."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
