"""A generator in one file: what `export` writes and `compose` reads.

safetensors: arrays and text, nothing that could run. Parameters are float16, statistics float32.
"""

import dataclasses
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from musegan_jax import config, files
from musegan_jax.compose import Model
from musegan_jax.data.dataset import Track
from musegan_jax.errors import UserError
from musegan_jax.models.generator import variable_shapes

FORMAT = 1
SHIPPED = "chorales.safetensors"


def shipped() -> Path:
    """The model that comes with the package."""
    return Path(str(resources.files("musegan_jax"))) / "assets" / SHIPPED


def save(model: Model, origin: dict[str, Any], path: Any) -> str:
    """Write a model; returns the SHA-256 of its content.

    Args:
        model: with variables.
        origin: where it comes from, plain values; kept in the file, and not needed to use it.
        path: of the file.

    Raises:
        UserError: if it cannot be written.
    """
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        arrays = {
            name: np.asarray(value, np.float16 if name.startswith("params/") else np.float32)
            for name, value in _flat(model.variables).items()
        }
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UserError(f"{path}: a parameter is beyond half precision; this model cannot be saved")
    about = {
        "format": FORMAT,
        "config": dataclasses.asdict(model.config),
        "tracks": model.tracks,
        "steps_per_beat": model.steps_per_beat,
        "window_steps": model.window_steps,
        "ranges": model.ranges,
        "single_lines": model.single_lines,
        "origin": origin,
    }
    text = json.dumps(about, sort_keys=True)
    digest = _digest(arrays, text)
    with files.replacing(path) as temporary:
        # Written by us: safetensors' own errors are none that `replacing` knows.
        data = safetensors.numpy.save(arrays, {"about": text, "sha256": digest})
        Path(temporary).write_bytes(data)
    return digest


def load(path: Any) -> Model:
    """Read a model and check its hash and shapes.

    Raises:
        UserError: if it is missing, damaged, or something else.
    """
    try:
        if Path(path).is_dir():
            raise UserError(f"{path}: a folder, not a model file; a run's is given by --workdir")
        if not Path(path).is_file():
            raise UserError(f"{path}: no such model file; make one with `musegan-jax export`")
        with safetensors.safe_open(path, "numpy") as file:
            said = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(said["about"])
        if about["format"] != FORMAT:
            raise UserError(f"{path}: model format {about['format']}, this version reads {FORMAT}")
        if _digest(arrays, said["about"]) != said["sha256"]:
            raise UserError(f"{path}: damaged (its hash differs); export it again")
        values = {"model": about["config"]}
        model = Model(
            config=config.from_dict(values).model,
            variables=_nested({name: array.astype(np.float32) for name, array in arrays.items()}),
            tracks=tuple(Track(*track) for track in about["tracks"]),
            steps_per_beat=about["steps_per_beat"],
            window_steps=about["window_steps"],
            ranges=tuple((low, high) for low, high in about["ranges"]),
            single_lines=tuple(about["single_lines"]),
        )
        _check(model)
    except UserError as error:
        if str(error).startswith(str(path)):
            raise
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    # A damaged file makes the readers fail in whatever way the damage brings about.
    except Exception as error:
        raise UserError(
            f"{path}: not a whole model file ({error}); export it again with `musegan-jax export`"
        ) from error
    return model


def _check(model: Model) -> None:
    wanted = {name: array.shape for name, array in _flat(variable_shapes(model.config)).items()}
    found = {name: array.shape for name, array in _flat(model.variables).items()}
    if found != wanted:
        raise ValueError("its arrays are not those of its networks")
    for each in (model.tracks, model.ranges, model.single_lines):
        if len(each) != model.config.tracks:
            raise ValueError("it does not say as much of every track")
    facts = [
        (_is_int(model.steps_per_beat, 1, 96), "steps_per_beat"),
        (_is_int(model.window_steps, 1, 2**20), "window_steps"),
        (all(type(single) is bool for single in model.single_lines), "single_lines"),
        (
            all(
                isinstance(track.name, str)
                and _is_int(track.program, 0, 127)
                and type(track.is_drum) is bool
                for track in model.tracks
            ),
            "tracks",
        ),
        (
            all(_is_int(low, 0, 127) and _is_int(high, low, 127) for low, high in model.ranges),
            "ranges",
        ),
        (all(np.isfinite(array).all() for array in jax.tree.leaves(model.variables)), "numbers"),
    ]
    for fine, what in facts:
        if not fine:
            raise ValueError(f"its {what} cannot be")


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _digest(arrays: dict[str, np.ndarray], about: str) -> str:
    sha = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()


def _flat(variables: Any) -> dict[str, Any]:
    """Arrays by their path, such as `params/DownConv_0/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {"batch_stats": {}}
    for name, array in arrays.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = array
    return tree
