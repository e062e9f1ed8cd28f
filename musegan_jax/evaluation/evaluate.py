"""A model compared with held-out music, and with baselines that need no network."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from musegan_jax.composing import decoding
from musegan_jax.data.dataset import Dataset
from musegan_jax.errors import UserError
from musegan_jax.evaluation import baselines, copying, distributions, metrics
from musegan_jax.evaluation.accompaniments import Accompaniments, accompany_pieces, fits
from musegan_jax.evaluation.judge import judge
from musegan_jax.evaluation.measures import (
    Measures,
    Music,
    Whole,
    cut_alike,
    measure,
    read_music,
    read_whole,
    track_of,
)
from musegan_jax.models.model import Model

MOST = 300  # pieces of a split
DRAWS = 200  # of training pieces, for the noise floor
PASSAGE = 4  # bars; for diversity and the copied baseline
COPIED = 2  # bars; for the search for copies
# Measures in the Fréchet distance: those of single bars that are rarely NaN.
FEATURES = ("used_pitches", "qualified_notes", "pitch_class_entropy", "tonal_distance", "semitone")


class Evaluation(NamedTuple):
    """The result of `evaluate`.

    Attributes:
        report: plain values, ready for JSON.
        held: the held-out pieces, whole.
        flavours: for each noise, their accompaniments by the first model, as `compose` plays them.
    """

    report: dict[str, Any]
    held: list[Music]
    flavours: list[list[Music]]


def evaluate(
    models: Mapping[str, Model],
    dataset: Dataset,
    split: str,
    flavours: int,
    seed: int,
    rule: str = decoding.DEFAULT,
    noise: bool = False,
) -> Evaluation:
    """Let models accompany held-out melodies, and measure the result.

    Args:
        models: by column name; the first is the one evaluated, others are for comparison.
        dataset: the music; its split `train` serves for noise floor, baselines and copies.
        split: the pieces to accompany.
        flavours: noises for each melody, at least 2.
        seed: of the noises and the baselines.
        rule: decodes the models' answers, a name in `decoding.RULES`.
        noise: add a column `noise`, what the rule makes of random numbers in place of answers.

    Raises:
        UserError: if there are too few pieces, or the melody is the only pitched track.
    """
    first = next(iter(models.values()))
    track = first.config.condition_track
    pitched = [k for k, each in enumerate(dataset.tracks) if not each.is_drum]
    generated = [k for k in pitched if k != track]
    if not generated:
        raise UserError(f"{dataset.source}: no pitched track beside the melody's; add one")
    training, held, left_out = _pieces(models, dataset, split, pitched, seed)
    whole = [piece.music for piece in held]
    accompanied = {
        name: accompany_pieces(each, whole, flavours, seed, rule) for name, each in models.items()
    }
    if noise:
        accompanied["noise"] = accompany_pieces(first, whole, flavours, seed, rule, network=False)
    bars = [piece.cut() for piece in held]
    made = {
        name: [cut_alike(held, flavour) for flavour in each.flavours]
        for name, each in accompanied.items()
    }

    def measured(music: Iterable[Music]) -> Measures:
        return measure(list(music), dataset.tracks, dataset.steps_per_beat)

    real, trained, given = measured(bars), measured(training), dataset.tracks[track].name
    columns = {
        "training": trained,
        **{name: measured(itertools.chain(*each)) for name, each in made.items()},
        "copied": measured(baselines.nearest_copied(bars, training, track, PASSAGE)),
        "random": measured(baselines.random_voices(bars, training, track, seed)),
    }
    report = {
        "split": split,
        "training_pieces": len(training),
        "pieces": len(held),
        "bars": len(real.values),
        "left_out": left_out,
        "flavours": flavours,
        "seed": seed,
        "decoding": rule,
        "measures": _table(real, trained, columns, given, seed),
        "harmony": _harmony(dataset, training, whole, accompanied, track, seed),
        "frechet_distance": _frechet_distances(real, columns, given),
        "melody_fidelity": {
            name: float(metrics.score(each.fidelity)) for name, each in accompanied.items()
        },
        "diversity": _diversity(bars, training, made, generated, track),
        "nearest_training_passage": _copies(bars, training, made, generated),
    }
    return Evaluation(_plain(report), whole, next(iter(accompanied.values())).flavours)


def _pieces(
    models: Mapping[str, Model],
    dataset: Dataset,
    split: str,
    pitched: list[int],
    seed: int,
) -> tuple[list[Music], list[Whole], dict[str, list[str]]]:
    """The bars of training pieces, held-out pieces, and the names of those left out, by reason.

    Raises:
        UserError: if there are too few.
    """
    training = read_music(dataset, _some(dataset, "train", seed))
    held = list(read_whole(dataset, _some(dataset, split, seed)))
    # Bars of different lengths cannot be compared: keep the most common one.
    lengths = [piece.bars.shape[1] for piece in [*training, *(piece.music for piece in held)]]
    usual = max(set(lengths), key=lengths.count, default=0)
    training = [piece for piece in training if piece.bars.shape[1] == usual]
    faults = [_fault(piece, usual, models) for piece in held]
    left_out: dict[str, list[str]] = {}
    for piece, fault in zip(held, faults, strict=True):
        if fault:
            left_out.setdefault(fault, []).append(piece.music.name)
    held = [piece for piece, fault in zip(held, faults, strict=True) if not fault]
    if training and held:
        cut = [piece.cut() for piece in held]
        known = copying.known_pieces(cut, training, pitched, COPIED)
        if known:
            left_out["in the training data too"] = known
        held = [piece for piece in held if piece.music.name not in known]
    if min(len(training), len(held)) < 2:
        raise UserError(
            f"{dataset.source}: {len(training)} pieces of the split train and {len(held)} of "
            f"{split} can be used ({sum(map(len, left_out.values()))} were left out); an "
            "evaluation needs two of each; `data build` holds out two of 8 files, three of 12"
        )
    return training, held, left_out


def _fault(piece: Whole, steps: int, models: Mapping[str, Model]) -> str:
    """Why a held-out piece cannot be used; empty if it can."""
    if piece.music.bars.shape[1] != steps:
        return "bars of another length"
    if len(piece.starts) < PASSAGE:
        return "shorter than a passage"
    if not all(fits(model, piece.music) for model in models.values()):
        return "no melody within a model's pitches"
    return ""


def _some(dataset: Dataset, split: str, seed: int) -> np.ndarray:
    """At most `MOST` pieces of a split, at random: unpacked they take eight times the memory."""
    pieces = dataset.pieces_of([split])
    if len(pieces) <= MOST:
        return pieces
    return np.sort(np.random.default_rng(seed).choice(pieces, MOST, replace=False))


def _table(
    real: Measures, trained: Measures, columns: dict[str, Measures], melody: str | None, seed: int
) -> dict[str, Any]:
    """For each measure: the scores, the noise floor, and the likeness of the pieces' values."""
    floor = baselines.noise_floor(real, trained, DRAWS, seed)
    wanted, by_piece = real.scores(), real.by_piece()
    scores = {name: column.scores() for name, column in columns.items()}
    # Densities take time per pair; eight pieces for each held-out one are plenty.
    pieces = {name: column.by_piece()[: 8 * len(by_piece)] for name, column in columns.items()}
    rows = {}
    for n, name in enumerate(real.names):
        if track_of(name) == melody:
            continue  # given, not generated
        alike = {
            column: distributions.compare(by_piece[:, n], values[:, n])
            for column, values in pieces.items()
        }
        rows[name] = {
            "held_out": wanted[n],
            "noise_floor": floor[n],
            "scores": {column: values[n] for column, values in scores.items()},
            "overlap_area": {column: pair.overlap_area for column, pair in alike.items()},
            "divergence": {column: pair.divergence for column, pair in alike.items()},
        }
    return rows


