"""PLACEHOLDER"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """The recommended run on Bach."""
    return Config(
        data=DataConfig(window_steps=64, transpose=(-5, 6)),
        model=ModelConfig(
            lowest_pitch=28,
            pitches=64,
            generator_filters=(32, 64, 128, 256),
            critic_filters=(32, 64, 128, 256),
        ),
        training=TrainingConfig(iterations=3000, batch_size=16, ema_decay=0.995),
        output=OutputConfig(log_every=10, sample_every=500, save_every=500),
    )
