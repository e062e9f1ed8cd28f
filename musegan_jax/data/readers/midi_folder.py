"""The reader of MIDI folders, and what it shares with the readers of other songs.

A format whose files become a `midi.Score` each needs a `Kind` only: `read_folder` does the rest,
and `folder_build.building` in many processes.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from musegan_jax import files
from musegan_jax.data import midi
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.data.readers.songs import Options, Reading, Song, join, song_of
from musegan_jax.errors import UserError, first_line


class Kind(NamedTuple):
    """A format of which folders hold files of one song each, or a few.

    Attributes:
        name: in messages.
        suffixes: of its files' names, in small letters.
        read: a file's songs; raises `UserError` with the path at its beginning. A function of a
            module: other processes are told its name.
        bounded: whether its own limits keep any file from taking minutes.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Sequence[midi.Score]]
    bounded: bool = True


def _read_midi(path: Path) -> Sequence[midi.Score]:
    return [midi.read(path)]


MIDI = Kind("MIDI", (".mid", ".midi"), _read_midi)


def files_below(folder: str | Path, kind: Kind = MIDI) -> list[Path]:
    """All files of a kind below a folder, by path.

    Raises:
        UserError: if there is no such folder, or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; give a folder of {kind.name} files")
    found = [
        Path(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(kind.suffixes)
    ]
    found.sort(key=lambda path: path.parts)  # comparing paths themselves takes ten times as long
    if not found:
        *others, last = kind.suffixes
        suffixes = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{folder}: no {suffixes} file in it or below it")
    return found


def name_of(path: Path, folder: Path) -> str:
    """The name in a dataset of a file of `files_below`: its path within the folder."""
    # By its parts, which a path keeps: `relative_to` takes ten times as long.
    name = "/".join(path.parts[len(folder.parts) :])
    # A name in an old encoding has surrogates, which can be neither hashed nor printed.
    return name.encode(errors="backslashreplace").decode()


def source_of(folder: str | Path, kind: Kind) -> str:
    """What a dataset says of where it came from."""
    return f"{kind.name} folder {Path(folder).resolve().name}"


def read_folder(folder: str | Path, kind: Kind, options: Options) -> Reading:
    """Read every file of a kind below a folder, in this process.

    The first track is the melody line. The other notes of its part, chords and a left hand, are
    sorted with the other parts, or left out where `options.parts` is given.

    Args:
        folder: searched recursively; a piece's name is its path within it.
        kind: of its files.
        options: how they become pieces.

    Raises:
        UserError: if no file gave a piece.
    """
    folder = Path(folder)
    songs: list[Song] = []
    skipped: list[Skipped] = []
    for path in files_below(folder, kind):
        try:
            usable, others = read_file(path, folder, kind, options)
        except MemoryError:
            usable, others = [], [Skipped(name_of(path, folder), files.NO_MEMORY)]
        songs += usable
        skipped += others
    check_any(songs, skipped, folder, kind)
    return join(songs, skipped, options, source_of(folder, kind))


def check_any(
    songs: Sequence[object], skipped: Sequence[Skipped], folder: object, kind: Kind
) -> None:
    """Raises `UserError` if no file gave a piece."""
    if not songs:
        first = skipped[0]
        raise UserError(
            f"{folder}: none of {len(skipped)} {kind.name} files could be used; "
            f"the first, {first.name}: {first.reason}"
        )


def read_file(
    path: Path, folder: Path, kind: Kind, options: Options
) -> tuple[list[Song], list[Skipped]]:
    """The songs of a file of a folder, and those of it that cannot be used.

    Raises:
        MemoryError: if there is too little, which may not be the file's fault.
    """
    name = name_of(path, folder)
    try:
        scores = _read_within(path, folder, kind)
    except UserError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return [], [Skipped(name, str(error).removeprefix(f"{path}: "))]
    songs, skipped = [], []
    for n, score in enumerate(scores, 1):
        piece = name if len(scores) == 1 else f"{name}/{n}"
        try:
            songs.append(song_of(score, piece, options))
        except UserError as error:
            skipped.append(Skipped(piece, str(error)))
    return songs, skipped


def _read_within(path: Path, folder: Path, kind: Kind) -> Sequence[midi.Score]:
    """The songs of a file in a folder, to which a link must lead."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise UserError("a link to a file outside the folder")
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise UserError("not a file")
        return kind.read(path)
    except (OSError, RuntimeError) as error:  # of links: a circle, or no permission
        raise UserError(f"cannot be read ({first_line(error)})") from error
