"""A model in one file: what `export` writes and `compose` reads.

The format is safetensors: arrays and text, no code. Parameters are float16, statistics float32.
"""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from musegan_jax import config, files, limits
from musegan_jax.data.dataset import MAX_PATH
from musegan_jax.data.training_music import TrainingMusic, is_int
from musegan_jax.errors import UserError
from musegan_jax.hashing import sha256
from musegan_jax.models.generator import variable_shapes
from musegan_jax.models.model import Model
from musegan_jax.terminal import is_text

FORMAT = 1
SHIPPED = "chorales"  # where no model is named


def shipped_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    folder = Path(str(resources.files("musegan_jax"))) / "assets"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def shipped() -> Path:
    """The model that is used where none is named."""
    return shipped_models()[SHIPPED]


def save(model: Model, path: Any) -> str:
    """Write a model; returns the SHA-256 of its content.

    Raises:
        UserError: if it cannot be written, or holds values that the file cannot.
        TypeError, ValueError: if it is no model, untrained, or its variables are not those of its
            config's generator.
    """
    limits.instances(model=(model, Model))
    if model.variables is None:
        raise ValueError("the model has no variables; train it first")
    _check_arrays(model)
    variables: dict[str, Any] = flatten_dict(model.variables, sep="/")
    arrays = {name: np.asarray(value, np.float32) for name, value in variables.items()}
    if not _finite(arrays):
        raise UserError(f"{path}: a value of the model is not finite; this model cannot be saved")
    with np.errstate(over="ignore"):  # infinite values are refused below
        arrays = {
            name: array.astype(np.float16) if name.startswith("params/") else array
            for name, array in arrays.items()
        }
    if not _finite(arrays):
        raise UserError(f"{path}: a parameter overflows half precision; this model cannot be saved")
    about = {
        "format": FORMAT,
        "config": dataclasses.asdict(model.config),
        "window_steps": model.window_steps,
        **model.music.to_dict(),
        "origin": model.origin,
    }
    text = json.dumps(about, sort_keys=True)
    digest = _digest(arrays, text)
    with files.replacing(path) as temporary:
        # Not `save_file`: `replacing` does not handle safetensors' own errors.
        data = safetensors.numpy.save(arrays, {"about": text, "sha256": digest})
        Path(temporary).write_bytes(data)
    return digest


def load(path: Any) -> Model:
    """Read a model and check its hash and shapes.

    Args:
        path: a model file, or the name of a model that comes with the package.

    Raises:
        UserError: if it is missing, damaged, or not a model file.
    """
    try:
        if not Path(path).exists():
            path = shipped_models().get(str(path), path)
        if Path(path).is_dir():
            raise UserError(f"{path}: a folder, not a model file; for a run's model give --workdir")
        if not Path(path).is_file():
            raise UserError(
                f"{path}: no such model file; make one with `musegan-jax export`, or name one that "
                f"comes with the package: {', '.join(shipped_models())}"
            )
        with open(path, "rb") as file:
            if file.read(4) == b"MThd":
                raise UserError(f"{path}: a MIDI file, not a model; a model accompanies it")
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(metadata["about"])
        if about["format"] != FORMAT:
            raise UserError(f"{path}: model format {about['format']}, this version reads {FORMAT}")
        if _digest(arrays, metadata["about"]) != metadata["sha256"]:
            raise UserError(f"{path}: damaged (its hash differs); export it again")
        return _model(about, arrays)
    except UserError as error:
        if str(error).startswith(str(path)):
            raise
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    # A damaged file can make the readers raise anything.
    except Exception as error:
        raise UserError(
            f"{path}: not a valid model file ({error}); export it again with `musegan-jax export`"
        ) from error


def _model(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Model:
    """The model that a file describes.

    Raises:
        ValueError: if its parts are inconsistent.
    """
    flat = {name: array.astype(np.float32) for name, array in arrays.items()}
    # Given with its window: the default window may not fit networks of this depth.
    values = {"model": about["config"], "data": {"window_steps": about["window_steps"]}}
    networks = config.from_dict(values).model
    model = Model(
        config=networks,
        window_steps=about["window_steps"],
        music=TrainingMusic.from_dict(about, networks.condition_track),
        # A one-block generator has no statistics.
        variables={"batch_stats": {}, **unflatten_dict(flat, sep="/")},
        origin=about["origin"],
    )
    _check_arrays(model)
    if len(model.tracks) != model.config.tracks:
        raise ValueError("its tracks do not match its config")
    if not _is_origin(model.origin):
        raise ValueError("its origin is not of the form that we write")
    if not is_int(model.window_steps, 1, 2**20):
        raise ValueError("its window_steps is out of range")
    if not _finite(flat):
        raise ValueError("a value in it is not finite")
    return model


def _finite(arrays: dict[str, np.ndarray]) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values())


def _is_origin(origin: Any) -> bool:
    """Whether the parts that others read are of the types that they expect."""
    if not isinstance(origin, dict) or not isinstance(origin.get("config", {}), dict):
        return False
    data = origin.get("config", {}).get("data", {})
    if not isinstance(data, dict) or not isinstance(data.get("splits", []), list):
        return False
    return is_text(data.get("dataset", ""), MAX_PATH)


def _check_arrays(model: Model) -> None:
    """Raise ValueError unless the variables are those of the config's generator."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        flat: dict[str, Any] = flatten_dict(tree, sep="/")
        return {name: array.shape for name, array in flat.items()}

    if shapes(model.variables) != shapes(variable_shapes(model.config)):
        raise ValueError("its arrays do not match its config")


def _digest(arrays: dict[str, np.ndarray], about: str) -> str:
    parts: list[str | np.ndarray] = [about]
    for name, array in sorted(arrays.items()):
        parts += [f"{name}{array.dtype.str}{array.shape}", array]
    return sha256(parts)
