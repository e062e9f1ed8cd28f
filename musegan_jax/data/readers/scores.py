"""The reader of scores from notation programs: MusicXML, ABC and kern, by music21.

music21 is imported where it is used: it is an extra, and takes seconds. Its own way to open files
keeps pickles in the folder for temporary files and loads them again, so content is handed to it
from memory.
"""

import contextlib
import importlib.util
import io
import itertools
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import mido
import numpy as np

from musegan_jax import files, limits, pianoroll
from musegan_jax.data import midi
from musegan_jax.data.readers.midi_folder import Kind, read_folder
from musegan_jax.data.readers.songs import Options, Reading
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

XML, MXL, ABC, KERN = (".musicxml", ".xml"), (".mxl",), (".abc",), (".krn", ".kern")
SUFFIXES = (*XML, *MXL, *ABC, *KERN)
VELOCITY = 90  # a score has none
FORMATS = {**dict.fromkeys(ABC, "abc"), **dict.fromkeys(KERN, "humdrum")}
KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
MINORS = tuple(f"{key}m" for key in (*KEYS[3:], "G#", "D#", "A#"))
CHORDS = Track("Chords", 0)  # the part of the chord symbols


def check_installed() -> None:
    """Raises `UserError` if music21 is not installed."""
    if importlib.util.find_spec("music21") is None:
        raise UserError(
            "scores are read and written by the package music21, which is not installed: "
            "pip install music21, or uv run --extra music21"
        )


def read_score_folder(folder: str | Path, options: Options) -> Reading:
    """Read every file of MusicXML, ABC or kern below a folder; see `midi_folder.read_folder`.

    A file of several tunes, as ABC's may be, gives a piece for each.

    Raises:
        UserError: if music21 is not installed, or no file gave a piece.
    """
    check_installed()
    return read_folder(folder, KIND, options)


def read(path: str | Path) -> list[midi.Score]:
    """The tunes of a file, at concert pitch, with ties joined, without repeats and grace notes.

    Chord symbols become a part of their own, in which each sounds until the next. A pick-up fills
    the end of the first bar.

    Raises:
        UserError: if music21 is not installed, or cannot read the file; if it is too large.
    """
    check_installed()
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path}: not a file; give a score")
        _check_size(path.stat().st_size, _most(suffix), str(path))
        return from_bytes(path.read_bytes(), suffix, str(path))
    except OSError as error:
        raise files.unreadable(path, error, _called(suffix)) from error


def from_bytes(content: bytes, suffix: str, name: str) -> list[midi.Score]:
    """The same from a file's content; `suffix` is one of `SUFFIXES`, `name` is for messages."""
    check_installed()
    try:
        _check_size(len(content), _most(suffix), name)
        # It warns of much that is of no matter, some of it by printing.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            text = _text(_unpacked(content, suffix, name))
            tunes = _tunes(text, suffix)
            programs = {} if suffix in FORMATS else _programs(text)
            scores = [_score(tune, programs) for tune in tunes]
        for score in scores:
            midi.check_length(score, name)
        return scores
    except UserError:
        raise
    # A damaged file can make the parsers raise anything.
    except Exception as error:
        raise files.unreadable(name, error, _called(suffix)) from error


def _called(suffix: str) -> str:
    return {"abc": "ABC", "humdrum": "kern"}.get(FORMATS.get(suffix, ""), "MusicXML")


def _most(suffix: str) -> int:
    return limits.MAX_TEXT_BYTES if suffix in FORMATS else limits.MAX_XML_BYTES


def _check_size(size: int, most: int, name: str) -> None:
    if size > most:
        raise UserError(
            f"{name}: {size / 2**20:.0f} MiB long; up to {most // 2**20} MiB are read: is it one "
            "piece of music?"
        )


def _unpacked(content: bytes, suffix: str, name: str) -> bytes:
    """A file's content, or the score inside a compressed one, which its container names."""
    if suffix not in MXL:
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        listing = archive.getinfo("META-INF/container.xml")
        _check_size(listing.file_size, limits.MAX_TEXT_BYTES, name)
        container = ElementTree.fromstring(archive.read(listing))
        rootfile = next(e for e in container.iter() if e.tag.endswith("rootfile"))
        member = archive.getinfo(rootfile.attrib["full-path"])
        _check_size(member.file_size, _most(suffix), name)
        return archive.read(member)


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _tunes(text: str, suffix: str) -> Sequence[Any]:
    """The file as music21's streams, one for each tune."""
    if suffix not in FORMATS:
        if "<!ENTITY" in text:  # a few of them can make gigabytes
            raise ValueError("it declares XML entities")
        if text.count("<score-part ") > limits.MAX_TRACKS:
            raise ValueError(f"more than {limits.MAX_TRACKS} parts")
    from music21 import converter, stream

    found = converter.parseData(text, format=FORMATS.get(suffix, "musicxml"))
    return list(found.scores) if isinstance(found, stream.Opus) else [found]


