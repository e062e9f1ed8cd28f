"""Statistics of the training music, and the joint search that uses them."""

import itertools

import numpy as np
import pytest

from conftest import make_dataset
from musegan_jax import pianoroll
from musegan_jax.composing.decoding import joint, lines
from musegan_jax.composing.decoding.frame import Frame, frame_of
from musegan_jax.composing.decoding.scores import Weights, key_scores, make_tables
from musegan_jax.config import ModelConfig, override
from musegan_jax.data import dataset, statistics, training_music
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track

LOW = 36


def roll_of(*voices, tracks: int | None = None) -> np.ndarray:
    """Bool `(T, 128, K)` from a list of pitches a voice, -1 for a rest."""
    roll = np.zeros((len(voices[0]), 128, tracks or len(voices)), bool)
    for k, voice in enumerate(voices):
        for t, pitch in enumerate(voice):
            if pitch >= 0:
                roll[t, pitch, k] = True
    return roll


def counted(*pieces, lines=None, offset=0) -> statistics.Statistics:
    count = pieces[0].shape[2]
    every = range(count) if lines is None else lines
    counts = statistics.empty(len(list(every)), 4)
    for piece in pieces:
        statistics.count(counts, piece, offset, list(every), 0)
    return counts


def model_of(counts, lines_: int = 3, chords: int = 0, pitches: int = 32) -> Model:
    tracks = tuple(Track(str(k), 0) for k in range(lines_ + chords))
    single = (True,) * lines_ + (False,) * chords
    music = TrainingMusic(tracks, 4, ((0, 127),) * len(tracks), single, counts)
    config = ModelConfig(
        tracks=len(tracks),
        lowest_pitch=LOW,
        pitches=pitches,
        generator_filters=(4, 8),
        critic_filters=(4, 8),
    )
    return Model(config, 32, music)


def random_music(seed: int, voices: int = 3, steps: int = 64, rests: float = 0.0) -> np.ndarray:
    """Voices that stay or move a little, above one another."""
    generator = np.random.default_rng(seed)
    found = []
    for k in range(voices):
        moves = generator.integers(-2, 3, steps) * (generator.random(steps) < 0.4)
        pitches = np.clip(62 - 7 * k + np.cumsum(moves), LOW + 1, LOW + 30)
        found.append(np.where(generator.random(steps) < rests, -1, pitches))
    return roll_of(*found)


# --- counts


def test_sonorities_are_counted_above_the_lowest_by_position():
    # C E G, then the same a fourth up, inverted: A C F.
    counts = counted(roll_of([67, 65], [64, 72], [48, 57]))
    third_and_fifth = 1 << 3 | 1 << 6
    third_and_sixth = 1 << 2 | 1 << 7
    assert counts.sonorities.sum() == 2
    assert counts.sonorities[0, third_and_fifth] == 1
    assert counts.sonorities[1, third_and_sixth] == 1
    assert counts.last_sonorities[third_and_sixth] == counts.last_sonorities.sum() == 1


def test_positions_count_from_the_offset():
    counts = counted(roll_of([60, 60, 60], [48, 48, 48]), offset=1)
    assert counts.sonorities.sum(axis=1).tolist() == [1, 1, 0, 1]


def test_motion_and_intervals_of_a_pair():
    # Both up from a fifth to a fifth; the first alone; apart.
    counts = counted(roll_of([67, 69, 71, 69], [60, 62, 62, 64]))
    assert counts.intervals[0, 3, 7, 7] == 1
    assert counts.intervals[0, 1, 7, 9] == 1
    assert counts.intervals[0, 4, 9, 5] == 1
    assert counts.motions[0].sum(axis=0).tolist() == [0, 1, 0, 1, 1]
    assert counts.orders[0].tolist() == [0, 0, 4]
    assert counts.melodic[0, 24 + 2] == 2 and counts.melodic[0, 24 - 2] == 1


def test_rests_are_no_motion():
    counts = counted(roll_of([67, -1, 71], [60, 62, 64]))
    assert counts.motions.sum() == 0
    assert counts.silent[0].tolist() == [2, 1]
    assert counts.rests[0].tolist() == [[0, 1], [1, 0]]
    assert counts.ranges.tolist() == [[67, 71], [60, 64]]


