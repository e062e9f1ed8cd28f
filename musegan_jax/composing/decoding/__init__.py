"""Rules that turn the network's raw answer into notes: a file per rule, its name in `RULES`.

What each is for is said in `config.fields.DECODING`, which the command's help prints.
"""

from collections.abc import Callable

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.decoding import independent, joint, lines, threshold
from musegan_jax.composing.decoding.frame import AS_HEARD, Frame
from musegan_jax.config import OutputConfig
from musegan_jax.models.model import Model
from musegan_jax.shapes import Bool, Float

# (model, raw answer float (T, P, K), given melody bool (T, P), frame) -> notes bool (T, P, K)
Rule = Callable[[Model, np.ndarray, np.ndarray, Frame], np.ndarray]

RULES: dict[str, Rule] = {
    "joint": joint.decode,
    "lines": lines.decode,
    "independent": independent.decode,
    "threshold": threshold.decode,
}
DEFAULT = OutputConfig.decoding


def decode(
    model: Model,
    signed: Float[np.ndarray, "T P K"],
    condition: Bool[np.ndarray, "T 128"],
    rule: str,
    frame: Frame = AS_HEARD,
) -> Bool[np.ndarray, "T P K"]:
    """Decode a raw answer.

    Args:
        model: whose answer this is.
        signed: float `(T, P, K)` in [-1, 1].
        condition: bool `(T, 128)`, the melody.
        rule: a name in `RULES`.
        frame: how melody and accompaniment will be played.

    Returns:
        Bool `(T, P, K)`.
    """
    low, held = model.config.lowest_pitch, frame.held
    rows = pianoroll.crop(condition[..., None], low, model.config.pitches)[..., 0]
    if held is None:
        return RULES[rule](model, signed, rows, frame)
    # Certain cells are all that the simple rules need: they heed them, and one another's clashes.
    return held.written(RULES[rule](model, held.imposed(signed, low), rows, frame), low)
