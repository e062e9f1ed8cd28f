"""Your own music: the tracks and the range of pitches are those of the dataset.

COMMAND   musegan-jax train --config own --workdir runs/own
          --data.dataset=mine.npz
TIME      TODO
RESULT    TODO

Differs from `quickstart`: pitches and tracks from the dataset; no diversity term, since it is not
known whether your music has several accompaniments to one melody.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """As small as `quickstart`."""
    filters = (16, 32, 64, 128)
    return Config(
        data=DataConfig(window_steps=64, transpose=(-5, 6)),
        model=ModelConfig(
            pitches=0,
            generator_filters=filters,
            critic_filters=filters,
            chroma=True,
        ),
        training=TrainingConfig(
            iterations=600,
            batch_size=16,
            decay_from=0.5,
            ema_decay=0.98,
        ),
        output=OutputConfig(sample_every=200, save_every=200, held_out=8),
    )