def _programs(text: str) -> dict[str, int]:
    """The program of each part of MusicXML, by its id.

    music21 keeps only those of which it knows the instrument.
    """
    listed = text[text.find("<part-list") : text.find("</part-list>") + len("</part-list>")]
    found = {}
    for part in ElementTree.fromstring(listed).iter("score-part"):
        program = part.findtext("midi-instrument/midi-program", "").strip()
        if program.isascii() and program.isdecimal() and 1 <= int(program) <= 128:
            found[part.get("id", "")] = int(program) - 1
    return found


KIND = Kind("MusicXML, ABC or kern", SUFFIXES, read, bounded=False)


class _Row(NamedTuple):
    """A note, in quarter notes from the beginning."""

    pitch: int
    start: Fraction
    end: Fraction
    tied: bool  # to the one before


def _score(tune: Any, programs: dict[str, int]) -> midi.Score:
    if tune.atSoundingPitch is False:
        tune.toSoundingPitch(inPlace=True)
    parts = list(tune.parts) or [tune]
    if len(parts) > limits.MAX_TRACKS:
        raise ValueError(f"{len(parts)} parts; up to {limits.MAX_TRACKS} are read")
    first = parts[0].flatten()
    late = _missing(parts[0], first)
    tracks, every, symbols, left_out = [], [], [], 0
    for part in parts:
        flat = part.flatten()
        rows, omitted = _notes(flat)
        left_out += omitted
        symbols += _symbols(flat)
        tracks.append(_track(part, flat, programs))
        every.append(rows)
    end = max((row.end for rows in every for row in rows), default=Fraction(0))
    if symbols:
        tracks.append(CHORDS)
        every.append(list(_held(symbols, end)))
    file = mido.MidiFile(type=1, ticks_per_beat=midi.TICKS_PER_BEAT)
    file.tracks = [_marks(first, late)]
    for track, channel, rows in zip(tracks, midi.channels(tracks), every, strict=True):
        notes = np.array(
            [(_tick(s + late), _tick(e + late), p, VELOCITY) for p, s, e, _ in _joined(rows)],
            np.int64,
        ).reshape(-1, 4)
        notes = notes[notes[:, 0] < notes[:, 1]]
        file.tracks.append(midi.note_track(track.name, channel, track.program, notes))
    damage = (f"{left_out} notes outside MIDI's pitches, left out",) if left_out else ()
    score = midi.parse(file, "score")
    return midi.Score(score.midi, score.parts, score.tempos, score.meters, damage)


def _tick(quarters: Fraction) -> int:
    if quarters > midi.MAX_BEATS:
        raise ValueError(f"a note at beat {float(quarters):.0f}; up to {midi.MAX_BEATS} are read")
    return round(quarters * midi.TICKS_PER_BEAT)


def _exact(quarters: Any) -> Fraction:
    return Fraction(quarters).limit_denominator(midi.TICKS_PER_BEAT)


def _missing(part: Any, flat: Any) -> Fraction:
    """Quarter notes by which the first measure is shorter than a bar: what precedes a pick-up."""
    measures = list(part.getElementsByClass("Measure"))
    meters = list(flat.getElementsByClass("TimeSignature"))
    if len(measures) < 2 or not meters or meters[0].offset > 0:
        return Fraction(0)
    length = _exact(measures[1].offset) - _exact(measures[0].offset)
    bar = _exact(meters[0].barDuration.quarterLength)
    return bar - length if 0 < length < bar else Fraction(0)


def _notes(flat: Any) -> tuple[list[_Row], int]:
    """The notes of a part, and how many are left out."""
    from music21 import harmony

    rows, left_out = [], 0
    for each in flat.notes:
        length = _exact(each.duration.quarterLength)
        if isinstance(each, harmony.Harmony) or each.duration.isGrace or length <= 0:
            continue
        start = _exact(each.offset)
        for note in getattr(each, "notes", (each,)):
            pitch = _pitch(note)
            if pitch is None or not 0 <= pitch < pianoroll.MIDI_PITCHES:
                left_out += 1
                continue
            tie = note.tie or each.tie
            tied = tie is not None and tie.type in ("stop", "continue")
            rows.append(_Row(pitch, start, start + length, tied))
    return rows, left_out


