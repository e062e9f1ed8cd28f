"""Your own music: the tracks and the range of pitches are those of the dataset.

COMMAND   musegan-jax train --config own --workdir runs/own
TIME      TODO
RESULT    TODO

The dataset is `mine.npz`, of `musegan-jax data build midi FOLDER --out mine.npz`; another is named
by --data.dataset=other.npz.

Differs from `quickstart`: tracks and pitches are the dataset's; windows of two bars; two critic
updates in place of five; a supervised term in place of the diversity term, since a few songs teach
more by it, and may not have several accompaniments to one melody.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """As small as `quickstart`."""
    filters = (16, 32, 64, 128)
    return Config(
        data=DataConfig(dataset="mine.npz", window_steps=32, transpose=(-5, 6)),
        model=ModelConfig(
            pitches=0,
            generator_filters=filters,
            critic_filters=filters,
            chroma=True,
        ),
        training=TrainingConfig(
            iterations=800,
            batch_size=16,
            critic_updates=2,
            decay_from=0.5,
            supervised_weight=20.0,
            ema_decay=0.98,
        ),
        output=OutputConfig(sample_every=200, save_every=200, held_out=8),
    )
