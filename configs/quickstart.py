"""A small run: four voices after a few minutes.

COMMAND   musegan-jax train --config quickstart --workdir runs/quickstart
TIME      2 to 4 min on two CPU cores, with the compiled programs of an earlier start at hand
RESULT    Twinkle in four voices; held-out chorales: parallel fifths and octaves rarer than in Bach,
          95 % of the beats a triad or a seventh chord (Bach 89 %), 99 % end in root position

Differs from the reference as `chorales` does, with a quarter of the filters.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """Small enough for two CPU cores."""
    filters = (16, 32, 64, 128)
    return Config(
        data=DataConfig(window_steps=64, overhang_steps=32, transpose=(-5, 6)),
        model=ModelConfig(
            lowest_pitch=28,
            pitches=64,
            generator_filters=filters,
            critic_filters=filters,
            chroma=True,
        ),
        training=TrainingConfig(
            iterations=1000,
            batch_size=16,
            critic_updates=2,
            decay_from=0.5,
            diversity_weight=20.0,
            supervised_weight=3.0,
            ema_decay=0.98,
        ),
        output=OutputConfig(sample_every=250, save_every=250, melodies=("twinkle",), held_out=8),
    )
