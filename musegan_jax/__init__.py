"""Accompaniment GANs for music: a melody in, a multi-track piece out.

    import musegan_jax as mg

    model = mg.load()
    rolls = mg.accompany(model, "ode_to_joy", samples=4)

docs/python.md says what each name is for.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors
    from musegan_jax.api import *  # noqa: F403

# Those of `musegan_jax.api`, which is imported when the first of them is used: importing the
# package alone imports no JAX.
__all__ = [
    "Config",
    "Critic",
    "DataConfig",
    "Model",
    "ModelConfig",
    "OutputConfig",
    "ParallelConfig",
    "Track",
    "TrainState",
    "TrainingConfig",
    "UNetGenerator",
    "UserError",
    "accompany",
    "answer",
    "between",
    "blend",
    "create_state",
    "critic_step",
    "draw_batch",
    "draw_noise",
    "draw_position",
    "example_keys",
    "fit_config",
    "from_pretty_midi",
    "generator_step",
    "gradient_penalty",
    "inference_variables",
    "load",
    "load_config",
    "load_dataset",
    "make_critic",
    "make_generator",
    "make_windows",
    "noise_shape",
    "notes_to_roll",
    "roll_to_notes",
    "root_key",
    "save",
    "to_pretty_midi",
    "train",
    "train_step",
    "update_key",
    "update_keys",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'musegan_jax' has no attribute {name!r}")
    return getattr(importlib.import_module("musegan_jax.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
