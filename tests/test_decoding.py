"""From numbers to notes."""

import itertools

import numpy as np

from musegan_jax.composing import decoding
from musegan_jax.composing.decoding import lines
from musegan_jax.composing.decoding.lines import CHOSEN, FREE, Costs
from musegan_jax.config import DECODING, ModelConfig
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track


def model_of(melody: int, single_lines, pitched) -> Model:
    """All that a rule asks of a model."""
    config = ModelConfig(tracks=len(single_lines), condition_track=melody)
    tracks = tuple(Track(f"{k}", 0, not fact) for k, fact in enumerate(pitched))
    ranges = ((0, 127),) * len(tracks)
    return Model(config, 32, TrainingMusic(tracks, 4, ranges, tuple(map(bool, single_lines))))


def decode(signed, given, melody, single_lines, pitched, costs: Costs = CHOSEN) -> np.ndarray:
    return lines.decode(model_of(melody, single_lines, pitched), signed, given, costs=costs)


def line(*steps: tuple[float, ...]) -> np.ndarray:
    """`(T, P, 1)` from the cells of each step."""
    return np.array(steps, np.float32)[..., None]


def one(signed: np.ndarray, costs: Costs = FREE, single: bool = True) -> np.ndarray:
    """The notes `(T, P)` of one track that no other meets."""
    both = np.concatenate([-np.ones_like(signed), signed], axis=2)
    nothing = np.zeros(signed.shape[:2], bool)
    notes = decode(both, nothing, 0, np.array([True, single]), np.array([True, True]), costs)
    return notes[..., 1]


def test_a_free_track_has_every_cell_above_0():
    signed = line((0.1, 0.2), (-0.1, 0.0))
    assert one(signed, CHOSEN, single=False).tolist() == [[True, True], [False, False]]


def test_a_single_line_has_the_strongest_cell():
    signed = line((0.1, 0.2), (-0.1, 0.0), (0.3, -1))
    assert one(signed).tolist() == [[False, True], [False, False], [True, False]]


def test_changes_cost():
    # Out and back for one step would gain 0.2 and cost twice 0.15.
    signed = line((0.9, -1), (0.3, 0.5), (0.9, -1))
    assert one(signed, FREE._replace(change=0.05))[1].tolist() == [False, True]
    assert one(signed, FREE._replace(change=0.15))[1].tolist() == [True, False]


def test_a_low_rest_fills_gaps():
    signed = line((0.9, -1), (-0.4, -1), (0.9, -1))
    assert not one(signed)[1].any()
    assert one(signed, FREE._replace(rest=-0.5))[1, 0]
    assert not one(-np.ones((3, 2, 1), np.float32), CHOSEN).any()


def clash(a: int, b: int) -> bool:
    """Whether two pitches are a semitone apart, octaves aside."""
    return (a - b) % 12 in (1, 11)


