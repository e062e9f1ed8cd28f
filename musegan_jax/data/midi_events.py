"""The bytes of a MIDI file as `mido` messages, damaged ones as far as they can be read.

`mido` itself refuses a file for one wrong byte, reads numbers of any length, and loses the time
before a meta message of unknown type.

symusic 0.5.9 takes 0.07 ms for a file of 330 messages (this, with its notes, 0.9), but reads other
notes: two of a pitch that is struck again while it sounds overlap; those without an end are left
out; data above 127 gives pitch -1. It reads type 2 as type 1, a resolution of 0 and notes of length
0, makes tracks of a channel's programs, and reads nothing of a damaged file.
"""

import collections
import functools
import struct
from typing import Any, NamedTuple

import mido
from mido.midifiles.meta import build_meta_message

MAX_TRACKS = 65_535  # as many as a header can announce
# Data bytes of system messages. They make no sound and are left out.
SYSTEM = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
META = {0x51: "tempo", 0x58: "time signature", 0x59: "key signature"}
SHOWN = 3  # damaged tracks that are named


class Events(NamedTuple):
    """A file, and a line for each kind of damage in it."""

    midi: mido.MidiFile
    damage: tuple[str, ...]


class _Damage(Exception):
    """Why a track cannot be read on."""


def read_events(content: bytes) -> Events:
    """Read a MIDI file from memory; one in a RIFF container, too.

    A track is read up to its first damage; data bytes above 127 are read as 127; meta messages that
    cannot be read are left out; chunks of unknown types are passed over.

    Raises:
        ValueError: if it does not begin as a MIDI file does; says what it is instead.
    """
    if content[:4] == b"RIFF" and b"MThd" in content[:256]:
        content = content[content.index(b"MThd") :]
    if content[:4] != b"MThd":
        raise ValueError("not a MIDI file (it does not begin with MThd)")
    if len(content) < 14:
        raise ValueError("a damaged MIDI file (its header is cut off)")
    length, kind, announced, resolution = struct.unpack(">LhHh", content[4:14])
    midi = mido.MidiFile(ticks_per_beat=resolution)
    midi.type = kind  # here, since the constructor takes no unknown type
    damage: list[str] = []
    odd: collections.Counter[str] = collections.Counter()
    now = 8 + length if 6 <= length <= len(content) else 14
    while len(midi.tracks) < MAX_TRACKS:
        start = content.find(b"MTrk", now)
        if start < 0 or start + 8 > len(content):
            break
        body, now, wrong = _body(content, start)
        track, why = _track(body, odd)
        midi.tracks.append(track)
        if why or wrong:
            damage.append(f"track {len(midi.tracks)} {why or wrong}: read up to there")
    damage = damage[:SHOWN] + [f"and {len(damage) - SHOWN} more tracks"] * (len(damage) > SHOWN)
    if announced != len(midi.tracks):
        damage.append(f"it should have {announced} tracks and has {len(midi.tracks)}")
    damage += [f"{count} {what}" for what, count in odd.items()]
    return Events(midi, tuple(damage))


def with_values(message: Any, **values: int) -> Any:
    """A copy of a message with other values.

    `copy(time=...)` of mido would check all values of the message again, which for a large file
    takes seconds.
    """
    copied = message.copy()
    for name, value in values.items():
        setattr(copied, name, value)
    return copied


def as_utf8(text: str) -> str:
    """Text that mido read as Latin-1, decoded as UTF-8 where valid: most programs write UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _body(content: bytes, start: int) -> tuple[bytes, int, str]:
    """The events of the track chunk at `start`, where the next chunk is, and what is wrong."""
    first = start + 8
    end = first + int.from_bytes(content[start + 4 : first], "big")
    following = content.find(b"MTrk", first)
    if first <= following < end and end != len(content) and content[end : end + 4] != b"MTrk":
        return content[first:following], following, "is shorter than it says"
    if end > len(content):
        return content[first:], len(content), "is cut off"
    return content[first:end], end, ""


def _track(body: bytes, odd: collections.Counter[str]) -> tuple[mido.MidiTrack, str]:
    """The messages of a track up to the first damage, and what that is; counts lesser damage."""
    track = mido.MidiTrack()
    now, status, waited = 0, 0, 0
    new, end = mido.Message.__new__, len(body)
    try:
        while now < end:
            delta = body[now]
            now += 1
            if delta > 127:
                delta, now = _number(body, now - 1)
            waited += delta  # also for messages that are left out
            code = body[now]
            if code > 127:
                now += 1
            else:
                code = status  # the status byte of the message before
            if 0x80 <= code < 0xF0:
                status = code
                first, second = body[now], 0
                now += 1
                if not 0xC0 <= code < 0xE0:
                    second = body[now]
                    now += 1
                if first > 127 or second > 127:
                    first, second = _clipped(bytes((first, second)), odd)
                message = new(mido.Message)
                attributes = vars(message)  # `message.time = ...` would check it: half the time
                attributes.update(_values(code, first, second))
                attributes["time"] = waited
                track.append(message)
                waited = 0
            elif code:
                message, now = _other(code, body, now, odd)
                if message is not None:
                    message.time = waited
                    track.append(message)
                    waited = 0
            else:
                raise _Damage("has data without a message")
    except IndexError:
        return track, "ends inside an event"
    except _Damage as error:
        return track, str(error)
    return track, ""


@functools.lru_cache(4096)
def _values(code: int, first: int, second: int) -> dict[str, Any]:
    """The attributes of the message of these bytes; to decode it, mido takes ten times as long."""
    data = [first, second][: 1 if 0xC0 <= code < 0xE0 else 2]
    return vars(mido.Message.from_bytes([code, *data]))


def _other(
    code: int, body: bytes, now: int, odd: collections.Counter[str]
) -> tuple[Any | None, int]:
    """The meta or system message whose data begins at `now`, and where it ends.

    None for one that is left out.
    """
    if code == 0xFF:
        kind = body[now]
        size, now = _number(body, now + 1)
        return _meta(kind, _take(body, now, size), odd), now + size
    if code in (0xF0, 0xF7):
        size, now = _number(body, now)
        data = _take(body, now, size)
        data = data[data[:1] == b"\xf0" :]
        data = data[: len(data) - (data[-1:] == b"\xf7")]
        return mido.Message("sysex", data=_clipped(data, odd)), now + size
    if code in SYSTEM:
        return None, now + SYSTEM[code]
    raise _Damage(f"has an unknown message {code:#x}")


def _number(body: bytes, now: int) -> tuple[int, int]:
    """The variable-length number at `now`, and where it ends."""
    value = 0
    for n in range(4):
        byte = body[now + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, now + n + 1
    raise _Damage("has an endless number")


def _take(body: bytes, now: int, size: int) -> bytes:
    if now + size > len(body):
        raise IndexError
    return body[now : now + size]


def _clipped(data: bytes, odd: collections.Counter[str]) -> list[int]:
    high = sum(byte > 127 for byte in data)
    if high:
        odd["data bytes above 127, read as 127"] += high
    return [min(byte, 127) for byte in data]


def _meta(kind: int, data: bytes, odd: collections.Counter[str]) -> mido.MetaMessage | None:
    try:
        return build_meta_message(kind, list(data))
    except MemoryError:
        raise
    # Its decoders raise whatever they meet in wrong data.
    except Exception:
        odd[f"unreadable messages ({META.get(kind, 'meta')}), left out"] += 1
        return None
