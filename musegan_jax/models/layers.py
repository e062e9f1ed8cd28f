"""The two convolution blocks that both networks are made of.

Shapes are `(B, T, P, C)`. Kernels are 4x4, Glorot-uniform; biases start at zero. Parameters are
float32 whatever `dtype` the arithmetic runs in.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

KERNEL = (4, 4)
LEAK = 0.2


def leaky_relu(x: jax.Array) -> jax.Array:
    """`max(x, 0.2 x)`. Its second derivative is zero, which the gradient penalty relies on."""
    return nn.leaky_relu(x, LEAK)


def convolve(x: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    """Stride-1 convolution, `(B, T, P, C)` with `(h, w, C, D)`."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def upsample_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling by 2, then a 4x4 convolution with SAME padding.

    Args:
        x: `(B, T, P, C)`.
        kernel: `(4, 4, C, D)`.

    Returns:
        `(B, 2T, 2P, D)`.

    The upsampled map is never made. Output positions of one parity see only two or three distinct
    inputs per dimension: with taps w0..w3, an even position sees (w0, w1 + w2, w3) on its left,
    own and right input, an odd one (w0 + w1, w2 + w3) on its own and right input. Summing the taps
    first and convolving at low resolution gives the same function with 25 of 64 products.
    """
    b, t, p, _ = x.shape
    d = kernel.shape[-1]

    def fold(w: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        w0, w1, w2, w3 = jnp.split(w, 4, axis)
        even = jnp.concatenate([w0, w1 + w2, w3], axis)
        odd = jnp.concatenate([w0 + w1, w2 + w3], axis)
        return even, odd

    pads = ((1, 1), (0, 1))  # the neighbours that an even and an odd position see
    phases = [
        convolve(x, folded, (pads[i], pads[j]))
        for i, rows in enumerate(fold(kernel, 0))
        for j, folded in enumerate(fold(rows, 1))
    ]
    out = jnp.stack(phases, axis=3).reshape(b, t, p, 2, 2, d)
    return out.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * t, 2 * p, d)


class UpsampleConv(nn.Module):
    """`upsample_convolve` with its parameters: `(B, T, P, C)` -> `(B, 2T, 2P, features)`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        shape = (*KERNEL, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return upsample_convolve(x, kernel) + bias[None, None, None, :]


class DownConv(nn.Module):
    """4x4 convolution of stride 2, then LeakyReLU: `(B, T, P, C)` -> `(B, T/2, P/2, features)`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        x = nn.Conv(
            self.features,
            KERNEL,
            strides=2,
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            param_dtype=jnp.float32,
            kernel_init=nn.initializers.glorot_uniform(),
        )(x)
        return leaky_relu(x)
