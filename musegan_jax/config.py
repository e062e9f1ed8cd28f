"""Everything that a run can set, as frozen dataclasses.

A `Config` is hashable, so it is a static argument of the compiled steps. Values come from a file
with `get_config()`, then from dotted overrides, or from the JSON of an earlier run; all three end
in `from_dict`, the only place that checks names and types.
"""

import ast
import dataclasses
import hashlib
import json
import runpy
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musegan_jax.errors import UserError
from musegan_jax.sections import (
    DataConfig,
    ModelConfig,
    OutputConfig,
    ParallelConfig,
    TrainingConfig,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: naming the first field that cannot be.
        """
        # The model first: what else must be a multiple of depends on its depth.
        for section in ("model", "data", "training", "parallel", "output"):
            for field, (fine, rule) in getattr(self, section).rules().items():
                self._require(f"{section}.{field}", fine, rule)
        self._require(
            "output.held_out",
            not self.output.held_out or "valid" not in self.data.splits,
            "0 where the split valid is trained on (data.splits)",
        )
        stride = self.model.stride
        self._require(
            "data.window_steps",
            self.data.window_steps % stride == 0,
            f"a multiple of {stride} (2 to the number of filters)",
        )

    def _require(self, name: str, fine: bool, rule: str) -> None:
        if not fine:
            section, field = name.split(".")
            value = getattr(getattr(self, section), field)
            raise UserError(f"config: {name} = {_show(value)}: it must be {rule}")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """SHA-256 of the values, the same on every machine; a new field changes it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def from_dict(values: dict[str, Any]) -> Config:
    """A config from nested plain values (the inverse of `Config.to_dict`).

    Raises:
        UserError: for an unknown section or field, or a value of the wrong type or range.
    """
    sections = {}
    for name, hint in typing.get_type_hints(Config).items():
        given = values.get(name, {})
        if not isinstance(given, dict):
            raise UserError(f"config: {name} is a section; set its fields as {name}.FIELD")
        hints = typing.get_type_hints(hint)
        for field in given:
            if field not in hints:
                raise UserError(
                    f"config: unknown field {name}.{field}; {name} has {', '.join(hints)}"
                )
        sections[name] = hint(**{f: _convert(v, hints[f], f"{name}.{f}") for f, v in given.items()})
    for name in values:
        if name not in sections:
            raise UserError(f"config: unknown section {name}; there are {', '.join(sections)}")
    return Config(**sections)


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the field's type; numbers are not taken for one another but int for float."""
    if typing.get_origin(hint) is tuple:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        kinds = typing.get_args(hint)
        if kinds[-1] is Ellipsis:
            return tuple(_convert(item, kinds[0], where) for item in items)
        if len(items) != len(kinds):
            raise UserError(f"config: {where} takes {len(kinds)} values, not {len(items)}")
        return tuple(_convert(item, kind, where) for item, kind in zip(items, kinds, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        kind = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]
        raise UserError(f"config: {where} = {_show(value)}: it must be {kind}")
    return value


def load(path: str | Path) -> Config:
    """The config that a Python file's `get_config()` returns.

    Raises:
        UserError: if the file is not there, fails, or returns something else.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such config file; the shipped ones are in configs/")
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
        UserError: for a word that sets no field, or an impossible value.
    """
    values = config.to_dict()
    sections = typing.get_type_hints(Config)
    hints = {name: typing.get_type_hints(section) for name, section in sections.items()}
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        section, dot, field = name.partition(".")
        if not word.startswith("--") or not dot:
            raise UserError(f"unknown argument {word!r}; a config field is set as --SECTION.FIELD")
        if section not in hints or field not in hints[section]:
            fields = values.get(section, values)
            raise UserError(
                f"unknown config field {name!r}; "
                f"{section if section in values else 'the config'} has {', '.join(fields)}"
            )
        if not equals:
            if not words:
                raise UserError(f"{word} needs a value: {word}=VALUE")
            text = words.pop(0)
        values[section][field] = _parse(text, hints[section][field])
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
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
