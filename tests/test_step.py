"""One iteration: what moves, what stays, and against a plain re-statement of the rule."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import oracles
from musegan_jax import config as configs
from musegan_jax import rng
from musegan_jax.data import batches
from musegan_jax.models import layers
from musegan_jax.models.critic import make_critic
from musegan_jax.models.generator import make_generator
from musegan_jax.training import losses, parallel
from musegan_jax.training import step as steps
from musegan_jax.training.state import create_state, inference_variables


def setup(config, data):
    config = on_one_device(config)
    layout = parallel.make_layout(config)
    windows = parallel.make_feed(config, layout, batches.make_windows(data, config))(0)
    root = rng.root_key(config.training.seed)
    state = parallel.initial_state(config, layout)
    examples = jnp.arange(config.training.batch_size, dtype=jnp.int32)
    keys = steps.update_keys(root, state.step, 0, examples)
    return state, windows, root, keys, batches.draw_batch(config, windows, keys.data)


def on_one_device(config):
    return configs.override(config, ["--parallel.strategy=jit"])


def compile_step(config, state, windows):
    config = on_one_device(config)
    return parallel.compile_step(config, parallel.make_layout(config), state, windows)


def equal(a, b) -> bool:
    return all(
        bool(jnp.array_equal(x, y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def critic_step(config, state, real, keys):
    """A critic update with the generator's answers to it, compiled."""

    def update(state, real, keys):
        fake = steps.answer(config, state, real, keys.noise)
        return steps.critic_step(config, state, real, fake, keys)

    return jax.jit(update)(state, real, keys)


def test_each_step_moves_its_own_network_only(tiny, data):
    state, _, _, keys, real = setup(tiny, data)
    after, _ = critic_step(tiny, state, real, keys)
    assert not equal(after.critic_params, state.critic_params)
    assert equal(
        after._replace(critic_params=0, critic_opt=0), state._replace(critic_params=0, critic_opt=0)
    )
    after, _ = jax.jit(functools.partial(steps.generator_step, tiny))(state, real, keys)
    assert equal(after.critic_params, state.critic_params)
    assert equal(after.critic_opt, state.critic_opt)
    for field in ("generator_params", "batch_stats", "ema_params", "generator_opt"):
        assert not equal(getattr(after, field), getattr(state, field)), field


@pytest.mark.contract
def test_critic_step_is_the_rule_as_written(tiny, data):
    """The reported loss and the applied update, from the formula of the reference model."""
    tiny = configs.override(tiny, ["--model.critic_filters=16,32"])  # wide enough for `products`
    state, _, _, keys, real = setup(tiny, data)
    condition = real[..., :1]
    critic, generator = make_critic(tiny.model), make_generator(tiny.model)
    noise = steps._noise(tiny, keys.noise, real)
    fake = generator.apply(
        {"params": state.generator_params, "batch_stats": state.batch_stats},
        condition,
        noise,
        train=False,
    )
    weight = jax.vmap(jax.random.uniform)(keys.penalty)[:, None, None, None]
    mixed = weight * real + (1 - weight) * fake

    def score(params, roll):
        return critic.apply({"params": params}, roll, condition)

    def loss(params):
        penalty = oracles.gradient_penalty(score, params, mixed)
        return jnp.mean(score(params, fake)) - jnp.mean(score(params, real)) + 10 * penalty

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.critic_params)
    adam = optax.adam(1e-3, b1=0.5, b2=0.9, eps=1e-7)
    updates, _ = adam.update(gradient, adam.init(state.critic_params))
    expected = optax.apply_updates(state.critic_params, updates)
    after, metrics = critic_step(tiny, state, real, keys)
    np.testing.assert_allclose(metrics["critic_loss"], value, rtol=1e-4)
    np.testing.assert_allclose(
        metrics["critic_gradient_norm"], optax.tree.norm(gradient), rtol=1e-4
    )
    # Adam's first step is the gradient's sign: where that is near zero, order of addition shows.
    off = [
        jnp.abs(a - b) > 1e-4
        for a, b in zip(
            jax.tree.leaves(after.critic_params), jax.tree.leaves(expected), strict=True
        )
    ]
    assert sum(int(o.sum()) for o in off) <= 3


