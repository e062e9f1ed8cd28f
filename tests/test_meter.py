"""The position in the bar, on its way from the data to the networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musegan_jax import config as configs
from musegan_jax import meter, pianoroll, rng
from musegan_jax.composing.accompany import answer_melody
from musegan_jax.config import ModelConfig
from musegan_jax.data import batches, dataset
from musegan_jax.evaluation.accompaniments import accompany_pieces
from musegan_jax.evaluation.measures import read_whole
from musegan_jax.models.generator import make_generator, variable_shapes
from musegan_jax.models.layers import with_position
from musegan_jax.models.model import Model, answer
from musegan_jax.training import losses
from musegan_jax.training import step as steps
from musegan_jax.training.state import create_state
from test_compose import make_song, prepare

SHOWN = ["--data.splits=train,valid,test", "--output.held_out=0", "--model.bar_position=true"]


def turns(positions):
    """The shares of the bar and of the beat that have passed, read back from the channels."""
    angles = np.arctan2(positions[:, 4:6], positions[:, 0:2])
    return np.round(angles / (2 * np.pi), 6) % 1


@pytest.mark.parametrize(
    ("lines", "bars"),
    [
        ([0, 16, 32], [n % 16 / 16 for n in range(40)]),
        ([], [n % 16 / 16 for n in range(40)]),  # 4/4 where nothing is known
        ([4], [(n - 4) % 16 / 16 for n in range(40)]),
        ([4, 16], [(n - 4) % 12 / 12 for n in range(40)]),  # 3/4 with a pick-up
        ([-8, 4, 12], [(n + 8) / 12 for n in range(4)] + [(n - 4) % 8 / 8 for n in range(4, 40)]),
    ],
)
def test_where_a_step_lies(lines, bars):
    found = meter.bar_positions(np.array(lines, int), 40, 4)
    assert found.dtype == np.float32 and found.shape == (40, meter.POSITIONS)
    assert ModelConfig(bar_position=True).condition_channels == 1 + meter.POSITIONS
    np.testing.assert_allclose(turns(found)[:, 0], bars, atol=1e-5)
    # Twice a bar and twice a beat: the angles doubled.
    np.testing.assert_allclose(found[:, 2:4], 2 * found[:, :2] ** 2 - 1, atol=1e-6)
    np.testing.assert_allclose(found[:, 6:], 2 * found[:, :2] * found[:, 4:6], atol=1e-6)


def telling():
    """Pieces whose melody says by its pitch at which step of the bar it sounds."""
    made = []
    for name, lines, end in (
        ("4/4", [0, 16, 32], 48),
        ("3/4 with a pick-up", [4, 16, 28, 40], 52),
        ("a change", [0, 12, 24, 40, 56], 72),
    ):
        roll = np.zeros((end, 128, 2), bool)
        lengths = [*np.diff(lines), np.diff(lines)[-1]]
        for step in range(end):
            bar = max(int(np.searchsorted(lines, step, side="right")) - 1, 0)
            roll[step, 40 + (step - lines[bar]) % lengths[bar], 0] = True
            roll[step, 40 + lengths[bar], 1] = True
        made.append(dataset.Piece(name, pianoroll.pack(roll), np.array(lines)))
    return dataset.build(made, [pianoroll.Track(n, 0) for n in ("Step", "Length")], 4, "made up")


def test_every_example_has_its_own_position():
    data = telling()
    words = ["--model.tracks=2", "--data.window_steps=32", "--data.overhang_steps=16", *SHOWN]
    config = configs.override(configs.load("configs/tiny.py"), words)
    windows = batches.make_windows(data, config)
    assert windows.positions is not None and 2 < len(windows.positions) < len(windows.starts)
    keys = rng.example_keys(rng.root_key(0), np.arange(64, dtype=np.int32))
    rolls = np.asarray(batches.draw_batch(config, windows, keys)) > 0
    positions = np.asarray(batches.draw_position(config, windows, keys))
    low = config.model.lowest_pitch
    sounding = rolls.any(axis=(2, 3))
    step, length = (rolls[..., k].argmax(axis=2) + low - 40 for k in (0, 1))
    found = np.stack([turns(each) for each in positions])[..., 0]
    np.testing.assert_allclose(found[sounding], (step / length)[sounding], atol=1e-5)
    # Also where a window reaches into silence: the bars go on.
    assert (~sounding).any() and (np.abs(positions) <= 1).all()
    chosen, shifts = (np.asarray(each)[:, None] for each in batches.choose(windows.shifts, keys))
    fed = batches.gather(windows, chosen, shifts, 32)
    np.testing.assert_array_equal(batches.position_of(config, fed, 0, keys), positions)


def test_without_the_field_nothing_is_shown(data):
    config = configs.override(configs.load("configs/tiny.py"), SHOWN[:2])
    windows = batches.make_windows(data, config)
    assert windows.positions is None and windows.position is None
    keys = rng.example_keys(rng.root_key(0), np.arange(2, dtype=np.int32))
    assert batches.draw_position(config, windows, keys) is None
    shown = configs.override(config, SHOWN)
    with pytest.raises(ValueError, match="make_windows with this config"):
        batches.draw_position(shown, windows, keys)
    roll = np.zeros((1, 32, config.model.pitches, 4), np.float32)
    with pytest.raises(ValueError, match="position must be given"):
        steps.condition_of(shown, roll)


@pytest.fixture(scope="module")
def model(data) -> Model:
    """Untrained, and shown the position in the bar."""
    from musegan_jax.data.training_music import training_music

    networks = ModelConfig(generator_filters=(4, 8), critic_filters=(4, 8), bar_position=True)
    config = configs.override(configs.load("configs/tiny.py"), SHOWN)
    config = dataclasses.replace(config, model=dataclasses.replace(networks, pitches=128))
    state = create_state(config)
    variables = {"params": state.generator_params, "batch_stats": state.batch_stats}
    shapes = jax.tree.map(np.shape, variables)
    assert shapes == jax.tree.map(np.shape, variable_shapes(config.model))
    return Model(config.model, 32, training_music(data, config), variables)


def test_composing_shows_the_bars_of_the_file(model):
    """Three-four with a pick-up, and the same notes as four-four, get different answers."""
    notes = {("Tune", 0): [(2, 3, 60), (3, 4.5, 64), (4.5, 6, 62), (6, 8, 60)]}
    keys = rng.example_keys(rng.root_key(0), np.zeros(1, np.int32))
    found = []
    for beats in (3, 4):
        melody = prepare(model, make_song(notes, meter=(beats, 4)))
        assert melody.bars.tolist() == list(range(0, 4 * beats * len(melody.bars), 4 * beats))
        alone = answer(model, melody.condition[None], keys, 1.0, [melody.bars])
        found.append(alone[0, :32])
        if beats == 4:  # as where nothing is known of the bars
            np.testing.assert_array_equal(alone, answer(model, melody.condition[None], keys))
        else:
            assert not np.array_equal(alone, answer(model, melody.condition[None], keys))
            shown = answer_melody(model, melody, 0, 0)
            without = answer_melody(model, melody._replace(bars=np.zeros(0, int)), 0, 0)
            assert not np.array_equal(shown, without)
    assert not np.array_equal(*found)
    with pytest.raises(ValueError, match="one a melody"):
        answer(model, melody.condition[None], keys, 1.0, [melody.bars] * 2)


def test_evaluation_shows_the_bars_of_the_pieces(model, data, monkeypatch):
    from musegan_jax.evaluation import accompaniments

    given = []

    def answer(model, conditions, keys, temperature=1.0, bars=None):
        given.extend(bars)
        return np.zeros((*conditions.shape, 4), np.float32) - 1

    monkeypatch.setattr(accompaniments, "answer", answer)
    told = telling()
    whole = list(read_whole(told, range(3)))
    # Piece 0 is 3/4 with a pick-up of four steps, of bars of 12: eight silent steps precede it.
    wanted = {}
    for piece in whole:
        first = int(piece.music.roll.any(axis=(1, 2)).argmax())
        number = told.names.index(piece.music.name)
        wanted[piece.music.name] = told.bars_of(number) - told.boundaries[number] + first
    music = [
        piece.music._replace(bars=np.repeat(piece.music.bars[..., :1], 4, axis=-1))
        for piece in whole
    ]
    accompany_pieces(model, music, 1, seed=0, rule="threshold")
    assert [each.tolist() for each in given] == [wanted[m.name].tolist() for m in music]
    assert {tuple(np.diff(each)) for each in given} >= {(16, 16), (12, 12, 16, 16)}


@pytest.mark.slow
def test_a_beat_on_every_second_step_is_learnt_beyond_the_windows():
    """In windows of any beat; then in a piece four times as long, all but its ends.

    The last block repeats each step of its input. Without kernels for the position in the beat, two
    neighbouring steps get the same in the long run.
    """
    generator = make_generator(
        ModelConfig(tracks=1, pitches=16, generator_filters=(8, 8), bar_position=True)
    )
    music = np.full((128, 16, 1), -1.0, np.float32)
    music[::2, 3] = 1
    position = meter.bar_positions(np.zeros(0, int), 128, 4)

    def inputs(starts, steps):
        rows = np.asarray(starts)[:, None] + np.arange(steps)
        melody = np.full((len(starts), steps, 16, 1), -1.0, np.float32)
        condition = with_position(jnp.asarray(melody), jnp.asarray(position[rows]))
        return condition, jnp.zeros((len(starts), steps // 4, 4, 8)), jnp.asarray(music[rows])

    condition, noise, real = inputs(range(0, 64, 4), 16)
    variables = generator.init(jax.random.key(0), condition, noise, train=True)
    optimizer = optax.adam(0.01)

    @jax.jit
    def step(variables, state):
        def loss(params):
            answers, moved = generator.apply(
                {**variables, "params": params}, condition, noise, train=True, mutable="batch_stats"
            )
            return losses.cross_entropy(answers, real, -1).mean(), moved

        gradient, moved = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(gradient, state)
        return {"params": optax.apply_updates(variables["params"], updates), **moved}, state

    state = optimizer.init(variables["params"])
    for _ in range(100):
        variables, state = step(variables, state)
    condition, noise, real = inputs([0], 128)
    made = np.asarray(generator.apply(variables, condition, noise, train=False))
    wrong = ((made > 0) != (np.asarray(real) > 0)).any(axis=(0, 2, 3))
    assert not wrong[16:-16].any(), np.flatnonzero(wrong)
