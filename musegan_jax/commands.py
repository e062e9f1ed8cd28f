"""What each command does: calls the rest and prints. Heavy imports wait until they are needed."""

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musegan_jax.errors import UserError

Arguments = argparse.Namespace


def train(arguments: Arguments) -> None:
    """Train, and print the files of the last samples."""
    from musegan_jax import config

    settings = config.override(config.load(arguments.config), arguments.overrides)
    if arguments.deterministic:
        settings = config.override(settings, ["--training.deterministic=true"])
    with _processes(arguments, settings):
        from musegan_jax.training.loop import train

        for path in train(settings, arguments.workdir):
            print(path)


@contextlib.contextmanager
def _processes(arguments: Arguments, settings: Any) -> Iterator[None]:
    """The environment that a training needs: flags, the other processes, a quiet Orbax."""
    from musegan_jax import compilation_cache
    from musegan_jax.training import determinism, distributed

    determinism.enable(settings)
    if not settings.training.deterministic:
        # On a GPU a kept program holds choices that were made by timing, once.
        compilation_cache.keep()
    _quieten_orbax()
    options = (arguments.coordinator, arguments.processes, arguments.process_id)
    if not arguments.distributed and options != (None, None, None):
        raise UserError("--coordinator, --processes and --process-id need --distributed")
    with distributed.joined(*options) if arguments.distributed else contextlib.nullcontext():
        yield


def _quieten_orbax() -> None:
    """Orbax and TensorStore print tracebacks of errors that they also raise: we say one line."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # From callbacks whose event loop has gone, one for each array of a failed save.
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def fingerprint(arguments: Arguments) -> None:
    """Print the fingerprint of a checkpoint."""
    from musegan_jax import files
    from musegan_jax.training.checkpoint import open_run

    _quieten_orbax()
    _, saved = open_run(files.locate(arguments.workdir), _say, arguments.step)
    print(f"{'iteration':<17} {saved.state.step}")
    for name, digest in saved.fingerprint.items():
        print(f"{name:<17} {digest}")


def reproduce(arguments: Arguments) -> int:
    """Train again from a record, print how it compares; returns 0 if equal, else 1."""
    from musegan_jax import files

    if arguments.distributed and not arguments.workdir:
        raise UserError("--distributed needs --workdir: a folder that all processes share")
    from musegan_jax.training import reproduce as again

    path = files.locate(arguments.record)
    run, settings = again.plan(path, arguments.overrides)
    with _processes(arguments, settings), contextlib.ExitStack() as stack:
        workdir = arguments.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        equal, lines = again.reproduce(path, run, settings, files.locate(workdir))
    for line in lines:
        print(line)
    return 0 if equal else 1


def compose(arguments: Arguments) -> None:
    """Accompany a melody, and print the files."""
    for name, low, high in (("samples", 1, 1000), ("seed", 0, 2**32 - 1)):
        if not low <= getattr(arguments, name) <= high:
            raise UserError(f"--{name} must be from {low} to {high}")
    from musegan_jax import compilation_cache, compose, files
    from musegan_jax.training.checkpoint import load_model

    compilation_cache.keep()

    score = compose.load_melody(arguments.melody)
    part = compose.pick_part(score, arguments.track, arguments.melody)
    _quieten_orbax()
    model = load_model(files.locate(arguments.workdir), _say, arguments.step)
    melody = compose.prepare(score, part, model)
    files.make_folder(arguments.out)
    for line in compose.remarks(model, melody):
        print(line, file=sys.stderr)
    from musegan_jax.rendering import audio

    if audio.soundfont_player() is None:
        print("sound: simple waves; the extra `audio` gives instruments", file=sys.stderr)
    stem = Path(arguments.melody).stem
    for sample in range(arguments.samples):
        roll = compose.generate(model, melody, arguments.seed, sample)
        song = compose.to_midi(model, melody, roll)
        if not compose.has_accompaniment(song):
            _say(
                "the accompaniment is empty: the network left it silent, or the melody is so low "
                "that nothing fits below it"
            )
        name = stem if arguments.samples == 1 else f"{stem}-{sample + 1}"
        for path in compose.write_song(song, arguments.out, name, f"{name}, seed {arguments.seed}"):
            print(path)


def _check_out(out: Path) -> None:
    """Refuse before the work, not after it."""
    if out.suffix != ".npz":
        raise UserError(f"{out}: a dataset file is called something.npz")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder to write into; make it, or name another")


def build_chorales(arguments: Arguments) -> None:
    """Make a dataset file of Bach's chorales."""
    _check_out(arguments.out)
    from musegan_jax.data.chorales import read_chorales

    _save(*read_chorales(), arguments.out)


def build_midi(arguments: Arguments) -> None:
    """Make a dataset file of a folder of MIDI files."""
    _check_out(arguments.out)
    for name, low, high in (("parts", 1, 16), ("steps_per_beat", 1, 96)):
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} must be from {low} to {high}")
    from musegan_jax.data import sources

    built = sources.read_midi_folder(arguments.folder, arguments.parts, arguments.steps_per_beat)
    _save(*built, arguments.out)


def _save(dataset, skipped, out: Path) -> None:  # noqa: ANN001 - their modules load later
    from musegan_jax.data import sources
    from musegan_jax.data.dataset import describe, save

    save(dataset, out)
    report = out.with_suffix(".skipped.txt")
    if skipped:
        sources.write_report(skipped, report)
        for line in sources.summarise(skipped):
            print(line, file=sys.stderr)
        print(f"{len(skipped)} files skipped; all of them are named in {report}", file=sys.stderr)
    else:
        report.unlink(missing_ok=True)
    print(describe(dataset))
    print(out)


def info(arguments: Arguments) -> None:
    """Describe a dataset file."""
    from musegan_jax.data.dataset import describe, load

    print(describe(load(arguments.file)))
