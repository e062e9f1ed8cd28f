"""Windows and batches: what is offered, and that drawing is a pure function of keys."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import make_dataset
from musegan_jax import config as configs
from musegan_jax import pianoroll, rng
from musegan_jax.data import batches, dataset, fit
from musegan_jax.errors import UserError
from musegan_jax.pianoroll import Track


def config(*words):
    base = [
        "--data.splits=train,valid,test",
        "--model.generator_filters=4",
        "--model.critic_filters=4",
    ]
    return configs.override(configs.Config(), [*base, *words])


def draw(settings, windows, seed=0, n=16):
    keys = rng.example_keys(rng.root_key(seed), jnp.arange(n, dtype=jnp.int32))
    return jax.jit(batches.draw_batch, static_argnums=0)(settings, jax.device_put(windows), keys)


def test_windows_start_on_bars_and_stay_within_pieces():
    data = make_dataset(pieces=3, bars=4)
    starts = batches.make_windows(data, config()).starts
    # Pieces of four bars, windows of two: three starts in each.
    np.testing.assert_array_equal(starts, [0, 16, 32, 64, 80, 96, 128, 144, 160])
    np.testing.assert_array_equal(
        batches.make_windows(data, config("--data.hop_bars=2")).starts, [0, 32, 64, 96, 128, 160]
    )
    np.testing.assert_array_equal(
        batches.make_windows(data, config("--data.hop_bars=0")).starts, [0, 64, 128]
    )


def test_windows_may_start_on_beats():
    data = make_dataset(pieces=2)
    starts = batches.make_windows(data, config("--data.hop_beats=2")).starts
    np.testing.assert_array_equal(starts, [*range(0, 33, 8), *range(64, 97, 8)])
    words = ("--data.hop_beats=1", "--data.overhang_steps=4")
    starts = batches.make_windows(data, config(*words)).starts - 4
    np.testing.assert_array_equal(starts, [*range(0, 37, 4), *range(64, 101, 4)])


def test_a_pick_up_bar_begins_no_window():
    roll = np.zeros((36, 128, 1), bool)
    roll[:, 60] = True
    piece = dataset.Piece("one", pianoroll.pack(roll), np.array([4, 20]))
    data = dataset.build([piece], [Track("Melody", 0)], 4, "test")
    windows = batches.make_windows(data, config("--model.tracks=1"))
    np.testing.assert_array_equal(windows.starts, [4])


def test_only_the_chosen_splits_are_offered(data):
    of_train = batches.make_windows(data, config("--data.splits=train")).starts
    pieces = set(np.searchsorted(data.boundaries, of_train, side="right") - 1)
    assert pieces == set(np.flatnonzero(data.split == 0))


def test_draws_are_windows_of_the_data(data):
    settings = config()
    windows = batches.make_windows(data, settings)
    full = pianoroll.unpack(data.timeline)
    wanted = {full[start : start + 32].tobytes() for start in windows.starts}
    batch = draw(settings, windows)
    assert batch.shape == (16, 32, 128, 4) and batch.dtype == jnp.float32
    assert set(np.unique(batch)) == {-1.0, 1.0}
    assert {np.asarray(roll > 0).tobytes() for roll in batch} <= wanted
    assert len({roll.tobytes() for roll in np.asarray(batch)}) > 4
    np.testing.assert_array_equal(batch, draw(settings, windows))
    assert not np.array_equal(batch, draw(settings, windows, seed=1))


def test_transposition_keeps_every_note_and_the_range(data):
    """The whole roll moves, by each allowed shift, never out of the model's pitches."""
    settings = config("--data.transpose=-24,24", "--model.lowest_pitch=44", "--model.pitches=48")
    windows = batches.make_windows(data, settings)
    low, high = windows.shifts[:, 0], windows.shifts[:, 1]
    assert (low <= 0).all() and (high >= 0).all() and (high > low).any()
    batch = draw(settings, windows, n=128)
    assert batch.shape == (128, 32, 48, 4)
    # Four voices of one held note: a note lost at an edge would leave fewer cells.
    np.testing.assert_array_equal((batch > 0).sum(axis=(1, 2, 3)), 4 * 32)
    full = pianoroll.unpack(data.timeline)
    wanted = set()
    for start, (lowest, highest) in zip(windows.starts, windows.shifts, strict=True):
        for shift in range(lowest, highest + 1):
            moved = pianoroll.transpose(full[start : start + 32], shift)
            wanted.add(pianoroll.crop(moved, 44, 48).tobytes())
    assert {np.asarray(roll > 0).tobytes() for roll in batch} <= wanted


