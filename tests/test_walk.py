"""Notes that are kept, and walks between flavours."""

import numpy as np
import pytest
from test_joint import LOW, counted, given_of, model_of, random_music, signed_of

import musegan_jax as mg
from musegan_jax import cli
from musegan_jax.composing import accompany, walk
from musegan_jax.composing.accompany import answer_melody
from musegan_jax.composing.decoding import RULES, decode
from musegan_jax.composing.decoding.frame import Frame
from musegan_jax.composing.decoding.held import Held
from musegan_jax.composing.melody import load_melody, prepare
from musegan_jax.composing.walk import Flavour, blend
from musegan_jax.data.melody_line import pick_part


@pytest.fixture(scope="module")
def shipped():
    return mg.load()


@pytest.fixture(scope="module")
def twinkle(shipped):
    score = load_melody("twinkle")
    return prepare(score, pick_part(score, None, "twinkle"), shipped)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_held_is_kept_and_the_rest_is_decided_with_it(rule):
    counts, roll = counted(random_music(1)), random_music(7, steps=16)
    model, given = model_of(counts), given_of(roll)
    free = decode(model, signed_of(roll, 0.3), uncropped(given), rule)
    kept = np.zeros((16, 128, 3), bool)
    kept[4:8, LOW + 3, 1] = True  # a pitch that nothing else asks for
    where = np.zeros((16, 3), bool)
    where[2:8, 1] = True  # a rest, then that note
    frame = Frame(held=Held(kept, where))
    notes = decode(model, signed_of(roll, 0.3), uncropped(given), rule, frame)
    assert not notes[2:4, :, 1].any() and (notes[4:8, :, 1].argmax(axis=1) == 3).all()
    assert (notes[4:8, :, 1].sum(axis=1) == 1).all()
    assert free[4:8, :, 1].any() and not free[4:8, 3, 1].any()
    nothing = Frame(held=Held(kept, np.zeros_like(where)))
    np.testing.assert_array_equal(
        decode(model, signed_of(roll, 0.3), uncropped(given), rule, nothing), free
    )


def uncropped(given: np.ndarray) -> np.ndarray:
    condition = np.zeros((len(given), 128), bool)
    condition[:, LOW : LOW + 32] = given
    return condition


def test_the_search_avoids_clashes_with_what_is_held():
    """Training music of thirds; a bass is kept, and the other voice goes where it fits."""
    generator = np.random.default_rng(0)
    pieces = []
    for _ in range(20):
        bass = 48 + np.repeat(generator.integers(-3, 4, 16), 4)
        pieces.append(np.stack([np.full(64, 67), bass + 4, bass], axis=1))
    rolls = [np.stack([np.eye(128, dtype=bool)[v] for v in p.T], axis=2) for p in pieces]
    model = model_of(counted(*rolls))
    signed = np.full((8, 32, 3), -0.5, np.float32)
    kept = np.zeros((8, 128, 3), bool)
    where = np.zeros((8, 3), bool)
    kept[:4, 47, 2] = kept[4:, 50, 2] = True
    where[:, 2] = True
    tune = np.zeros((8, 128), bool)
    tune[:, 67] = True
    notes = decode(model, signed, tune, "joint", Frame(held=Held(kept, where)))
    assert (notes[..., 1].argmax(axis=1) + LOW).tolist() == [51] * 4 + [54] * 4


@pytest.mark.parametrize("key", [None, 3])
def test_python_keeps_voices_and_bars_exactly(shipped, key):
    first = mg.accompany(shipped, "twinkle", key=key)[0]
    where = np.zeros((len(first), 4), bool)
    where[:, 3] = True  # the bass
    where[16:32] = True  # the second bar
    again = mg.accompany(shipped, "twinkle", seed=5, key=key, keep=(first, where))[0]
    np.testing.assert_array_equal(again[..., 3], first[..., 3])
    np.testing.assert_array_equal(again[16:32], first[16:32])
    assert (again[..., 1] != first[..., 1]).any()
    high = np.zeros_like(first)
    high[:, 120, 1] = True  # outside the network's rows
    where[:] = [False, True, False, False]
    again = mg.accompany(shipped, "twinkle", key=key, keep=(high, where))[0]
    np.testing.assert_array_equal(again[..., 1], high[..., 1])


