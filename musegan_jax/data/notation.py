"""Scores as MusicXML, for notation programs; written by music21, imported where it is used.

Notes, ties, rests and voices are laid out here, in whole time steps, and music21 writes them as
they are: left to itself it would guess them from a stream of notes, and drop or move some.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from musegan_jax import files
from musegan_jax.data import midi
from musegan_jax.errors import UserError, first_line

NOBODY = b'<creator type="composer">Music21</creator>'  # whom music21 names where it knows no other
NEAR = 1 / 120  # of a quarter note; as far from the grid as a note may lie and be on it


class _Chord(NamedTuple):
    """Pitches from one time step to another; none: a rest."""

    start: int
    end: int
    pitches: tuple[int, ...]


def grid_of(score: midi.Score, steps_per_beat: int) -> tuple[int, bool]:
    """The coarsest grid, from the given one, on which all notes lie, and whether they do.

    Tried are `steps_per_beat` and its common multiple with 3, 12 and 24: a tune in triplets stays
    one. If the notes lie on none, it is `steps_per_beat`: nobody reads what a player's timing is.
    """
    edges = np.concatenate([np.zeros(0), *(part.notes[:, :2].ravel() for part in score.parts)])
    for grid in (steps_per_beat, *(math.lcm(steps_per_beat, n) for n in (3, 12, 24))):
        steps = edges * grid / score.ticks_per_beat
        if (np.abs(steps - np.round(steps)) <= NEAR * grid).all():
            return grid, True
    return steps_per_beat, False


def write(score: midi.Score, path: files.AnyPath, title: str, steps_per_beat: int) -> bool:
    """Write a score as MusicXML, a part for each of its parts, named after it.

    Args:
        score: with its meters, keys and tempos.
        path: the file.
        title: of the piece.
        steps_per_beat: the grid to which notes are rounded; see `grid_of`.

    Returns:
        Whether all notes lie on the grid: otherwise some were moved.

    Raises:
        UserError: if music21 cannot express it, or it cannot be written.
    """
    from music21 import metadata, stream
    from music21.musicxml import m21ToXml

    grid, exact = grid_of(score, steps_per_beat)
    per_step = score.ticks_per_beat / grid
    lines = np.unique(midi.quantise_ticks(score.bar_lines, per_step)).tolist()
    marks = list(_marks(score, per_step, grid))
    whole = stream.Score()
    whole.metadata = metadata.Metadata(title=title)
    try:
        for n, part in enumerate(score.parts):
            # Tempos stand in the first part only, as they are true of all.
            own = [mark for mark in marks if n == 0 or not mark[2]]
            whole.insert(0, _part(part, n, lines, own, per_step, grid))
        exporter = m21ToXml.GeneralObjectExporter(whole)
        exporter.makeNotation = False
        content = exporter.parse().replace(NOBODY, b"")
    # It raises of everything that notation cannot express.
    except Exception as error:
        raise UserError(f"{path}: music21 cannot write it ({first_line(error)})") from error
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return exact


def _marks(score: midi.Score, per_step: float, grid: int) -> Iterator[tuple[int, Any, bool]]:
    """Meters, keys and tempos: the time step, how to make one, and whether it is a tempo."""
    from music21 import key, meter, tempo

    def at(tick: int) -> int:
        return int(midi.quantise_ticks(np.array(tick), per_step))

    for tick, beats, beat_type in score.meters:
        yield at(tick), functools.partial(meter.TimeSignature, f"{beats}/{beat_type}"), False
    for track in score.midi.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "key_signature" and (now == 0 or now < score.end):
                name = message.key.replace("b", "-")
                minor = name.endswith("m")
                tonic = name.removesuffix("m").lower() if minor else name
                yield at(now), functools.partial(key.Key, tonic), False
    for tick, length in score.tempos:
        if tick == 0 or tick < score.end:
            mark = functools.partial(tempo.MetronomeMark, number=round(60e6 / length, 2))
            yield at(tick), mark, True


def _part(
    part: midi.Part,
    n: int,
    lines: list[int],
    marks: list[tuple[int, Any, bool]],
    per_step: float,
    grid: int,
) -> Any:
    """A part as measures that lie between `lines`."""
    from music21 import clef, instrument, stream

    made = stream.Part(id=f"part {n + 1}")
    played = instrument.Instrument()
    played.partName = played.instrumentName = made.partName = part.name or f"Track {n + 1}"
    played.midiProgram, played.midiChannel = part.program, part.channel
    made.insert(0, played)
    voices = [list(voice) for voice in _voices(_chords(part, per_step))]
    pitches = part.notes[:, 2]
    for number, (start, end) in enumerate(itertools.pairwise(lines), 1):
        measure = stream.Measure(number=number)
        if number == 1:
            low = np.mean(pitches) < 60
            drums = clef.PercussionClef if part.is_drum else None
            measure.insert(0, (drums or (clef.BassClef if low else clef.TrebleClef))())
        for at, make, _ in marks:
            if start <= at < end:
                measure.insert(Fraction(at - start, grid), make())
        inside = [voice for voice in voices if any(c.start < end and c.end > start for c in voice)]
        for name, voice in enumerate(inside or [[]], 1):
            # A second voice needs a container, and a first one does not.
            holder = stream.Voice(id=str(name)) if len(inside) > 1 else measure
            for chord in _filled(voice, start, end):
                for piece, first, last in _pieces(chord, start, end, grid):
                    holder.insert(
                        Fraction(piece.start - start, grid), _note(piece, first, last, grid)
                    )
            if holder is not measure:
                measure.insert(0, holder)
        made.insert(Fraction(start, grid), measure)
    return made


def _chords(part: midi.Part, per_step: float) -> list[_Chord]:
    """A part's notes, those from and to the same step together, by start."""
    notes = midi.quantise(part.notes, per_step)
    last: dict[int, list[int]] = {}
    rows: list[list[int]] = []
    for start, end, pitch, _ in sorted(notes.tolist()):
        # Rounded, one key may be down twice: the second onset ends the first.
        before = last.get(pitch)
        if before is not None and before[0] == start:
            before[1] = max(before[1], end)
            continue
        if before is not None:
            before[1] = min(before[1], start)
        last[pitch] = [start, end, pitch]
        rows.append(last[pitch])
    together: dict[tuple[int, int], list[int]] = {}
    for start, end, pitch in rows:
        together.setdefault((start, end), []).append(pitch)
    return [_Chord(start, end, tuple(sorted(p))) for (start, end), p in sorted(together.items())]


