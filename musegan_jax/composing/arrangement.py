"""From an accompaniment to a song: programs, timing and velocities."""

from typing import Any, NamedTuple

import mido
import numpy as np

from musegan_jax import pianoroll
from musegan_jax.composing.decoding.frame import frame_of
from musegan_jax.composing.melody import Melody
from musegan_jax.data import midi
from musegan_jax.data.instruments import range_of
from musegan_jax.data.midi_events import with_values
from musegan_jax.models.model import Model
from musegan_jax.shapes import Bool

ACCENTS = (8, 3, 0)  # added to the velocity on a bar line, on a beat, elsewhere
JITTER = 4  # largest random change of a velocity, up or down
DELAY = 0.01  # largest random delay of an accompaniment note, seconds
NONE = np.zeros((0, 4), np.int64)  # no notes


class Style(NamedTuple):
    """How an accompaniment is played.

    Attributes:
        programs: General MIDI programs 0..127 of the generated pitched tracks, in their order; None
            for the tracks' own programs.
        keep_melody: write the melody's own notes, not the network's version of it.
        humanise: seed of small random changes in timing and velocity; None for none.
        melody_only: of the melody's part, write only the notes of the melody line.
        keep_accompaniment: write the other parts of the melody's file as well.
    """

    programs: tuple[int, ...] | None = None
    keep_melody: bool = True
    humanise: int | None = None
    melody_only: bool = False
    keep_accompaniment: bool = False


AS_GIVEN = Style()


def generated_tracks(model: Model, keep_melody: bool = True) -> list[int]:
    """The generated tracks to write: all, or all but the melody's."""
    tracks = range(len(model.tracks))
    return [k for k in tracks if not keep_melody or k != model.config.condition_track]


def to_midi(
    model: Model, melody: Melody, roll: np.ndarray, style: Style = AS_GIVEN
) -> mido.MidiFile:
    """A song of the melody, with its own messages unchanged, and the generated tracks of `roll`.

    Tempo, key and meter come from the melody's file; its other tracks are kept only if the style
    says so, after the generated ones.

    Args:
        model: the generator.
        melody: the accompanied melody.
        roll: bool `(steps, P, K)`, its accompaniment.
        style: how to play it.
    """
    score, part = melody.score, melody.part
    song = mido.MidiFile(type=1, ticks_per_beat=score.ticks_per_beat)
    song.tracks = [_marks(score)]
    kept = _others(melody) if style.keep_accompaniment else []
    if style.keep_melody:
        dropped = part.notes[~melody.on_line & style.melody_only]
        song.tracks.append(_own_track(score, part, dropped))
    programs = list(style.programs or ())
    generator = None if style.humanise is None else np.random.default_rng(style.humanise)
    per_step = score.ticks_per_beat / model.steps_per_beat
    made = placed(model, roll, melody.condition, melody.shift)
    everywhere = completed(model, melody, made)
    generated = generated_tracks(model, style.keep_melody)
    taken = {each.channel for each in (*kept, *([part] if style.keep_melody else []))}
    names = {each.name for each in kept}
    channels = midi.channels([model.tracks[k] for k in generated], taken)
    for k, channel in zip(generated, channels, strict=True):
        track = model.tracks[k]
        program = programs.pop(0) if programs and not track.is_drum else track.program
        column = everywhere[..., k]
        if style.programs and not track.is_drum and k != model.config.condition_track:
            # The tracks' own instruments were heeded when the voices were decided.
            every = np.arange(pianoroll.MIDI_PITCHES)
            column = _moved(column, _within(every, *range_of(program)))
        notes = pianoroll.runs(column)
        pitches = notes[:, 2]
        ticks = np.floor((notes[:, :2] + melody.offset) * per_step + 0.5).astype(np.int64)
        velocities = np.full(len(notes), midi.VELOCITY)
        if generator is not None:
            ticks, velocities = _humanised(score, ticks, generator)
        rows = np.column_stack([ticks, pitches, velocities]).astype(np.int64)
        # If steps are finer than ticks, a note may have no length and its release would come first.
        lasting = rows[:, 0] < rows[:, 1]
        rows = rows[lasting]
        name = f"{track.name} (new)" if track.name in names else track.name
        song.tracks.append(midi.note_track(name, channel, program, rows))
    song.tracks += [_own_track(score, each) for each in kept]
    return song


