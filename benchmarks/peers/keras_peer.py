"""The reference GAN in Keras 3 on TensorFlow, as a TensorFlow user would write it well.

Shapes are `(B, T, P, C)`, as in Flax, and so are the layouts of all weights. What differs:

- Keras's Adam adds epsilon to the square root of the second moment before the bias correction,
  optax after it. `Adam` below moves it.
- Where Keras and Flax agree only because it is said: Glorot-uniform kernels, the negative slope 0.2
  (Keras's default is 0.3), BatchNorm's momentum 0.8 and epsilon 1e-3 (Keras: 0.99).
- Where they agree by themselves: SAME padding of a 4x4 kernel, (1, 1) with stride 2 on even maps
  and (1, 2) with stride 1; the share of the old running statistic as momentum; the biased variance
  in the running statistics; the order `(T, P, C)` of a flattened map.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from musegan_jax.config import Config, ModelConfig
from musegan_jax.errors import UserError

VERSIONS = {"keras": keras.__version__, "tensorflow": tf.__version__}


class Adam(keras.optimizers.Adam):
    """Keras's Adam with epsilon added after the bias correction, as the paper and optax have it."""

    def update_step(self, gradient, variable, learning_rate):
        """Move one variable."""
        step = tf.cast(self.iterations + 1, tf.float32)
        first = self._momentums[self._get_variable_index(variable)]
        second = self._velocities[self._get_variable_index(variable)]
        first.assign(first + (gradient - first) * (1 - self.beta_1))
        second.assign(second + (tf.square(gradient) - second) * (1 - self.beta_2))
        correction = tf.sqrt(1 - self.beta_2**step)
        rate = tf.cast(learning_rate, tf.float32) * correction / (1 - self.beta_1**step)
        change = rate * first / (tf.sqrt(second) + self.epsilon * correction)
        variable.assign_sub(change)


def down(features: int, number: int) -> keras.Layer:
    """4x4 convolution of stride 2 and LeakyReLU: `(B, T, P, C)` -> `(B, T/2, P/2, features)`."""
    return layers.Conv2D(
        features,
        4,
        strides=2,
        padding="same",
        activation=lambda x: tf.nn.leaky_relu(x, 0.2),
        name=f"DownConv_{number}",
    )


