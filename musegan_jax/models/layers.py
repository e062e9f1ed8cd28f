"""The two convolution blocks of the networks.

Shapes are `(B, T, P, C)`. Kernels are 4x4, Glorot-uniform; biases start at zero. Parameters are
float32 whatever `dtype` the arithmetic runs in. Each convolution has two equal implementations:
matrix products for CPU (`products`), and convolutions for GPU and TPU (here). The platform that the
program is compiled for selects one.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from musegan_jax.models import products
from musegan_jax.shapes import Array, Float

KERNEL = (4, 4)
LEAK = 0.2
FEW = 32  # channels; with fewer, `products` is not faster and compiles longer


@jax.custom_jvp
def leaky_relu(x: jax.Array) -> jax.Array:
    """`max(x, 0.2 x)`. Its second derivative is zero, which the gradient penalty relies on."""
    return jnp.maximum(x, LEAK * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # The output has the input's sign, so the input need not be kept for the backward pass. On a
    # TPU that saves a fifth of the bytes that a critic update moves.
    y = leaky_relu(*primals)
    return y, jnp.where(y >= 0, tangents[0], LEAK * tangents[0])


def pitch_classes(roll: Float[Array, "B T P K"]) -> Float[Array, "B T P 1"]:
    """Repeat each pitch class in every octave: signed `(B, T, P, K)` to `(B, T, P, 1)`.

    A cell counts the sounding cells of its pitch class at its step, in all octaves and tracks: -1
    for none, 1 for one, 3 for two. Harmony depends on pitch classes, but a 4x4 kernel cannot see
    two voices that are a semitone and two octaves apart. Here they are neighbours.
    """
    b, t, p, _ = roll.shape
    octaves = -(-p // 12)
    sounding = jnp.pad((1 + roll).sum(axis=3), ((0, 0), (0, 0), (0, 12 * octaves - p)))
    classes = sounding.reshape(b, t, octaves, 12).sum(axis=2)
    return jnp.tile(classes, (1, 1, octaves))[:, :, :p, None] - 1


def melody_of(condition: Float[Array, "B T P C"]) -> Float[Array, "B T P 1"]:
    """The melody's channel of a condition."""
    return condition if condition.shape[-1] == 1 else condition[..., :1]


def with_position(
    melody: Float[Array, "B T P 1"], position: Float[Array, "B T 8"] | None
) -> Float[Array, "B T P C"]:
    """A condition: the melody's roll, and the position in the bar, if there is one, on every pitch.

    Args:
        melody: signed `(B, T, P, 1)`.
        position: from `meter.bar_positions`, `(B, T, 8)`.
    """
    if position is None:
        return melody
    shape = (*melody.shape[:3], position.shape[-1])
    everywhere = jnp.broadcast_to(position[:, :, None, :], shape).astype(melody.dtype)
    return jnp.concatenate([melody, everywhere], axis=-1)


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
    """Convolution `(B, T, P, C)` with a kernel `(h, w, C, D)`."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def strided_convolve(
    x: Float[Array, "B T P C"], kernel: Float[Array, "4 4 C D"]
) -> Float[Array, "B T/2 P/2 D"]:
    """4x4 convolution of stride 2, padded by one position on every side.

    Args:
        x: `(B, T, P, C)`, T and P even.
        kernel: `(4, 4, C, D)`.

    Returns:
        `(B, T / 2, P / 2, D)`.
    """

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))

    if x.shape[-1] < FEW:
        return plain(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=products.strided_convolve, default=plain)


def upsample_convolve(kernel: jax.Array, *parts: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling by 2, then a 4x4 convolution with SAME padding.

    Args:
        kernel: `(4, 4, C, D)`.
        parts: arrays `(B, T, P, C_n)`; the input is their concatenation on the channel axis, C
            channels in total.

    Returns:
        `(B, 2T, 2P, D)`.

    The upsampled map is never built: at most 25 of 64 products remain. Differentiable in reverse
    mode only.
    """
    return lax.platform_dependent(
        kernel, *parts, cpu=products.upsample_convolve, default=_transposed_convolve
    )


def _split(kernel: jax.Array, parts: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """A kernel's pieces for arrays that its input is the concatenation of."""
    ends = [sum(part.shape[-1] for part in parts[: n + 1]) for n in range(len(parts) - 1)]
    return jnp.split(kernel, ends, axis=axis)


def _transposed_kernel(kernel: jax.Array, folded: bool) -> jax.Array:
    """The 4x4 kernel as that of `_down`: `(4, 4, C, D)` to `(5, 5, D, C)` or `(5, 3, 2 D, C)`.

    Upsampling repeats each input in each dimension, so neighbouring taps of w0..w3 meet the same
    input and add up: w0, w0 + w1, w1 + w2, w2 + w3, w3. A transposed convolution writes where a
    plain one reads, so the axes are reversed and the channels swapped.
    """
    for axis in (0, 1):
        edge = jnp.zeros_like(lax.slice_in_dim(kernel, 0, 1, axis=axis))
        kernel = lax.concatenate([edge, kernel], axis) + lax.concatenate([kernel, edge], axis)
    kernel = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    if folded:
        _, _, d, c = kernel.shape
        kernel = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0))).reshape(5, 3, 2 * d, c)
    return kernel


