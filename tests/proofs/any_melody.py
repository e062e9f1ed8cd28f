"""Forty files of kinds that are often refused or misread, accompanied by the shipped model.

COMMAND   uv run python tests/proofs/any_melody.py --out OUT
TIME      two minutes on two busy CPU cores
RESULT    a line for each file; exit status 0 if all are accompanied, no generated note sounds after
          the tune's last bar, and the melody line is the true one in 95 % of the steps
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from musegan_jax.composing import arrangement, melody
from musegan_jax.composing.accompany import accompany
from musegan_jax.composing.song import write_song
from musegan_jax.data import melody_line, midi
from musegan_jax.models import model_file

BEAT = 480
Notes = list[tuple[float, float, int]]  # start and end in beats, pitch


class Made(NamedTuple):
    """A file's bytes, and its true melody."""

    content: bytes
    tune: Notes


def a_tune(
    rng: np.random.Generator, beats: float, low: int, high: int, rests: float = 0.15
) -> Notes:
    """A walk on the scale of C major within a range, of quarters, eighths and halves."""
    scale = [p for p in range(low, high + 1) if p % 12 in (0, 2, 4, 5, 7, 9, 11)]
    at, now, notes = len(scale) // 2, 0.0, []
    while now < beats:
        length = min(float(rng.choice([0.5, 1, 1, 2])), beats - now)
        if not notes or rng.random() > 0.15:
            notes.append((now, now + length, scale[at]))
        at = int(np.clip(at + rng.integers(-3, 4), 0, len(scale) - 1))
        now += length
    return notes


def a_left_hand(beats: int, low: int) -> Notes:
    """Broken chords in eighths, a chord a bar."""
    roots = (0, 5, 7, 0, 9, 5, 7, 0)
    return [
        (n / 2, n / 2 + 0.5, low + roots[n // 8 % 8] % 12 + (0, 7, 12, 7)[n % 4])
        for n in range(2 * beats)
    ]


def to_bytes(*tracks: tuple[str, int, int, Notes], head=(), kind: int = 1) -> bytes:
    """A MIDI file of `(name, channel, program, notes)`."""
    import io

    file = mido.MidiFile(type=kind, ticks_per_beat=BEAT)
    file.tracks = [mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=600_000), *head])]
    for name, channel, program, notes in tracks:
        rows = [(round(s * BEAT), round(e * BEAT), p, 80) for s, e, p in sorted(notes)]
        file.tracks.append(midi.note_track(name, channel, program, np.array(rows)))
    if kind == 0:
        file.tracks = [mido.merge_tracks(file.tracks)]
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def wide_piano(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 64, 67 + n, 100 - n)
    return Made(to_bytes(("Piano", 0, 0, tune + a_left_hand(64, 26 + 2 * n))), tune)


def piano_of_two_tracks(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 64, 60, 84)
    return Made(to_bytes(("", 0, 0, a_left_hand(64, 36)), ("", 1, 0, tune)), tune)


def late_lead(rng: np.random.Generator, n: int) -> Made:
    """Pop: bass, chords, drums; the lead enters after eight bars, with a few notes too high."""
    tune = [(s + 32, e + 32, p) for s, e, p in a_tune(rng, 32, 72, 97)]
    chords = [(b, b + 4, p) for b in range(0, 64, 4) for p in (55, 60, 64)]
    drums = [(b / 2, b / 2 + 0.25, (36, 42, 38, 42)[b % 4]) for b in range(128)]
    bass = [(b, b + 1, 36 + b % 3) for b in range(64)]
    name = ("Lead", "Vocals", "Melody", "Synth lead", "")[n]
    return Made(
        to_bytes(
            ("Bass", 0, 33, bass), ("Gtr", 1, 27, chords), ("Kit", 9, 0, drums), (name, 2, 80, tune)
        ),
        tune,
    )


def chords_in_the_melody(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 64, 64, 84)
    below = [
        (s, e, p - down)
        for s, e, p in tune
        for down in ((4, 7), (3, 8, 12), (5,), (12,), (4, 9))[n]
    ]
    return Made(to_bytes(("Melody", 0, 0, tune + below)), tune)


