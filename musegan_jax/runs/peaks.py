"""Peak performance of devices, and the minimum computation of a training iteration.

Sources of the peaks (dense, without sparsity): NVIDIA's data sheets of A100, H100 and H200 (SXM)
and of DGX B200, of which an eighth; "System architecture" pages of Cloud TPU. They are for bf16.
By default JAX lets an NVIDIA GPU compute float32 products in TF32, at half of that; TPUs use
several bf16 passes.
"""

from typing import NamedTuple

from musegan_jax import meter
from musegan_jax.config import Config


class Peak(NamedTuple):
    """Peak of one device (one chip): bf16 FLOP/s and bytes/s."""

    flops: float
    bandwidth: float


PEAKS = {
    "v4": Peak(275e12, 1228e9),
    "v5e": Peak(197e12, 819e9),
    "v5p": Peak(459e12, 2765e9),
    "v6e": Peak(918e12, 1640e9),
    "A100-SXM4-40GB": Peak(312e12, 1555e9),
    "A100-SXM4-80GB": Peak(312e12, 2039e9),
    "H100 PCIe": Peak(756e12, 2000e9),
    "H100 80GB HBM3": Peak(989e12, 3350e9),
    "NVIDIA H200": Peak(989e12, 4800e9),
    "NVIDIA B200": Peak(2250e12, 8000e9),
}

# For devices whose name in JAX contains none of the above: TPU v5 lite is v5e, v6 lite is v6e.
NAMES = {"v5 lite": "v5e", "v5lite": "v5e", "v6 lite": "v6e", "v5": "v5p"}


def peak_of(device_kind: str) -> Peak | None:
    """The peak of a device by JAX's name of its kind; None if unknown, as for CPUs."""
    for name, peak in PEAKS.items():
        if name.lower() in device_kind.lower():
            return peak
    for part, name in NAMES.items():
        if "TPU" in device_kind and part in device_kind:
            return PEAKS[name]
    return None


def _inside(size: int, taps: int, stride: int, before: int) -> int:
    """Products of a one-dimensional convolution that fall inside its `size` positions."""
    starts = [position * stride - before for position in range(size // stride)]
    return sum(0 <= start + tap < size for start in starts for tap in range(taps))


def _upsampled(size: int) -> int:
    """The same for upsampling by 2 with four taps, where taps on the same input are added first.

    An even output uses the left, its own and the right input, an odd one only the last two: five
    products per input, minus three that are missing at the edges.
    """
    return 5 * size - 3


def _last_kernels(bar_position: bool) -> int:
    """Kernels of the generator's last block (`UNetGenerator._last`)."""
    return 1 + len(range(meter.POSITIONS)[meter.BEAT]) if bar_position else 1


def minimum(config: Config) -> dict[str, float]:
    """Minimum floating-point operations per example, counting 2 for a product and its sum.

    Counts only convolutions and the dense layer, and only taps inside the map; upsampling
    convolutions at low resolution, each with 25 of 64 taps. The passes of `training.step`:

    - critic update: the generator forward; the critic forward on real, fake and blended, back to
      the input for the blended one (and to the first layer's output for the two others), once more
      forward along the penalty's direction, and three gradients of the kernels;
    - generator update: the generator forward, back, and its kernels' gradients; the critic forward
      and back to the roll; for twice the examples where each melody has two flavours; with feature
      matching the critic forward on real.

    Fast algorithms (Winograd's) may need fewer products.
    """
    model, training, steps = config.model, config.training, config.data.window_steps

    def down(filters: tuple[int, ...], channels: int, t: int) -> list[float]:
        layers, p = [], model.pitches
        for features in filters:
            taps = _inside(t, 4, 2, 1) * _inside(p, 4, 2, 1)
            layers.append(2.0 * taps * channels * features)
            t, p, channels = t // 2, p // 2, features
        return layers

    def up(filters: tuple[int, ...]) -> list[float]:
        depth, layers = len(filters), []
        t, p = steps >> depth, model.pitches >> depth
        channels = 2 * filters[-1]  # with the noise
        kernels = _last_kernels(model.bar_position)
        for features in (*reversed(filters[:-1]), kernels * model.tracks):
            layers.append(2.0 * _upsampled(t) * _upsampled(p) * channels * features)
            t, p, channels = 2 * t, 2 * p, 2 * features
        return layers

    shown, own = model.condition_channels, model.tracks + model.chroma  # the rest is of the roll
    first = whole = 0.0
    for seen in (steps // 4**scale for scale in range(model.critic_scales)):
        layers = down(model.critic_filters, own + shown, seen)
        left = (seen >> len(layers)) * (model.pitches >> len(layers))
        first += layers[0]
        whole += sum(layers) + 2.0 * left * model.critic_filters[-1]
    inner = whole - first
    roll = first * own / (own + shown)  # back to the roll, not to the condition

    encoder = down(model.generator_filters, shown + model.chroma, steps)
    decoder = up(model.generator_filters)
    forward = sum(encoder) + sum(decoder)
    # No gradient is needed of the condition and of the noise, half of the decoder's first input.
    back = sum(encoder[1:]) + sum(decoder) - decoder[0] / 2
    # Along the penalty's direction the condition is constant, so its channels need no products.
    slope = inner + roll
    critic_update = forward + 3 * whole + (inner + roll) + 2 * inner + slope + 2 * whole + slope
    flavours = 2 if training.diversity_weight > 0 or training.supervised_weight > 0 else 1
    generator_update = flavours * (2 * forward + back + whole + inner + roll)
    generator_update += whole * (training.matching_weight > 0)
    return {
        "critic_update": critic_update,
        "generator_update": generator_update,
        "iteration": training.critic_updates * critic_update + generator_update,
    }
