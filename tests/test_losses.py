"""The losses against hand-computed cases and against plain differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from musegan_jax.config import ModelConfig
from musegan_jax.evaluation import metrics
from musegan_jax.models.critic import make_critic
from musegan_jax.training import losses

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_penalty_of_a_linear_critic_is_known_exactly():
    """D(x) = w . x has gradient w everywhere: the penalty is (|w| - 1)^2, here (3 - 1)^2."""
    w = jnp.ones((1, 2, 3, 1)) * 3 / jnp.sqrt(6.0)
    penalty, direction = losses.gradient_penalty(
        lambda x: jnp.sum(w * x, axis=(1, 2, 3)), jnp.zeros((2, 2, 3, 1))
    )
    np.testing.assert_allclose(penalty, [4.0, 4.0], rtol=1e-6)
    # v = 2 (|w| - 1) / |w| * w
    np.testing.assert_allclose(direction[0], (2 * 2 / 3) * w[0], rtol=1e-6)


def test_penalty_and_its_gradient_are_finite_where_the_critic_is_flat():
    penalty, direction = losses.gradient_penalty(
        lambda x: 0.0 * jnp.sum(x, axis=(1, 2, 3)), jnp.ones((2, 4, 4, 1))
    )
    np.testing.assert_allclose(penalty, (1e-4 - 1) ** 2, rtol=1e-5)
    assert bool(jnp.all(jnp.isfinite(direction)))


@pytest.mark.contract
def test_penalty_gradient_is_that_of_reverse_over_reverse():
    config = ModelConfig(pitches=32, critic_filters=(8, 16, 16))
    critic = make_critic(config)
    key = jax.random.key(0)
    roll = jax.random.normal(key, (4, 16, 32, 4))
    condition = jnp.sign(jax.random.normal(jax.random.key(1), (4, 16, 32, 1)))
    params = jax.jit(critic.init)(key, roll, condition)["params"]

    def score(params, x):
        return critic.apply({"params": params}, x, condition)

    @jax.jit
    def ours_of(params):
        penalty, direction = losses.gradient_penalty(lambda x: score(params, x), roll)
        return penalty, jax.grad(
            lambda p: jnp.mean(losses.penalty_surrogate(lambda x: score(p, x), roll, direction))
        )(params)

    penalty, ours = ours_of(params)
    plain_of = jax.jit(jax.value_and_grad(lambda p: oracles.gradient_penalty(score, p, roll)))
    value, plain = plain_of(params)
    np.testing.assert_allclose(jnp.mean(penalty), value, rtol=1e-5)
    difference = jnp.sqrt(
        sum(
            jnp.sum((a - b) ** 2)
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True)
        )
    )
    size = jnp.sqrt(sum(jnp.sum(b**2) for b in jax.tree.leaves(plain)))
    assert float(difference / size) < 1e-4


def test_blend_is_each_examples_own_mixture():
    real, fake = jnp.ones((2, 1, 1, 1)), -jnp.ones((2, 1, 1, 1))
    mixed = losses.blend(real, fake, jnp.array([1.0, 0.25]))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], [1.0, -0.5])


def test_disagreement_of_two_answers():
    # Melody track 0; in tracks 1 and 2 one has cells a b, the other b c: two of four differ.
    silent = np.full((1, 1, 4, 3), -1, np.float32)
    first, second = silent.copy(), silent.copy()
    first[0, 0, [0, 1], [1, 2]] = 1
    second[0, 0, [1, 2], [2, 1]] = 1
    second[0, 0, :, 0] = 1  # what the melody's track does is not asked
    assert losses.disagreement(first, second, 0) == pytest.approx(0.5)
    assert losses.disagreement(first, first, 0) == 0
    assert losses.disagreement(first, silent, 0) == 1
    assert losses.disagreement(silent, silent, 0) == 0
    rolls = np.random.default_rng(0).random((2, 5, 8, 6, 3)) < 0.3
    signed = np.where(rolls, 1.0, -1.0).astype(np.float32)
    np.testing.assert_allclose(
        losses.disagreement(*signed, 0), metrics.disagreement(*rolls[..., 1:]), rtol=1e-6
    )


def test_cross_entropy_by_hand():
    """Two steps, two pitches; the melody's track (0) does not count."""
    real = -np.ones((1, 2, 2, 2), np.float32)
    real[0, :, 0, 1] = 1  # the lower pitch sounds
    answer = np.zeros_like(real)  # a probability of a half in every cell
    answer[0, 0, 0, 1], answer[0, 0, 1, 1] = 0.8, -0.6
    wanted = (-np.log(0.9) - np.log(0.8) - 2 * np.log(0.5)) / 2  # a mean over two steps
    found = losses.cross_entropy(jnp.array(answer), jnp.array(real), 0)
    np.testing.assert_allclose(found, [wanted], rtol=1e-6)


def test_cross_entropy_is_least_for_the_real_music_and_finite_for_its_opposite():
    real = np.where(np.random.default_rng(0).random((3, 4, 5, 2)) < 0.3, 1, -1).astype(np.float32)
    least = losses.cross_entropy(jnp.array(real), jnp.array(real), 0)
    np.testing.assert_allclose(least, -5 * np.log(1 - losses.LEAST), rtol=1e-2)
    value, gradient = jax.value_and_grad(
        lambda answer: losses.cross_entropy(answer, jnp.array(real), 0).sum()
    )(jnp.array(-real * 0.999))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (np.sign(gradient[..., 1]) == -real[..., 1]).all()  # descent leads to the real music
    assert not gradient[..., 0].any()