def waltz_with_a_pick_up(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 46, 60, 81)
    head = [
        mido.MetaMessage("time_signature", numerator=1, denominator=4),
        mido.MetaMessage("time_signature", numerator=3, denominator=4, time=BEAT),
    ]
    if n % 2:  # as others write it: two beats of rest
        tune = [(s + 2, e + 2, p) for s, e, p in tune]
        head = [mido.MetaMessage("time_signature", numerator=3, denominator=4)]
    return Made(to_bytes(("Violin", 0, 40, tune), head=head), tune)


def ends_inside_a_bar(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 60.5 + 0.5 * n, 58, 79)
    return Made(to_bytes(("Tune", 0, 73, tune)), tune)


def damaged(rng: np.random.Generator, n: int) -> Made:
    tune = a_tune(rng, 64, 60, 81)
    content = to_bytes(("Tune", 0, 0, tune), ("Bass", 1, 33, a_left_hand(64, 36)))
    first = content.index(b"MTrk", 20)
    broken = (
        content[:-7],  # cut off
        content.replace(b"\x50\x83\x60", b"\xd0\x83\x60", 3),  # velocities of quarters
        content[:22] + b"\x00\xff\x59\x02\x0b\x00" + content[22:],  # eleven sharps
        content[:10] + b"\x00\x09" + content[12:],  # of nine tracks
        content[: first + 4] + b"\x00\x7f\xff\xff" + content[first + 8 :],  # a wrong length
    )[n]
    if n == 2:  # the chunk is longer now
        size = int.from_bytes(content[18:22], "big") + 6
        broken = broken[:18] + size.to_bytes(4, "big") + broken[22:]
    return Made(broken, tune)


def all_in_one_track(rng: np.random.Generator, n: int) -> Made:
    """Type 0, and so high or so wide that notes must be moved."""
    tune = a_tune(rng, 64, (96, 24, 48, 90, 60)[n], (115, 48, 108, 110, 96)[n])
    drums = [(b, b + 0.25, 36) for b in range(64)]
    return Made(to_bytes(("", 0, 75, tune), ("", 9, 0, drums), kind=0), tune)


KINDS: dict[str, Callable[[np.random.Generator, int], Made]] = {
    each.__name__: each
    for each in (
        wide_piano, piano_of_two_tracks, late_lead, chords_in_the_melody, waltz_with_a_pick_up,
        ends_inside_a_bar, damaged, all_in_one_track,
    )
}  # fmt: skip


def forty() -> dict[str, Made]:
    """The files by name, the same in every call."""
    return {
        f"{name} {n}": make(np.random.default_rng(100 * k + n), n)
        for k, (name, make) in enumerate(KINDS.items())
        for n in range(5)
    }


def line_right(heard: melody.Melody, tune: Notes) -> float:
    """The share of steps in which the line is the true one, in pitch class (it may be folded)."""
    line = np.full(heard.steps, -1)
    for start, end, pitch in tune:
        a, b = (round(4 * beat) - heard.offset for beat in (start, end))
        line[a:b] = (pitch + heard.shift) % 12
    condition = heard.condition[: heard.steps]
    given = np.where(condition.any(axis=1), condition.argmax(axis=1) % 12, -1)
    return float((given == line).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    model = model_file.load(model_file.shipped())
    bad = 0
    for name, made in forty().items():
        path = out / f"{name}.mid"
        path.write_bytes(made.content)
        score = midi.read(path)
        heard = melody.prepare(score, melody_line.pick_part(score, None, name), model)
        roll = accompany(model, heard)
        song = arrangement.to_midi(model, heard, roll, arrangement.Style(humanise=0))
        list(write_song(song, out, f"{name} song", name))
        own, *generated = midi.parse(song, name).parts
        lines = score.bar_lines
        last_bar = lines[np.searchsorted(lines, heard.part.notes[:, 1].max())]
        late = max(int(part.notes[:, 1].max()) for part in generated) > last_bar
        right = line_right(heard, made.tune)
        same = np.array_equal(own.notes, heard.part.notes)
        fine = len(generated) == 3 and not late and same and right >= 0.95
        bad += not fine
        said = [*melody.remarks(model, heard), *arrangement.remarks(heard, arrangement.AS_GIVEN)]
        print(
            f"{'ok ' if fine else 'BAD'} {name:<26} line {right:.3f}", "| ".join(said), flush=True
        )
    print(f"{40 - bad} of 40")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
