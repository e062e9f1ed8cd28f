"""The rule `threshold`: a note wherever the network's answer is above 0, as the reference does."""

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.decoding.frame import AS_HEARD, Frame
from musegan_jax.models.model import Model
from musegan_jax.shapes import Bool, Float


def decode(
    model: Model,
    signed: Float[np.ndarray, "T P K"],
    given: Bool[np.ndarray, "T P"],
    frame: Frame = AS_HEARD,
) -> Bool[np.ndarray, "T P K"]:
    """Float `(T, P, K)` -> bool of the same shape; nothing else is used."""
    return pianoroll.binarise(signed)
