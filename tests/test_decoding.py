"""From numbers to notes."""

import itertools

import numpy as np

from musegan_jax.decoding import Costs, decode

ONE = np.array([True])
FREE = Costs(change=0, rest=0, clash=0)


def line(*steps: tuple[float, ...]) -> np.ndarray:
    """`(T, P, 1)` from the cells of each step."""
    return np.array(steps, np.float32)[..., None]


def test_a_free_track_has_every_cell_above_0():
    signed = line((0.1, 0.2), (-0.1, 0.0))
    assert decode(signed, ~ONE, ONE)[..., 0].tolist() == [[True, True], [False, False]]


def test_a_single_line_has_the_strongest_cell():
    signed = line((0.1, 0.2), (-0.1, 0.0), (0.3, -1))
    wanted = [[False, True], [False, False], [True, False]]
    assert decode(signed, ONE, ONE, costs=FREE)[..., 0].tolist() == wanted


def test_changes_cost():
    # Out and back for one step would gain 0.2 and cost twice 0.15.
    signed = line((0.9, -1), (0.3, 0.5), (0.9, -1))
    assert decode(signed, ONE, ONE, costs=FREE._replace(change=0.05))[1, :, 0].tolist() == [
        False,
        True,
    ]
    assert decode(signed, ONE, ONE, costs=FREE._replace(change=0.15))[1, :, 0].tolist() == [
        True,
        False,
    ]


def test_a_low_rest_fills_gaps():
    signed = line((0.9, -1), (-0.4, -1), (0.9, -1))
    assert not decode(signed, ONE, ONE, costs=FREE)[1].any()
    assert decode(signed, ONE, ONE, costs=FREE._replace(rest=-0.5))[1, 0, 0]
    assert not decode(-np.ones((3, 2, 1), np.float32), ONE, ONE).any()


def test_the_line_is_the_best_of_all():
    generator = np.random.default_rng(0)
    for _ in range(20):
        signed = generator.uniform(-1, 1, (5, 3)).astype(np.float32)
        cost, rest = generator.uniform(0, 1), generator.uniform(-1, 1)
        gain = np.concatenate([signed, np.full((5, 1), rest)], axis=1)

        def worth(path, gain=gain, cost=cost):
            changes = sum(a != b for a, b in itertools.pairwise(path))
            return sum(gain[t, p] for t, p in enumerate(path)) - cost * changes

        best = max(itertools.product(range(4), repeat=5), key=worth)
        wanted = np.eye(4, dtype=bool)[list(best)][:, :3]
        found = decode(signed[..., None], ONE, ONE, costs=Costs(cost, rest, 1))[..., 0]
        np.testing.assert_array_equal(found, wanted)


def test_without_clashes_tracks_do_not_meet():
    signed = np.random.default_rng(1).uniform(-1, 1, (8, 4, 3)).astype(np.float32)
    costs, single = FREE._replace(change=0.3), np.array([True, False, True])
    both = decode(signed, single, np.ones(3, bool), costs=costs)
    for k in range(3):
        alone = decode(signed[..., [k]], single[[k]], ONE, costs=costs)
        np.testing.assert_array_equal(both[..., k], alone[..., 0])


def pair(first: int, second: dict[int, float], pitches: int = 40) -> np.ndarray:
    """One step of two tracks: the first is sure of a cell, the second has some worths."""
    signed = -np.ones((1, pitches, 2), np.float32)
    signed[0, first, 0] = 1
    for pitch, worth in second.items():
        signed[0, pitch, 1] = worth
    return signed


def chosen(signed, clash=0.3, pitched=(True, True), single=(True, True), melody=0):
    notes = decode(signed, np.array(single), np.array(pitched), melody, Costs(0, -0.5, clash))
    return np.flatnonzero(notes[0, :, 1]).tolist()


def test_a_semitone_costs_in_every_octave():
    # 5 and 17, 29 are one pitch class; 4 and 6, 16 and 18 lie beside it.
    for near in (4, 6, 16, 18, 28, 30):
        assert chosen(pair(5, {near: 0.9, 9: 0.7})) == [9]
        assert chosen(pair(5, {near: 0.9, 9: 0.5})) == [near]
    for far in (3, 5, 7, 17, 15, 29):
        assert chosen(pair(5, {far: 0.9, 9: 0.7})) == [far]
    # B and C are neighbours, though 0 and 11 are not.
    assert chosen(pair(0, {11: 0.9, 9: 0.7})) == [9]


def test_who_clashes_with_whom():
    signed = pair(5, {6: 0.9, 9: 0.7})
    assert chosen(signed, pitched=(False, True)) == [6] == chosen(signed, pitched=(True, False))
    assert chosen(signed, single=(False, True)) == [9]
    # The melody is given, and the others yield.
    assert chosen(signed, melody=1) == [6] == chosen(signed, melody=1, single=(False, True))
    notes = decode(signed, np.ones(2, bool), np.ones(2, bool), 1, Costs(0, -1.5, 3))
    assert notes[0, :, 0].argmax() not in (5, 7)
    # Two tracks beside it cost twice.
    three = np.concatenate([pair(5, {})[..., :1], pair(17, {6: 0.9, 9: 0.7})], axis=2)
    lines, costs = np.ones(3, bool), Costs(0, -0.5, 0.15)
    assert decode(three, lines, lines, 0, costs)[0, :, 2].argmax() == 9
    assert decode(three[..., 1:], lines[1:], lines[1:], 0, costs)[0, :, 1].argmax() == 6
