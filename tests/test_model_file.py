"""The exported model: whole or refused, and the same music."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from conftest import changed
from musegan_jax.composing.accompany import accompany
from musegan_jax.composing.melody import prepare
from musegan_jax.config import ModelConfig
from musegan_jax.data import melodies
from musegan_jax.data.melody_line import pick_part
from musegan_jax.data.training_music import TrainingMusic
from musegan_jax.errors import UserError
from musegan_jax.models import model_file
from musegan_jax.models.generator import make_generator, noise_shape, variable_shapes
from musegan_jax.models.model import Model
from musegan_jax.pianoroll import Track

TRACKS = (Track("Tune", 40), Track("Alto", 41), Track("Kit", 0, True))


def make(filters=(4, 8)) -> Model:
    config = ModelConfig(tracks=3, generator_filters=filters, pitches=64, lowest_pitch=28)
    steps = max(8, 2 ** len(filters))
    noise = np.zeros((1, *noise_shape(filters, steps, 64)), np.float32)
    variables = make_generator(config).init(
        jax.random.key(0), np.zeros((1, steps, 64, 1), np.float32), noise, train=False
    )
    ranges = ((48, 84), (40, 70), (0, 127))
    variables = jax.device_get({"batch_stats": {}, **variables})
    music = TrainingMusic(TRACKS, 4, ranges, (True, False, False))
    return Model(config, 32, music, variables, {"run": "made up"})


@pytest.fixture(scope="module")
def model() -> Model:
    return make()


@pytest.fixture
def path(model, tmp_path):
    model_file.save(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_a_model_comes_back(model, path):
    again = model_file.load(path)
    for name in ("config", "window_steps", "music", "origin"):
        assert getattr(again, name) == getattr(model, name)
    for a, b in zip(*(jax.tree.leaves(m.variables) for m in (again, model)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["about"])["origin"] == {"run": "made up"}
    # Statistics are not rounded.
    for a, b in zip(
        *(jax.tree.leaves(m.variables["batch_stats"]) for m in (again, model)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    score = melodies.melody("twinkle")
    melody = prepare(score, pick_part(score, None, "twinkle"), again)
    assert accompany(again, melody, 0, 0).any()


def test_a_generator_without_statistics(tmp_path):
    model_file.save(make((4,)), tmp_path / "m.safetensors")
    assert model_file.load(tmp_path / "m.safetensors").variables["batch_stats"] == {}


def test_six_filters(tmp_path):
    """Networks so deep that the default window of a whole config would not fit them."""
    model = make((1, 1, 1, 1, 1, 1))
    model_file.save(changed(model, window_steps=64), tmp_path / "m.safetensors")
    assert model_file.load(tmp_path / "m.safetensors").config == model.config


def test_equal_models_have_equal_hashes(model, tmp_path):
    digests = [
        model_file.save(each, tmp_path / "m.safetensors")
        for each in (model, model, changed(model, window_steps=64))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_every_damage_is_told(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), max(len(whole) // 60, 1)):
        changed = bytearray(whole)
        changed[at] ^= 0x41
        path.write_bytes(bytes(changed))
        with pytest.raises(UserError, match=r"m\.safetensors: "):
            model_file.load(path)
    for length in (0, 1, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a valid model file"):
            model_file.load(path)


def rewritten(path, arrays=None, **about):
    """The file with other arrays or other facts, and a hash that fits them."""
    found = safetensors.numpy.load_file(path) if arrays is None else arrays
    with safetensors.safe_open(path, "numpy") as file:
        said = json.loads(file.metadata()["about"])
    text = json.dumps({**said, **about})
    digest = model_file._digest(found, text)
    safetensors.numpy.save_file(found, path, {"about": text, "sha256": digest})


@pytest.mark.parametrize(
    "about",
    [
        {"format": 99},
        {"config": {"tracks": "many"}},
        {"tracks": [["Tune", 40, False]]},
        {"ranges": 3},
        {"ranges": [[0, 127]]},
        {"single_lines": [True]},
        {"steps_per_beat": 0},
        {"steps_per_beat": 4.5},
        {"window_steps": None},
        {"tracks": [["Tune", 400, False], ["Alto", 41, False], ["Kit", 0, True]]},
        {"tracks": [[None, 40, False], ["Alto", 41, False], ["Kit", 0, True]]},
        {"ranges": [[84, 48], [40, 70], [0, 127]]},
        {"ranges": [["a", "b"], [40, 70], [0, 127]]},
        {"single_lines": ["no", False, False]},
        {"tracks": [["\ud800", 40, False], ["Alto", 41, False], ["Kit", 0, True]]},
        {"tracks": [["x" * 9999, 40, False], ["Alto", 41, False], ["Kit", 0, True]]},
        {"origin": []},
        {"origin": {"config": 3}},
        {"origin": {"config": {"data": {"splits": 3}}}},
        {"origin": {"config": {"data": {"dataset": "\udcff"}}}},
    ],
)
def test_what_does_not_fit_is_told(path, about):
    rewritten(path, **about)
    with pytest.raises(UserError, match=r"m\.safetensors"):
        model_file.load(path)


def test_arrays_of_another_network_are_told(path):
    arrays = safetensors.numpy.load_file(path)
    kernel = arrays["params/DownConv_0/kernel"]
    arrays["params/DownConv_0/kernel"] = np.ascontiguousarray(kernel[..., :2])
    rewritten(path, arrays)
    with pytest.raises(UserError, match="do not match its config"):
        model_file.load(path)


def test_numbers_that_are_none_are_told(path):
    arrays = safetensors.numpy.load_file(path)
    arrays["params/DownConv_0/bias"] = np.full_like(arrays["params/DownConv_0/bias"], np.nan)
    rewritten(path, arrays)
    with pytest.raises(UserError, match="not finite"):
        model_file.load(path)


def test_no_place_to_save(model, tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        model_file.save(model, tmp_path / "nowhere" / "m.safetensors")


def test_no_file_and_no_model(tmp_path):
    with pytest.raises(UserError, match="no such model file"):
        model_file.load(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="not a valid model file"):
        model_file.load("README.md")


def test_what_half_precision_cannot_hold_is_not_saved(model, tmp_path):
    huge = jax.tree.map(lambda array: array * 1e9 + 1e9, model.variables)
    with pytest.raises(UserError, match="half precision"):
        model_file.save(changed(model, variables=huge), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_shapes_are_those_of_init(model):
    wanted = jax.tree.map(lambda array: array.shape, model.variables)
    assert jax.tree.map(lambda array: array.shape, variable_shapes(model.config)) == wanted
