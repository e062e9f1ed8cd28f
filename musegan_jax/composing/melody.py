"""From a MIDI file to the network's condition."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import melodies, midi
from musegan_jax.errors import UserError
from musegan_jax.models.model import Model
from musegan_jax.terminal import shown

# Of a melody: the network's memory grows with its steps, by 21 kB a step with the shipped model.
MAX_STEPS = 20_000


class Melody(NamedTuple):
    """A part of a MIDI file, prepared as the network's condition.

    Attributes:
        score: the file.
        part: the part's original notes, in ticks.
        condition: bool `(T, 128)`, the part's top line in the model's range, from step `offset`.
        offset: the step at which the first sounding bar begins.
        steps: length; `condition` is padded beyond it to a multiple of the network's stride.
        shift: semitones from the part's original pitches to those of the condition.
    """

    score: midi.Score
    part: midi.Part
    condition: np.ndarray
    offset: int
    steps: int
    shift: int


def load_melody(name_or_path: str) -> midi.Score:
    """A built-in melody by name, or a MIDI file.

    Raises:
        UserError: if it is neither, or cannot be read.
    """
    if name_or_path in melodies.MELODIES:
        return melodies.melody(name_or_path)
    if not os.path.exists(name_or_path):
        raise UserError(
            f"{name_or_path}: no such file, and no built-in melody ({', '.join(melodies.MELODIES)})"
        )
    return midi.read(name_or_path)


def pick_part(score: midi.Score, track: str | None, name: str) -> midi.Part:
    """The part to accompany: given by name or number (from 1), else the most likely melody.

    Raises:
        UserError: if there is no such part, or no pitched part.
    """
    pitched = [part for part in score.parts if not part.is_drum]
    if not score.parts:
        raise UserError(f"{name}: it has no notes; give a file with a melody")
    if not pitched:
        raise UserError(f"{name}: it has drums only; give a file with a melody")
    if track is None:
        return max(pitched, key=melody_likeness)
    names = [shown(part.name, 40) or "unnamed" for part in pitched]
    listed = "; ".join(f"{n} {name}" for n, name in enumerate(names, 1))
    if track.isdecimal() and 1 <= int(track) <= len(pitched):
        return pitched[int(track) - 1]
    named = [part for part in pitched if part.name.casefold() == track.casefold()]
    if not named:
        raise UserError(f"{name}: no track {track!r}; it has {listed}")
    return named[0]


def melody_likeness(part: midi.Part) -> float:
    """A score of how much a part looks like a melody: by name, single line, high, busy."""
    telling = ("melody", "vocal", "voice", "lead", "soprano", "sopran", "solo", "cantus")
    named = any(word in part.name.casefold() for word in telling)
    starts, ends, pitches = part.notes[:, 0], part.notes[:, 1], part.notes[:, 2]
    sounding = int((ends - starts).sum())
    # Overlap with the notes before: 0 for a single line, near 1 for chords.
    overlap = np.maximum(np.maximum.accumulate(ends)[:-1] - starts[1:], 0).sum() / max(sounding, 1)
    span = max(int(ends.max() - starts.min()), 1)
    return 2.0 * named - 2.0 * overlap + float(pitches.mean()) / 24 + min(sounding / span, 1.0)


def prepare(score: midi.Score, part: midi.Part, model: Model, shift: int | None = None) -> Melody:
    """Put a part on the model's grid and into its range.

    Of notes that sound together only the highest is used.

    Args:
        score: the file.
        part: its melody.
        model: the model that will accompany it.
        shift: semitones by which to transpose it up; None for the octaves with which it overlaps
            most with the melodies of the training data.

    Raises:
        UserError: if it is too long, or does not fit into the model's range.
    """
    per_step = score.ticks_per_beat / model.steps_per_beat
    notes = midi.quantise(part.notes, per_step)
    lines = midi.quantise_ticks(score.bar_lines(), per_step)
    offset = int(lines[lines <= notes[0, 0]].max())
    end = int(notes[:, 1].max())
    # To the end of the last bar, so that the accompaniment fills it.
    steps = min((int(line) for line in lines if line >= end), default=end) - offset
    if steps > MAX_STEPS:
        raise UserError(
            f"the melody lasts {steps / model.steps_per_beat:.0f} beats from its first note; up to "
            f"{MAX_STEPS // model.steps_per_beat} are accompanied by this model: give a part of it"
        )
    roll = midi.to_roll(notes - np.array([offset, offset, 0, 0]), steps)
    top = pianoroll.MIDI_PITCHES - 1 - roll[:, ::-1].argmax(axis=1)
    line = np.zeros_like(roll)
    sounding = roll.any(axis=1)
    line[sounding, top[sounding]] = True
    shift = _octaves(top[sounding], model) if shift is None else shift
    _check_range(top[sounding] + shift, model)
    room = -(-steps // model.stride) * model.stride
    condition = np.zeros((room, pianoroll.MIDI_PITCHES), bool)
    condition[:steps] = pianoroll.transpose(line[:, :, None], shift)[:, :, 0]
    return Melody(score, part, condition, offset, steps, shift)


def _octaves(pitches: np.ndarray, model: Model) -> int:
    """The shift in octaves that puts most steps into the training melodies' range; the smallest."""
    low, high = model.pitch_range
    fitting = [
        12 * octave
        for octave in range(-10, 11)
        if low <= pitches.min() + 12 * octave and pitches.max() + 12 * octave <= high
    ]

    def outside(shift: int) -> tuple[int, int]:
        moved = pitches + shift
        trained_low, trained_high = model.music.ranges[model.config.condition_track]
        return int(((moved < trained_low) | (moved > trained_high)).sum()), abs(shift)

    return min(fitting, key=outside, default=0)


def _check_range(pitches: np.ndarray, model: Model) -> None:
    low, high = model.pitch_range
    if pitches.min() < low or pitches.max() > high:
        raise UserError(
            f"the melody spans MIDI pitches {pitches.min()} to {pitches.max()} as given to the "
            f"network, which do not fit the model's {low} to {high}; remove stray notes, choose "
            "another track, or another --key"
        )


def remarks(model: Model, melody: Melody) -> Iterator[str]:
    """Remarks for the user on how this melody was changed for this model, one line each."""
    pitched = sum(not part.is_drum for part in melody.score.parts)
    if pitched > 1:
        name = shown(melody.part.name, 40) or f"of program {melody.part.program}"
        yield f"melody: the track {name}, of {pitched} tracks (another: --track)"
    per_step = melody.score.ticks_per_beat / model.steps_per_beat
    notes = midi.quantise(melody.part.notes, per_step)
    if midi.to_roll(notes, int(notes[:, 1].max())).sum(axis=1).max() > 1:
        yield "notes that sound together: the network is given only the highest"
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
