"""The front door for Python, and every snippet of its page."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import mido
import numpy as np
import pytest

import musegan_jax as mg
from conftest import in_new_process
from musegan_jax import api
from musegan_jax.composing import arrangement
from musegan_jax.composing.accompany import accompany
from musegan_jax.composing.melody import load_melody, prepare
from musegan_jax.data import midi
from musegan_jax.data.melody_line import pick_part
from musegan_jax.training import determinism, stopping

PAGE = Path("docs/python.md").resolve()


def tune(steps: int = 64) -> np.ndarray:
    roll = np.zeros((steps, 128), bool)
    for beat in range(steps // 4):
        roll[4 * beat : 4 * beat + 3, 60 + (0, 4, 7, 5)[beat % 4]] = True
    return roll


@pytest.fixture(scope="module")
def model():
    return mg.load()


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, musegan_jax as mg\n"
        "assert 'load' in dir(mg) and mg.__version__\n"
        "heavy = {'jax', 'numpy', 'flax', 'mido', 'musegan_jax.api'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "try: mg.lead\n"
        "except AttributeError as error: assert 'lead' in str(error)\n"
        "else: raise SystemExit('there is no such name')\n"
    )
    in_new_process(code)


def test_every_name_is_there_and_on_the_page():
    page = PAGE.read_text()
    assert mg.__all__ == api.__all__
    for name in mg.__all__:
        assert getattr(mg, name) is not None
        assert f"mg.{name}" in page, name


def test_the_snippets_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict = {"__name__": "page"}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 6
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), space)
    assert space["rolls"].shape == (4, 64, 128, 4) and space["rolls"].any(axis=(1, 2)).all()
    assert np.isfinite(list(space["metrics"].values())).all()
    assert (tmp_path / "twinkle.mid").is_file() and (tmp_path / "mine.safetensors").is_file()
    again = mg.accompany(mg.load("mine.safetensors"), "ode_to_joy")
    assert again.shape == (1, *space["roll"].shape)
    short = snippets[3]
    lines = [line for line in short.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 10  # a training step by hand


def test_a_roll_is_accompanied_as_its_midi_file_is(model, tmp_path):
    """The command's own road, byte for byte of the roll."""
    roll = np.concatenate([np.zeros((16, 128), bool), tune()])  # a bar of rest first
    file = midi.from_roll(roll[..., None], [mg.Track("Tune", 0)], 4, 100)
    midi.write(file, tmp_path / "tune.mid")
    a = mg.accompany(model, roll, seed=3, samples=2)
    b = mg.accompany(model, tmp_path / "tune.mid", seed=3, samples=2)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (2, 80, 128, 4) and a.dtype == bool and (a[0] != a[1]).any()
    np.testing.assert_array_equal(a[0, ..., 0], roll)
    assert not a[:, :16].any()
    score = load_melody(str(tmp_path / "tune.mid"))
    prepared = prepare(score, pick_part(score, None, ""), model)
    song = arrangement.to_midi(model, prepared, accompany(model, prepared, 3, 1))
    parts = midi.parse(song, "song").parts
    for k in (1, 2, 3):
        found = midi.to_roll(midi.quantise(parts[k].notes, 120), 80)
        np.testing.assert_array_equal(found, a[1, ..., k])


def test_the_length_is_the_rolls_own(model):
    for steps in (4, 17, 64, 100):
        roll = np.zeros((steps, 128), bool)
        roll[:4, 67] = True
        assert mg.accompany(model, roll).shape == (1, steps, 128, 4)
    # Far above what the model knows: answered some octaves lower, and moved back.
    roll = np.zeros((32, 128), bool)
    roll[:, 108] = True
    found = mg.accompany(model, roll)[0]
    assert found[:, 108, 0].all() and found[..., 1:].any()


