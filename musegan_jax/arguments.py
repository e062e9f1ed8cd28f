"""The options of the command `musegan-jax`."""

import argparse
from typing import Any, NoReturn

import musegan_jax
from musegan_jax import commands, config
from musegan_jax.data_arguments import add_data, named, path
from musegan_jax.studio import command as studio
from musegan_jax.terminal import say


class _Parser(argparse.ArgumentParser):
    """Errors on one line, and no abbreviations: a new option would change what they mean."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message}; see {self.prog} --help")
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, a function of `commands`."""
    parser = _Parser(
        prog="musegan-jax",
        description="Train accompaniment GANs, and turn a melody into an accompanied piece.",
    )
    parser.add_argument("--version", action="version", version=musegan_jax.__version__)
    _add_debug(parser, False)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_train(subparsers)
    _add_compose(subparsers)
    studio.add(subparsers)
    _add_evaluate(subparsers)
    _add_export(subparsers)
    add_data(subparsers)
    _add_fingerprint(subparsers)
    _add_reproduce(subparsers)
    _add_doctor(subparsers)
    for each in subparsers.choices.values():
        # Without a default of its own, or it would undo what was said before the command.
        _add_debug(each, argparse.SUPPRESS)
    return parser


def _add_debug(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show the traceback of an error"
    )


def _add_train(subparsers: Any) -> None:
    train = subparsers.add_parser(
        "train",
        help="train a model, or go on training it",
        description="Train the run that CONFIG describes in WORKDIR; where WORKDIR holds\nit "
        "already, go on from its newest checkpoint.",
        epilog=config.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "--config",
        required=True,
        type=named,
        help=f"{', '.join(config.shipped())}, or a Python file with get_config()",
    )
    train.add_argument(
        "--workdir", required=True, type=named, help="folder of the run; may be gs://..."
    )
    train.add_argument(
        "--deterministic",
        action="store_true",
        help="the same as --training.deterministic=true: on GPU, only operations that always "
        "give the same bits",
    )
    train.add_argument(
        "--profile",
        metavar="FIRST:END",
        help="write a trace of these iterations, as 100:110, for TensorBoard and Perfetto",
    )
    train.add_argument(
        "--stopped-status",
        type=int,
        choices=range(256),
        default=0,
        metavar="N",
        help="exit status after a signal stopped the run early and it saved (0); another one for "
        "clusters that start again only what failed",
    )
    _add_processes(train)
    train.set_defaults(run=commands.train, overrides=[])


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


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workdir", type=named, help="folder of a training run (default: the shipped model)"
    )
    _add_step(parser)
    parser.add_argument(
        "--model",
        type=named,
        metavar="FILE",
        help="a model file of `export`, or one that comes with the package: chorales",
    )
    parser.add_argument(
        "--decoding",
        default=config.OutputConfig.decoding,
        metavar="RULE",
        help=config.OutputConfig.__dataclass_fields__["decoding"].metadata["meaning"]
        + " (default %(default)s)",
    )


def _add_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of iteration N (default: the newest)"
    )


def _add_fingerprint(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fingerprint",
        help="SHA-256 of a run's state",
        description="Print SHA-256 of the parameters, statistics and optimizer states that a run "
        "has saved: two runs have the same only if every bit is the same.",
    )
    parser.add_argument("workdir", type=named, help="folder of the run")
    _add_step(parser)
    parser.set_defaults(run=commands.fingerprint)


def _add_reproduce(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "reproduce",
        help="train again from a run's record, and compare",
        description="Train again what RUN.json describes, and say whether the result is equal, bit "
        "for bit, or where it first differs. Exit status 0: equal; 1: it differs.",
        epilog="Fields that do not change the run can be set, for example "
        "--data.dataset=elsewhere.npz or --parallel.strategy=jit.",
    )
    parser.add_argument("record", metavar="RUN.json", help="the run.json of a run")
    parser.add_argument(
        "--workdir", help="an empty folder for the new run (default: one that is removed again)"
    )
    _add_processes(parser)
    parser.set_defaults(run=commands.reproduce, overrides=[])


