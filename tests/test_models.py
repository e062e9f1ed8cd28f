"""The networks against `reference_model.md` and against their plain forms."""

import dataclasses
import functools
import gc
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from musegan_jax.config import Config, ModelConfig
from musegan_jax.models import layers, model, products
from musegan_jax.models.critic import make_critic
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.training.state import create_state

pytestmark = pytest.mark.usefixtures("strict_promotion")

SMALL = ModelConfig(pitches=32, generator_filters=(4, 8, 8), critic_filters=(4, 8, 8))


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def small_inputs(batch: int = 3, steps: int = 16):
    key = jax.random.key(0)
    condition = jnp.sign(jax.random.normal(key, (batch, steps, 32, 1)))
    noise = jax.random.normal(key, (batch, *noise_shape(SMALL.generator_filters, steps, 32)))
    return condition, noise


def small_variables():
    return jax.jit(
        lambda: make_generator(SMALL).init(jax.random.key(1), *small_inputs(), train=False)
    )()


@jax.jit
def answer(variables, condition, noise):
    """The small generator by its running statistics; compiled, which is ten times faster here."""
    return make_generator(SMALL).apply(variables, condition, noise, train=False)


def test_reference_parameter_counts():
    state = jax.eval_shape(lambda: create_state(Config()))
    assert count(state.generator_params) == 8_270_852
    assert count(state.batch_stats) == 2_688
    assert count(state.critic_params) == 2_766_785


def test_reference_shapes():
    """Every block's output, as the table of the reference model states them."""
    model = ModelConfig()
    generator = make_generator(model)
    state = jax.eval_shape(lambda: create_state(Config()))
    inputs = jnp.zeros((1, 32, 128, 1)), jnp.zeros((1, 2, 8, 512))

    def run():
        variables = {
            "params": zeros(state.generator_params),
            "batch_stats": zeros(state.batch_stats),
        }
        return generator.apply(variables, *inputs, train=False, capture_intermediates=True)

    def zeros(tree):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)

    out, captured = jax.eval_shape(run)
    assert out.shape == (1, 32, 128, 4)
    found = {
        name: value["__call__"][0].shape[1:]
        for name, value in captured["intermediates"].items()
        if name != "__call__"
    }
    assert [found[f"DownConv_{n}"] for n in range(4)] == [
        (16, 64, 64),
        (8, 32, 128),
        (4, 16, 256),
        (2, 8, 512),
    ]
    assert [found[f"UpsampleConv_{n}"] for n in range(4)] == [
        (4, 16, 256),
        (8, 32, 128),
        (16, 64, 64),
        (32, 128, 4),
    ]


def assert_same_function(ours, plain, *arguments):
    """Values, gradients, and gradients of directional derivatives, as the penalty takes them."""

    def everything(function):
        def loss(*arguments):
            value, slope = jax.jvp(function, arguments, arguments)
            return jnp.sum(jnp.sin(value)) + jnp.sum(jnp.cos(slope))

        def value_and_gradients(*arguments):
            every = tuple(range(len(arguments)))
            value = jnp.sum(jnp.sin(function(*arguments)))
            plain = jax.grad(lambda *x: jnp.sum(jnp.sin(function(*x))), argnums=every)(*arguments)
            return value, plain, jax.grad(loss, argnums=every)(*arguments)

        return jax.jit(value_and_gradients)(*arguments)

    np.testing.assert_allclose(ours(*arguments), plain(*arguments), atol=1e-5)
    for a, b in zip(
        jax.tree.leaves(everything(ours)), jax.tree.leaves(everything(plain)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()) + 1e-5)


@pytest.mark.parametrize("shape", [(2, 2, 2, 5), (2, 2, 6, 3), (1, 8, 4, 16), (2, 4, 10, 17)])
def test_the_strided_convolution_as_products_is_the_plain_one(shape):
    """Also where the outputs are odd in number, so that a tile of two is half empty."""

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (4, 4, shape[-1], 6)) / shape[-1]
    assert_same_function(products.strided_convolve, plain, x, kernel)
    assert_same_function(layers.strided_convolve, plain, x, kernel)


def plain_upsample(kernel, *parts):
    return oracles.upsample_convolve(jnp.concatenate(parts, axis=-1), kernel)


@jax.custom_vjp
def for_cudnn(kernel, *parts):
    """The form that is compiled for GPUs, with its gradients."""
    return layers._up(True, kernel, *parts)