def test_noise_and_rules(model):
    cold = mg.accompany(model, tune(), samples=2, temperature=0)
    np.testing.assert_array_equal(cold[0], cold[1])
    found = {rule: mg.accompany(model, tune(), decoding=rule) for rule in ("lines", "threshold")}
    assert (found["lines"].sum(axis=2) <= 1).all()
    assert (found["lines"] != found["threshold"]).any()


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"melody": tune().T}, ValueError, r"shape \(128, 64\); a roll is \(T, 128\).*transpose"),
        ({"melody": tune()[None]}, ValueError, r"shape \(1, 64, 128\)"),
        ({"melody": tune()[:0]}, ValueError, r"shape \(0, 128\)"),
        ({"melody": tune().astype(float)}, TypeError, "dtype float64; a roll is bool"),
        ({"melody": np.zeros((32, 128), bool)}, ValueError, "melody is silent"),
        ({"melody": 3}, ValueError, r"shape \(\); a roll"),
        ({"melody": "tinkle"}, mg.UserError, "no built-in melody, perhaps twinkle"),
        ({"model": "chorales"}, TypeError, "model is a str; it must be a Model"),
        ({"melody": np.ones((5_001, 128), bool)}, ValueError, "5001 steps .* up to 5000"),
        ({"track": 2, "melody": "twinkle"}, mg.UserError, "no track '2'"),
        ({"temperature": "hot"}, TypeError, "temperature = 'hot': it must be a number"),
        ({"temperature": None}, TypeError, "temperature = None"),
        ({"temperature": float("nan")}, ValueError, "temperature = nan"),
        ({"seed": np.arange(3)}, TypeError, r"seed = array\(\[0, 1, 2\]\)"),
        ({"seed": True}, TypeError, "seed = True"),
        ({"samples": np.arange(999)}, TypeError, r"samples = .{57}\.\.\.: it must be a whole"),
        ({"decoding": ["lines"]}, ValueError, r"decoding = \['lines'\]"),
        ({"key": 128}, ValueError, "key = 128: it must be from -127"),
        ({"seed": -1}, ValueError, "seed = -1: it must be from 0"),
        ({"seed": 1.5}, TypeError, "seed = 1.5: it must be a whole number"),
        ({"samples": 0}, ValueError, "samples = 0: it must be from 1"),
        ({"temperature": -1}, ValueError, "temperature = -1"),
        ({"decoding": "choir"}, ValueError, "decoding = 'choir': it must be one of joint"),
    ],
)
def test_wrong_arguments_are_named(model, wrong, kind, message):
    arguments = {"model": model, "melody": tune(), **wrong}
    with pytest.raises(kind, match=message):
        mg.accompany(**arguments)


def test_numbers_of_numpy_are_numbers(model):
    a = mg.accompany(model, tune(), seed=np.uint8(3), samples=np.int64(1), temperature=np.ones(()))
    np.testing.assert_array_equal(a, mg.accompany(model, tune(), seed=3))
    assert (mg.accompany(model, tune(), seed=3, key=np.int32(5)) != a).any()
    with pytest.raises(ValueError, match="step = 3: give the folder"):
        mg.load(step=np.int64(3))


def test_a_model_without_variables_is_named(model):
    with pytest.raises(ValueError, match="no variables"):
        mg.accompany(dataclasses.replace(model, variables=None), tune())


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(mg.UserError, match="no such model file"):
        mg.load(tmp_path / "none.safetensors")
    with pytest.raises(mg.UserError, match="not the folder of a training run"):
        mg.load(tmp_path)
    with pytest.raises(ValueError, match="step = 3"):
        mg.load(tmp_path / "none.safetensors", step=3)
    with pytest.raises(mg.UserError, match="did you mean training.iterations"):
        mg.load_config("tiny", "training.iteration=3")
    with pytest.raises(TypeError, match="config is a dict"):
        mg.train({}, tmp_path)
    with pytest.raises(TypeError, match="workdir is a NoneType; it must be a str or PathLike"):
        mg.train("tiny", None)
    with pytest.raises(TypeError, match="source is a int; it must be a str or PathLike"):
        mg.load(3)
    tune = tmp_path / "tune.mid"
    mido.MidiFile().save(tune)
    with pytest.raises(mg.UserError, match="tune.mid: a MIDI file, not a model"):
        mg.load(tune)


def test_a_signal_ends_train_as_ctrl_c_does(tiny, tmp_path, monkeypatch):
    """After saving; the next call goes on from there."""
    with monkeypatch.context() as patch:
        asked = lambda self, iteration: "SIGTERM" if iteration == 2 else None  # noqa: E731
        patch.setattr(stopping.Stop, "__call__", asked)
        with pytest.raises(KeyboardInterrupt, match="stopped and saved"):
            mg.train(tiny, tmp_path)
    assert mg.load(tmp_path).origin["iteration"] == 2
    assert mg.train(tiny, tmp_path).origin["iteration"] == 4


