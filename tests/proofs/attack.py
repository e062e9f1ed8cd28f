"""Damaged and hand-made files: each is read rightly or refused in one line, within a budget.

COMMAND   python tests/proofs/attack.py inputs --count 300000
          python tests/proofs/attack.py damages --count 3000
          python tests/proofs/attack.py resumes
          python tests/proofs/attack.py bills
TIME      half a minute for 10,000 inputs, a minute for 1,000 damages, a minute, on one core

`inputs`: bytes for the readers of MIDI files, datasets, model files, records, logs, fields of a
config and names of programs, made of good ones by flipping, cutting, repeating, inserting. Whatever
is read is used as `compose` would, with changing options and an answer that is drawn; every so
often by the whole command, whose output must be lines of text. `damages`: a run whose checkpoints,
record or logs, or a model file, are damaged; what is read must be what was written, and with each
kind of damage of a record or log the run is trained on: to the same end, or one line. `resumes`:
that once for each file and kind of damage. `bills`: the most expensive MIDI files within the limits
that we know, read, accompanied by the shipped model and written, each in a process of its own.

Prints what fell, and the longest time (of the processor) and the largest memory.
"""

import argparse
import contextlib
import functools
import io
import json
import os
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
from musegan_jax import cli
from musegan_jax import config as configs
from musegan_jax.composing import arrangement
from musegan_jax.composing import melody as melodies
from musegan_jax.data import dataset, instruments, melody_line, midi
from musegan_jax.errors import UserError
from musegan_jax.models import model_file
from musegan_jax.rendering import audio
from musegan_jax.runs import checkpoint, logging, record
from musegan_jax.terminal import shown
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


def named(name: bytes) -> bytes:
    return b"\x00\xff\x03" + bytes([len(name)]) + name


def band() -> bytes:
    """Names that move a terminal's cursor, two hands, drums, a lyric, sysex, running status."""
    hands = b"".join(
        on(0, 72 + n % 5) + on(0, 40 + n % 7) + off(240, 40 + n % 7) + off(0, 72 + n % 5)
        for n in range(24)
    )
    return smf(
        named(b"\x1b]0;mine\x07\x1b[2J\rerror: none\n") + tempo(0, 500_000) + meter(0, 6, 8) + END,
        named("Lead \u202e\u2028\x9b2J".encode()) + program(73) + hands + END,
        named(b"\xff\xfeBass\x00") + program(33, 1) + b"\x00\xff\x05\x04\x1b[1m"
        + b"\x00\xf0\x03\x7d\x01\xf7" + on(0, 36, 90, 1) + b"\x83\x60\x24\x00" + END,
        named(b"\x1b[31mKit") + on(960, 36, 99, 9) + off(10, 36, 9) + END,
    )  # fmt: skip


OPTIONS = (
    ["--keep-accompaniment"],
    ["--melody-only"],
    ["--no-keep-melody"],
    ["--no-humanise"],
    ["--keep-silence"],
    ["--key=-5"],
    ["--decoding=lines"],
    ["--track=2"],
    ["--track=\x1b[2J"],
    ["--programs=flute,48,32"],
    ["--programs=12"],
    ["--programs=\x1b[2J,piano\n"],
)


def use_midi(path: Path, model, chance: random.Random) -> str:
    """As `compose` does, but for the network: its answer is drawn."""
    score = midi.read(path)
    assert len(score.bar_lines) > 1
    audio.excerpt(score)
    track = chance.choice((*10 * [None], "2", "Lead", "\x1b[2J"))
    part = melody_line.pick_part(score, track, str(path))
    prepared = melodies.prepare(score, part, model, chance.choice((None, None, 3)))
    style = arrangement.Style(
        keep_melody=chance.random() < 0.8, humanise=chance.choice((None, 1)),
        melody_only=chance.random() < 0.3, keep_accompaniment=chance.random() < 0.5,
    )  # fmt: skip
    for line in (*melodies.remarks(model, prepared), *arrangement.remarks(prepared, style)):
        assert shown(line).isprintable()
    if prepared.steps <= 640 and chance.random() < 0.2:
        shape = (prepared.steps, model.config.pitches, len(model.tracks))
        roll = np.random.default_rng(chance.randrange(2**32)).random(shape) < 0.01
        to = path.with_suffix(".song.mid")
        midi.write(arrangement.to_midi(model, prepared, roll, style), to)
        again = midi.read(to)
        assert not again.damage, again.damage
        if style.keep_melody and not style.melody_only:
            assert any(np.array_equal(each.notes, part.notes) for each in again.parts)
    return "read, damaged" if score.damage else "read"


