"""What a page may send, checked before anything is made of it.

Times are ticks, `midi.TICKS_PER_BEAT` (480) in a quarter note, from the first bar line; a note is
a list `[start, end, pitch]`, or with a velocity as fourth. Errors are UserErrors, for people.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mido
import numpy as np

from musegan_jax import limits
from musegan_jax.composing.melody import MAX_STEPS
from musegan_jax.composing.walk import Flavour
from musegan_jax.data import midi
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import MAX_NAME
from musegan_jax.terminal import is_text

MAX_BODY = 4 * midi.MAX_BYTES  # a melody of `MAX_NOTES` as JSON is 2 MiB
MAX_NOTES = 50_000
MAX_TICKS = midi.MAX_BEATS * midi.TICKS_PER_BEAT
MOST_ANSWERS = 9  # eight flavours, or a grid of 3 x 3
MOST_VOICES = 16
TEMPOS = (20, 400)
KEYS = ("C", "G", "D", "A", "E", "B", "F#", "C#", "F", "Bb", "Eb", "Ab", "Db", "Gb", "Cb")
MINORS = ("Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m", "Dm", "Gm", "Cm", "Fm", "Bbm",
          "Ebm", "Abm")  # fmt: skip


class Voice(NamedTuple):
    """A track of a song: int64 `(N, 4)` notes in ticks, by start; its name, program, drum flag."""

    name: str
    program: int
    is_drum: bool
    notes: np.ndarray


class Sheet(NamedTuple):
    """What belongs to a whole song: its tempo (quarter notes a minute), metre and key."""

    bpm: float
    metre: tuple[int, int]
    key: str | None


class Kept(NamedTuple):
    """What is kept of a track: its notes, `(N, 4)` ticks, in spans of ticks, `(M, 2)`."""

    track: int
    notes: np.ndarray
    spans: np.ndarray


class Wanted(NamedTuple):
    """An answer that is wanted: a flavour, or a place between two or four."""

    ends: tuple[Flavour, ...]
    place: tuple[float, float]


class Ask(NamedTuple):
    """What a page asks for."""

    model: str
    sheet: Sheet
    melody: Voice
    wanted: tuple[Wanted, ...]
    temperature: float
    kept: tuple[Kept, ...]


class Song(NamedTuple):
    """What a page wants as a file."""

    sheet: Sheet
    voices: tuple[Voice, ...]


def ask(body: bytes) -> Ask:
    """The question in a body.

    Raises:
        UserError: if it is none.
    """
    return _read(body, _ask)


def song(body: bytes) -> Song:
    """The song in a body.

    Raises:
        UserError: if it is none.
    """
    return _read(body, _song)


def _read(body: bytes, read: Callable[[Mapping[str, Any]], Any]) -> Any:
    try:
        values = json.loads(body)
        if not isinstance(values, dict):
            raise TypeError("not an object")
        return read(values)
    except KeyError as error:
        raise UserError(f"the request lacks {error}") from error
    # Nesting too deep is a RecursionError, a number of thousands of digits a ValueError.
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the request is not of the form that the page sends ({error})") from error


def _ask(values: Mapping[str, Any]) -> Ask:
    melody = _voice({"name": "Melody", **values["melody"]})
    if not len(melody.notes):
        raise UserError("the melody has no notes: draw or play some")
    wanted = tuple(_wanted(each) for each in _list("wanted", values["wanted"], MOST_ANSWERS))
    if not wanted:
        raise ValueError("nothing is wanted")
    return Ask(
        model=_text("model", values["model"]),
        sheet=_sheet(values),
        melody=melody,
        wanted=wanted,
        temperature=limits.number("temperature", values["temperature"]),
        kept=tuple(_kept(each) for each in _list("kept", values.get("kept", []), MOST_VOICES)),
    )


def _song(values: Mapping[str, Any]) -> Song:
    voices = tuple(_voice(each) for each in _list("voices", values["voices"], MOST_VOICES))
    if not any(len(voice.notes) for voice in voices):
        raise UserError("no voice that is on has a note: there is nothing to save or to play")
    return Song(_sheet(values), voices)


def _sheet(values: Mapping[str, Any]) -> Sheet:
    bpm, key = values["bpm"], values.get("key")
    if type(bpm) not in (int, float) or not TEMPOS[0] <= bpm <= TEMPOS[1]:
        raise UserError(f"the tempo must be from {TEMPOS[0]} to {TEMPOS[1]} quarter notes a minute")
    beats, unit = (_whole("metre", each, 1, 32) for each in _list("metre", values["metre"], 2))
    if unit not in (1, 2, 4, 8, 16) or not 0.25 <= 4 * beats / unit <= 32:
        raise UserError(f"a metre of {beats}/{unit}: give one such as 4/4, 3/4 or 6/8")
    if key is not None and key not in (*KEYS, *MINORS):
        raise ValueError("no such key")
    return Sheet(float(bpm), (beats, unit), key)


def _voice(values: Any) -> Voice:
    drum = values.get("is_drum", False)
    if type(drum) is not bool:
        raise TypeError("is_drum must be true or false")
    program = _whole("program", values.get("program", 0), 0, 127)
    return Voice(_text("name", values["name"]), program, drum, _notes(values["notes"]))


def _kept(values: Any) -> Kept:
    spans = [
        (_whole("span", start, 0, MAX_TICKS), _whole("span", end, 0, MAX_TICKS))
        for start, end in _list("spans", values["spans"], MAX_STEPS)
    ]
    track = _whole("track", values["track"], 0, 1000)
    return Kept(track, _notes(values["notes"]), np.array(spans, np.int64).reshape(-1, 2))


def _wanted(values: Any) -> Wanted:
    ends = []
    for seed, sample in _list("ends", values["ends"], 4):
        ends.append(Flavour(limits.whole("seed", seed), _whole("sample", sample, 0, 999)))
    if len(ends) not in (1, 2, 4):
        raise ValueError("an answer lies at one flavour, or between two or four")
    across, down = values.get("place", (0, 0))
    for place in (across, down):
        if type(place) not in (int, float) or not 0 <= place <= 1:
            raise ValueError("a place lies between 0 and 1")
    return Wanted(tuple(ends), (float(across), float(down)))


def _notes(values: Any) -> np.ndarray:
    """Int64 `(N, 4)`: start, end, pitch, velocity, by start."""
    rows = []
    for row in _list("notes", values, MAX_NOTES):
        start, end, pitch, *loud = row
        velocity = _whole("velocity", loud[0], 1, 127) if loud else midi.VELOCITY
        end = _whole("end", end, 1, MAX_TICKS)
        rows.append((_whole("start", start, 0, end - 1), end, _whole("pitch", pitch, 0, 127),
                     velocity))  # fmt: skip
    return np.array(sorted(rows), np.int64).reshape(-1, 4)


def _list(name: str, value: Any, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list")
    if len(value) > most:
        raise UserError(f"{name}: {len(value)} are too many; up to {most} are taken")
    return value


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def _text(name: str, value: Any) -> str:
    if not is_text(value, MAX_NAME):
        raise TypeError(f"{name} must be text of up to {MAX_NAME} characters")
    return value


def key_of(song: mido.MidiFile) -> str | None:
    """The first key signature of a MIDI file."""
    return next((m.key for t in song.tracks for m in t if m.type == "key_signature"), None)
