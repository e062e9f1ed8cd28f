"""The run record, `run.json` of a workdir: everything needed to repeat the training."""

import dataclasses
import datetime
import json
from typing import Any

from etils import epath
from flax.traverse_util import flatten_dict

from musegan_jax import files
from musegan_jax.config import Config, from_dict
from musegan_jax.data.dataset import Dataset
from musegan_jax.data.training_music import TrainingMusic, is_int, training_music
from musegan_jax.errors import UserError
from musegan_jax.hashing import sha256
from musegan_jax.runs.environment import environment
from musegan_jax.runs.fingerprint import Fingerprint

FILE = "run.json"
MAX_ITERATIONS = 2**31 - 1
FREE = ("training.iterations", "training.decay_until", "data.dataset")


@dataclasses.dataclass(frozen=True)
class Result:
    """The final state of a finished or stopped run."""

    iteration: int
    fingerprint: Fingerprint


@dataclasses.dataclass(frozen=True)
class Record:
    """A run: its config and data; when and where it was trained; its result.

    Attributes:
        config: of the run.
        dataset_sha256: `Dataset.digest` of its data.
        dataset_source: where they come from, as text for the reader.
        music: facts about the data trained on.
        sessions: one per start: `started`, `ended` (ISO 8601 in UTC; None while it trains),
            `from` (iteration), `decay_until` (iteration at which falling learning rates are 0; 0 if
            they do not fall), and all of `environment`.
        result: None until the first session ends.
    """

    config: Config
    dataset_sha256: str
    dataset_source: str
    music: TrainingMusic
    sessions: tuple[dict[str, Any], ...] = ()
    result: Result | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of `run.json`, with a hash of it."""
        values = {
            "config": self.config.to_dict(),
            "config_sha256": self.config.digest(),
            "seed": self.config.training.seed,
            "dataset": {
                "sha256": self.dataset_sha256,
                "source": self.dataset_source,
                **self.music.to_dict(),
            },
            "sessions": list(self.sessions),
            "result": None if self.result is None else dataclasses.asdict(self.result),
        }
        return seal(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Record":
        """The inverse of `to_dict`.

        Raises:
            Exception: of any kind, for invalid or inconsistent values.
        """
        # Records of versions before the hash have none.
        if "sha256" in values and seal(values) != values:
            raise ValueError("its content has changed since it was written")
        config = from_dict(values["config"])
        if values["config_sha256"] != _digest(values["config"]):
            raise ValueError("config: its hash differs")
        if values["seed"] != config.training.seed:
            raise ValueError("seed: it is not the config's")
        dataset, sessions, result = values["dataset"], values["sessions"], values["result"]
        texts = (dataset["sha256"], dataset["source"])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("dataset: sha256 and source must be text")
        if not sessions or not all(_is_session(session) for session in sessions):
            raise ValueError("sessions: one or more, each with started, ended and from")
        if result is not None:
            result = Result(result["iteration"], result["fingerprint"])
            if not is_int(result.iteration, 0, MAX_ITERATIONS):
                raise ValueError("result: iteration must be a whole number")
            if "state" not in result.fingerprint or not all(
                isinstance(digest, str) for digest in result.fingerprint.values()
            ):
                raise ValueError("result: fingerprint must be text")
        music = TrainingMusic.from_dict(dataset, config.model.condition_track)
        return cls(config, *texts, music, tuple(sessions), result)

    def begin(self, earlier: "Record | None", iteration: int) -> "Record":
        """This run with the sessions of `earlier` and a new one, begun at `iteration`."""
        sessions = () if earlier is None else earlier.sessions
        session = {
            "started": _now(),
            "ended": None,
            "from": iteration,
            "decay_until": last_decayed(self.config),
            **environment(self.config),
        }
        return dataclasses.replace(self, sessions=(*sessions, session))

    def end(self, iteration: int, fingerprint: Fingerprint) -> "Record":
        """This run with the last session ended at `iteration`, in the state of this fingerprint."""
        *before, session = self.sessions
        return dataclasses.replace(
            self,
            sessions=(*before, {**session, "ended": _now()}),
            result=Result(iteration, fingerprint),
        )


def _is_session(session: Any) -> bool:
    """Whether this is a session, no deeper than any that we write: comparing recurses."""
    times = session["started"], session["ended"] or ""
    return (
        all(isinstance(time, str) for time in times)
        and is_int(session["from"], 0, MAX_ITERATIONS)
        and is_int(session.get("decay_until", 0), 0, MAX_ITERATIONS)
        and len(json.dumps(session)) < 2**20
        and _depth(session) < 8
    )


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for v in level if isinstance(v, dict) for each in v.values()]:
        depth += 1
    return depth


def _digest(values: Any) -> str:
    return sha256([json.dumps(values, sort_keys=True)])


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a record with its hash as `sha256`, in place of any other."""
    content = {name: value for name, value in values.items() if name != "sha256"}
    return {**content, "sha256": _digest(content)}


