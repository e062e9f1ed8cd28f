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


def generator(variables, condition: jax.Array, noise: jax.Array, *, train: bool) -> jax.Array:
    """The U-Net as the table of the reference model states it, block by block."""
    params, stats = variables["params"], variables["batch_stats"]
    blocks = sum(name.startswith("DownConv") for name in params)
    norms = iter(range(2 * blocks))

    def norm(x):
        name = f"BatchNorm_{next(norms)}"
        mean, variance = stats[name]["mean"], stats[name]["var"]
        if train:
            mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        shape = (1, 1, 1, -1)
        x = (x - mean.reshape(shape)) / jnp.sqrt(variance.reshape(shape) + 1e-3)
        return x * params[name]["scale"].reshape(shape) + params[name]["bias"].reshape(shape)

    skips, x = [], condition
    for n in range(blocks):
        layer = params[f"DownConv_{n}"]
        x = lax.conv_general_dilated(
            x, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + layer["bias"].reshape(1, 1, 1, -1)
        x = jnp.where(x > 0, x, 0.2 * x)
        x = x if n == 0 else norm(x)
        skips.append(x)
    x = jnp.concatenate([x, noise], axis=-1)
    for n in range(blocks):
        layer = params[f"UpsampleConv_{n}"]
        x = upsample_convolve(x, layer["kernel"]) + layer["bias"].reshape(1, 1, 1, -1)
        if n < blocks - 1:
            x = jnp.concatenate([jnp.maximum(norm(x), 0), skips[blocks - 2 - n]], axis=-1)
    return jnp.tanh(x)
