"""Damaged and hand-made files: each is read rightly or refused in one line, within a budget.

COMMAND   python tests/proofs/attack.py inputs --count 300000
          python tests/proofs/attack.py damages --count 3000
          python tests/proofs/attack.py bills
TIME      half a minute for 10,000 inputs, a minute for 1,000 damages, a minute, on one core

`inputs`: bytes for the readers of MIDI files, datasets, model files, records, logs and fields of a
config, made of good ones by flipping, cutting, repeating, inserting. Whatever is read is used as
`compose` would. `damages`: a run whose checkpoints, record or logs, or a model file, are damaged;
what is read must be what was written. `bills`: the most expensive MIDI files within the limits that
we know, read, accompanied by the shipped model and written, each in a process of its own.

Prints what fell, and the longest time (of the processor) and the largest memory.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, "tests")
import numpy as np
from etils import epath

import conftest
from musegan_jax import config as configs
from musegan_jax.composing import melody as melodies
from musegan_jax.data import dataset, midi
from musegan_jax.errors import UserError
from musegan_jax.models import model_file
from musegan_jax.rendering import audio
from musegan_jax.runs import checkpoint, logging, record
from musegan_jax.training import loop
from musegan_jax.training.state import abstract_state
from test_midi import END, VALID, meter, off, on, program, smf, tempo

WITHIN = (10.0, 1000)  # seconds, MB


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with a few of: flipped, cut, repeated, inserted, removed, random bytes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        at = chance.randrange(max(len(data), 1))
        length = chance.choice((1, 1, 2, 4, 16, 100))
        kind = chance.randrange(7)
        if kind <= 1 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[at : at + length] = chance.randbytes(length)
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
        elif kind == 5:
            special = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\x80", b"NaN", b"[", b'"', b"1e999")
            data[at : at + length] = chance.choice(special) * length
        elif chance.random() < 0.2:
            del data[at:]
    return bytes(data)


def use_midi(path: Path) -> None:
    score = midi.read(path)
    score.bar_lines()
    audio.excerpt(score)
    part = melodies.pick_part(score, None, str(path))
    midi.quantise(part.notes, score.ticks_per_beat / 4)
    melodies.melody_likeness(part)


def use_lines(path: Path) -> None:
    said: list[str] = []
    lines = logging.JsonLines(epath.Path(path), 3, said.append)
    lines.write({"iteration": 4, "critic_loss": 1.0})
    lines.close()
    for line in path.read_text().splitlines():
        assert isinstance(json.loads(line)["iteration"], int)
    shutil.rmtree(path.parent / "damaged", ignore_errors=True)


def use_word(path: Path) -> None:
    names = [
        "training.seed",
        "model.tracks",
        "data.transpose",
        "data.splits",
        "training.decay_from",
    ]
    text = path.read_bytes().decode(errors="surrogateescape")
    name, _, value = text.partition("=")
    configs.override(configs.Config(), [f"--{names[len(value) % 5]}={value}", f"--{name}=1"])


def make_run(folder: Path) -> tuple[configs.Config, Path]:
    """A run of three checkpoints, and its model as a file."""
    dataset.save(conftest.make_dataset(), folder / "made.npz")
    words = [f"--data.dataset={folder}/made.npz", "--output.melodies=", "--output.save_every=1"]
    config = configs.override(configs.load("tiny"), [*words, "--training.iterations=3"])
    loop.train(config, folder / "run")
    from musegan_jax.training.load import load_model

    model_file.save(load_model(epath.Path(folder / "run"), print), folder / "m.safetensors")
    return config, folder / "run"


def inputs(arguments: argparse.Namespace, folder: Path) -> int:
    chance = random.Random(arguments.seed)
    config, run = make_run(folder)
    small = smf(program(1) + on(0, 60) + b"\x60\x3c\x00" + END, resolution=96)
    kinds = {  # how often, good contents, what uses them
        "midi": (90, [VALID, small], use_midi),
        "dataset": (2, [(folder / "made.npz").read_bytes()], dataset.load),
        "model": (1, [(folder / "m.safetensors").read_bytes()], model_file.load),
        "record": (3, [(run / "run.json").read_bytes()], lambda p: record.read_file(epath.Path(p))),
        "log": (2, [(run / "metrics.jsonl").read_bytes()], use_lines),
        "word": (2, [b"training.seed=5", b"data.splits=train,valid", b"=[(1,2),{}]"], use_word),
    }
    names = [name for name, (often, _, _) in kinds.items() for _ in range(often)]
    counts: Counter[str] = Counter()
    longest = (0.0, "")
    for n in range(arguments.count):
        name = chance.choice(names)
        _, good, use = kinds[name]
        content = damaged(chance.choice(good), chance)
        path = folder / f"input-{name}"
        path.write_bytes(content)
        before = time.process_time()
        try:
            try:
                use(path)
                counts[f"{name} read"] += 1
            except UserError as error:
                if len(str(error)) > 10_000:
                    raise ValueError(f"a message of {len(str(error))} characters") from None
                counts[f"{name} refused"] += 1
        except Exception:
            counts[f"{name} FELL"] += 1
            kept = Path(arguments.keep) / f"{name}-{n}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            print(f"{kept}: {traceback.format_exc(limit=-3)}", flush=True)
        longest = max(longest, (time.process_time() - before, f"{name} {n}"))
        if n % 10_000 == 9_999:
            print(n + 1, dict(counts), longest, f"{memory()} MB", flush=True)
    return report(counts, longest)


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def report(counts: Counter[str], longest: tuple[float, str]) -> int:
    print(f"{sum(counts.values())} in all: {dict(sorted(counts.items()))}")
    print(f"longest {longest[0]:.2f} s ({longest[1]}); memory {memory()} MB")
    return int(any("FELL" in name or "WRONG" in name for name in counts))


def harm(path: Path, chance: random.Random) -> None:
    kind = chance.randrange(8)
    content = path.read_bytes()
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(content[: chance.randrange(len(content) + 1)])
    elif kind == 2:
        path.write_bytes(bytes(len(content)))
    elif kind == 3:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damaged(content, chance))


def damages(arguments: argparse.Namespace, folder: Path) -> int:
    chance = random.Random(arguments.seed)
    config, run = make_run(folder)
    abstract = abstract_state(config)
    marks = {
        n: checkpoint.read(epath.Path(run), n, abstract).fingerprint
        for n in checkpoint.iterations(epath.Path(run))
    }
    whole = record.read(epath.Path(run))
    model = model_file.load(folder / "m.safetensors")
    digest = model_file._digest(_arrays(model), "")
    counts: Counter[str] = Counter()
    longest = (0.0, "")
    copy = folder / "copy"
    for n in range(arguments.count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        shutil.copy(folder / "m.safetensors", copy / "m.safetensors")
        what = chance.choice(("checkpoint", "checkpoint", "model", "record", "log"))
        places = {
            "checkpoint": [p for p in (copy / "checkpoints").rglob("*") if p.is_file()],
            "model": [copy / "m.safetensors"],
            "record": [copy / "run.json"],
            "log": [copy / "metrics.jsonl", copy / "fingerprints.jsonl"],
        }
        for path in chance.sample(places[what], min(chance.choice((1, 1, 3)), len(places[what]))):
            harm(path, chance)
        before = time.process_time()
        try:
            if what == "checkpoint":
                found = checkpoint.newest_valid(epath.Path(copy), abstract, lambda _: None, True)
                good = found is None or found.fingerprint == marks[found.iteration]
            elif what == "model":
                good = (
                    model_file._digest(_arrays(model_file.load(copy / "m.safetensors")), "")
                    == digest
                )
            elif what == "record":
                found = record.read(epath.Path(copy))
                good = found is None or found == whole
            else:
                for name in ("metrics.jsonl", "fingerprints.jsonl"):
                    logging.JsonLines(epath.Path(copy / name), 3, lambda _: None).close()
                good = True
            counts[f"{what} read" if good else f"{what} WRONG"] += 1
            if what == "log" and n % arguments.train_every == 0:
                loop.train(configs.override(config, ["--training.iterations=4"]), copy)
                counts["trained on"] += 1
        except UserError:
            counts[f"{what} refused"] += 1
        except Exception:
            counts[f"{what} FELL"] += 1
            print(f"{what} {n}: {traceback.format_exc(limit=-4)}", flush=True)
        longest = max(longest, (time.process_time() - before, f"{what} {n}"))
        if n % 250 == 249:
            print(n + 1, dict(counts), f"{memory()} MB", flush=True)
    return report(counts, longest)


def _arrays(model) -> dict:
    from flax.traverse_util import flatten_dict

    return {name: np.asarray(a) for name, a in flatten_dict(model.variables, sep="/").items()}


def bills(arguments: argparse.Namespace, folder: Path) -> int:
    """Each in a process of its own, whose time and memory the system counts."""
    hour = tempo(0, 360_000)  # 10,000 beats
    run = b"".join(on(0, 60 + n % 5) + b"\x0a" + bytes([60 + n % 5, 0]) for n in range(49_000))
    keys = range(128)
    half = 1_990 * 480
    name = b"\x00\xff\x03\xb6\xf7\x20" + 900_000 * b"x"
    every = b"".join(
        on(0, 40 + n % 50, 64, n % 16) + off(7, 40 + n % 50, n % 16) for n in range(49_000)
    )
    files = {
        "a note after an hour": smf(on(480 * 7199, 60) + off(480, 60) + END),
        "the longest melody": smf(hour + on(0, 60) + off(half, 60) + END),
        "bars of 1/16": smf(meter(0, 1, 16) + hour + on(0, 60) + off(half, 60) + END),
        "all keys held": smf(
            hour + b"".join(on(0, p) for p in keys) + off(half, 0)
            + b"".join(off(0, p) for p in keys[1:]) + END
        ),
        "98,000 messages": smf(run + END),
        "a name of 900 kB": smf(name + on(0, 60) + off(96, 60) + END),
        "99,000 programs": smf(99_000 * b"\x00\xc0\x01" + on(0, 60) + off(480, 60) + END),
        "a tempo at every note": smf(
            b"".join(on(0, 60) + tempo(1, 400_000 + n) + off(1, 60) for n in range(33_000)) + END
        ),
        "all channels": smf(every + END),
    }  # fmt: skip
    fell = 0
    for name, content in files.items():
        path = folder / "bill.mid"
        path.write_bytes(content)
        code = (
            "import resource, sys, time\n"
            "from musegan_jax import cli\n"
            "begin = time.monotonic()\n"
            f"status = cli.main(['compose', {str(path)!r}, '--out', {str(folder / 'out')!r}])\n"
            "used = resource.getrusage(resource.RUSAGE_SELF)\n"
            "seconds = used.ru_utime + used.ru_stime\n"
            "print(status, seconds, time.monotonic() - begin, used.ru_maxrss // 1024)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        print(f"{name} ({len(content)} bytes): ", end="")
        try:
            status, seconds, wall, most = map(float, done.stdout.splitlines()[-1].split())
            fine = done.returncode == 0 and seconds <= WITHIN[0] and most <= WITHIN[1]
            fell += not fine
            told = done.stderr.splitlines()[-1][:100] if status else ""
            print(
                f"status {status:.0f}, {seconds:.1f} s of the processor, {wall:.1f} s, "
                f"{most:.0f} MB{'' if fine else '  OVER'} {told}", flush=True,
            )  # fmt: skip
        except (ValueError, IndexError):
            fell += 1
            print(f"FELL: {done.stderr[-500:]}", flush=True)
    return int(fell > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("inputs", "damages", "bills"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", default="fallen", help="folder for inputs that fell")
    parser.add_argument("--train-every", type=int, default=100, help="damages of logs per training")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    kinds = {"inputs": inputs, "damages": damages, "bills": bills}
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        return kinds[arguments.what](arguments, Path(folder))


if __name__ == "__main__":
    raise SystemExit(main())
