"""The plain forms of what the package computes in rewritten form."""

import jax
import jax.numpy as jnp
from jax import lax


def upsample_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest upsampling by 2, then a 4x4 SAME convolution, as written."""
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradient_penalty(score, params, roll: jax.Array) -> jax.Array:
    """Mean `(||grad_x score|| - 1)^2`, to be differentiated by reverse over reverse."""
    gradient = jax.grad(lambda x: jnp.sum(score(params, x)))(roll)
    norm = jnp.sqrt(1e-8 + jnp.sum(gradient**2, axis=(1, 2, 3)))
    return jnp.mean((norm - 1) ** 2)
