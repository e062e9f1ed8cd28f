"""The reader of MIDI folders."""

import collections
import os
from pathlib import Path

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

# The five families of the Lakh Pianoroll Dataset (LPD-5); usual carriers of the melody first.
FAMILIES = (
    Track("Piano", 0),
    Track("Guitar", 24),
    Track("Bass", 32),
    Track("Strings", 48),
    Track("Drums", 0, True),
)


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


def _to_piece(name: str, score: midi.Score, voices: list[list[midi.Part]], per_beat: int) -> Piece:
    """Merge the parts of each track into one roll; its length is whole bars."""
    per_step = score.ticks_per_beat / per_beat
    quantised = [[midi.quantise(part.notes, per_step) for part in parts] for parts in voices]
    end = max(int(notes[:, 1].max()) for track in quantised for notes in track)
    lines = midi.quantise_ticks(score.bar_lines(), per_step)
    bars = np.unique(lines[lines < end])
    length = min((int(line) for line in lines if line >= end), default=end)
    rolls = np.zeros((length, pianoroll.MIDI_PITCHES, len(voices)), bool)
    for k, track in enumerate(quantised):
        for notes in track:
            rolls[:, :, k] |= midi.to_roll(notes, length)
    return Piece(name, pianoroll.pack(rolls), bars)


def read_midi_folder(
    folder: str | Path, parts: int | None, steps_per_beat: int
) -> tuple[Dataset, list[Skipped]]:
    """Read every MIDI file below a folder.

    Args:
        folder: searched recursively; a piece's name is its path within it.
        parts: number of tracks, the first pitched parts of each file (files with fewer are
            skipped); None: merge all parts into `FAMILIES`.
        steps_per_beat: time steps in a quarter note.

    Raises:
        UserError: if no file gave a piece.
    """
    pieces: list[Piece] = []
    skipped: list[Skipped] = []
    labels: list[collections.Counter[tuple[str, int]]] = [
        collections.Counter() for _ in range(parts or 0)
    ]
    for path in midi_files(folder):
        # A name in an old encoding has surrogates, which can be neither hashed nor printed.
        name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        try:
            score = midi.read(path)
        except UserError as error:
            skipped.append(Skipped(name, str(error).removeprefix(f"{path}: ")))
            continue
        if parts is None:
            voices: list[list[midi.Part]] = [[] for _ in FAMILIES]
            for part in score.parts:
                k = family(part)
                if k is not None:
                    voices[k].append(part)
            usable = any(voices)
            reason = "no notes in a family that is kept" if score.parts else "no notes"
        else:
            pitched = [part for part in score.parts if not part.is_drum]
            voices = [[part] for part in pitched[:parts]]
            usable = len(voices) == parts
            reason = f"{len(pitched)} pitched parts; {parts} are wanted"
        if not usable:
            skipped.append(Skipped(name, reason))
            continue
        if parts is not None:
            for label, (part,) in zip(labels, voices, strict=True):
                label[part.name, part.program] += 1
        pieces.append(_to_piece(name, score, voices, steps_per_beat))
    if not pieces:
        first = skipped[0]
        raise UserError(
            f"{folder}: none of {len(skipped)} MIDI files could be used; "
            f"the first, {first.name}: {first.reason}"
        )
    tracks = FAMILIES if parts is None else _name_tracks(labels)
    source = f"MIDI folder {Path(folder).resolve().name}"
    return build(pieces, tracks, steps_per_beat, source), skipped


def _name_tracks(labels: list[collections.Counter[tuple[str, int]]]) -> list[Track]:
    """Each track's most common name and program; numbers as names if any repeats or is empty."""
    common = [label.most_common(1)[0][0] for label in labels]
    names = [name for name, _ in common]
    if len(set(names)) < len(names) or "" in names:
        names = [f"Part {k + 1}" for k in range(len(names))]
    return [Track(name, program) for name, (_, program) in zip(names, common, strict=True)]
