"""The reference to the letter: the U-Net GAN of the AWS DeepComposer lab, 1000 iterations.

COMMAND   musegan-jax train --config configs/reference.py --workdir runs/reference
"""

from musegan_jax.config import Config, DataConfig


def get_config() -> Config:
    """The reference; every default of `Config` is the reference's value."""
    return Config(data=DataConfig(splits=("train", "valid", "test"), hop_bars=0))
