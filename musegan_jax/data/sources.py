"""Readers of public formats: each yields pieces, and names what it could not use.

A reader yields `Piece` for music and `Skipped` for a file that gave none, so that nothing is lost
in silence and one bad file never ends a build.
"""

import collections
import importlib.util
import os
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset, Piece, Track, build
from musegan_jax.errors import UserError

STEPS_PER_BEAT = 4


class Skipped(NamedTuple):
    """A file that gave no piece, and why."""

    name: str
    reason: str


# --- A folder of MIDI files ---------------------------------------------------------------------

# The five families of the Lakh Pianoroll Dataset (LPD-5), the usual melody carriers first.
FAMILIES = (
    Track("Piano", 0),
    Track("Guitar", 24),
    Track("Bass", 32),
    Track("Strings", 48),
    Track("Drums", 0, True),
)


def family(part: midi.Part) -> int | None:
    """The index in `FAMILIES` that a part belongs to, by LPD-5's rule; None: dropped.

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
    """Roll up the parts of each track; the length is whole bars."""
    per_step = score.ticks_per_beat / per_beat
    quantised = [[midi.quantise(part.notes, per_step) for part in parts] for parts in voices]
    end = max(int(notes[:, 1].max()) for track in quantised for notes in track)
    bars = np.floor(score.bar_ticks() / per_step + 0.5).astype(np.int64)
    bars = np.unique(bars[bars < end])
    # The last bar is as long as the one before it would be by the meter in force.
    _, beats, beat_type = score.meters[-1]
    length = max(end, int(bars[-1] + round(4 * beats / beat_type * per_beat)))
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
        parts: take the first so many pitched parts of each file as tracks (files with fewer are
            skipped); None: sort all parts into `FAMILIES`, merging by maximum.
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
        # A name in an old encoding reads as surrogates, which can be neither hashed nor printed.
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
            reason = "no notes of a family that is kept" if score.parts else "no notes"
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
    """Each track by its commonest name and program; by number where names are not telling."""
    common = [label.most_common(1)[0][0] for label in labels]
    names = [name for name, _ in common]
    if len(set(names)) < len(names) or "" in names:
        names = [f"Part {k + 1}" for k in range(len(names))]
    return [Track(name, program) for name, (_, program) in zip(names, common, strict=True)]


# --- Bach's chorales in the installed music21 ---------------------------------------------------

CHORALE_TRACKS = (  # heard as a string quartet
    Track("Soprano", 40),
    Track("Alto", 40),
    Track("Tenor", 41),
    Track("Bass", 42),
)
MAX_XML_BYTES = 64 * 2**20
MAX_STEPS = midi.MAX_BEATS * STEPS_PER_BEAT
BAR_STEPS = 16  # of a 4/4 bar; only such chorales are used


def chorale_folder() -> Path:
    """Where the installed music21 keeps Bach's chorales; found without importing it.

    Raises:
        UserError: if music21 is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the chorales come with the package music21, which is not installed: "
            "pip install 'musegan-jax[chorales]', or uv run --extra chorales"
        )
    return Path(spec.submodule_search_locations[0]) / "corpus" / "bach"


def read_chorales(folder: Path | None = None) -> tuple[Dataset, list[Skipped]]:
    """Read the four-part 4/4 chorales on the 16th grid from a folder of `.mxl` files.

    Args:
        folder: default: that of the installed music21.

    Raises:
        UserError: if music21 is not installed, or the folder has no usable chorale.
    """
    folder = folder or chorale_folder()
    pieces: list[Piece] = []
    skipped: list[Skipped] = []
    for path in sorted(folder.glob("*.mxl")):
        try:
            pieces.append(_chorale(path.stem, _musicxml(path)))
        except _NotUsable as error:
            skipped.append(Skipped(path.name, str(error)))
        # A damaged file makes the parsers fail in whatever way the damage brings about.
        except Exception as error:
            why = f"not readable as MusicXML ({type(error).__name__}: {error})"
            skipped.append(Skipped(path.name, why))
    return build(pieces, CHORALE_TRACKS, STEPS_PER_BEAT, "Bach chorales of music21"), skipped


class _NotUsable(Exception):
    pass


def _musicxml(path: Path) -> ElementTree.Element:
    """The score inside a compressed MusicXML file, as its container names it."""
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        rootfile = next(e for e in container.iter() if e.tag.endswith("rootfile"))
        member = archive.getinfo(rootfile.attrib["full-path"])
        if member.file_size > MAX_XML_BYTES:
            raise _NotUsable("unreasonably large")
        return ElementTree.fromstring(archive.read(member))