def compose(path: Path, model: Path, chance: random.Random) -> str:
    """The whole command, in this process: a song, or one line and status 2."""
    options = [word for words in chance.sample(OPTIONS, chance.randrange(4)) for word in words]
    command = ["compose", str(path), "--out", str(path.parent / "out"), "--model", str(model)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([*command, *options])
        except SystemExit as stop:  # argparse
            status = stop.code
    lines = (out.getvalue() + err.getvalue()).split("\n")
    assert lines.pop() == "" and all(line.isprintable() for line in lines), (options, lines)
    assert status in (0, 2) and "Traceback" not in err.getvalue(), (options, status, lines)
    assert status == 0 or err.getvalue().count("\n") == 1, (options, lines)
    return "composed" if status == 0 else "refused by the command"


def use_programs(path: Path) -> None:
    text = path.read_bytes().decode(errors="surrogateescape")
    assert all(0 <= n <= 127 for n in instruments.programs_for(text, ["A", "B"]))


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

    model_file.save(load_model(epath.Path(folder / "run")), folder / "m.safetensors")
    return config, folder / "run"


def inputs(arguments: argparse.Namespace, folder: Path) -> int:
    chance = random.Random(arguments.seed)
    config, run = make_run(folder)
    model = model_file.load(folder / "m.safetensors")
    midis = functools.partial(use_midi, model=model, chance=chance)
    small = smf(program(1) + on(0, 60) + b"\x60\x3c\x00" + END, resolution=96)
    kinds = {  # how often, good contents, what uses them
        "midi": (88, [VALID, small, band(), band()], midis),
        "dataset": (2, [(folder / "made.npz").read_bytes()], dataset.load),
        "model": (1, [(folder / "m.safetensors").read_bytes()], model_file.load),
        "record": (3, [(run / "run.json").read_bytes()], lambda p: record.read_file(epath.Path(p))),
        "log": (2, [(run / "metrics.jsonl").read_bytes()], use_lines),
        "programs": (2, [b"flute, 48", b"Acoustic Grand Piano,bass", b"0,127"], use_programs),
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
                how = use(path)
                counts[f"{name} {how if isinstance(how, str) else 'read'}"] += 1
                if name == "midi" and n % arguments.compose_every == 0:
                    counts[f"{name} {compose(path, folder / 'm.safetensors', chance)}"] += 1
            except UserError as error:
                if len(str(error)) > 10_000:
                    raise ValueError(f"a message of {len(str(error))} characters") from None
                counts[f"{name} refused"] += 1
                assert shown(error).isprintable()
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


HARMS = ("removed", "cut", "zeros", "a folder in its place", *4 * ["bytes changed"])


def harm(path: Path, how: str, chance: random.Random) -> None:
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: chance.randrange(len(content) + 1)])
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "a folder in its place":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damaged(content, chance))