def _voices(chords: list[_Chord]) -> list[list[_Chord]]:
    """Chords in as few voices as there are at once, in none of which two overlap."""
    voices: list[list[_Chord]] = []
    for chord in chords:
        free = next((voice for voice in voices if voice[-1].end <= chord.start), None)
        if free is None:
            voices.append([chord])
        else:
            free.append(chord)
    return voices


def _filled(voice: list[_Chord], start: int, end: int) -> Iterator[_Chord]:
    """What of a voice sounds in a measure, with the rests between."""
    now = start
    for chord in voice:
        if chord.end <= start or chord.start >= end:
            continue
        if chord.start > now:
            yield _Chord(now, chord.start, ())
        yield chord
        now = min(chord.end, end)
    if now < end:
        yield _Chord(now, end, ())


def _pieces(chord: _Chord, start: int, end: int, grid: int) -> Iterator[tuple[_Chord, bool, bool]]:
    """A chord within a measure, as notes of one sign each; whether it begins and ends with them."""
    now, until = max(chord.start, start), min(chord.end, end)
    while now < until:
        # A length that begins within a beat ends in it, where several signs are needed anyway.
        to = now + _longest(until - now, grid)
        beat = (now // grid + 1) * grid
        if now % grid and now + 1 < beat < until and to != until:
            to = now + _longest(beat - now, grid)
        yield _Chord(now, to, chord.pitches), now == chord.start, to == chord.end
        now = to


@functools.cache
def _longest(steps: int, grid: int) -> int:
    """The longest length, up to `steps` and a whole note, that a single note sign expresses."""
    from music21 import duration

    for length in range(min(steps, 4 * grid), 0, -1):
        made = duration.Duration(Fraction(length, grid))
        if not made.isComplex and made.type not in ("inexpressible", "zero"):
            return length
    raise ValueError(f"a grid of {grid} steps in a quarter note has no note signs")


def _note(piece: _Chord, first: bool, last: bool, grid: int) -> Any:
    from music21 import chord, note, tie

    length = Fraction(piece.end - piece.start, grid)
    if not piece.pitches:
        return note.Rest(quarterLength=length)
    kind = {(True, False): "start", (False, False): "continue", (False, True): "stop"}
    if len(piece.pitches) == 1:
        made: Any = note.Note(midi=piece.pitches[0], quarterLength=length)
        notes = [made]
    else:
        made = chord.Chord(list(piece.pitches), quarterLength=length)
        notes = list(made.notes)
    if (first, last) in kind:
        for each in notes:
            each.tie = tie.Tie(kind[first, last])
    return made
