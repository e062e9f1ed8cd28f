"""The rule `joint`: all single-line tracks decided together, with what the training music says.

One Viterbi search (1967) over the joint state, a pitch or rest for each line. A path is worth the
network's log-odds of its cells, and log-probabilities counted in the training music: of the
sonority, of the motion of each pair of lines, of melodic intervals, of the ending (`scores`). The
given melody is part of the state. The search is exact over its candidates.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from musegan_jax.composing.decoding import lines as single
from musegan_jax.composing.decoding.frame import AS_HEARD, Frame
from musegan_jax.composing.decoding.held import FREE
from musegan_jax.composing.decoding.scores import (
    Tables,
    Weights,
    key_scores,
    make_tables,
    step_scores,
)
from musegan_jax.data.statistics import Statistics, bits_and_lowest, highest, sonority_numbers
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import MIDI_PITCHES, pitch_classes, uncrop
from musegan_jax.shapes import Bool, Float

CANDIDATES = 6  # of each line at each step: the pitches that the network likes best
STATES = 256  # at each step; three lines have 6 ** 3 = 216, of more lines the likeliest are kept
BLOCK = 256  # steps whose scores are computed at once; 40 MB for three lines
CLASH = 1.0  # log-odds that a cell loses by a semitone to a kept note
LEAST = 1e-4  # probability of a cell, as in `losses.cross_entropy`
RESTS = 0.01  # a line that rests in fewer steps of the training music never rests
CHOSEN = Weights()


def decode(
    model: Model,
    signed: Float[np.ndarray, "T P K"],
    given: Bool[np.ndarray, "T P"],
    frame: Frame = AS_HEARD,
    weights: Weights = CHOSEN,
) -> Bool[np.ndarray, "T P K"]:
    """Decode an answer.

    The lines begin with the melody's first note; what sounds in its last step is held to the end.
    They stay in the ranges of the training pieces. Chord tracks and drums are the cells above 0;
    chords are part of the sonorities. The melody's own track is decoded as by `lines`. So is all of
    it where a model has no statistics, or fewer than two lines beside the melody.

    Args:
        model: with `music.statistics`.
        signed: float `(T, P, K)` in [-1, 1], step 0 on a beat.
        given: bool `(T, P)`, the melody as the network has it.
        frame: how it and the accompaniment will be played.
        weights: of the parts of the score.

    Returns:
        Bool `(T, P, K)`.
    """
    music, low = model.music, model.config.lowest_pitch
    melody = model.config.condition_track
    lines = music.lines(melody)
    searched = [k for k in lines if k != melody]
    sounding = np.flatnonzero(given.any(axis=1))
    signed = _in_range(model, signed, frame)
    notes = single.decode(model, signed, given, frame)
    if music.statistics is None or len(searched) < 2 or not len(sounding):
        return notes
    first, end = sounding[0], sounding[-1] + 1
    chords = [k for k, t in enumerate(model.tracks) if not t.is_drum and k not in lines]
    tune = highest(given[first:end, :, None])[:, 0]
    ranges = music.played_ranges(melody)
    played = tune + low - 12 * frame.octaves
    task = _Task(
        tables=make_tables(music.statistics, weights),
        weights=weights,
        position=np.arange(first, end) % model.steps_per_beat,
        melody=lines.index(melody),
        # At the octave at which it will be played (but for folded notes): it may be the lowest.
        tune=np.where(tune >= 0, np.where(played < 0, played % 12, played), -1),
        chords=_chords(uncrop(notes[first:end][..., chords], low), frame, int(first)),
        odds=_odds(
            signed[first:end][..., searched],
            low,
            [(a + frame.shift, b + frame.shift) for a, b in (ranges[k] for k in searched)],
        )
        - _clashes(frame, slice(first, end)),
        rests=_rests(music.statistics)[[lines.index(k) for k in searched]],
        held=None if frame.held is None else frame.held.lines(searched)[first:end],
    )
    pitches = _search(task) - low
    notes[:, :, searched] = False
    for n, k in enumerate(searched):
        # What is held may lie outside the network's rows.
        steps = np.flatnonzero((pitches[:, n] >= 0) & (pitches[:, n] < signed.shape[1]))
        notes[first + steps, pitches[steps, n], k] = True
    notes[end:, :, searched] = notes[end - 1][:, searched]
    return notes


def _clashes(frame: Frame, steps: slice) -> Any:
    """What a cell's log-odds lose for a semitone to a note that is kept: `(T, 1, 128)`."""
    if frame.kept is None:
        return 0.0
    classes = pitch_classes(frame.kept[steps])
    beside = np.roll(classes, 1, axis=1) | np.roll(classes, -1, axis=1)
    return CLASH * beside[:, None, np.arange(MIDI_PITCHES) % 12]


