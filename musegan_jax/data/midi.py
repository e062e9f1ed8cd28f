"""MIDI files, in ticks.

Files are read and written with `mido`, which keeps every message and its tick. `pretty_midi` would
convert ticks to seconds and back, and could not write a melody's file unchanged.
"""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import mido
import numpy as np

from musegan_jax import files, pianoroll
from musegan_jax.data.midi_events import as_utf8, read_events
from musegan_jax.errors import UserError

DRUM_CHANNEL = 9
TICKS_PER_BEAT = 480  # in the files that we write
VELOCITY = 70  # of generated notes; a typical melody has 90 to 100
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # pitch classes
SHORTEST_BEAT = 10_000  # microseconds, that is 6000 bpm; a shorter one is damage
DEFAULT_TEMPO = 500_000  # microseconds per quarter note: 120 bpm
# Limits for reading: a file beyond one is damaged or not a piece of music. Each is checked before
# anything of that size is allocated.
MAX_BYTES = 2**20
MAX_MESSAGES = 60_000  # each takes a few microseconds, and 300 bytes, several times
MAX_BEATS = 10_000
MAX_SECONDS = 3600
# Length of a track. MIDI cannot encode a longer delta time, so below it any selection of a track's
# messages can be written. Also, a tempo at tick 2**31 makes symusic allocate gigabytes.
MAX_TICKS = 2**28 - 1


@dataclasses.dataclass(frozen=True)
class Part:
    """The notes of one channel of one track.

    Attributes:
        name: of the track, may be empty.
        track: index of the track in the file.
        channel: 0..15.
        program: General MIDI program 0..127 at the first note.
        notes: int64 `(N, 4)`, rows `start tick, end tick, pitch, velocity`, by start.
    """

    name: str
    track: int
    channel: int
    program: int
    notes: np.ndarray

    @property
    def is_drum(self) -> bool:
        """Whether this is the percussion channel."""
        return self.channel == DRUM_CHANNEL


@dataclasses.dataclass(frozen=True)
class Score:
    """The content of a MIDI file.

    Attributes:
        midi: the file, with all its messages.
        parts: those with notes, in the file's order.
        tempos: `(tick, microseconds per quarter note)`, by tick, the first at tick 0.
        meters: `(tick, beats, beat type)`, by tick, the first at tick 0.
        damage: what of a damaged file was left out or changed, a line each; empty for a sound one.
    """

    midi: mido.MidiFile
    parts: tuple[Part, ...]
    tempos: tuple[tuple[int, int], ...]
    meters: tuple[tuple[int, int, int], ...]
    damage: tuple[str, ...] = ()

    @property
    def ticks_per_beat(self) -> int:
        """Ticks in a quarter note."""
        return self.midi.ticks_per_beat

    @functools.cached_property  # asked for by each part: of thousands, it would take minutes
    def end(self) -> int:
        """The tick at which the last note ends."""
        return max((int(part.notes[:, 1].max()) for part in self.parts), default=0)

    def seconds(self, ticks: np.ndarray | int) -> np.ndarray:
        """Ticks as seconds, following all tempo changes; float64, same shape."""
        starts = np.array([tick for tick, _ in self.tempos], np.float64)
        rate = np.array([tempo for _, tempo in self.tempos]) / 1e6 / self.ticks_per_beat
        offsets = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rate[:-1])])
        which = np.searchsorted(starts, ticks, side="right") - 1
        return offsets[which] + (ticks - starts[which]) * rate[which]

    @functools.cached_property  # asked for by each part, too
    def bar_lines(self) -> np.ndarray:
        """Ticks of all bar lines, from 0 to the end of the bar in which the last note ends.

        float64, increasing, read-only; one more than there are bars. There is at least one bar.
        """
        bars: list[np.ndarray] = []
        stops = [tick for tick, _, _ in self.meters[1:]] + [max(self.end, 1)]
        length = 0.0
        for (start, beats, beat_type), stop in zip(self.meters, stops, strict=True):
            length = self.ticks_per_beat * 4 * beats / beat_type
            bars.append(np.arange(start, max(stop, start), length))
        starts = np.concatenate(bars)
        lines = np.append(starts, starts[-1] + length)
        lines.flags.writeable = False
        return lines


