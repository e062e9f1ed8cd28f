"""Rules that turn the network's raw answer into notes: one file each, and its name here."""

from collections.abc import Callable

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.decoding import independent, lines, threshold
from musegan_jax.errors import UserError
from musegan_jax.models.model import Model

# (model, raw answer float (T, P, K), given melody bool (T, P)) -> notes bool (T, P, K)
Rule = Callable[[Model, np.ndarray, np.ndarray], np.ndarray]

RULES: dict[str, Rule] = {
    "lines": lines.decode,
    "independent": independent.decode,
    "threshold": threshold.decode,
}
DEFAULT = "lines"


def decode(model: Model, signed: np.ndarray, condition: np.ndarray, rule: str) -> np.ndarray:
    """The notes of a raw answer.

    Args:
        model: whose answer it is.
        signed: float `(T, P, K)` in [-1, 1].
        condition: bool `(T, 128)`, the melody.
        rule: a name in `RULES`.

    Returns:
        Bool `(T, P, K)`.
    """
    rows = pianoroll.crop(condition[..., None], model.config.lowest_pitch, model.config.pitches)
    return RULES[rule](model, signed, rows[..., 0])


def check(rule: str, option: str) -> None:
    """Make sure that there is such a rule; `option` is how the user named it.

    Raises:
        UserError: if there is none.
    """
    if rule not in RULES:
        raise UserError(f"{option} = {rule}: it must be one of {', '.join(RULES)}")