def _others(melody: Melody) -> list[midi.Part]:
    return [part for part in melody.score.parts if part is not melody.part]


def kept_notes(model: Model, melody: Melody) -> Bool[np.ndarray, "T 128"]:
    """What the other pitched parts of the melody's file play, on the steps of its condition."""
    per_step = melody.score.ticks_per_beat / model.steps_per_beat
    end = melody.offset + len(melody.condition)
    found = np.zeros((end, pianoroll.MIDI_PITCHES), bool)
    for part in _others(melody):
        if not part.is_drum:
            found |= midi.to_roll(midi.quantise(part.notes, per_step), end)
    return found[melody.offset :]


def remarks(melody: Melody, style: Style) -> list[str]:
    """Remarks for the user on what of the melody's file is not in the song, one line each."""
    said = []
    others = _others(melody)
    if others and not style.keep_accompaniment:
        names = [part.name or ("drums" if part.is_drum else "unnamed") for part in others]
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        said.append(
            f"left out, the file's other tracks: {shown} (they stay with --keep-accompaniment)"
        )
    below = np.count_nonzero(~melody.on_line)
    if below and style.keep_melody and style.melody_only:
        said.append(f"left out, {below} notes of chords or a left hand")
    elif below and style.keep_melody:
        said.append(
            "chords or a left hand sound on beside the answer (without them: --melody-only)"
        )
    return said


def placed(
    model: Model,
    roll: Bool[np.ndarray, "T P K"],
    condition: Bool[np.ndarray, "_ 128"],
    shift: int = 0,
) -> Bool[np.ndarray, "T 128 K"]:
    """An accompaniment at the pitches at which it is played: bool `(steps, 128, K)`.

    Undoes the melody's shift; whole octaves of it for the melody's own track only, as the others
    stay in their ranges. A note outside its track's range in training is moved into it by octaves.
    No note begins after the end of the melody's last note. A roll, not a list of notes: where two
    pitches an octave apart become one, their notes overlap.

    Args:
        model: the generator.
        roll: its accompaniment.
        condition: the melody as the network was given it, at least T steps.
        shift: semitones by which that is above the melody as it was written.
    """
    placed = np.zeros((len(roll), pianoroll.MIDI_PITCHES, len(model.tracks)), bool)
    ranges = model.music.played_ranges(model.config.condition_track)
    for k, track in enumerate(model.tracks):
        pitches = np.arange(roll.shape[1]) + model.config.lowest_pitch
        if k == model.config.condition_track:
            pitches = pitches - shift
        elif not track.is_drum:
            pitches = _within(pitches - frame_of(shift).shift, *ranges[k])
        placed[..., k] = _moved(roll[..., k], pitches)
    # Notes that sound in the melody's last step may last to the end of the bar.
    last = np.flatnonzero(condition.any(axis=1))[-1]
    placed[last:] = np.logical_and.accumulate(placed[last:], axis=0)
    return placed


def completed(
    model: Model, melody: Melody, roll: Bool[np.ndarray, "T 128 K"]
) -> Bool[np.ndarray, "T 128 K"]:
    """Hold what sounds with the end of the melody to the end of that bar, and end there.

    A tune that ends inside a bar would otherwise break off there; where its track goes on, with a
    left hand, say, the last chord would otherwise drone on. Drums are neither held nor ended.

    Args:
        model: the generator.
        melody: the accompanied melody.
        roll: from `placed`.
    """
    last = int(np.flatnonzero(melody.condition.any(axis=1))[-1])
    per_step = melody.score.ticks_per_beat / model.steps_per_beat
    lines = midi.quantise_ticks(melody.score.bar_lines, per_step) - melody.offset
    end = int(lines[np.searchsorted(lines, last, side="right")])
    pitched = [k for k, track in enumerate(model.tracks) if not track.is_drum]
    held = roll.copy()
    held[last:end, :, pitched] = roll[last, :, pitched].T
    held[end:, :, pitched] = False
    return held


