"""The recommended run on Bach's chorales; the shipped model comes from such a run.

COMMAND   musegan-jax train --config chorales --workdir runs/chorales
TIME      29 min on two CPU cores (28 min of training)
RESULT    held-out chorales accompanied: a semitone clash in 7.2 % of the steps (7.4 % in Bach), no
          empty bar, flavours that differ as much as several settings by Bach (docs/music.md)

Differs from the reference: half the filters; windows of four bars at every bar line of the training
pieces; random transposition; 64 pitches instead of 128; batch 16; averaged parameters; both
networks see pitch classes; the generator's loss rewards flavours that differ; the learning rates
fall to zero over the second half. docs/music.md says what each change improves.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """The recommended run."""
    filters = (32, 64, 128, 256)
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
            iterations=5000,
            batch_size=16,
            critic_updates=2,
            decay_from=0.5,
            diversity_weight=20.0,
            supervised_weight=3.0,
            ema_decay=0.995,
        ),
        output=OutputConfig(log_every=10, sample_every=500, save_every=500, held_out=8),
    )
