"""Parts of one build, made by several machines, as the dataset that one would have made."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegan_jax.data.dataset import Dataset, Listed, from_timeline, shard_of
from musegan_jax.data.readers.songs import Facts, Options, layout_of
from musegan_jax.errors import UserError, first_line
from musegan_jax.pianoroll import Track


def about(shard: tuple[int, int], options: Options, facts: Sequence[Facts]) -> dict[str, Any]:
    """What a part's file says of it: which it is, and all that the others are needed for."""
    return {"part": shard, "options": options, "facts": facts}


def are_shards(datasets: Sequence[Dataset]) -> bool:
    """Whether all are parts of a build."""
    return all(shard_of(dataset) is not None for dataset in datasets)


def join(datasets: Sequence[Dataset], paths: Sequence[Path]) -> tuple[Dataset, list[str]]:
    """The dataset of all parts, equal to that of one build, and lines for the user.

    Raises:
        UserError: if one is missing, is there twice, or is of another build; if all are empty.
    """
    try:
        return _join(datasets, paths, [shard_of(dataset) or {} for dataset in datasets])
    # Of a file that was made by hand.
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"data merge: not parts of a build ({first_line(error)})") from error


def _join(
    datasets: Sequence[Dataset], paths: Sequence[Path], shards: list[dict[str, Any]]
) -> tuple[Dataset, list[str]]:
    first = json.dumps([shards[0]["options"], datasets[0].source, shards[0]["part"][1]])
    for shard, dataset, path in zip(shards, datasets, paths, strict=True):
        if json.dumps([shard["options"], dataset.source, shard["part"][1]]) != first:
            raise UserError(f"{path}: a part of another build than {paths[0]}")
    found = sorted(shard["part"][0] for shard in shards)
    count = shards[0]["part"][1]
    if found != list(range(1, count + 1)):
        there = ", ".join(map(str, found))
        raise UserError(f"data merge: parts {there} of a build in {count}; give each once")
    parts, steps_per_beat, melody, families = shards[0]["options"]
    tracks = tuple(Track(*track) for track in families)
    options = Options(parts, steps_per_beat, melody, tracks)
    facts: dict[str, Facts] = {}
    place: dict[str, tuple[Dataset, int]] = {}
    for shard, dataset in zip(shards, datasets, strict=True):
        for n, (name, (labels, *rest)) in enumerate(
            zip(dataset.names, shard["facts"], strict=True)
        ):
            facts[name] = Facts([(label, program) for label, program in labels], *rest)
            place[name] = dataset, n
    names = sorted(facts)
    if not names:
        raise UserError("data merge: no part has a piece")
    layout = layout_of(names, [facts[name] for name in names], options)
    rolls, listed = [], []
    for name in names:
        dataset, n = place[name]
        roll = dataset.packed(n)
        rolls.append(roll if all(layout.used) else roll[:, layout.used])
        listed.append(Listed(name, len(roll), dataset.bars_of(n) - dataset.boundaries[n]))
    timeline = np.concatenate(rolls)
    source = datasets[0].source
    whole = from_timeline(timeline, listed, layout.tracks, steps_per_beat, source)
    return whole, layout.remarks
