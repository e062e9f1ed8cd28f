"""Time composing, from a melody to MIDI, WAV and PNG, in a new process and in a running one.

COMMAND   uv run python benchmarks/compose.py --json benchmarks/results/compose_cpu.json
          uv run python benchmarks/compose.py --workdir runs/chorales
TIME      2 minutes on two CPU cores

Cold: the command `musegan-jax compose` in a new process, from start to end. Warm: the same call
repeated in this process, already compiled; the model is read again. Melodies are synthetic, 4/4 at
120 bpm. The model is the shipped one, of configs/chorales.py, or that of a run with --workdir.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mido
import numpy as np

import records
from input_pipeline import TICKS, VOICES, voice
from musegan_jax import cli, files
from musegan_jax import config as configs
from musegan_jax.data import midi
from musegan_jax.errors import UserError
from musegan_jax.rendering import audio
from musegan_jax.runs import record
from musegan_jax.runs.environment import environment

SECONDS_PER_BAR = 2.0
LENGTHS = {"2 bars": 2, "3 min": 90, "10 min": 300}  # in bars
TIMES = ("median_s", "p10_s", "p90_s")
SUFFIXES = (".mid", ".wav", ".png")


def write_melody(path: Path, bars: int) -> None:
    """Write a MIDI file of a single line."""
    song = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    line = voice(np.random.default_rng(0), 4 * bars, VOICES[0][1])
    song.tracks.append(midi.note_track("Melody", 0, 0, line))
    song.save(path)


def command(words: list[str]) -> None:
    """Run a command of `musegan-jax` in this process, hiding its output.

    Raises:
        UserError: if it fails.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = cli.main(words)
    if status:
        raise UserError(f"musegan-jax {words[0]}: {printed.getvalue().splitlines()[-1]}")


def compose(melody: Path, workdir: str | None, out: Path) -> list[str]:
    """The words of the command; without a workdir it uses the shipped model."""
    return ["compose", str(melody), "--out", str(out), *(["--workdir", workdir] if workdir else [])]


def cold(words: list[str]) -> float:
    """Seconds of the command in a new process.

    Raises:
        UserError: if it fails.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "musegan_jax.cli", *words], capture_output=True, text=True
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise UserError(done.stderr.splitlines()[-1].removeprefix("musegan-jax: "))
    return seconds


def warm(words: list[str], times: int) -> list[float]:
    """Seconds of the command in this process, after it has been called once."""
    command(words)
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        command(words)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure(bars: int, workdir: str | None, folder: Path, times: int) -> dict[str, Any]:
    """Time composing for a melody of `bars` bars, cold and warm."""
    melody, out = folder / f"melody{bars}.mid", folder / f"out{bars}"
    write_melody(melody, bars)
    words = compose(melody, workdir, out)
    taken = {
        "cold": records.spread([cold(words) for _ in range(times)]),
        "warm": records.spread(warm(words, times)),
    }
    sizes = {suffix[1:]: (out / f"{melody.stem}{suffix}").stat().st_size for suffix in SUFFIXES}
    song = midi.read(out / f"{melody.stem}.mid")
    notes = sum(len(part.notes) for part in song.parts)
    return {
        "bars": bars,
        "notes": notes,
        "music_s": bars * SECONDS_PER_BAR,
        **taken,
        "bytes": sizes,
    }


HEAD = (
    f"{'':13}{'new process, s':^27}{'second call, s':^27}\n"
    f"{'melody':<10}" + 2 * f"{'median':>9}{'p10':>9}{'p90':>9}" + f"{'notes':>10}"
)


def line(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    times = "".join(f"{row[kind][name]:9.2f}" for kind in ("cold", "warm") for name in TIMES)
    return f"{row['name']:<10}{times}{row['notes']:10}"


def config_of(workdir: str | None) -> configs.Config:
    """The config of the model.

    Raises:
        UserError: if `workdir` is not the folder of a run.
    """
    if workdir is None:
        return configs.load("configs/chorales.py")
    run = record.read(files.locate(workdir))
    if run is None:
        raise UserError(f"--workdir {workdir}: not the folder of a training run")
    return run.config


def run() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--workdir", help="folder of a training run (default: the shipped model)")
    parser.add_argument(
        "--times",
        type=int,
        default=3,
        help="repetitions of each melody, cold and warm (default: %(default)s)",
    )
    arguments = parser.parse_args()
    records.need_target("--json", arguments.json)
    records.need_at_least(1, times=arguments.times)
    config = config_of(arguments.workdir)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        player = "simple waves" if audio.soundfont_player() is None else "a SoundFont"
        print(f"sound: {player}; each {arguments.times} times\n{HEAD}", flush=True)
        rows = []
        for name, bars in LENGTHS.items():
            rows.append(
                row := {"name": name, **measure(bars, arguments.workdir, folder, arguments.times)}
            )
            print(line(row), flush=True)
    records.write(
        arguments.json,
        {
            "benchmark": "compose",
            "environment": environment(config),
            "config": config.to_dict(),
            "sound": player,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    sys.exit(records.command(run))