def test_the_line_is_the_best_of_all():
    """Of all lines of 5 steps and 3 pitches or none, beside a melody that comes and goes."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        signed = generator.uniform(-1, 1, (5, 3, 2)).astype(np.float32)
        melody = generator.integers(0, 4, 5)  # 3: silent
        given = np.eye(4, dtype=bool)[melody][:, :3]
        costs = Costs(generator.uniform(0, 1), generator.uniform(-1, 1), generator.uniform(0, 1))

        def worth(path, signed=signed, melody=melody, costs=costs):
            gains = [costs.rest if p == 3 else signed[t, p, 1] for t, p in enumerate(path)]
            clashes = sum(
                3 not in (p, m) and clash(p, m) for p, m in zip(path, melody, strict=True)
            )
            changes = sum(a != b for a, b in itertools.pairwise(path))
            return sum(gains) - costs.change * changes - costs.clash * clashes

        best = max(itertools.product(range(4), repeat=5), key=worth)
        wanted = np.eye(4, dtype=bool)[list(best)][:, :3]
        both = np.ones(2, bool)
        np.testing.assert_array_equal(decode(signed, given, 0, both, both, costs)[..., 1], wanted)


def test_without_clashes_tracks_do_not_meet():
    signed = np.random.default_rng(1).uniform(-1, 1, (8, 4, 3)).astype(np.float32)
    costs, single = FREE._replace(change=0.3), np.array([True, False, True])
    given = np.ones((8, 4), bool)
    together = decode(signed, given, 0, single, np.ones(3, bool), costs)
    for k in range(3):
        np.testing.assert_array_equal(
            together[..., k], one(signed[..., [k]], costs, bool(single[k]))
        )


def heard(second: dict[int, float], given: int = 5, costs=None, **facts) -> list[int]:
    """What the last of two tracks plays in one step, by its worths, beside a given pitch."""
    signed = -np.ones((1, 40, 2), np.float32)
    for pitch, worth in second.items():
        signed[0, pitch, 1] = worth
    cells = np.zeros((1, 40), bool)
    cells[0, given] = True
    facts = {"melody": 0, "single_lines": (True, True), "pitched": (True, True)} | facts
    melody, single, pitched = facts.values()
    notes = decode(
        signed, cells, melody, np.array(single), np.array(pitched), costs or Costs(0.0, -0.5, 0.3)
    )
    return np.flatnonzero(notes[0, :, 1]).tolist()


def test_a_semitone_costs_in_every_octave():
    # 5 and 17, 29 are one pitch class; 4 and 6, 16 and 18 lie beside it.
    for near in (4, 6, 16, 18, 28, 30):
        assert heard({near: 0.9, 9: 0.7}) == [9]
        assert heard({near: 0.9, 9: 0.5}) == [near]
    for far in (3, 5, 7, 17, 15, 29):
        assert heard({far: 0.9, 9: 0.7}) == [far]
    # B and C are neighbours, though 0 and 11 are not.
    assert heard({11: 0.9, 9: 0.7}, given=0) == [9]


def test_who_clashes_with_whom():
    cells = {6: 0.9, 9: 0.7}
    assert heard(cells) == [9] == heard(cells, single_lines=(False, True))
    assert heard(cells, pitched=(False, True)) == [6]
    assert heard(cells, melody=1) == [6]  # its own track pays nothing
    # Drums have their strongest cell, whatever lines cost.
    assert heard({6: 0.9, 9: 0.7}, pitched=(True, False)) == [6]
    assert heard({6: -0.1}, pitched=(True, False)) == [] != heard({7: -0.1})


def test_it_is_the_given_melody_that_is_heard():
    """Not what the network makes of it: here it plays 8 where 5 was given."""
    signed = -np.ones((1, 40, 2), np.float32)
    signed[0, 8, 0], signed[0, [6, 9], 1] = 1, (0.8, 0.7)
    given, both = np.zeros((1, 40), bool), np.ones(2, bool)
    given[0, 5] = True
    notes = decode(signed, given, 0, both, both, Costs(0.0, -0.5, 0.3))
    assert np.flatnonzero(notes[0, :, 0]).tolist() == [8]
    assert np.flatnonzero(notes[0, :, 1]).tolist() == [9]


def test_later_tracks_yield_to_all_before_them():
    signed = -np.ones((1, 40, 3), np.float32)
    signed[0, 17, 1], signed[0, [6, 9], 2] = 1, (0.9, 0.7)
    given, all_three = np.zeros((1, 40), bool), np.ones(3, bool)
    costs = Costs(0.0, -0.5, 0.15)

    def last(given):
        notes = decode(signed, given, 0, all_three, all_three, costs)
        assert np.flatnonzero(notes[0, :, 1]).tolist() == [17]
        return np.flatnonzero(notes[0, :, 2]).tolist()

    assert last(given) == [6]
    given[0, 5] = True
    assert last(given) == [9]  # two tracks beside it cost twice


def test_the_named_rules():
    """Semitones with the melody: avoided, left as the network has them, and no line at all."""
    signed = -np.ones((4, 128, 2), np.float32)
    signed[:, 61, 1], signed[:, 57, 1] = 0.9, 0.7
    condition = np.zeros((4, 128), bool)
    condition[:, 60] = True
    model = model_of(0, (True, True), (True, True))
    notes = {
        name: np.flatnonzero(decoding.decode(model, signed, condition, name)[0, :, 1]).tolist()
        for name in decoding.RULES
    }
    # `joint` needs statistics; without them it is `lines`.
    assert notes == {"joint": [57], "lines": [57], "independent": [61], "threshold": [57, 61]}
    assert set(decoding.RULES) == set(DECODING) and decoding.DEFAULT == next(iter(DECODING))