def read(path: str | Path) -> Score:
    """Read a type 0 or type 1 MIDI file, a damaged one as far as it goes (`Score.damage`).

    Raises:
        UserError: if it is missing, too large, too long, counts time in SMPTE frames, or is so
            damaged that it has no note.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path}: not a file; give a MIDI file")
        if size == 0:
            raise UserError(f"{path}: empty; give a MIDI file")
        if size > MAX_BYTES:
            _refuse_size(size, path)
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return from_bytes(content, str(path))


def from_bytes(content: bytes, name: str) -> Score:
    """The same from a file's content; `name` is for messages, errors are as of `read`."""
    if len(content) > MAX_BYTES:
        _refuse_size(len(content), name)
    try:
        events = read_events(content)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    messages = sum(map(len, events.midi.tracks))
    if messages > MAX_MESSAGES:
        raise UserError(
            f"{name}: {messages} messages; up to {MAX_MESSAGES} are read: is it one piece of music?"
        )
    score = dataclasses.replace(parse(events.midi, name), damage=events.damage)
    if score.damage and not score.parts:
        raise UserError(f"{name}: damaged, without a readable note ({'; '.join(score.damage)})")
    check_length(score, name)
    return score


def _refuse_size(size: int, name: Path | str) -> NoReturn:
    raise UserError(
        f"{name}: {size / 2**20:.0f} MiB long; up to {MAX_BYTES // 2**20} MiB are read: "
        "is it one piece of music?"
    )


def parse(midi: mido.MidiFile, name: str) -> Score:
    """The notes, tempos and meters of a `mido` file; `name` is for messages.

    Raises:
        UserError: for a type 2 file, time not in ticks per beat, or a tick or tempo out of range.
    """
    if midi.type not in (0, 1):
        raise UserError(f"{name}: a type {midi.type} MIDI file; export it as type 0 or 1")
    if midi.ticks_per_beat <= 0:
        kind = "SMPTE frames" if midi.ticks_per_beat < 0 else "a resolution of 0"
        raise UserError(f"{name}: its unit of time is {kind}; export it with ticks per beat")
    tempos, meters = [(0, DEFAULT_TEMPO)], {0: (4, 4)}
    parts = []
    for index, track in enumerate(midi.tracks):
        if sum(message.time for message in track) > MAX_TICKS:
            raise UserError(
                f"{name}: a track is longer than {MAX_TICKS} ticks: is the file damaged?"
            )
        parts += _parts_of(index, track, tempos, meters)
    # Also where another follows at the same tick: both stay in the file that is played.
    if (fastest := min(tempo for _, tempo in tempos)) < SHORTEST_BEAT:
        raise UserError(f"{name}: a tempo of {fastest} microseconds a beat: is it damaged?")
    score = Score(
        midi=midi,
        parts=tuple(parts),
        tempos=tuple(sorted(dict(tempos).items())),
        meters=tuple((tick, *meter) for tick, meter in sorted(meters.items())),
    )
    # A meter after the last note has no bars, and its tick may be huge.
    meters_used = tuple(meter for meter in score.meters if meter[0] == 0 or meter[0] < score.end)
    return dataclasses.replace(score, meters=meters_used)


def _parts_of(
    index: int,
    track: mido.MidiTrack,
    tempos: list[tuple[int, int]],
    meters: dict[int, tuple[int, int]],
) -> list[Part]:
    """The parts of one track, in the order of their channels; adds its tempos and meters.

    One loop over the messages: it is a fifth of the time of reading a folder.
    """
    tick = 0
    programs = [0] * 16
    name = ""
    first_program: dict[int, int] = {}
    sounding: dict[tuple[int, int], tuple[int, int]] = {}
    notes: dict[int, list[tuple[int, int, int, int]]] = {}
    for message in track:
        tick += message.time
        kind = message.type
        if kind in ("note_on", "note_off"):
            channel, pitch = key = message.channel, message.note
            # A second onset of a sounding pitch ends the first: one key cannot be down twice.
            if key in sounding:
                start, velocity = sounding.pop(key)
                if tick > start:
                    notes.setdefault(channel, []).append((start, tick, pitch, velocity))
            if kind == "note_on" and message.velocity > 0:
                first_program.setdefault(channel, programs[channel])
                sounding[key] = (tick, message.velocity)
        elif kind == "track_name":
            name = name or as_utf8(message.name).strip()[: pianoroll.MAX_NAME]
        elif kind == "program_change":
            programs[message.channel] = message.program
        elif kind == "set_tempo":
            tempos.append((tick, message.tempo))
        elif kind == "time_signature":
            # Bars shorter than a sixteenth or longer than 32 quarters are damage; a bar of length 0
            # would be an endless loop.
            if 0.25 <= 4 * message.numerator / message.denominator <= 32:
                meters[tick] = (message.numerator, message.denominator)
    for (channel, pitch), (start, velocity) in sounding.items():
        if tick > start:
            notes.setdefault(channel, []).append((start, tick, pitch, velocity))
    return [
        Part(name, index, channel, first_program[channel], np.array(sorted(own), np.int64))
        for channel, own in sorted(notes.items())
    ]