def _down(y: jax.Array, kernel: jax.Array, cudnn: bool, folded: bool) -> jax.Array:
    """The convolution that `_transposed_convolve` is the transpose of: `(B, 2T, 2P, D)` to
    `(B, T, P, C)`.
    """
    if not folded:
        # Either padding gives the same numbers: the last position is not read. cuDNN has only the
        # symmetric one; for the other XLA writes a padded copy.
        pad = (2, 2) if cudnn else (2, 1)
        return _convolve(y, kernel, (2, 2), (pad, pad))
    b, t, p, d = y.shape
    return _convolve(y.reshape(b, t, p // 2, 2 * d), kernel, (2, 1), ((2, 2), (1, 1)))


def _is_folded(cudnn: bool, part: jax.Array) -> bool:
    """Whether two neighbouring pitches of the output are the channels of one position.

    That takes 30 products instead of 25, as one of the kernel's six pitches is zero. But where a
    kernel has more positions than its input, as 5x5 on the innermost layer's 2x8 map, XLA's GPU
    compiler lets the two change places, and the layer has seven times the work.
    """
    return cudnn and part.shape[1] * part.shape[2] < 5 * 5


def _is_apart(cudnn: bool, kernel: jax.Array, parts: Sequence[jax.Array]) -> bool:
    """Whether outputs are summed instead of inputs concatenated: where that moves fewer bytes."""
    return cudnn and 4 * kernel.shape[-1] < min(part.shape[-1] for part in parts)


def _up(cudnn: bool, kernel: jax.Array, *parts: jax.Array) -> jax.Array:
    if len(parts) > 1 and _is_apart(cudnn, kernel, parts):
        pieces = zip(_split(kernel, parts, axis=2), parts, strict=True)
        return functools.reduce(jnp.add, [_up(cudnn, *piece) for piece in pieces])
    x = jnp.concatenate(parts, axis=-1)
    b, t, p, _ = x.shape
    folded = _is_folded(cudnn, x)
    h = _transposed_kernel(kernel, folded)
    out = jax.ShapeDtypeStruct((b, 2 * t, 2 * p, kernel.shape[-1]), x.dtype)
    (y,) = jax.linear_transpose(lambda y: _down(y, h, cudnn, folded), out)(x)
    return y


def _up_gradients(
    cudnn: bool, dy: jax.Array, kernel: jax.Array, *parts: jax.Array
) -> tuple[jax.Array, ...]:
    folded = _is_folded(cudnn, parts[0])
    h, unfold = jax.vjp(lambda kernel: _transposed_kernel(kernel, folded), kernel)
    inputs = parts
    if not _is_apart(cudnn, kernel, parts):
        inputs = [jnp.concatenate(parts, axis=-1)]
    dhs = []
    for x, piece in zip(inputs, _split(h, inputs, axis=-1), strict=True):
        _, by_kernel = jax.vjp(lambda piece: _down(dy, piece, cudnn, folded), piece)
        dhs += by_kernel(x)
    (dkernel,) = unfold(jnp.concatenate(dhs, axis=-1))
    return dkernel, *(_down(dy, piece, cudnn, folded) for piece in _split(h, parts, axis=-1))


@jax.custom_vjp
def _transposed_convolve(kernel: jax.Array, *parts: jax.Array) -> jax.Array:
    """`upsample_convolve` as the transpose of a 5x5 convolution of stride 2, with 25 products.

    The gradients are written out for two reasons. Each is a convolution that cuDNN has (forward, or
    by the kernel); JAX would dilate the low-resolution input with zeros. And each part has its own
    gradient; one for all parts would be written in full and read again for every part.

    Both have a form for cuDNN and one for TPUs, of the same numbers. The choice is made in here,
    not beside that for CPU: what a form keeps for its gradients would become part of CPU programs.
    """
    return lax.platform_dependent(
        kernel, *parts, cuda=functools.partial(_up, True), default=functools.partial(_up, False)
    )


def _transposed_forward(kernel: jax.Array, *parts: jax.Array) -> tuple[jax.Array, Any]:
    return _transposed_convolve(kernel, *parts), (kernel, parts)


def _transposed_backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, ...]:
    kernel, parts = kept
    return lax.platform_dependent(
        dy,
        kernel,
        *parts,
        cuda=functools.partial(_up_gradients, True),
        default=functools.partial(_up_gradients, False),
    )


_transposed_convolve.defvjp(_transposed_forward, _transposed_backward)


def _parameters(layer: nn.Module, channels: int, features: int) -> tuple[jax.Array, jax.Array]:
    """A layer's kernel `(4, 4, channels, features)` and bias `(features,)`, float32."""
    shape = (*KERNEL, channels, features)
    kernel = layer.param("kernel", nn.initializers.glorot_uniform(), shape, jnp.float32)
    return kernel, layer.param("bias", nn.initializers.zeros, (features,), jnp.float32)


class UpsampleConv(nn.Module):
    """`upsample_convolve` with its parameters: `(B, T, P, C)` -> `(B, 2T, 2P, features)`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *parts: Float[Array, "B T P _"]) -> Float[Array, "B 2*T 2*P D"]:
        """Apply the layer to arrays, concatenated on the channel axis."""
        channels = sum(part.shape[-1] for part in parts)
        kernel, bias = _parameters(self, channels, self.features)
        kernel, bias, *same = promote_dtype(kernel, bias, *parts, dtype=self.dtype)
        return upsample_convolve(kernel, *same) + bias[None, None, None, :]


class DownConv(nn.Module):
    """4x4 convolution of stride 2, then LeakyReLU: `(B, T, P, C)` -> `(B, T/2, P/2, features)`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T P C"]) -> Float[Array, "B T/2 P/2 D"]:
        """Apply the layer."""
        kernel, bias = _parameters(self, x.shape[-1], self.features)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return leaky_relu(strided_convolve(x, kernel) + bias[None, None, None, :])