def _chords(chords: np.ndarray, frame: Frame, first: int) -> np.ndarray:
    """The tracks that are not searched, bool `(T, 128, N)`, with what else will sound."""
    if frame.kept is None:
        return chords
    return np.concatenate([chords, frame.kept[first : first + len(chords), :, None]], axis=2)


def _in_range(model: Model, signed: np.ndarray, frame: Frame) -> np.ndarray:
    """An answer without the cells that its lines may not play, as far as they have others."""
    melody, rows = model.config.condition_track, np.arange(signed.shape[1])
    pitches = rows + model.config.lowest_pitch - frame.shift
    ranges = model.music.played_ranges(melody)
    signed = signed.copy()
    for k in model.music.lines(melody):
        outside = (pitches < ranges[k][0]) | (pitches > ranges[k][1])
        if k != melody and not outside.all():
            signed[:, outside, k] = -1
    return signed


class _Task(NamedTuple):
    """A search over T steps and L lines, all pitches as MIDI numbers.

    Attributes:
        tables, weights: of the training music, for the L lines and the melody.
        position: `(T,)`, in the beat.
        melody: place of the melody among the lines of the tables.
        tune: `(T,)`, its pitches, -1 for a rest.
        chords: bool `(T, 128, N)`, tracks that are not searched, and the file's own that are kept.
        odds: `(T, L, 128)`, the network's log-odds, minus infinity for pitches out of range.
        rests: bool `(L,)`, whether a line may rest.
        held: int `(T, L)`, pitches that are given, see `held.Held.lines`; None if none are.
    """

    tables: Tables
    weights: Weights
    position: np.ndarray
    melody: int
    tune: np.ndarray
    chords: np.ndarray
    odds: np.ndarray
    rests: np.ndarray
    held: np.ndarray | None = None