for_cudnn.defvjp(
    lambda *arguments: (for_cudnn(*arguments), arguments),
    lambda kept, dy: layers._up_gradients(True, dy, *kept),
)


@pytest.mark.contract
@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (2, 2, 8, 5), (1, 3, 9, 4)])
@pytest.mark.parametrize(
    "form",
    [
        products.upsample_convolve,
        layers.upsample_convolve,
        layers._transposed_convolve,
        for_cudnn,
    ],
)
def test_every_form_of_the_upsampling_convolution_is_the_plain_one(form, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    beside = jax.random.normal(jax.random.key(1), (*shape[:3], 2))
    kernel = jax.random.normal(jax.random.key(2), (4, 4, shape[-1] + 2, 6)) / shape[-1]
    np.testing.assert_allclose(
        form(kernel, x, beside), plain_upsample(kernel, x, beside), atol=1e-5
    )

    def gradients(function):
        def loss(*arguments):
            return jnp.sum(jnp.sin(function(*arguments)))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(kernel, x, beside)

    for ours, plain in zip(gradients(form), gradients(plain_upsample), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * float(jnp.abs(plain).max()) + 1e-5)


def test_few_outputs_of_many_inputs_are_summed_on_a_gpu():
    """Parts are then convolved apart: no concatenation of the inputs is written."""
    parts = [jax.random.normal(jax.random.key(n), (1, 2, 3, 9 + n)) for n in range(2)]
    kernel = jax.random.normal(jax.random.key(2), (4, 4, 19, 2)) / 19

    def gradients(form):
        return jax.grad(lambda *x: jnp.sum(jnp.sin(form(*x))), (0, 1, 2))

    assert "[1,2,3,19]" not in str(jax.make_jaxpr(gradients(for_cudnn))(kernel, *parts))
    for ours, plain in zip(
        gradients(for_cudnn)(kernel, *parts), gradients(plain_upsample)(kernel, *parts), strict=True
    ):
        np.testing.assert_allclose(ours, plain, atol=1e-4)


def test_leaky_relu_is_that_of_the_library_with_its_slopes():
    x = jnp.array([-3.0, -1e-3, 0.0, 1e-3, 2.0])
    np.testing.assert_array_equal(layers.leaky_relu(x), nn.leaky_relu(x, 0.2))
    for function in (jax.vjp, jax.linearize):
        slopes = function(layers.leaky_relu, x)[1](jnp.ones(5))
        np.testing.assert_allclose(jnp.ravel(jnp.array(slopes)), [0.2, 0.2, 1, 1, 1], rtol=1e-6)


def test_down_convolution_pads_by_one_on_each_side():
    """SAME of a 4x4 kernel at stride 2: a framework that pads (0, 2) shifts every note."""
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    layer = layers.DownConv(5)
    params = layer.init(jax.random.key(1), x)
    kernel = params["params"]["kernel"]
    plain = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.apply(params, x), nn.leaky_relu(plain, 0.2), atol=1e-5)


