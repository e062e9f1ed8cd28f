"""The run record: `run.json` of a workdir, all that is needed to train the same again."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from musegan_jax import files
from musegan_jax.compose import Model
from musegan_jax.config import Config, from_dict
from musegan_jax.data.dataset import Dataset, Track
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import MIDI_PITCHES, most_at_once, pitch_bounds
from musegan_jax.training.environment import environment
from musegan_jax.training.fingerprint import Fingerprint

FILE = "run.json"

Record = dict[str, Any]


def make(config: Config, dataset: Dataset) -> Record:
    """What a run is: its config and its data.

    Raises:
        UserError: if the conditioning track is silent in all of the data.
    """
    k = config.model.condition_track
    # Of the training pieces alone: what is held out is not known when composing.
    trained = np.concatenate(
        [
            dataset.timeline[dataset.boundaries[piece] : dataset.boundaries[piece + 1]]
            for piece in dataset.pieces_of(config.data.splits)
        ]
        or [dataset.timeline[:0]]
    )
    if pitch_bounds(dataset.timeline[:, [k]]) is None:
        raise UserError(
            f"config: model.condition_track = {k}: the dataset's track {dataset.tracks[k].name} is "
            "silent throughout; condition on another"
        )
    return {
        "config": config.to_dict(),
        "config_sha256": config.digest(),
        "seed": config.training.seed,
        "dataset": {
            "sha256": dataset.digest(),
            "source": dataset.source,
            "tracks": [list(track) for track in dataset.tracks],
            "steps_per_beat": dataset.steps_per_beat,
            "single_lines": (most_at_once(trained) <= 1).tolist(),
            "ranges": _ranges(config, trained, dataset.tracks),
        },
        "sessions": [],
        "result": None,
    }


def _ranges(config: Config, timeline: np.ndarray, tracks: Sequence[Track]) -> list[list[int]]:
    """Lowest and highest pitch of each track as training sees it; all pitches for a silent one."""
    down, up = config.data.transpose
    ranges = []
    for k, track in enumerate(tracks):
        low, high = pitch_bounds(timeline[:, [k]]) or (0, MIDI_PITCHES - 1)
        if not track.is_drum:
            low, high = max(low + down, 0), min(high + up, MIDI_PITCHES - 1)
        ranges.append([low, high])
    return ranges


def config_digest(config: Config) -> str:
    """A hash of the config but for the path of the data, which machines may keep elsewhere."""
    anywhere = dataclasses.replace(config.data, dataset="")
    return dataclasses.replace(config, data=anywhere).digest()


def begin(old: Record | None, new: Record, config: Config, iteration: int) -> Record:
    """The record with a session more, which begins at `iteration`."""
    sessions = [] if old is None else old["sessions"]
    session = {"started": _now(), "ended": None, "from": iteration, **environment(config)}
    return {**new, "sessions": [*sessions, session]}


def end(record: Record, iteration: int, marks: Fingerprint) -> Record:
    """The record, its last session ended at `iteration` in the state with this fingerprint."""
    *before, session = record["sessions"]
    return {
        **record,
        "sessions": [*before, {**session, "ended": _now()}],
        "result": {"iteration": iteration, "fingerprint": marks},
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def model(record: Record, variables: Any) -> Model:
    """What `compose` needs, from a record and the generator's variables."""
    config, data = from_dict(record["config"]), record["dataset"]
    return Model(
        config=config.model,
        variables=variables,
        tracks=tuple(Track(*track) for track in data["tracks"]),
        steps_per_beat=data["steps_per_beat"],
        window_steps=config.data.window_steps,
        ranges=tuple((low, high) for low, high in data["ranges"]),
        single_lines=tuple(data["single_lines"]),
    )


def write(workdir: epath.Path, record: Record) -> None:
    """Write `run.json`.

    Raises:
        UserError: if it cannot be written.
    """
    with files.replacing(workdir / FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def read(workdir: epath.Path) -> Record | None:
    """The record of a workdir; None if it has none.

    Raises:
        UserError: if it is damaged.
    """
    return read_file(workdir / FILE)


def read_file(path: epath.Path) -> Record | None:
    """The same by the record's own path."""
    try:
        record = json.loads(path.read_text())
        if "melody_range" in record["dataset"]:
            raise UserError(
                f"{path}: of an older version, whose networks this one cannot read; train again"
            )
        model(record, None)  # what `compose` reads later must be there and of the right form
        _ = record["dataset"]["sha256"], record["dataset"]["source"], record["sessions"][-1]
        _ = record["result"] and record["result"]["fingerprint"]["state"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: damaged, or no run.json ({error}); restore it, or name another"
        ) from error
    return record


def check_same(where: Any, old: Record, new: Record) -> None:
    """Make sure that two records are of the same run.

    Longer training, another topology and other output are the same run; so is the same data under
    another path. Where learning rates fall, the iteration at which they are 0 must be the same.

    Raises:
        UserError: naming the first difference; `where` is whose record `old` is.
    """
    # Through `from_dict`: a field that is newer than the record has its default.
    before, now = (_flat(_with_end(from_dict(each["config"])).to_dict()) for each in (old, new))
    for name, value in now.items():
        free = name in ("training.iterations", "data.dataset") or name.startswith(
            ("output.", "parallel.")
        )
        if not free and before[name] != value:
            raise UserError(
                f"{where}: this run was started with {name} = {before[name]}, the command says "
                f"{value}; use the same value, or another --workdir"
            )
    if old["dataset"]["sha256"] != new["dataset"]["sha256"]:
        raise UserError(
            f"{where}: this run was started on other data ({old['dataset']['source']}, sha256 "
            f"{old['dataset']['sha256'][:12]}...) than the command's ({new['dataset']['source']}, "
            f"{new['dataset']['sha256'][:12]}...); give the same dataset, or another --workdir"
        )


def _with_end(config: Config) -> Config:
    """The config, the end of its learning rates' fall spelled out; 0 where they do not fall."""
    falls = config.training.decay_from < 1
    training = dataclasses.replace(
        config.training, decay_until=config.training.last_decayed if falls else 0
    )
    return dataclasses.replace(config, training=training)


def differences(before: Record, now: Record) -> list[str]:
    """In what two environments differ, a line each."""
    a, b = _flat(before), _flat(now)
    return [
        f"{name}: {a.get(name)} there, {b.get(name)} here"
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name) and name not in ("started", "ended", "from")
    ]


def _flat(nested: Record) -> Record:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`, one level."""
    flat = {}
    for name, value in nested.items():
        fields = value.items() if isinstance(value, dict) else [(None, value)]
        flat |= {f"{name}.{field}" if field else name: v for field, v in fields}
    return flat
