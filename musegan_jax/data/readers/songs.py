"""Songs as pieces of a dataset: which part is the melody, and which track each other one joins."""

import collections
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import melody_line, midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

MELODY = "Melody"
NO_MELODY = "none"  # of `Options.melody`
# The five families of the Lakh Pianoroll Dataset (LPD-5).
FAMILIES = (
    Track("Piano", 0),
    Track("Guitar", 24),
    Track("Bass", 32),
    Track("Strings", 48),
    Track("Drums", 0, True),
)
# The groups of eight programs of General MIDI: the tracks of LPD-17, beside its drums.
GROUPS = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass"),
    *("Reed", "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive"),
    "Sound Effects",
)
SEVENTEEN = (
    Track("Drums", 0, True),
    *(Track(name, 8 * group) for group, name in enumerate(GROUPS)),
)


class Options(NamedTuple):
    """How songs become pieces.

    Attributes:
        parts: number of tracks, the melody and the first other pitched parts of each song (songs
            with fewer are skipped); None: merge all other parts into `families`, of which those
            without a note in any song are left out.
        steps_per_beat: time steps in a quarter note.
        melody: name, or number from 1, of the melody's part; None for the likeliest of each song;
            `NO_MELODY`: there is no such track, all parts are treated alike.
        families: `FAMILIES` in any order, or `SEVENTEEN`.
    """

    parts: int | None = None
    steps_per_beat: int = 4
    melody: str | None = None
    families: tuple[Track, ...] = FAMILIES


class Reading(NamedTuple):
    """What a folder gave.

    Attributes:
        dataset: of the usable files, the melody on track 0.
        skipped: the other files.
        remarks: lines for the user on how the files were read.
    """

    dataset: Dataset
    skipped: list[Skipped]
    remarks: list[str]


class Facts(NamedTuple):
    """What is to be known of a song beside its notes, to join it with others.

    Attributes:
        labels: `(name, program)` of the tracks' parts, the melody's first; without a melody, of
            `Options.parts` only.
        same_name: whether other parts are called what the melody is called.
        chordal: whether the melody's part had further notes.
        damaged: whether the file was, and was read as far as it goes.
        used: whether each track of the whole layout has a note.
    """

    labels: list[tuple[str, int]]
    same_name: bool
    chordal: bool
    damaged: bool
    used: list[bool]


class Song(NamedTuple):
    """A usable song: its piece in the whole layout, and what to know of it."""

    piece: Piece
    facts: Facts


class Layout(NamedTuple):
    """The tracks of a dataset, which of the whole layout's they are, and remarks for the user."""

    tracks: list[Track]
    used: list[bool]
    remarks: list[str]


