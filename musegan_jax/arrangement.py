"""An answer as a song: the MIDI file, and with it sound and picture."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import mido
import numpy as np

from musegan_jax import pianoroll
from musegan_jax.compose import Melody, Model
from musegan_jax.data import midi

VELOCITY = 70  # of the accompaniment; a typical melody has 90 to 100
ACCENTS = (8, 3, 0)  # added to it on a bar line, on a beat, elsewhere
JITTER = 4  # most that chance adds to a velocity or takes off it
DELAY = 0.01  # most seconds by which a note of the accompaniment comes late


class Style(NamedTuple):
    """How an answer is played.

    Attributes:
        programs: General MIDI programs 0..127 of the generated pitched tracks, in their order; None
            for the tracks' own.
        keep_melody: the melody's own notes, else what the network makes of them.
        humanise: seed of small deviations in time and loudness; None for none.
    """

    programs: tuple[int, ...] | None = None
    keep_melody: bool = True
    humanise: int | None = None


AS_GIVEN = Style()


def generated_tracks(model: Model, keep_melody: bool = True) -> list[int]:
    """The tracks of the answer that are written: all, or all but the melody's."""
    tracks = range(len(model.tracks))
    return [k for k in tracks if not keep_melody or k != model.config.condition_track]


def to_midi(
    model: Model, melody: Melody, roll: np.ndarray, style: Style = AS_GIVEN
) -> mido.MidiFile:
    """The melody, its own messages unchanged, and the generated tracks of `roll` beside it.

    Tempo, key and meter come from the melody's file; of its other tracks nothing is kept but such
    marks. No generated note begins after the melody's last has ended. A note outside what its track
    had in training, where the answer was moved back to the melody's octave, is moved by octaves to
    within.

    Args:
        model: the generator.
        melody: what was accompanied.
        roll: bool `(steps, P, K)`, its answer.
        style: how to play it.
    """
    score, part = melody.score, melody.part
    song = mido.MidiFile(type=1, ticks_per_beat=score.ticks_per_beat)
    song.tracks = [_marks(score)]
    taken = {midi.DRUM_CHANNEL}
    if style.keep_melody:
        song.tracks.append(_own_track(score, part))
        taken.add(part.channel)
    channels = [c for c in range(16) if c not in taken]
    programs = list(style.programs or ())
    generator = None if style.humanise is None else np.random.default_rng(style.humanise)
    per_step = score.ticks_per_beat / model.steps_per_beat
    used = 0
    for k in generated_tracks(model, style.keep_melody):
        track = model.tracks[k]
        notes = pianoroll.runs(_placed(model, melody, roll, k))
        # Voices may ring on to the end of the bar, but none begins when the melody has ended.
        notes = notes[notes[:, 0] <= np.flatnonzero(melody.condition.any(axis=1))[-1]]
        pitches = notes[:, 2]
        ticks = np.floor((notes[:, :2] + melody.offset) * per_step + 0.5).astype(np.int64)
        velocities = np.full(len(notes), VELOCITY)
        if generator is not None:
            ticks, velocities = _humanised(score, ticks, generator)
        rows = np.column_stack([ticks, pitches, velocities]).astype(np.int64)
        # A step finer than the file's ticks may have no length; its release would come first.
        lasting = rows[:, 0] < rows[:, 1]
        rows = rows[lasting]
        # More tracks than channels share them in turn: MIDI has no seventeenth.
        channel = midi.DRUM_CHANNEL if track.is_drum else channels[used % len(channels)]
        used += not track.is_drum
        program = programs.pop(0) if programs and not track.is_drum else track.program
        song.tracks.append(midi.note_track(track.name, channel, program, rows))
    return song


def _placed(model: Model, melody: Melody, roll: np.ndarray, k: int) -> np.ndarray:
    """Track k of an answer at the pitches that it is played at: bool `(steps, 128)`.

    As a roll, not as notes: where two pitches an octave apart become one, their notes overlap.
    """
    pitches = np.arange(roll.shape[1]) + model.config.lowest_pitch
    if not model.tracks[k].is_drum:
        pitches = _within(pitches - melody.shift, *model.ranges[k])
    placed = np.zeros((len(roll), pianoroll.MIDI_PITCHES), bool)
    for row, pitch in enumerate(pitches):
        if 0 <= pitch < pianoroll.MIDI_PITCHES:
            placed[:, pitch] |= roll[:, row, k]
    return placed


