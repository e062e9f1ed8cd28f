"""A melody and a trained generator become an accompanied piece of any length."""

import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mido
import numpy as np

from musegan_jax import pianoroll, rng
from musegan_jax.config import ModelConfig
from musegan_jax.data import melodies, midi
from musegan_jax.data.dataset import Track
from musegan_jax.errors import UserError
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape

VELOCITY = 70  # of the accompaniment; a typical melody has 90 to 100


class Model(NamedTuple):
    """A trained generator and what must be known to use it.

    `melody_range` is the lowest and highest MIDI pitch of the conditioning track in training,
    random transposition included; `window_steps` is the length that it was trained on.
    """

    config: ModelConfig
    variables: Any
    tracks: tuple[Track, ...]
    steps_per_beat: int
    window_steps: int
    melody_range: tuple[int, int]


class Melody(NamedTuple):
    """What the network is asked to accompany.

    Attributes:
        score: the file that it comes from.
        part: its own notes, in ticks.
        condition: bool `(T, 128)`, the top line in the model's range, from step `offset`.
        offset: the step at which its first sounding bar begins.
        steps: its length; `condition` is padded beyond it to the network's stride.
        shift: semitones (whole octaves) from the part's own pitches to the condition's.
    """

    score: midi.Score
    part: midi.Part
    condition: np.ndarray
    offset: int
    steps: int
    shift: int


def load_melody(name_or_path: str) -> midi.Score:
    """A built-in melody by name, or a MIDI file.

    Raises:
        UserError: if it is neither, or cannot be read.
    """
    if name_or_path in melodies.MELODIES:
        return melodies.melody(name_or_path)
    if not os.path.exists(name_or_path):
        raise UserError(
            f"{name_or_path}: no such file, and no built-in melody ({', '.join(melodies.MELODIES)})"
        )
    return midi.read(name_or_path)


def pick_part(score: midi.Score, track: str | None, name: str) -> midi.Part:
    """The part to accompany: the one named or numbered (from 1), else the likeliest melody.

    Raises:
        UserError: if there is no such part, or none that has pitches.
    """
    pitched = [part for part in score.parts if not part.is_drum]
    if not score.parts:
        raise UserError(f"{name}: it has no notes; give a file with a melody")
    if not pitched:
        raise UserError(f"{name}: it has drums only; give a file with a melody")
    if track is None:
        return max(pitched, key=melody_likeness)
    listed = "; ".join(f"{n} {part.name or 'unnamed'}" for n, part in enumerate(pitched, 1))
    if track.isdecimal() and 1 <= int(track) <= len(pitched):
        return pitched[int(track) - 1]
    named = [part for part in pitched if part.name.casefold() == track.casefold()]
    if not named:
        raise UserError(f"{name}: no track {track!r}; it has {listed}")
    return named[0]


def melody_likeness(part: midi.Part) -> float:
    """How much a part looks like a melody: told by its name, one note at a time, high, busy."""
    telling = ("melody", "vocal", "voice", "lead", "soprano", "sopran", "solo", "cantus")
    named = any(word in part.name.casefold() for word in telling)
    starts, ends, pitches = part.notes[:, 0], part.notes[:, 1], part.notes[:, 2]
    sounding = int((ends - starts).sum())
    # Overlap with the note before: 0 for a single line, near 1 for chords.
    overlap = np.maximum(np.maximum.accumulate(ends)[:-1] - starts[1:], 0).sum() / max(sounding, 1)
    span = max(int(ends.max() - starts.min()), 1)
    return 2.0 * named - 2.0 * overlap + float(pitches.mean()) / 24 + min(sounding / span, 1.0)