@pytest.mark.contract
@pytest.mark.parametrize("train", [False, True])
def test_the_generator_is_the_reference_block_by_block(train):
    """Order of normalisation and activation, epsilon, slope, skips: all of the plain form."""
    leaves, tree = jax.tree.flatten(small_variables())
    keys = jax.random.split(jax.random.key(5), len(leaves))
    # Biases, scales and statistics away from 0 and 1, or half of the rule would not show; the
    # statistics stay positive, since variances are among them.
    leaves = [
        leaf + 0.3 * jax.random.uniform(key, leaf.shape) if leaf.ndim == 1 else leaf
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    variables = jax.tree.unflatten(tree, leaves)
    inputs = small_inputs()
    ours = jax.jit(
        lambda v: make_generator(SMALL).apply(v, *inputs, train=train, mutable=["batch_stats"])[0]
    )(variables)
    plain = jax.jit(lambda v: oracles.generator(v, *inputs, train=train))(variables)
    np.testing.assert_allclose(ours, plain, atol=1e-5)
    assert float(jnp.abs(ours).max()) > 0.1


def test_kernels_begin_glorot_uniform_and_biases_at_zero():
    params = small_variables()["params"]
    for layer in (params["DownConv_1"], params["UpsampleConv_1"]):
        _, _, inputs, outputs = layer["kernel"].shape
        limit = (6 / (16 * (inputs + outputs))) ** 0.5
        largest = float(jnp.abs(layer["kernel"]).max())
        assert 0.97 * limit < largest <= limit * 1.0001
        assert not layer["bias"].any()


def test_generator_takes_any_multiple_of_its_stride():
    variables = small_variables()
    for steps in (8, 24, 40):
        out = answer(variables, *small_inputs(2, steps))
        assert out.shape == (2, steps, 32, 4)
        assert out.dtype == jnp.float32 and bool(jnp.all(jnp.abs(out) <= 1))
    with pytest.raises(ValueError, match="multiples of 8"):
        noise_shape(SMALL.generator_filters, 12, 32)


def test_a_long_piece_is_what_its_parts_are_away_from_the_ends():
    """Convolution: far from the seam, a piece sounds the same in whatever it is embedded."""
    variables = small_variables()
    condition, noise = small_inputs(1, 128)
    whole = answer(variables, condition, noise)
    part = answer(variables, condition[:, :96], noise[:, :12])
    np.testing.assert_allclose(whole[:, :48], part[:, :48], atol=1e-5)


def test_the_noise_and_the_condition_reach_every_track():
    variables = small_variables()
    condition, noise = small_inputs()
    base = answer(variables, condition, noise)
    for other in (answer(variables, -condition, noise), answer(variables, condition, -noise)):
        assert bool(jnp.all(jnp.abs(other - base).max(axis=(0, 1, 2)) > 1e-4))


def test_running_statistics_move_by_one_fifth_and_only_in_training():
    variables = small_variables()
    condition, noise = small_inputs()
    _, same = make_generator(SMALL).apply(
        variables, condition, noise, train=False, mutable=["batch_stats"]
    )
    assert all(
        bool(jnp.all(a == b))
        for a, b in zip(
            jax.tree.leaves(same["batch_stats"]),
            jax.tree.leaves(variables["batch_stats"]),
            strict=True,
        )
    )
    _, moved = make_generator(SMALL).apply(
        variables,
        condition,
        noise,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=True,
    )
    activation = moved["intermediates"]["DownConv_1"]["__call__"][0]
    mean = moved["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.2 * activation.mean(axis=(0, 1, 2)), atol=1e-5)


def test_bf16_computes_in_bf16_and_keeps_float32_parameters_and_norms():
    model = dataclasses.replace(SMALL, dtype="bfloat16")
    condition, noise = small_inputs()
    generator, critic = make_generator(model), make_critic(model)
    variables = generator.init(jax.random.key(1), condition, noise, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out, captured = generator.apply(
        variables, condition, noise, train=False, capture_intermediates=True
    )
    inside = captured["intermediates"]
    assert inside["DownConv_1"]["__call__"][0].dtype == jnp.bfloat16
    assert inside["BatchNorm_0"]["__call__"][0].dtype == jnp.float32
    assert out.dtype == jnp.float32
    exact = answer(variables, condition, noise)
    assert 0 < float(jnp.abs(out - exact).max()) < 0.05
    roll = jnp.tile(condition, (1, 1, 1, 4))
    params = critic.init(jax.random.key(2), roll, condition)
    score = critic.apply(params, roll, condition)
    assert score.dtype == jnp.float32 and score.shape == (3,)


def test_critic_scores_each_example_by_itself():
    condition, _ = small_inputs()
    critic = make_critic(SMALL)
    roll = jax.random.normal(jax.random.key(3), (3, 16, 32, 4))
    params = critic.init(jax.random.key(2), roll, condition)
    together = critic.apply(params, roll, condition)
    alone = jnp.concatenate(
        [critic.apply(params, roll[n : n + 1], condition[n : n + 1]) for n in range(3)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_second_scale_of_the_critic_sees_the_means_of_four_steps():
    """Without the weights of the first, it cannot tell rolls of equal means apart."""
    model = dataclasses.replace(SMALL, critic_scales=2)
    condition, _ = small_inputs()
    condition, critic = jnp.concatenate([condition] * 2, axis=1), make_critic(model)
    roll = jax.random.normal(jax.random.key(3), (3, 32, 32, SMALL.tracks))
    means = roll.reshape(3, 8, 4, 32, -1).mean(2, keepdims=True)
    smooth = jnp.broadcast_to(means, (3, 8, 4, *means.shape[3:])).reshape(roll.shape)
    params = critic.init(jax.random.key(2), roll, condition)
    assert not np.allclose(*(critic.apply(params, each, condition) for each in (roll, smooth)))
    dense = params["params"]["Dense_0"]
    first = 4 * 4 * model.critic_filters[-1]
    assert dense["kernel"].shape == (first + 1 * 4 * model.critic_filters[-1], 1)
    dense["kernel"] = dense["kernel"].at[:first].set(0)
    scores = [critic.apply(params, each, condition) for each in (roll, smooth, 0 * roll)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    assert not np.allclose(scores[0], scores[2])


def test_noise_is_standard_normal_cut_at_two_sigma():
    keys = jax.random.split(jax.random.key(0), 64)
    noise = draw_noise(keys, (2, 8, 64))
    assert noise.shape == (64, 2, 8, 64)
    assert float(jnp.abs(noise).max()) <= 2.0
    # The variance of a normal cut at two sigma is 0.7737.
    np.testing.assert_allclose(float(noise.var()), 0.7737, atol=0.01)


def test_pitch_classes_meet_across_octaves():
    roll = np.full((1, 2, 16, 2), -1, np.float32)
    roll[0, 0, [2, 14], [0, 1]] = 1  # an octave apart, in two tracks
    roll[0, 1, 13, 0] = 1
    classes = np.asarray(layers.pitch_classes(roll))
    assert classes.shape == (1, 2, 16, 1)
    # Two cells of class 2 count 2, scaled 3, wherever the class is; the class of 13 is that of 1.
    assert np.argwhere(classes[0, 0, :, 0] == 3).ravel().tolist() == [2, 14]
    assert np.argwhere(classes[0, 1, :, 0] == 1).ravel().tolist() == [1, 13]
    assert (classes == -1).sum() == 2 * 16 - 4


def test_chroma_is_one_more_channel_of_both_networks():
    model = dataclasses.replace(SMALL, chroma=True)
    condition, noise = small_inputs()
    generator, critic = make_generator(model), make_critic(model)
    variables = generator.init(jax.random.key(1), condition, noise, train=False)
    roll = jnp.sign(jax.random.normal(jax.random.key(2), (3, 16, 32, SMALL.tracks)))
    params = critic.init(jax.random.key(1), roll, condition)
    assert variables["params"]["DownConv_0"]["kernel"].shape[2] == 2
    assert params["params"]["DownConv_0"]["kernel"].shape[2] == SMALL.tracks + 2
    # With no weight on it, each is the network without.
    plain = jax.tree.map(jnp.copy, (variables, params))
    for each, channels in zip(plain, (1, SMALL.tracks + 1), strict=True):
        kernel = each["params"]["DownConv_0"]["kernel"]
        each["params"]["DownConv_0"]["kernel"] = kernel[:, :, :channels]
    silenced = jax.tree.map(jnp.copy, (variables, params))
    for each, channels in zip(silenced, (1, SMALL.tracks + 1), strict=True):
        kernel = each["params"]["DownConv_0"]["kernel"]
        each["params"]["DownConv_0"]["kernel"] = kernel.at[:, :, channels:].set(0)
    np.testing.assert_allclose(
        generator.apply(silenced[0], condition, noise, train=False),
        answer(plain[0], condition, noise),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        critic.apply(silenced[1], roll, condition),
        make_critic(SMALL).apply(plain[1], roll, condition),
        atol=1e-5,
    )
    assert not np.allclose(
        generator.apply(variables, condition, noise, train=False),
        answer(plain[0], condition, noise),
        atol=1e-5,
    )


def test_programs_of_ever_new_lengths_do_not_fill_the_memory(monkeypatch):
    make, made = model._program.__wrapped__, []

    def remembered(*what):
        program = make(*what)
        made.append(weakref.ref(program))
        return program

    monkeypatch.setattr(model, "_program", functools.lru_cache(2)(remembered))
    keys, loaded = jax.random.split(jax.random.key(0), 1), []
    for steps in range(8, 64, 8):
        assert model.noise(SMALL, steps, keys).shape == (1, steps // 8, 4, 8)
        gc.collect()
        loaded.append(len(jax.devices()[0].client.live_executables()))
    assert len(made) == 7 and sum(ref() is not None for ref in made) == 2
    assert loaded[-1] <= loaded[1]