def test_what_a_new_process_does(tiny, tmp_path, monkeypatch):
    """Compiled programs are kept from the first call on, unless a run must be deterministic."""
    kept = f"""
import jax, numpy as np, musegan_jax as mg
model = mg.load()
assert jax.config.jax_compilation_cache_dir is None
try: mg.accompany(model, np.zeros((16, 128), bool))
except ValueError: pass
assert jax.config.jax_compilation_cache_dir.startswith({str(tmp_path)!r})
config = mg.load_config("tiny", "data.dataset={tiny.data.dataset}")
windows = mg.make_windows(mg.load_dataset(config.data.dataset), config)
other = mg.load_config("tiny", "model.tracks=5")
keys = mg.update_keys(mg.root_key(0), 0, 0, np.arange(2))
roll = np.zeros((2, 32, 64, 4), np.float32)
for call, message in (
    (lambda: mg.make_windows(config, windows), "config is a Windows; it must be a Config"),
    (lambda: mg.make_windows("chorales", config), "dataset is a str; it must be a Dataset"),
    (lambda: mg.draw_batch(windows, config, keys.data), "config is a Windows"),
    (lambda: mg.draw_batch(config, roll, keys.data), "windows is a ndarray; it must be a Windows"),
    (lambda: mg.draw_batch(other, windows, keys.data), "windows have 4 tracks, the config 5"),
    (lambda: mg.create_state(3), "config is a int"),
    (lambda: mg.train_step(config, windows, roll, keys.data[0], 0), "state is a Windows"),
    (lambda: mg.critic_step(3, config, roll, roll, keys), "config is a int"),
    (lambda: mg.generator_step(config, config, roll, keys), "state is a Config"),
    (lambda: mg.blend(roll, roll[:1], np.ones(2)), "they must be (B, T, P, K) twice and (B,)"),
    (lambda: mg.blend(roll, roll, np.ones(1)), "they must be (B, T, P, K) twice and (B,)"),
):
    try: call()
    except (TypeError, ValueError) as error: assert message in str(error), error
    else: raise AssertionError(message)
"""
    deterministic = f"""
import os, jax, musegan_jax as mg
mg.train(mg.load_config("tiny", "data.dataset={tiny.data.dataset}", "output.melodies=",
    "training.iterations=1", "training.deterministic=true"), {str(tmp_path / "run")!r})
assert {determinism.FLAG!r} in os.environ["XLA_FLAGS"]
assert jax.config.jax_compilation_cache_dir is None
"""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    for code in (kept, deterministic):
        in_new_process(code, XDG_CACHE_HOME=str(tmp_path))