def _within(pitches: np.ndarray, low: int, high: int) -> np.ndarray:
    """Pitches outside `low` to `high` moved by the fewest octaves; not, if less than one fits."""
    if high - low < 11:
        return pitches
    up = np.maximum(-(-(low - pitches) // 12), 0)
    down = np.maximum(-(-(pitches - high) // 12), 0)
    return pitches + 12 * (up - down)


def _humanised(
    score: midi.Score, ticks: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Ticks `(N, 2)` a little late, and velocities `(N,)` with the meter's accents.

    Notes that begin together are late together: an ensemble, not an echo. Releases stay.
    """
    starts, which = np.unique(ticks[:, 0], return_inverse=True)
    on_bar = np.isin(starts, score.bar_lines())
    on_beat = starts % score.ticks_per_beat == 0
    accents = np.select([on_bar, on_beat], ACCENTS[:2], ACCENTS[2])
    velocities = VELOCITY + accents + generator.integers(-JITTER, JITTER + 1, len(starts))
    # Seconds by the tempo there: a tick is longer in a slow piece.
    per_tick = np.maximum(score.seconds(starts + 1) - score.seconds(starts), 1e-9)
    late = np.floor(generator.uniform(0, DELAY, len(starts)) / per_tick).astype(np.int64)
    moved = ticks.copy()
    # Never past half of the note, which for a short one is less than that.
    moved[:, 0] += np.minimum(late[which], (ticks[:, 1] - ticks[:, 0]) // 2)
    return moved, velocities[which]


def has_accompaniment(model: Model, roll: np.ndarray) -> bool:
    """Whether an answer, bool `(steps, P, K)`, has notes beside the melody's."""
    return bool(roll[:, :, generated_tracks(model)].any())


def _marks(score: midi.Score) -> mido.MidiTrack:
    """Tempo, meter, key and marker messages of all tracks, as the first track of the song."""
    kinds = ("set_tempo", "time_signature", "key_signature", "marker", "copyright")
    timed = []
    for track in score.midi.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type in kinds:
                timed.append((now, message))
    return _relative(sorted(timed, key=lambda pair: pair[0]))


def _own_track(score: midi.Score, part: midi.Part) -> mido.MidiTrack:
    """The part's own messages, as they were, and the names and words of its track."""
    kinds = ("track_name", "instrument_name", "lyrics", "text")
    timed = []
    now = 0
    for message in score.midi.tracks[part.track]:
        now += message.time
        own = message.type in kinds if message.is_meta else _channel(message) == part.channel
        if own:
            timed.append((now, message))
    # A note that nothing ends lasts until its track does.
    timed.append((now, mido.MetaMessage("end_of_track")))
    return _relative(timed)


def _channel(message: mido.Message) -> int | None:
    return getattr(message, "channel", None)  # system messages have none


def _relative(timed: list[tuple[int, Any]]) -> mido.MidiTrack:
    """Messages with absolute ticks as a track, whose times are differences."""
    track, now = mido.MidiTrack(), 0
    for tick, message in timed:
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def write_song(song: mido.MidiFile, folder: Any, stem: str, title: str) -> Iterator[Any]:
    """Write `STEM.mid`, `STEM.wav` and `STEM.png` into a folder; yields each path when written.

    Raises:
        UserError: if one cannot be written.
    """
    from musegan_jax.rendering import audio, plots

    score = midi.parse(song, stem)
    midi.write(song, folder / f"{stem}.mid")
    yield folder / f"{stem}.mid"
    audio.write_wav(score, folder / f"{stem}.wav")
    yield folder / f"{stem}.wav"
    plots.piano_roll(score, title, folder / f"{stem}.png")
    yield folder / f"{stem}.png"
