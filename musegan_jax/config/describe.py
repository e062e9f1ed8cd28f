"""The text of `train --help` about the fields of a config."""

import dataclasses
import textwrap

from musegan_jax.config.fields import Config
from musegan_jax.config.values import as_text


def describe() -> str:
    """Every field of a config, with its default and meaning, for `train --help`."""
    lines = [
        "Any field of the config can be set by its dotted name, for example",
        "--training.batch_size=32. Below are the defaults; a config sets some of them",
        "otherwise.",
    ]
    for section in dataclasses.fields(Config):
        values = getattr(Config(), section.name)
        about = str(type(values).__doc__).splitlines()[0]
        lines += ["", *textwrap.wrap(f"{section.name}: {about}", 78, subsequent_indent="  ")]
        for field in dataclasses.fields(values):
            value = as_text(getattr(values, field.name))
            lines.append(f"  --{section.name}.{field.name}={value}")
            lines += textwrap.wrap(
                field.metadata["meaning"], 72, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return "\n".join(lines)
