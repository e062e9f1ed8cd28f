"""Loading the dataset that a config names."""

from musegan_jax.data import dataset
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.readers.chorales import read_chorales
from musegan_jax.data.readers.palestrina import read_palestrina
from musegan_jax.errors import UserError
from musegan_jax.files import AnyPath

BUILT_IN = {"chorales": read_chorales, "palestrina": read_palestrina}


def load(name_or_path: AnyPath) -> Dataset:
    """The dataset that a config names: a built-in source, or a file made by `data build`.

    Raises:
        UserError: if it cannot be loaded, or is a part of a build without a piece.
    """
    if str(name_or_path) in BUILT_IN:
        return BUILT_IN[str(name_or_path)]()[0]
    loaded = dataset.load(name_or_path)
    if not loaded.names:
        raise UserError(
            f"{name_or_path}: has no piece; join it with the other parts of its build by "
            "`musegan-jax data merge`"
        )
    return loaded
