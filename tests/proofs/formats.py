"""Every format from a file to a song, by the commands: built, trained 50 iterations, composed from.

COMMAND   python tests/proofs/formats.py [--only lpd,abc] [--iterations 50]
TIME      one to two minutes a format on two CPU cores
RESULT    a line for each format, and exit status 0 if each gave a song with an accompaniment

The files are made: the band of tests/test_formats.py as MIDI, LPD's npz, musegan's phrases and
MusicXML; tunes of random notes with chord symbols in ABC, and two voices of them in kern; music21's
chorales as JSON and npz of the JSB kind. The networks are shrunk, as in the tests: it is the way
that is tried, not the music.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from musegan_jax.data import dataset, export, midi
from musegan_jax.data.readers import chorales, lpd, scores
from musegan_jax.data.readers.songs import NO_MELODY, Options
from test_formats import CHORALES, band, step_lists, write_lpd, write_phrases

FILES = 12
# What is built, with which words of `data build`.
FORMATS = {
    "midi": ("midi",),
    "lpd": ("lpd",),
    "lpd17": ("lpd", "--families", "17"),
    "musegan": ("musegan",),
    "musicxml": ("score",),
    "abc": ("score",),
    "kern": ("score",),
    "jsb": ("jsb",),
    "jsb-npz": ("jsb",),
}
SHRUNK = (
    "--model.generator_filters=4,8", "--model.critic_filters=4,8", "--training.batch_size=8",
    "--output.melodies=", "--output.sample_every=0", "--output.save_every=50",
    "--output.held_out=0",
)  # fmt: skip


def run(*words: object) -> None:
    """A command, which must succeed."""
    line = [sys.executable, "-m", "musegan_jax", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line[2:])}\n{done.stderr}")


def make(folder: Path) -> dict[str, Path]:
    """A folder or file of each format."""
    made = {name: folder / name for name in ("lpd", "midi", "musicxml", "abc", "kern")}
    for name in ("lpd", "abc", "kern"):
        made[name].mkdir(parents=True)
    made["lpd17"] = made["lpd"]
    for n in range(FILES):
        write_lpd(made["lpd"] / f"{n}.npz", band(n, bars=8))
    built = lpd.read_lpd(made["lpd"], Options(melody=NO_MELODY, families=lpd.FIVE)).dataset
    for form in ("midi", "musicxml"):
        list(export.export(built, made[form], form))
    rng = np.random.default_rng(0)
    for n in range(FILES):
        low, high = rng.integers(7, size=(2, 32))
        (made["abc"] / f"{n}.abc").write_text(tune(n, high))
        (made["kern"] / f"{n}.krn").write_text(two_voices(low, high))
    rolls = np.stack([band(n, per_beat=12) for n in range(FILES)])[:, :, 24:108]
    made["musegan"] = folder / "phrases.npz"
    write_phrases(made["musegan"], rolls.reshape(FILES, 4, 48, 84, 5))
    of_bach = [
        step_lists(scores.read(chorales.installed_folder() / f"{name}.mxl")[0]) for name in CHORALES
    ]
    made["jsb"] = folder / "jsb.json"
    splits = {"train": of_bach * 3, "valid": of_bach, "test": of_bach}
    made["jsb"].write_text(json.dumps(splits))
    made["jsb-npz"] = folder / "jsb.npz"
    np.savez(made["jsb-npz"], **{name: padded(pieces) for name, pieces in splits.items()})
    return made


def tune(number: int, pitches: np.ndarray) -> str:
    """Bars of four quarters in ABC, each under its first note's chord."""
    names = ["CDEFGAB"[pitch] for pitch in pitches]
    bars = [f'"{bar[0]}"{" ".join(bar)}' for bar in np.reshape(names, (-1, 4)).tolist()]
    return f"X:1\nT:{number}\nM:4/4\nL:1/4\nK:C\n{' | '.join(bars)} |]\n"


def two_voices(low: np.ndarray, high: np.ndarray) -> str:
    """Bars of four quarters in kern."""
    lines = ["**kern\t**kern", "*M4/4\t*M4/4"]
    for n, (below, above) in enumerate(zip(low, high, strict=True)):
        if n % 4 == 0:
            lines.append(f"={n // 4 + 1}\t={n // 4 + 1}")
        lines.append(f"4{'CDEFGAB'[below]}\t4{'cdefgab'[above]}")
    return "\n".join([*lines, "*-\t*-"]) + "\n"


def padded(pieces: list[list[list[int]]]) -> np.ndarray:
    """Steps of four voices, as long as the longest piece: NaN behind the end and for rests."""
    rolls = np.full((len(pieces), max(map(len, pieces)), 4), np.nan, np.float16)
    for roll, steps in zip(rolls, pieces, strict=True):
        roll[: len(steps)] = np.where(np.array(steps) < 0, np.nan, steps)
    return rolls


def main() -> int:
    """Run it; see the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(FORMATS))
    parser.add_argument("--iterations", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = make(Path(scratch) / "in")
        for name in arguments.only.split(","):
            start = time.monotonic()
            place = Path(scratch) / name
            place.mkdir()
            data, workdir = place / "data.npz", place / "run"
            kind, *options = FORMATS[name]
            run("data", "build", kind, made[name], *options, "--out", data)
            run(
                "train", "--config", "own", "--workdir", workdir, f"--data.dataset={data}",
                f"--training.iterations={arguments.iterations}", *SHRUNK,
            )  # fmt: skip
            run(
                "compose", "ode_to_joy", "--workdir", workdir, "--out", place / "song",
                "--musicxml", "--decoding", "threshold",
            )  # fmt: skip
            song = midi.read(place / "song" / "ode_to_joy.mid")
            written = scores.read(place / "song" / "ode_to_joy.musicxml")[0]
            built = dataset.load(data)
            notes = [len(part.notes) for part in song.parts]
            if len(notes) < 2 or notes != [len(part.notes) for part in written.parts]:
                raise SystemExit(f"{name}: a song of {notes} notes")
            print(
                f"{name:<8} {len(built.names)} pieces, {len(built.tracks)} tracks; song of {notes} "
                f"notes; {time.monotonic() - start:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