def _numbers(dataset: Dataset, music: list[Music]) -> list[int]:
    """The pieces' places in the dataset."""
    numbers = {name: number for number, name in enumerate(dataset.names)}
    return [numbers[piece.name] for piece in music]


def _harmony(
    dataset: Dataset,
    training: list[Music],
    whole: list[Music],
    accompanied: dict[str, Accompaniments],
    track: int,
    seed: int,
) -> dict[str, Any]:
    """The measures of harmony, as `_table` gives the others."""
    judged = judge(dataset, track)
    references = {piece.name: piece for piece in whole}
    baseline = {
        "copied": baselines.copied_whole(whole, training, track, PASSAGE),
        "random": baselines.random_voices(whole, training, track, seed),
    }
    made = {name: itertools.chain(*each.flavours) for name, each in accompanied.items()} | baseline
    real = judged.measure_real(whole)
    # One by one: whole and unpacked, the training pieces would fill the memory again.
    pieces = read_whole(dataset, _numbers(dataset, training))
    trained = judged.measure_real(piece.music for piece in pieces)
    columns = {"training": trained} | {
        name: judged.measure((piece, references[piece.name]) for piece in music)
        for name, music in made.items()
    }
    return _table(real, trained, columns, None, seed)


def _frechet_distances(
    real: Measures, columns: dict[str, Measures], melody: str
) -> dict[str, float]:
    """The Fréchet distance of each column from the real pieces."""
    wanted = _features(real, melody)
    return {
        name: distributions.frechet_distance(wanted, _features(column, melody))
        for name, column in columns.items()
    }


