"""The three forms of a piano roll and the ways between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from musegan_jax import pianoroll

# Few shapes: JAX compiles every operation once for each.
SHAPES = [(1, 128, 1), (7, 128, 4), (2, 3, 128, 2)]
rolls = st.sampled_from(SHAPES).flatmap(lambda shape: hnp.arrays(bool, shape))


def in_both(function, array: np.ndarray, *rest) -> np.ndarray:
    """The NumPy answer, after a check that JAX gives the same one, and each answers in kind."""
    ours, theirs = function(array, *rest), function(jnp.asarray(array), *rest)
    assert isinstance(ours, np.ndarray) and isinstance(theirs, jax.Array)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    return ours


@settings(deadline=None, max_examples=40)
@given(rolls)
def test_packed_and_signed_forms_lose_nothing(roll):
    packed = in_both(pianoroll.pack, roll)
    assert packed.dtype == np.uint8 and packed.shape == (*roll.shape[:-2], roll.shape[-1], 16)
    np.testing.assert_array_equal(in_both(pianoroll.unpack, packed), roll)
    signed = in_both(pianoroll.to_signed, roll)
    assert signed.dtype == np.float32 and set(np.unique(signed)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(in_both(pianoroll.binarise, signed), roll)


def test_the_bit_order_of_the_packed_form():
    """Pitch 0 is the highest bit of byte 0, pitch 127 the lowest of byte 15: files depend on it."""
    roll = np.zeros((1, 128, 1), bool)
    roll[0, [0, 9, 127], 0] = True
    wanted = [0b1000_0000, 0b0100_0000, *[0] * 13, 0b0000_0001]
    np.testing.assert_array_equal(pianoroll.pack(roll)[0, 0], wanted)


def test_uncrop_is_the_way_back():
    inner = np.random.default_rng(0).random((5, 7, 3)) < 0.5
    whole = pianoroll.uncrop(inner, 20)
    assert whole.shape == (5, 128, 3) and whole.dtype == bool
    np.testing.assert_array_equal(pianoroll.crop(whole, 20, 7), inner)
    assert whole.sum() == inner.sum()


def test_pack_refuses_a_cropped_roll():
    with pytest.raises(ValueError, match="128 pitches, not 84"):
        pianoroll.pack(np.zeros((4, 84, 1), bool))


def test_binarise_calls_zero_a_rest():
    """tanh gives an exact 0 for a dead network; that is silence, not a cluster of all pitches."""
    np.testing.assert_array_equal(
        in_both(pianoroll.binarise, np.array([-1.0, 0.0, 1e-6, 1.0], np.float32)),
        [False, False, True, True],
    )


@settings(deadline=None, max_examples=40)
@given(rolls, st.integers(-24, 24), st.integers(-24, 24))
def test_transposition_is_a_shift_that_can_be_undone(roll, up, more):
    moved = in_both(pianoroll.transpose, roll, up)
    np.testing.assert_array_equal(pianoroll.transpose(moved, -up), roll)
    np.testing.assert_array_equal(
        pianoroll.transpose(moved, more), pianoroll.transpose(roll, up + more)
    )
    # Away from the rows that wrap, pitch p moves to pitch p + up.
    inner = roll[..., 24:104, :]
    np.testing.assert_array_equal(moved[..., 24 + up : 104 + up, :], inner)
    np.testing.assert_array_equal(in_both(pianoroll.crop, moved, 24 + up, 80), inner)


def test_transposition_takes_a_traced_shift():
    roll = np.zeros((1, 128, 1), bool)
    roll[0, 60, 0] = True
    moved = jax.jit(pianoroll.transpose)(jnp.asarray(roll), jnp.int32(7))
    assert np.flatnonzero(moved[0, :, 0]) == [67]


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_runs_rebuild_the_roll_and_are_maximal(column):
    notes = pianoroll.runs(column)
    rebuilt = np.zeros(column.shape, int)
    for start, end, pitch in notes:
        assert start < end
        rebuilt[start:end, pitch] += 1
    # Equal as numbers, not only as bools: no cell belongs to two notes.
    np.testing.assert_array_equal(rebuilt, column)
    # Maximal: no note begins where another of its pitch ends.
    ends = {(end, pitch) for _, end, pitch in notes.tolist()}
    assert not ends & {(start, pitch) for start, _, pitch in notes.tolist()}
    order = [(start, pitch) for start, _, pitch in notes.tolist()]
    assert order == sorted(order)


def test_most_at_once():
    roll = np.zeros((3, 128, 3), bool)
    roll[0, [0, 60, 127], 0] = True
    roll[:, 60, 1] = True
    assert pianoroll.most_at_once(pianoroll.pack(roll)).tolist() == [3, 1, 0]
    assert pianoroll.most_at_once(pianoroll.pack(roll[:0])).tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(bool, (5, 128, 2)), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_edges_of_steps_and_of_spans(roll, spans):
    """As the unpacked roll of the same steps says."""
    packed = pianoroll.pack(roll & (np.arange(128) % 3 > 0)[:, None])
    edges = pianoroll.edges(packed)
    spans = [*spans, *((n, n + 1) for n in range(5)), (0, 5)]
    lows, highs = pianoroll.edges_over(edges, *np.array(spans).T)
    for (first, last), low, high in zip(spans, lows, highs, strict=True):
        for k in range(2):
            sounding = np.nonzero(pianoroll.unpack(packed[first:last, [k]]))[1]
            found = sounding.min(initial=pianoroll.SILENT), sounding.max(initial=0)
            assert found == (low[k], high[k])


def test_edges_at_the_ends_of_the_words():
    for pitches in ([0], [63], [64], [127], [0, 127], [63, 64], []):
        roll = np.zeros((1, 128, 1), bool)
        roll[0, pitches] = True
        wanted = [min(pitches), max(pitches)] if pitches else [pianoroll.SILENT, 0]
        assert pianoroll.edges(pianoroll.pack(roll))[0, 0].tolist() == wanted
