"""Five tracks, drums among them, of the Lakh Pianoroll Dataset (LPD-5), answering to the piano.

COMMAND   musegan-jax train --config lpd5 --workdir runs/lpd5
TIME      not measured
RESULT    not trained on LPD-5 itself. On made-up songs, with half of the filters and 500 iterations
          (tests/proofs/five_tracks.py), held-out ones: the bass has the chord's root in 99.5 % of
          the steps, the strings the chord in 93 %, the guitar its note in 99 %, drums are exact in
          94 %

The dataset is `lpd5.npz`, of `musegan-jax data build lpd FOLDER --melody none --out lpd5.npz`: the
tracks Drums, Piano, Guitar, Bass, Strings, as in the files. Any of them may be the one that is
given: --model.condition_track=4 for the strings. Chords are allowed in all.

Differs from `own`: filters twice as wide; windows of four bars; the given track is the second.
"""

from musegan_jax.config import Config, DataConfig, ModelConfig, OutputConfig, TrainingConfig


def get_config() -> Config:
    """Half the reference's filters."""
    filters = (32, 64, 128, 256)
    return Config(
        data=DataConfig(dataset="lpd5.npz", window_steps=64, hop_beats=1, transpose=(-5, 6)),
        model=ModelConfig(
            tracks=5,
            condition_track=1,
            pitches=0,
            generator_filters=filters,
            critic_filters=filters,
            chroma=True,
            bar_position=True,
        ),
        training=TrainingConfig(
            iterations=20_000,
            batch_size=32,
            critic_updates=2,
            decay_from=0.5,
            supervised_weight=20.0,
            ema_decay=0.999,
        ),
        output=OutputConfig(log_every=10, sample_every=1000, save_every=1000, held_out=8),
    )