def _odds(signed: np.ndarray, low: int, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Log-odds of the cells `(T, P, L)` by MIDI pitch, `(T, L, 128)`, and minus infinity elsewhere.

    `ranges` are of the lines, in the network's pitches; `low` is the pitch of its lowest row. A
    line whose range the network does not have may have all of the network's pitches.
    """
    share = np.clip((1 + signed.astype(np.float64)) / 2, LEAST, 1 - LEAST)
    steps, pitches, _ = signed.shape
    odds = np.full((steps, len(ranges), MIDI_PITCHES), -np.inf)
    odds[:, :, low : low + pitches] = np.log(share / (1 - share)).swapaxes(1, 2)
    for n, (lowest, top) in enumerate(ranges):
        if lowest < low + pitches and low <= top:
            odds[:, n, : max(lowest, 0)] = -np.inf
            odds[:, n, top + 1 :] = -np.inf
    return odds


def _rests(counts: Statistics) -> np.ndarray:
    return counts.silent[:, 1] > RESTS * counts.silent.sum(axis=1)


def _candidates(task: _Task) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest pitches of each line at each step, and their log-odds: `(T, L, C)` each.

    A line that may rest has a rest, -1, in place of the least likely; its log-odds are 0.
    """
    best = np.argsort(-task.odds, axis=2, kind="stable")[..., :CANDIDATES]
    odds = np.take_along_axis(task.odds, best, axis=2)
    # A line's range may have fewer pitches than candidates: the best one fills up.
    known = np.isfinite(odds)
    best = np.where(known, best, best[..., :1])
    odds = np.where(known, odds, odds[..., :1])
    best[:, task.rests, -1], odds[:, task.rests, -1] = -1, 0.0
    if task.held is not None:
        # One candidate, and none of its copies, which would crowd out states of other lines.
        given = task.held != FREE
        best[given], odds[given] = task.held[given][:, None], -np.inf
        odds[given, 0] = 0.0
    return best, odds


def _states(odds: np.ndarray) -> np.ndarray:
    """Joint states as candidate numbers `(T, N, L)`: all of them, or the `STATES` likeliest."""
    steps, lines, size = odds.shape
    states = np.zeros((steps, 1, 0), np.int64)
    worth = np.zeros((steps, 1))
    for n in range(lines):
        count = states.shape[1]
        more = np.broadcast_to(np.arange(size)[:, None], (steps, count, size, 1))
        states = np.concatenate([np.repeat(states[:, :, None], size, axis=2), more], axis=3)
        states = states.reshape(steps, count * size, n + 1)
        worth = (worth[:, :, None] + odds[:, None, n]).reshape(steps, -1)
        if worth.shape[1] > STATES:
            kept = np.argsort(-worth, axis=1, kind="stable")[:, :STATES]
            worth = np.take_along_axis(worth, kept, axis=1)
            states = np.take_along_axis(states, kept[..., None], axis=1)
    return states


def _search(task: _Task) -> np.ndarray:
    """The best path: pitches int `(T, L)`, -1 for a rest."""
    candidates, odds = _candidates(task)
    states = _states(odds)
    steps, count, lines = states.shape
    each = np.arange(lines)
    pitches = candidates[np.arange(steps)[:, None, None], each, states]
    worth = _state_scores(task, pitches)
    worth += task.weights.network * (
        odds[np.arange(steps)[:, None, None], each, states].sum(axis=2)
    )
    pairs = list(itertools.combinations(range(lines), 2))
    size = candidates.shape[2]
    codes = [states[..., a] * size + states[..., b] for a, b in pairs]
    came_from = np.zeros((steps, count), np.int32)
    total = worth[0]
    for start in range(1, steps, BLOCK):
        block = slice(start - 1, min(start + BLOCK, steps))
        scores = step_scores(
            task.tables,
            task.position[block][1:],
            task.tune[block],
            candidates[block],
            task.melody,
        )
        flat = [each.reshape(len(each), size**2, size**2) for each in scores]
        for t in range(start, block.stop):
            step = total[:, None]
            for table, code in zip(flat, codes, strict=True):
                step = step + table[t - start][code[t - 1]][:, code[t]]
            came_from[t] = step.argmax(axis=0)
            total = step[came_from[t], np.arange(count)] + worth[t]
    best = np.zeros(steps, np.int64)
    best[-1] = total.argmax()
    for t in range(steps - 1, 0, -1):
        best[t - 1] = came_from[t, best[t]]
    return pitches[np.arange(steps), best]


def _state_scores(task: _Task, pitches: np.ndarray) -> np.ndarray:
    """What a state is worth by itself, without the network: `(T, N, L)` pitches -> `(T, N)`."""
    tables, tune = task.tables, task.tune
    bits, lowest = bits_and_lowest(task.chords)
    bits = np.where(tune >= 0, bits | (1 << tune % 12), bits)[:, None]
    lowest = _lower(lowest, tune)[:, None]
    for n in range(pitches.shape[2]):
        own = pitches[..., n]
        bits = np.where(own >= 0, bits | (1 << own % 12), bits)
        lowest = _lower(lowest, own)
    sonority = sonority_numbers(bits, lowest)
    worth = np.where(sonority >= 0, tables.sonorities[task.position[:, None], sonority], 0.0)
    by_place = list(np.moveaxis(pitches, 2, 0))
    by_place.insert(task.melody, np.broadcast_to(tune[:, None], pitches.shape[:2]))
    for pair, (a, b) in enumerate(itertools.combinations(by_place, 2)):
        worth += np.where((a >= 0) & (b >= 0), tables.orders[pair][np.sign(a - b) + 1], 0.0)
    for n in np.flatnonzero(task.rests):
        place = n + (n >= task.melody)
        worth += tables.silent[place][(pitches[..., n] < 0).astype(int)]
    worth[-1] += tables.last_sonorities[sonority[-1]]
    worth[-1] += task.weights.key * key_scores(tables, tune)[lowest[-1] % 12]
    return worth


def _lower(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lower of two pitches, -1 counting as none."""
    return np.where((a < 0) | ((b >= 0) & (b < a)), b, a)