def test_generator_loss_uses_batch_statistics_and_ema_follows(tiny, data):
    state, _, _, keys, real = setup(tiny, data)
    condition = real[..., :1]
    fake, _ = make_generator(tiny.model).apply(
        {"params": state.generator_params, "batch_stats": state.batch_stats},
        condition,
        steps._noise(tiny, keys.noise, real),
        train=True,
        mutable=["batch_stats"],
    )
    score = make_critic(tiny.model).apply({"params": state.critic_params}, fake, condition)
    after, metrics = jax.jit(functools.partial(steps.generator_step, tiny))(state, real, keys)
    np.testing.assert_allclose(metrics["generator_loss"], -score.mean(), rtol=1e-5)
    decay = tiny.training.ema_decay
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new,
        state.generator_params,
        after.generator_params,
    )
    for a, b in zip(jax.tree.leaves(after.ema_params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert equal(inference_variables(after)["params"], after.ema_params)


def test_the_diversity_term_drives_flavours_apart(tiny, data):
    """Its weight is large enough here to outweigh the critic."""
    words = ["--training.diversity_weight=1000", "--training.diversity_target=1"]
    config = configs.override(tiny, words)
    state, _, _, keys, real = setup(config, data)
    update = jax.jit(functools.partial(steps.generator_step, config))
    apart = []
    for _ in range(30):
        state, metrics = update(state, real, keys)
        apart.append(float(metrics["disagreement"]))
    assert apart[-1] > apart[0] + 0.1
    assert 0 < apart[0] < 1


def test_a_reached_diversity_weighs_nothing(tiny, data):
    """Below its target the term pulls, above it is silent: then the loss is the critic's alone."""
    words = ["--training.diversity_weight=1000", "--training.diversity_target=0.000001"]
    state, _, _, keys, real = setup(tiny, data)
    config = configs.override(tiny, words)
    after, metrics = jax.jit(functools.partial(steps.generator_step, config))(state, real, keys)
    # The same two flavours in one batch, without the term.
    twice = jax.tree.map(lambda key: jnp.concatenate([key, key]), keys)
    twice = twice._replace(noise=jnp.concatenate(steps.two_flavours(keys.noise)))
    both = jnp.concatenate([real, real])
    wanted, plain = jax.jit(functools.partial(steps.generator_step, tiny))(state, both, twice)
    np.testing.assert_allclose(metrics["generator_loss"], plain["generator_loss"], rtol=1e-5)
    np.testing.assert_allclose(
        metrics["generator_gradient_norm"], plain["generator_gradient_norm"], rtol=1e-4
    )
    for a, b in zip(*(jax.tree.leaves(s.batch_stats) for s in (after, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_learning_rates_fall_to_zero(tiny, data):
    """From half of the iterations on, linearly: of ten, in the eighth (7 done) 3/5 are left."""
    words = ["--training.iterations=10", "--training.decay_from=0.5"]
    state, _, _, keys, real = setup(tiny, data)
    plain, _ = jax.jit(functools.partial(steps.generator_step, tiny))(state, real, keys)
    update = jax.jit(functools.partial(steps.generator_step, configs.override(tiny, words)))
    for done, left in ((0, 1), (5, 1), (7, 0.6), (10, 0)):
        now = state._replace(step=jnp.array(done, jnp.int32))
        after, _ = update(now, real, keys)
        for start, whole, part in zip(
            *(jax.tree.leaves(s.generator_params) for s in (state, plain, after)), strict=True
        ):
            np.testing.assert_allclose(part - start, left * (whole - start), atol=1e-6)


def test_every_update_draws_fresh_data_and_noise(tiny, data):
    _, _, root, _, _ = setup(tiny, data)
    examples = jnp.arange(3, dtype=jnp.int32)
    seen = [
        jax.random.key_data(key).tobytes()
        for iteration in range(2)
        for update in range(3)
        for stream in steps.update_keys(root, jnp.int32(iteration), update, examples)
        for key in stream
    ]
    assert len(set(seen)) == len(seen) == 2 * 3 * 3 * 3


def test_an_examples_noise_does_not_depend_on_the_batch_it_is_drawn_in(tiny, data):
    """Per-example keys are what makes one device and eight draw the same numbers."""
    _, _, root, _, _ = setup(tiny, data)

    def draw(examples):
        return steps.update_keys(root, jnp.int32(5), 1, jnp.array(examples, jnp.int32)).noise

    whole, half = draw([0, 1, 2, 3]), draw([2, 3])
    assert (jax.random.key_data(whole[2:]) == jax.random.key_data(half)).all()


def test_another_seed_is_another_run(tiny, data):
    other = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, seed=1))
    states = [setup(config, data)[0] for config in (tiny, other)]
    assert not equal(*(state.generator_params for state in states))


def test_the_supervised_term_counts_the_better_flavour(tiny, data):
    """Its value by hand, from the two flavours; one that is right needs no other to be."""
    config = configs.override(tiny, ["--training.supervised_weight=2"])
    state, _, _, keys, real = setup(config, data)
    _, metrics = jax.jit(steps.generator_step, static_argnums=0)(config, state, real, keys)
    noise = [steps._noise(config, each, real) for each in steps.two_flavours(keys.noise)]
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    condition = jnp.concatenate([steps.condition_of(config, real)] * 2)
    fakes, _ = make_generator(config.model).apply(
        variables, condition, jnp.concatenate(noise), train=True, mutable=["batch_stats"]
    )
    each = [losses.cross_entropy(fake, real, 0) for fake in jnp.split(fakes, 2)]
    wanted = jnp.minimum(*each).mean()
    np.testing.assert_allclose(metrics["cross_entropy"], wanted, rtol=1e-5)
    assert not np.allclose(wanted, jnp.maximum(*each).mean())


def test_the_supervised_term_learns_the_accompaniment(tiny, data):
    """A heavy weight on one batch: the cross-entropy falls, and without it it does not."""

    def trained(*words):
        config = configs.override(tiny, list(words))
        state, _, _, keys, real = setup(config, data)
        step = jax.jit(steps.generator_step, static_argnums=0)
        found = []
        for _ in range(12):
            state, metrics = step(config, state, real, keys)
            found.append(float(metrics["cross_entropy"]))
        return found

    falls = trained("--training.supervised_weight=100")
    assert falls[-1] < 0.8 * falls[0]
    idle = trained("--training.supervised_weight=1e-9")
    assert idle[-1] > falls[-1] + 0.1 * falls[0]


def test_the_matching_term_is_the_distance_of_the_critics_layers(tiny, data):
    """Its value by hand; training on it alone brings the generated music nearer."""
    config = configs.override(tiny, ["--training.matching_weight=1000", "--model.critic_scales=2"])
    state, _, _, keys, real = setup(config, data)
    step = jax.jit(steps.generator_step, static_argnums=0)
    _, metrics = step(config, state, real, keys)
    condition = steps.condition_of(config, real)
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    noise = steps._noise(config, keys.noise, real)
    fake, _ = make_generator(config.model).apply(
        variables, condition, noise, train=True, mutable=["batch_stats"]
    )
    critic = make_critic(config.model)
    wanted = 0
    for n in range(2 * len(config.model.critic_filters)):
        means = []
        for roll in (fake, real):
            _, outputs = critic.apply(
                {"params": state.critic_params}, roll, condition, capture_intermediates=True
            )
            means.append(outputs["intermediates"][f"DownConv_{n}"]["__call__"][0].mean(0))
        wanted += jnp.abs(means[0] - means[1]).mean()
    np.testing.assert_allclose(metrics["feature_distance"], wanted, rtol=1e-4)
    for _ in range(16):
        state, metrics = step(config, state, real, keys)
    assert metrics["feature_distance"] < 0.8 * wanted


def test_the_flavours_of_a_melody_draw_from_keys_of_their_own(tiny, data):
    _, _, _, keys, _ = setup(tiny, data)
    drawn = [keys.noise, *steps.two_flavours(keys.noise)]
    bits = [np.asarray(jax.random.key_data(each)) for each in drawn]
    assert len({key.tobytes() for each in bits for key in each}) == 3 * len(keys.noise)


@pytest.mark.parametrize(
    "name",
    [pytest.param("reference", marks=pytest.mark.slow), "chorales", "quickstart", "tiny"],
)
def test_shipped_configs_train_when_shrunk(name, data, data_file):
    """Two iterations of each shipped file, with its own rule and narrow networks."""
    config = configs.load(f"configs/{name}.py")
    depth = len(config.model.generator_filters)
    narrow = ",".join(["4"] * depth)
    config = configs.override(
        config,
        [
            f"--model.generator_filters={narrow}",
            f"--model.critic_filters={narrow}",
            "--training.batch_size=2",
            "--data.dataset",
            data_file,
            "--data.window_steps=32",
            f"--data.overhang_steps={config.data.overhang_steps // 2}",
        ],
    )
    state, windows, root, _, _ = setup(config, data)
    step = compile_step(config, state, windows)
    for _ in range(2):
        state, metrics = step(state, windows)
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_bf16_gradient_norms_are_close_to_float32s(tiny, data):
    """The penalty is about the norm of the critic's input gradient; all of it runs in bf16."""
    tiny = configs.override(tiny, ["--model.critic_filters=16,32"])  # wide enough for `products`
    state, _, _, keys, real = setup(tiny, data)
    norms = {}
    for dtype in ("float32", "bfloat16"):
        critic = make_critic(dataclasses.replace(tiny.model, dtype=dtype))

        def score(roll, critic=critic):
            return critic.apply({"params": state.critic_params}, roll, real[..., :1])

        penalty, _ = jax.jit(lambda roll, score=score: losses.gradient_penalty(score, roll))(real)
        norms[dtype] = 1 - np.sqrt(penalty)  # an untrained critic's are below 1
    np.testing.assert_allclose(norms["bfloat16"], norms["float32"], rtol=0.03)


# Along the penalty's direction and back to the roll the condition's channels need no products; of
# its nine the compiler computes some all the same.
SHOWN = ("--model.chroma=true", "--model.bar_position=true", "--training.diversity_weight=1")


@pytest.mark.parametrize(("words", "bound"), [((), 1.03), (SHOWN, 1.08)])
def test_the_compiled_step_does_no_more_than_the_counted_minimum(monkeypatch, words, bound):
    """A pass too many shows here and nowhere else: every number would stay as it is.

    What there is beside convolutions (sums, Adam) is little at these sizes.
    """
    monkeypatch.syspath_prepend("benchmarks")
    from musegan_jax.runs.peaks import minimum

    config = configs.override(
        configs.load("configs/reference.py"),
        [
            "--model.pitches=64",
            "--model.generator_filters=32,64,64",
            "--model.critic_filters=32,64,64",
            *words,
        ],
    )
    # As the accelerators compute it. What is shared, the compiler finds: its program is counted.
    monkeypatch.setattr(layers.lax, "platform_dependent", lambda *x, default, **_: default(*x))
    state = jax.eval_shape(lambda: create_state(config))
    batch = 16
    real = jax.ShapeDtypeStruct((batch, 32, 64, 4), jnp.float32)
    keys = jax.eval_shape(
        lambda: steps.update_keys(rng.root_key(0), jnp.int32(0), 0, jnp.arange(batch))
    )
    position = jax.ShapeDtypeStruct((batch, 32, 8), jnp.float32) if words else None

    def critic_update(state, real, keys, position):
        fake = steps.answer(config, state, real, keys.noise, position)
        return steps.critic_step(config, state, real, fake, keys, position=position)

    def generator_update(state, real, keys, position):
        return steps.generator_step(config, state, real, keys, position=position)

    for name, function in (
        ("critic_update", critic_update),
        ("generator_update", generator_update),
    ):
        lowered = jax.jit(function).lower(state, real, keys, position)
        flops = lowered.compile().cost_analysis()["flops"]
        needed = batch * minimum(config)[name]
        assert needed < flops < bound * needed, (name, flops / needed)


def test_bf16_trains_with_float32_state(tiny, data):
    config = configs.override(tiny, ["--model.dtype=bfloat16"])
    state, windows, root, _, _ = setup(config, data)
    after, metrics = compile_step(config, state, windows)(state, windows)
    floats = [x for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    assert {value.dtype for value in metrics.values()} == {jnp.dtype("float32")}
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_reference_config_is_the_reference():
    config = configs.load("configs/reference.py")
    assert dataclasses.replace(config, output=configs.OutputConfig()) == dataclasses.replace(
        configs.Config(), data=config.data
    )
    assert config.data.transpose == (0, 0) and config.data.hop_bars == 0
    assert config.training.ema_decay == 0 and config.training.iterations == 1000
    state = jax.eval_shape(lambda: create_state(config))
    assert state.ema_params is None
