"""The reader of Palestrina's masses in the installed package music21, which is not imported.

They are Humdrum's `**kern` (https://www.humdrum.org/guide/ch02/), without splits of spines, chords
and grace notes. music21 takes a minute to read the movements of four voices, this file two seconds
to read all, and each process that trains does; the tests compare the two. The encodings (1992, John
Miller; in Humdrum by Bret Aarden) may not be redistributed: they are read from the user's own
installation, never copied.
"""

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.data import midi
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.data.readers.chorales import installed_folder
from musegan_jax.data.readers.skipped import Skipped
from musegan_jax.data.splits import splits_of
from musegan_jax.pianoroll import Track

# A written half note, the minim, is the beat: in these metres (4/2: four of them in a bar, sung at
# the pace of a quarter note of today) a bar then has four beats and the shortest usual note, the
# eighth, a step, as with the chorales. On a quarter note's beat a window of four bars would be two.
STEPS_PER_BEAT = 4
STEPS_OF_WHOLE = 2 * STEPS_PER_BEAT
METER, BAR_STEPS = "*M4/2", 4 * STEPS_PER_BEAT
CHOIR = 52
TRACKS = tuple(Track(name, CHOIR) for name in ("Cantus", "Altus", "Tenor", "Bassus"))
MAX_BYTES = 2**20
MAX_STEPS = midi.MAX_BEATS * STEPS_PER_BEAT
# Opening ties, a duration as a part of a whole note (0: two of them), a rest or a pitch, closing.
TOKEN = re.compile(r"(\[?)(\d+)(\.*)(?:(r)|([a-g]+|[A-G]+)(#*|-*|n))([\]_]?)[;LJkK/\\x]*")


def read_palestrina(folder: Path | None = None) -> tuple[Dataset, list[Skipped]]:
    """Read the movements in 4/2 of exactly the voices Cantus, Altus, Tenor, Bassus.

    A piece is called `MASS/FILE`; all movements of a mass, and of masses called alike but for a
    number or year in brackets (which set one chant), are in one split.

    Args:
        folder: of `.krn` files; by default that of the installed music21.

    Raises:
        UserError: if music21 is not installed, or the folder has no usable movement.
    """
    folder = folder or installed_folder("palestrina")
    pieces: list[Piece] = []
    skipped: list[Skipped] = []
    for path in sorted(folder.glob("*.krn")):
        try:
            if path.stat().st_size > MAX_BYTES:
                raise _NotUsable(f"larger than {MAX_BYTES // 2**20} MiB")
            pieces.append(_movement(path.stem, path.read_text("latin-1").splitlines()))
        except _NotUsable as error:
            skipped.append(Skipped(path.name, str(error)))
        # A damaged file can make the parser raise anything.
        except Exception as error:
            why = f"not readable as kern ({type(error).__name__}: {error})"
            skipped.append(Skipped(path.name, why))
    dataset = build(pieces, TRACKS, STEPS_PER_BEAT, "Palestrina's masses of music21")
    masses = [re.sub(r" *\(.*", "", name.split("/")[0]) for name in dataset.names]
    distinct = sorted(set(masses))
    split = dict(zip(distinct, splits_of(distinct), strict=True))
    by_mass = np.array([split[mass] for mass in masses], np.uint8)
    return dataclasses.replace(dataset, split=by_mass), skipped


class _NotUsable(Exception):
    pass


def _movement(name: str, lines: list[str]) -> Piece:
    mass = next((line[7:].strip() for line in lines if line.startswith("!!!OPR:")), "")
    voices = next((line.split("\t") for line in lines if re.match(r"!\w", line)), [])
    if [voice.lstrip("!") for voice in voices] != [track.name for track in reversed(TRACKS)]:
        raise _NotUsable(f"not the four voices {', '.join(track.name for track in TRACKS)}")
    meters = {line.split("\t")[0] for line in lines if re.match(r"\*M\d", line)}
    if meters != {METER}:
        raise _NotUsable("not in 4/2 throughout")
    if any(token in ("*^", "*v", "*+", "*x") for line in lines for token in line.split("\t")):
        raise _NotUsable("voices that divide")
    now, bars = Fraction(0), []
    ends = [Fraction(0)] * len(TRACKS)
    notes: list[list[tuple[int, int, int, int]]] = [[] for _ in TRACKS]
    for line in lines:
        if line.startswith("="):
            bars.append(now)
        if not line or line[0] in "!*=":
            continue
        for k, token in enumerate(reversed(line.split("\t"))):
            if token == ".":
                continue
            if ends[k] != now:
                raise _NotUsable("a voice that overlaps itself")
            length, pitch = _note(token)
            ends[k] += length
            if pitch is not None:
                # Checked before filling the roll: NumPy counts negative indices from the end.
                if not 0 <= pitch < pianoroll.MIDI_PITCHES:
                    raise _NotUsable("notes outside MIDI's pitches")
                notes[k].append((_step(now), _step(ends[k]), pitch, 0))
        now = min(ends)
    if any(end != now for end in ends) or not any(notes):
        raise _NotUsable("voices of different lengths" if any(notes) else "no notes")
    length = _step(now)
    if length > MAX_STEPS:
        raise _NotUsable("longer than the longest piece read")
    roll = np.zeros((length, pianoroll.MIDI_PITCHES, len(TRACKS)), bool)
    for k, voice in enumerate(notes):
        roll[:, :, k] = midi.to_roll(np.array(voice, np.int64).reshape(-1, 4), length)
    starts = np.unique([_step(bar) for bar in bars if bar < now])
    if (np.diff(starts) != BAR_STEPS).any():
        raise _NotUsable("bars of different lengths")
    return Piece(f"{mass}/{name}", pianoroll.pack(roll), starts)


def _note(token: str) -> tuple[Fraction, int | None]:
    """Length in steps and MIDI pitch, None for a rest."""
    found = TOKEN.fullmatch(token)
    if not found:
        raise _NotUsable(f"signs that are not read ({token})")
    _, number, dots, rest, letters, sign, _ = found.groups()
    # 0 is a breve, two whole notes, 00 a long.
    whole = Fraction(2 ** len(number)) if not int(number) else Fraction(1, int(number))
    length = whole * STEPS_OF_WHOLE * (2 - Fraction(1, 2 ** len(dots)))
    if rest:
        return length, None
    # c is middle C, cc the one above; C the one below it, CC two below.
    octave = 4 + len(letters) if letters.islower() else 5 - len(letters)
    natural = midi.NATURALS[letters[0].upper()]
    return length, 12 * octave + natural + sign.count("#") - sign.count("-")


def _step(steps: Fraction) -> int:
    if steps.denominator != 1:
        raise _NotUsable("not on the grid of eighths")
    return int(steps)
