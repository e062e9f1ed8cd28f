"""The built-in melodies, all in the public domain."""

import mido
import numpy as np

from musegan_jax.data import midi
from musegan_jax.errors import UserError

# Each word is a note name and its length in beats.
MELODIES = {
    # French, "Ah! vous dirai-je, maman", before 1761.
    "twinkle": """
        C4:1 C4:1 G4:1 G4:1  A4:1 A4:1 G4:2   F4:1 F4:1 E4:1 E4:1  D4:1 D4:1 C4:2
        G4:1 G4:1 F4:1 F4:1  E4:1 E4:1 D4:2   G4:1 G4:1 F4:1 F4:1  E4:1 E4:1 D4:2
        C4:1 C4:1 G4:1 G4:1  A4:1 A4:1 G4:2   F4:1 F4:1 E4:1 E4:1  D4:1 D4:1 C4:2
    """,
    # Beethoven, Symphony no. 9, fourth movement, 1824.
    "ode_to_joy": """
        E4:1 E4:1 F4:1 G4:1  G4:1 F4:1 E4:1 D4:1  C4:1 C4:1 D4:1 E4:1  E4:1.5 D4:0.5 D4:2
        E4:1 E4:1 F4:1 G4:1  G4:1 F4:1 E4:1 D4:1  C4:1 C4:1 D4:1 E4:1  D4:1.5 C4:0.5 C4:2
        D4:1 D4:1 E4:1 C4:1  D4:1 E4:0.5 F4:0.5 E4:1 C4:1
        D4:1 E4:0.5 F4:0.5 E4:1 D4:1  C4:1 D4:1 G3:2
        E4:1 E4:1 F4:1 G4:1  G4:1 F4:1 E4:1 D4:1  C4:1 C4:1 D4:1 E4:1  D4:1.5 C4:0.5 C4:2
    """,
    # Russian, to Nekrasov's poem of 1861; in A minor.
    "korobeiniki": """
        E5:1 B4:0.5 C5:0.5 D5:1 C5:0.5 B4:0.5  A4:1 A4:0.5 C5:0.5 E5:1 D5:0.5 C5:0.5
        B4:1.5 C5:0.5 D5:1 E5:1  C5:1 A4:1 A4:2
        D5:1.5 F5:0.5 A5:1 G5:0.5 F5:0.5  E5:1.5 C5:0.5 E5:1 D5:0.5 C5:0.5
        B4:1 B4:0.5 C5:0.5 D5:1 E5:1  C5:1 A4:1 A4:2
    """,
}


def melody(name: str) -> midi.Score:
    """A built-in melody as a score in 4/4 at 100 bpm, without accidentals.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in MELODIES:
        raise UserError(f"{name}: no built-in melody; choose one of {', '.join(MELODIES)}")
    notes, now = [], 0
    for word in MELODIES[name].split():
        pitch, beats = word.split(":")
        end = now + round(float(beats) * midi.TICKS_PER_BEAT)
        # Without the gap, a repeated note would sound as one long note.
        notes.append((now, end - midi.TICKS_PER_BEAT // 16, _number(pitch), 90))
        now = end
    head = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(100)),
            mido.MetaMessage("time_signature", numerator=4, denominator=4),
            mido.MetaMessage("key_signature", key="C"),
        ]
    )
    file = mido.MidiFile(type=1, ticks_per_beat=midi.TICKS_PER_BEAT)
    file.tracks = [head, midi.note_track("Melody", 0, 0, np.array(notes, np.int64))]
    return midi.parse(file, name)


def _number(name: str) -> int:
    return 12 * (int(name[1:]) + 1) + midi.NATURALS[name[0]]
