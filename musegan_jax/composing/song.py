"""A song as files: MIDI, sound and picture."""

from collections.abc import Iterator
from typing import Any

import mido
import numpy as np

from musegan_jax.data import midi
from musegan_jax.rendering import audio, plots


def write_song(
    song: mido.MidiFile, folder: Any, stem: str, title: str, keep_silence: bool = False
) -> Iterator[Any]:
    """Write `STEM.mid`, `STEM.wav` and `STEM.png` into a folder; yield each path once written.

    Sound and picture begin a bar before the bar of the first note, unless `keep_silence`.

    Raises:
        UserError: if one cannot be written.
    """
    score = midi.parse(song, stem)
    start = 0 if keep_silence else beginning(score)
    midi.write(song, folder / f"{stem}.mid")
    yield folder / f"{stem}.mid"
    audio.write_wav(score, folder / f"{stem}.wav", start)
    yield folder / f"{stem}.wav"
    plots.piano_roll(score, title, folder / f"{stem}.png", start)
    yield folder / f"{stem}.png"


def beginning(score: midi.Score) -> int:
    """The tick of the bar line a bar before the bar in which the first note begins, 0 at least."""
    lines = score.bar_lines
    first = min((int(part.notes[0, 0]) for part in score.parts), default=0)
    bar = int(np.searchsorted(lines, first, side="right")) - 1
    return int(lines[max(bar - 1, 0)])
