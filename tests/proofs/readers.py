"""Damaged and hostile files for every reader: a dataset or one clear line, and nothing else.

    python tests/proofs/readers.py [--minutes 10] [--seed 0] [--only lpd,jsb]

makes small good files of each format, changes them at random (bytes; members of zips; arrays of
other shapes and dtypes; other values in JSON; pieces of text), and reads them as `data build` does.
A failure is an exception that is no `UserError`, a message of several lines, a file that takes more
than `SECONDS` of a processor, or one that makes the process grow by more than `GROWTH`. Each
distinct failure is printed once, and its file kept. It prints, for each format, inputs, failures,
the slowest file, and the growth of memory; the exit status is 1 if there was a failure.
"""

import argparse
import collections
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from musegan_jax.data import notation
from musegan_jax.data.readers import jsb, lpd, midi_folder, musegan, scores
from musegan_jax.data.readers.songs import NO_MELODY, Options
from musegan_jax.errors import UserError
from test_formats import ABC, KERN, band, phrases, polyphonic, write_lpd, write_phrases

SECONDS = 20
GROWTH = 512 * 2**20  # bytes
OPTIONS = Options(melody=NO_MELODY, families=lpd.FIVE)


def read_folder(kind):
    def read(path: Path) -> None:
        midi_folder.read_folder(path.parent, kind, OPTIONS)

    return read


SCORE = midi_folder.Kind("score", scores.SUFFIXES, scores.read)
READERS = {  # name -> (suffix, how it is read)
    "midi": (".mid", read_folder(midi_folder.MIDI)),
    "lpd": (".npz", read_folder(lpd.KIND)),
    "jsb-json": (".json", lambda path: jsb.read_jsb(path)),
    "jsb-npz": (".npz", lambda path: jsb.read_jsb(path)),
    "jsb-pickled": (".npz", lambda path: jsb.read_jsb(path, pickled=True)),
    "musegan": (".npz", lambda path: musegan.read_musegan(path, OPTIONS)),
    "musicxml": (".musicxml", read_folder(SCORE)),
    "mxl": (".mxl", read_folder(SCORE)),
    "abc": (".abc", read_folder(SCORE)),
    "kern": (".krn", read_folder(SCORE)),
}
SLOW = {"musicxml", "mxl", "abc", "kern"}  # of music21, milliseconds to a second each


def good_files(folder: Path) -> dict[str, bytes]:
    """A small good file of each format."""
    made = {name: folder / f"{name}{suffix}" for name, (suffix, _) in READERS.items()}
    write_lpd(made["lpd"], band(0, bars=2))
    write_phrases(made["musegan"], phrases(3))
    piece = [[72, 67, 60, 48], [74, 67, -1, 48]] * 8
    made["jsb-json"].write_text(json.dumps({"train": [piece, piece], "test": [piece]}))
    np.savez(made["jsb-npz"], train=np.array([piece, piece], np.float16))
    objects = np.empty(2, object)
    objects[:] = [np.array(piece, np.float16), np.array(piece[:3], np.float16)]
    np.savez(made["jsb-pickled"], train=objects)
    score = polyphonic()
    score.midi.save(made["midi"])
    notation.write(score, made["musicxml"], "song", 4)
    with zipfile.ZipFile(made["mxl"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>',
        )
        archive.writestr("a.xml", made["musicxml"].read_bytes())
    made["abc"].write_text(ABC)
    made["kern"].write_text(KERN)
    return {name: path.read_bytes() for name, path in made.items()}


def change(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.choice((1, 4, 100))]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 50))))
        elif kind == 3:
            size = rng.choice((10, 100, 1000))
            data[at:at] = data[rng.randrange(len(data) + 1) :][:size]
        elif kind == 4 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


TOKENS = "0 1 -1 127 128 255 65536 99999999 1e9 1e400 NaN null true {} [] / | : ] [ = * < >".split()


def change_text(content: bytes, rng: random.Random) -> bytes:
    """Numbers and words of a text replaced, lines doubled, moved or left out."""
    lines = content.decode(errors="replace").split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        n = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            lines[n:n] = lines[rng.randrange(len(lines)) :][: rng.choice((1, 5, 40))]
        elif kind == 1 and len(lines) > 3:
            del lines[n : n + rng.choice((1, 3))]
        else:
            words = lines[n].replace(">", "> ").replace("<", " <").split(" ")
            words[rng.randrange(len(words))] = rng.choice(TOKENS)
            lines[n] = " ".join(words)
    return "\n".join(lines or [""]).encode()