def _features(measures: Measures, melody: str) -> np.ndarray:
    """Features for the Fréchet distance: `(bars, F)`, NaN where a measure is undefined.

    Measures of the melody alone are left out: it was given, so all columns but the training music
    would match it without merit.
    """
    wanted = [name.startswith(FEATURES) and track_of(name) != melody for name in measures.names]
    return measures.values[:, wanted]


def _diversity(
    held: list[Music],
    training: list[Music],
    made: dict[str, list[list[Music]]],
    generated: list[int],
    melody: int,
) -> dict[str, Any]:
    """DIV of each model, and of real music where one melody has several settings."""
    # One passage per piece: two from one piece are more alike than two from different pieces.
    firsts = [Music(piece.name, piece.bars[:PASSAGE]) for piece in [*held, *training]]
    references = copying.passages(firsts, PASSAGE, PASSAGE)[..., generated]
    found: dict[str, Any] = {}
    for name, flavours in made.items():
        each = [copying.passages(f, PASSAGE, PASSAGE)[..., generated] for f in flavours]
        found[name] = metrics.diversity(np.stack(each, axis=1), references).mean()
    found["several_real_settings"] = _settings([*held, *training], references, generated, melody)
    return found


def _settings(
    music: list[Music], references: np.ndarray, generated: list[int], melody: int
) -> float:
    """DIV between real accompaniments of equal melodies in different pieces, in any key.

    Pairs that differ by less than 0.02 are one setting under two names. NaN without a pair.
    """
    by_melody: dict[bytes, list[tuple[str, np.ndarray]]] = {}
    for piece in music:
        for passage in copying.passages([piece], PASSAGE, 1):
            pitches = np.flatnonzero(passage[..., melody].any(axis=0))
            if len(pitches):
                level = np.roll(passage, 60 - pitches[0], axis=1)
                key = np.packbits(level[..., melody]).tobytes()
                own = np.packbits(level[..., generated])
                by_melody.setdefault(key, []).append((piece.name, own))
    pairs = [
        (a, b)
        for settings in by_melody.values()
        for n, (name, a) in enumerate(settings)
        for other, b in settings[:n]
        if name != other
    ]
    apart = np.array([np.bitwise_count(a ^ b).sum() for a, b in pairs], np.float64)
    cells = np.array([np.bitwise_count(a).sum() + np.bitwise_count(b).sum() for a, b in pairs])
    apart = apart[apart >= 0.02 * np.maximum(cells, 1)] if len(pairs) else apart
    return float(apart.mean()) / metrics.mean_distance(references) if len(apart) else float("nan")


def _copies(
    held: list[Music],
    training: list[Music],
    made: dict[str, list[list[Music]]],
    generated: list[int],
) -> dict[str, Any]:
    """Distance of the accompaniments to the nearest training passage: mean and least."""
    pool = copying.passages(training, COPIED, 1)[..., generated]
    found = {}
    sets = {"held_out": held, **{name: flavours[0] for name, flavours in made.items()}}
    for name, music in sets.items():
        apart, _ = copying.nearest(copying.passages(music, COPIED, COPIED)[..., generated], pool)
        found[name] = {"mean": apart.mean(), "least": apart.min()}
    return found


def _plain(value: Any) -> Any:
    """NumPy's floats as Python's, and NaN as None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value
