"""Every field of a config: its default, its meaning and unit, and the values it may have.

A `Config` is frozen and hashable, so it is a static argument of the compiled steps.
"""

import dataclasses
import hashlib
import json
import typing
from typing import Any

from musegan_jax.config.values import check_type, in_message
from musegan_jax.errors import UserError

SPLITS = ("train", "valid", "test")
BEST_BY = ("faults", "empty_bars", "semitone_clash", "distance", "harmony")
# The decoding rules, of `composing.decoding.RULES`; the first is the default everywhere.
DECODING = {
    "joint": "all lines together, by what is usual in the training music",
    "lines": "single lines that avoid clashes",
    "independent": "the same, each for itself",
    "threshold": "every cell above 0",
}
FLOAT32_MAX = 3.4e38

Rules = dict[str, tuple[bool, str]]  # field -> whether its value is allowed, and what it must be


def field(default: Any, meaning: str) -> Any:
    """A field with a default; `train --help` prints the meaning."""
    return dataclasses.field(default=default, metadata={"meaning": meaning})


def _at_least(least: int, value: int) -> tuple[bool, str]:
    return value >= least, f"at least {least}"


def _positive(value: float) -> tuple[bool, str]:
    return 0 < value < FLOAT32_MAX, "above 0 and finite in float32"


def _not_negative(value: float) -> tuple[bool, str]:
    return 0 <= value < FLOAT32_MAX, "at least 0 and finite in float32"


