"""Terms of the losses: the gradient penalty, diversity, cross-entropy, feature matching.

Functions return one value per example, which the caller averages; `feature_distance` compares
batches.
Reference: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", equation 3.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from musegan_jax.shapes import Array, Float

NORM_EPSILON = 1e-8
LEAST = 1e-4  # probability of a cell in the cross-entropy


def blend(
    real: Float[Array, "B T P K"], fake: Float[Array, "B T P K"], weight: Float[Array, " B"]
) -> Float[Array, "B T P K"]:
    """Interpolate between real and fake rolls.

    Args:
        real: `(B, T, P, K)`.
        fake: `(B, T, P, K)`.
        weight: `(B,)` in [0, 1), the share of the real roll in each example.

    Returns:
        `(B, T, P, K)`.

    Raises:
        ValueError: if the shapes are not these: others could broadcast.
    """
    if real.ndim != 4 or fake.shape != real.shape or weight.shape != real.shape[:1]:
        raise ValueError(
            f"real, fake and weight have shapes {real.shape}, {fake.shape} and {weight.shape}; "
            "they must be (B, T, P, K) twice and (B,)"
        )
    weight = weight[:, None, None, None]
    return weight * real + (1 - weight) * fake


def gradient_norm(gradient: Float[Array, "B ..."]) -> Float[Array, " B"]:
    """`sqrt(1e-8 + sum g^2)` over all axes but the first: `(B, ...)` -> `(B,)`.

    The epsilon keeps the derivative finite where the gradient vanishes.
    """
    return jnp.sqrt(NORM_EPSILON + jnp.sum(gradient**2, axis=tuple(range(1, gradient.ndim))))


def gradient_penalty(
    score: Callable[[jax.Array], jax.Array], roll: Float[Array, "B T P K"]
) -> tuple[Float[Array, " B"], Float[Array, "B T P K"]]:
    """`(||grad_x score(x)|| - 1)^2` per example, and the direction that differentiates it.

    Args:
        score: maps rolls `(B, T, P, K)` to scores `(B,)`; each score depends on its own roll only.
        roll: `(B, T, P, K)`, the blended rolls.

    Returns:
        The penalty `(B,)`, and `v` `(B, T, P, K)`, the penalty's derivative with respect to the
        gradient, held constant. `penalty_surrogate` along `v` has the same parameter gradient as
        the penalty.
    """
    gradient = jax.grad(lambda x: jnp.sum(score(x)))(roll)
    norm = gradient_norm(gradient)
    scale = 2 * (norm - 1) / norm
    direction = jax.lax.stop_gradient(scale[:, None, None, None] * gradient)
    return (norm - 1) ** 2, direction


def penalty_surrogate(
    score: Callable[[jax.Array], jax.Array],
    roll: Float[Array, "B T P K"],
    direction: Float[Array, "B T P K"],
) -> Float[Array, " B"]:
    """A quantity `(B,)` whose parameter gradient is the gradient penalty's.

    With `g = grad_x score`, the chain rule gives `d penalty = v . dg` with `v` as returned by
    `gradient_penalty`; and `v . g` is the directional derivative of the score along `v`: one
    forward-mode pass. Differentiating it needs ordinary convolutions only, where reverse over
    reverse needs convolutions dilated on both sides, which are fifteen times slower on CPU.
    Use only its gradient; the value is not the penalty.
    """
    return jax.jvp(score, (roll,), (direction,))[1]


def disagreement(
    a: Float[Array, "B T P K"], b: Float[Array, "B T P K"], condition_track: int
) -> Float[Array, " B"]:
    """How much two answers to one melody differ: 0 if equal, 1 if they share no note.

    The cells in which they differ over the sum of both answers' sounding cells; for rolls of -1 and
    1 equal to `evaluation.metrics.disagreement`. The melody's own track is left out.

    Args:
        a: signed `(B, T, P, K)`.
        b: signed, the same shape.
        condition_track: the melody's.

    Returns:
        float32 `(B,)`.
    """
    generated = [k for k in range(a.shape[-1]) if k != condition_track]
    apart = jnp.sum(jnp.abs(a - b), axis=(1, 2))[:, generated].sum(axis=1)
    sounding = jnp.sum(2 + a + b, axis=(1, 2))[:, generated].sum(axis=1)
    return apart / jnp.maximum(sounding, 1)


def cross_entropy(
    answer: Float[Array, "B T P K"], real: Float[Array, "B T P K"], condition_track: int
) -> Float[Array, " B"]:
    """How far an answer is from the real accompaniment of its melody, in nats.

    Each cell is a probability of a note, `(1 + answer) / 2`. The binary cross-entropies are summed
    over pitches and averaged over steps and generated tracks.

    Args:
        answer: signed `(B, T, P, K)`.
        real: signed, the same shape, cells -1 or 1.
        condition_track: the melody's, which is left out.

    Returns:
        float32 `(B,)`.
    """
    generated = [k for k in range(answer.shape[-1]) if k != condition_track]
    # Clipped: one certain and wrong cell would otherwise have an infinite loss.
    right = jnp.clip((1 + answer * real) / 2, LEAST, 1 - LEAST)
    return -jnp.log(right).sum(axis=2)[..., generated].mean(axis=(1, 2))


def feature_distance(
    answer: Sequence[Float[Array, "N _ _ _"]],
    real: Sequence[Float[Array, "B _ _ _"]],
    axis: str | None = None,
) -> Float[Array, ""]:
    """How far generated music is from real in the critic's layers (Salimans et al. 2016, 3.1).

    Args:
        answer: the outputs of the critic's layers for generated rolls, `(N, T, P, D)` each.
        real: those for real rolls, `(B, T, P, D)`, in the same order.
        axis: the mapped axis, if the batches are shards of global ones.

    Returns:
        The absolute differences between the two batches' means, averaged over a layer's cells and
        summed over layers; a float32 scalar, the same for all shards.
    """

    def mean(x: jax.Array) -> jax.Array:
        # In float32: a sum over a batch would lose the low digits in bf16. Over all shards
        # before the difference, which is not linear.
        x = jnp.mean(x, axis=0, dtype=jnp.float32)
        return x if axis is None else jax.lax.pmean(x, axis)

    pairs = zip(answer, real, strict=True)
    return sum((jnp.mean(jnp.abs(mean(a) - mean(b))) for a, b in pairs), start=jnp.float32(0))
