"""Where a config's values come from.

A Python file with `get_config()`, then dotted overrides; or the JSON of an earlier run. All of them
end in `from_dict`, which checks the names; a `Config` checks types and values itself.
"""

import ast
import difflib
import runpy
import typing
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from musegan_jax.config.fields import Config
from musegan_jax.errors import UserError

SECTIONS: dict[str, Any] = typing.get_type_hints(Config)
TYPES: dict[str, dict[str, Any]] = {
    name: typing.get_type_hints(section) for name, section in SECTIONS.items()
}


def from_dict(values: dict[str, Any]) -> Config:
    """A config from nested plain values (the inverse of `Config.to_dict`).

    Raises:
        UserError: for an unknown section or field, or a value of the wrong type or range.
    """
    for name, fields in values.items():
        if name not in SECTIONS:
            raise UserError(f"config: unknown section {name!r}{nearest(name, SECTIONS)}")
        if not isinstance(fields, dict):
            raise UserError(f"config: {name} is a section; set its fields as {name}.FIELD")
        for field in fields:
            _check_known(f"{name}.{field}")
    sections = {
        name: section(
            **{
                field: _convert(value, TYPES[name][field])
                for field, value in values.get(name, {}).items()
            }
        )
        for name, section in SECTIONS.items()
    }
    return Config(**sections)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the known names where none is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _check_known(name: str) -> None:
    section, _, field = name.partition(".")
    if section in TYPES and field in TYPES[section]:
        return
    every = [f"{section}.{field}" for section, fields in TYPES.items() for field in fields]
    close = nearest(name, every)
    if "did you mean" not in close:
        close = nearest(name, TYPES[section] if section in TYPES else SECTIONS)
    raise UserError(f"config: unknown field {name[:80]!r}{close}")


def _convert(value: Any, hint: Any) -> Any:
    """A plain value as the field has it: a list as a tuple, an int as a float where it is one."""
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(item, typing.get_args(hint)[0]) for item in items)
    return float(value) if hint is float and type(value) is int else value


def shipped() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    package = Path(__file__).parent.parent
    # The wheel carries them in the package; in a checkout they lie beside it.
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.py"))}
        if found:
            return found
    return {}


def load(name_or_path: str | Path) -> Config:
    """A shipped config by its name, or what a Python file's `get_config()` returns.

    Raises:
        UserError: if there is none, or the file fails or returns something else.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if str(name_or_path) not in shipped():
            raise UserError(
                f"{name_or_path}: no such config file, and no shipped config"
                f"{nearest(path.stem, shipped())}"
            )
        path = shipped()[str(name_or_path)]
    try:
        namespace = runpy.run_path(str(path))
        if "get_config" not in namespace:
            raise UserError("a config file defines get_config(), and this one does not")
        config = namespace["get_config"]()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # The file is a program of the user's: it may fail in any way, or leave.
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{path}: this config file fails: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(config, Config):
        raise UserError(
            f"{path}: get_config() returns a {type(config).__name__}, not a musegan_jax Config"
        )
    return config


def override(config: Config, words: Sequence[str]) -> Config:
    """Apply command-line words such as `--training.batch_size=32` or `--data.splits train,valid`.

    Raises:
        UserError: for a word that sets no field, or a value that is not allowed.
    """
    values = config.to_dict()
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        section, dot, field = name.partition(".")
        if not word.startswith("--") or not dot:
            raise UserError(
                f"unknown argument {word[:80]!r}; a config field is set as --SECTION.FIELD"
            )
        _check_known(name)
        if not equals:
            if not words:
                raise UserError(f"{word} needs a value: {word}=VALUE")
            text = words.pop(0)
        values[section][field] = _parse(text, TYPES[section][field])
    return from_dict(values)


def _parse(text: str, hint: Any) -> Any:
    """A command-line value as the plain value that `_convert` takes for a field of this type."""
    if typing.get_origin(hint) is tuple:
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        return [_parse(part, typing.get_args(hint)[0]) for part in parts]
    if hint is str:
        return text
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of literals such as 1a
            return ast.literal_eval(text)
    # It evaluates any literal: nesting, or a list as a key, fail in ways of their own.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
