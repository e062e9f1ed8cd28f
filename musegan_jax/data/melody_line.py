"""The melody of a MIDI file: which part carries it, and which of that part's notes are it.

Composing and building datasets use the same functions, so that a network is given in use what it
was given in training.
"""

import difflib
import re
from typing import NamedTuple

import numpy as np

from musegan_jax.data import midi
from musegan_jax.errors import UserError
from musegan_jax.shapes import Bool, Int

# Words in a track's name and what they add to its likeness. The first that is found counts:
# "backing vocals" are no lead, and a track called melody or vocal is preferred to one called lead.
NAMES = (
    (re.compile(r"back|\bbgv|harmon|accomp|chord|\bbass\b|\bpads?\b|left|\bl\.?h\b|drum"), -1.0),
    (re.compile(r"melod|vocal|\bvox\b|voice|sopran|cantus|\bsing|right hand|\br\.?h\b"), 3.0),
    (re.compile(r"lead|solo|tune|theme"), 2.0),
)
EFFECTS = range(112, 128)  # percussive programs and sound effects


def pick_part(score: midi.Score, track: str | None, name: str) -> midi.Part:
    """The part with the melody: given by name or number (from 1), else the most likely one.

    Where several have the given name, the most likely of them.

    Raises:
        UserError: if there is no such part, or no pitched part; `name` is the file's, for it.
    """
    pitched = [part for part in score.parts if not part.is_drum]
    if not score.parts:
        raise UserError(f"{name}: it has no notes; give a file with a melody")
    if not pitched and score.damage:
        why = "; ".join(score.damage)
        raise UserError(f"{name}: a damaged MIDI file; only drums of it can be read ({why})")
    if not pitched:
        raise UserError(f"{name}: it has drums only; give a file with a melody")
    candidates = pitched
    if track is not None:
        if track.isascii() and track.isdecimal() and 1 <= int(track) <= len(pitched):
            return pitched[int(track) - 1]
        candidates = [part for part in pitched if part.name.casefold() == track.casefold()]
        if not candidates:
            listed = "; ".join(f"{n} {part.name or 'unnamed'}" for n, part in enumerate(pitched, 1))
            near = close_to(track, [part.name for part in pitched])
            raise UserError(f"{name}: no track {track!r}{near}; it has {listed}")
    return max(candidates, key=lambda part: melody_likeness(score, part))


def close_to(name: str, known: list[str]) -> str:
    """`, perhaps X`, where one of the known names is much like a name; case does not matter."""
    plain = {each.casefold(): each for each in known if each}
    close = difflib.get_close_matches(name.casefold(), plain, 1)
    return f", perhaps {plain[close[0]]}" if close else ""


def namesakes(score: midi.Score, part: midi.Part) -> list[int]:
    """The numbers, from 1, of the other pitched parts that have the name of a part, if it has one.

    `pick_part` takes them as well.
    """
    pitched = [each for each in score.parts if not each.is_drum]
    name = part.name.casefold()
    same = [n for n, each in enumerate(pitched, 1) if each.name.casefold() == name]
    return [n for n in same if name and pitched[n - 1] is not part]


def melody_likeness(score: midi.Score, part: midi.Part) -> float:
    """A score of how much a part looks like the melody.

    By its name; how much of it is a single line; how high it lies, two octaves for a point; and in
    how many of the piece's bars it has a note.
    """
    starts, ends, pitches = part.notes[:, 0], part.notes[:, 1], part.notes[:, 2]
    named = next((worth for words, worth in NAMES if words.search(part.name.casefold())), 0.0)
    sounding = int((ends - starts).sum())
    # Overlap with the notes before: 0 for a single line, near 1 for chords.
    overlap = np.maximum(np.maximum.accumulate(ends)[:-1] - starts[1:], 0).sum() / max(sounding, 1)
    lines = score.bar_lines
    used = np.unique(np.searchsorted(lines, starts, side="right"))
    coverage = len(used) / max(len(lines) - 1, 1)
    effects = 2.0 if part.program in EFFECTS else 0.0
    high = float(pitches.mean()) / 24
    return named - 2.0 * float(min(overlap, 1.0)) + high + 2.0 * coverage - effects


