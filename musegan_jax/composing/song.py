"""A song as files: MIDI, sound and picture."""

from collections.abc import Iterator
from typing import Any

import mido

from musegan_jax.data import midi
from musegan_jax.rendering import audio, plots


def write_song(song: mido.MidiFile, folder: Any, stem: str, title: str) -> Iterator[Any]:
    """Write `STEM.mid`, `STEM.wav` and `STEM.png` into a folder; yield each path once written.

    Raises:
        UserError: if one cannot be written.
    """
    score = midi.parse(song, stem)
    midi.write(song, folder / f"{stem}.mid")
    yield folder / f"{stem}.mid"
    audio.write_wav(score, folder / f"{stem}.wav")
    yield folder / f"{stem}.wav"
    plots.piano_roll(score, title, folder / f"{stem}.png")
    yield folder / f"{stem}.png"
