"""The reader of MIDI folders."""

import collections
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import melody_line, midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

MELODY = "Melody"
# The five families of the Lakh Pianoroll Dataset (LPD-5).
FAMILIES = (
    Track("Piano", 0),
    Track("Guitar", 24),
    Track("Bass", 32),
    Track("Strings", 48),
    Track("Drums", 0, True),
)


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


class _Song(NamedTuple):
    """A usable file: its piece in the whole layout, and `(name, program)` of the tracks' parts."""

    piece: Piece
    labels: list[tuple[str, int]]  # the melody's first
    same_name: bool  # whether other parts are called what the melody is called
    chordal: bool  # whether the melody's part had further notes
    damage: tuple[str, ...]


def family(part: midi.Part) -> int | None:
    """The index in `FAMILIES` of a part, by LPD-5's rule; None if the part is dropped.

    Drum channel -> Drums; by `program // 8`: 0 Piano, 3 Guitar, 4 Bass; other programs below 96,
    and 104 to 111, -> Strings.
    """
    if part.is_drum:
        return 4
    by_group = {0: 0, 3: 1, 4: 2}
    if part.program // 8 in by_group:
        return by_group[part.program // 8]
    return 3 if part.program < 96 or 104 <= part.program < 112 else None


def midi_files(folder: str | Path) -> list[Path]:
    """All `.mid` and `.midi` files below a folder, any case, by path.

    Raises:
        UserError: if there is no such folder, or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of MIDI files")
    found = sorted(
        Path(root) / name
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith((".mid", ".midi"))
    )
    if not found:
        raise UserError(f"{folder}: no .mid or .midi file in it or below it")
    return found


def read_midi_folder(
    folder: str | Path, parts: int | None, steps_per_beat: int, melody: str | None = None
) -> Reading:
    """Read every MIDI file below a folder.

    The first track is the melody line. The other notes of its part, chords and a left hand, are
    sorted with the other parts, or left out where `parts` is given.

    Args:
        folder: searched recursively; a piece's name is its path within it.
        parts: number of tracks, the melody and the first other pitched parts of each file (files
            with fewer are skipped); None: merge all other parts into `FAMILIES`, of which those
            without a note in any file are left out.
        steps_per_beat: time steps in a quarter note.
        melody: name, or number from 1, of the melody's part; None for the likeliest of each file.

    Raises:
        UserError: if no file gave a piece.
    """
    songs: list[_Song] = []
    skipped: list[Skipped] = []
    for path in midi_files(folder):
        # A name in an old encoding has surrogates, which can be neither hashed nor printed.
        name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        try:
            songs.append(_read_song(path, name, parts, steps_per_beat, melody))
        except UserError as error:
            skipped.append(Skipped(name, str(error).removeprefix(f"{path}: ")))
    if not songs:
        first = skipped[0]
        raise UserError(
            f"{folder}: none of {len(skipped)} MIDI files could be used; "
            f"the first, {first.name}: {first.reason}"
        )
    pieces, remarks = [song.piece for song in songs], list(_remarks(songs, parts))
    if parts is None:
        bits = np.any([piece.roll.any(axis=(0, 2)) for piece in pieces], axis=0)
        program = collections.Counter(song.labels[0][1] for song in songs).most_common(1)[0][0]
        layout = (Track(MELODY, program), *FAMILIES)
        tracks = [track for track, used in zip(layout, bits, strict=True) if used]
        unused = [track.name for track in layout if track not in tracks]
        if unused:
            remarks.append(f"left out, as no file has notes for them: {', '.join(unused)}")
        pieces = [piece._replace(roll=piece.roll[:, bits]) for piece in pieces]
    else:
        tracks = _name_tracks([song.labels for song in songs])
    source = f"MIDI folder {Path(folder).resolve().name}"
    return Reading(build(pieces, tracks, steps_per_beat, source), skipped, remarks)


def _read_song(
    path: Path, name: str, parts: int | None, per_beat: int, melody: str | None
) -> _Song:
    """Read one file.

    Raises:
        UserError: if it cannot be read, or gives no piece; the reason is short, and the same for
            all files of which it is true.
    """
    score = midi.read(path)
    if not score.parts:
        raise UserError("no notes")
    pitched = [part for part in score.parts if not part.is_drum]
    if parts is not None and len(pitched) < parts:
        raise UserError(f"{len(pitched)} pitched parts; {parts} are wanted")
    if not pitched:
        raise UserError("damaged: only drums left" if score.damage else "drums only, no melody")
    try:
        own = melody_line.pick_part(score, melody, name)
    except UserError as error:
        raise UserError(f"no track {melody!r}") from error
    per_step = score.ticks_per_beat / per_beat
    notes = midi.quantise(own.notes, per_step)
    line = melody_line.melody_line(notes, per_beat)
    steps = np.arange(len(line))
    on_line = np.column_stack([steps, steps + 1, line, line])[line >= 0]
    below = notes[~melody_line.of_line(notes, line)]
    others = [part for part in score.parts if part is not own]
    if parts is None:
        voices: list[list[np.ndarray]] = [[on_line], *([] for _ in FAMILIES)]
        for part, rest in [(own, below), *((o, midi.quantise(o.notes, per_step)) for o in others)]:
            k = family(part)
            if k is not None and len(rest):
                voices[1 + k].append(rest)
        labels = [(own.name, own.program)]
    else:
        chosen = [part for part in others if not part.is_drum][: parts - 1]
        voices = [[on_line], *([midi.quantise(part.notes, per_step)] for part in chosen)]
        labels = [(part.name, part.program) for part in (own, *chosen)]
    same = any(
        other.name.casefold() == own.name.casefold() for other in pitched if other is not own
    )
    piece = _to_piece(name, score, voices, per_step)
    return _Song(piece, labels, same and bool(own.name), len(below) > 0, score.damage)


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
        for notes in track:
            rolls[:, :, k] |= midi.to_roll(notes, length)
    return Piece(name, pianoroll.pack(rolls), bars)


def _remarks(songs: list[_Song], parts: int | None) -> Iterator[str]:
    """Which tracks were taken for the melody, and what was done to the files."""
    counts = collections.Counter(song.labels[0][0] or "unnamed" for song in songs).most_common()
    shown = [f"{name} in {count}" for name, count in counts[:4]]
    rest = sum(count for _, count in counts[4:])
    more = f", others in {rest}" if rest else ""
    yield f"melody: of {len(songs)} files, the track {', '.join(shown)}{more} (another: --melody)"
    beside = "left out" if parts else "sorted with the other parts"
    for files, what in (
        ([s for s in songs if s.same_name], "several tracks with its name, the likeliest is taken"),
        ([s for s in songs if s.chordal], f"chords or a left hand with the melody, {beside}"),
        ([s for s in songs if s.damage], "damage, read as far as they go"),
    ):
        if files:
            names = ", ".join(song.piece.name for song in files[:3])
            yield f"{len(files)} files have {what}: {names}{', ...' if len(files) > 3 else ''}"


def _name_tracks(labels: Sequence[list[tuple[str, int]]]) -> list[Track]:
    """Each track's most common name and program; numbers as names if any repeats or is empty."""
    common = [
        collections.Counter(track).most_common(1)[0][0] for track in zip(*labels, strict=True)
    ]
    names = [name for name, _ in common]
    if len(set(names)) < len(names) or "" in names:
        names = [f"Part {k + 1}" for k in range(len(names))]
    return [Track(name, program) for name, (_, program) in zip(names, common, strict=True)]
