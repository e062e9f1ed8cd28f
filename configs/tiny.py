"""The smallest run that uses every part of the program; for tests.

COMMAND   musegan-jax train --config tiny --workdir runs/tiny
TIME      15 seconds on two CPU cores, nearly all of it starting and compiling
RESULT    four iterations, too few to learn: the decoder makes lines from noise
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """Narrow networks of depth two, four iterations of two critic updates."""
    return Config(
        data=DataConfig(window_steps=32),
        model=ModelConfig(
            lowest_pitch=28,
            pitches=64,
            generator_filters=(4, 8),
            critic_filters=(4, 8),
        ),
        training=TrainingConfig(iterations=4, batch_size=4, critic_updates=2, ema_decay=0.9),
        output=OutputConfig(sample_every=0, save_every=2, melodies=("twinkle",)),
    )
