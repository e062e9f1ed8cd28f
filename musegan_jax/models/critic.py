"""The critic."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from musegan_jax.config import ModelConfig
from musegan_jax.models.layers import DownConv, pitch_classes
from musegan_jax.shapes import Array, Float


class Critic(nn.Module):
    """Score how real a multi-track roll is, given its melody: one number per example.

    It has no normalisation: the gradient penalty constrains the gradient of each example alone,
    and BatchNorm would make examples depend on each other (Gulrajani et al. 2017, section 4).

    Attributes:
        filters: output channels of the convolutions.
        dtype: of the convolutions; parameters and the score are float32.
        chroma: add the roll's pitch classes as an input channel (`layers.pitch_classes`).
        channels: of the condition (`ModelConfig.condition_channels`).
        scales: how many times the roll is looked at: as it is, then the means of every 4 steps,
            of every 16 and so on, each through convolutions of its own (several scales as in
            Wang et al. 2018, pix2pixHD, section 3.2, but one score from all of them).
    """

    filters: tuple[int, ...] = (64, 128, 256, 512)
    dtype: Any = jnp.float32
    chroma: bool = False
    channels: int = 1
    scales: int = 1

    @nn.compact
    def __call__(
        self, roll: Float[Array, "B T P K"], condition: Float[Array, "B T P C"]
    ) -> Float[Array, " B"]:
        """Score signed rolls `(B, T, P, K)` with conditions `(B, T, P, channels)`: float32 `(B,)`.

        Raises:
            ValueError: if the shapes are not these, or P no multiple of `2**len(filters)`, or T
                none of that times `4**(scales - 1)`.
        """
        if roll.ndim != 4 or condition.shape != (*roll.shape[:3], self.channels):
            raise ValueError(
                f"roll and condition have shapes {roll.shape} and {condition.shape}; the critic "
                f"takes (B, T, P, K) and (B, T, P, {self.channels}): batch, steps, pitches, tracks"
            )
        stride = 2 ** len(self.filters)
        longest = stride * 4 ** (self.scales - 1)
        if roll.shape[1] % longest or roll.shape[2] % stride:
            raise ValueError(
                f"roll has shape {roll.shape}; the critic takes T and P that are multiples of "
                f"{stride}" + (f", T of {longest}" if self.scales > 1 else "")
            )
        x = jnp.concatenate([roll, condition], axis=-1)
        if self.chroma:
            x = jnp.concatenate([x, pitch_classes(roll)], axis=-1)
        views = []
        for scale in reversed(range(self.scales)):
            view = x.reshape(x.shape[0], -1, 4**scale, *x.shape[2:]).mean(2) if scale else x
            for features in self.filters:
                view = DownConv(features, self.dtype)(view)
            views.insert(0, view.reshape(view.shape[0], -1))
        x = jnp.concatenate(views, axis=-1) if self.scales > 1 else views[0]
        # The last sum runs over thousands of terms: in bf16 it would lose the score's low digits.
        x = nn.Dense(1, kernel_init=nn.initializers.glorot_uniform())(x.astype(jnp.float32))
        return x[:, 0]


def make_critic(config: ModelConfig) -> Critic:
    """The critic that `config` describes."""
    dtype = jnp.dtype(config.dtype)
    return Critic(
        filters=config.critic_filters,
        dtype=dtype,
        chroma=config.chroma,
        channels=config.condition_channels,
        scales=config.critic_scales,
    )


def score_and_layers(
    critic: Critic, params: Any, roll: Float[Array, "B T P K"], condition: Float[Array, "B T P C"]
) -> tuple[Float[Array, " B"], list[Float[Array, "B _ _ _"]]]:
    """Scores `(B,)`, and the outputs of all convolutions, `(B, T', P', features)` each.

    Raises:
        ValueError: as the critic does.
    """
    score, outputs = critic.apply(
        {"params": params},
        roll,
        condition,
        capture_intermediates=lambda module, _: isinstance(module, DownConv),
        mutable=["intermediates"],
    )
    return score, jax.tree.leaves(outputs["intermediates"])