def _add_doctor(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="measure this set-up, and say what is slow about it",
        description="Measure for some seconds what the devices, the connection between them and "
        "the disk can do, and say what makes training slow here.",
    )
    parser.add_argument(
        "--workdir", type=named, help="a folder or bucket to measure; it is made if missing"
    )
    _add_processes(parser)
    parser.set_defaults(run=commands.doctor)


def _add_compose(subparsers: Any) -> None:
    compose = subparsers.add_parser(
        "compose",
        help="accompany a melody",
        description="Write an accompanied MELODY as MIDI, WAV and PNG.",
    )
    compose.add_argument(
        "melody",
        type=named,
        help="a MIDI file, MusicXML, ABC or kern (by music21), or twinkle, ode_to_joy, korobeiniki",
    )
    _add_model(compose)
    compose.add_argument("--out", required=True, type=path, help="folder to write into")
    compose.add_argument(
        "--track",
        help="the melody's track: its name, or its number among those with pitched notes, from 1",
    )
    compose.add_argument(
        "--samples", type=int, default=1, metavar="N", help="flavours to write (default 1)"
    )
    compose.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    compose.add_argument(
        "--between",
        type=int,
        nargs=2,
        metavar="SEED",
        help="instead of flavours of one seed: a walk from the flavour of one to that of another",
    )
    compose.add_argument("--steps", type=int, metavar="N", help="places on the walk (default 5)")
    compose.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="size of the noise: 0 for none, above 1 and flavours stray further (default 1)",
    )
    compose.add_argument(
        "--key",
        type=int,
        metavar="SEMITONES",
        help="transpose the melody by this many semitones for the network (down: --key=-5), and "
        "its answer back (default: by octaves into the range that it knows)",
    )
    compose.add_argument(
        "--programs",
        metavar="P,P,...",
        help="General MIDI programs of the generated tracks, 0 to 127 or names such as flute "
        "(default: the model's)",
    )
    compose.add_argument(
        "--keep-melody",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the melody as it is in the file (default), or as the network plays it",
    )
    compose.add_argument(
        "--melody-only",
        action="store_true",
        help="of the melody's track keep the melody line alone, without chords or a left hand",
    )
    compose.add_argument(
        "--keep-accompaniment",
        action="store_true",
        help="let the other tracks of the file, drums too, sound beside the answer",
    )
    compose.add_argument(
        "--keep-silence",
        action="store_true",
        help="sound and picture from the beginning of the file, not from a bar before the first "
        "note",
    )
    compose.add_argument(
        "--humanise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="accents on bar lines and beats, small random changes of loudness and timing "
        "(default), or none",
    )
    compose.add_argument(
        "--musicxml", action="store_true", help="write a score for notation programs, too"
    )
    compose.set_defaults(run=commands.compose)


def _add_export(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="a run's generator as one file",
        description="Write what `compose --model` needs of a run: the (averaged) parameters in "
        "half precision and the statistics, with a hash.",
    )
    parser.add_argument("workdir", type=named, help="folder of the run")
    _add_step(parser)
    parser.add_argument(
        "--out",
        required=True,
        type=path,
        help="the .safetensors file to write",
    )
    parser.set_defaults(run=commands.export)


def _add_evaluate(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model against held-out music",
        description="Accompany held-out melodies, several times each, and measure the "
        "accompaniments beside held-out music, the training music, and accompaniments without a "
        "network.",
    )
    _add_model(parser)
    parser.add_argument("--out", required=True, type=path, help="folder to write into")
    parser.add_argument(
        "--beside",
        type=named,
        action="append",
        default=[],
        metavar="RUN_OR_FILE",
        help="another run or model file, a column of its own; may be given several times",
    )
    parser.add_argument(
        "--noise",
        action="store_true",
        help="add a column: what the decoding makes of random numbers, without a network",
    )
    parser.add_argument(
        "--dataset",
        help="a file of `data build`, chorales or palestrina (default: what it was trained on)",
    )
    parser.add_argument(
        "--split",
        choices=("valid", "test"),
        default="test",
        help="pieces to accompany (default test)",
    )
    parser.add_argument(
        "--flavours", type=int, default=4, metavar="N", help="noises for each melody (default 4)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noises (default 0)")
    parser.set_defaults(run=commands.evaluate)
