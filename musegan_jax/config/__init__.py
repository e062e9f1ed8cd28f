"""All that a run can set: the fields, and how they are read from files and the command line."""

from musegan_jax.config.describe import describe
from musegan_jax.config.fields import (
    DECODING,
    Config,
    DataConfig,
    ModelConfig,
    OutputConfig,
    ParallelConfig,
    TrainingConfig,
)
from musegan_jax.config.load import from_dict, load, override, shipped
from musegan_jax.config.values import as_text

__all__ = [
    "DECODING",
    "Config",
    "DataConfig",
    "ModelConfig",
    "OutputConfig",
    "ParallelConfig",
    "TrainingConfig",
    "as_text",
    "describe",
    "from_dict",
    "load",
    "override",
    "shipped",
]