def any_json(rng: random.Random, depth: int = 0) -> object:
    """Any value of JSON."""
    if depth < 3 and rng.random() < 0.3:
        return [any_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return rng.choice(
        [None, True, 0, 1, -1, 24, 1.5, 2**31, 2**70, -(2**63), float("nan"), "", "x", "9" * 5000,
         "\ud800", {}, {"0": 1}, [], [[]]]
    )  # fmt: skip


def change_json(content: bytes, rng: random.Random) -> bytes:
    """A value somewhere replaced, a key doubled or left out."""
    try:
        value = json.loads(content)
    except ValueError:  # of a file that was changed before
        return change(content, rng)
    place = value
    while isinstance(place, (dict, list)) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if rng.random() < 0.3 or not isinstance(place[key], (dict, list)):
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = any_json(rng)
            break
        place = place[key]
    if isinstance(value, dict) and rng.random() < 0.1:
        value |= {str(n): any_json(rng) for n in range(rng.choice((1, 300, 5000)))}
    return json.dumps(value).encode()


def any_array(rng: random.Random) -> bytes:
    """An array of any shape and dtype; its header may lie."""
    shape = tuple(rng.choice((0, 1, 2, 5, 48, 84, 128, 129)) for _ in range(rng.randrange(4)))
    dtype = rng.choice("? i1 u1 i4 i8 u8 f2 f4 f8 c8 U3 S2 M8[s] i4,i4".split())
    array = np.zeros(min(int(np.prod(shape)), 10**6), dtype)
    if array.dtype.kind in "iuf":
        array[:] = rng.choice((0, 1, 60, 127))
        if array.size and rng.random() < 0.5:
            array[rng.randrange(array.size)] = (
                rng.choice((-1, 0, 1, 2**15, np.inf))
                if (array.dtype.kind == "f")
                else rng.choice((0, 1, 100, 127))
            )
    buffer = io.BytesIO()
    if array.size == int(np.prod(shape)):
        array = array.reshape(shape)
    np.lib.format.write_array(buffer, array)
    content = buffer.getvalue()
    if rng.random() < 0.3:
        content = content.replace(
            b"'shape': (", b"'shape': (" + rng.choice((b"9999999, ", b"-1,", b""))
        )
    return content


def change_zip(content: bytes, rng: random.Random) -> bytes:
    """A member replaced, changed, doubled, left out or filled with zeros."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.choice((1, 1, 2))):
        if not members:
            break
        n = rng.randrange(len(members))
        name, data = members[n]
        kind = rng.randrange(7)
        if kind == 0:
            del members[n]
        elif kind == 1:
            members[n] = (name, members[rng.randrange(len(members))][1])
        elif kind == 2:
            members[n] = (name, data + bytes(rng.choice((1, 1000, 10**6))))
        elif kind == 3 and name.endswith(".npy"):
            members[n] = (name, any_array(rng))
        elif name.endswith(".json"):
            members[n] = (name, change_json(data, rng))
        elif name.endswith(".npy") and rng.random() < 0.7 and len(data) > 128:
            members[n] = (name, data[:128] + change(data[128:], rng)[: len(data) - 128])
        elif name.endswith(".xml") and rng.random() < 0.7:
            members[n] = (name, change_text(data, rng))
        else:
            members[n] = (name, change(data, rng))
    buffer = io.BytesIO()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of members of one name
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, data in members:
                archive.writestr(name, data)
    return buffer.getvalue()


def changed(name: str, content: bytes, rng: random.Random) -> bytes:
    """A bad file made of a good one."""
    suffix = READERS[name][0]
    if rng.random() < 0.3:
        return change(content, rng)
    if suffix in (".npz", ".mxl"):
        return change_zip(content, rng)
    if suffix == ".json":
        return change_json(content, rng)
    return change(content, rng) if suffix == ".mid" else change_text(content, rng)


def attempt(name: str, path: Path) -> tuple[str, str]:
    """Read a file: "read", "refused", or what is wrong, in a line and in full."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    outcome, full = "read", ""
    try:
        READERS[name][1](path)
    except UserError as error:
        outcome = "refused"
        if "\n" in str(error) or not str(error):
            outcome, full = "FAILURE: several lines", str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "musegan_jax" in f.filename][-1:]
        place = f"{Path(ours[0].filename).name}:{ours[0].lineno}" if ours else "?"
        outcome = f"FAILURE: {type(error).__name__} at {place}"
        full = "".join(traceback.format_exception(error))
    if time.process_time() - start > SECONDS:
        outcome = f"FAILURE: more than {SECONDS} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > GROWTH:
        outcome = f"FAILURE: memory grew by more than {GROWTH >> 20} MiB"
    return outcome, full


def main() -> int:
    """Run it; see the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(READERS))
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        good = good_files(Path(scratch))
        kept = Path(tempfile.gettempdir()) / "readers-failures"
        for name in names:
            rng = random.Random(f"{arguments.seed} {name}")
            folder = Path(scratch) / f"{name}-in"
            folder.mkdir()
            path = folder / f"file{READERS[name][0]}"
            outcomes: collections.Counter[str] = collections.Counter()
            slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            path.write_bytes(good[name])
            assert attempt(name, path)[0] == "read", name
            until = time.monotonic() + 60 * arguments.minutes / len(names)
            while time.monotonic() < until:
                path.write_bytes(changed(name, good[name], rng))
                start = time.process_time()
                outcome, full = attempt(name, path)
                slowest = max(slowest, time.process_time() - start)
                if outcome.startswith("FAILURE") and not outcomes[outcome]:
                    failed = True
                    kept.mkdir(exist_ok=True)
                    copy = kept / f"{name}-{len(outcomes)}{READERS[name][0]}"
                    copy.write_bytes(path.read_bytes())
                    # What it says of a file may be no text that a terminal can show.
                    shown = full.encode(errors="backslashreplace").decode()
                    print(f"{name}: {outcome} ({copy})\n{shown}", flush=True)
                outcomes[outcome] += 1
            distinct = sum(outcome.startswith("FAILURE") for outcome in outcomes)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(
                f"{name:<12} {outcomes.total():>7} inputs, {outcomes['read']} read, "
                f"{outcomes['refused']} refused, {distinct} distinct failures; "
                f"slowest {slowest:.2f} s; memory grew by {grown // 1024} MiB",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
