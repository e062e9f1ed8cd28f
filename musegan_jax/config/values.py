"""Values of fields: their types, and how they are written."""

import typing
from typing import Any

from musegan_jax.errors import UserError

KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def as_text(value: Any) -> str:
    """A value as it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def in_message(value: Any) -> str:
    """`as_text`, cut where it would fill the screen."""
    text = as_text(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def check_type(name: str, value: Any, hint: Any) -> None:
    """Check a field's value; an int may stand for a float.

    Raises:
        UserError: if it is of another type than `hint`.
    """
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if type(value) is not tuple:
            raise UserError(f"config: {name} = {in_message(value)}: it must be a tuple")
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(value) != len(kinds):
            raise UserError(f"config: {name} takes {len(kinds)} values, not {len(value)}")
        for item, kind in zip(value, kinds, strict=True):
            check_type(name, item, kind)
    elif type(value) is not hint and not (hint is float and type(value) is int):
        # NumPy's numbers look like Python's, but are no JSON.
        other = "" if type(value) in KINDS else f", not of type {type(value).__name__}"
        raise UserError(f"config: {name} = {in_message(value)}: it must be {KINDS[hint]}{other}")
