"""The networks' two convolutions as matrix products, for CPU.

On CPU, XLA's convolutions reach a third of the speed of its matrix products, their gradients a
quarter. Here every large operation is a product, in the forward pass and in both gradients, and
there are fewer multiplications: 9 instead of 16 for each weight of the strided convolution, 16
instead of 25 for the upsampling one. The rest are sums of shifted arrays. On accelerators these
would move bytes that a convolution does not.

`barrier` stops XLA from fusing a sum into each of its readers, which would recompute it, element by
element: without the barriers the sums take longer than the products.
"""

import jax
import jax.numpy as jnp
from jax import lax

barrier = lax.optimization_barrier


def strided_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 convolution of stride 2 with one position of padding: `layers.strided_convolve`.

    With the 2x2 phases of `x` as channels this is a 2x2 convolution of stride 1. In one dimension
    two neighbouring outputs of such a kernel (g0, g1) need three products, not four:
    `m0 = (z0 - z1) g0`, `m1 = z1 (g0 + g1)`, `m2 = (z1 - z2) g1` give `m0 + m1` and `m1 - m2`.
    In two dimensions they need nine, not sixteen (Winograd's F(2x2, 2x2); Lavin and Gray 2016).
    All coefficients are 1 or -1, so float32 rounding is hardly larger than in the plain form.
    """
    b, t, p, c = x.shape
    d = kernel.shape[-1]
    # Tiles of 2x2 outputs; if the number of outputs is odd, the last tile is cut.
    rows, columns = -(-t // 4), -(-p // 4)
    z = jnp.pad(x, ((0, 0), (1, 4 * rows + 1 - t), (1, 4 * columns + 1 - p), (0, 0)))
    z = z.reshape(b, 2 * rows + 1, 2, 2 * columns + 1, 2, c).transpose(0, 1, 3, 2, 4, 5)
    z = barrier(z.reshape(b, 2 * rows + 1, 2 * columns + 1, 4 * c))
    g = kernel.reshape(2, 2, 2, 2, c, d).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * c, d)

    def inputs(z: jax.Array, axis: int) -> tuple[jax.Array, ...]:
        n = z.shape[axis]
        z0, z1, z2 = (lax.slice_in_dim(z, start, n - 2 + start, 2, axis) for start in range(3))
        return z0 - z1, z1, z1 - z2

    def weights(g: jax.Array) -> tuple[jax.Array, ...]:
        return g[0], g[0] + g[1], g[1]

    def outputs(m0: jax.Array, m1: jax.Array, m2: jax.Array) -> tuple[jax.Array, jax.Array]:
        return m0 + m1, m1 - m2

    z = barrier([[tile.reshape(-1, 4 * c) for tile in inputs(row, 2)] for row in inputs(z, 1)])
    g = [weights(row) for row in weights(g)]
    m = barrier([[z[i][j] @ g[i][j] for j in range(3)] for i in range(3)])
    m = [outputs(*(y.reshape(b, rows, columns, d) for y in row)) for row in m]
    phases = zip(*(outputs(*column) for column in zip(*m, strict=True)), strict=True)
    y = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return y.reshape(b, 2 * rows, 2 * columns, d)[:, : t // 2, : p // 2]


def upsample_convolve(kernel: jax.Array, *parts: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling by 2, then a 4x4 convolution: `layers.upsample_convolve`.

    One matrix product multiplies every input by every tap. Then, in one dimension after the other,
    output 2i sums input i - 1 by tap 0, input i by taps 1 and 2, and input i + 1 by tap 3; output
    2i + 1 sums input i by taps 0 and 1, and input i + 1 by taps 2 and 3.
    """
    x = jnp.concatenate(parts, axis=-1)
    b, t, p, c = x.shape
    d = kernel.shape[-1]

    def shift(y: jax.Array, axis: int, low: int) -> jax.Array:
        edges = [(0, 0, 0)] * y.ndim
        edges[axis] = (low, -low, 0)
        return lax.pad(y, jnp.zeros((), y.dtype), edges)

    def outputs(taps: list[jax.Array], axis: int) -> tuple[jax.Array, jax.Array]:
        y0, y1, y2, y3 = taps
        even = shift(y0, axis, 1) + y1 + y2 + shift(y3, axis, -1)
        return even, y0 + y1 + shift(y2 + y3, axis, -1)

    y = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, 16 * d)
    y = barrier(y).reshape(b, t, p, 4, 4 * d)
    rows = barrier(outputs([y[:, :, :, i] for i in range(4)], 1))
    phases = [outputs(jnp.split(row, 4, axis=-1), 2) for row in rows]
    y = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return y.reshape(b, 2 * t, 2 * p, d)
