"""Loading the dataset that a config names."""

from pathlib import Path

from musegan_jax.data import dataset
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.readers.chorales import read_chorales
from musegan_jax.files import AnyPath


def load(name_or_path: AnyPath) -> Dataset:
    """The dataset that a config names: a built-in source, or a file made by `data build`.

    Raises:
        UserError: if it cannot be loaded.
    """
    if name_or_path == "chorales":
        return read_chorales()[0]
    return dataset.load(Path(name_or_path))
