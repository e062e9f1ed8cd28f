"""From the name in a config to a dataset."""

from musegan_jax.data import dataset
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.readers.chorales import read_chorales


def load(name_or_path: str) -> Dataset:
    """The dataset that a config names: a built-in source, or a file of `data build`.

    Raises:
        UserError: if it cannot be had.
    """
    if name_or_path == "chorales":
        return read_chorales()[0]
    return dataset.load(name_or_path)