def test_what_save_writes_load_reads(model, tmp_path):
    other = dataclasses.replace(model, variables={"params": {}, "batch_stats": {}})
    with pytest.raises(ValueError, match="arrays do not match its config"):
        mg.save(other, tmp_path / "bad.safetensors")
    for part, value, kind, message in (
        (None, None, ValueError, "no variables; train it first"),
        ("params", np.nan, mg.UserError, "a value of the model is not finite"),
        ("batch_stats", np.inf, mg.UserError, "a value of the model is not finite"),
        ("params", 1e6, mg.UserError, "overflows half precision"),
    ):
        bad = dict(model.variables) if part else None
        if bad:
            bad[part] = jax.tree.map(functools.partial(np.full_like, fill_value=value), bad[part])
        with pytest.raises(kind, match=message):
            mg.save(dataclasses.replace(model, variables=bad), tmp_path / "bad.safetensors")
    with pytest.raises(TypeError, match="model is a dict"):
        mg.save({}, tmp_path / "bad.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_raw_answer_names_what_it_takes(model):
    keys = mg.example_keys(mg.root_key(0), np.arange(1))
    good = tune()[None]
    assert mg.answer(model, good.tolist(), keys).shape == (1, 64, 64, 4)
    with pytest.raises(ValueError, match="no variables"):
        mg.answer(dataclasses.replace(model, variables=None), good, keys)
    with pytest.raises(ValueError, match="temperature = -1"):
        mg.answer(model, good, keys, -1)
    for conditions, noise, kind, message in (
        (good[0], keys, ValueError, r"must be \(B, T, 128\)"),
        (good[:, :60], keys, ValueError, "multiple of 16"),
        (good[:, :0], keys, ValueError, "multiple of 16 and not 0"),
        (good * 1.0, keys, TypeError, "must be bool"),
        (good, np.arange(1), TypeError, "keys must be typed JAX keys"),
        (np.concatenate([good, good]), keys, ValueError, r"keys has shape \(1,\); .*\(2,\)"),
        (np.roll(good, 60, axis=2), keys, ValueError, "outside the model's MIDI pitches 28 to 91"),
    ):
        with pytest.raises(kind, match=message):
            mg.answer(model, conditions, noise)


def test_networks_name_the_axes_they_take(model):
    config = model.config
    generator = mg.make_generator(config)
    good = np.zeros((2, 64, 64, 1), np.float32)
    noise = np.zeros((2, *mg.noise_shape(config.generator_filters, 64, 64)), np.float32)
    for condition, noisy, message in (
        (good[..., 0], noise, r"generator takes \(B, T, P, 1\)"),
        (good, noise[:1], r"noise has shape .* takes \(2, 4, 4, 256\)"),
        (good[:, :60], noise, "multiples of 16"),
    ):
        with pytest.raises(ValueError, match=message):
            generator.apply(model.variables, condition, noisy, train=False)
    with pytest.raises(ValueError, match=r"critic takes \(B, T, P, K\) and \(B, T, P, 1\)"):
        critic = mg.make_critic(config)
        critic.init(mg.root_key(0), np.zeros((2, 64, 64, 4)), good[..., 0])
    with pytest.raises(ValueError, match="multiples of 16"):
        critic.init(mg.root_key(0), np.zeros((2, 60, 64, 4)), good[:, :60])


def test_rolls_notes_and_pretty_midi_are_one_music():
    roll = np.random.default_rng(0).random((48, 128, 3)) < 0.02
    roll[-1, 60, 0] = True
    notes = mg.roll_to_notes(roll)
    np.testing.assert_array_equal(mg.notes_to_roll(notes, 48, 3), roll)
    tracks = [mg.Track("Tune", 40), mg.Track("Kit", 0, True), mg.Track("Bass", 32)]
    for bpm, steps_per_beat in ((100, 4), (61.3, 3), (200, 24)):
        song = mg.to_pretty_midi(roll, tracks, steps_per_beat, bpm)
        again, found = mg.from_pretty_midi(song, steps_per_beat)
        assert found == tracks
        np.testing.assert_array_equal(again, roll)


def test_pretty_midi_with_tempo_changes_keeps_its_beats(tmp_path):
    import pretty_midi

    file = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack()
    for beat, pitch in enumerate((60, 62, 64)):
        track.append(mido.MetaMessage("set_tempo", tempo=400_000 + 200_000 * beat))
        track.append(mido.Message("note_on", note=pitch, velocity=80))
        track.append(mido.Message("note_off", note=pitch, time=96))
    file.tracks.append(track)
    file.save(tmp_path / "song.mid")
    roll, _ = mg.from_pretty_midi(pretty_midi.PrettyMIDI(str(tmp_path / "song.mid")), 2)
    assert mg.roll_to_notes(roll).tolist() == [[0, 2, 60, 0], [2, 4, 62, 0], [4, 6, 64, 0]]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: mg.roll_to_notes(tune()), ValueError, r"must be \(T, 128, K\)"),
        (lambda: mg.roll_to_notes(tune()[..., None] * 1), TypeError, "it must be bool"),
        (lambda: mg.notes_to_roll([[4, 0, 60, 0]], 64, 4), ValueError, "end after it"),
        (lambda: mg.notes_to_roll([[0.5, 1, 60, 0]], 64, 4), TypeError, "time steps, not seconds"),
        (lambda: mg.notes_to_roll([], -1, 4), ValueError, "steps = -1"),
        (lambda: mg.notes_to_roll([[0, 5, 60, 0]], 4, 4), ValueError, "end 5: .* steps = 4"),
        (lambda: mg.notes_to_roll([[4, 5, 60, 0]], 4, 4), ValueError, "give more steps"),
        (lambda: mg.to_pretty_midi(tune()[..., None], ["Tune"]), TypeError, "Track each"),
        (
            lambda: mg.to_pretty_midi(tune()[..., None], [mg.Track("T", 0)], bpm=0),
            ValueError,
            "bpm",
        ),
        (
            lambda: mg.to_pretty_midi(tune()[..., None], [mg.Track("T", 0)], 4.5),
            TypeError,
            "steps_per_beat = 4.5",
        ),
        (
            lambda: mg.to_pretty_midi(tune()[..., None], [mg.Track("T", 128)]),
            ValueError,
            "program of the track T = 128",
        ),
        (lambda: mg.from_pretty_midi("twinkle.mid"), TypeError, "PrettyMIDI"),
        (lambda: mg.from_pretty_midi("twinkle.mid", 0), ValueError, "steps_per_beat = 0"),
        (lambda: mg.root_key(-1), ValueError, "seed = -1"),
        (lambda: mg.load(step=3), ValueError, "give the folder of a run"),
        (lambda: mg.load("runs", step="2"), TypeError, "step = '2'"),
        (lambda: mg.notes_to_roll([[0, 1, 60]], 4, 1), ValueError, r"must be \(N, 4\)"),
        (lambda: mg.notes_to_roll([[0, 1, 128, 0]], 4, 1), ValueError, "pitch 128"),
        (lambda: mg.notes_to_roll([[0, 1, 60, 2]], 4, 2), ValueError, "track 2: .* track 0 to 1"),
        (lambda: mg.to_pretty_midi(tune()[..., None], []), ValueError, "has 1 tracks"),
    ],
)
def test_wrong_rolls_and_notes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
