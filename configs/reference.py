"""The reference to the letter: the U-Net GAN of the AWS DeepComposer lab, 1000 iterations.

COMMAND   musegan-jax train --config configs/reference.py --workdir runs/reference
TIME      4.5 s an iteration on two CPU cores (benchmarks/results/peers_cpu.json), so 75
          minutes (148 when it was run, beside other jobs)
RESULT    networks of 8,270,852 and 2,766,785 parameters; on the split `train` alone: four voices,
          few clashes, a bass of few pitches, and noise that changes almost nothing (docs/music.md)

The data here are the first two bars of each of music21's 4/4 chorales, 323 windows. With the lab's
own 229 files (the folder `gan/original_midi` of its repository) it is

    musegan-jax data build midi original_midi --parts 4 --out lab.npz

and `--data.dataset=lab.npz`.
"""

from musegan_jax.config import Config, DataConfig


def get_config() -> Config:
    """Every default of `Config` is the reference's value; the lab trained on all of its data."""
    return Config(data=DataConfig(splits=("train", "valid", "test"), hop_bars=0))