def last_decayed(config: Config) -> int:
    """The iteration at which falling learning rates are 0; 0 if they do not fall."""
    return config.training.last_decayed if config.training.decay_from < 1 else 0


def decays(record: Record) -> list[tuple[int, int]]:
    """The ends of the falling learning rates: (from this iteration on, `decay_until`).

    More than one if the run was made longer or shorter while it was trained.
    """
    found: list[tuple[int, int]] = []
    for session in record.sessions:
        begin = session["from"]
        until = session.get("decay_until", last_decayed(record.config))
        found = [each for each in found if each[0] < begin]
        if not found or found[-1][1] != until:
            found.append((begin, until))
    return found


def make(config: Config, dataset: Dataset) -> Record:
    """The record of a run that has not begun.

    Raises:
        UserError: if the conditioning track is silent in all of the data.
    """
    return Record(config, dataset.digest(), dataset.source, training_music(dataset, config))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write(workdir: epath.Path, record: Record) -> None:
    """Write `run.json`.

    Raises:
        UserError: if it cannot be written.
    """
    with files.replacing(workdir / FILE) as temporary:
        temporary.write_text(json.dumps(record.to_dict(), indent=2) + "\n")


def read(workdir: epath.Path) -> Record | None:
    """The record of a workdir; None if it has none.

    Raises:
        UserError: if it is damaged.
    """
    return read_file(workdir / FILE)


def read_file(path: epath.Path) -> Record | None:
    """As `read`, for the path of the record itself."""
    try:
        values = json.loads(path.read_text())
        if "melody_range" in values["dataset"]:
            raise UserError("of an older version, whose networks this one cannot read; train again")
        return Record.from_dict(values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); restore it, or name another"
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # A damaged file may make the parsers raise anything.
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not a run.json ({error}); restore it, or name another"
        ) from error


def check_same(where: Any, old: Record, new: Record) -> None:
    """Check that two records are of the same run.

    The number of iterations, the iteration at which falling learning rates are 0, the devices, the
    output and the path of the data may differ.

    Raises:
        UserError: naming the first difference, and `where` the record `old` is from.
    """
    before, now = (flatten_dict(each.config.to_dict(), sep=".") for each in (old, new))
    for name, value in now.items():
        free = name in FREE or name.startswith(("output.", "parallel."))
        if not free and before[name] != value:
            raise UserError(
                f"{where}: this run was started with {name} = {before[name]}, the command says "
                f"{value}; use the same value, or another workdir"
            )
    if old.dataset_sha256 != new.dataset_sha256:
        raise UserError(
            f"{where}: this run was started on other data ({old.dataset_source}, sha256 "
            f"{old.dataset_sha256[:12]}...) than the command's ({new.dataset_source}, "
            f"{new.dataset_sha256[:12]}...); give the same dataset, or another workdir"
        )
    for name in ("tracks", "steps_per_beat", "ranges"):
        if getattr(old.music, name) != getattr(new.music, name):
            raise UserError(
                f"{where}: its record is damaged: dataset.{name} is not that of its data; restore "
                "it, or use another --workdir"
            )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between the environments of two sessions, one line each."""
    # What one of them does not know, because its version did not record it, is no difference.
    both = (before.keys() & now.keys()) - {"started", "ended", "from", "decay_until"}
    a, b = (
        flatten_dict({n: v for n, v in session.items() if n in both}, sep=".")
        for session in (before, now)
    )
    return [
        f"{name}: {a.get(name)} there, {b.get(name)} here"
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name)
    ]