def _chorale(name: str, score: ElementTree.Element) -> Piece:
    names = [part.findtext("part-name") for part in score.findall("part-list/score-part")]
    parts = score.findall("part")
    if names != [track.name for track in CHORALE_TRACKS] or len(parts) != len(names):
        raise _NotUsable("not the four voices Soprano, Alto, Tenor, Bass")
    voices = [_voice(part) for part in parts]
    measures = voices[0][1]
    if any(lengths != measures for _, lengths in voices):
        raise _NotUsable("the voices' bars differ in length")
    every = np.concatenate([notes for notes, _ in voices])
    if not every.size:
        raise _NotUsable("no notes")
    # Checked before the roll: NumPy would take a negative index for one from the end.
    if every.min() < 0 or every[:, 2].max() >= pianoroll.MIDI_PITCHES or sum(measures) > MAX_STEPS:
        raise _NotUsable("notes outside MIDI's pitches or any sensible time")
    roll = np.zeros((sum(measures), pianoroll.MIDI_PITCHES, len(voices)), bool)
    for k, (notes, _) in enumerate(voices):
        roll[:, :, k] = midi.to_roll(notes, len(roll))
    return Piece(name, pianoroll.pack(roll), _bar_starts(measures))


def _bar_starts(measures: list[int]) -> np.ndarray:
    """Steps at which bars begin, from the written measures' lengths.

    A repeat sign may cut a bar in two measures; the second, which completes the first, begins no
    bar. Nor does a short measure at the beginning: it is a pick-up.
    """
    starts, now, open_length = [], 0, 0
    for index, length in enumerate(measures):
        pick_up = index == 0 and length < BAR_STEPS
        completes = open_length and open_length + length == BAR_STEPS
        if not pick_up and not completes:
            starts.append(now)
            open_length = length if length < BAR_STEPS else 0
        else:
            open_length = 0
        now += length
    return np.array(starts, np.int64)


SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def _voice(part: ElementTree.Element) -> tuple[np.ndarray, list[int]]:
    """Notes in steps, int64 `(N, 4)`, and the length of each measure in steps."""
    notes: list[tuple[int, int, int, int]] = []
    lengths: list[int] = []
    start_of_measure, divisions = 0, 1
    for measure in part.findall("measure"):
        now = furthest = Fraction(start_of_measure)
        for element in measure:
            if element.tag == "attributes":
                divisions = int(element.findtext("divisions", str(divisions)))
                time = element.find("time")
                if time is not None and (
                    (time.findtext("beats"), time.findtext("beat-type")) != ("4", "4")
                ):
                    raise _NotUsable("not in 4/4 throughout")
            if element.tag not in ("note", "backup", "forward"):
                continue
            if element.find("grace") is not None:
                continue
            duration = Fraction(int(element.findtext("duration", "0")), divisions) * STEPS_PER_BEAT
            if element.tag == "backup":
                now -= duration
                continue
            # A chord's further notes share the onset of the note before them.
            start = now - duration if element.find("chord") is not None else now
            end = start + duration
            if start.denominator != 1 or end.denominator != 1:
                raise _NotUsable("not on the grid of sixteenths")
            if element.find("pitch") is not None:
                notes.append((int(start), int(end), _pitch(element), 0))
            now = end
            furthest = max(furthest, now)
        lengths.append(int(furthest) - start_of_measure)
        start_of_measure = int(furthest)
    return np.array(notes, np.int64).reshape(-1, 4), lengths


def _pitch(note: ElementTree.Element) -> int:
    step = note.findtext("pitch/step", "C")
    alter = int(float(note.findtext("pitch/alter", "0")))
    return 12 * (int(note.findtext("pitch/octave", "4")) + 1) + SEMITONES[step] + alter


NAMED: dict[str, Callable[[], tuple[Dataset, list[Skipped]]]] = {"chorales": read_chorales}


def summarise(skipped: list[Skipped]) -> Iterator[str]:
    """Lines that say how many files were skipped for which reason, with a few names each."""
    reasons = collections.defaultdict(list)
    for name, reason in skipped:
        reasons[reason].append(name)
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield f"skipped {len(names)}: {reason} ({shown})"


def write_report(skipped: list[Skipped], path: Path) -> None:
    """Write every skipped file with its reason, a line each.

    Raises:
        UserError: if the file cannot be written.
    """
    with files.replacing(path) as temporary:
        lines = "".join(f"{name}: {reason}\n" for name, reason in skipped)
        temporary.write_text(lines, encoding="utf-8")
