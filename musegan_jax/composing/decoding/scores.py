"""Log-probabilities of the training music, from its counts, and how much each is worth in a search.

All tables are centred: their mean over the training music is 0, so a step of which a table says
nothing, for example because a voice rests, is worth as much as a usual one.
"""

import itertools
from typing import NamedTuple

import numpy as np

from musegan_jax.data.statistics import MOTIONS, SONORITIES, WIDEST, Statistics, motion
from musegan_jax.shapes import Float, Int

TELLING = 12.0  # steps of the melody that weigh as much as independent ones, for its key


class Weights(NamedTuple):
    """What the parts of a score are worth, as chosen on the split `valid` of the chorales.

    Attributes:
        network: of the log-odds of the network's cells, which lie between -9.2 and 9.2.
        sonority: of the sonority, given the position in the beat.
        inversion: of which pitch class of the sonority is the lowest, given the sonority.
        order: of which of two lines is the higher.
        motion: of which of two lines move, given the position in the beat.
        interval: of the interval of two lines after a step, given that before and their motion.
        rare: of intervals that follow another far more rarely than anything else.
        rarely: logarithm of how much more rarely counts.
        melodic: of the interval that a line moves by.
        move: worth of a move. The best path takes the likelier of staying and moving at each step,
            so it moves less often than the probabilities say; this balances it.
        rest: of beginning, continuing and ending a rest, for lines that rest in training.
        last: of the last sonority.
        key: of the last bass note, given the whole melody.
    """

    network: float = 0.38
    sonority: float = 0.12
    inversion: float = 0.47
    order: float = 0.18
    motion: float = 0.19
    interval: float = 0.1
    rare: float = 6.6
    rarely: float = -1.0
    melodic: float = 0.06
    move: float = 0.96
    rest: float = 1.0
    last: float = 2.4
    key: float = 2.0


class Tables(NamedTuple):
    """Weighted tables; shapes as the counts of the same name in `Statistics`."""

    sonorities: Float[np.ndarray, "S 2048"]
    last_sonorities: Float[np.ndarray, " 2048"]
    orders: Float[np.ndarray, "N 3"]
    motions: Float[np.ndarray, "N S 5"]
    intervals: Float[np.ndarray, "N 5 12 12"]
    melodic: Float[np.ndarray, "L 49"]  # `move` included; 0 for the interval 0
    silent: Float[np.ndarray, "L 2"]
    rests: Float[np.ndarray, "L 2 2"]
    degrees: Float[np.ndarray, " 12"]
    last_degrees: Float[np.ndarray, " 12"]


def make_tables(counts: Statistics, weights: Weights) -> Tables:
    """Smoothed, centred and weighted log-probabilities.

    What was rarely counted leans on a less specific count (back-off): positions in the beat on all
    positions, pairs of lines on all pairs, the last sonority on all sonorities.
    """
    w, c = weights, counts
    every = _probabilities(c.sonorities.sum(axis=0) + 0.02)
    sonorities = _logs(c.sonorities + 90 * every)
    inversions = np.log(every / every[TURNS].sum(axis=1, where=TURNS >= 0))
    by_motion = _probabilities(c.intervals.sum(axis=0) + 0.05)
    intervals = _logs(c.intervals + 4 * by_motion)
    # Against how often that interval follows anything: a dissonance is rare, but no fault; fifths
    # that follow fifths are far rarer than fifths. Of all pairs: a single one has too few.
    together = c.intervals.sum(axis=0)
    expected = _probabilities(together.sum(axis=1, keepdims=True) + 0.6)
    rare = np.minimum(np.log(by_motion / expected) - w.rarely, 0)
    melodic = _logs(c.melodic + 0.2)
    melodic = w.melodic * _centred(melodic, c.melodic) + w.move
    melodic[:, WIDEST] = 0
    return Tables(
        sonorities=w.sonority * _centred(sonorities, c.sonorities)
        + w.inversion * _centred(inversions, c.sonorities),
        last_sonorities=w.last * _logs(c.last_sonorities + 3 * every),
        orders=w.order * _centred(_logs(c.orders + 1.0), c.orders),
        motions=w.motion * _centred(_logs(c.motions + 0.5), c.motions),
        intervals=w.interval * _centred(intervals, c.intervals) + w.rare * rare,
        melodic=melodic,
        silent=w.rest * _logs(c.silent + 1.0),
        rests=w.rest * _logs(c.rests + 1.0),
        degrees=_logs(c.degrees + c.degrees.sum() / 1000 + 1.0),
        last_degrees=_logs(c.last_degrees + 0.5),
    )


def _turns() -> np.ndarray:
    """Each sonority with each of its pitch classes as the lowest: int `(2048, 12)`, -1 for none."""
    sets = 2 * np.arange(SONORITIES)[:, None] + 1  # bit 0 is the lowest
    lowest = np.arange(12)
    turned = ((sets >> lowest) | (sets << (12 - lowest))) & 4095
    return np.where(sets >> lowest & 1, turned >> 1, -1)