def test_silent_and_unplayable_windows_are_left_out():
    roll = np.zeros((96, 128, 1), bool)
    roll[32:64, 60] = True
    roll[64:96, 20] = True
    piece = dataset.Piece("one", pianoroll.pack(roll), np.arange(0, 96, 16))
    data = dataset.build([piece], [Track("Melody", 0)], 4, "test")
    settings = config(
        "--model.tracks=1", "--data.hop_bars=2", "--model.lowest_pitch=32", "--model.pitches=64"
    )
    np.testing.assert_array_equal(batches.make_windows(data, settings).starts, [32])
    why = "no window to train on: of 3 .*, in 1 all tracks are silent, in 2 a note lies outside"
    with pytest.raises(UserError, match=why):
        batches.make_windows(
            data, configs.override(settings, ["--model.pitches=16", "--model.lowest_pitch=100"])
        )


def test_windows_without_a_melody_are_left_out_and_counted():
    """Else the network learns to answer to silence. A track that is mostly silent is named."""
    roll = np.zeros((128, 128, 3), bool)
    roll[:, 48, 1] = True
    roll[64:96, 72, 0] = True
    roll[120:, 40, 2] = True
    tracks = [Track("Melody", 0), Track("Guitar", 24), Track("Bass", 32)]
    piece = dataset.Piece("one", pianoroll.pack(roll), np.arange(0, 128, 16))
    data = dataset.build([piece], tracks, 4, "test")
    said = []
    settings = config("--model.tracks=3")
    np.testing.assert_array_equal(
        batches.make_windows(data, settings, said.append).starts, [48, 64, 80]
    )
    assert said == [
        "left out 4 of 7 windows: in 4 the melody (track Melody) is silent",
        "the track Bass is silent in 100% of the windows",
    ]
    with pytest.raises(UserError, match=r"in 6 the melody \(track Bass\) is silent"):
        other = config("--model.tracks=3", "--model.condition_track=2", "--data.hop_bars=1")
        short = dataset.build([piece._replace(roll=pianoroll.pack(roll[:112]))], tracks, 4, "test")
        batches.make_windows(short, other)


def test_a_config_takes_tracks_and_pitches_from_the_dataset(data):
    """What a config leaves open; what it says stays."""
    lows, highs = zip(*data.bounds(), strict=True)
    low, high = min(lows), max(highs)
    settings = configs.override(configs.Config(), ["--data.transpose=-5,6", "--model.pitches=0"])
    with pytest.raises(UserError, match="pitches = 0: the dataset's"):
        batches.make_windows(data, settings)
    six = dataclasses.replace(
        data,
        timeline=np.concatenate([data.timeline, data.timeline[:, :2]], axis=1),
        tracks=(*data.tracks, Track("Fifth", 0), Track("Sixth", 0)),
    )
    fitted = fit.for_dataset(settings, six)
    model = fitted.model
    assert model.tracks == 6 and model.pitches % model.multiple == 0
    assert model.lowest_pitch <= low - 5 and model.lowest_pitch + model.pitches > high + 6
    assert model.pitches - (high - low + 12) < model.multiple
    assert (batches.make_windows(six, fitted).shifts == (-5, 6)).all()  # no note at the edge
    assert fit.for_dataset(fitted, six) == fitted
    # Stated: as it is, though another number of tracks would fit.
    stated = configs.override(settings, ["--model.tracks=5", "--model.pitches=64"])
    assert fit.for_dataset(stated, six) == stated
    with pytest.raises(UserError, match="the dataset has 6 tracks .*, the model 5"):
        batches.make_windows(six, stated)
    wrong = configs.override(settings, ["--model.condition_track=3"])
    with pytest.raises(UserError, match="condition_track = 3: it must be a track number"):
        fit.for_dataset(
            wrong, dataclasses.replace(data, timeline=data.timeline[:, :2], tracks=data.tracks[:2])
        )


