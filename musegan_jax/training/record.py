"""The run record: `run.json` of a workdir."""

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import jax

from musegan_jax import files
from musegan_jax.compose import Model
from musegan_jax.config import Config, from_dict
from musegan_jax.data.dataset import Dataset, Track
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import pitch_bounds

FILE = "run.json"
PACKAGES = ("musegan-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What is known before the first iteration: config, data and environment.

    Raises:
        UserError: if the conditioning track is silent in all of the data.
    """
    k = config.model.condition_track
    melody_range = pitch_bounds(dataset.timeline[:, k : k + 1])
    if melody_range is None:
        raise UserError(
            f"config: model.condition_track = {k}: the dataset's track {dataset.tracks[k].name} is "
            "silent throughout; condition on another"
        )
    down, up = config.data.transpose
    return {
        "config": config.to_dict(),
        "config_sha256": config.digest(),
        "dataset": {
            "sha256": dataset.digest(),
            "source": dataset.source,
            "tracks": [list(track) for track in dataset.tracks],
            "steps_per_beat": dataset.steps_per_beat,
            "melody_range": [melody_range[0] + down, melody_range[1] + up],
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.devices()[0].platform,
            "count": jax.device_count(),
        },
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def model(record: dict[str, Any], variables: Any) -> Model:
    """What `compose` needs, from a record and the generator's variables."""
    config, data = from_dict(record["config"]), record["dataset"]
    return Model(
        config=config.model,
        variables=variables,
        tracks=tuple(Track(*track) for track in data["tracks"]),
        steps_per_beat=data["steps_per_beat"],
        window_steps=config.data.window_steps,
        melody_range=tuple(data["melody_range"]),
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(workdir: Path, record: dict[str, Any]) -> None:
    """Write `run.json`.

    Raises:
        UserError: if it cannot be written.
    """
    with files.replacing(workdir / FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def read(workdir: Path) -> dict[str, Any] | None:
    """The record of a workdir; None if it has none.

    Raises:
        UserError: if it is damaged.
    """
    path = workdir / FILE
    try:
        record = json.loads(path.read_text())
        model(record, None)  # what `compose` reads later must be there and of the right form
        _ = record["dataset"]["sha256"], record["dataset"]["source"], record["started"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: damaged ({error}); restore it, or train into another workdir"
        ) from error
    return record


def check_same(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Make sure that going on in `workdir` goes on with the same run.

    Longer training and other output are the same run; so is the same data under another path.

    Raises:
        UserError: naming the first difference.
    """
    before, now = _flat(old["config"]), _flat(new["config"])
    free = {"training.iterations", "data.dataset"}
    for name, value in now.items():
        if name in free or name.startswith("output.") or before.get(name) == value:
            continue
        raise UserError(
            f"{workdir}: this run was started with {name} = {before.get(name)}, the command says "
            f"{value}; use the same value, or another --workdir"
        )
    if old["dataset"]["sha256"] != new["dataset"]["sha256"]:
        raise UserError(
            f"{workdir}: this run was started on other data ({old['dataset']['source']}, sha256 "
            f"{old['dataset']['sha256'][:12]}...) than the command's ({new['dataset']['source']}, "
            f"{new['dataset']['sha256'][:12]}...); give the same dataset, or another --workdir"
        )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {f"{s}.{f}": value for s, fields in config.items() for f, value in fields.items()}
