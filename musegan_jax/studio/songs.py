"""Songs of the page as MIDI and sound, and MIDI files as melodies for the page."""

import io
from typing import Any

import mido
import numpy as np

from musegan_jax.data import melodies, midi
from musegan_jax.data.melody_line import melody_likeness
from musegan_jax.errors import UserError
from musegan_jax.files import AnyPath
from musegan_jax.pianoroll import Track
from musegan_jax.rendering import audio
from musegan_jax.studio.asking import KEYS, MINORS, TEMPOS, Sheet, Song, Voice, key_of


def to_midi(sheet: Sheet, voices: tuple[Voice, ...]) -> mido.MidiFile:
    """A song as a MIDI file, its notes exactly where the page has them."""
    song = mido.MidiFile(type=1, ticks_per_beat=midi.TICKS_PER_BEAT)
    beats, unit = sheet.metre
    marks = [
        mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(sheet.bpm)),
        mido.MetaMessage("time_signature", numerator=beats, denominator=unit),
    ]
    if sheet.key:
        marks.append(mido.MetaMessage("key_signature", key=sheet.key))
    song.tracks = [mido.MidiTrack(marks)]
    tracks = [Track(voice.name, voice.program, voice.is_drum) for voice in voices]
    for voice, channel in zip(voices, midi.channels(tracks), strict=True):
        song.tracks.append(midi.note_track(voice.name, channel, voice.program, voice.notes))
    return song


def midi_bytes(song: Song) -> bytes:
    """A song as the content of a MIDI file."""
    buffer = io.BytesIO()
    to_midi(song.sheet, song.voices).save(file=buffer)
    return buffer.getvalue()


def write_wav(song: Song, path: AnyPath) -> None:
    """A song as a WAV file, from its first bar line on; of a long one the beginning.

    Raises:
        UserError: if it cannot be written.
    """
    audio.write_wav(midi.parse(to_midi(song.sheet, song.voices), "the song"), path)


def opened(content: bytes) -> dict[str, Any]:
    """A MIDI file for the page: its pitched tracks in the page's ticks, and which is likeliest.

    Raises:
        UserError: if it cannot be read, or nothing in it has a pitch.
    """
    score = midi.from_bytes(content, "the file")
    pitched = [part for part in score.parts if not part.is_drum]
    if not pitched:
        raise UserError("the file has no notes with a pitch: choose one with a melody")
    likely = max(range(len(pitched)), key=lambda n: melody_likeness(score, pitched[n]))
    factor = midi.TICKS_PER_BEAT / score.ticks_per_beat
    _, beats, unit = score.meters[0]
    bpm = 60e6 / score.tempos[0][1]
    key = key_of(score.midi)
    return {
        "tracks": [
            {"name": part.name or "unnamed", "program": part.program, "notes": _notes(part, factor)}
            for part in pitched
        ],
        "likely": likely,
        "bpm": round(min(max(bpm, TEMPOS[0]), TEMPOS[1]), 2),
        "metre": [beats, unit if unit <= 16 else 4],
        "key": key if key in (*KEYS, *MINORS) else None,
        "remarks": _lost(score),
    }


def built_in(name: str) -> dict[str, Any]:
    """A built-in melody, as `opened` gives it."""
    buffer = io.BytesIO()
    melodies.melody(name).midi.save(file=buffer)
    return opened(buffer.getvalue())


def _notes(part: midi.Part, factor: float) -> list[list[int]]:
    notes = part.notes.copy()
    notes[:, :2] = np.floor(notes[:, :2] * factor + 0.5)
    notes[:, 1] = np.maximum(notes[:, 1], notes[:, 0] + 1)
    return notes.tolist()


def _lost(score: midi.Score) -> list[str]:
    """What of the file the page does not have."""
    said = [f"a damaged file: {damage}" for damage in score.damage]
    if len(score.tempos) > 1:
        said.append("the file changes its tempo; the page keeps the first")
    if len(score.meters) > 1:
        said.append("the file changes its metre; the page keeps the first")
    return said
