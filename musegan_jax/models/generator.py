"""The U-Net generator."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from musegan_jax import meter
from musegan_jax.config import ModelConfig
from musegan_jax.models.layers import DownConv, UpsampleConv, melody_of, pitch_classes
from musegan_jax.shapes import Array, Float, Key


class UNetGenerator(nn.Module):
    """A melody and a noise map -> a multi-track piano roll (AWS DeepComposer's U-Net GAN).

    Fully convolutional: T and P may be any multiples of `2 ** len(filters)`.

    Attributes:
        tracks: K, tracks of the answer.
        filters: output channels of the encoder's blocks, outermost first; their number is the
            depth of the U. The noise map has `filters[-1]` channels.
        dtype: of the convolutions; parameters, normalisation and the output are float32.
        chroma: add the melody's pitch classes as an input channel (`layers.pitch_classes`).
        channels: of the condition; the first is the melody (`ModelConfig.condition_channels`).
        axis: the mapped axis over which training normalises when each device has a part of the
            batch. Without it, each part would silently be normalised alone.
    """

    tracks: int = 4
    filters: tuple[int, ...] = (64, 128, 256, 512)
    dtype: Any = jnp.float32
    chroma: bool = False
    channels: int = 1
    axis: str | None = None

    @nn.compact
    def __call__(
        self, condition: Float[Array, "B T P _"], noise: Float[Array, "B t p C"], *, train: bool
    ) -> Float[Array, "B T P K"]:
        """Compute the answer to a melody.

        Args:
            condition: `(B, T, P, channels)`, first the signed roll of the melody.
            noise: `(B, T / 2**depth, P / 2**depth, filters[-1])`, see `rng` and `draw_noise`.
            train: normalise by the batch and update `batch_stats`; else use the running statistics.

        Returns:
            float32 `(B, T, P, K)` in [-1, 1]; a note sounds where it is above 0.

        Raises:
            ValueError: if the shapes are not these, or T or P no multiple of `2**depth`.
        """
        _check_shapes(condition.shape, noise.shape, self.filters, self.channels)

        def norm(x: jax.Array) -> jax.Array:
            layer = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.8,
                epsilon=1e-3,
                dtype=jnp.float32,
                axis_name=self.axis,
            )
            return layer(x.astype(jnp.float32)).astype(self.dtype)

        x = condition
        if self.chroma:
            x = jnp.concatenate([x, pitch_classes(melody_of(x))], axis=-1)
        x = DownConv(self.filters[0], self.dtype)(x)
        skips = []
        for features in self.filters[1:]:
            skips.append(x)
            x = norm(DownConv(features, self.dtype)(x))
        beside = noise
        for skip in reversed(skips):
            x = nn.relu(norm(UpsampleConv(skip.shape[-1], self.dtype)(x, beside)))
            beside = skip
        x = self._last(x, beside, condition)
        return jnp.tanh(x.astype(jnp.float32))

    def _last(self, x: jax.Array, skip: jax.Array, condition: jax.Array) -> jax.Array:
        """The last block: `(B, T/2, P/2, _)` twice -> `(B, T, P, K)`.

        Upsampled by repetition, the two steps of a pair get the same in the long run, whatever the
        kernel: a note on every second step could not be learnt. So where the position in the beat
        is known, each step has a kernel of its own, linear in the position.
        """
        if self.channels == 1:
            return UpsampleConv(self.tracks, self.dtype)(x, skip)
        beat = condition[..., 1:][..., meter.BEAT]
        parts = UpsampleConv((1 + beat.shape[-1]) * self.tracks, self.dtype)(x, skip)
        plain, *moved = jnp.split(parts, 1 + beat.shape[-1], axis=-1)
        return plain + sum(beat[..., n : n + 1] * part for n, part in enumerate(moved))


def _check_shapes(
    condition: tuple[int, ...], noise: tuple[int, ...], filters: tuple[int, ...], channels: int
) -> None:
    if len(condition) != 4 or condition[-1] != channels:
        also = "" if channels == 1 else " and the position in the bar (`with_position`)"
        raise ValueError(
            f"condition has shape {condition}; the generator takes (B, T, P, {channels}): batch, "
            f"time steps, pitches, the melody's track{also}"
        )
    wanted = (condition[0], *noise_shape(filters, *condition[1:3]))
    if noise != wanted:
        raise ValueError(
            f"noise has shape {noise}; for a condition {condition} the generator takes {wanted}: "
            "(B, T / stride, P / stride, channels)"
        )


def make_generator(config: ModelConfig, axis: str | None = None) -> UNetGenerator:
    """The generator that `config` describes; `axis` is the mapped axis of a training step."""
    return UNetGenerator(
        config.tracks,
        config.generator_filters,
        jnp.dtype(config.dtype),
        config.chroma,
        config.condition_channels,
        axis,
    )


def noise_shape(filters: tuple[int, ...], steps: int, pitches: int) -> tuple[int, int, int]:
    """Shape of one example's noise map for a roll of `steps` x `pitches`.

    It is `(T / stride, P / stride, C)`: stride 2 to the number of filters, C the last of them.

    Raises:
        ValueError: if `steps` or `pitches` is no multiple of the stride.
    """
    stride = 2 ** len(filters)
    if steps % stride or pitches % stride:
        raise ValueError(f"steps ({steps}) and pitches ({pitches}) must be multiples of {stride}")
    return steps // stride, pitches // stride, filters[-1]


def draw_noise(
    keys: Key[jax.Array, " B"], shape: tuple[int, int, int]
) -> Float[jax.Array, "B t p C"]:
    """Standard normal truncated at two sigma, one map per key: `(B,)` keys -> `(B, *shape)`."""
    return jax.vmap(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, shape))(keys)


def variable_shapes(config: ModelConfig) -> Any:
    """Shapes of the generator's variables: parameters, and statistics if it has any."""
    condition = jnp.zeros((1, config.multiple, config.pitches, config.condition_channels))
    noise = jnp.zeros((1, *noise_shape(config.generator_filters, *condition.shape[1:3])))
    generator = make_generator(config)
    shapes = jax.eval_shape(
        lambda key: generator.init(key, condition, noise, train=False), jax.random.key(0)
    )
    return {"batch_stats": {}, **shapes}