def test_what_is_kept_is_shown_to_the_network_too(shipped):
    """Its answer is the mean of those without and with the kept notes, moved as the melody is."""
    score = load_melody("twinkle")
    prepared = prepare(score, pick_part(score, None, "twinkle"), shipped, 3)
    roll, where = np.zeros((prepared.steps, 128, 4), bool), np.zeros((prepared.steps, 4), bool)
    roll[:20, 45, 3] = roll[:, 3, 3] = roll[:, 60, 1] = True  # 3 is outside the network's rows
    where[:, 3] = True
    where[16:20, 1:] = True  # nothing is left to decide there
    assert accompany.showing(shipped, prepared, None) is prepared
    shown = accompany.showing(shipped, prepared, Held(roll, where))
    alone, both = accompany.conditions(shown)
    np.testing.assert_array_equal(alone, prepared.condition)
    assert np.argwhere(both & ~alone).tolist() == [[step, 48] for step in range(16)]
    found = answer_melody(shipped, shown, 5, 0)
    two = [
        answer_melody(shipped, prepared._replace(condition=condition), 5, 0)
        for condition in (alone, both)
    ]
    np.testing.assert_allclose(found, (two[0] + two[1]) / 2, atol=1e-6)
    ends = [Flavour(5), Flavour(6)]
    np.testing.assert_allclose(walk.answer_between(shipped, shown, ends), found, atol=1e-5)
    silent = accompany.showing(shipped, prepared, Held(np.zeros_like(roll), where))
    assert len(accompany.conditions(silent)) == 1


def test_what_is_kept_before_and_after_the_melody_stays_as_well(shipped):
    melody = np.zeros((64, 128), bool)
    melody[20:44, 67] = True
    bass = np.zeros((64, 128, 4), bool)
    bass[:, 48, 3] = True
    where = np.zeros((64, 4), bool)
    where[:, 3] = True
    made = mg.accompany(shipped, melody, keep=(bass, where))[0]
    np.testing.assert_array_equal(made[..., 3], bass[..., 3])
    np.testing.assert_array_equal(made[..., 0], melody)


@pytest.mark.parametrize("keep", [7, (1, 2), "both", (np.zeros((4, 128, 4)), np.zeros((4, 4)))])
def test_what_cannot_be_kept_is_named(shipped, keep):
    with pytest.raises((TypeError, ValueError), match="keep"):
        mg.accompany(shipped, "twinkle", keep=keep)


def test_blending_keeps_the_length_and_turns_evenly():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 4, 5, 6)).astype(np.float32)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    path = [blend(a, b, place) for place in walk.places(5)]
    np.testing.assert_allclose([np.linalg.norm(p) for p in path], np.linalg.norm(a), rtol=1e-5)
    turns = [np.vdot(p, q) for p, q in zip(path, path[1:], strict=False)]
    np.testing.assert_allclose(turns, turns[0], rtol=1e-4)
    assert path[0] is a and path[-1] is b and path[2].dtype == np.float32
    np.testing.assert_allclose(blend(a, a, 0.3), a, rtol=1e-5)


def test_the_ends_of_a_walk_are_the_flavours_themselves(shipped, twinkle):
    ends = [Flavour(0), Flavour(7, 1)]
    first, middle, last = walk.walk(shipped, twinkle, ends, 3)
    np.testing.assert_allclose(first, answer_melody(shipped, twinkle, 0, 0), atol=1e-5)
    np.testing.assert_allclose(last, answer_melody(shipped, twinkle, 7, 1), atol=1e-5)
    assert min(np.abs(middle - first).max(), np.abs(middle - last).max()) > 0.1


def test_walks_in_python(shipped):
    rolls = mg.between(shipped, "twinkle", (0, 7), steps=3)
    np.testing.assert_array_equal(rolls[0], mg.accompany(shipped, "twinkle", seed=0)[0])
    np.testing.assert_array_equal(rolls[2], mg.accompany(shipped, "twinkle", seed=7)[0])
    grid = mg.between(shipped, "twinkle", (0, 7, 8, 9), steps=2)
    np.testing.assert_array_equal(grid[0], rolls[0])
    np.testing.assert_array_equal(grid[3], mg.accompany(shipped, "twinkle", seed=9)[0])
    with pytest.raises(ValueError, match="seeds has 3"):
        mg.between(shipped, "twinkle", (0, 7, 8))


def test_walks_on_the_command_line(tmp_path, capsys):
    words = ["compose", "twinkle", "--out", str(tmp_path / "walk"), "--no-humanise"]
    assert cli.main([*words, "--between", "0", "7", "--steps", "2"]) == 0
    assert cli.main([*words[:3], str(tmp_path / "one"), "--no-humanise", "--seed", "7"]) == 0
    again = (tmp_path / "one" / "twinkle.mid").read_bytes()
    assert (tmp_path / "walk" / "twinkle-2.mid").read_bytes() == again
    assert (tmp_path / "walk" / "twinkle-1.mid").read_bytes() != again
    capsys.readouterr()
    for wrong in (["--steps", "3"], ["--between", "0", "7", "--samples", "2"],
                  ["--between", "0", "-7"], ["--between", "0", "7", "--steps", "1"]):  # fmt: skip
        assert cli.main([*words, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