def _below_one(value: float) -> tuple[bool, str]:
    return 0 <= value < 1, "at least 0 and below 1"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the networks are trained on."""

    dataset: str = field("chorales", "chorales, palestrina (of the installed music21), or a file")
    splits: tuple[str, ...] = field(("train",), "train on these of train, valid, test")
    window_steps: int = field(32, "time steps per example (32 sixteenths: two bars of 4/4)")
    hop_bars: int = field(
        1, "bars between the starts of windows; 0: only each piece's first window"
    )
    hop_beats: int = field(
        0, "in place of hop_bars, beats between the starts of windows; 0: they start on bar lines"
    )
    overhang_steps: int = field(
        0, "time steps by which a window may reach beyond its piece, into silence"
    )
    transpose: tuple[int, int] = field(
        (0, 0), "range of the random transposition, semitones, for example -5,6"
    )

    def rules(self) -> Rules:
        """What each field must be."""
        known = bool(self.splits) and set(self.splits) <= set(SPLITS)
        low, high = self.transpose
        return {
            "splits": (known, f"one or more of {', '.join(SPLITS)}"),
            "window_steps": (self.window_steps > 0, "above 0"),
            "hop_bars": _at_least(0, self.hop_bars),
            "hop_beats": _at_least(0, self.hop_beats),
            "overhang_steps": (
                0 <= self.overhang_steps < self.window_steps,
                "at least 0 and below data.window_steps",
            ),
            "transpose": (
                -24 <= low <= 0 <= high <= 24,
                "a lowest shift from -24 to 0 and a highest from 0 to 24",
            ),
        }


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two networks."""

    tracks: int = field(
        4, "K, tracks of a roll; where this is the default, `train` takes the dataset's number"
    )
    condition_track: int = field(0, "the track that is the melody, from 0")
    lowest_pitch: int = field(0, "MIDI number of the roll's lowest row")
    pitches: int = field(
        128,
        "P, rows of the roll, semitones; 0: as many as the dataset needs, and lowest_pitch from it",
    )
    generator_filters: tuple[int, ...] = field(
        (64, 128, 256, 512), "channels of the generator's blocks, outermost first; sets its depth"
    )
    critic_filters: tuple[int, ...] = field(
        (64, 128, 256, 512), "channels of the critic's convolutions"
    )
    critic_scales: int = field(
        1, "times the critic looks: at the steps, at means of 4 of them, of 16, ..."
    )
    chroma: bool = field(False, "show both networks the pitch classes of all octaves as well")
    bar_position: bool = field(
        False, "show both networks where in its bar and beat each step lies; in rolls bars are 4/4"
    )
    dtype: str = field("float32", "of the convolutions: float32 or bfloat16")

    @property
    def condition_channels(self) -> int:
        """Channels of the condition: the melody, and where it is shown, the position in the bar."""
        return 1 + 8 * self.bar_position  # `meter.POSITIONS`; that module needs NumPy

    @property
    def multiple(self) -> int:
        """Steps and pitches must be multiples of this: each block of the deeper network halves."""
        return 2 ** max(len(self.generator_filters), len(self.critic_filters))

    def rules(self) -> Rules:
        """What each field must be."""

        def are_filters(filters: tuple[int, ...]) -> tuple[bool, str]:
            return 1 <= len(filters) <= 6 and min(filters) >= 1, "1 to 6 positive numbers"

        room = 128 - self.pitches
        return {
            "generator_filters": are_filters(self.generator_filters),
            "critic_filters": are_filters(self.critic_filters),
            "critic_scales": (1 <= self.critic_scales <= 3, "from 1 to 3"),
            "tracks": (1 <= self.tracks <= 128, "from 1 to 128"),
            "condition_track": (
                0 <= self.condition_track < self.tracks,
                f"a track number from 0 to {self.tracks - 1}",
            ),
            "pitches": (
                0 <= self.pitches <= 128 and self.pitches % self.multiple == 0,
                f"a multiple of {self.multiple} (2 to the number of filters), at most 128, or 0",
            ),
            "lowest_pitch": (
                0 <= self.lowest_pitch <= room,
                f"from 0 to {room} (128 less model.pitches)",
            ),
            "dtype": (self.dtype in ("float32", "bfloat16"), "float32 or bfloat16"),
        }


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The training rule."""

    seed: int = field(0, "of every random number of the run")
    iterations: int = field(1000, "each is critic_updates critic updates and a generator update")
    batch_size: int = field(64, "examples per update, over all devices")
    critic_updates: int = field(5, "per iteration")
    generator_learning_rate: float = field(1e-3, "of Adam, per update")
    critic_learning_rate: float = field(1e-3, "of Adam, per update")
    adam_b1: float = field(0.5, "decay of Adam's first moment, per update")
    adam_b2: float = field(0.9, "decay of Adam's second moment, per update")
    adam_epsilon: float = field(1e-7, "Adam's epsilon")
    penalty_weight: float = field(10.0, "of the gradient penalty; lambda of Gulrajani et al. 2017")
    decay_from: float = field(
        1.0, "learning rates fall after this share of decay_until; 1: they never fall"
    )
    decay_until: int = field(0, "iteration at which they reach 0; 0: the last of iterations")
    diversity_weight: float = field(0.0, "of the generator's diversity term; 0: none")
    diversity_target: float = field(
        0.4, "share of cells in which two samples for one melody should differ"
    )
    supervised_weight: float = field(
        0.0, "of the cross-entropy between the better of two samples and the real music; 0: none"
    )
    matching_weight: float = field(
        0.0, "of the distance between real and generated music in the critic's layers; 0: none"
    )
    ema_decay: float = field(
        0.0, "per iteration, of the averaged generator that composes; 0: no average"
    )
    deterministic: bool = field(False, "on GPU: only operations whose sums have a fixed order")

    @property
    def last_decayed(self) -> int:
        """The iteration at which falling learning rates are 0."""
        return self.decay_until or self.iterations

    def rules(self) -> Rules:
        """What each field must be."""
        return {
            "seed": (0 <= self.seed < 2**32, "from 0 to 2**32 - 1"),
            # The state counts them in int32.
            "iterations": (1 <= self.iterations < 2**31, "from 1 to 2**31 - 1"),
            "batch_size": _at_least(1, self.batch_size),
            "critic_updates": _at_least(1, self.critic_updates),
            "generator_learning_rate": _positive(self.generator_learning_rate),
            "critic_learning_rate": _positive(self.critic_learning_rate),
            "adam_b1": _below_one(self.adam_b1),
            "adam_b2": _below_one(self.adam_b2),
            "adam_epsilon": _positive(self.adam_epsilon),
            "penalty_weight": _not_negative(self.penalty_weight),
            "decay_until": (0 <= self.decay_until < 2**31, "from 0 to 2**31 - 1"),
            "decay_from": (0 <= self.decay_from <= 1, "from 0 to 1"),
            "diversity_weight": _not_negative(self.diversity_weight),
            "diversity_target": (0 < self.diversity_target <= 1, "above 0 and at most 1"),
            "supervised_weight": _not_negative(self.supervised_weight),
            "matching_weight": _not_negative(self.matching_weight),
            "ema_decay": _below_one(self.ema_decay),
        }


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a run is spread over devices; results differ only by the order of additions."""

    strategy: str = field("mesh", "jit: one device; mesh: jit over all of them; pmap")
    devices: int = field(0, "how many to use; 0: all")
    stop_seconds: int = field(
        60, "from a stop request to the end of the run, saving included, before it ends by force"
    )
    data: str = field(
        "auto", "where the training data are kept: device, host, or auto (device up to 1 GiB)"
    )

    def rules(self) -> Rules:
        """What each field must be."""
        return {
            "strategy": (self.strategy in ("jit", "mesh", "pmap"), "jit, mesh or pmap"),
            "devices": (
                self.devices >= 0 and (self.strategy != "jit" or self.devices <= 1),
                "at least 0, and at most 1 where parallel.strategy is jit",
            ),
            "stop_seconds": _at_least(1, self.stop_seconds),
            "data": (self.data in ("auto", "device", "host"), "auto, device or host"),
        }


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """What a run writes, and how often; none of it changes the training."""

    log_every: int = field(1, "iterations between logged losses")
    sample_every: int = field(100, "iterations between samples; 0: only at the end")
    save_every: int = field(100, "iterations between checkpoints; 0: only at the end")
    keep_checkpoints: int = field(3, "how many of the newest stay")
    keep_best: int = field(0, "how many of the best stay as well, by best_by of their samples")
    best_by: str = field("faults", f"lower is better: {', '.join(BEST_BY)}")
    held_out: int = field(0, "pieces of the split valid to accompany and measure with each sample")
    held_out_decoding: str = field(
        "independent", "rule for these: independent leaves the harmony as the network makes it"
    )
    melodies: tuple[str, ...] = field(
        ("twinkle", "ode_to_joy"), "built-in melodies or MIDI files to accompany in each sample"
    )
    decoding: str = field(
        next(iter(DECODING)),
        "how the network's answer becomes notes: "
        + ", ".join(f"{name} ({meaning})" for name, meaning in DECODING.items()),
    )

    def rules(self) -> Rules:
        """What each field must be."""
        of_held_out = self.best_by in ("distance", "harmony")
        measurable = self.held_out > 0 if of_held_out else bool(self.melodies)
        known = f"one of {', '.join(DECODING)}"
        return {
            "decoding": (self.decoding in DECODING, known),
            "held_out_decoding": (self.held_out_decoding in DECODING, known),
            "log_every": _at_least(1, self.log_every),
            "sample_every": _at_least(0, self.sample_every),
            "save_every": _at_least(0, self.save_every),
            "keep_checkpoints": _at_least(1, self.keep_checkpoints),
            "keep_best": (
                self.keep_best == 0 or (self.keep_best > 0 and measurable),
                "at least 0, and 0 without what tells the best: output.melodies, or "
                "output.held_out for output.best_by=distance or harmony",
            ),
            "best_by": (self.best_by in BEST_BY, f"one of {', '.join(BEST_BY)}"),
            "held_out": (self.held_out == 0 or self.held_out >= 2, "0, or at least 2"),
        }


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: naming the first field whose type or value is not allowed.
        """
        for name, section in typing.get_type_hints(Config).items():
            fields = getattr(self, name)
            if not isinstance(fields, section):
                raise UserError(f"config: {name} = {fields!r}: it must be a {section.__name__}")
            for field, hint in typing.get_type_hints(section).items():
                check_type(f"{name}.{field}", getattr(fields, field), hint)
        # The model first: what else must be a multiple of depends on its depth.
        for section in ("model", "data", "training", "parallel", "output"):
            for name, (allowed, rule) in getattr(self, section).rules().items():
                self._require(f"{section}.{name}", allowed, rule)
        self._require(
            "output.held_out",
            not self.output.held_out or "valid" not in self.data.splits,
            "0 where the split valid is trained on (data.splits)",
        )
        self._require(
            "training.supervised_weight",
            not self.training.supervised_weight or self.model.tracks > 1,
            "0 where there is no track but the melody's (model.tracks): there is no accompaniment",
        )
        multiple = self.model.multiple
        self._require(
            "data.window_steps",
            self.data.window_steps % multiple == 0,
            f"a multiple of {multiple} (2 to the number of filters)",
        )
        coarsest = 2 ** len(self.model.critic_filters) * 4 ** (self.model.critic_scales - 1)
        self._require(
            "model.critic_scales",
            self.data.window_steps % coarsest == 0,
            f"less, or data.window_steps a multiple of {coarsest}",
        )

    def _require(self, name: str, allowed: bool, rule: str) -> None:
        if not allowed:
            section, field = name.split(".")
            value = in_message(getattr(getattr(self, section), field))
            raise UserError(f"config: {name} = {value}: it must be {rule}")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """SHA-256 of the values, the same on every machine; a new field changes it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
