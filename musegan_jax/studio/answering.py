"""Answers to what a page asks, one after the other, as plain values."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from musegan_jax.composing import melody, walk
from musegan_jax.composing.accompany import answer_melody, played, showing
from musegan_jax.composing.arrangement import generated_tracks
from musegan_jax.composing.decoding.held import Held
from musegan_jax.composing.melody import Melody
from musegan_jax.composing.walk import Flavour
from musegan_jax.data import melodies, midi
from musegan_jax.data.melody_line import pick_part
from musegan_jax.errors import UserError
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import MIDI_PITCHES, runs
from musegan_jax.studio import memory
from musegan_jax.studio.asking import Ask, Kept, Wanted
from musegan_jax.studio.songs import to_midi

BEGINNING = 256  # steps: of much longer melodies the beginning is answered first, to be heard
USUAL = (16, 8, 4, 12, 2, 1, 6, 10, 14, 24, 32)  # bars for which the network is compiled unasked


def about(model: Model, name: str) -> dict[str, Any]:
    """What a page must know of a model."""
    return {
        "name": name,
        "melody": model.config.condition_track,
        "tracks": [track._asdict() for track in model.tracks],
        "steps_per_beat": model.steps_per_beat,
        "most_beats": melody.MAX_STEPS // model.steps_per_beat,
        "range": model.pitch_range,
    }


def answers(model: Model, ask: Ask) -> Iterator[dict[str, Any]]:
    """What is said of the melody; the beginning of a long answer; each answer.

    Raises:
        UserError: if the melody cannot be answered, or what is to be kept is not the model's.
    """
    score = midi.parse(to_midi(ask.sheet, (ask.melody,)), "the melody")
    prepared = melody.prepare(score, pick_part(score, None, "the melody"), model)
    held = _held(model, prepared, ask.kept)
    prepared = showing(model, prepared, held)
    # How long the model's windows are is for those who train it.
    said = [line for line in melody.remarks(model, prepared) if "in one pass" not in line]
    yield {"remarks": said}
    if prepared.steps > 2 * BEGINNING:
        short = _beginning(model, prepared)
        signed = _answer(model, short, ask.wanted[0], ask.temperature)
        yield {
            "answer": 0,
            "beginning": True,
            "voices": _voices(model, short, played(model, short, signed, held=held), ()),
        }
    for n, wanted in enumerate(ask.wanted):
        signed = _answer(model, prepared, wanted, ask.temperature)
        made = played(model, prepared, signed, held=held)
        yield {"answer": n, "voices": _voices(model, prepared, made, ask.kept)}
    memory.give_back()


def _answer(model: Model, prepared: Melody, wanted: Wanted, temperature: float) -> np.ndarray:
    """The raw answer."""
    if len(wanted.ends) == 1:
        return answer_melody(model, prepared, *wanted.ends[0], temperature)
    return walk.answer_between(model, prepared, wanted.ends, wanted.place, temperature)


def _beginning(model: Model, prepared: Melody) -> Melody:
    steps = -(-BEGINNING // model.stride) * model.stride
    condition = prepared.condition[: steps + model.stride].copy()
    condition[steps:] = False
    beside = prepared.beside
    if beside is not None:
        beside = beside[: steps + model.stride].copy()
        beside[steps:] = False
    return prepared._replace(condition=condition, beside=beside, steps=steps)


def _held(model: Model, prepared: Melody, kept: tuple[Kept, ...]) -> Held | None:
    """What is kept, from the melody's first step on; a few ticks beside the grid go to it."""
    if not kept:
        return None
    per_step = midi.TICKS_PER_BEAT / model.steps_per_beat
    length = prepared.offset + prepared.steps
    roll = np.zeros((length, MIDI_PITCHES, len(model.tracks)), bool)
    where = np.zeros((length, len(model.tracks)), bool)
    for each in kept:
        if each.track not in generated_tracks(model):
            raise UserError("what is kept is of another model: ask without it, or choose that one")
        roll[..., each.track] = midi.to_roll(midi.quantise(each.notes, per_step), length)
        for start, end in midi.quantise_ticks(each.spans, per_step):
            where[start:end, each.track] = True
    return Held(roll[prepared.offset :], where[prepared.offset :])


def _voices(
    model: Model, prepared: Melody, made: np.ndarray, kept: tuple[Kept, ...]
) -> list[dict[str, Any]]:
    per_step = midi.TICKS_PER_BEAT / model.steps_per_beat
    end = (prepared.offset + prepared.steps) * per_step
    # A voice that is kept as a whole comes back as it is, with notes that a roll would join.
    whole = {
        each.track: each.notes[:, :3]
        for each in kept
        if any(start <= prepared.offset * per_step and stop >= end for start, stop in each.spans)
    }
    voices = []
    for k in generated_tracks(model):
        notes = runs(made[..., k])
        notes[:, :2] = np.round((notes[:, :2] + prepared.offset) * per_step)
        voices.append({"track": k, "notes": whole.get(k, notes).tolist()})
    return voices


def usual_lengths(model: Model) -> Iterator[Callable[[], Any]]:
    """Things to do while nobody asks, so that a first answer need not wait for a compiler."""
    score = melodies.melody("ode_to_joy")
    prepared = melody.prepare(score, pick_part(score, None, "ode_to_joy"), model)
    for bars in USUAL:
        steps = -(-bars * 4 * model.steps_per_beat // model.stride) * model.stride
        condition = np.resize(prepared.condition, (steps + model.stride, MIDI_PITCHES))
        part = prepared._replace(condition=condition, steps=steps)
        yield functools.partial(_answer, model, part, Wanted((Flavour(0, 0),), (0.0, 0.0)), 1.0)
    yield memory.give_back
