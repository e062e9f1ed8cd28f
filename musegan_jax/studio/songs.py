"""Songs of the page as MIDI, score and sound, and files of others as melodies for the page."""

import functools
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np

from musegan_jax.data import melodies, midi, notation
from musegan_jax.data.melody_line import melody_likeness
from musegan_jax.data.readers import scores, workers
from musegan_jax.errors import UserError
from musegan_jax.files import AnyPath
from musegan_jax.pianoroll import Track
from musegan_jax.rendering import audio
from musegan_jax.studio.asking import KEYS, MINORS, TEMPOS, Sheet, Song, Voice, key_of

# Where a tune of ABC begins: a file may hold thousands.
TUNE = re.compile(rb"(?m)^(?:\xef\xbb\xbf)?[ \t]*X:")
SIXTEENTHS = 4  # steps in a quarter note of a score, unless the notes need finer ones
SECONDS = 30  # of a processor, in which a score must be read or written
MEMORY = 2**30  # bytes, likewise
OTHER = (
    "the file: not music that can be read here; open MIDI, MusicXML, ABC, kern or a saved session"
)


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


def musicxml(song: Song) -> dict[str, Any]:
    """A song as the text of a MusicXML file, and what of it had to be moved.

    Raises:
        UserError: if music21 is not installed, or cannot express it.
    """
    scores.check_installed()
    return _bounded(_musicxml, song)


def _musicxml(song: Song) -> dict[str, Any]:
    voices = _notated(song.voices)
    score = midi.parse(to_midi(song.sheet, voices), "the song")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song.musicxml"
        exact = notation.write(score, path, "Song", SIXTEENTHS)
        text = path.read_text(encoding="utf-8")
    moved = "notes beside the grid are at the nearest sixteenth in the score"
    return {"text": text, "remarks": [] if exact else [moved]}


def _notated(voices: tuple[Voice, ...]) -> tuple[Voice, ...]:
    """The voices with their ends on the grid of their starts, if that is one that is written.

    Notes that are played a little short would otherwise be taken for a rhythm that nobody writes,
    and a tune in triplets be moved to sixteenths.
    """
    starts = np.concatenate([voice.notes[:, 0] for voice in voices])
    for steps in (SIXTEENTHS, 3 * SIXTEENTHS, 6 * SIXTEENTHS):
        grid = midi.TICKS_PER_BEAT // steps
        if (starts % grid == 0).all():
            return tuple(v._replace(notes=_rounded(v.notes, grid)) for v in voices)
    return voices


def _rounded(notes: np.ndarray, grid: int) -> np.ndarray:
    notes = notes.copy()
    ends = (notes[:, 1] + grid // 2) // grid * grid
    notes[:, 1] = np.maximum(ends, notes[:, 0] + grid)
    return notes


def opened(content: bytes) -> dict[str, Any]:
    """A file for the page: its pitched tracks in the page's ticks, and which is likeliest.

    What it is, MIDI, MusicXML, ABC or kern, is told from the content.

    Raises:
        UserError: if it cannot be read, or nothing in it has a pitch; if it is a score, and music21
            is not installed.
    """
    score, remarks = _read(content)
    pitched = [part for part in score.parts if not part.is_drum]
    if not pitched:
        raise UserError("the file has no notes with a pitch; open one with a melody")
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
        "remarks": [*remarks, *_lost(score)],
    }


def _read(content: bytes) -> tuple[midi.Score, list[str]]:
    suffix = _score_suffix(content)
    if suffix is None:
        if b"MThd" not in content[:256]:
            raise UserError(OTHER)
        return midi.from_bytes(content, "the file"), []
    begins = [found.start() for found in TUNE.finditer(content)] if suffix == ".abc" else []
    if len(begins) > 1:  # before it is parsed: of a large collection that takes minutes
        content = content[: begins[1]]
    scores.check_installed()
    tune, count = _bounded(_first_tune, content, suffix)
    count = max(len(begins), count)
    return tune, [f"the file has {count} tunes; this is the first"] if count > 1 else []


def _first_tune(content: bytes, suffix: str) -> tuple[midi.Score, int]:
    """The first tune of a score, and how many there are."""
    tunes = scores.from_bytes(content, suffix, "the file")
    return tunes[0], len(tunes)


def _bounded(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function makes of its arguments, in a process that may not take long, nor much memory.

    So music21, which takes minutes for some files, holds up nobody and leaves nothing behind.

    Raises:
        UserError: if it takes too much; what the function raises of these.
    """
    work = functools.partial(_caught, function)
    ((made,),) = workers.each(work, [[arguments]], 1, SECONDS, MEMORY)
    if isinstance(made, workers.Ended):
        raise UserError(f"the score {made.reason}: give a part of it")
    if isinstance(made, UserError):
        raise made
    return made


def _caught(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except UserError as error:
        return error


def _score_suffix(content: bytes) -> str | None:
    """The suffix that a score with this content has; None if it is none."""
    if content.startswith(b"PK\x03\x04") and b"META-INF/container.xml" in content:
        return ".mxl"
    head = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"<", b"\xff\xfe", b"\xfe\xff")) and b"<score-" in _narrow(content):
        return ".musicxml"
    lines = head.splitlines()
    if any(line.startswith(b"**kern") for line in lines):
        return ".krn"
    if any(line.startswith(b"X:") for line in lines) and any(b"K:" in line for line in lines):
        return ".abc"
    return None


def _narrow(content: bytes) -> bytes:
    """ASCII of UTF-16 as bytes of one character each."""
    return content.replace(b"\0", b"")


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