def prepare(score: midi.Score, part: midi.Part, model: Model) -> Melody:
    """Put a part on the model's grid and into its range.

    Where notes sound together the highest is the melody. A melody outside the model's range is
    moved by whole octaves to where it overlaps most with the melodies of the training data.

    Raises:
        UserError: if it spans more pitches than the model has.
    """
    per_step = score.ticks_per_beat / model.steps_per_beat
    notes = midi.quantise(part.notes, per_step)
    lines = midi.quantise_ticks(score.bar_lines(), per_step)
    offset = int(lines[lines <= notes[0, 0]].max())
    end = int(notes[:, 1].max())
    # To the end of the last bar, so that the accompaniment does not break off before it.
    steps = min((int(line) for line in lines if line >= end), default=end) - offset
    roll = midi.to_roll(notes - np.array([offset, offset, 0, 0]), steps)
    top = pianoroll.MIDI_PITCHES - 1 - roll[:, ::-1].argmax(axis=1)
    line = np.zeros_like(roll)
    sounding = roll.any(axis=1)
    line[sounding, top[sounding]] = True
    shift = _octaves(top[sounding], model)
    stride = 2 ** len(model.config.generator_filters)
    condition = np.zeros((-(-steps // stride) * stride, pianoroll.MIDI_PITCHES), bool)
    condition[:steps] = pianoroll.transpose(line[:, :, None], shift)[:, :, 0]
    return Melody(score, part, condition, offset, steps, shift)


def _octaves(pitches: np.ndarray, model: Model) -> int:
    """The shift by octaves that puts most steps where training melodies lie, the smallest such."""
    low = model.config.lowest_pitch
    high = low + model.config.pitches - 1
    fitting = [
        12 * octave
        for octave in range(-10, 11)
        if low <= pitches.min() + 12 * octave and pitches.max() + 12 * octave <= high
    ]
    if not fitting:
        raise UserError(
            f"the melody spans MIDI pitches {pitches.min()} to {pitches.max()}, which in no octave "
            f"fits the model's {low} to {high}; take stray notes out, or choose another track"
        )

    def outside(shift: int) -> tuple[int, int]:
        moved = pitches + shift
        trained_low, trained_high = model.melody_range
        return int(((moved < trained_low) | (moved > trained_high)).sum()), abs(shift)

    return min(fitting, key=outside)


@functools.partial(jax.jit, static_argnums=0)
def _generate(config: ModelConfig, variables: Any, condition: jax.Array, keys: jax.Array) -> Any:
    noise = draw_noise(keys, noise_shape(config.generator_filters, *condition.shape[1:3]))
    roll = make_generator(config).apply(variables, condition, noise, train=False)
    return pianoroll.binarise(roll)


def accompany(model: Model, conditions: np.ndarray, keys: jax.Array) -> np.ndarray:
    """The generator's answers to melodies of one length.

    Args:
        model: the generator.
        conditions: bool `(B, T, 128)`, melodies in the model's range, T a multiple of its stride.
        keys: of the noise, `(B,)`.

    Returns:
        Bool `(B, T, P, K)`, P the model's pitches.
    """
    condition = pianoroll.crop(
        conditions[..., None], model.config.lowest_pitch, model.config.pitches
    )
    return np.asarray(
        _generate(model.config, model.variables, pianoroll.to_signed(condition), keys)
    )


def remarks(model: Model, melody: Melody) -> Iterator[str]:
    """What the user should know of how this melody meets this model, a line each."""
    pitched = sum(not part.is_drum for part in melody.score.parts)
    if pitched > 1:
        name = melody.part.name or f"of program {melody.part.program}"
        yield f"melody: the track {name}, of {pitched} tracks (another: --track)"
    if melody.shift:
        octaves = abs(melody.shift) // 12
        yield (
            "the melody lies outside what the model was trained on; it was accompanied "
            f"{octaves} octave{'s' * (octaves > 1)} {'higher' if melody.shift > 0 else 'lower'} "
            "and moved back"
        )
    if melody.steps > model.window_steps:
        beats = melody.steps / model.steps_per_beat
        trained = model.window_steps / model.steps_per_beat
        yield (
            f"{beats:g} beats in one pass; the model was trained on windows of {trained:g} beats"
        )


def generate(model: Model, melody: Melody, seed: int, sample: int) -> np.ndarray:
    """Run the generator once over the whole melody: bool `(steps, P, K)`.

    The network is convolutional, so a long piece is one pass and has no seams. `sample` numbers
    the noise maps of one seed.
    """
    key = rng.update_key(rng.root_key(seed), "eval", sample, 0)
    keys = rng.example_keys(key, jnp.zeros(1, jnp.int32))
    return accompany(model, melody.condition[None], keys)[0, : melody.steps]


def voices(model: Model, melody: Melody, roll: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The answer as music: what `evaluation.metrics` measures.

    Args:
        model: the generator.
        melody: what was accompanied.
        roll: bool `(steps, P, K)`, the answer of `generate`.

    Returns:
        The melody, bool `(steps, 128, 1)`; the generated pitched tracks, bool
        `(steps, 128, tracks)`; and the steps in the first bar.
    """
    condition = model.config.condition_track
    pitched = [k for k, t in enumerate(model.tracks) if k != condition and not t.is_drum]
    generated = roll[:, :, pitched]
    low = model.config.lowest_pitch
    full = np.zeros((len(roll), pianoroll.MIDI_PITCHES, generated.shape[2]), bool)
    full[:, low : low + model.config.pitches] = generated
    _, beats, beat_type = melody.score.meters[0]
    per_bar = max(round(4 * beats / beat_type * model.steps_per_beat), 1)
    return melody.condition[: melody.steps, :, None], full, per_bar


def to_midi(model: Model, melody: Melody, roll: np.ndarray) -> mido.MidiFile:
    """The melody, its own messages unchanged, and the generated tracks of `roll` beside it.

    Tempo, key and meter come from the melody's file; of its other tracks nothing is kept but
    such marks.
    """
    score, part = melody.score, melody.part
    song = mido.MidiFile(type=1, ticks_per_beat=score.ticks_per_beat)
    song.tracks = [_marks(score), _own_track(score, part)]
    channels = [c for c in range(16) if c not in (midi.DRUM_CHANNEL, part.channel)]
    per_step = score.ticks_per_beat / model.steps_per_beat
    used = 0
    for k, track in enumerate(model.tracks):
        if k == model.config.condition_track:
            continue
        notes = pianoroll.runs(roll[:, :, k])
        pitches = notes[:, 2] + model.config.lowest_pitch - (0 if track.is_drum else melody.shift)
        ticks = np.floor((notes[:, :2] + melody.offset) * per_step + 0.5)
        velocities = np.full(len(notes), VELOCITY)
        rows = np.column_stack([ticks, pitches, velocities]).astype(np.int64)
        # A step finer than the file's ticks may have no length; its release would come first.
        lasting = rows[:, 0] < rows[:, 1]
        rows = rows[lasting & (pitches >= 0) & (pitches < pianoroll.MIDI_PITCHES)]
        # More tracks than channels share them in turn: MIDI has no seventeenth.
        channel = midi.DRUM_CHANNEL if track.is_drum else channels[used % len(channels)]
        used += not track.is_drum
        song.tracks.append(midi.note_track(track.name, channel, track.program, rows))
    return song


def has_accompaniment(song: mido.MidiFile) -> bool:
    """Whether a song of `to_midi` has notes beside the melody's."""
    return any(message.type == "note_on" for track in song.tracks[2:] for message in track)


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