def make_generator(config: ModelConfig, steps: int) -> keras.Model:
    """The U-Net: `[(B, T, P, 1), (B, T / 2**depth, P / 2**depth, C)]` -> `(B, T, P, K)`."""
    filters = config.generator_filters
    scale = 2 ** len(filters)
    condition = keras.Input((steps, config.pitches, 1))
    noise = keras.Input((steps // scale, config.pitches // scale, filters[-1]))
    norms = iter(range(2 * len(filters)))

    def norm(x):
        name = f"BatchNorm_{next(norms)}"
        return layers.BatchNormalization(momentum=0.8, epsilon=1e-3, name=name)(x)

    def up(x, features, number):
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        return layers.Conv2D(features, 4, padding="same", name=f"UpsampleConv_{number}")(x)

    x = down(filters[0], 0)(condition)
    skips = []
    for number, features in enumerate(filters[1:], 1):
        skips.append(x)
        x = norm(down(features, number)(x))
    x = layers.Concatenate()([x, noise])
    for number, skip in enumerate(reversed(skips)):
        x = layers.ReLU()(norm(up(x, skip.shape[-1], number)))
        x = layers.Concatenate()([x, skip])
    x = layers.Activation("tanh")(up(x, config.tracks, len(skips)))
    return keras.Model([condition, noise], x)


def make_critic(config: ModelConfig, steps: int) -> keras.Model:
    """The critic: `[(B, T, P, K), (B, T, P, 1)]` -> `(B, 1)`."""
    roll = keras.Input((steps, config.pitches, config.tracks))
    condition = keras.Input((steps, config.pitches, 1))
    x = layers.Concatenate()([roll, condition])
    for number, features in enumerate(config.critic_filters):
        x = down(features, number)(x)
    x = layers.Dense(1, name="Dense_0")(layers.Flatten()(x))
    return keras.Model([roll, condition], x)


def named(network: str, model: keras.Model) -> dict[str, keras.Variable]:
    """A model's variables by the names that `peers.ours` gives to Flax's."""
    words = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
    return {
        f"{network}/{layer.name}/{words.get(variable.name, variable.name)}": variable
        for layer in model.layers
        for variable in layer.variables
    }


class KerasPeer:
    """The networks, their optimisers and the training rule. Real rolls are `(B, T, P, K)`."""

    def __init__(self, config: Config, rolls: np.ndarray):
        """Build for `config`, to train on the signed `rolls`, float32 `(N, T, P, K)`."""
        if config.model.dtype != "float32":
            raise UserError("the Keras peer computes in float32 only: set --model.dtype=float32")
        for device in tf.config.list_physical_devices("GPU"):
            # TensorFlow would take all of the memory, and JAX is on the same GPU.
            tf.config.experimental.set_memory_growth(device, True)
        self.config, self.rolls = config, tf.constant(rolls)
        steps, t = config.data.window_steps, config.training
        self.generator = make_generator(config.model, steps)
        self.critic = make_critic(config.model, steps)
        self.generator_adam, self.critic_adam = (
            Adam(rate, beta_1=t.adam_b1, beta_2=t.adam_b2, epsilon=t.adam_epsilon)
            for rate in (t.generator_learning_rate, t.critic_learning_rate)
        )
        self.generator_adam.build(self.generator.trainable_variables)
        self.critic_adam.build(self.critic.trainable_variables)
        self.variables = named("generator", self.generator) | named("critic", self.critic)
        self._iteration = tf.function(self.iteration, autograph=False)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Copy weights in, by the names and layouts of `peers.ours`."""
        for name, variable in self.variables.items():
            variable.assign(weights[name])

    def weights(self) -> dict[str, np.ndarray]:
        """All weights and running statistics, by the same names and layouts."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def condition_of(self, real: tf.Tensor) -> tf.Tensor:
        """The conditioning track `(B, T, P, 1)`."""
        track = self.config.model.condition_track
        return real[..., track : track + 1]

    def critic_update(self, real, noise, weight):
        """One update from `(B, T, P, K)`, `(B, t, p, C)`, `(B,)`: loss, penalty, gradients."""
        condition = self.condition_of(real)
        fake = self.generator([condition, noise], training=False)
        weight = weight[:, None, None, None]
        mixed = weight * real + (1 - weight) * fake
        variables = self.critic.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(mixed)
                score = self.critic([mixed, condition])
            slope = inner.gradient(score, mixed)
            norm = tf.sqrt(1e-8 + tf.reduce_sum(slope**2, axis=(1, 2, 3)))
            penalty = tf.reduce_mean((norm - 1) ** 2)
            real_score = self.critic([real, condition])
            fake_score = self.critic([fake, condition])
            loss = tf.reduce_mean(fake_score) - tf.reduce_mean(real_score)
            loss += self.config.training.penalty_weight * penalty
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.critic_adam.apply(gradients, variables)
        return loss, penalty, gradients

    def generator_update(self, real, noise):
        """One update from `(B, T, P, K)`, of which the condition is used: loss, gradients."""
        condition = self.condition_of(real)
        variables = self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            fake = self.generator([condition, noise], training=True)
            loss = -tf.reduce_mean(self.critic([fake, condition]))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.generator_adam.apply(gradients, variables)
        return loss, gradients

    def draw(self) -> tuple[tf.Tensor, tf.Tensor]:
        """A fresh batch `(B, T, P, K)` and fresh noise `(B, t, p, C)`."""
        batch = self.config.training.batch_size
        chosen = tf.random.uniform([batch], 0, self.rolls.shape[0], tf.int32)
        shape = (batch, *self.generator.inputs[1].shape[1:])
        return tf.gather(self.rolls, chosen), tf.random.truncated_normal(shape)

    def iteration(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The critic's updates, then the generator's: both last losses."""
        for _ in range(self.config.training.critic_updates):
            weight = tf.random.uniform([self.config.training.batch_size])
            critic_loss, _, _ = self.critic_update(*self.draw(), weight)
        generator_loss, _ = self.generator_update(*self.draw())
        return critic_loss, generator_loss

    def run(self, iterations: int) -> tuple[float, float]:
        """Run iterations and wait for the last; the first call compiles. The last losses."""
        for _ in range(iterations):
            losses = self._iteration()
        return tuple(float(loss) for loss in losses)

    def describe(self) -> dict:
        """Versions and device."""
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        device = {"kind": devices[0].device_type, "used": 1, "count": len(devices)}
        return {"versions": VERSIONS, "device": device}

    def answers(self, real: np.ndarray, noise: np.ndarray, weight: np.ndarray) -> dict:
        """What `peers.ours.answers` gives, from the weights loaded; moves them."""
        real, noise, weight = (tf.constant(x) for x in (real, noise, weight))
        condition = self.condition_of(real)
        before = self.weights()
        found = {
            "score": self.critic([real, condition])[:, 0].numpy(),
            "fake, running statistics": self.generator([condition, noise], training=False).numpy(),
            "fake, batch statistics": self.generator([condition, noise], training=True).numpy(),
        }
        self.load(before)
        critic_update = tf.function(self.critic_update, autograph=False)
        generator_update = tf.function(self.generator_update, autograph=False)
        loss, penalty, critic_gradients = critic_update(real, noise, weight)
        scored = {k: v for k, v in self.weights().items() if k.startswith("critic/")}
        self.load(before)
        generator_loss, generator_gradients = generator_update(real, noise)
        found |= {
            "critic loss": loss.numpy(),
            "penalty": penalty.numpy(),
            "generator loss": generator_loss.numpy(),
        }
        names = {id(variable): name for name, variable in self.variables.items()}
        for model, gradients in (
            (self.critic, critic_gradients),
            (self.generator, generator_gradients),
        ):
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                found[f"gradient of {names[id(variable)]}"] = gradient.numpy()
        after = self.weights() | scored
        return found | {f"new {name}": value for name, value in after.items()}
