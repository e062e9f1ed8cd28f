"""From numbers to notes."""

import itertools

import numpy as np

from musegan_jax.decoding import decode

ONE = np.array([True])


def line(*steps: tuple[float, ...]) -> np.ndarray:
    """`(T, P, 1)` from the cells of each step."""
    return np.array(steps, np.float32)[..., None]


def test_a_free_track_has_every_cell_above_0():
    signed = line((0.1, 0.2), (-0.1, 0.0))
    assert decode(signed, ~ONE)[..., 0].tolist() == [[True, True], [False, False]]


def test_a_single_line_has_the_strongest_cell():
    signed = line((0.1, 0.2), (-0.1, 0.0), (0.3, -1))
    wanted = [[False, True], [False, False], [True, False]]
    assert decode(signed, ONE, 0, 0)[..., 0].tolist() == wanted


def test_changes_cost():
    # Out and back for one step would gain 0.2 and cost twice 0.15.
    signed = line((0.9, -1), (0.3, 0.5), (0.9, -1))
    assert decode(signed, ONE, 0.05, 0)[1, :, 0].tolist() == [False, True]
    assert decode(signed, ONE, 0.15, 0)[1, :, 0].tolist() == [True, False]


def test_a_low_rest_fills_gaps():
    signed = line((0.9, -1), (-0.4, -1), (0.9, -1))
    assert not decode(signed, ONE, 0, 0)[1].any()
    assert decode(signed, ONE, 0, -0.5)[1, 0, 0]
    assert not decode(-np.ones((3, 2, 1), np.float32), ONE, 1.0, -0.5).any()


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
        np.testing.assert_array_equal(decode(signed[..., None], ONE, cost, rest)[..., 0], wanted)


def test_tracks_do_not_meet():
    signed = np.random.default_rng(1).uniform(-1, 1, (8, 4, 3)).astype(np.float32)
    both = decode(signed, np.array([True, False, True]), 0.3)
    for k, single in enumerate((True, False, True)):
        alone = decode(signed[..., [k]], np.array([single]), 0.3)
        np.testing.assert_array_equal(both[..., k], alone[..., 0])
