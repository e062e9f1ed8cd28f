"""From the notes of an accompaniment to a song: who plays them, where, how loud."""

from typing import Any, NamedTuple

import mido
import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.melody import Melody
from musegan_jax.data import midi
from musegan_jax.models.model import Model

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
    marks.

    Args:
        model: the generator.
        melody: what was accompanied.
        roll: bool `(steps, P, K)`, its accompaniment.
        style: how to play it.
    """
    score, part = melody.score, melody.part
    song = mido.MidiFile(type=1, ticks_per_beat=score.ticks_per_beat)
    song.tracks = [_marks(score)]
    if style.keep_melody:
        song.tracks.append(_own_track(score, part))
    programs = list(style.programs or ())
    generator = None if style.humanise is None else np.random.default_rng(style.humanise)
    per_step = score.ticks_per_beat / model.steps_per_beat
    everywhere = placed(model, melody, roll)
    generated = generated_tracks(model, style.keep_melody)
    taken = {part.channel} if style.keep_melody else set()
    channels = midi.channels([model.tracks[k] for k in generated], taken)
    for k, channel in zip(generated, channels, strict=True):
        track = model.tracks[k]
        notes = pianoroll.runs(everywhere[..., k])
        pitches = notes[:, 2]
        ticks = np.floor((notes[:, :2] + melody.offset) * per_step + 0.5).astype(np.int64)
        velocities = np.full(len(notes), midi.VELOCITY)
        if generator is not None:
            ticks, velocities = _humanised(score, ticks, generator)
        rows = np.column_stack([ticks, pitches, velocities]).astype(np.int64)
        # A step finer than the file's ticks may have no length; its release would come first.
        lasting = rows[:, 0] < rows[:, 1]
        rows = rows[lasting]
        program = programs.pop(0) if programs and not track.is_drum else track.program
        song.tracks.append(midi.note_track(track.name, channel, program, rows))
    return song


def placed(model: Model, melody: Melody, roll: np.ndarray) -> np.ndarray:
    """The notes of an accompaniment where they are played: bool `(steps, 128, K)`.

    At the melody's own pitches, where the network heard it elsewhere. A note outside what its track
    had in training is moved by octaves to within. No note begins after the melody's last has ended.
    A roll, not notes: where two pitches an octave apart become one, their notes overlap.
    """
    placed = np.zeros((len(roll), pianoroll.MIDI_PITCHES, len(model.tracks)), bool)
    for k, track in enumerate(model.tracks):
        pitches = np.arange(roll.shape[1]) + model.config.lowest_pitch
        if not track.is_drum:
            pitches = _within(pitches - melody.shift, *model.music.ranges[k])
        for row, pitch in enumerate(pitches):
            if 0 <= pitch < pianoroll.MIDI_PITCHES:
                placed[:, pitch, k] |= roll[:, row, k]
    # What sounds in the melody's last step may ring on to the end of the bar.
    last = np.flatnonzero(melody.condition.any(axis=1))[-1]
    placed[last:] = np.logical_and.accumulate(placed[last:], axis=0)
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
    velocities = midi.VELOCITY + accents + generator.integers(-JITTER, JITTER + 1, len(starts))
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
