"""Every format from a file to a song, by the commands: built, trained 50 iterations, composed from.

COMMAND   python tests/proofs/formats.py [--only lpd,score] [--iterations 50]
RESULT    a line for each format, and exit status 0 if each gave a song with an accompaniment

The files are made: the band of tests/test_formats.py as MIDI, LPD's npz, musegan's phrases and
MusicXML; music21's chorales as JSON of the JSB kind. The networks are shrunk, as in the tests: it
is the way that is tried, not the music.
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
    made = {name: folder / name for name in ("lpd", "midi", "score")}
    made["lpd"].mkdir(parents=True)
    for n in range(FILES):
        write_lpd(made["lpd"] / f"{n}.npz", band(n, bars=8))
    built = lpd.read_lpd(made["lpd"], Options(melody=NO_MELODY, families=lpd.FIVE)).dataset
    for name, form in (("midi", "midi"), ("score", "musicxml")):
        list(export.export(built, made[name], form))
    rolls = np.stack([band(n, per_beat=12) for n in range(FILES)])[:, :, 24:108]
    made["musegan"] = folder / "phrases.npz"
    write_phrases(made["musegan"], rolls.reshape(FILES, 4, 48, 84, 5))
    of_bach = [
        step_lists(scores.read(chorales.installed_folder() / f"{name}.mxl")[0]) for name in CHORALES
    ]
    made["jsb"] = folder / "jsb.json"
    made["jsb"].write_text(json.dumps({"train": of_bach * 3, "valid": of_bach, "test": of_bach}))
    return made


def main() -> int:
    """Run it; see the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="midi,lpd,musegan,score,jsb")
    parser.add_argument("--iterations", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = make(Path(scratch) / "in")
        for name in arguments.only.split(","):
            start = time.monotonic()
            place = Path(scratch) / name
            place.mkdir()
            data, workdir = place / "data.npz", place / "run"
            run("data", "build", name, made[name], "--out", data)
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
