"""The reader of MIDI folders, and what it shares with the readers of other songs.

A format whose files become a `midi.Score` each needs a `Kind` only: `read_folder` does the rest.
"""

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import melody_line, midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.errors import UserError, first_line
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


class Kind(NamedTuple):
    """A format of which folders hold files of one song each, or a few.

    Attributes:
        name: in messages.
        suffixes: of its files' names, in small letters.
        read: a file's songs; raises `UserError` with the path at its beginning.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Sequence[midi.Score]]


MIDI = Kind("MIDI", (".mid", ".midi"), lambda path: [midi.read(path)])


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


class Song(NamedTuple):
    """A usable song: its piece in the whole layout, and `(name, program)` of the tracks' parts."""

    piece: Piece
    labels: list[tuple[str, int]]  # the melody's first; without a melody, of `parts` only
    same_name: bool  # whether other parts are called what the melody is called
    chordal: bool  # whether the melody's part had further notes
    damage: tuple[str, ...]


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


def files_below(folder: str | Path, kind: Kind = MIDI) -> list[Path]:
    """All files of a kind below a folder, by path.

    Raises:
        UserError: if there is no such folder, or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of {kind.name} files")
    found = sorted(
        Path(root) / name
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(kind.suffixes)
    )
    if not found:
        *others, last = kind.suffixes
        suffixes = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{folder}: no {suffixes} file in it or below it")
    return found


def read_midi_folder(
    folder: str | Path, parts: int | None, steps_per_beat: int, melody: str | None = None
) -> Reading:
    """Read every MIDI file below a folder; see `read_folder` and `Options`."""
    return read_folder(folder, MIDI, Options(parts, steps_per_beat, melody))


def read_folder(folder: str | Path, kind: Kind, options: Options) -> Reading:
    """Read every file of a kind below a folder.

    The first track is the melody line. The other notes of its part, chords and a left hand, are
    sorted with the other parts, or left out where `options.parts` is given.

    Args:
        folder: searched recursively; a piece's name is its path within it.
        kind: of its files.
        options: how they become pieces.

    Raises:
        UserError: if no file gave a piece.
    """
    songs: list[Song] = []
    skipped: list[Skipped] = []
    within = Path(folder).resolve()
    for path in files_below(folder, kind):
        # A name in an old encoding has surrogates, which can be neither hashed nor printed.
        name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        try:
            scores = _read_within(path, within, kind)
        except UserError as error:
            skipped.append(Skipped(name, str(error).removeprefix(f"{path}: ")))
            continue
        for n, score in enumerate(scores, 1):
            piece = name if len(scores) == 1 else f"{name}/{n}"
            try:
                songs.append(song_of(score, piece, options))
            except UserError as error:
                skipped.append(Skipped(piece, str(error)))
    if not songs:
        first = skipped[0]
        raise UserError(
            f"{folder}: none of {len(skipped)} {kind.name} files could be used; "
            f"the first, {first.name}: {first.reason}"
        )
    return join(songs, skipped, options, f"{kind.name} folder {within.name}")


def _read_within(path: Path, folder: Path, kind: Kind) -> Sequence[midi.Score]:
    """The songs of a file in a folder, to which a link must lead."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(folder):
            raise UserError("a link to a file outside the folder")
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise UserError("not a file")
        return kind.read(path)
    except (OSError, RuntimeError) as error:  # of links: a circle, or no permission
        raise UserError(f"cannot be read ({first_line(error)})") from error


def join(songs: list[Song], skipped: list[Skipped], options: Options, source: str) -> Reading:
    """The songs, at least one, as a dataset, with remarks on how they were read."""
    pieces, remarks = [song.piece for song in songs], list(_remarks(songs, options))
    if options.parts is None:
        bits = np.any([piece.roll.any(axis=(0, 2)) for piece in pieces], axis=0)
        layout = options.families
        if options.melody != NO_MELODY:
            program = collections.Counter(song.labels[0][1] for song in songs).most_common(1)[0][0]
            layout = (Track(MELODY, program), *layout)
        tracks = [track for track, used in zip(layout, bits, strict=True) if used]
        unused = [track.name for track in layout if track not in tracks]
        if unused:
            remarks.append(f"left out, as no file has notes for them: {', '.join(unused)}")
        pieces = [piece._replace(roll=piece.roll[:, bits]) for piece in pieces]
    else:
        tracks = _name_tracks([song.labels for song in songs])
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
    return Song(piece, labels, same and named, len(below) > 0, score.damage)


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
    lines = midi.quantise_ticks(score.bar_lines(), per_step)
    bars = np.unique(lines[lines < end])
    length = min((int(line) for line in lines if line >= end), default=end)
    rolls = np.zeros((length, pianoroll.MIDI_PITCHES, len(voices)), bool)
    for k, track in enumerate(voices):
        if track:
            rolls[:, :, k] = midi.to_roll(np.concatenate(track), length)
    return Piece(name, pianoroll.pack(rolls), bars)


def _remarks(songs: list[Song], options: Options) -> Iterator[str]:
    """Which tracks were taken for the melody, and what was done to the files."""
    if options.melody != NO_MELODY:
        yield _melodies(songs)
    beside = "left out" if options.parts else "sorted with the other parts"
    for files, what in (
        ([s for s in songs if s.same_name], "several tracks with its name, the likeliest is taken"),
        ([s for s in songs if s.chordal], f"chords or a left hand with the melody, {beside}"),
        ([s for s in songs if s.damage], "damage, read as far as they go"),
    ):
        if files:
            names = ", ".join(song.piece.name for song in files[:3])
            yield f"{len(files)} files have {what}: {names}{', ...' if len(files) > 3 else ''}"


def _melodies(songs: list[Song]) -> str:
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
