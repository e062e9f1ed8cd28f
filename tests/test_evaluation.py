"""Distances of distributions, baselines, copies, and the evaluation as a whole."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from conftest import changed
from musegan_jax import pianoroll
from musegan_jax.config import ModelConfig
from musegan_jax.data import dataset, splits
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.errors import UserError
from musegan_jax.evaluation import (
    baselines,
    copying,
    distributions,
    held_out,
    measures,
    metrics,
    report,
)
from musegan_jax.evaluation.accompaniments import Accompaniments, accompany_pieces
from musegan_jax.evaluation.evaluate import evaluate
from musegan_jax.evaluation.judge import judge
from musegan_jax.models.generator import draw_noise, make_generator, noise_shape
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track

TRACKS = tuple(Track(name, 40 + k) for k, name in enumerate(("Tune", "Alto", "Bass")))


def made_up(count: int = 40, bars: int = 5, seed: int = 0) -> dataset.Dataset:
    """Pieces of quarter notes: a tune that walks, a third below it, and a bass on C."""
    generator = np.random.default_rng(seed)
    pieces = []
    for n in range(count):
        roll = np.zeros((16 * bars, 128, 3), bool)
        scale = np.array([60, 62, 64, 65, 67, 69, 71])
        for beat in range(4 * bars):
            step = int(generator.integers(7))
            roll[4 * beat : 4 * beat + 4, scale[step], 0] = True
            roll[4 * beat : 4 * beat + 4, scale[step - 2] - 12 * (step < 2), 1] = True
            roll[4 * beat : 4 * beat + 4, 36 + 12 * int(generator.integers(2)), 2] = True
        name = f"piece {n}"
        pieces.append(dataset.Piece(name, pianoroll.pack(roll), np.arange(0, 16 * bars, 16)))
    return dataset.build(pieces, TRACKS, 4, "made up")


@pytest.fixture(scope="module")
def data() -> dataset.Dataset:
    return made_up()


@pytest.fixture(scope="module")
def model() -> Model:
    config = ModelConfig(tracks=3, generator_filters=(4, 8), pitches=64, lowest_pitch=28)
    condition = np.zeros((1, 8, 64, 1), np.float32)
    noise = draw_noise(jax.random.split(jax.random.key(0), 1), noise_shape((4, 8), 8, 64))
    variables = make_generator(config).init(jax.random.key(0), condition, noise, train=False)
    return Model(config, 32, TrainingMusic(TRACKS, 4, ((48, 84),) * 3, (True,) * 3), variables)


def test_equal_sets_are_alike():
    values = np.random.default_rng(0).normal(size=60)
    same = distributions.compare(values, values)
    # The second sample has each window's distance to itself besides.
    assert same.overlap_area > 0.95 and same.divergence < 0.02
    far = distributions.compare(values, values + 100)
    assert far.overlap_area < 1e-6 and far.divergence > 10
    # Further apart is never nearer, however narrow the densities are beside the distance.
    apart = [distributions.compare(values, values + d).divergence for d in (1, 10, 1e3, 1e5)]
    assert apart == sorted(apart) and apart[-1] > 100
    near, wide = (distributions.compare(values, values * scale) for scale in (1.2, 4.0))
    assert near.overlap_area > wide.overlap_area and near.divergence < wide.divergence


@pytest.mark.slow
def test_a_density_that_is_known():
    # Distances between normal values are folded normals of standard deviation sqrt 2; against
    # values moved by 10 they are normal around 10. They share nearly nothing.
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=200), generator.normal(size=200) + 10
    assert distributions.compare(a, b).overlap_area < 0.01


@pytest.mark.parametrize("real", [[], [1.0], [1.0, 1.0], [2.0] * 5, [np.nan] * 5])
def test_what_has_no_spread_has_no_likeness(real):
    assert np.isnan(distributions.compare(np.array(real), np.arange(5.0))).all()


def test_frechet_distance_of_gaussians():
    generator = np.random.default_rng(0)
    real = generator.normal(size=(4000, 3)) * (1, 5, 0.1) + 3
    assert distributions.frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    # In units of the real features' deviations: moved by 2 of them, the distance is 4.
    assert distributions.frechet_distance(real, real + (2, 0, 0)) == pytest.approx(4, rel=0.05)
    # Three times as wide in one feature: (3 - 1)^2.
    stretched = (real - real.mean(axis=0)) * (1, 3, 1) + real.mean(axis=0)
    assert distributions.frechet_distance(real, stretched) == pytest.approx(4, rel=0.05)
    # A feature that never varies says nothing, and a bar that is not known is left out.
    constant = np.column_stack([real, np.ones(len(real))])
    constant[0, 0] = np.nan
    assert distributions.frechet_distance(constant, constant) == pytest.approx(0, abs=1e-9)
    assert np.isnan(distributions.frechet_distance(real[:1], real))


def test_music_is_read_in_its_usual_bars():
    roll = np.zeros((40, 128, 1), bool)
    roll[4, 60] = roll[20, 61] = True  # the first step of either whole bar
    piece = dataset.Piece("pick-up", pianoroll.pack(roll), np.array([4, 20, 36]))
    made = dataset.build([piece], [Track("Tune", 0)], 4, "test")
    (read,) = measures.read_music(made, [0])
    assert read.bars.shape == (2, 16, 128, 1)
    assert np.argwhere(read.bars).tolist() == [[0, 0, 60, 0], [1, 0, 61, 0]]


def test_measures_name_their_columns(data):
    music = measures.read_music(data, [0, 1])
    table = measures.measure(music, TRACKS, 4)
    assert (
        table.values.shape == (10, len(table.names)) and table.pieces.tolist() == [0] * 5 + [1] * 5
    )
    column = {name: table.values[:, n] for n, name in enumerate(table.names)}
    bars = np.concatenate([piece.bars for piece in music])
    np.testing.assert_array_equal(column["in_scale.Alto"], metrics.in_scale(bars)[:, 1])
    np.testing.assert_array_equal(
        column["tonal_distance.Tune-Bass"], metrics.tonal_distance(bars, 4)[:, 0, 2]
    )
    # Bars of different pieces are no neighbours.
    assert np.isnan(column["groove_consistency.Tune"][[0, 5]]).all()
    np.testing.assert_allclose(column["used_pitch_classes.Bass"], 1)
    twice = table.of(np.array([1, 1]))
    np.testing.assert_array_equal(twice.values, np.concatenate([table.values[5:]] * 2))
    np.testing.assert_allclose(table.by_piece()[1], twice.scores())


def test_drums_have_no_harmony(data):
    tracks = (*TRACKS[:2], Track("Drums", 0, True))
    table = measures.measure(measures.read_music(data, [0]), tracks, 4)
    drums = {name for name in table.names if "Drums" in name}
    assert drums == {
        f"{name}.Drums"
        for name in (
            "empty_bars",
            "groove_consistency",
            "qualified_notes",
            "polyphony",
            "drum_pattern",
        )
    }


def test_the_noise_floor_is_the_distance_of_real_music(data):
    music = measures.read_music(data, range(40))
    held, training = (measures.measure(part, TRACKS, 4) for part in (music[:8], music[8:]))
    floor = baselines.noise_floor(held, training, 20, 0)
    assert (floor >= 0).all() and floor.max() > 0
    # Against itself, whole, there is none.
    np.testing.assert_allclose(baselines.noise_floor(held, held, 3, 0), 0, atol=1e-12)


def test_the_nearest_melody_is_copied(data):
    music = measures.read_music(data, range(6))
    # The melody of piece 2, an accompaniment of its own.
    strange = music[2].bars.copy()
    strange[..., 1:] = False
    (found,) = baselines.nearest_copied([measures.Music("x", strange)], music, 0, 2)
    np.testing.assert_array_equal(found.bars, music[2].bars[:4])  # two passages of two bars


def test_nothing_to_copy_and_no_passage(data):
    music = measures.read_music(data, range(6))
    assert baselines.nearest_copied(music[:1], music[1:], 0, 9) == []
    apart, which = copying.nearest(
        copying.passages(music[:1], 2, 2), np.zeros((0, 32, 128, 3), bool)
    )
    assert apart.tolist() == [1, 1] and which.tolist() == [0, 0]


def test_random_voices_have_the_data_s_notes(data):
    music = measures.read_music(data, range(6))
    made = baselines.random_voices(music[:2], music, 0, 0)
    for real, random in zip(music, made, strict=False):
        np.testing.assert_array_equal(random.bars[..., 0], real.bars[..., 0])
        assert random.bars[..., 1:].any(axis=2).all()  # one note after another
        assert set(np.flatnonzero(random.bars[..., 2].any(axis=(0, 1)))) <= {36, 48}
    assert metrics.disagreement(made[0].bars, music[0].bars).mean() > 0.1


def test_copies_are_found_in_any_key(data):
    music = measures.read_music(data, range(10))
    moved = measures.Music("moved", pianoroll.transpose(music[3].bars, 4))
    pool = copying.passages(music, 2, 1)
    assert pool.shape == (10 * 4, 32, 128, 3)
    apart, which = copying.nearest(copying.passages([moved], 2, 2), pool)
    np.testing.assert_allclose(apart, 0, atol=1e-6)
    assert which.tolist() == [3 * 4, 3 * 4 + 2]
    np.testing.assert_allclose(
        copying.nearest(pool[:3], pool[20:])[0],
        [
            min(metrics.disagreement(np.roll(a, s, 1), b) for b in pool[20:] for s in range(-5, 7))
            for a in pool[:3]
        ],
        atol=1e-6,
    )
    assert copying.known_pieces([moved, music[9]], music[:9], [0, 1, 2], 2) == ["moved"]


def test_answers_keep_the_melody(data, model):
    music = measures.read_music(data, range(3))
    music[1] = music[1]._replace(bars=music[1].bars[:3])
    given = accompany_pieces(model, music, 2, seed=0)
    for flavour in given.flavours:
        for real, made in zip(music, flavour, strict=True):
            assert made.bars.shape == real.bars.shape
            np.testing.assert_array_equal(made.bars[..., 0], real.bars[..., 0])
            assert not made.bars[:, :, :28].any() and not made.bars[:, :, 92:].any()
    a, b = (np.concatenate([p.bars for p in flavour]) for flavour in given.flavours)
    assert (a != b).any()
    assert given.fidelity.shape == (2 * 13,) and np.nanmax(given.fidelity) < 0.9
    # A melody's answer depends neither on the others nor on how long they are.
    alone = accompany_pieces(model, music[:1], 1, seed=0)
    np.testing.assert_array_equal(alone.flavours[0][0].bars, given.flavours[0][0].bars)


@pytest.fixture(scope="module")
def result(data, model):
    return evaluate({"model": model}, data, "test", flavours=2, seed=0, noise=True)


def test_an_evaluation_is_whole(data, result):
    found = result.report
    assert found["pieces"] == len(data.pieces_of(["test"])) - sum(
        map(len, found["left_out"].values())
    )
    assert list(found["frechet_distance"]) == ["training", "model", "noise", "copied", "random"]
    row = found["measures"]["semitone_clash"]
    assert set(row["scores"]) == set(found["frechet_distance"])
    assert not any(name.endswith(".Tune") for name in found["measures"])
    # Real music is nearer to real music than noise is.
    assert found["frechet_distance"]["training"] < found["frechet_distance"]["model"]
    for rows in (found["measures"], found["harmony"]):
        assert report.wins(rows, "training")[0] > report.wins(rows, "model")[0]
        assert all(set(row["scores"]) == set(found["frechet_distance"]) for row in rows.values())
    assert len(result.held) == found["pieces"] and len(result.flavours) == 2
    assert found["melody_fidelity"]["noise"] != found["melody_fidelity"]["model"]
    assert 0 < found["diversity"]["model"] and found["melody_fidelity"]["model"] < 0.9
    copies = found["nearest_training_passage"]
    assert copies["held_out"]["mean"] < copies["model"]["mean"] <= 1
    json.dumps(found, allow_nan=False)


def test_the_table_fits_a_terminal(result):
    lines = list(report.table(result.report))
    assert max(map(len, lines)) <= 80 + 12  # one column more than usual
    clash = next(line for line in lines if line.startswith("semitone_clash"))
    row = result.report["measures"]["semitone_clash"]
    assert f"{row['held_out']:.3f}" in clash and f"{row['scores']['model']:.3f}" in clash


def test_distances_are_in_noise_floors():
    row = {"held_out": 0.5, "noise_floor": 0.1, "scores": {"a": 0.75, "b": None, "c": 0.4}}
    assert report.distance(row, "a") == pytest.approx(2.5)
    assert report.distance(row, "b") is None
    assert report.wins({"x": row}, "a") == (0, 1)
    assert report.wins({"x": row}, "b") == (0, 1)  # silent where music is not
    assert report.wins({"x": row}, "c") == (1, 1)
    never = {**row, "held_out": None}
    exact = {"held_out": 0.0, "noise_floor": 0.0, "scores": {"a": 0.0, "b": 0.1}}
    assert report.wins({"x": exact, "y": never}, "a") == (0, 0)
    assert report.distance(exact, "a") == 0 and report.distance(exact, "b") == float("inf")


def test_what_an_evaluation_writes(data, result, tmp_path):
    paths = list(report.write(result, data, 0, tmp_path))
    assert all(path.stat().st_size > 0 for path in paths)
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.report
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert {"metrics.json", "distances.png", "rolls.png", "listen.html"} < names
    assert any(name.startswith("songs/") and name.endswith("real.wav") for name in names)


def test_too_little_music(model):
    with pytest.raises(UserError, match="two of each"):
        evaluate({"model": model}, made_up(count=7), "test", 2, 0)
    # Sixty times the same piece: all that is held out is known.
    same = made_up(count=1)
    piece = dataset.Piece("", same.timeline, same.bars)
    copies = [piece._replace(name=f"copy {n}") for n in range(60)]
    with pytest.raises(UserError, match="0 of test can be used"):
        evaluate({"model": model}, dataset.build(copies, TRACKS, 4, "one"), "test", 2, 0)


@pytest.mark.parametrize(("count", "held"), [(8, 2), (12, 3)])
def test_the_smallest_collections_are_evaluated(model, tmp_path, count, held):
    """Of two pieces there is one distance: no density of distances, but all other figures."""
    data = made_up(count)
    found = evaluate({"model": model}, data, "test", 2, 0)
    assert found.report["pieces"] == held
    row = found.report["measures"]["used_pitches.Alto"]
    assert row["noise_floor"] > 0 and row["scores"]["model"] is not None
    assert (row["overlap_area"]["random"] is None) == (held < 3)
    assert found.report["frechet_distance"]["model"] > 0
    assert len(list(report.table(found.report))) > 20
    assert (tmp_path / "listen.html") in list(report.write(found, data, 0, tmp_path))


def test_what_cannot_be_judged_is_left_out(data, model):
    """A waltz, a piece of a bar, one that is too high, one without a melody; beside the usual."""
    usual = [
        dataset.Piece(f"piece {n}", data.timeline[a:b], np.arange(0, b - a, 16))
        for n, (a, b) in enumerate(zip(data.boundaries, data.boundaries[1:], strict=False))
    ]
    roll = pianoroll.unpack(usual[0].roll)
    silent, high = roll.copy(), pianoroll.transpose(roll, 30)
    silent[..., 0] = False
    odd = {
        "waltz": dataset.Piece("waltz", usual[0].roll[:72], np.arange(0, 72, 12)),
        "short": dataset.Piece("short", usual[1].roll[:16], np.arange(0, 16, 16)),
        "high": dataset.Piece("high", pianoroll.pack(high), np.arange(0, 80, 16)),
        "silent": dataset.Piece("silent", pianoroll.pack(silent), np.arange(0, 80, 16)),
    }
    named = []
    for name, piece in odd.items():  # a name of the split test
        found = next(f"{name} {n}" for n in range(999) if splits.split_of(f"{name} {n}") == 2)
        named.append(piece._replace(name=found))
    many = dataset.build([*usual, *named], TRACKS, 4, "odd")
    result = evaluate({"model": model}, many, "test", 2, 0)
    reasons = {
        word: [name.split()[0] for name in names if not name.startswith("piece")]
        for word, names in result.report["left_out"].items()
    }
    assert reasons == {
        "bars of another length": ["waltz"],
        "shorter than a passage": ["short"],
        "no melody within a model's pitches": ["high", "silent"],
    }
    assert all(len(line) <= 80 for line in report.table(result.report))


def test_chords_and_drums_have_no_voice_leading(data, model):
    """What is not defined for a dataset is None in the report, and a dash in the table."""
    roll = pianoroll.unpack(data.timeline)
    roll[..., 1] |= pianoroll.transpose(roll, 7)[..., 1]  # fifths
    tracks = (*TRACKS[:2], Track("Drums", 0, True))
    band = dataclasses.replace(data, timeline=pianoroll.pack(roll), tracks=tracks)
    found = evaluate({"model": model}, band, "test", flavours=2, seed=0)
    rows = found.report["harmony"]
    undefined = {name for name, row in rows.items() if row["held_out"] is None}
    assert undefined == {"parallels", "crossing", "leaps", "off_beat", "moves"}
    assert 0 < rows["chord"]["held_out"] <= 1 and rows["chord"]["scores"]["model"] is not None
    lines = list(report.table(found.report))
    assert next(line for line in lines if line.startswith("parallels")).split()[1] == "-"
    json.dumps(found.report, allow_nan=False)


def test_a_melody_alone_has_nothing_to_judge(model):
    alone = made_up(6)
    alone = dataset.build(
        [dataset.Piece("a", alone.timeline[:, :1], alone.bars)], TRACKS[:1], 4, "alone"
    )
    with pytest.raises(UserError, match="no pitched track beside"):
        evaluate({"model": model}, alone, "test", 2, 0)


def test_held_out_pieces_fit_the_model(data, model):
    """The first that the model has rows for, not those of the first that it has rows for."""
    numbers = data.pieces_of(["valid"])
    pieces = []
    for n, (a, b) in enumerate(itertools.pairwise(data.boundaries)):
        roll = pianoroll.unpack(data.timeline[a:b])
        high = pianoroll.transpose(roll, 30) if n == numbers[0] else roll
        pieces.append(dataset.Piece(data.names[n], pianoroll.pack(high), np.arange(0, b - a, 16)))
    odd = dataset.build(pieces, TRACKS, 4, "odd")
    found = held_out.read(odd, model, 3).whole
    assert [piece.music.name for piece in found] == [data.names[n] for n in numbers[1:4]]
    deaf = changed(model, config=dataclasses.replace(model.config, lowest_pitch=0))
    with pytest.raises(UserError, match="fewer than two pieces"):
        held_out.read(data, deaf, 3)


def test_a_piece_may_lack_a_voice(data, model, monkeypatch):
    """Its columns have no spread then by plain means, and every answer would be as far."""
    pieces = held_out.read(data, model, 3).whole
    pieces[1].music.bars[..., 2] = False
    held = held_out.measured(pieces, TRACKS, judge(data, 0))
    same = Accompaniments([[piece.music for piece in pieces]] * 2, np.zeros(1))
    monkeypatch.setattr(held_out, "accompany_pieces", lambda *_, **__: same)
    scores = held.scores(model, held.accompany(model, "lines"))
    assert scores["distance"] == pytest.approx(0) and scores["harmony"] == pytest.approx(0)
    for name in held_out.REPORTED_HARMONY:
        assert scores[f"valid/{name}"] == scores[f"real/{name}"]


def test_a_silent_voice_is_no_gain(data, model, monkeypatch):
    """`distance` picks checkpoints: silence, of which little can be measured, must not be near."""
    held = held_out.read(data, model, 2)

    def distances(change):
        music = [piece.music for piece in held.whole]
        answers = [[m._replace(bars=change(m.bars.copy())) for m in music]] * 2
        monkeypatch.setattr(
            held_out, "accompany_pieces", lambda *_, **__: Accompaniments(answers, np.zeros(1))
        )
        scores = held.scores(model, held.accompany(model, "lines"))
        return np.array([scores["distance"], scores["harmony"]])

    def muted(bars):
        bars[..., 2] = False
        return bars

    def shifted(bars):
        return np.roll(bars, 1, axis=2)

    same, off, silent = map(distances, (lambda bars: bars, shifted, muted))
    assert same == pytest.approx(0) and 0.01 < off[0] < silent[0] and silent[1] > 1
