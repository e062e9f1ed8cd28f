"""Our side: the data, the weights and the answers that a peer must give too, as NumPy arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from musegan_jax import pianoroll, rng
from musegan_jax.config import Config
from musegan_jax.data.batches import draw_batch
from musegan_jax.models.critic import make_critic
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.runs.environment import environment
from musegan_jax.training import parallel
from musegan_jax.training import step as steps
from musegan_jax.training.state import TrainState, create_state
from train_step import synthetic_windows


class Ours:
    """The compiled iteration of `musegan_jax`, as it trains."""

    def __init__(self, config: Config):
        """Prepare to compile; nothing runs yet but the initialisation."""
        # One device, as the peers; the mesh of one is what `train` compiles unless told otherwise.
        one = dataclasses.replace(config.parallel, strategy="mesh", devices=1)
        self.config = dataclasses.replace(config, parallel=one)
        self.layout = parallel.make_layout(self.config)
        self.data = self.layout.replicate(synthetic_windows(config))
        self.state = parallel.initial_state(self.config, self.layout)
        self.step = None

    def run(self, iterations: int) -> tuple[float, float]:
        """Run iterations and wait for the last; the first call compiles. The last losses."""
        if self.step is None:
            self.step = parallel.compile_step(self.config, self.layout, self.state, self.data)
        for _ in range(iterations):
            self.state, metrics = self.step(self.state, self.data)
        jax.block_until_ready((self.state, metrics))
        return float(metrics["critic_loss"]), float(metrics["generator_loss"])

    def rolls(self) -> np.ndarray:
        """Every training window as a signed roll: float32 `(N, T, P, K)`."""
        return all_rolls(self.config)

    def weights(self) -> dict[str, np.ndarray]:
        """All weights and running statistics, named as `generator/BatchNorm_0/mean`."""
        return weights(self.state)

    def answers(self, examples: int) -> tuple[dict, dict, dict]:
        """Start, inputs and answers of the checks: see the function of this name."""
        return answers(self.config, examples)

    def describe(self) -> dict:
        """Versions, device and flags."""
        return environment(self.config)


def all_rolls(config: Config) -> np.ndarray:
    """Every window of the synthetic data as a signed roll: float32 `(N, T, P, K)`."""
    windows = synthetic_windows(config)
    span = np.arange(config.data.window_steps)
    rolls = pianoroll.unpack(jnp.asarray(windows.timeline[windows.starts[:, None] + span]))
    rolls = pianoroll.crop(rolls, config.model.lowest_pitch, config.model.pitches)
    return np.asarray(pianoroll.to_signed(rolls, jnp.float32))


def _named(prefix: str, tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        "/".join([prefix, *(key.key for key in path)]): np.asarray(leaf) for path, leaf in leaves
    }


def weights(state: TrainState) -> dict[str, np.ndarray]:
    """All weights and running statistics, named as `generator/BatchNorm_0/mean`."""
    return (
        _named("generator", state.generator_params)
        | _named("generator", state.batch_stats)
        | _named("critic", state.critic_params)
    )


def lively_state(config: Config) -> TrainState:
    """A first state whose biases, scales and running statistics are not the neutral 0 and 1.

    At the neutral values a peer could leave them out and still agree.
    """
    state = jax.jit(create_state, static_argnums=0)(config)
    random = np.random.default_rng(1)
    ranges = {"bias": (-0.1, 0.1), "mean": (-0.1, 0.1), "scale": (0.5, 1.5), "var": (0.05, 0.15)}

    def stir(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        return jnp.asarray(random.uniform(*ranges[path[-1].key], leaf.shape), jnp.float32)

    fields = ("generator_params", "batch_stats", "critic_params")
    stirred = {f: jax.tree_util.tree_map_with_path(stir, getattr(state, f)) for f in fields}
    return state._replace(**stirred)


def answers(config: Config, examples: int) -> tuple[dict, dict, dict]:
    """What a peer must compute too, from one critic update and one generator update.

    Both updates are the shipped functions, with the same batch and noise, in float32.

    Returns:
        The weights to start from; the inputs `real` `(B, T, P, K)`, `noise` and `weight` `(B,)`;
        and the answers: scores, rolls, losses, gradients and new weights.
    """
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"))
    with jax.default_matmul_precision("highest"):
        return _answers(config, examples)


def _answers(config: Config, examples: int) -> tuple[dict, dict, dict]:
    state = lively_state(config)
    windows = jax.device_put(synthetic_windows(config))
    keys = steps.update_keys(
        rng.root_key(config.training.seed), state.step, 0, jnp.arange(examples, dtype=jnp.int32)
    )
    real = draw_batch(config, windows, keys.data)
    shape = noise_shape(config.model.generator_filters, *real.shape[1:3])
    noise = draw_noise(keys.noise, shape)
    inputs = {"real": real, "noise": noise, "weight": jax.vmap(jax.random.uniform)(keys.penalty)}

    generator = make_generator(config.model)
    condition = steps.condition_of(config, real)
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    fake, _ = generator.apply(variables, condition, noise, train=True, mutable=["batch_stats"])
    still = generator.apply(variables, condition, noise, train=False)
    score = make_critic(config.model).apply({"params": state.critic_params}, real, condition)

    # Both from the same weights: Adam's first update moves a weight whose gradient is zero but for
    # rounding by a full step either way, and a generator after that would see another critic.
    scored, critic_metrics = jax.jit(steps.critic_step, static_argnums=0)(
        config, state, real, still, keys
    )
    after, metrics = jax.jit(steps.generator_step, static_argnums=0)(config, state, real, keys)
    after = after._replace(critic_params=scored.critic_params, critic_opt=scored.critic_opt)
    # Adam's first moment after one update is (1 - b1) times the gradient.
    gradients = jax.tree.map(
        lambda moment: moment / (1 - config.training.adam_b1),
        {"critic": after.critic_opt[0].mu, "generator": after.generator_opt[0].mu},
    )
    expected = {
        "score": score,
        "fake, running statistics": still,
        "fake, batch statistics": fake,
        "critic loss": critic_metrics["critic_loss"],
        "penalty": critic_metrics["penalty"],
        "generator loss": metrics["generator_loss"],
    }
    expected |= {
        f"gradient of {name}": value
        for network, tree in gradients.items()
        for name, value in _named(network, tree).items()
    }
    expected |= {f"new {name}": value for name, value in weights(after).items()}
    as_numpy = ({k: np.asarray(v) for k, v in part.items()} for part in (inputs, expected))
    return (weights(state), *as_numpy)
