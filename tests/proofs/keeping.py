"""Whether what is kept of an accompaniment should be shown to the network, too.

COMMAND   uv run --extra music21 python tests/proofs/keeping.py --pieces 16 --track Bass
TIME      about a minute on two CPU cores
RESULT    measures of harmony of held-out chorales of which one voice, their own, was kept and the
          rest answered twice by the shipped model: the kept voice written over a free answer; the
          rest decided with it; and the network shown it, too (`accompany.showing`).
"""

import argparse
from collections.abc import Iterator

import numpy as np

import musegan_jax as mg
from musegan_jax.composing import accompany
from musegan_jax.composing.arrangement import placed
from musegan_jax.composing.decoding.held import Held
from musegan_jax.composing.melody import Melody
from musegan_jax.data import melodies, sources
from musegan_jax.evaluation import held_out
from musegan_jax.evaluation.measures import Music
from musegan_jax.models.model import Model

WAYS = ("written over", "decided with", "shown, too")


def prepared(model: Model, music: Music) -> Melody:
    """The melody of a piece as the network takes it; its file is of no matter here."""
    roll, tune = music.roll, melodies.melody("twinkle")
    unit = np.lcm(256, model.stride)  # few lengths, so that few programs are compiled
    condition = np.zeros((-(-(len(roll) + model.stride) // unit) * unit, 128), bool)
    condition[: len(roll)] = roll[..., model.config.condition_track]
    bars = np.arange(len(music.bars)) * music.bars.shape[1]
    return Melody(
        tune, tune.parts[0], condition, 0, len(roll), 0, np.ones(0, bool),
        bars if music.lines is None else music.lines,
    )  # fmt: skip


def answered(model: Model, pieces: list[Music], track: int, way: str, seed: int) -> Iterator[Music]:
    """Each piece with its own melody and kept track, and the others answered."""
    for music in pieces:
        melody, roll = prepared(model, music), music.roll
        where = np.zeros((len(roll), roll.shape[-1]), bool)
        where[:, track] = True
        held = Held(roll, where)
        if way == "shown, too":
            melody = accompany.showing(model, melody, held)
        signed = accompany.answer_melody(model, melody, seed, 0)
        joint = None if way == "written over" else held
        notes = accompany.decode_melody(model, melody, signed, held=joint)
        made = held.written(placed(model, notes, melody.condition[: len(roll)]))
        made[..., model.config.condition_track] = roll[..., model.config.condition_track]
        yield music._replace(bars=made.reshape(music.bars.shape), lines=None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pieces", type=int, default=16)
    parser.add_argument("--track", default="Bass")
    arguments = parser.parse_args()
    model = mg.load()
    track = [each.name for each in model.tracks].index(arguments.track)
    pieces = held_out.read(sources.load("chorales"), model, arguments.pieces)
    music = [whole.music for whole in pieces.whole]
    columns = [dict(zip(pieces.harmony.names, pieces.harmony.scores(), strict=True))]
    for way in WAYS:
        pairs = [
            pair
            for seed in (0, 1)
            for pair in zip(answered(model, music, track, way, seed), music, strict=True)
        ]
        found = pieces.judge.measure(pairs)
        every = np.ones(len(found.names), bool)
        distance = held_out._distance(found, pieces.harmony, every)
        scores = dict(zip(found.names, found.scores(), strict=True))
        columns.append({**scores, "distance": distance})
    print(f"{'':16}" + "".join(f"{name:>14}" for name in ("the pieces", *WAYS)))
    for name in columns[-1]:
        row = (column.get(name, 0.0) for column in columns)
        print(f"{name:16}" + "".join(f"{value:14.3f}" for value in row))


if __name__ == "__main__":
    main()
