"""Your own music: the tracks and the range of pitches are those of the dataset.

COMMAND   musegan-jax train --config own --workdir runs/own
TIME      2 to 4 min for 12 or 200 songs of 16 bars, on two CPU cores
RESULT    on 12 made-up songs (tests/proofs/own_music.py), held-out ones: the bass has the chord's
          root in 97 % of the steps, the guitar the chord in 97 %, drums are exact in 99 %; with a
          silent melody the root is right in 12 %, with a random one in 5 %. On 200: 99.6, 99.6,
          95.8 %; 7 and 4 %

The dataset is `mine.npz`, of `musegan-jax data build midi FOLDER --out mine.npz`; another is named
by --data.dataset=other.npz.

Differs from `quickstart`: tracks and pitches are the dataset's. The networks are shown the position
in the bar, without which drums are not learnt; windows of two bars begin on every beat, or the
networks would tell the position by the windows' edges, which a whole piece has not. A supervised
term takes the place of the diversity term: a few songs teach more by it, and may not have several
accompaniments to one melody.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """As small as `quickstart`."""
    filters = (16, 32, 64, 128)
    return Config(
        data=DataConfig(dataset="mine.npz", window_steps=32, hop_beats=1, transpose=(-5, 6)),
        model=ModelConfig(
            pitches=0,
            generator_filters=filters,
            critic_filters=filters,
            chroma=True,
            bar_position=True,
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
