"""The command `musegan-jax`: parses, calls, prints. Heavy imports wait until they are needed."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import musegan_jax
from musegan_jax.errors import UserError

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 with one line on stderr."""
    if argv is None:
        _end_on_interrupt()
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not hasattr(arguments, "overrides"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.overrides = rest
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        print(f"musegan-jax: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        if argv is None and "jax" in sys.modules:
            # An orderly exit would wait for other processes that may never come, and for Orbax to
            # write what it cannot, with a traceback for each file.
            os._exit(2)
        return 2
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would flush and complain
        return 0
    except OSError as error:  # a full disk, say: nobody nearer knew more
        reason = error.strerror or " ".join(str(error).split())
        print(f"musegan-jax: {error.filename or 'writing'}: {reason}", file=sys.stderr)
        return 2


def _interrupted() -> NoReturn:
    print("musegan-jax: interrupted", file=sys.stderr, flush=True)
    # Python's own way out crashes when XLA is compiling in other threads.
    os._exit(130)


def _end_on_interrupt() -> None:
    """Let Ctrl-C end the command within two seconds, wherever it is.

    Python raises KeyboardInterrupt when its main thread comes to it: not while XLA compiles; and
    in a callback of the garbage collector it is lost. A thread hears of the signal at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            # A running training has a handler of its own: it saves first.
            if signal.getsignal(number[0]) is signal.default_int_handler:
                time.sleep(2)
                _interrupted()

    threading.Thread(target=watch, daemon=True).start()


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
    _add_fingerprint(commands)
    _add_reproduce(commands)
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
    train.add_argument("--workdir", required=True, help="folder of the run; may be gs://...")
    train.add_argument(
        "--deterministic",
        action="store_true",
        help="the same as --training.deterministic=true: on GPU, only operations that always "
        "give the same bits",
    )
    _add_processes(train)
    train.set_defaults(run=_train, overrides=[])


def _add_processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several processes (see docs/pods.md)")
    group.add_argument(
        "--distributed", action="store_true", help="this is one of several processes of the run"
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of process 0; this and the next two are not needed on Cloud TPU, SLURM, Kubernetes",
    )
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0")


def _add_fingerprint(commands: Any) -> None:
    parser = commands.add_parser(
        "fingerprint",
        help="SHA-256 of a run's state",
        description="Print SHA-256 of the parameters, statistics and optimizer states that a run "
        "has saved: two runs have the same only if every bit is the same.",
        allow_abbrev=False,
    )
    parser.add_argument("workdir", help="folder of the run")
    parser.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of iteration N (default: the newest)"
    )
    parser.set_defaults(run=_fingerprint)


def _add_reproduce(commands: Any) -> None:
    parser = commands.add_parser(
        "reproduce",
        help="train again from a run's record, and compare",
        description="Train again what RUN.json describes, and say whether the result is equal, bit "
        "for bit, or where it first differs. Exit status 0: equal; 1: it differs.",
        epilog="Fields that do not change the run can be set, for example "
        "--data.dataset=elsewhere.npz or --parallel.strategy=jit.",
        allow_abbrev=False,
    )
    parser.add_argument("record", metavar="RUN.json", help="the run.json of a run")
    parser.add_argument(
        "--workdir", help="an empty folder for the new run (default: one that is removed again)"
    )
    _add_processes(parser)
    parser.set_defaults(run=_reproduce, overrides=[])


def _add_compose(commands: Any) -> None:
    compose = commands.add_parser(
        "compose",
        help="accompany a melody",
        description="Write an accompanied MELODY as MIDI, WAV and PNG.",
        allow_abbrev=False,
    )
    compose.add_argument("melody", help="a MIDI file, or twinkle or ode_to_joy")
    compose.add_argument("--workdir", required=True, help="folder of a training run")
    compose.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of iteration N (default: the newest)"
    )
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
    if arguments.deterministic:
        settings = config.override(settings, ["--training.deterministic=true"])
    with _processes(arguments, settings):
        from musegan_jax.training.loop import train

        for path in train(settings, arguments.workdir):
            print(path)


@contextlib.contextmanager
def _processes(arguments: Arguments, settings: Any) -> Iterator[None]:
    """The environment that a training needs: flags, the other processes, a quiet Orbax."""
    from musegan_jax.training import determinism, distributed

    determinism.enable(settings)
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


def _fingerprint(arguments: Arguments) -> None:
    from musegan_jax import files
    from musegan_jax.training.checkpoint import open_run

    _quieten_orbax()
    _, saved = open_run(files.locate(arguments.workdir), _say, arguments.step)
    print(f"{'iteration':<17} {saved.state.step}")
    for name, digest in saved.fingerprint.items():
        print(f"{name:<17} {digest}")


def _reproduce(arguments: Arguments) -> int:
    from musegan_jax import files

    if arguments.distributed and not arguments.workdir:
        raise UserError("--distributed needs --workdir: a folder that all processes share")
    from musegan_jax.training import reproduce

    path = files.locate(arguments.record)
    run, settings = reproduce.plan(path, arguments.overrides)
    with _processes(arguments, settings), contextlib.ExitStack() as stack:
        workdir = arguments.workdir or stack.enter_context(tempfile.TemporaryDirectory())
        equal, lines = reproduce.reproduce(path, run, settings, files.locate(workdir))
    for line in lines:
        print(line)
    return 0 if equal else 1


def _compose(arguments: Arguments) -> None:
    for name, low, high in (("samples", 1, 1000), ("seed", 0, 2**32 - 1)):
        if not low <= getattr(arguments, name) <= high:
            raise UserError(f"--{name} must be from {low} to {high}")
    from musegan_jax import compose, files
    from musegan_jax.training.checkpoint import load_model

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
