"""MIDI scores as audio."""

import io
import wave
from pathlib import Path
from typing import Any

import mido
import numpy as np

from musegan_jax import files
from musegan_jax.data import midi

SAMPLE_RATE = 44100
# With many notes above 100, symusic 0.5.9 never returned from `render`; above 108 it is silent.
HIGHEST = 96
TAIL = 1.5  # seconds after the last note for it to die away
PEAK = 0.89  # of full scale: -1 dB, so that no player's resampling clips


def soundfont_player() -> Any:
    """The module `symusic` of the extra `audio`; None where it is missing or cannot play.

    Version 0.6.0 cannot: its `render` raises TypeError.
    """
    try:
        import symusic
    except ImportError:
        return None
    return None if symusic.__version__ == "0.6.0" else symusic


def write_wav(score: midi.Score, path: files.AnyPath, start: int = 0) -> None:
    """Write a score, from the tick `start` on, as a 16-bit stereo WAV file, as `play` plays it.

    Raises:
        UserError: if the file cannot be written.
    """
    sound = play(score)[round(float(score.seconds(start)) * SAMPLE_RATE) :]
    loudest = np.abs(sound).max(initial=0.0)
    samples = np.round(sound * (PEAK * 32767 / max(loudest, 1e-9))).astype("<i2")
    # A file object, not a name: `wave` reports a name that it cannot open twice.
    with (
        files.replacing(path) as temporary,
        open(temporary, "wb") as raw,
        wave.open(raw, "wb") as file,
    ):
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def play(score: midi.Score) -> np.ndarray:
    """Float `(samples, 2)` at `SAMPLE_RATE`, of any loudness.

    It is played with a SoundFont if the extra `audio` is installed, else with simple waves.
    """
    player = soundfont_player()
    return _plain(score) if player is None else _soundfont(score, player)


def _soundfont(score: midi.Score, symusic: Any) -> np.ndarray:
    """Float `(samples, 2)`, played with the SoundFont in the package pretty_midi."""
    import pretty_midi

    font = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
    song = symusic.Score.from_midi(_as_bytes(score))
    player = symusic.Synthesizer(sf_path=str(font), sample_rate=SAMPLE_RATE)
    return np.asarray(player.render(song, stereo=True)).T


def _as_bytes(score: midi.Score) -> bytes:
    """The score as a MIDI file whose notes the SoundFont player can play."""
    playable = mido.MidiFile(type=score.midi.type, ticks_per_beat=score.ticks_per_beat)
    playable.tracks = [
        mido.MidiTrack(
            message.copy(note=_lowered(message.note)) if hasattr(message, "note") else message
            for message in track
        )
        for track in score.midi.tracks
    ]
    playable.tracks.append(_silence(score))
    buffer = io.BytesIO()
    playable.save(file=buffer)
    return buffer.getvalue()


def _silence(score: midi.Score) -> mido.MidiTrack:
    """A note at volume 0 after the last one: else the player cuts off the last note's tail."""
    used = {part.channel for part in score.parts} | {midi.DRUM_CHANNEL}
    channel = next((c for c in range(16) if c not in used), None)
    if channel is None:  # all channels are in use; none can be silenced
        return mido.MidiTrack()
    per_second = 1 / max(float(score.seconds(score.end + 1) - score.seconds(score.end)), 1e-6)
    ticks = round(TAIL * per_second)
    return mido.MidiTrack(
        [
            mido.Message("control_change", channel=channel, control=7, value=0),
            mido.Message("note_on", channel=channel, note=60, velocity=1, time=score.end),
            mido.Message("note_off", channel=channel, note=60, time=ticks),
        ]
    )


def _lowered(pitch: int) -> int:
    """Lower a pitch above `HIGHEST` by whole octaves."""
    return pitch - 12 * max(-(-(pitch - HIGHEST) // 12), 0)


def _plain(score: midi.Score) -> np.ndarray:
    """Float `(samples, 2)` from pretty_midi's synthesiser: soft waves, and noise for drums."""
    import pretty_midi

    total: np.ndarray = np.zeros(0)
    for part in score.parts:
        instrument = pretty_midi.Instrument(part.program)
        starts = score.seconds(part.notes[:, 0])
        # The written length of a drum note has no meaning; play a tenth of a second.
        ends = starts + 0.1 if part.is_drum else score.seconds(part.notes[:, 1])
        for (_, _, pitch, velocity), start, end in zip(part.notes, starts, ends, strict=True):
            instrument.notes.append(pretty_midi.Note(int(velocity), int(pitch), start, end))
        voice = instrument.synthesize(SAMPLE_RATE, _noise if part.is_drum else _organ)
        if len(voice) > len(total):
            voice, total = total, voice
        total[: len(voice)] += voice
    return np.repeat(total[:, None], 2, axis=1)


def _organ(phase: np.ndarray) -> np.ndarray:
    """A sine and two soft overtones: clearer than a sine on small loudspeakers."""
    return np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.15 * np.sin(3 * phase)


def _noise(phase: np.ndarray) -> np.ndarray:
    """White noise, equal in every call: a song's bytes must not differ from run to run."""
    return np.random.default_rng(0).uniform(-1, 1, phase.shape)