def test_drums_need_no_room_for_transposition():
    roll = np.zeros((32, 128, 2), bool)
    roll[:, 60, 0] = roll[:, 30, 1] = True
    tracks = [Track("Melody", 0), Track("Drums", 0, True)]
    data = dataset.build([dataset.Piece("a", pianoroll.pack(roll), np.array([0]))], tracks, 4, "t")
    assert fit.pitch_rows(data, (-5, 6), 1) == (30, 37)
    assert fit.pitch_rows(data, (-5, 6), 16) == (25, 48)
    assert fit.pitch_rows(data, (-24, 24), 128) == (0, 128)
    silent = dataclasses.replace(data, timeline=np.zeros_like(data.timeline))
    assert fit.pitch_rows(silent, (0, 0), 16) == (0, 128)


@pytest.mark.parametrize("name", ["quickstart", "chorales", "reference", "tiny"])
def test_the_configs_of_the_chorales_say_what_they_need(data, name):
    """Runs of the shipped configs are reproduced: nothing of them may come from the dataset."""
    settings = configs.load(f"configs/{name}.py")
    assert fit.for_dataset(settings, data) == settings


def test_other_tracks_than_the_models_are_refused(data):
    with pytest.raises(UserError, match="set model.tracks=4"):
        batches.make_windows(data, config("--model.tracks=5"))


def test_drums_are_not_transposed():
    """A drum's pitch is its instrument: a shifted kick would be another drum."""
    roll = np.zeros((32, 128, 2), bool)
    roll[:, 60, 0] = True
    roll[::4, 36, 1] = True
    piece = dataset.Piece("one", pianoroll.pack(roll), np.array([0]))
    tracks = [Track("Piano", 0), Track("Drums", 0, True)]
    settings = config("--model.tracks=2", "--data.transpose=-5,6")
    batch = draw(settings, batches.make_windows(dataset.build([piece], tracks, 4, "t"), settings))
    sounding = np.asarray(batch > 0).any(axis=1)
    assert (sounding[:, :, 1] == (np.arange(128) == 36)).all()
    melody = {int(row.argmax()) for row in sounding[:, :, 0]}
    assert len(melody) > 4 and melody <= set(range(55, 67))


def pick_up_and_end() -> dataset.Dataset:
    """Two pieces of one pitch each: a beat of pick-up, two bars, and three beats at the end."""
    pieces = []
    for name, pitch in (("a", 60), ("b", 72)):
        roll = np.zeros((4 + 32 + 12, 128, 1), bool)
        roll[:, pitch] = True
        pieces.append(dataset.Piece(name, pianoroll.pack(roll), np.array([4, 20, 36])))
    return dataset.build(pieces, [Track("Melody", 0)], 4, "test")


@pytest.mark.parametrize(
    ("overhang", "wanted"),
    [
        (0, [(0, 32)]),
        (4, [(0, 32), (0, 28)]),  # the last bar is four steps short of a second window
        (20, [(12, 32), (0, 32), (0, 28), (0, 12)]),
    ],
)
def test_windows_reach_into_silence_and_never_into_another_piece(overhang, wanted):
    data = pick_up_and_end()
    settings = config("--model.tracks=1", f"--data.overhang_steps={overhang}")
    windows = batches.make_windows(data, settings)
    assert len(windows.starts) == 2 * len(wanted)
    if not overhang:
        assert windows.within is None  # the compiled step is as it was without the field
    rolls = [np.asarray(draw(settings, windows, n=64)) > 0]
    keys = rng.example_keys(rng.root_key(0), jnp.arange(64, dtype=jnp.int32))
    chosen, shifts = (np.asarray(each)[:, None] for each in batches.choose(windows.shifts, keys))
    fed = batches.gather(windows, chosen, shifts, 32)
    rolls.append(np.asarray(batches.batch_of(settings, fed, 0, keys)) > 0)
    np.testing.assert_array_equal(*rolls)  # the host feeds what the device would draw
    spans = set()
    for roll in rolls[0][..., 0]:
        steps, pitches = np.nonzero(roll)
        assert len(set(pitches)) == 1
        spans.add((pitches[0], steps[0], steps[-1] + 1))
        assert len(steps) == steps[-1] + 1 - steps[0]
    assert spans == {(pitch, *span) for span in wanted for pitch in (60, 72)}
