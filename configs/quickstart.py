"""A small run: four voices after three minutes.

COMMAND   musegan-jax train --config quickstart --workdir runs/quickstart
TIME      3 min 20 s on two quiet CPU cores, compiling included
RESULT    Twinkle in four voices: no empty bar, 88 % of the generated notes in C major, a semitone
          clash in 4 % of the steps; held-out chorales: 3.3 % (7.4 % in Bach)

Differs from the reference: a quarter of the filters; windows of four bars at every bar line of the
training pieces; random transposition; 64 pitches instead of 128; batch 16; averaged parameters;
both networks see pitch classes; the generator's loss rewards flavours that differ; the learning
rates fall to zero over the second half.
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
