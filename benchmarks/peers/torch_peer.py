"""The reference GAN in PyTorch, as a PyTorch user would write it well.

Shapes are `(B, C, T, P)` with channels last in memory: a free view of the Flax layout.

`torch.compile` cannot be differentiated twice, but `torch.func.grad` within what it compiles can be
nested: so all gradients of the critic, the penalty's included, are one compiled function. On a GPU
the whole iteration is one CUDA graph. What differs from Flax:

- Convolution kernels are (out, in, height, width), dense kernels (out, in).
- A map is flattened in the order (C, T, P); `Critic` flattens (T, P, C), as Flax and Keras do.
- PyTorch's "same" padding exists for stride 1 only, and warns that an even kernel's copies the
  map; here (1, 2) is padded before the convolution, and (1, 1) by it where the stride is 2.
- BatchNorm's momentum is the share of the new statistic: 0.2 here for 0.8 there. Its running
  variance is the unbiased one; `BatchNorm` below keeps the biased one. Epsilon is 1e-3, not 1e-5.
- Kernels start as Kaiming-uniform and biases at random; here every weight is copied in.
- Adam agrees with optax's: epsilon after the bias correction; its default 1e-8 becomes 1e-7.
"""

import contextlib
import math

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from musegan_jax.config import Config, ModelConfig

VERSIONS = {"torch": torch.__version__}


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm whose running variance is the biased one: `(B, C, T, P)` to the same."""

    def __init__(self, features: int):
        super().__init__(features, eps=1e-3, momentum=0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise in float32, whatever `x` is; `x`'s type comes out."""
        dtype, x = x.dtype, x.float()
        if not self.training:
            return super().forward(x).to(dtype)
        # Backward reads the statistics that it was given, so the kept ones are not changed here.
        moved = self.running_var.clone()
        y = F.batch_norm(
            x, self.running_mean, moved, self.weight, self.bias, True, self.momentum, self.eps
        )
        n = x.numel() // x.shape[1]
        with torch.no_grad():
            kept = (1 - self.momentum) * self.running_var
            self.running_var.copy_(kept + (moved - kept) * ((n - 1) / n))
        return y.to(dtype)


