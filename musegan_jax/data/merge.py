"""Several datasets as one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musegan_jax.data import shards
from musegan_jax.data.dataset import Dataset, Piece, build
from musegan_jax.errors import UserError


def merge(datasets: Sequence[Dataset], paths: Sequence[Path]) -> tuple[Dataset, list[str]]:
    """Join datasets with the same tracks and grid; `paths` are where they came from.

    Parts of one build (`--shard`) become what the whole build would have been. Of other datasets,
    a piece that is in several is kept once. Of different pieces of one name, the later ones get the
    name of their file before their own. All are split anew, by name.

    Returns:
        The dataset, and lines for the user.

    Raises:
        UserError: if there are not two, if they do not fit together, or if names cannot be told
            apart.
    """
    if len(datasets) < 2:
        raise UserError("data merge: give two dataset files or more")
    if shards.are_shards(datasets):
        return shards.join(datasets, paths)
    first = datasets[0]
    for dataset, path in zip(datasets[1:], paths[1:], strict=True):
        differences = _differences(first, dataset)
        if differences:
            raise UserError(f"{path}: does not fit {paths[0]}: {'; '.join(differences)}")
    pieces: dict[str, Piece] = {}
    named: dict[str, list[Piece]] = {}  # by the name in its own file
    before: list[tuple[str, int]] = []  # the name that a piece has now, and its split until now
    twice = renamed = 0
    for dataset, path in zip(datasets, paths, strict=True):
        for n, name in enumerate(dataset.names):
            piece = Piece(name, dataset.packed(n), dataset.bars_of(n) - int(dataset.boundaries[n]))
            known = named.setdefault(name, [])
            split = int(dataset.split[n])
            same = next((each for each in known if _equal(each, piece)), None)
            if same is not None:
                twice += 1
                before.append((same.name, split))
                continue
            if name in pieces:
                renamed += 1
                piece = piece._replace(name=f"{path.stem}/{name}")
                if piece.name in pieces:
                    raise UserError(f"{path}: a second piece {piece.name}; rename the file")
            known.append(piece)
            pieces[piece.name] = piece
            before.append((piece.name, split))
    sources = dict.fromkeys(dataset.source for dataset in datasets)
    remarks = []
    if twice:
        remarks.append(f"{twice} pieces are in several files, and kept once")
    if renamed:
        remarks.append(f"{renamed} pieces have the name of another; their file's is put before it")
    whole = build(pieces.values(), first.tracks, first.steps_per_beat, " + ".join(sources))
    now = dict(zip(whole.names, whole.split.tolist(), strict=True))
    moved = len({name for name, split in before if now[name] != split})
    if moved:
        remarks.append(f"{moved} pieces are in another split than before: splits go by all names")
    return whole, remarks


def _equal(one: Piece, other: Piece) -> bool:
    return np.array_equal(one.roll, other.roll) and np.array_equal(one.bars, other.bars)


def _differences(one: Dataset, other: Dataset) -> list[str]:
    """In what the tracks and the grid of two datasets differ."""
    found = []
    if one.steps_per_beat != other.steps_per_beat:
        found.append(f"{other.steps_per_beat} steps a beat, not {one.steps_per_beat}")
    if len(one.tracks) != len(other.tracks):
        names = [", ".join(track.name for track in each.tracks) for each in (other, one)]
        found.append(f"its tracks are {names[0]}, not {names[1]}")
        return found
    for n, (mine, yours) in enumerate(zip(one.tracks, other.tracks, strict=True), 1):
        if mine != yours:
            about = [
                f"{track.name} ({'drums' if track.is_drum else f'program {track.program}'})"
                for track in (yours, mine)
            ]
            found.append(f"its track {n} is {about[0]}, not {about[1]}")
    return found