def _moved(column: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    """A track `(T, P)` with row n at pitch `pitches[n]`: bool `(T, 128)`; others are left out."""
    moved = np.zeros((len(column), pianoroll.MIDI_PITCHES), bool)
    for row, pitch in enumerate(pitches):
        if 0 <= pitch < pianoroll.MIDI_PITCHES:
            moved[:, pitch] |= column[:, row]
    return moved


def _within(pitches: np.ndarray, low: int, high: int) -> np.ndarray:
    """Move pitches into `low` to `high` by the fewest octaves, if that range holds an octave."""
    if high - low < 11:
        return pitches
    up = np.maximum(-(-(low - pitches) // 12), 0)
    down = np.maximum(-(-(pitches - high) // 12), 0)
    return pitches + 12 * (up - down)


def _humanised(
    score: midi.Score, ticks: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Slightly delayed ticks `(N, 2)`, and velocities `(N,)` with the meter's accents.

    Notes that begin together are delayed together, or they would echo. Releases do not move.
    """
    starts, which = np.unique(ticks[:, 0], return_inverse=True)
    on_bar = np.isin(starts, score.bar_lines)
    on_beat = starts % score.ticks_per_beat == 0
    accents = np.select([on_bar, on_beat], ACCENTS[:2], ACCENTS[2])
    velocities = midi.VELOCITY + accents + generator.integers(-JITTER, JITTER + 1, len(starts))
    # Seconds per tick at the local tempo.
    per_tick = np.maximum(score.seconds(starts + 1) - score.seconds(starts), 1e-9)
    late = np.floor(generator.uniform(0, DELAY, len(starts)) / per_tick).astype(np.int64)
    moved = ticks.copy()
    # At most half of the note, which matters for short notes.
    moved[:, 0] += np.minimum(late[which], (ticks[:, 1] - ticks[:, 0]) // 2)
    return moved, velocities[which]


def has_accompaniment(model: Model, roll: np.ndarray) -> bool:
    """Whether a roll, bool `(steps, P, K)`, has notes besides the melody's."""
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


def _own_track(score: midi.Score, part: midi.Part, dropped: np.ndarray = NONE) -> mido.MidiTrack:
    """The part's own messages, unchanged, and the names and words of its track.

    Without the notes in `dropped`, rows of `part.notes`.
    """
    kinds = ("track_name", "instrument_name", "lyrics", "text")
    onsets = {(int(start), int(pitch)) for start, _, pitch, _ in dropped}
    silenced: dict[int, bool] = {}  # pitch -> whether what sounds of it last began is dropped
    timed = []
    now = 0
    for message in score.midi.tracks[part.track]:
        now += message.time
        own = message.type in kinds if message.is_meta else _channel(message) == part.channel
        if own and onsets and message.type in ("note_on", "note_off"):
            pitch = message.note
            if message.type == "note_on" and message.velocity:
                was, silenced[pitch] = silenced.get(pitch, True), (now, pitch) in onsets
                if silenced[pitch] and not was:  # it ends the note that sounds
                    message = mido.Message("note_off", channel=part.channel, note=pitch)
                own = not (silenced[pitch] and was)
            else:
                own = not silenced.get(pitch, False)
        if own:
            timed.append((now, message))
    # A note without a release lasts until the end of its track.
    timed.append((now, mido.MetaMessage("end_of_track")))
    return _relative(timed)


def _channel(message: mido.Message) -> int | None:
    return getattr(message, "channel", None)  # system messages have none


def _relative(timed: list[tuple[int, Any]]) -> mido.MidiTrack:
    """Messages with absolute ticks as a track, in which times are relative."""
    track, now = mido.MidiTrack(), 0
    for tick, message in timed:
        track.append(with_values(message, time=tick - now))
        now = tick
    return track
