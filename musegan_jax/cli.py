"""The command `musegan-jax`: parses, calls, prints. Heavy imports wait until they are needed."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import musegan_jax
from musegan_jax.errors import UserError

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 with one line on stderr."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.overrides = rest
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"musegan-jax: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("musegan-jax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would flush and complain
        return 0
    except OSError as error:  # a full disk, say: nobody nearer knew more
        print(f"musegan-jax: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """Errors on one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="musegan-jax",
        description="Train accompaniment GANs, and turn a melody into an accompanied piece.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=musegan_jax.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_train(commands)
    _add_compose(commands)
    _add_data(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a model, or go on training it",
        description="Train the run that CONFIG describes in WORKDIR; where WORKDIR holds it "
        "already, go on from its newest checkpoint.",
        epilog="Any field of the config can be set by its dotted name, for example "
        "--training.batch_size=32 or --data.dataset=mine.npz.",
        allow_abbrev=False,
    )
    train.add_argument("--config", required=True, type=Path, help="a file of configs/, or yours")
    train.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    train.set_defaults(run=_train, overrides=[])


def _add_compose(commands: Any) -> None:
    compose = commands.add_parser(
        "compose",
        help="accompany a melody",
        description="Write an accompanied MELODY as MIDI, WAV and PNG.",
        allow_abbrev=False,
    )
    compose.add_argument("melody", help="a MIDI file, or twinkle or ode_to_joy")
    compose.add_argument("--workdir", required=True, type=Path, help="folder of a training run")
    compose.add_argument("--out", required=True, type=Path, help="folder to write into")
    compose.add_argument(
        "--track",
        help="the melody's track: its name, or its number among those with pitched notes, from 1",
    )
    compose.add_argument(
        "--samples", type=int, default=1, metavar="N", help="flavours to write (default 1)"
    )
    compose.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    compose.set_defaults(run=_compose)


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="build and inspect datasets", allow_abbrev=False)
    actions = data.add_subparsers(required=True, metavar="ACTION", dest="action")
    build = actions.add_parser("build", help="make a dataset file", allow_abbrev=False)
    kinds = build.add_subparsers(required=True, metavar="SOURCE", dest="source")
    chorales = kinds.add_parser(
        "chorales", help="Bach's chorales in the installed music21", allow_abbrev=False
    )
    chorales.set_defaults(run=_build_chorales)
    folder = kinds.add_parser("midi", help="a folder of MIDI files", allow_abbrev=False)
    folder.add_argument("folder", type=Path, help="searched with all folders below it")
    folder.add_argument(
        "--parts",
        type=int,
        metavar="N",
        help="take the first N pitched parts of each file as the tracks; without it, parts are "
        "sorted by program into Piano, Guitar, Bass, Strings and Drums",
    )
    folder.add_argument(
        "--steps-per-beat", type=int, default=4, metavar="N", help="grid (default 4: sixteenths)"
    )
    folder.set_defaults(run=_build_midi)
    for kind in (chorales, folder):
        kind.add_argument("--out", required=True, type=Path, help="the .npz file to write")
    info = actions.add_parser("info", help="describe a dataset file", allow_abbrev=False)
    info.add_argument("file", type=Path)
    info.set_defaults(run=_info)


def _train(arguments: Arguments) -> None:
    from musegan_jax import config

    settings = config.override(config.load(arguments.config), arguments.overrides)
    from musegan_jax.training.loop import train

    # Orbax logs the traceback of an error that it also raises, and we say in one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    for path in train(settings, arguments.workdir):
        print(path)


def _compose(arguments: Arguments) -> None:
    for name, low, high in (("samples", 1, 1000), ("seed", 0, 2**32 - 1)):
        if not low <= getattr(arguments, name) <= high:
            raise UserError(f"--{name} must be from {low} to {high}")
    from musegan_jax import compose, files
    from musegan_jax.training.checkpoint import load_model

    score = compose.load_melody(arguments.melody)
    part = compose.pick_part(score, arguments.track, arguments.melody)
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    model = load_model(arguments.workdir)
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
        name = stem if arguments.samples == 1 else f"{stem}-{sample + 1}"
        for path in compose.write_song(song, arguments.out, name, f"{name}, seed {arguments.seed}"):
            print(path)


def _check_out(out: Path) -> None:
    """Refuse before the work, not after it."""
    if out.suffix != ".npz":
        raise UserError(f"{out}: a dataset file is called something.npz")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder to write into; make it, or name another")


def _build_chorales(arguments: Arguments) -> None:
    _check_out(arguments.out)
    from musegan_jax.data.chorales import read_chorales

    _save(*read_chorales(), arguments.out)


def _build_midi(arguments: Arguments) -> None:
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


def _info(arguments: Arguments) -> None:
    from musegan_jax.data.dataset import describe, load

    print(describe(load(arguments.file)))


if __name__ == "__main__":
    raise SystemExit(main())