class Costs(NamedTuple):
    """Costs of a melody line through the notes of a part; a beat is a quarter note.

    Attributes:
        covered: per beat and note that sounds above the line's, of two at most.
        low: per beat, for a note of the lower hand.
        rest: per beat in which the line rests while something sounds.
        skipped: of resting where a note begins that is not the lower hand's.
        leap: per semitone of a leap, up to an octave.
        far: per semitone of a leap beyond an octave.
        late: of entering a note that began more than a quarter of a beat earlier.
    """

    covered: float = 0.5
    low: float = 1.0
    rest: float = 0.1
    skipped: float = 1.0
    leap: float = 0.02
    far: float = 0.05
    late: float = 1.0


COSTS = Costs()
CHORDAL = 0.1  # share of the sounding steps with several pitches; below it all is one line
REACH = 8  # beats on both sides that tell where the hands part
APART = 12  # semitones between the means of two hands
TOGETHER = 0.5  # share of the beats of one hand in which the other sounds as well
CLEAR = 0.8  # share of the pitches' variance that lies between the hands; 0.75 if all are equal


def melody_line(notes: Int[np.ndarray, "N 4"], steps_per_beat: int) -> Int[np.ndarray, " T"]:
    """The melody line of a part: its highest notes, with a memory of where the line was.

    A part that is nearly a single line is taken as it is, the highest where two notes overlap. In
    chords and two-hand piano, the line of lowest cost is found (Viterbi 1967): it prefers the
    highest note, avoids leaps, does not fall back to a note that was held below it, and rests
    rather than follow the lower hand. What the lower hand plays is told by where Otsu's threshold
    (1979) divides the pitches of the surrounding four bars.

    Args:
        notes: in steps, int `(N, 4)`, rows `start, end, pitch, velocity`, one or more.
        steps_per_beat: steps in a quarter note.

    Returns:
        The MIDI pitch of each step up to the end of the last note, -1 where the line rests: int
        `(T,)`.
    """
    roll = midi.to_roll(notes, int(notes[:, 1].max()))
    sounding = roll.sum(axis=1)
    top = np.where(sounding > 0, 127 - roll[:, ::-1].argmax(axis=1), -1)
    if np.count_nonzero(sounding > 1) <= CHORDAL * np.count_nonzero(sounding):
        return top
    # A line may also enter a note a little late: legato notes overlap.
    begins = np.zeros_like(roll)
    for late in range(max(steps_per_beat // 4, 1) + 1):
        inside = notes[:, 0] + late < notes[:, 1]
        begins[notes[inside, 0] + late, notes[inside, 2]] = True
    changes = np.unique(np.concatenate([[0], notes[:, 0], notes[:, 1]]))[:-1]
    lengths = np.diff(np.append(changes, len(roll)))
    upper = _hands(roll, steps_per_beat)[changes // steps_per_beat]
    states = _cheapest(roll[changes], begins[changes], upper, lengths / steps_per_beat)
    return np.repeat(states, lengths)


def _hands(roll: np.ndarray, steps_per_beat: int) -> np.ndarray:
    """The lowest pitch of the upper hand in each beat, `(beats,)`; all 0 where there is one hand.

    Otsu's threshold between two groups of pitches: it maximises the variance between them. They are
    hands only if they play together: a line that moves to another register is one hand. Beats
    around which only one hand plays take the nearest beat's with two: a left hand that begins
    alone is still one.
    """
    starts = np.arange(0, len(roll), steps_per_beat)
    sounding = np.add.reduceat(roll, starts, axis=0, dtype=np.int64)
    beats = np.arange(len(starts))

    def around(counts: np.ndarray) -> np.ndarray:
        """Sums over the beats around each."""
        total = np.concatenate([np.zeros((1, 128), np.int64), counts.cumsum(axis=0)])
        return total[np.minimum(beats + REACH, len(beats))] - total[np.maximum(beats - REACH, 0)]

    histogram = around(sounding)
    # For each threshold, in how many beats each group sounds, and both.
    low = sounding.cumsum(axis=1) > 0
    high = np.roll(sounding[:, ::-1].cumsum(axis=1)[:, ::-1], -1, axis=1) > 0
    together = around(low & high) >= TOGETHER * np.minimum(around(low), around(high))
    lower = histogram.cumsum(axis=1)
    moment = (histogram * np.arange(128)).cumsum(axis=1)
    upper = lower[:, -1:] - lower
    apart = (moment[:, -1:] - moment) / np.maximum(upper, 1) - moment / np.maximum(lower, 1)
    count = np.maximum(lower[:, -1:], 1)
    between = lower * upper / count**2 * apart**2
    best = between.argmax(axis=1)
    mean = moment[:, -1:] / count
    variance = (histogram * np.arange(128) ** 2).sum(axis=1) / count[:, 0] - mean[:, 0] ** 2
    clear = between[beats, best] >= CLEAR * np.maximum(variance, 1e-9)
    parted = np.flatnonzero(clear & together[beats, best] & (apart[beats, best] >= APART))
    if not len(parted):
        return np.zeros(len(beats), np.int64)
    after = np.minimum(np.searchsorted(parted, beats), len(parted) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(parted[before] - beats) <= np.abs(parted[after] - beats)
    return best[parted[np.where(nearer, before, after)]] + 1


def _cheapest(
    sounding: np.ndarray, begins: np.ndarray, upper: np.ndarray, beats: np.ndarray
) -> np.ndarray:
    """The cheapest line through segments in which nothing changes: pitch or -1, int `(S,)`.

    State p < 128: the line is at pitch p. State 128 + p: it rests, and was last at p, so that a
    leap over a rest costs what it costs without one.

    Args:
        sounding: bool `(S, 128)`.
        begins: bool `(S, 128)`, where a note begins with the segment, or began just before.
        upper: int `(S,)`, the lowest pitch of the upper hand.
        beats: float `(S,)`, lengths.
    """
    distance = np.abs(np.arange(128)[:, None] - np.arange(128))
    leap = COSTS.leap * np.minimum(distance, 12) + COSTS.far * np.maximum(distance - 12, 0)
    # As if the line had rested at any pitch: it may begin anywhere.
    total = np.concatenate([np.full(128, np.inf), np.zeros(128)])
    came_from = np.zeros((len(beats), 256), np.uint8)
    for n, length in enumerate(beats):
        pitches = np.flatnonzero(sounding[n])
        nearest = np.minimum(total[:128], total[128:])
        source = np.arange(128) + 128 * (total[:128] > total[128:])
        new = np.full(256, np.inf)
        skipped = (pitches >= upper[n]) & begins[n, pitches]
        new[128:] = (
            nearest + COSTS.rest * length * (len(pitches) > 0) + COSTS.skipped * skipped.any()
        )
        came_from[n, 128:] = source
        for above, p in enumerate(reversed(pitches)):
            ways = nearest + leap[:, p]
            best = int(ways.argmin())
            cost, state = ways[best], source[best]
            cost += COSTS.late * (not begins[n, p])
            if total[p] <= cost:  # the same note sounds on
                cost, state = total[p], p
            there = COSTS.covered * min(above, 2) + COSTS.low * (p < upper[n])
            new[p], came_from[n, p] = cost + there * length, state
        total = new
    state, states = int(total.argmin()), np.empty(len(beats), np.int64)
    for n in range(len(beats) - 1, -1, -1):
        states[n] = state if state < 128 else -1
        state = int(came_from[n, state])
    return states


def of_line(notes: Int[np.ndarray, "N 4"], line: Int[np.ndarray, " T"]) -> Bool[np.ndarray, " N"]:
    """Which notes, in steps and within the line, it goes through at any step: bool `(N,)`."""
    starts, ends, pitches = notes[:, 0], notes[:, 1], notes[:, 2]
    # The line's steps in the order of their pitches: a note's steps follow each other among them.
    most = len(line) + 1
    sounding = np.flatnonzero(line >= 0)
    steps = np.append(np.sort(line[sounding] * most + sounding), 128 * most)
    return steps[np.searchsorted(steps, pitches * most + starts)] < pitches * most + ends
