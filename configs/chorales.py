"""The recommended run on Bach's chorales; the shipped model comes from such a run.

COMMAND   musegan-jax train --config chorales --workdir runs/chorales
TIME      30 min of training on two CPU cores beside other jobs
RESULT    held-out chorales accompanied: parallel fifths and octaves as rare as in Bach, 92 % of the
          beats a triad or a seventh chord (Bach 89 %), all end in root position (docs/music.md)

Differs from the reference: half the filters; windows of four bars at every bar line of the training
pieces, some reaching into the silence around a piece; random transposition; 64 pitches instead of
128; batch 16; two critic updates an iteration; averaged parameters; both networks see
pitch classes.
The generator's loss rewards flavours that differ, and the one that is nearer to Bach's own setting;
the learning rates fall to zero over the second half.
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