def train_on(config: configs.Config, folder: Path, end: dict) -> str:
    """One more iteration of a damaged run: to the end of the whole one, or one line."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            loop.train(config, folder)
    except UserError as error:
        assert "\n" not in str(error) and str(folder) in str(error), error
        return f"refused: {str(error).replace(str(folder), 'RUN')}"
    result = record.read(epath.Path(folder)).result
    assert (result.iteration, result.fingerprint) == (4, end), "ANOTHER END"
    return "goes on, to the same end"


def make_longer(config: configs.Config, run: Path, folder: Path) -> tuple[configs.Config, dict]:
    """A config for one more iteration, and the fingerprint of the whole run at its end."""
    straight = folder / "straight"
    shutil.copytree(run, straight)
    longer = configs.override(config, ["--training.iterations=4"])
    loop.train(longer, straight)
    return longer, record.read(epath.Path(straight)).result.fingerprint


def resumes(arguments: argparse.Namespace, folder: Path) -> int:
    """A run goes on once with each kind of damage of its record and of its logs."""
    chance = random.Random(arguments.seed)
    config, run = make_run(folder)
    longer, end = make_longer(config, run, folder)
    copy, fell = folder / "copy", 0
    logs = ("metrics.jsonl", "fingerprints.jsonl")
    for names in (("run.json",), logs[:1], logs[1:], logs):
        for how in dict.fromkeys(HARMS):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            for name in names:
                harm(copy / name, how, chance)
            try:
                told = train_on(longer, copy, end)
            except Exception:
                told, fell = f"FELL: {traceback.format_exc(limit=-4)}", fell + 1
            print(f"{' and '.join(names)}, {how}: {told}", flush=True)
    return int(fell > 0)


def damages(arguments: argparse.Namespace, folder: Path) -> int:
    chance = random.Random(arguments.seed)
    config, run = make_run(folder)
    copy = folder / "copy"
    longer, end = make_longer(config, run, folder)
    good = whole(config, run, folder / "m.safetensors")
    counts: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    longest = (0.0, "")
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
        how = chance.choice(HARMS)
        hit = chance.sample(places[what], min(chance.choice((1, 1, 3)), len(places[what])))
        for path in hit:
            harm(path, how, chance)
        kind = f"{'both logs' if len(hit) == 2 else hit[0].name}, {how}"
        before = time.process_time()
        try:
            if what in ("record", "log") and trained[kind] < arguments.trainings:
                trained[kind] += 1
                told = train_on(longer, copy, end)
                counts[f"{what}, trained on: {told.partition(':')[0]}"] += 1
                print(f"{kind}: {shown(told, 300)}", flush=True)
            else:
                counts[f"{what} read" if good[what](copy) else f"{what} WRONG"] += 1
        except UserError:
            counts[f"{what} refused"] += 1
        except Exception:
            counts[f"{what} FELL"] += 1
            print(f"{kind}, {n}: {traceback.format_exc(limit=-4)}", flush=True)
        longest = max(longest, (time.process_time() - before, f"{what} {n}"))
        if n % 250 == 249:
            print(n + 1, dict(counts), f"{memory()} MB", flush=True)
    return report(counts, longest)


def whole(config: configs.Config, run: Path, model: Path) -> dict:
    """For each kind of file of a run: whether what is read of it, in another folder, is right."""
    abstract = abstract_state(config)
    marks = {
        n: checkpoint.read(epath.Path(run), n, abstract).fingerprint
        for n in checkpoint.iterations(epath.Path(run))
    }
    written = record.read(epath.Path(run))
    digest = model_file._digest(_arrays(model_file.load(model)), "")

    def of_checkpoint(copy: Path) -> bool:
        found = checkpoint.newest_valid(epath.Path(copy), abstract, lambda _: None, True)
        return found is None or found.fingerprint == marks[found.iteration]

    def of_model(copy: Path) -> bool:
        found = model_file.load(copy / "m.safetensors")
        return model_file._digest(_arrays(found), "") == digest

    def of_record(copy: Path) -> bool:
        found = record.read(epath.Path(copy))
        return found is None or found.to_dict() == written.to_dict()

    def of_log(copy: Path) -> bool:
        for name in ("metrics.jsonl", "fingerprints.jsonl"):
            logging.JsonLines(epath.Path(copy / name), 3, lambda _: None).close()
        return True

    return {"checkpoint": of_checkpoint, "model": of_model, "record": of_record, "log": of_log}


def _arrays(model) -> dict:
    from flax.traverse_util import flatten_dict

    return {name: np.asarray(a) for name, a in flatten_dict(model.variables, sep="/").items()}


def bills(arguments: argparse.Namespace, folder: Path) -> int:
    """Each in a process of its own, whose time and memory the system counts."""
    hour = tempo(0, 360_000)  # 10,000 beats
    run = b"".join(on(0, 60 + n % 5) + b"\x0a" + bytes([60 + n % 5, 0]) for n in range(29_900))
    spread = b"".join(on(1, 60 + n % 5) + off(19, 60 + n % 5) for n in range(29_800))
    keys = range(128)
    half = 1_240 * 480
    name = b"\x00\xff\x03\xb6\xf7\x20" + 900_000 * b"x"
    every = b"".join(
        on(0, 40 + n % 50, 64, n % 16) + off(7, 40 + n % 50, n % 16) for n in range(29_900)
    )
    files = {
        "a note after an hour": smf(on(480 * 7199, 60) + off(480, 60) + END),
        "the longest melody": smf(hour + on(0, 60) + off(half, 60) + END),
        "bars of 1/16": smf(meter(0, 1, 16) + hour + on(0, 60) + off(half, 60) + END),
        "all keys held": smf(
            hour + b"".join(on(0, p) for p in keys) + off(half, 0)
            + b"".join(off(0, p) for p in keys[1:]) + END
        ),
        "59,800 messages": smf(run + END),
        "59,600 messages in the longest melody": smf(hour + spread + END),
        "a name of 900 kB": smf(name + on(0, 60) + off(96, 60) + END),
        "59,000 programs": smf(59_000 * b"\x00\xc0\x01" + on(0, 60) + off(480, 60) + END),
        "a tempo at every note": smf(
            b"".join(on(0, 60) + tempo(1, 400_000 + n) + off(1, 60) for n in range(19_900)) + END
        ),
        "all channels": smf(every + END),
    }  # fmt: skip
    # As a user's second start, but that the compiled network is not kept: Python's own cache is
    # filled, and the tests' flags are not set.
    tests = ("XLA_FLAGS", "JAX_PLATFORMS", "PYTHONDONTWRITEBYTECODE")
    users = {name: value for name, value in os.environ.items() if name not in tests}
    users["PYTHONPYCACHEPREFIX"] = str(folder / "pycache")
    fell = 0
    files = {"for the cache": VALID, **files}
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
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=users)
        print(f"{name} ({len(content)} bytes): ", end="")
        try:
            status, seconds, wall, most = map(float, done.stdout.splitlines()[-1].split())
            fine = done.returncode == 0 and seconds <= WITHIN[0] and most <= WITHIN[1]
            fell += not fine and name != "for the cache"
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
    parser.add_argument("what", choices=("inputs", "damages", "resumes", "bills"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", default="fallen", help="folder for inputs that fell")
    parser.add_argument("--trainings", type=int, default=3, help="for each damage of record or log")
    parser.add_argument("--compose-every", type=int, default=2000, help="inputs to a whole command")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    kinds = {"inputs": inputs, "damages": damages, "resumes": resumes, "bills": bills}
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        return kinds[arguments.what](arguments, Path(folder))


if __name__ == "__main__":
    raise SystemExit(main())