def check_length(score: Score, name: str) -> None:
    """Refuse a score that is too long; `name` is for the message.

    Raises:
        UserError: if it has more than `MAX_BEATS` beats, or lasts more than `MAX_SECONDS`.
    """
    beats = score.end / score.ticks_per_beat
    if beats > MAX_BEATS:
        raise UserError(
            f"{name}: its last note ends at beat {beats:.0f}; pieces up to {MAX_BEATS} beats are "
            "read: is the file damaged?"
        )
    seconds = float(score.seconds(score.end))
    if seconds > MAX_SECONDS:
        raise UserError(
            f"{name}: it lasts {seconds / 3600:.1f} hours; pieces up to "
            f"{MAX_SECONDS / 3600:.0f} hour are read"
        )


def quantise_ticks(ticks: np.ndarray, ticks_per_step: float) -> np.ndarray:
    """The steps nearest to the given ticks, int64; halves round up, to keep bars equally long."""
    return np.floor(ticks / ticks_per_step + 0.5).astype(np.int64)


def quantise(notes: np.ndarray, ticks_per_step: float) -> np.ndarray:
    """Notes in steps: int64 `(N, 4)`, start and end rounded to the grid, at least one step long."""
    steps = notes.copy()
    steps[:, :2] = quantise_ticks(notes[:, :2], ticks_per_step)
    steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
    return steps


def to_roll(notes: np.ndarray, length: int) -> np.ndarray:
    """Notes in steps, int `(N, 4)`, -> bool `(length, 128)`; notes are cut at its end."""
    roll = np.zeros((length, pianoroll.MIDI_PITCHES), bool)
    for start, end, pitch, _ in notes.tolist():
        roll[start:end, pitch] = True
    return roll


def note_track(name: str, channel: int, program: int, notes: np.ndarray) -> mido.MidiTrack:
    """A MIDI track from notes in ticks, int `(N, 4)`."""
    track = mido.MidiTrack()
    # mido writes text as Latin-1: one character for each byte of the UTF-8 gives UTF-8.
    track.append(mido.MetaMessage("track_name", name=name.encode().decode("latin-1")))
    track.append(mido.Message("program_change", channel=channel, program=program))
    # At equal ticks, releases (0) come before onsets (1), or a repeated note would be cut off.
    events = [(int(start), 1, int(p), int(v)) for start, _, p, v in notes]
    events += [(int(end), 0, int(p), 0) for _, end, p, _ in notes]
    now = 0
    for tick, onset, pitch, velocity in sorted(events):
        kind = "note_on" if onset else "note_off"
        track.append(
            mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now)
        )
        now = tick
    return track


def from_roll(
    roll: np.ndarray, tracks: Sequence[pianoroll.Track], steps_per_beat: int, bpm: float
) -> mido.MidiFile:
    """A roll as a MIDI file of one tempo, without a meter.

    Args:
        roll: bool `(T, 128, K)`.
        tracks: names, programs and drum flags, K.
        steps_per_beat: time steps in a quarter note.
        bpm: quarter notes a minute.
    """
    song = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    song.tracks = [mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))])]
    for k, (track, channel) in enumerate(zip(tracks, channels(tracks), strict=True)):
        notes = pianoroll.runs(roll[..., k])
        ticks = notes[:, :2] * TICKS_PER_BEAT // steps_per_beat
        rows = np.column_stack([ticks, notes[:, 2], np.full(len(notes), VELOCITY)])
        song.tracks.append(note_track(track.name, channel, track.program, rows))
    return song


def channels(
    tracks: Iterable[pianoroll.Track], taken: Collection[int] = frozenset()
) -> Iterator[int]:
    """A channel for each track; pitched tracks avoid those in `taken`.

    MIDI has 16 channels, of which the tenth is for drums; if there are too few, tracks share them
    in turn, those in `taken` only if there is no other.
    """
    pitched = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    free = itertools.cycle([c for c in pitched if c not in taken] or pitched)
    return (DRUM_CHANNEL if track.is_drum else next(free) for track in tracks)


def write(midi: mido.MidiFile, path: files.AnyPath) -> None:
    """Write a MIDI file.

    Raises:
        UserError: if it cannot be written.
    """
    with files.replacing(path) as temporary:
        midi.save(temporary)