def family(part: midi.Part, families: Sequence[Track] = FAMILIES) -> int | None:
    """The index in `families` of a part; None if the part is dropped.

    By LPD-5's rule: drum channel -> Drums; by `program // 8`: 0 Piano, 3 Guitar, 4 Bass; other
    programs below 96, and 104 to 111, -> Strings. Of `SEVENTEEN`, each group is one.
    """
    name = "Drums" if part.is_drum else GROUPS[part.program // 8]
    if not part.is_drum and len(families) < len(SEVENTEEN) and name not in FIVE:
        if 96 <= part.program < 104 or part.program >= 112:
            return None
        name = "Strings"
    return [each.name for each in families].index(name)


FIVE = {track.name for track in FAMILIES}


def layout_of(
    names: Sequence[str], songs: Sequence[Facts], options: Options, whole: bool = True
) -> Layout:
    """The tracks of songs of these names; without `whole`, all of the layout, also of no song."""
    if not songs:
        return _of_none(options)
    pairs = sorted(zip(names, songs, strict=True), key=lambda pair: pair[0])
    names, songs = [name for name, _ in pairs], [song for _, song in pairs]
    remarks = list(_remarks(names, songs, options))
    if options.parts is not None:
        tracks = _name_tracks([song.labels for song in songs])
        return Layout(tracks, [True] * len(tracks), remarks)
    used = np.any([song.used for song in songs], axis=0).tolist()
    if not whole:
        used = [True] * len(used)
    layout = options.families
    if options.melody != NO_MELODY:
        program = collections.Counter(song.labels[0][1] for song in songs).most_common(1)[0][0]
        layout = (Track(MELODY, program), *layout)
    tracks = [track for track, one in zip(layout, used, strict=True) if one]
    unused = [track.name for track in layout if track not in tracks]
    if unused:
        remarks.append(f"left out, as no file has notes for them: {', '.join(unused)}")
    return Layout(tracks, used, remarks)


def _of_none(options: Options) -> Layout:
    """What stands for the tracks in a part of a build that has no song."""
    if options.parts is not None:
        tracks = [Track(f"Part {k + 1}", 0) for k in range(options.parts)]
    else:
        melody = [Track(MELODY, 0)] * (options.melody != NO_MELODY)
        tracks = [*melody, *options.families]
    return Layout(tracks, [True] * len(tracks), [])


def join(songs: list[Song], skipped: list[Skipped], options: Options, source: str) -> Reading:
    """The songs, at least one, as a dataset, with remarks on how they were read."""
    pieces = [song.piece for song in songs]
    names, facts = [piece.name for piece in pieces], [song.facts for song in songs]
    tracks, used, remarks = layout_of(names, facts, options)
    if not all(used):
        pieces = [piece._replace(roll=piece.roll[:, used]) for piece in pieces]
    return Reading(build(pieces, tracks, options.steps_per_beat, source), skipped, remarks)


def song_of(score: midi.Score, name: str, options: Options) -> Song:
    """What a file gives; `name` is the piece's.

    Raises:
        UserError: if it gives no piece; the reason is short, and the same for all files of which it
            is true.
    """
    parts, families = options.parts, options.families
    if not score.parts:
        raise UserError("no notes")
    pitched = [part for part in score.parts if not part.is_drum]
    if parts is not None and len(pitched) < parts:
        raise UserError(f"{len(pitched)} pitched parts; {parts} are wanted")
    per_step = score.ticks_per_beat / options.steps_per_beat
    own, lines, below = None, [], np.zeros((0, 4), np.int64)
    if options.melody != NO_MELODY:
        if not pitched:
            raise UserError("damaged: only drums left" if score.damage else "drums only, no melody")
        try:
            own = melody_line.pick_part(score, options.melody, name)
        except UserError as error:
            raise UserError(f"no track {options.melody!r}") from error
        on_line, below = _line(midi.quantise(own.notes, per_step), options.steps_per_beat)
        lines = [[on_line]]
    others = [part for part in score.parts if part is not own]
    if parts is None:
        sorted_in: list[list[np.ndarray]] = [[] for _ in families]
        rests = [(own, below)] if own else []
        for part, rest in [*rests, *((o, midi.quantise(o.notes, per_step)) for o in others)]:
            k = family(part, families)
            if k is not None and len(rest):
                sorted_in[k].append(rest)
        voices = [*lines, *sorted_in]
        if not any(voices):
            raise UserError("no notes of the tracks that are kept")
        labels = [(own.name, own.program)] if own else []
    else:
        chosen = [part for part in others if not part.is_drum][: parts - len(lines)]
        voices = [*lines, *([midi.quantise(part.notes, per_step)] for part in chosen)]
        labels = [(part.name, part.program) for part in ([own] if own else []) + chosen]
    same = own is not None and any(
        other.name.casefold() == own.name.casefold() for other in pitched if other is not own
    )
    piece = _to_piece(name, score, voices, per_step)
    named = own is not None and bool(own.name)
    used: Any = piece.roll.any(axis=(0, 2)).tolist()
    facts = Facts(labels, same and named, len(below) > 0, bool(score.damage), used)
    return Song(piece, facts)


def _line(notes: np.ndarray, per_beat: int) -> tuple[np.ndarray, np.ndarray]:
    """The melody line of a part's notes, in steps, as notes of a step each; and the other notes."""
    line = melody_line.melody_line(notes, per_beat)
    steps = np.arange(len(line))
    on_line = np.column_stack([steps, steps + 1, line, line])[line >= 0]
    return on_line, notes[~melody_line.of_line(notes, line)]


def _to_piece(
    name: str, score: midi.Score, voices: list[list[np.ndarray]], per_step: float
) -> Piece:
    """Merge the notes of each track into one roll; its length is whole bars."""
    end = max(int(notes[:, 1].max()) for track in voices for notes in track)
    lines = midi.quantise_ticks(score.bar_lines, per_step)
    bars = np.unique(lines[lines < end])
    length = min((int(line) for line in lines if line >= end), default=end)
    # With pitches last, as they are packed: otherwise packing takes ten times as long.
    rolls = np.zeros((length, len(voices), pianoroll.MIDI_PITCHES), bool)
    for k, track in enumerate(voices):
        if track:
            rolls[:, k] = midi.to_roll(np.concatenate(track), length)
    return Piece(name, pianoroll.pack(rolls.swapaxes(1, 2)), bars)


def _remarks(names: Sequence[str], songs: Sequence[Facts], options: Options) -> Iterator[str]:
    """Which tracks were taken for the melody, and what was done to the files."""
    if options.melody != NO_MELODY:
        yield _melodies(songs)
    beside = "left out" if options.parts else "sorted with the other parts"
    pairs = list(zip(names, songs, strict=True))
    for files, what in (
        (
            [n for n, s in pairs if s.same_name],
            "several tracks with its name, the likeliest is taken",
        ),
        ([n for n, s in pairs if s.chordal], f"chords or a left hand with the melody, {beside}"),
        ([n for n, s in pairs if s.damaged], "damage, read as far as possible"),
    ):
        if files:
            first = ", ".join(files[:3])
            have = "files have" if len(files) > 1 else "file has"
            yield f"{len(files)} {have} {what}: {first}{', ...' if len(files) > 3 else ''}"


def _melodies(songs: Sequence[Facts]) -> str:
    counts = collections.Counter(song.labels[0][0] or "unnamed" for song in songs).most_common()
    shown = [f"{name} in {count}" for name, count in counts[:4]]
    rest = sum(count for _, count in counts[4:])
    more = f", others in {rest}" if rest else ""
    return f"melody: of {len(songs)} files, the track {', '.join(shown)}{more} (another: --melody)"


def _name_tracks(labels: Sequence[list[tuple[str, int]]]) -> list[Track]:
    """Each track's most common name and program; numbers as names if any repeats or is empty."""
    common = [
        collections.Counter(track).most_common(1)[0][0] for track in zip(*labels, strict=True)
    ]
    names = [name for name, _ in common]
    if len(set(names)) < len(names) or "" in names:
        names = [f"Part {k + 1}" for k in range(len(names))]
    return [Track(name, program) for name, (_, program) in zip(names, common, strict=True)]
