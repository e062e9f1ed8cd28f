"""The gradient of the critic's loss, in two forms that differ by rounding.

`plain` is the rule as JAX differentiates it: real and fake rolls take one way through the critic,
blended ones another, because the direction of their tangents is known only after their way back.
`joint`, for GPUs, has the same sums from one pass. All three go forward together and back together;
then the tangents go forward, and take the blended rolls' place beside the real and fake ones in one
product for each kernel's gradient. A third of the critic's convolutions and of the passes around
them fall away, and with them their launches, which bind a GPU at small batches. It is written out,
because JAX cannot know that the tangents may replace what they are tangents of.
"""

from typing import Any

import jax
import jax.numpy as jnp

from musegan_jax.config import Config, ModelConfig
from musegan_jax.models.critic import make_critic
from musegan_jax.models.layers import LEAK, leaky_relu, pitch_classes, strided_convolve
from musegan_jax.shapes import Array, Float
from musegan_jax.training import losses


def plain(
    config: Config,
    params: Any,
    real: Float[Array, "B T P K"],
    fake: Float[Array, "B T P K"],
    mixed: Float[Array, "B T P K"],
    condition: Float[Array, "B T P C"],
) -> tuple[Any, jax.Array, jax.Array]:
    """The gradient of the critic's loss by its parameters, `wasserstein` and `penalty`.

    Args:
        config: static.
        params: the critic's.
        real: `(B, T, P, K)` signed rolls.
        fake: the generator's answers to them.
        mixed: `losses.blend` of both.
        condition: of all three, from `condition_of`.
    """
    critic = make_critic(config.model)

    def score(params: Any, roll: jax.Array, condition: jax.Array) -> Any:
        return critic.apply({"params": params}, roll, condition)

    penalty, direction = losses.gradient_penalty(lambda roll: score(params, roll, condition), mixed)
    penalty = jnp.mean(penalty)
    weight = config.training.penalty_weight
    # The weight multiplies the direction, not the slopes below: then their gradient starts with
    # ones, as the penalty's does, and the compiler can share the backward pass of the critic.
    direction = direction * (weight / len(real))

    def surrogate(params: Any) -> tuple[jax.Array, jax.Array]:
        both = score(params, jnp.concatenate([real, fake]), jnp.concatenate([condition, condition]))
        wasserstein = jnp.mean(both[: len(real)]) - jnp.mean(both[len(real) :])
        slopes = losses.penalty_surrogate(
            lambda roll: score(params, roll, condition), mixed, direction
        )
        return jnp.sum(slopes) - wasserstein, wasserstein

    gradient, wasserstein = jax.grad(surrogate, has_aux=True)(params)
    return gradient, wasserstein, penalty


def knows(config: ModelConfig, params: Any) -> bool:
    """Whether the critic is what `joint` writes out: one chain of convolutions."""
    return len(params) == len(config.critic_filters) + 1


