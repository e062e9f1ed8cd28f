"""The benchmark's peers compute what we compute; each test needs the peer's framework.

Each peer runs in a process of its own, as in the benchmark: TensorFlow and PyTorch loaded into one
have crashed it.
"""

import dataclasses
import importlib.util

import pytest


@pytest.fixture(params=[0, 2], ids=["track 0 is the melody", "track 2 is the melody"])
def config(tiny, request):
    model = dataclasses.replace(tiny.model, condition_track=request.param)
    return dataclasses.replace(tiny, model=model)


@pytest.mark.parametrize(
    ("name", "packages"), [("keras", ("keras", "tensorflow")), ("torch-eager", ("torch",))]
)
def test_a_peer_computes_the_same(name, packages, config, monkeypatch):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.syspath_prepend("benchmarks")
    from peers import checks, ours
    from peers.worker import Worker

    start, inputs, expected = ours.answers(config, examples=4)
    peer = Worker(name, config, ours.all_rolls(config))
    try:
        peer.ask("load", start)
        errors = checks.differences(expected, peer.ask("answers", *inputs.values()))
        assert checks.agree(errors), checks.summary(errors)
        assert peer.ask("time", 2)["wall_s"] > 0
    finally:
        peer.stop()


@pytest.mark.slow
def test_the_checks_can_fail(tiny, monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")
    from peers import checks, ours

    _, _, expected = ours.answers(tiny, examples=4)
    assert checks.agree(checks.differences(expected, expected))
    for name in ("score", "penalty", "new generator/BatchNorm_0/var"):
        for factor in (1.001, float("nan")):
            errors = checks.differences(expected, expected | {name: expected[name] * factor})
            assert not checks.agree(errors)
            worst = max(checks.summary(errors), key=lambda row: row[1] if row[1] == row[1] else 9)
            assert worst[2] == name
