"""The reader of Bach's chorales in the installed package music21, which is not imported.

Its corpus may not be redistributed: it is read from the user's own installation, never copied.
"""

import importlib.util
import zipfile
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track

STEPS_PER_BEAT = 4
TRACKS = (  # played by a string quartet
    Track("Soprano", 40),
    Track("Alto", 40),
    Track("Tenor", 41),
    Track("Bass", 42),
)
MAX_XML_BYTES = 64 * 2**20
MAX_STEPS = midi.MAX_BEATS * STEPS_PER_BEAT
BAR_STEPS = 16  # only chorales in 4/4 are used


def installed_folder(composer: str = "bach") -> Path:
    """The folder of a composer's music in the installed music21.

    Raises:
        UserError: if music21 is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the music of {composer.title()} comes with the package music21, which is not "
            "installed: pip install music21, or uv run --extra music21"
        )
    return Path(spec.submodule_search_locations[0]) / "corpus" / composer


def read_chorales(folder: Path | None = None) -> tuple[Dataset, list[Skipped]]:
    """Read the four-part 4/4 chorales on the 16th grid from a folder of `.mxl` files.

    Args:
        folder: by default that of the installed music21.

    Raises:
        UserError: if music21 is not installed, or the folder has no usable chorale.
    """
    folder = folder or installed_folder()
    pieces: list[Piece] = []
    skipped: list[Skipped] = []
    for path in sorted(folder.glob("*.mxl")):
        try:
            pieces.append(_chorale(path.stem, _musicxml(path)))
        except _NotUsable as error:
            skipped.append(Skipped(path.name, str(error)))
        # A damaged file can make the parsers raise anything.
        except Exception as error:
            why = f"not readable as MusicXML ({type(error).__name__}: {error})"
            skipped.append(Skipped(path.name, why))
    return build(pieces, TRACKS, STEPS_PER_BEAT, "Bach chorales of music21"), skipped


class _NotUsable(Exception):
    pass


def _musicxml(path: Path) -> ElementTree.Element:
    """The score inside a compressed MusicXML file, at the path that its container names."""
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        rootfile = next(e for e in container.iter() if e.tag.endswith("rootfile"))
        member = archive.getinfo(rootfile.attrib["full-path"])
        if member.file_size > MAX_XML_BYTES:
            raise _NotUsable(f"larger than {MAX_XML_BYTES // 2**20} MiB")
        return ElementTree.fromstring(archive.read(member))


def _chorale(name: str, score: ElementTree.Element) -> Piece:
    names = [part.findtext("part-name") for part in score.findall("part-list/score-part")]
    parts = score.findall("part")
    if names != [track.name for track in TRACKS] or len(parts) != len(names):
        raise _NotUsable("not the four voices Soprano, Alto, Tenor, Bass")
    voices = [_voice(part) for part in parts]
    measures = voices[0][1]
    if any(lengths != measures for _, lengths in voices):
        raise _NotUsable("the voices' bars differ in length")
    every = np.concatenate([notes for notes, _ in voices])
    if not every.size:
        raise _NotUsable("no notes")
    # Checked before filling the roll: NumPy counts negative indices from the end.
    if every.min() < 0 or every[:, 2].max() >= pianoroll.MIDI_PITCHES or sum(measures) > MAX_STEPS:
        raise _NotUsable("notes outside MIDI's pitches or the longest piece read")
    roll = np.zeros((sum(measures), pianoroll.MIDI_PITCHES, len(voices)), bool)
    for k, (notes, _) in enumerate(voices):
        roll[:, :, k] = midi.to_roll(notes, len(roll))
    return Piece(name, pianoroll.pack(roll), _bar_starts(measures))


def _bar_starts(measures: list[int]) -> np.ndarray:
    """Steps at which bars begin, from the written measures' lengths.

    A repeat sign may split a bar into two measures; the second begins no bar. A short first measure
    is a pick-up and begins no bar either.
    """
    starts, now, open_length = [], 0, 0
    for index, length in enumerate(measures):
        if length == 0:
            continue
        pick_up = index == 0 and length < BAR_STEPS
        completes = open_length and open_length + length == BAR_STEPS
        if not pick_up and not completes:
            starts.append(now)
            open_length = length if length < BAR_STEPS else 0
        else:
            open_length = 0
        now += length
    return np.array(starts, np.int64)


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
            # Further notes of a chord share the onset of the note before them.
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
    return 12 * (int(note.findtext("pitch/octave", "4")) + 1) + midi.NATURALS[step] + alter
