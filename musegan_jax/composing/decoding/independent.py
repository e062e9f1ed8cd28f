"""The rule `independent`: lines as in `lines`, but no track heeds another.

Harmony is the network's own. What tells checkpoints apart is decoded by it: lines that avoid
clashes have none even in noise.
"""

import numpy as np

from musegan_jax.composing.decoding.lines import CHOSEN
from musegan_jax.composing.decoding.lines import decode as decode_lines
from musegan_jax.models.model import Model


def decode(model: Model, signed: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Arguments and result as for `lines.decode`."""
    return decode_lines(model, signed, given, CHOSEN._replace(clash=0.0))