def test_chords_are_in_the_sonority_only():
    roll = roll_of([72, 72], [60, 60], [-1, -1])
    roll[:, [64, 67], 2] = True
    counts = counted(roll, lines=[0, 1])
    assert counts.sonorities[0, 1 << 3 | 1 << 6] == 1
    assert len(counts.ranges) == 2


def test_counts_of_pieces_add_up():
    a, b = random_music(1), random_music(2)
    both = counted(a, b)
    for name, first, second in zip(both._fields, counted(a), counted(b), strict=True):
        if name != "ranges":
            np.testing.assert_array_equal(getattr(both, name), first + second)


def test_transposition_changes_the_ranges_alone():
    roll = random_music(3)
    up = counted(np.roll(roll, 5, axis=1))
    for name, values in counted(roll)._asdict().items():
        wanted = values + 5 if name == "ranges" else values
        np.testing.assert_array_equal(getattr(up, name), wanted, err_msg=name)


def test_text_and_back():
    counts = counted(random_music(4, rests=0.1))
    back = statistics.from_text(counts.to_text(), 3, 4)
    for name, values in counts._asdict().items():
        np.testing.assert_array_equal(getattr(back, name), values, err_msg=name)


@pytest.mark.parametrize("text", ["", "?", "AAAA", 7, "eJwDAAAAAAE="])
def test_damaged_text_is_refused(text):
    with pytest.raises(ValueError, match="statistics"):
        statistics.from_text(text, 3, 4)


@pytest.mark.parametrize("name", ["ranges", "motions"])
def test_impossible_counts_are_refused(name):
    counts = counted(random_music(4))
    getattr(counts, name)[0] = (70, 60) if name == "ranges" else -1
    with pytest.raises(ValueError, match="statistics are out of range"):
        statistics.from_text(counts.to_text(), 3, 4)


def test_text_of_other_tracks_is_refused():
    with pytest.raises(ValueError, match="not of its tracks"):
        statistics.from_text(counted(random_music(4)).to_text(), 2, 4)
    with pytest.raises(ValueError, match="too large"):
        statistics.from_text("", 128, 96)


# --- scores


def test_tables_are_log_probabilities():
    free = Weights(*[1.0] * len(Weights._fields))._replace(rare=0.0, move=0.0, inversion=0.0)
    tables = make_tables(counted(random_music(5, steps=400)), free)
    for name in ("sonorities", "motions", "intervals", "orders"):
        # Centred: the same constant for all, so that rows still have one sum.
        sums = np.exp(getattr(tables, name)).sum(axis=-1)
        np.testing.assert_allclose(sums, sums.flat[0], rtol=1e-9, err_msg=name)


def test_the_key_is_that_of_the_training_pieces():
    # The tune of all pieces ends on the third of its last bass note, in major.
    pieces = []
    for key in range(3):
        tune = np.repeat([60, 62, 64, 65, 67, 65, 62, 64], 2) + key
        pieces.append(roll_of(tune, [48 + key] * 16))
    tables = make_tables(counted(*pieces), Weights())
    melody = np.repeat([67, 69, 71, 72, 74, 71, 69, 71], 2)
    scores = key_scores(tables, melody)
    assert scores.argmax() == 67 % 12
    np.testing.assert_allclose(np.exp(scores).sum(), 1)


# --- the search


def exhaustive(task) -> float:
    """The worth of the best path, by trying all of them; computed line by line."""
    candidates, odds = joint._candidates(task)
    steps, count, _ = candidates.shape
    states = [list(itertools.product(*candidates[t])) for t in range(steps)]
    networks = [list(map(sum, itertools.product(*odds[t]))) for t in range(steps)]
    best = -np.inf
    for path in itertools.product(*(range(len(s)) for s in states)):
        pitches = np.array([states[t][n] for t, n in enumerate(path)])
        worth = joint._state_scores(task, pitches[:, None])[:, 0].sum()
        worth += task.weights.network * sum(networks[t][n] for t, n in enumerate(path))
        worth += sum(slow_step(task, t, pitches) for t in range(1, steps))
        best = max(best, worth)
    return best


def worth_of(task, pitches) -> float:
    worth = joint._state_scores(task, pitches[:, None])[:, 0].sum()
    for t, state in enumerate(pitches):
        for n, pitch in enumerate(state):
            worth += task.weights.network * (task.odds[t, n, pitch] if pitch >= 0 else 0)
    return worth + sum(slow_step(task, t, pitches) for t in range(1, len(pitches)))


