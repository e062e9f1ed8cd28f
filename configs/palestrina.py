"""Palestrina's masses: a second style, in which the voices enter one after another.

COMMAND   musegan-jax train --config palestrina --workdir runs/palestrina
TIME      an hour on two CPU cores beside other jobs
RESULT    chords in .92 of the beats (Palestrina .94), Fréchet distance 1.69 (training music .65)

The data are the movements in 4/2 of exactly four voices, Cantus, Altus, Tenor and Bassus, in the
corpus of music21; the melody is the Cantus. A written half note is a beat.

Differs from `chorales`: the dataset. The voices rest for bars, which windows of four bars show.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """As wide and as long as `chorales`."""
    filters = (32, 64, 128, 256)
    return Config(
        data=DataConfig(
            dataset="palestrina", window_steps=64, overhang_steps=32, transpose=(-5, 6)
        ),
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