def joint(
    config: Config,
    params: Any,
    real: Float[Array, "B T P K"],
    fake: Float[Array, "B T P K"],
    mixed: Float[Array, "B T P K"],
    condition: Float[Array, "B T P C"],
) -> tuple[Any, jax.Array, jax.Array]:
    """The gradient of `mean D(fake) - mean D(real) + weight * penalty`, as `step` has it.

    Args:
        config: static.
        params: the critic's.
        real: signed rolls.
        fake: the generator's answers.
        mixed: the blended rolls, at which the penalty is taken.
        condition: of all three.

    Returns:
        The gradient, shaped as `params`; `mean D(real) - mean D(fake)`; the penalty's mean.
    """
    n, dtype = len(real), jnp.dtype(config.model.dtype)
    layers = [params[f"DownConv_{i}"] for i in range(len(config.model.critic_filters))]
    kernels = [layer["kernel"].astype(dtype) for layer in layers]
    head = params["Dense_0"]["kernel"][:, 0]

    def entry(roll: jax.Array, condition: jax.Array) -> jax.Array:
        more = [pitch_classes(roll)] if config.model.chroma else []
        return jnp.concatenate([roll, condition, *more], axis=-1).astype(dtype)

    # Forward. The first layer takes them apart, since its gradients need them apart.
    x_both = entry(jnp.concatenate([real, fake]), jnp.concatenate([condition, condition]))
    x_mixed = entry(mixed, condition)
    z = jnp.concatenate([strided_convolve(x, kernels[0]) for x in (x_both, x_mixed)])
    ys = [_activate(z, layers[0])]
    for kernel, layer in zip(kernels[1:], layers[1:], strict=True):
        ys.append(_activate(strided_convolve(ys[-1], kernel), layer))
    last = ys[-1].reshape(3 * n, -1).astype(jnp.float32)
    scores = last @ head
    wasserstein = jnp.mean(scores[:n]) - jnp.mean(scores[n : 2 * n])

    # Back. A blended roll's score counts through its tangent.
    counts = jnp.repeat(jnp.array([-1 / n, 1 / n, 1]), n)
    dy = (counts[:, None] * head[None, :]).astype(dtype).reshape(ys[-1].shape)
    dzs: list[jax.Array] = []
    for i in reversed(range(1, len(layers))):
        dzs.insert(0, _through(ys[i], dy))
        dy = _by_input(ys[i - 1], kernels[i], dzs[0])
    dz_both, dz_mixed = (
        _through(ys[0][part], dy[part]) for part in (slice(2 * n), slice(2 * n, None))
    )
    # Masked, not sliced: then one kernel writes `dz` and sums it.
    both = (jnp.arange(3 * n) < 2 * n)[:, None, None, None]
    sums = [_sum(dz_both), *(_sum(jnp.where(both, dz, 0)) for dz in dzs)]
    # All that reads the blended rolls' activations must be done before tangents take their place:
    # XLA would otherwise copy the largest of them first.
    dx, dz_both, *sums = jax.lax.optimization_barrier(
        [_by_input(x_mixed, kernels[0], dz_mixed), dz_both, *sums]
    )

    # The tangents, along the penalty's derivative by the gradient (`losses.gradient_penalty`).
    _, along = jax.linearize(lambda roll: entry(roll, condition), mixed)
    (slope,) = jax.linear_transpose(along, mixed)(dx)
    norm = losses.gradient_norm(slope)
    scale = (2 * config.training.penalty_weight / n) * (norm - 1) / norm
    t = along(scale[:, None, None, None] * slope)
    dkernels = [_by_kernel(x_both, kernels[0], dz_both) + _by_kernel(t, kernels[0], dz_mixed)]
    for i, kernel in enumerate(kernels):
        t = _through(ys[i][2 * n :], strided_convolve(t, kernel))
        if i + 1 < len(kernels):
            seen = jax.lax.dynamic_update_slice(ys[i], t, (2 * n, 0, 0, 0))
            dkernels.append(_by_kernel(seen, kernels[i + 1], dzs[i]))
    seen = jnp.concatenate([last[: 2 * n], t.reshape(n, -1).astype(jnp.float32)])

    gradient = {
        f"DownConv_{i}": {"kernel": dkernel.astype(jnp.float32), "bias": total}
        for i, (dkernel, total) in enumerate(zip(dkernels, sums, strict=True))
    }
    # Real and fake scores count equally, so that the last bias drops out.
    gradient["Dense_0"] = {"kernel": (counts @ seen)[:, None], "bias": jnp.zeros(1)}
    return gradient, wasserstein, jnp.mean((norm - 1) ** 2)


def _activate(z: jax.Array, layer: Any) -> jax.Array:
    # The sum in float32: a cast of every bias would be a kernel of its own.
    y = z.astype(jnp.float32) + layer["bias"][None, None, None, :]
    return leaky_relu(y).astype(z.dtype)


def _sum(dz: jax.Array) -> jax.Array:
    return jnp.sum(dz, axis=(0, 1, 2), dtype=jnp.float32)


def _through(y: jax.Array, d: jax.Array) -> jax.Array:
    """A tangent or a gradient past LeakyReLU, whose output was `y`."""
    return jnp.where(y >= 0, d, LEAK * d)


def _by_input(x: jax.Array, kernel: jax.Array, dz: jax.Array) -> jax.Array:
    return jax.vjp(lambda x: strided_convolve(x, kernel), x)[1](dz)[0]


def _by_kernel(x: jax.Array, kernel: jax.Array, dz: jax.Array) -> jax.Array:
    return jax.vjp(lambda kernel: strided_convolve(x, kernel), kernel)[1](dz)[0]