def slow_step(task, t, pitches) -> float:
    """The worth of one step, straight from the tables."""
    voices = [list(v) for v in np.insert(pitches, task.melody, task.tune, axis=1)[t - 1 : t + 1]]
    before, after = voices
    tables, worth = task.tables, 0.0
    for k, (p, q) in enumerate(zip(before, after, strict=True)):
        if k != task.melody:
            if p >= 0 and q >= 0:
                worth += tables.melodic[k][np.clip(q - p, -24, 24) + 24]
            if task.rests.any():
                worth += tables.rests[k][int(p < 0), int(q < 0)]
    for pair, (a, b) in enumerate(itertools.combinations(range(len(before)), 2)):
        if min(before[a], before[b], after[a], after[b]) < 0:
            continue
        up, down = np.sign(after[a] - before[a]), np.sign(after[b] - before[b])
        kind = (3 if up == down else 4) if up and down else 1 if up else 2 if down else 0
        first, second = (before[a] - before[b]) % 12, (after[a] - after[b]) % 12
        worth += tables.motions[pair][task.position[t], kind]
        worth += tables.intervals[pair][kind, first, second]
    return float(worth)


@pytest.mark.parametrize(("melody", "rests"), [(0, 0.0), (1, 0.0), (2, 0.0), (0, 0.2)])
def test_the_search_finds_the_best_path(monkeypatch, melody, rests):
    monkeypatch.setattr(joint, "CANDIDATES", 3)
    monkeypatch.setattr(joint, "BLOCK", 2)  # blocks must join
    generator = np.random.default_rng(melody)
    counts = statistics.empty(3, 4)
    for seed in range(3):
        statistics.count(counts, random_music(seed, rests=rests), 0, [0, 1, 2], melody)
    weights = Weights(rare=1.0)
    tune = np.array([60, 62, -1, 62])
    odds = np.full((4, 2, 128), -np.inf)
    odds[:, :, LOW : LOW + 30] = generator.normal(size=(4, 2, 30))
    task = joint._Task(
        tables=make_tables(counts, weights),
        weights=weights,
        position=np.arange(1, 5) % 4,
        melody=melody,
        tune=tune,
        chords=np.zeros((4, 128, 0), bool),
        odds=odds,
        rests=np.array([rests > 0] * 2),
    )
    found = joint._search(task)
    np.testing.assert_allclose(worth_of(task, found), exhaustive(task), rtol=1e-5)


def test_many_lines_keep_the_likeliest_states():
    odds = np.random.default_rng(0).normal(size=(2, 5, 6))
    states = joint._states(odds)
    assert states.shape == (2, joint.STATES, 5)
    worth = np.take_along_axis(odds[:, None], states[..., None], axis=3)[..., 0].sum(axis=2)
    np.testing.assert_allclose(worth[:, 0], odds.max(axis=2).sum(axis=1))  # the best is kept
    assert len(np.unique(states[0], axis=0)) == joint.STATES


def signed_of(roll: np.ndarray, sure: float = 0.9) -> np.ndarray:
    return np.where(roll[:, LOW : LOW + 32], sure, -sure).astype(np.float32)


def test_it_avoids_what_the_music_never_has():
    """Training music without parallel fifths; the network wants one and has a second choice."""
    generator = np.random.default_rng(0)
    pieces = []
    for _ in range(20):
        bass = 48 + np.repeat(generator.integers(-3, 4, 16), 4)
        # A third above it where it moves up, a sixth where it moves down.
        above = bass + np.where(np.diff(bass, prepend=bass[0]) >= 0, 4, 9)
        pieces.append(roll_of(np.full(64, 67), above, bass))
    counts = counted(*pieces)
    wanted = roll_of([67] * 8, [55] * 4 + [57] * 4, [48] * 4 + [50] * 4)
    signed = signed_of(wanted)
    signed[4:, 54 - LOW, 1] = 0.5  # a third, if the network's first choice is not taken
    given = wanted[:, LOW : LOW + 32, 0]
    model = model_of(counts)
    notes = joint.decode(model, signed, given)
    assert not (notes[4:, 57 - LOW, 1] & notes[4:, 50 - LOW, 2]).any()
    plain = lines.decode(model, signed, given)
    assert plain[4:, 57 - LOW, 1].all() and plain[4:, 50 - LOW, 2].all()


