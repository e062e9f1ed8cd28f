"""What each command of `musegan-jax data` does; as `commands`."""

import argparse
import os
from pathlib import Path
from typing import Any

from musegan_jax import limits
from musegan_jax.config import DECODING
from musegan_jax.errors import UserError
from musegan_jax.terminal import say, show

Arguments = argparse.Namespace
FEW = 200  # files that take less time than processes take to start


def check(arguments: Arguments, *names: str) -> None:
    """Check these options, and `--decoding` if there is one, before anything heavy is imported."""
    for name in names:
        value, option = getattr(arguments, name), f"--{name.replace('_', '-')}"
        if value is not None:
            limits.within(name, value, option)
    if hasattr(arguments, "decoding"):
        limits.one_of("--decoding", arguments.decoding, DECODING)


def _check_out(out: Path) -> None:
    """Refuse before the work, not after it."""
    if out.suffix != ".npz":
        raise UserError(f"{out}: a dataset file is called something.npz")
    if not out.parent.is_dir():
        what = "not a folder" if out.parent.exists() else "no such folder"
        raise UserError(f"{out.parent}: {what} to write into; make it, or name another")


def build_built_in(arguments: Arguments) -> None:
    """Make a dataset file of music in the installed music21."""
    _check_out(arguments.out)
    from musegan_jax.data import sources

    _save(*sources.BUILT_IN[arguments.source](), arguments.out)


def _options(arguments: Arguments, families: Any = None) -> Any:
    """How songs become pieces."""
    _check_out(arguments.out)
    check(arguments, *("parts",) * hasattr(arguments, "parts"), "steps_per_beat")
    from musegan_jax.data.readers.songs import FAMILIES, Options

    return Options(
        parts=getattr(arguments, "parts", None),
        steps_per_beat=arguments.steps_per_beat,
        melody=None if arguments.melody == "auto" else arguments.melody,
        families=families or FAMILIES,
    )


def build_midi(arguments: Arguments) -> None:
    """Make a dataset file of a folder of MIDI files."""
    options = _options(arguments)
    from musegan_jax.data.readers.midi_folder import MIDI

    _build_folder(arguments, MIDI, options)


def build_score(arguments: Arguments) -> None:
    """Make a dataset file of a folder of MusicXML, ABC and kern files."""
    options = _options(arguments)
    from musegan_jax.data.readers import scores

    scores.check_installed()
    _build_folder(arguments, scores.KIND, options)


def build_lpd(arguments: Arguments) -> None:
    """Make a dataset file of a folder of pypianoroll's files."""
    from musegan_jax.data.readers.lpd import KIND, layout

    _build_folder(arguments, KIND, _options(arguments, layout(arguments.families)))


def _build_folder(arguments: Arguments, kind: Any, options: Any) -> None:
    """Make a dataset file of a folder: of few files of bounded cost here, else in processes."""
    from musegan_jax.data import shards
    from musegan_jax.data.readers.folder_build import building
    from musegan_jax.data.readers.midi_folder import files_below, read_folder

    check(arguments, "workers")
    shard = _shard(arguments.shard)
    here = kind.bounded and shard is None and arguments.workers is None
    if here and len(files_below(arguments.folder, kind)) <= FEW:
        _save_reading(read_folder(arguments.folder, kind, options), arguments.out)
        return
    processes = arguments.workers or _processors()
    with building(arguments.folder, kind, options, arguments.out, processes, shard) as built:
        (dataset, skipped, remarks), facts = built
        about = None if shard is None else shards.about(shard, options, facts)
        _save(dataset, skipped, arguments.out, remarks, about)


def _processors() -> int:
    """Those that this process may use, at most as many as `--workers` may be."""
    few = getattr(os, "sched_getaffinity", None)  # on Linux
    count = len(few(0)) if few else os.cpu_count() or 1
    return min(count, limits.LIMITS["workers"][1])


def _shard(text: str | None) -> tuple[int, int] | None:
    """`2/8` as numbers."""
    if text is None:
        return None
    numbers = [int(part) for part in text.split("/") if part.isascii() and part.isdecimal()]
    if len(numbers) != 2 or text.count("/") != 1 or not 1 <= numbers[0] <= numbers[1]:
        raise UserError(f"--shard {text}: it is I/N, the Ith of N parts, such as 2/8")
    return numbers[0], numbers[1]


def build_musegan(arguments: Arguments) -> None:
    """Make a dataset file of musegan's phrases."""
    from musegan_jax.data.readers import lpd, musegan

    options = _options(arguments, lpd.FIVE)
    _save_reading(musegan.read_musegan(arguments.file, options), arguments.out)


def build_jsb(arguments: Arguments) -> None:
    """Make a dataset file of a file of the JSB chorales."""
    _check_out(arguments.out)
    check(arguments, "steps_per_beat")
    from musegan_jax.data.readers.jsb import read_jsb

    reading = read_jsb(arguments.file, arguments.steps_per_beat, arguments.pickled)
    _save_reading(reading, arguments.out)


def merge(arguments: Arguments) -> None:
    """Join dataset files."""
    _check_out(arguments.out)
    from musegan_jax.data.dataset import load
    from musegan_jax.data.merge import merge as join

    dataset, remarks = join([load(path) for path in arguments.files], arguments.files)
    _save(dataset, [], arguments.out, remarks)


FORMATS = ("midi", "musicxml", "pypianoroll")


def export_pieces(arguments: Arguments) -> None:
    """Write a dataset's pieces as files."""
    from musegan_jax.data import sources
    from musegan_jax.data.export import export
    from musegan_jax.data.readers.scores import check_installed

    if arguments.format == "musicxml":
        check_installed()
    dataset = sources.load(arguments.dataset)
    count = sum(1 for _ in export(dataset, arguments.out, arguments.format))
    print(f"pieces  {count}")
    show(arguments.out)


def _save_reading(reading: Any, out: Path) -> None:
    _save(reading.dataset, reading.skipped, out, reading.remarks)


def _save(dataset, skipped, out: Path, remarks=(), shard=None) -> None:  # noqa: ANN001 - modules load later
    from musegan_jax.data.dataset import save
    from musegan_jax.data.readers import skipped as reports
    from musegan_jax.data.summary import describe, shortcomings

    save(dataset, out, shard)
    # Tracks that are silent in a part of a build may have notes in others.
    lacks = shortcomings(dataset) if shard is None or not dataset.names else ()
    for line in (*remarks, *lacks):
        say(line)
    report = out.with_suffix(".skipped.txt")
    if skipped:
        reports.write_report(skipped, report)
        for line in reports.summarise(skipped):
            say(line)
        say(f"{len(skipped)} files skipped; all of them are named in {report}")
    else:
        report.unlink(missing_ok=True)
    print(describe(dataset))
    show(out)


def info(arguments: Arguments) -> None:
    """Describe a dataset file, and draw some of it."""
    from musegan_jax.data.dataset import load
    from musegan_jax.data.summary import describe, shortcomings

    dataset = load(arguments.file)
    print(describe(dataset))
    for line in shortcomings(dataset):
        say(line)
    if arguments.picture is not None and dataset.names:
        from musegan_jax.rendering.plots import passages

        passages(dataset, arguments.picture)
        show(arguments.picture)
