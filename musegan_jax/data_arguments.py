"""The options of the command `musegan-jax data`."""

import argparse
from pathlib import Path
from typing import Any

from musegan_jax import data_commands as commands


def named(text: str) -> str:
    """A path that is not empty: an empty one would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; name a file or folder")
    return text


def path(text: str) -> Path:
    """The same as a `Path`."""
    return Path(named(text))


def add_data(subparsers: Any) -> None:
    """Add the command and its actions."""
    data = subparsers.add_parser("data", help="build, merge, inspect and export datasets")
    actions = data.add_subparsers(required=True, metavar="ACTION", dest="action")
    _add_build(actions)
    _add_merge(actions)
    _add_export(actions)
    info = actions.add_parser("info", help="describe a dataset file")
    info.add_argument("file", type=path, help="a file of `data build`")
    info.add_argument(
        "--picture", type=path, metavar="PNG", help="draw passages of some pieces into this file"
    )
    info.set_defaults(run=commands.info)


def _add_build(actions: Any) -> None:
    build = actions.add_parser("build", help="make a dataset file")
    kinds = build.add_subparsers(required=True, metavar="SOURCE", dest="source")
    built_in = {
        "chorales": "Bach's chorales in the installed music21",
        "palestrina": "movements of Palestrina's masses, in four voices, in the installed music21",
    }
    for name, what in built_in.items():
        kinds.add_parser(name, help=what).set_defaults(run=commands.build_built_in)
    folders = {
        "midi": (commands.build_midi, "a folder of MIDI files"),
        "score": (commands.build_score, "a folder of MusicXML, ABC or kern files (by music21)"),
        "lpd": (commands.build_lpd, "a folder of pypianoroll's npz files, as LPD-5 and LPD-17"),
    }
    for name, (run, what) in folders.items():
        folder = kinds.add_parser(name, help=what)
        folder.add_argument("folder", type=path, help="searched with all folders below it")
        _add_parts(folder)
        _add_grid(folder, "grid (default 4: sixteenths)")
        folder.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="processes that read (default: one for each core; few files are read in this one)",
        )
        folder.add_argument(
            "--shard",
            metavar="I/N",
            help="only the Ith of N equal parts of the files; `data merge` joins the N datasets to "
            "what one build would have made",
        )
        folder.set_defaults(run=run)
        if name == "lpd":
            folder.add_argument(
                "--families",
                type=int,
                default=5,
                metavar="5|17",
                help="sort the parts into the tracks of LPD-5 or of LPD-17 (default 5)",
            )
    jsb = kinds.add_parser("jsb", help="a file of the JSB chorales, JSON or npz")
    jsb.add_argument("file", type=path, help="its train, valid and test stay what they are")
    _add_grid(jsb, "the file's time steps in a quarter note (default 4: sixteenths)")
    jsb.add_argument(
        "--pickled",
        action="store_true",
        help="read an npz whose arrays were saved with pickle: give only a file that you trust",
    )
    jsb.set_defaults(run=commands.build_jsb)
    musegan = kinds.add_parser("musegan", help="musegan's phrases, train_x_lpd_5_phr.npz")
    musegan.add_argument("file", type=path, help="the .npz file of shape and nonzero")
    _add_melody(musegan)
    _add_grid(musegan, "grid (default 4: sixteenths; the file has 12)")
    musegan.set_defaults(run=commands.build_musegan)
    for kind in kinds.choices.values():
        kind.add_argument("--out", required=True, type=path, help="the .npz file to write")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts",
        type=int,
        metavar="N",
        help="tracks: the melody and the first N - 1 other pitched parts of each file; without it, "
        "the other parts are sorted by program into Piano, Guitar, Bass, Strings and Drums",
    )
    _add_melody(parser)


def _add_melody(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--melody",
        default="auto",
        metavar="auto|none|NAME|NUMBER",
        help="the melody's track, the first of the dataset: its name, or its number among those "
        "with pitched notes, from 1 (default auto: what looks most like a melody in each file; "
        "none: no such track, the tracks are the file's)",
    )


def _add_grid(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--steps-per-beat", type=int, default=4, metavar="N", help=what)


def _add_merge(actions: Any) -> None:
    merge = actions.add_parser(
        "merge",
        help="join dataset files into one",
        description="Join dataset files with the same tracks and grid. Pieces are split into "
        "train, valid and test anew, by their names.",
    )
    merge.add_argument("files", nargs="+", type=path, metavar="FILE", help="two or more")
    merge.add_argument("--out", required=True, type=path, help="the .npz file to write")
    merge.set_defaults(run=commands.merge)


def _add_export(actions: Any) -> None:
    export = actions.add_parser(
        "export",
        help="write a dataset's pieces as files",
        description="Write every piece of a dataset as a file of its own, under its name, "
        "at 100 quarter notes a minute: a dataset knows no tempo.",
    )
    export.add_argument("dataset", type=named, help="a file of `data build`, chorales, palestrina")
    export.add_argument("--out", required=True, type=path, help="folder to write into")
    export.add_argument(
        "--format",
        choices=commands.FORMATS,
        default="midi",
        help="MIDI, MusicXML (by music21), or npz files of pypianoroll (default midi)",
    )
    export.set_defaults(run=commands.export_pieces)