def test_it_begins_with_the_melody_and_holds_its_last_chord():
    counts = counted(random_music(1))
    roll = random_music(7, steps=16)
    given = roll[:, LOW : LOW + 32, 0].copy()
    given[:4] = given[12:] = False
    notes = joint.decode(model_of(counts), signed_of(roll), given)[..., 1:]
    assert not notes[:4].any()
    assert (notes[4:].sum(axis=1) == 1).all()  # single lines without a gap
    assert (notes[12:] == notes[11]).all()


def test_voices_stay_in_the_ranges_of_the_training_pieces():
    counts = counted(random_music(1))
    roll = random_music(7, steps=16)
    given = roll[:, LOW : LOW + 32, 0]
    signed = np.full((16, 32, 3), -1.0, np.float32)
    signed[:, 31] = 1.0  # far above both ranges
    for shift in (0, 2):
        notes = joint.decode(model_of(counts), signed, given, Frame(shift))
        for k in (1, 2):
            pitches = notes[..., k].argmax(axis=1) + LOW - shift
            low, high = counts.ranges[k]
            assert low <= pitches.min() and pitches.max() <= high


def test_a_melody_that_is_played_below_every_pitch():
    roll = random_music(7, steps=16)
    model = model_of(counted(random_music(1)))
    notes = joint.decode(model, signed_of(roll), given_of(roll), Frame(octaves=10))
    assert (notes[..., 1:].sum(axis=1) == 1).all()


def test_lines_that_rested_in_training_may_rest():
    music = random_music(1)
    music[np.arange(64) % 16 < 8, :, 2] = False
    counts = counted(music)
    roll = random_music(7, steps=16)
    roll[4:12, :, 2] = False
    notes = joint.decode(model_of(counts), signed_of(roll, 0.999), roll[:, LOW : LOW + 32, 0])
    assert not notes[5:11, :, 2].any()
    never = joint.decode(model_of(counted(random_music(1))), signed_of(roll, 0.999), given_of(roll))
    assert never[..., 2].any(axis=1).all()


def given_of(roll: np.ndarray) -> np.ndarray:
    return roll[:, LOW : LOW + 32, 0]


def test_chord_tracks_are_heeded_and_kept():
    roll = random_music(7, steps=16)
    chords = np.zeros((16, 128, 1), bool)
    chords[:, [50, 54, 57]] = True
    music = np.concatenate([random_music(1), np.zeros((64, 128, 1), bool)], axis=2)
    counts = counted(music, lines=[0, 1, 2])
    signed = signed_of(np.concatenate([roll, chords], axis=2))
    notes = joint.decode(model_of(counts, chords=1), signed, given_of(roll))
    np.testing.assert_array_equal(notes[..., 3], chords[:, LOW : LOW + 32, 0])


@pytest.mark.parametrize("decode", [joint.decode, lines.decode])
@pytest.mark.parametrize("shift", [0, 3])
def test_what_is_kept_of_the_file_is_clashed_with_less(decode, shift):
    """A network that is unsure; a chord that sounds on, `shift` semitones below its pitches."""
    roll = random_music(7, steps=64)
    model = model_of(counted(random_music(1)))
    signed = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 32, 3)).astype(np.float32)
    kept = np.zeros((64, 128), bool)
    kept[:, [48, 52, 55]] = True
    beside = [(pitch + shift + step) % 12 for pitch in (48, 52, 55) for step in (-1, 1)]
    rows = np.isin((LOW + np.arange(32)) % 12, beside)

    def clashes(frame):
        notes = decode(model, signed, given_of(roll), frame)[..., 1:]
        return np.count_nonzero(notes[:, rows]) / np.count_nonzero(notes)

    assert clashes(frame_of(shift, kept)) < 0.6 * clashes(frame_of(shift))


def test_without_statistics_it_is_the_rule_lines():
    roll = random_music(7, steps=16)
    model = model_of(None)
    np.testing.assert_array_equal(
        joint.decode(model, signed_of(roll), given_of(roll)),
        lines.decode(model, signed_of(roll), given_of(roll)),
    )
    silent = np.zeros((16, 32), bool)
    model = model_of(counted(random_music(1)))
    np.testing.assert_array_equal(
        joint.decode(model, signed_of(roll), silent), lines.decode(model, signed_of(roll), silent)
    )


