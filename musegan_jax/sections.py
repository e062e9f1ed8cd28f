"""The sections of a config: its fields, their defaults, and what each must be."""

import dataclasses

SPLITS = ("train", "valid", "test")
BEST_BY = ("faults", "empty_bars", "semitone_clash", "distance")
FLOAT32_MAX = 3.4e38

Rules = dict[str, tuple[bool, str]]  # field -> whether its value is fine, and what it must be


def _at_least(least: int, value: int) -> tuple[bool, str]:
    return value >= least, f"at least {least}"


def _positive(value: float) -> tuple[bool, str]:
    return 0 < value < FLOAT32_MAX, "above 0 and finite in float32"


def _finite(value: float) -> tuple[bool, str]:
    return 0 <= value < FLOAT32_MAX, "at least 0 and finite in float32"


def _share(value: float) -> tuple[bool, str]:
    return 0 <= value < 1, "at least 0 and below 1"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the networks see."""

    dataset: str = "chorales"  # "chorales" (the installed music21's), or a file of `data build`
    splits: tuple[str, ...] = ("train",)  # which of train, valid, test to train on
    window_steps: int = 32  # steps per example (two 4/4 bars of 16ths)
    hop_bars: int = 1  # bars between window starts; 0: only the first window of each piece
    transpose: tuple[int, int] = (0, 0)  # lowest and highest random shift, semitones

    def rules(self) -> Rules:
        """What each field must be."""
        known = bool(self.splits) and set(self.splits) <= set(SPLITS)
        low, high = self.transpose
        return {
            "splits": (known, f"one or more of {', '.join(SPLITS)}"),
            "window_steps": (self.window_steps > 0, "above 0"),
            "hop_bars": _at_least(0, self.hop_bars),
            "transpose": (
                -24 <= low <= 0 <= high <= 24,
                "a lowest shift from -24 to 0 and a highest from 0 to 24",
            ),
        }


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks' sizes."""

    tracks: int = 4  # K, as many as the dataset has
    condition_track: int = 0  # which of them is the melody
    lowest_pitch: int = 0  # MIDI number of the roll's lowest row
    pitches: int = 128  # P, rows of the roll
    generator_filters: tuple[int, ...] = (64, 128, 256, 512)  # outermost first; also the depth
    critic_filters: tuple[int, ...] = (64, 128, 256, 512)
    chroma: bool = False  # both networks see each pitch class in every octave besides
    dtype: str = "float32"  # of the convolutions: float32 or bfloat16

    @property
    def stride(self) -> int:
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
            "tracks": (1 <= self.tracks <= 128, "from 1 to 128"),
            "condition_track": (
                0 <= self.condition_track < self.tracks,
                f"a track number from 0 to {self.tracks - 1}",
            ),
            "pitches": (
                0 < self.pitches <= 128 and self.pitches % self.stride == 0,
                f"a multiple of {self.stride} (2 to the number of filters), at most 128",
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

    seed: int = 0
    iterations: int = 1000  # each is `critic_updates` critic updates and one generator update
    batch_size: int = 64  # examples per update, over all devices
    critic_updates: int = 5
    generator_learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3
    adam_b1: float = 0.5
    adam_b2: float = 0.9
    adam_epsilon: float = 1e-7
    penalty_weight: float = 10.0  # lambda of Gulrajani et al. 2017
    decay_from: float = 1.0  # share of `decay_until` after which learning rates fall; 1: never
    decay_until: int = 0  # the iteration at which they reach 0; 0: the last of `iterations`
    diversity_weight: float = 0.0  # of the generator's diversity term; 0: none
    diversity_target: float = 0.4  # share of cells in which two flavours of a melody should differ
    ema_decay: float = 0.0  # per iteration, of the generator kept for composing; 0: none
    deterministic: bool = False  # on GPU: only operations whose sums have a fixed order

    @property
    def last_decayed(self) -> int:
        """The iteration at which falling learning rates are 0."""
        return self.decay_until or self.iterations

    def rules(self) -> Rules:
        """What each field must be."""
        return {
            "seed": (0 <= self.seed < 2**32, "from 0 to 2**32 - 1"),
            "iterations": _at_least(1, self.iterations),
            "batch_size": _at_least(1, self.batch_size),
            "critic_updates": _at_least(1, self.critic_updates),
            "generator_learning_rate": _positive(self.generator_learning_rate),
            "critic_learning_rate": _positive(self.critic_learning_rate),
            "adam_b1": _share(self.adam_b1),
            "adam_b2": _share(self.adam_b2),
            "adam_epsilon": _positive(self.adam_epsilon),
            "penalty_weight": _finite(self.penalty_weight),
            "decay_until": _at_least(0, self.decay_until),
            "decay_from": (0 <= self.decay_from <= 1, "from 0 to 1"),
            "diversity_weight": _finite(self.diversity_weight),
            "diversity_target": (0 < self.diversity_target <= 1, "above 0 and at most 1"),
            "ema_decay": _share(self.ema_decay),
        }


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a run lies over devices. No number depends on it but by the order of additions."""

    strategy: str = "mesh"  # jit: one device; mesh: jit over all of them; pmap
    devices: int = 0  # how many to use; 0: all
    data: str = "auto"  # where the training data lie: device, host, or auto (device up to 1 GiB)

    def rules(self) -> Rules:
        """What each field must be."""
        return {
            "strategy": (self.strategy in ("jit", "mesh", "pmap"), "jit, mesh or pmap"),
            "devices": (
                self.devices >= 0 and (self.strategy != "jit" or self.devices <= 1),
                "at least 0, and at most 1 where parallel.strategy is jit",
            ),
            "data": (self.data in ("auto", "device", "host"), "auto, device or host"),
        }


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """What a run writes, and how often (in iterations)."""

    log_every: int = 1
    sample_every: int = 100  # 0: only at the end
    save_every: int = 100  # 0: only at the end
    keep_checkpoints: int = 3  # how many of the newest stay
    keep_best: int = 0  # how many of the best stay besides, by `best_by` of their samples
    best_by: str = "faults"  # lower is better: faults, empty_bars, semitone_clash or distance
    held_out: int = 0  # pieces of the split valid to accompany and measure with each sample
    melodies: tuple[str, ...] = ("twinkle", "ode_to_joy")  # built-in names or MIDI files

    def rules(self) -> Rules:
        """What each field must be."""
        told = self.held_out > 0 if self.best_by == "distance" else bool(self.melodies)
        return {
            "log_every": _at_least(1, self.log_every),
            "sample_every": _at_least(0, self.sample_every),
            "save_every": _at_least(0, self.save_every),
            "keep_checkpoints": _at_least(1, self.keep_checkpoints),
            "keep_best": (
                self.keep_best == 0 or (self.keep_best > 0 and told),
                "at least 0, and 0 without what tells the best: output.melodies, or "
                "output.held_out for output.best_by=distance",
            ),
            "best_by": (self.best_by in BEST_BY, f"one of {', '.join(BEST_BY)}"),
            "held_out": (self.held_out == 0 or self.held_out >= 2, "0, or at least 2"),
        }
