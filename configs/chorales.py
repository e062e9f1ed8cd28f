"""The recommended run on Bach's chorales.

COMMAND   musegan-jax train --config configs/chorales.py --workdir runs/chorales
TIME      30 min on two CPU cores, before the step became faster (commit 95fc9da)
RESULT    Twinkle in four voices: no empty bar, 91 to 98 % of each generated voice in C major, a
          semitone clash in 14 % of the steps (6.4 % in Bach); with Ode to Joy 17 % (of that run;
          not repeated since)

Departs from the reference: half the filters, windows of four bars at every bar line of the training
pieces, random transposition, 64 pitches instead of 128, batch 16, averaged parameters.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """The recommended run."""
    filters = (32, 64, 128, 256)
    return Config(
        data=DataConfig(window_steps=64, transpose=(-5, 6)),
        model=ModelConfig(
            lowest_pitch=28, pitches=64, generator_filters=filters, critic_filters=filters
        ),
        training=TrainingConfig(iterations=3000, batch_size=16, ema_decay=0.995),
        output=OutputConfig(log_every=10, sample_every=500, save_every=500),
    )
