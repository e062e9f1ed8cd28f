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
from musegan_jax.runs.environment import environment
from musegan_jax.runs.fingerprint import Fingerprint

FILE = "run.json"


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
            `from` (iteration), and all of `environment`.
        result: None until the first session ends.
    """

    config: Config
    dataset_sha256: str
    dataset_source: str
    music: TrainingMusic
    sessions: tuple[dict[str, Any], ...] = ()
    result: Result | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of `run.json`."""
        return {
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Record":
        """The inverse of `to_dict`; values that follow from the config are not read.

        Raises:
            Exception: of any kind, for invalid values.
        """
        dataset, sessions, result = values["dataset"], values["sessions"], values["result"]
        texts = (dataset["sha256"], dataset["source"])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("dataset: sha256 and source must be text")
        if not sessions or not all(isinstance(session, dict) for session in sessions):
            raise ValueError("sessions: there must be at least one")
        if result is not None:
            result = Result(result["iteration"], result["fingerprint"])
            if not is_int(result.iteration, 0, 2**31 - 1):
                raise ValueError("result: iteration must be a whole number")
            if not isinstance(result.fingerprint["state"], str):
                raise ValueError("result: fingerprint must be text")
        config = from_dict(values["config"])
        music = TrainingMusic.from_dict(dataset, config.model.condition_track)
        return cls(config, *texts, music, tuple(sessions), result)

    def begin(self, earlier: "Record | None", iteration: int) -> "Record":
        """This run with the sessions of `earlier` and a new one, begun at `iteration`."""
        sessions = () if earlier is None else earlier.sessions
        session = {
            "started": _now(),
            "ended": None,
            "from": iteration,
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


def make(config: Config, dataset: Dataset) -> Record:
    """The record of a run that has not begun.

    Raises:
        UserError: if the conditioning track is silent in all of the data.
    """
    return Record(config, dataset.digest(), dataset.source, training_music(dataset, config))


def config_digest(config: Config) -> str:
    """A hash of the config without the path of the data, which may differ between machines."""
    anywhere = dataclasses.replace(config.data, dataset="")
    return dataclasses.replace(config, data=anywhere).digest()


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
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    # A damaged file may make the parsers raise anything.
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not a run.json ({error}); restore it, or name another"
        ) from error


def check_same(where: Any, old: Record, new: Record) -> None:
    """Check that two records are of the same run.

    The number of iterations, the devices, the output and the path of the data may differ. If
    learning rates decay, the iteration at which they reach 0 must be the same.

    Raises:
        UserError: naming the first difference, and `where` the record `old` is from.
    """
    before, now = (flatten_dict(_with_end(each.config).to_dict(), sep=".") for each in (old, new))
    for name, value in now.items():
        free = name in ("training.iterations", "data.dataset") or name.startswith(
            ("output.", "parallel.")
        )
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


def _with_end(config: Config) -> Config:
    """The config with an explicit `decay_until`; 0 if the learning rates do not decay."""
    falls = config.training.decay_from < 1
    training = dataclasses.replace(
        config.training, decay_until=config.training.last_decayed if falls else 0
    )
    return dataclasses.replace(config, training=training)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between the environments of two sessions, one line each."""
    a, b = flatten_dict(before, sep="."), flatten_dict(now, sep=".")
    return [
        f"{name}: {a.get(name)} there, {b.get(name)} here"
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name) and name not in ("started", "ended", "from")
    ]