class Down(nn.Conv2d):
    """4x4 convolution of stride 2, then LeakyReLU: `(B, C, T, P)` -> `(B, features, T/2, P/2)`."""

    def __init__(self, channels: int, features: int):
        super().__init__(channels, features, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return F.leaky_relu(super().forward(x), 0.2)


class Up(nn.Conv2d):
    """Nearest upsampling, then a 4x4 convolution: `(B, C, T, P)` -> `(B, features, 2T, 2P)`."""

    def __init__(self, channels: int, features: int):
        super().__init__(channels, features, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return super().forward(F.pad(x, (1, 2, 1, 2)))


class Generator(nn.Module):
    """The U-Net: `(B, 1, T, P)` and `(B, C, t, p)` -> `(B, K, T, P)`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        filters = config.generator_filters
        widths = [*filters[-2::-1], config.tracks]
        inputs = [2 * filters[-1], *(2 * width for width in widths[:-1])]
        self.downs = nn.ModuleList(map(Down, (1, *filters[:-1]), filters))
        self.ups = nn.ModuleList(map(Up, inputs, widths))
        self.norms = nn.ModuleList(map(BatchNorm, (*filters[1:], *widths[:-1])))

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Apply the network, by the batch's statistics in training mode."""
        norms = iter(self.norms)
        x = self.downs[0](condition)
        skips = []
        for layer in self.downs[1:]:
            skips.append(x)
            x = next(norms)(layer(x))
        x = torch.cat([x, noise.to(x.dtype)], 1)
        for layer, skip in zip(self.ups[:-1], reversed(skips), strict=True):
            x = torch.cat([F.relu(next(norms)(layer(x))), skip], 1)
        return torch.tanh(self.ups[-1](x).float())


class Critic(nn.Module):
    """The critic: `(B, K, T, P)` and `(B, 1, T, P)` -> `(B,)`."""

    def __init__(self, config: ModelConfig, steps: int):
        super().__init__()
        filters = config.critic_filters
        self.downs = nn.ModuleList(map(Down, (config.tracks + 1, *filters[:-1]), filters))
        scale = 2 ** len(filters)
        self.dense = nn.Linear(steps // scale * (config.pitches // scale) * filters[-1], 1)

    def forward(self, roll: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Apply the network."""
        x = torch.cat([roll, condition], 1)
        for layer in self.downs:
            x = layer(x)
        x = x.permute(0, 2, 3, 1).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            return self.dense(x.float())[:, 0]


def named(generator: Generator, critic: Critic) -> dict[str, torch.Tensor]:
    """All weights and running statistics by the names that `peers.ours` gives to Flax's."""
    groups = {
        "generator/DownConv": generator.downs,
        "generator/UpsampleConv": generator.ups,
        "generator/BatchNorm": generator.norms,
        "critic/DownConv": critic.downs,
        "critic/Dense": [critic.dense],
    }
    found = {}
    for group, layers in groups.items():
        for number, layer in enumerate(layers):
            norm = isinstance(layer, BatchNorm)
            found[f"{group}_{number}/{'scale' if norm else 'kernel'}"] = layer.weight
            found[f"{group}_{number}/bias"] = layer.bias
            if norm:
                found[f"{group}_{number}/mean"] = layer.running_mean
                found[f"{group}_{number}/var"] = layer.running_var
    return found


def to_flax(value: torch.Tensor) -> np.ndarray:
    """A weight or gradient as NumPy in Flax's layout."""
    value = value.detach().cpu()
    if value.ndim == 4:
        value = value.permute(2, 3, 1, 0)
    return np.array(value.T if value.ndim == 2 else value)


def from_flax(value: np.ndarray) -> torch.Tensor:
    """The inverse of `to_flax`."""
    return torch.tensor(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T)


class TorchPeer:
    """The networks, their optimisers and the training rule. Real rolls are `(B, K, T, P)`."""

    def __init__(self, config: Config, rolls: np.ndarray, compiled: bool = True):
        """Build for `config`, to train on the signed `rolls`, float32 `(N, T, P, K)`.

        Not `compiled`, everything runs eagerly.
        """
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        t, steps = config.training, config.data.window_steps
        self.rolls = torch.tensor(rolls, device=self.device)
        self.generator = self._place(Generator(config.model))
        self.critic = self._place(Critic(config.model, steps))
        cuda = self.device.type == "cuda"
        self.generator_adam, self.critic_adam = (
            torch.optim.Adam(
                network.parameters(),
                lr=rate,
                betas=(t.adam_b1, t.adam_b2),
                eps=t.adam_epsilon,
                fused=True,
                capturable=cuda,
            )
            for network, rate in (
                (self.generator, t.generator_learning_rate),
                (self.critic, t.critic_learning_rate),
            )
        )
        scale = 2 ** len(config.model.generator_filters)
        self.noise_shape = (
            steps // scale,
            config.model.pitches // scale,
            config.model.generator_filters[-1],
        )
        self.variables = named(self.generator, self.critic)
        self.low_precision = config.model.dtype == "bfloat16"
        self.captured = compiled and cuda
        self._critic_gradients, self._generator_loss = self.critic_gradients, self.generator_loss
        if compiled:
            self._critic_gradients = torch.compile(self.critic_gradients, dynamic=False)
            self._generator_loss = torch.compile(self.generator_loss, dynamic=False)
        self._once = None
        torch.backends.cudnn.benchmark = True

    def _place(self, network: nn.Module) -> nn.Module:
        return network.to(self.device, memory_format=torch.channels_last)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Copy weights in, by the names and layouts of `peers.ours`."""
        with torch.no_grad():
            for name, variable in self.variables.items():
                variable.copy_(from_flax(weights[name]))

    def weights(self) -> dict[str, np.ndarray]:
        """All weights and running statistics, by the same names and layouts."""
        return {name: to_flax(variable) for name, variable in self.variables.items()}

    def autocast(self) -> contextlib.AbstractContextManager:
        """The config's precision for convolutions."""
        # The cache would keep casts of weights that an update has since changed.
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.low_precision, cache_enabled=False
        )

    def condition_of(self, real: torch.Tensor) -> torch.Tensor:
        """The conditioning track `(B, 1, T, P)`."""
        track = self.config.model.condition_track
        return real[:, track : track + 1]

    def critic_gradients(self, real, noise, weight):
        """Gradients by name, loss and penalty, from `(B, K, T, P)`, `(B, C, t, p)` and `(B,)`."""
        condition = self.condition_of(real)
        with torch.no_grad(), self.autocast():
            fake = self.generator(condition, noise)
        weight = weight[:, None, None, None]
        mixed = weight * real + (1 - weight) * fake

        def loss(parameters):
            def critic(roll, condition):
                return functional_call(self.critic, parameters, (roll, condition))

            slope = grad(lambda roll: critic(roll, condition).sum())(mixed)
            norm = torch.sqrt(1e-8 + slope.square().sum((1, 2, 3)))
            penalty = (norm - 1).square().mean()
            with self.autocast():
                scores = critic(torch.cat([real, fake]), torch.cat([condition, condition]))
            real_score, fake_score = scores.chunk(2)
            value = fake_score.mean() - real_score.mean()
            value = value + self.config.training.penalty_weight * penalty
            return value, (value.detach(), penalty.detach())

        parameters = {name: value.detach() for name, value in self.critic.named_parameters()}
        gradients, (value, penalty) = grad(loss, has_aux=True)(parameters)
        return gradients, value, penalty

    def critic_update(self, real, noise, weight):
        """One update from `(B, K, T, P)`, `(B, C, t, p)` and `(B,)`: loss, penalty."""
        self.generator.eval()
        gradients, loss, penalty = self._critic_gradients(real, noise, weight)
        for name, parameter in self.critic.named_parameters():
            parameter.grad = gradients[name]
        self.critic_adam.step()
        return loss, penalty

    def generator_loss(self, real, noise):
        """`-mean D(fake)` from `(B, K, T, P)`, of which the condition is used."""
        condition = self.condition_of(real)
        with self.autocast():
            return -self.critic(self.generator(condition, noise), condition).mean()

    def generator_update(self, real, noise):
        """One update from `(B, K, T, P)`, of which the condition is used: loss."""
        self.generator.train()
        self.critic.requires_grad_(False)
        loss = self._generator_loss(real, noise)
        self.generator_adam.zero_grad()
        loss.backward()
        self.generator_adam.step()
        self.critic.requires_grad_(True)
        return loss.detach()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A fresh batch `(B, K, T, P)` and fresh noise `(B, C, t, p)`."""
        batch = self.config.training.batch_size
        chosen = torch.randint(len(self.rolls), (batch,), device=self.device)
        # The inverse of the normal distribution: nn.init.trunc_normal_ redraws until no number is
        # out of bounds, which makes the host wait and cannot be captured in a CUDA graph.
        bound = math.erf(2 / math.sqrt(2))
        noise = torch.empty((batch, *self.noise_shape), device=self.device).uniform_(-bound, bound)
        noise = math.sqrt(2) * torch.erfinv(noise)
        return self.rolls[chosen].permute(0, 3, 1, 2), noise.permute(0, 3, 1, 2)

    def iteration(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The critic's updates, then the generator's: both last losses."""
        for _ in range(self.config.training.critic_updates):
            weight = torch.rand(self.config.training.batch_size, device=self.device)
            critic_loss, _ = self.critic_update(*self.draw(), weight)
        return critic_loss, self.generator_update(*self.draw())

    def capture(self):
        """One iteration as a CUDA graph: a function that replays it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # What compiles, chooses algorithms or allocates must be over before a capture.
        with torch.cuda.stream(side):
            for _ in range(3):
                self.iteration()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self.iteration()

        def replay():
            graph.replay()
            return losses

        return replay

    def run(self, iterations: int) -> tuple[float, float]:
        """Run iterations and wait for the last; the first call compiles. The last losses."""
        if self._once is None:
            self._once = self.capture() if self.captured else self.iteration
        for _ in range(iterations):
            losses = self._once()
        found = tuple(float(loss) for loss in losses)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return found

    def describe(self) -> dict:
        """Versions, device and threads."""
        cuda = self.device.type == "cuda"
        kind = torch.cuda.get_device_name() if cuda else "CPU"
        count = torch.cuda.device_count() if cuda else 1
        device = {"kind": kind, "used": 1, "count": count, "threads": torch.get_num_threads()}
        return {"versions": VERSIONS, "device": device}

    def answers(self, real: np.ndarray, noise: np.ndarray, weight: np.ndarray) -> dict:
        """What `peers.ours.answers` gives, from the weights loaded; moves them.

        In full float32, which stays set; on a GPU, PyTorch and JAX else compute float32
        convolutions in TF32.
        """
        self.low_precision = torch.backends.cudnn.allow_tf32 = False
        real, noise = (
            torch.tensor(x, device=self.device).permute(0, 3, 1, 2) for x in (real, noise)
        )
        weight = torch.tensor(weight, device=self.device)
        condition = self.condition_of(real)
        before = self.weights()
        with torch.no_grad():
            score = self.critic(real, condition)
            still = self.generator.eval()(condition, noise).permute(0, 2, 3, 1)
            fake = self.generator.train()(condition, noise).permute(0, 2, 3, 1)
        self.load(before)
        loss, penalty = self.critic_update(real, noise, weight)
        scored = {k: v for k, v in self.weights().items() if k.startswith("critic/")}
        self.load(before)
        generator_loss = self.generator_update(real, noise)
        found = {
            "score": score,
            "fake, running statistics": still,
            "fake, batch statistics": fake,
            "critic loss": loss,
            "penalty": penalty,
            "generator loss": generator_loss,
        }
        found = {name: value.cpu().numpy() for name, value in found.items()}
        for name, variable in self.variables.items():
            if variable.requires_grad:
                found[f"gradient of {name}"] = to_flax(variable.grad)
        after = self.weights() | scored
        return found | {f"new {name}": value for name, value in after.items()}