@pytest.mark.parametrize(
    ("shift", "wanted"), [(0, (0, 0)), (12, (0, 1)), (-24, (0, -2)), (3, (3, 0)), (-7, (5, -1))]
)
def test_a_shift_in_octaves_and_the_rest(shift, wanted):
    assert frame_of(shift)[:2] == wanted
    assert frame_of(shift).shift + 12 * frame_of(shift).octaves == shift


@pytest.mark.parametrize("narrow", [(60, 61), (0, 20), (LOW + 31, 90)])
def test_narrow_ranges_and_ranges_that_the_network_lacks(narrow):
    counts = counted(random_music(1))
    counts.ranges[1] = narrow
    roll = random_music(7, steps=16)
    notes = joint.decode(model_of(counts), signed_of(roll), given_of(roll))
    pitches = notes[..., 1].argmax(axis=1) + LOW
    assert (notes[..., 1].sum(axis=1) == 1).all()
    if narrow[1] > LOW:
        assert narrow[0] <= pitches.min() and pitches.max() <= narrow[1]


def test_a_single_line_beside_the_melody_stays_in_its_range():
    """It is decoded by the rule `lines`, which knows no ranges."""
    music = random_music(1, voices=2)
    counts = counted(music)
    counts.ranges[1] = (50, 53)
    signed = np.random.default_rng(0).uniform(-1, 1, (16, 32, 2)).astype(np.float32)
    notes = joint.decode(model_of(counts, lines_=2), signed, given_of(music[:16]))[..., 1]
    pitches = notes.argmax(axis=1)[notes.any(axis=1)] + LOW
    assert len(pitches) and 50 <= pitches.min() and pitches.max() <= 53


def test_voices_stay_in_their_instruments_ranges():
    """A violin has no F below its G string; an instrument with less than an octave is ignored."""
    counts = counted(random_music(1))
    counts.ranges[1], counts.ranges[2] = (53, 74), (36, 64)
    model = model_of(counts)
    for programs, wanted in (((40, 42), [(55, 74), (36, 64)]), ((40, 56), [(55, 74), (52, 64)])):
        tracks = [Track("Tune", 0), *(Track(str(n), n) for n in programs)]
        music = model.music._replace(tracks=tuple(tracks))
        assert music.played_ranges(0)[1:] == wanted
    piccolo = model.music._replace(tracks=(Track("Tune", 0), Track("a", 72), Track("b", 0)))
    assert piccolo.played_ranges(0)[1:] == [(53, 74), (36, 64)]


def test_statistics_are_stored_with_the_facts_of_the_music():
    music = model_of(counted(random_music(4))).music
    values = music.to_dict()
    back = TrainingMusic.from_dict(values, 0)
    np.testing.assert_array_equal(back.statistics.sonorities, music.statistics.sonorities)
    assert TrainingMusic.from_dict({**values, "statistics": None}, 0).statistics is None
    with pytest.raises(ValueError, match="statistics"):
        TrainingMusic.from_dict({**values, "statistics": "AAAA"}, 0)


def test_of_a_large_dataset_pieces_spread_over_it_are_counted(tiny, monkeypatch):
    made = make_dataset()
    rolls = [pianoroll.unpack(made.packed(n)) for n in range(12)]
    rolls[1][:4, 90, 0] = True  # the highest note, in a piece that is not counted
    pieces = [
        dataset.Piece(f"{n:02d}", pianoroll.pack(r), made.bars[:4]) for n, r in enumerate(rolls)
    ]
    data = dataset.build(pieces, made.tracks, 4, "made up")
    config = override(tiny, ["--data.splits=train,valid,test"])
    whole = training_music.training_music(data, config)
    assert whole.statistics.last_sonorities.sum() == 12
    monkeypatch.setattr(training_music, "MOST_STEPS", 4 * 64)
    some = training_music.training_music(data, config)
    wanted = counted(*(rolls[n] for n in (0, 3, 6, 9)))
    assert wanted.ranges[0, 1] < 90 == whole.statistics.ranges[0, 1]
    wanted = wanted._replace(ranges=whole.statistics.ranges)  # what may be played: of all pieces
    for name, values in zip(wanted._fields, wanted, strict=True):
        np.testing.assert_array_equal(getattr(some.statistics, name), values)
    assert some.ranges == whole.ranges
