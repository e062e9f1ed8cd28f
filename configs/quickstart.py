"""Small."""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """Small enough for two CPU cores."""
    return Config(
        data=DataConfig(window_steps=64, transpose=(-5, 6)),
        model=ModelConfig(
            lowest_pitch=28,
            pitches=64,
            generator_filters=(16, 32, 64, 128),
            critic_filters=(16, 32, 64, 128),
        ),
        training=TrainingConfig(iterations=600, batch_size=16, ema_decay=0.98),
        output=OutputConfig(sample_every=200, save_every=200, melodies=("twinkle",)),
    )