TURNS = _turns()


def _probabilities(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(axis=-1, keepdims=True)


def _logs(counts: np.ndarray) -> np.ndarray:
    return np.log(_probabilities(counts))


def _centred(logs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return logs - (logs * counts).sum() / max(counts.sum(), 1)


def key_scores(tables: Tables, melody: Int[np.ndarray, " T"]) -> Float[np.ndarray, " 12"]:
    """Log-probability that a piece ends on each bass note (pitch class), given its melody.

    Naive Bayes on the pitch classes of the melody's steps and on its last note.

    Args:
        tables: of the training music.
        melody: pitches, -1 for a rest; at least one note.
    """
    notes = melody[melody >= 0]
    shares = np.bincount(notes % 12, minlength=12) / len(notes)
    scores = np.array(
        [
            TELLING * shares @ np.roll(tables.degrees, bass)
            + tables.last_degrees[(notes[-1] - bass) % 12]
            for bass in range(12)
        ]
    )
    return scores - np.logaddexp.reduce(scores)


def step_scores(
    tables: Tables,
    position: Int[np.ndarray, " B"],
    given: Int[np.ndarray, " B+1"],
    candidates: Int[np.ndarray, "B+1 L C"],
    melody: int,
) -> list[Float[np.ndarray, "B C C C C"]]:
    """Worth of a step from candidates to candidates, for each pair of L >= 2 searched lines.

    The worth of a step of all lines is the sum over the pairs. What concerns one line, or it and
    the given melody, lies in the first pair that has the line.

    Args:
        tables: of the training music, for the L lines and the melody.
        position: of B steps in the beat.
        given: the melody's pitches at the step before the first of them and at each; -1: a rest.
        candidates: the lines' pitches, likewise.
        melody: the melody's place among the lines of the tables.

    Returns:
        For each pair (a, b) in the order of `itertools.combinations`, float32 `(B, C, C, C, C)`:
        step; candidates of a and of b before it; of a and of b after it.
    """
    tune = _Line(given[:, None])
    lines = [_Line(candidates[:, n]) for n in range(candidates.shape[1])]
    places = [k for k in range(len(lines) + 1) if k != melody]
    pairs = list(itertools.combinations(range(len(lines) + 1), 2))
    scores = [
        _pair(tables, pairs.index((places[a], places[b])), position, lines[a], lines[b])
        for a, b in itertools.combinations(range(len(lines)), 2)
    ]
    for n, line in enumerate(lines):
        first = melody < places[n]
        pair = pairs.index((melody, places[n]) if first else (places[n], melody))
        both = (tune, line) if first else (line, tune)
        with_tune = _pair(tables, pair, position, *both).reshape(line.change.shape)
        own = with_tune + _alone(tables, places[n], line)
        # The first pair that has the line: of the first line it is (0, 1), of others (0, n).
        scores[max(n - 1, 0)] += np.expand_dims(own, (2, 4) if n == 0 else (1, 3))
    return scores


class _Line:
    """The steps of a line between candidates `(B + 1, C)`: arrays `(B, C, C)`, before and after."""

    def __init__(self, candidates: np.ndarray) -> None:
        self.before, self.after = candidates[:-1], candidates[1:]
        p, q = self.before[:, :, None], self.after[:, None, :]
        self.sounds = (p >= 0) & (q >= 0)
        self.change = np.where(self.sounds, q - p, 0)
        self.direction = np.sign(self.change).astype(np.int8)


def _alone(tables: Tables, place: int, line: _Line) -> np.ndarray:
    worth = tables.melodic[place][np.clip(line.change, -WIDEST, WIDEST) + WIDEST]
    if (line.before < 0).any() or (line.after < 0).any():
        before, after = (line.before < 0).astype(int), (line.after < 0).astype(int)
        worth = worth + tables.rests[place][before[:, :, None], after[:, None, :]]
    return worth.astype(np.float32)


def _pair(tables: Tables, pair: int, position: np.ndarray, a: _Line, b: _Line) -> np.ndarray:
    kind = motion(a.direction[:, :, None, :, None], b.direction[:, None, :, None, :])
    first = (a.before[:, :, None] - b.before[:, None, :]) % 12
    second = (a.after[:, :, None] - b.after[:, None, :]) % 12
    # One look-up in a flat table: with several index arrays it would take three times as long.
    where = (kind * 12 + first[:, :, :, None, None]) * 12 + second[:, None, None]
    worth = tables.intervals[pair].ravel()[where]
    where = kind + MOTIONS * position[:, None, None, None, None]
    worth += tables.motions[pair].ravel()[where]
    known = a.sounds[:, :, None, :, None] & b.sounds[:, None, :, None, :]
    return (worth if known.all() else np.where(known, worth, 0.0)).astype(np.float32)
