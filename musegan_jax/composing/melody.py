"""From a MIDI file to the network's condition."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from musegan_jax.data import melodies, midi
from musegan_jax.data.melody_line import close_to, melody_line, namesakes, of_line
from musegan_jax.data.readers import scores
from musegan_jax.errors import UserError
from musegan_jax.models.model import Model
from musegan_jax.shapes import Int

# Of a melody: with the shipped model each step takes a millisecond of the processor, and 21 kB.
MAX_STEPS = 5_000


class Melody(NamedTuple):
    """A part of a MIDI file, prepared as the network's condition.

    Attributes:
        score: the file.
        part: the part's original notes, in ticks.
        condition: bool `(T, 128)`, the part's melody line in the model's range, from step `offset`;
            all its notes if the model was given chords in training.
        offset: the step at which the first sounding bar begins.
        steps: length; `condition` is padded beyond it to a multiple of the network's stride.
        shift: semitones from the part's original pitches to those of the condition.
        on_line: bool `(N,)`, which of the part's N notes the condition is made of.
        bars: int `(N,)`, the steps, from `offset`, at which bars begin.
        folded: how many notes of the line were moved by further octaves, to fit into the range.
        beside: bool `(T, 128)`, notes that are kept of an accompaniment, as the network is shown
            them beside the condition; None if nothing is kept (`accompany.showing`).
    """

    score: midi.Score
    part: midi.Part
    condition: np.ndarray
    offset: int
    steps: int
    shift: int
    on_line: np.ndarray
    bars: np.ndarray
    folded: int = 0
    beside: np.ndarray | None = None


def load_melody(name_or_path: str) -> midi.Score:
    """A built-in melody by name, a MIDI file, or a score that music21 reads (its first tune).

    Raises:
        UserError: if it is neither, or cannot be read.
    """
    if name_or_path in melodies.MELODIES:
        return melodies.melody(name_or_path)
    if not os.path.exists(name_or_path):
        near = close_to(name_or_path, list(melodies.MELODIES))
        raise UserError(
            f"{name_or_path}: no such file, and no built-in melody{near} "
            f"({', '.join(melodies.MELODIES)})"
        )
    if name_or_path.lower().endswith(scores.SUFFIXES):
        return scores.read(name_or_path)[0]
    if not _begins_as_midi(name_or_path):
        raise UserError(
            f"{name_or_path}: not a MIDI file; give one, a score ({', '.join(scores.SUFFIXES)}) "
            f"or a built-in melody ({', '.join(melodies.MELODIES)})"
        )
    return midi.read(name_or_path)


def _begins_as_midi(path: str) -> bool:
    """False for a file of another format; what cannot be opened, or is empty, `midi.read` names."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(256)  # a RIFF header may come first
    except OSError:
        return True
    return not head or b"MThd" in head


