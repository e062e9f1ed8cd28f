"""Train `--config lpd5` on made-up songs of five tracks whose right accompaniment is known.

COMMAND   uv run python tests/proofs/five_tracks.py [--beats 3] [--files 40] [--picture FILE]
TIME      18 minutes on two CPU cores beside two other jobs
RESULT    exit status 0 if, in held-out songs, root of the bass, chord of the strings, note of the
          guitar and drums are each right in 90 % of the steps, and root and drums are not where the
          piano is silent or plays random chords

The songs are a folder of pypianoroll's `.npz` files, as the Lakh Pianoroll Dataset's. The piano,
which is given, plays a chord per bar, twice, in a new inversion each time. The bass plays its root
on each beat, the guitar breaks it in eighths (root, third, fifth, third), the strings hold it. The
drums follow both the bar and the chord: a groove for major chords, another for minor ones. With
`--beats 3`, bars are 3/4. Held-out songs are composed as `compose` does it, from MIDI files of
their piano.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from own_music import DEGREES, TRIADS, silence

from test_formats import write_lpd

PER_BEAT = 24  # of the files, as the Lakh Pianoroll Dataset's; the dataset has 4
PIANO = 1
KICK, SNARE, HAT, RIDE = 36, 38, 42, 51
# Sixteenths of a bar, by the beats of a bar and whether the chord is minor.
GROOVES = {
    (4, False): {KICK: (0, 8), SNARE: (4, 12), HAT: range(0, 16, 2)},
    (4, True): {KICK: (0, 6, 10), SNARE: (4, 12), RIDE: range(0, 16, 4)},
    (3, False): {KICK: (0,), SNARE: (4, 8), HAT: range(0, 12, 2)},
    (3, True): {KICK: (0, 6), SNARE: (8,), RIDE: range(0, 12, 4)},
}
# Smaller networks and batches than `lpd5.py`: minutes, not hours.
SMALL = (
    "--model.generator_filters=16,32,64,128",
    "--model.critic_filters=16,32,64,128",
    "--training.iterations=500",
    "--training.batch_size=16",
    "--training.ema_decay=0.98",
    "--output.sample_every=0",
    "--output.save_every=500",
    "--output.held_out=0",
)
NAMES = ("bass root", "strings chord", "guitar note", "drums")


def song(seed: int, beats: int, bars: int = 16) -> np.ndarray:
    """Drums, piano, guitar, bass, strings on the grid of sixteenths: bool `(T, 128, 5)`."""
    rng = np.random.default_rng(seed)
    key, length = int(rng.integers(12)), 4 * beats
    roll = np.zeros((bars * length, 128, 5), bool)
    for bar in range(bars):
        degree = int(rng.integers(6))
        root, minor = (key + DEGREES[degree]) % 12, TRIADS[degree][1] == 3
        triad = [root + step for step in TRIADS[degree]]
        here = roll[bar * length : (bar + 1) * length]
        for drum, steps in GROOVES[beats, minor].items():
            here[list(steps), drum, 0] = True
        for start, end in ((0, 8), (8, length)):
            inversion = int(rng.integers(3))
            for n, pitch in enumerate(triad):
                here[start : end - 1, 60 + pitch + 12 * (n < inversion) - 12 * (root > 5), 1] = True
        for n, start in enumerate(range(0, length, 2)):
            here[start : start + 2, 48 + triad[(0, 1, 2, 1)[n % 4]], 2] = True
        for start in range(0, length, 4):
            here[start : start + 3, 36 + root, 3] = True
        here[:, [60 + pitch for pitch in triad], 4] = True
    return roll


def write_songs(folder: Path, files: int, beats: int) -> None:
    """A folder of pypianoroll's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(files):
        roll = np.repeat(song(n, beats), PER_BEAT // 4, axis=0)
        downbeat = np.zeros(len(roll), bool)
        downbeat[:: beats * PER_BEAT] = True
        write_lpd(folder / f"song {n:03d}.npz", roll, downbeat=downbeat)


def answer(model, given: np.ndarray, beats: int) -> np.ndarray:
    """What the model composes to a piano, bool `(T, 128)`: bool `(T, 128, 5)`."""
    import musegan_jax as mg
    from musegan_jax.data import midi

    if not given.any():  # `accompany` refuses silence: ask the network itself
        return silence(model, len(given), np.arange(0, len(given) + 1, 4 * beats))
    file = midi.from_roll(given[..., None], [model.tracks[PIANO]], model.steps_per_beat, 100)
    file.tracks[0].append(mido.MetaMessage("time_signature", numerator=beats, denominator=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piano.mid"
        file.save(path)
        made = mg.accompany(model, path)[0][: len(given)]
    return np.pad(made, ((0, len(given) - len(made)), (0, 0), (0, 0)))


def right(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Where each of `NAMES` is right: bool `(T, 4)`."""
    from musegan_jax.pianoroll import pitch_classes

    classes = [
        (pitch_classes(made[..., k]) == pitch_classes(true[..., k])).all(axis=1) for k in (3, 4, 2)
    ]
    return np.stack([*classes, (made[..., 0] == true[..., 0]).all(axis=1)], axis=1)


def scores(model, data, beats: int, piano_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The shares of steps of held-out songs in which each of `NAMES` is right.

    Args:
        model: a `musegan_jax.Model`.
        data: a dataset of such songs.
        beats: of a bar.
        piano_of: true piano bool `(T, 128)` -> the one that the model is given.
    """
    from musegan_jax import pianoroll

    found = []
    for piece in data.pieces_of(["valid", "test"]):
        true = pianoroll.unpack(data.packed(piece))
        found.append(right(answer(model, piano_of(true[..., PIANO]), beats), true))
    return np.concatenate(found).mean(axis=0)


def random_chords(true: np.ndarray) -> np.ndarray:
    """Three random pitches in each beat, in the range of the piano."""
    rng = np.random.default_rng(0)
    piano = np.zeros_like(true)
    for start in range(0, len(true), 4):
        piano[start : start + 4, 54 + rng.permutation(24)[:3]] = True
    return piano


def draw(model, data, beats: int, path: Path) -> None:
    """A held-out song beside the answer to its piano: bars 1 to 4, and 5 to 8."""
    from musegan_jax import pianoroll
    from musegan_jax.rendering import plots

    true = pianoroll.unpack(data.packed(data.pieces_of(["test"])[0]))
    made = answer(model, true[..., PIANO], beats)
    bars = 16 * beats
    rows = [[roll[n : n + bars] for n in (0, bars)] for roll in (true, made)]
    names = [track.name for track in data.tracks]
    plots.grid(rows, ("made up", "answer"), ("bars 1-4", "bars 5-8"), PIANO, path, names)


def main() -> int:
    """Run it; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--beats", type=int, choices=(3, 4), default=4)
    parser.add_argument("--folder", type=Path, help="to work in, and to keep")
    parser.add_argument("--picture", type=Path, help="of a held-out song and its answer")
    arguments, overrides = parser.parse_known_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    write_songs(folder / "lpd", arguments.files, arguments.beats)
    for words in (
        ["data", "build", "lpd", "lpd", "--melody", "none", "--out", "lpd5.npz"],
        ["train", "--config", "lpd5", "--workdir", "runs/lpd5", *SMALL, *overrides],
    ):
        print("$ musegan-jax", *words, flush=True)
        command = [sys.executable, "-m", "musegan_jax", *words]
        if subprocess.run(command, cwd=folder).returncode:
            return 1
    import musegan_jax as mg

    model, data = mg.load(folder / "runs/lpd5"), mg.load_dataset(folder / "lpd5.npz")
    if arguments.picture:
        draw(model, data, arguments.beats, arguments.picture)
    pianos = {"true": lambda true: true, "silent": np.zeros_like, "random": random_chords}
    found = {
        name: scores(model, data, arguments.beats, piano_of) for name, piano_of in pianos.items()
    }
    for name, shares in found.items():
        print(f"{name:<7}", *(f"{n} {share:.3f}" for n, share in zip(NAMES, shares, strict=True)))
    others = np.maximum(found["silent"], found["random"])
    by_piano = others[0] < 0.5 and others[3] < 0.8  # half of the steps are alike in both grooves
    return 0 if found["true"].min() >= 0.9 and by_piano else 1


if __name__ == "__main__":
    raise SystemExit(main())
