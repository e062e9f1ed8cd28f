"""Arrays by dtype and shape, for signatures: `Float[Array, "B T P K"]`.

Axes: B batch, T time steps, P pitches, K tracks, C channels, N a count of anything; a number is a
fixed size, `*b` stands for any axes. Equal letters in one signature are equal sizes. jaxtyping
checks this while the tests run; a user's program checks nothing and need not have jaxtyping.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Shaped", "UInt8"]

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Key, Shaped, UInt8

    Array = Any  # JAX's or NumPy's: many functions take either and give the same
else:
    Array = jax.Array | np.ndarray
    try:
        from jaxtyping import Bool, Float, Int, Key, Shaped, UInt8
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = Key = Shaped = UInt8 = _Unchecked