def prepare(score: midi.Score, part: midi.Part, model: Model, shift: int | None = None) -> Melody:
    """Put a part on the model's grid and into its range.

    Of notes that sound together only the melody line is used, unless the model was given chords in
    training. Notes that are outside the model's pitches are moved by octaves.

    Args:
        score: the file.
        part: its melody.
        model: the model that will accompany it.
        shift: semitones by which to transpose it up; None for the octaves with which it overlaps
            most with the model's pitches, and then with the melodies of the training data.

    Raises:
        UserError: if it is too long, or the model has a row for none of its pitch classes.
    """
    per_step = score.ticks_per_beat / model.steps_per_beat
    notes = midi.quantise(part.notes, per_step)
    lines = midi.quantise_ticks(score.bar_lines, per_step)
    offset = int(lines[lines <= notes[0, 0]].max())
    end = int(notes[:, 1].max())
    # To the end of the last bar, so that the accompaniment fills it.
    steps = min((int(line) for line in lines if line >= end), default=end) - offset
    if steps > MAX_STEPS:
        raise UserError(
            f"the melody lasts {steps / model.steps_per_beat:.0f} beats from its first note; up to "
            f"{MAX_STEPS // model.steps_per_beat} are accompanied by this model: give a part of it"
        )
    single = model.music.single_lines[model.config.condition_track]
    given = (_line if single else _chords)(notes, model, shift)
    if not len(given.notes):
        raise UserError(
            "none of the melody's pitch classes is among the model's pitches; transpose it (key)"
        )
    # With silence after the end, as in training: beyond the array the network sees neither notes
    # nor silence.
    room = (-(-steps // model.stride) + 1) * model.stride
    condition = midi.to_roll(given.notes - [offset, offset, 0, 0], room)
    return Melody(
        score,
        part,
        condition,
        offset,
        steps,
        given.shift,
        given.used,
        lines - offset,
        given.folded,
    )


class _Given(NamedTuple):
    """Notes in steps as the network is given them, their shift, which of the part's they are made
    of, and how many were moved by further octaves.
    """

    notes: np.ndarray
    shift: int
    used: np.ndarray
    folded: int


def _line(notes: np.ndarray, model: Model, shift: int | None) -> _Given:
    """The melody line of a part's notes."""
    line = melody_line(notes, model.steps_per_beat)
    used = of_line(notes, line)
    shift = _octaves(line[line >= 0], model) if shift is None else shift
    # Folded from the first note on.
    first = int(notes[0, 0])
    given, folded = fold(np.where(line >= 0, line + shift, REST)[first:], model)
    steps = np.flatnonzero(given != REST)
    pitches = given[steps]
    steps += first
    return _Given(np.column_stack([steps, steps + 1, pitches, pitches]), shift, used, folded)


def _chords(notes: np.ndarray, model: Model, shift: int | None) -> _Given:
    """All of a part's notes, each that is outside the model's pitches in the nearest octave."""
    sounding = np.repeat(notes[:, 2], notes[:, 1] - notes[:, 0])
    shift = _octaves(sounding, model) if shift is None else shift
    low, high = model.pitch_range
    given = notes + [0, 0, shift, 0]
    below, above = np.maximum(low - given[:, 2], 0), np.maximum(given[:, 2] - high, 0)
    octaves = -(-below // 12) + -above // 12
    given[:, 2] += 12 * octaves
    fits = (low <= given[:, 2]) & (given[:, 2] <= high)  # not all: where there is no octave of rows
    return _Given(given[fits], shift, np.ones(len(notes), bool), int((octaves[fits] != 0).sum()))


def _octaves(pitches: np.ndarray, model: Model) -> int:
    """The shift in octaves with the fewest steps outside the model's pitches; the smallest.

    Of shifts that are equal in this, that with the fewest outside the training melodies' range.
    """

    def outside(shift: int) -> tuple[int, int, int]:
        moved = pitches + shift
        low, high = model.pitch_range
        known_low, known_high = model.music.ranges[model.config.condition_track]
        return (
            int(((moved < low) | (moved > high)).sum()),
            int(((moved < known_low) | (moved > known_high)).sum()),
            abs(shift),
        )

    return min((12 * octave for octave in range(-10, 11)), key=outside)


REST = -1000  # no pitch, and none after any transposition
BREAK = 3.0  # cost, in folded notes, of changing the octave within a phrase
PAUSE = 0.5  # the same over a rest


def fold(line: Int[np.ndarray, " T"], model: Model) -> tuple[Int[np.ndarray, " T"], int]:
    """Move the notes of a line that are outside the model's pitches into them, by octaves.

    Notes around them move with them where that keeps a phrase together: of all choices of octaves,
    the one with the fewest moved notes and the fewest changes of octave (Viterbi 1967).

    Args:
        line: pitch of each step, `REST` where there is none; any other number is a pitch.
        model: whose pitches count.

    Returns:
        The line, and how many notes were moved. A note of a pitch class that the model has no row
        for is a rest.
    """
    low, high = model.pitch_range
    starts = np.flatnonzero(np.diff(line, prepend=REST - 1))
    runs = line[starts]
    notes = np.flatnonzero(runs != REST)
    pitches = runs[notes]
    if not len(pitches) or (low <= pitches.min() and pitches.max() <= high):
        return line, 0
    octaves = np.arange(-20, 21)
    moved = pitches[:, None] + 12 * octaves
    # Where the range is less than an octave, some notes fit nowhere.
    fits = (low <= moved) & (moved <= high)
    cost = np.where(fits, (octaves != 0) + 0.01 * np.abs(octaves), 1e6)
    total = cost[0]
    came_from = np.zeros(cost.shape, np.int64)
    for n in range(1, len(notes)):
        best = int(total.argmin())
        rested = notes[n] - notes[n - 1] > 1
        change = total[best] + (PAUSE if rested else BREAK)
        came_from[n] = np.where(change < total, best, np.arange(len(octaves)))
        total = np.minimum(change, total) + cost[n]
    choice, state = np.zeros(len(notes), np.int64), int(total.argmin())
    for n in range(len(notes) - 1, -1, -1):
        choice[n] = state
        state = int(came_from[n, state])
    rows = np.arange(len(notes))
    runs[notes] = np.where(fits[rows, choice], moved[rows, choice], REST)
    changed = int((runs[notes] != pitches).sum())
    return np.repeat(runs, np.diff(np.append(starts, len(line)))), changed


def remarks(model: Model, melody: Melody) -> Iterator[str]:
    """Remarks for the user on how this melody was changed for this model, one line each."""
    for damage in melody.score.damage:
        yield f"a damaged file: {damage}"
    pitched = [part for part in melody.score.parts if not part.is_drum]
    if len(pitched) > 1:
        number = next(n for n, part in enumerate(pitched, 1) if part is melody.part)
        same = namesakes(melody.score, melody.part)
        others = f"; so called are {', '.join(map(str, same))}, too" if same else ""
        yield (
            f"melody: track {number} of {len(pitched)}, {melody.part.name or 'unnamed'}{others} "
            "(another: --track)"
        )
    per_step = melody.score.ticks_per_beat / model.steps_per_beat
    below = int(np.count_nonzero(~melody.on_line))
    if below:
        yield (
            f"{below} of {len(melody.on_line)} notes are chords or a left hand, not melody: the "
            "network is not given them"
        )
    if melody.folded:
        low, high = model.pitch_range
        yield (
            f"{melody.folded} notes outside the model's MIDI pitches {low} to {high}, or beside "
            "such: the network is given them octaves away"
        )
    if (np.diff(melody.part.notes[:, :2], axis=1) < per_step / 2).any():
        shortest = f"1/{model.steps_per_beat} of a beat"
        yield f"notes much shorter than {shortest}: the network is given longer ones"
    if melody.shift:
        size, unit = abs(melody.shift), "semitone"
        if size % 12 == 0:
            size, unit = size // 12, "octave"
        yield (
            f"the melody was accompanied {size} {unit}{'s' * (size > 1)} "
            f"{'higher' if melody.shift > 0 else 'lower'} and moved back"
        )
    if melody.steps > model.window_steps:
        beats = melody.steps / model.steps_per_beat
        trained = model.window_steps / model.steps_per_beat
        yield (
            f"{beats:g} beats in one pass; the model was trained on windows of {trained:g} beats"
        )