def _keys(flat: Any) -> Iterable[Any]:
    """Key signatures; of two at one place, that which knows its mode: kern has both."""
    found = sorted(flat.getElementsByClass("KeySignature"), key=lambda key: hasattr(key, "mode"))
    return {key.offset: key for key in found}.values()


def _pitch(note: Any) -> int | None:
    """The MIDI pitch; of percussion, the key of the General MIDI drum kit."""
    if hasattr(note, "pitch"):
        return int(note.pitch.midi)
    instrument = getattr(note, "storedInstrument", None)
    return getattr(instrument, "percMapPitch", None)


def _symbols(flat: Any) -> list[tuple[Fraction, list[int]]]:
    from music21 import harmony

    return [
        (_exact(each.offset), [int(pitch.midi) for pitch in each.pitches])
        for each in flat.getElementsByClass(harmony.ChordSymbol)
    ]


def _held(symbols: list[tuple[Fraction, list[int]]], end: Fraction) -> Iterator[_Row]:
    """Chord symbols as notes, each until the next."""
    symbols.sort(key=lambda symbol: symbol[0])
    for (start, pitches), (until, _) in itertools.pairwise([*symbols, (end, [])]):
        for pitch in pitches:
            if start < until and 0 <= pitch < pianoroll.MIDI_PITCHES:
                yield _Row(pitch, start, until, False)


def _joined(rows: list[_Row]) -> list[_Row]:
    """Ties joined; of notes that overlap at one pitch, the first ends where the second begins.

    A key cannot be down twice: in MIDI, the first release would end both.
    """
    joined: list[_Row] = []
    for row in sorted(rows):
        last = joined[-1] if joined and joined[-1].pitch == row.pitch else None
        if last is None or row.start > last.end or (row.start == last.end and not row.tied):
            joined.append(row)
        elif row.start == last.start or row.tied:
            joined[-1] = last._replace(end=max(last.end, row.end))
        else:
            joined[-1] = last._replace(end=row.start)
            joined.append(row._replace(end=max(last.end, row.end)))
    return joined


def _track(part: Any, flat: Any, programs: dict[str, int]) -> Track:
    """The name, program and drum flag of a part."""
    from music21 import instrument

    found = next(iter(flat.getElementsByClass(instrument.Instrument)), None)
    name = str(part.partName or getattr(found, "partName", None) or "")
    # A part of several staves is several of music21's, called P1-Staff1 and so on.
    own = str(getattr(found, "partId", None) or part.id).split("-Staff")[0]
    program = programs.get(own, getattr(found, "midiProgram", None))
    drums = getattr(found, "midiChannel", None) == midi.DRUM_CHANNEL or bool(
        flat.getElementsByClass(["Unpitched", "PercussionChord"])
    )
    if type(program) is not int or not 0 <= program < 128:
        program = 0
    return Track(name[: pianoroll.MAX_NAME], program, drums)


def _marks(flat: Any, late: Fraction) -> mido.MidiTrack:
    """Meters, keys and tempos of the first part, `late` quarter notes later, as a MIDI track."""
    timed: list[tuple[int, mido.MetaMessage]] = []

    def add(element: Any, kind: str, **values: Any) -> None:
        offset = _exact(element.offset)
        tick = _tick(offset + late) if offset else 0
        timed.append((tick, mido.MetaMessage(kind, **values)))

    for each in flat.getElementsByClass("TimeSignature"):
        if 0 < each.numerator < 256:
            add(each, "time_signature", numerator=each.numerator, denominator=each.denominator)
    for each in _keys(flat):
        names = MINORS if getattr(each, "mode", None) == "minor" else KEYS
        if abs(each.sharps) <= 7:
            add(each, "key_signature", key=names[each.sharps + 7])
    for each in flat.getElementsByClass("MetronomeMark"):
        bpm = each.getQuarterBPM()
        low, high = limits.LIMITS["bpm"]
        if bpm and max(low, 4) <= bpm <= high:  # MIDI has no beat longer than 16.7 seconds
            add(each, "set_tempo", tempo=mido.bpm2tempo(bpm))
    track, now = mido.MidiTrack(), 0
    for tick, message in sorted(timed, key=lambda pair: pair[0]):
        track.append(message.copy(time=tick - now))
        now = tick
    return track
