"""MIDI scores as audio."""

import io
import wave
from pathlib import Path
from typing import Any

import mido
import numpy as np

from musegan_jax import files
from musegan_jax.data import midi
from musegan_jax.data.midi_events import with_values

SAMPLE_RATE = 44100
# With many notes above 100, symusic 0.5.9 never returned from `render`; above 108 it is silent.
HIGHEST = 96
TAIL = 1.5  # seconds after the last note for it to die away
# Sound takes 10 MB a minute, and time by its length and by how many notes sound at once. A file
# within the limits of `midi` may last an hour and hold every key down, so only a beginning is
# played: so many seconds, and so many of all notes together, without a SoundFont and with one.
MAX_SECONDS = 600
LONGEST = (3_000, 6_000)
BLOCK = 2**20  # samples that are converted at once
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

    Of a long score the beginning (`excerpt`). No note may sound at `start`.

    Raises:
        UserError: if the file cannot be written.
    """
    sound = play(excerpt(score, start, LONGEST[soundfont_player() is not None]))
    blocks = [sound[at : at + BLOCK] for at in range(0, len(sound), BLOCK)]
    loudest = max((float(np.abs(block).max()) for block in blocks), default=0.0)
    factor = PEAK * 32767 / max(loudest, 1e-9)
    # A file object, not a name: `wave` reports a name that it cannot open twice.
    with (
        files.replacing(path) as temporary,
        open(temporary, "wb") as raw,
        wave.open(raw, "wb") as file,
    ):
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        # Block by block: at once, an hour would take several times its 600 MB of memory.
        for block in blocks:
            file.writeframesraw(np.round(block * factor).astype("<i2").tobytes())


def excerpt(score: midi.Score, start: int = 0, note_seconds: float = LONGEST[True]) -> midi.Score:
    """As much of a score, from the tick `start` on, as is played; of most, all.

    Args:
        score: of any length.
        start: a tick at which no note sounds.
        note_seconds: the most seconds that its notes may sound, all together, for the time that it
            takes to play them.
    """
    begin = float(score.seconds(start))
    starts = [score.seconds(part.notes[:, 0]) for part in score.parts]
    ends = [score.seconds(part.notes[:, 1]) for part in score.parts]

    def fits(tick: int) -> bool:
        second = float(score.seconds(tick))
        sounding = (
            np.minimum(end, second) - np.minimum(start, second)
            for start, end in zip(starts, ends, strict=True)
        )
        return second <= begin + MAX_SECONDS and sum(map(np.sum, sounding)) <= note_seconds

    if fits(score.end):
        return _cut(score, start, score.end) if start else score
    low, high = start, score.end  # ticks: the first fits, the second does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return _cut(score, start, low)


def _cut(score: midi.Score, begin: int, end: int) -> midi.Score:
    """From one tick to another, where what sounds ends; no note may sound at the first.

    What comes before it, such as programs and tempos, comes at once.
    """
    song = mido.MidiFile(type=score.midi.type, ticks_per_beat=score.ticks_per_beat)
    for track in score.midi.tracks:
        kept, tick, now, sounding = mido.MidiTrack(), 0, begin, set()
        for message in track:
            tick += message.time
            if tick > end or message.type == "end_of_track":
                break
            kept.append(with_values(message, time=max(tick - now, 0)))
            now = max(tick, now)
            if message.type in ("note_on", "note_off"):
                key = (message.channel, message.note)
                off = message.type == "note_off" or message.velocity == 0
                (sounding.discard if off else sounding.add)(key)
        for channel, note in sorted(sounding):
            kept.append(mido.Message("note_off", channel=channel, note=note, time=end - now))
            now = end
        song.tracks.append(kept)
    return midi.parse(song, "a part of the score")


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
            with_values(message, note=_lowered(message.note))
            if getattr(message, "note", 0) > HIGHEST
            else message
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
    return np.broadcast_to(total[:, None], (len(total), 2))


def _organ(phase: np.ndarray) -> np.ndarray:
    """A sine and two soft overtones: clearer than a sine on small loudspeakers."""
    return np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.15 * np.sin(3 * phase)


def _noise(phase: np.ndarray) -> np.ndarray:
    """White noise, equal in every call: a song's bytes must not differ from run to run."""
    return np.random.default_rng(0).uniform(-1, 1, phase.shape)
