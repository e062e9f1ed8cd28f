"""Rolls as notes, and as `pretty_midi.PrettyMIDI`, for programs that work with either.

For users only: the package itself reads and writes files with `midi`, in ticks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from musegan_jax import limits, pianoroll
from musegan_jax.data.midi import VELOCITY, quantise_ticks
from musegan_jax.pianoroll import MIDI_PITCHES, Track
from musegan_jax.shapes import Bool, Int

if TYPE_CHECKING:  # half a second to import
    from pretty_midi import PrettyMIDI


def roll_to_notes(roll: Bool[np.ndarray, "T 128 K"]) -> Int[np.ndarray, "N 4"]:
    """The notes of a roll, bool `(T, 128, K)`: int `(N, 4)` rows `start, end, pitch, track`.

    Start and end in time steps, end exclusive. A note is a maximal run at one pitch: a roll
    has no repeated notes. By track, then start, then pitch.

    Raises:
        TypeError, ValueError: if it is not bool `(T, 128, K)`.
    """
    roll = _checked(roll)
    notes = [pianoroll.runs(roll[..., k]) for k in range(roll.shape[2])]
    tracks = np.repeat(np.arange(len(notes)), [len(each) for each in notes])
    return np.column_stack([np.concatenate([*notes, np.zeros((0, 3), int)]), tracks])


def notes_to_roll(
    notes: Int[np.ndarray, "N 4"], steps: int, tracks: int
) -> Bool[np.ndarray, "T 128 K"]:
    """The inverse of `roll_to_notes`: bool `(steps, 128, tracks)`.

    Raises:
        TypeError: if `notes` is not int.
        ValueError: if it is not `(N, 4)`, or has a start, end, pitch or track out of range: no note
            is cut or left out; if `steps` or `tracks` is below 0.
    """
    notes = np.asarray(notes)
    notes = notes.reshape(-1, 4).astype(int) if not notes.size else notes
    if notes.ndim != 2 or notes.shape[1] != 4:
        raise ValueError(
            f"notes has shape {notes.shape}; it must be (N, 4): rows start, end, pitch, track"
        )
    if not np.issubdtype(notes.dtype, np.integer):
        raise TypeError(f"notes has dtype {notes.dtype}; it must be int: time steps, not seconds")
    if steps < 0 or tracks < 0:
        raise ValueError(f"steps = {steps}, tracks = {tracks}: neither may be below 0")
    roll = np.zeros((steps, MIDI_PITCHES, tracks), bool)
    for start, end, pitch, track in notes:
        if not 0 <= start < end or not 0 <= pitch < MIDI_PITCHES or not 0 <= track < tracks:
            raise ValueError(
                f"note start {start}, end {end}, pitch {pitch}, track {track}: start must be 0 or "
                f"more, end after it, pitch 0 to 127, track 0 to {tracks - 1}"
            )
        if end > steps:
            raise ValueError(
                f"note start {start}, end {end}: it ends after the roll, of steps = {steps}; give "
                "more steps, or cut it before"
            )
        roll[start:end, pitch, track] = True
    return roll


def to_pretty_midi(
    roll: np.ndarray, tracks: Sequence[Track], steps_per_beat: int = 4, bpm: float = 100.0
) -> "PrettyMIDI":
    """A roll, bool `(T, 128, K)`, as a `pretty_midi.PrettyMIDI` with one instrument per track.

    Args:
        roll: True where a note sounds.
        tracks: K, for example `model.tracks`.
        steps_per_beat: time steps in a quarter note.
        bpm: quarter notes a minute.

    Raises:
        TypeError, ValueError: if the roll is not bool `(T, 128, K)`, if K and `tracks` differ, or
            another argument or a track's program is out of range.
    """
    roll = _checked(roll)
    steps_per_beat = limits.whole("steps_per_beat", steps_per_beat)
    bpm = limits.number("bpm", bpm)
    if not all(isinstance(track, Track) for track in tracks):
        raise TypeError("tracks must be musegan_jax.Track each: name, program, is_drum")
    if len(tracks) != roll.shape[2]:
        raise ValueError(
            f"the roll has {roll.shape[2]} tracks (K, its last axis), not {len(tracks)}"
        )
    for track in tracks:
        limits.whole("program", track.program, f"program of the track {track.name}")
    import pretty_midi

    song = pretty_midi.PrettyMIDI(initial_tempo=bpm)
    seconds = 60 / bpm / steps_per_beat
    song.instruments = [pretty_midi.Instrument(t.program, t.is_drum, t.name) for t in tracks]
    for start, end, pitch, track in roll_to_notes(roll).tolist():
        note = pretty_midi.Note(VELOCITY, pitch, start * seconds, end * seconds)
        song.instruments[track].notes.append(note)
    return song


def from_pretty_midi(song: "PrettyMIDI", steps_per_beat: int = 4) -> tuple[np.ndarray, list[Track]]:
    """A `pretty_midi.PrettyMIDI` as a roll, each start and end rounded to the nearest step.

    Args:
        song: of any tempo.
        steps_per_beat: time steps in a quarter note.

    Returns:
        Bool `(T, 128, K)` with one track per instrument, and the tracks. T: end of the last note.

    Raises:
        TypeError: if it is no `PrettyMIDI` (of a file: `pretty_midi.PrettyMIDI(path)`), or
            `steps_per_beat` no int.
        ValueError: if `steps_per_beat` is not from 1 to 96.
    """
    steps_per_beat = limits.whole("steps_per_beat", steps_per_beat)
    if not hasattr(song, "instruments"):
        raise TypeError(f"song is a {type(song).__name__}; give a pretty_midi.PrettyMIDI(path)")
    tracks = [Track(each.name, each.program, each.is_drum) for each in song.instruments]
    per_step = song.resolution / steps_per_beat
    rows = []
    for k, instrument in enumerate(song.instruments):
        for note in instrument.notes:
            ticks = np.array([song.time_to_tick(note.start), song.time_to_tick(note.end)])
            start, end = quantise_ticks(ticks, per_step).tolist()
            rows.append((start, max(end, start + 1), note.pitch, k))
    notes = np.array(rows, int).reshape(-1, 4)
    return notes_to_roll(notes, int(notes[:, 1].max(initial=0)), len(tracks)), tracks


def _checked(roll: Any) -> np.ndarray:
    roll = np.asarray(roll)
    if roll.ndim != 3 or roll.shape[1] != MIDI_PITCHES:
        raise ValueError(
            f"the roll has shape {roll.shape}; it must be (T, 128, K): time steps, MIDI pitches, "
            "tracks"
        )
    if roll.dtype != bool:
        raise TypeError(
            f"the roll has dtype {roll.dtype}; it must be bool: True where a note sounds"
        )
    return roll
