"""The rule `independent`: lines as in `lines`, but without a penalty for clashes.

So the harmony is the network's own. Measures that rank checkpoints use this rule unless
`output.held_out_decoding` names another: lines that avoid clashes have none even in noise.
"""

import numpy as np

from musegan_jax.composing.decoding.frame import AS_HEARD, Frame
from musegan_jax.composing.decoding.lines import CHOSEN
from musegan_jax.composing.decoding.lines import decode as decode_lines
from musegan_jax.models.model import Model
from musegan_jax.shapes import Bool, Float


def decode(
    model: Model,
    signed: Float[np.ndarray, "T P K"],
    given: Bool[np.ndarray, "T P"],
    frame: Frame = AS_HEARD,
) -> Bool[np.ndarray, "T P K"]:
    """Arguments and result as for `lines.decode`."""
    return decode_lines(model, signed, given, frame, CHOSEN._replace(clash=0.0))
