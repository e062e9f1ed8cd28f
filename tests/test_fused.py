"""The iteration in the form for GPUs is the iteration, up to rounding."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musegan_jax import config as configs
from musegan_jax import rng
from musegan_jax.data import batches
from musegan_jax.training import critic_gradient, fused, loop, losses, parallel
from musegan_jax.training import step as steps
from musegan_jax.training.state import create_state


def off(a, b) -> float:
    """The distance of two arrays as a share of the first."""
    return float(jnp.linalg.norm(jnp.ravel(a - b)) / (jnp.linalg.norm(jnp.ravel(a)) + 1e-30))


@pytest.mark.parametrize(
    "words", [["--model.critic_filters=16,32"], ["--model.critic_filters=4", "--model.chroma=true"]]
)
def test_the_critics_gradient_in_one_pass_is_the_gradient(tiny, words):
    config = configs.override(tiny, words)
    params = jax.jit(lambda: create_state(config))().critic_params
    # Biases of 0 would hide whether tangents pass by them.
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(1), a.shape), params)
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (3, config.data.window_steps, config.model.pitches, config.model.tracks)
    real = jnp.sign(jax.random.normal(keys[0], shape))
    fake = jnp.tanh(jax.random.normal(keys[1], shape))
    mixed = losses.blend(real, fake, jax.random.uniform(keys[2], shape[:1]))

    @jax.jit
    def both(params):
        given = (config, params, real, fake, mixed, real[..., :1])
        return critic_gradient.plain(*given), critic_gradient.joint(*given)

    (expected, *scalars), (found, *others) = both(params)
    np.testing.assert_allclose(others, scalars, rtol=1e-5)
    for name, value in expected.items():
        assert off(value["kernel"], found[name]["kernel"]) < 1e-5, name
        np.testing.assert_allclose(value["bias"], found[name]["bias"], rtol=1e-4, atol=1e-5)


def test_a_critic_that_is_no_single_chain_is_left_to_jax(tiny):
    params = jax.eval_shape(lambda: create_state(tiny)).critic_params
    assert critic_gradient.knows(tiny.model, params)
    assert not critic_gradient.knows(tiny.model, {**params, "DownConv_9": None})


def test_an_iteration_for_gpus_is_the_iteration(tiny, data):
    config = configs.override(tiny, ["--training.decay_from=0.5", "--parallel.strategy=jit"])
    windows = jax.tree.map(jnp.asarray, batches.make_windows(data, config))
    state, root = jax.jit(lambda: create_state(config))(), rng.root_key(7)
    examples = jnp.arange(config.training.batch_size, dtype=jnp.int32)

    @jax.jit
    def both(state):
        given = (config, state, windows, root, examples)
        return steps.train_step(*given), fused.train_step(*given)

    (expected, metrics), (found, others) = both(state)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert others.keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, err_msg=name)
    # Adam's moments are the gradients; the parameters also move where these are but rounding.
    for network in ("critic_opt", "generator_opt"):
        ours, plain = (getattr(each, network)[0].mu for each in (found, expected))
        for layer, arrays in plain.items():
            for name, value in arrays.items():
                idle = layer == "UpsampleConv_0" and name == "bias"  # before a normalisation
                if idle:
                    assert not ours[layer][name].any()
                else:
                    assert off(value, ours[layer][name]) < 1e-3, (network, layer, name)
    rate = config.training.generator_learning_rate
    for a, b in zip(
        jax.tree.leaves(found.ema_params), jax.tree.leaves(expected.ema_params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=0.2 * rate)
    for a, b in zip(
        jax.tree.leaves(found.batch_stats), jax.tree.leaves(expected.batch_stats), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_norms_are_those_of_optax():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(4, 4, 32, 64), (3,), (4, 4, 64, 32), (2, 5)]  # two of them are summed in parts
    trees = [
        [scale * jax.random.normal(*one) for one in zip(keys, shapes, strict=True)]
        for scale in (1, 3)
    ]
    assert sum(leaf.size >= fused.SMALL for leaf in trees[0]) == 2
    found = fused.length([fused.squares(tree) for tree in trees])
    np.testing.assert_allclose(found, [optax.tree.norm(tree) for tree in trees], rtol=1e-6)


@pytest.mark.slow
def test_a_state_in_the_order_of_cudnn_trains_saves_and_resumes(tiny, tmp_path, monkeypatch):
    """As on a GPU, but for the platform: the same numbers, and every bit after a resumption."""
    wide = ["--model.critic_filters=32,64", "--model.generator_filters=32,64"]
    config = configs.override(tiny, [*wide, "--training.iterations=2"])
    layout = parallel.make_layout(config)
    plain = parallel.initial_state(config, layout)
    monkeypatch.setattr(parallel, "in_cudnns_order", lambda layout: True)
    turned = parallel.initial_state(config, layout)
    orders = {
        jax.tree_util.keystr(path): leaf.format.layout.major_to_minor
        for path, leaf in jax.tree_util.tree_leaves_with_path(turned)
    }
    assert orders[".critic_opt[0].mu['DownConv_1']['kernel']"] == (3, 0, 1, 2)
    assert orders[".generator_params['UpsampleConv_0']['kernel']"] == (2, 0, 1, 3)
    assert orders[".critic_params['DownConv_0']['kernel']"] == (0, 1, 2, 3)  # it is small
    restored = parallel.restored_state(jax.device_get(plain), layout)
    for ours, other, before in zip(*map(jax.tree.leaves, (turned, restored, plain)), strict=True):
        assert ours.format == other.format
        np.testing.assert_array_equal(ours, before)
        np.testing.assert_array_equal(other, before)

    loop.train(config, tmp_path / "resumed")
    more = configs.override(config, ["--training.iterations=4"])
    loop.train(more, tmp_path / "resumed")
    loop.train(more, tmp_path / "straight")
    marks = [
        (tmp_path / name / "fingerprints.jsonl").read_text() for name in ("resumed", "straight")
    ]
    last = [[json.loads(line) for line in lines.splitlines()][-1] for lines in marks]
    assert last[0] == last[1] and last[0]["iteration"] == 4


def test_gpus_run_that_form_and_others_the_plain_one():
    for platform, is_fused in (("gpu", True), ("cuda", True), ("cpu", False), ("tpu", False)):
        layout = types.SimpleNamespace(devices=[types.SimpleNamespace(platform=platform)])
        assert parallel.is_fused(layout) == is_fused
