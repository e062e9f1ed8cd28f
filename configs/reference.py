"""The reference, exactly: the U-Net GAN of the AWS DeepComposer lab, 1000 iterations.

COMMAND   musegan-jax train --config reference --workdir runs/reference
TIME      4.5 s an iteration on two CPU cores (benchmarks/results/peers_cpu.json), so 75
          minutes (148 when it was run, beside other jobs)
RESULT    networks of 8,270,852 and 2,766,785 parameters; on the split `train` alone: four voices,
          few clashes, a bass of few pitches, and noise that changes almost nothing (docs/music.md)

The data are the first two bars of each of music21's 4/4 chorales, 323 windows. To use the lab's own
229 files (the folder `gan/original_midi` of its repository), build a dataset from them

    musegan-jax data build midi original_midi --parts 4 --melody 1 --out lab.npz

and train with `--data.dataset=lab.npz`.
"""

from musegan_jax.config import Config, DataConfig


def get_config() -> Config:
    """The defaults of `Config` are the reference's values; the lab trained on all of its data."""
    return Config(data=DataConfig(splits=("train", "valid", "test"), hop_bars=0))
