"""What `data build` and `data info` print of a dataset."""

from collections.abc import Iterator

import numpy as np

from musegan_jax import pianoroll
from musegan_jax.config.fields import SPLITS
from musegan_jax.data.dataset import Dataset
from musegan_jax.terminal import shown


def describe(dataset: Dataset) -> str:
    """What `musegan-jax data info` prints."""
    lines = [
        f"source      {shown(dataset.source)}",
        f"sha256      {dataset.digest()}",
        f"pieces      {len(dataset.names)}",
        f"steps       {len(dataset.timeline)} ({dataset.steps_per_beat} per beat, "
        f"{len(dataset.bars)} bars)",
    ]
    for split, name in enumerate(SPLITS):
        steps = np.diff(dataset.boundaries)[dataset.split == split]
        lines.append(f"{name:<12}{len(steps)} pieces, {int(steps.sum())} steps")
    names = [shown(track.name, 40) for track in dataset.tracks]
    width = max(8, *map(len, names)) + 2
    edges = dataset.edges()
    lines.append(f"{'tracks':<{width}}  pitches  sounding  program")
    for k, track in enumerate(dataset.tracks):
        low, high = edges[:, k].T
        sounding = np.mean(low < pianoroll.SILENT) if len(low) else 0
        pitches = f"{low.min()}-{high.max()}" if sounding else "silent"
        program = "drums" if track.is_drum else str(track.program)
        lines.append(f"  {names[k]:<{width}}{pitches:<9}{sounding:<10.0%}{program}")
    return "\n".join(lines)


def shortcomings(dataset: Dataset) -> Iterator[str]:
    """What to know of a dataset before training on it, a line each."""
    if not dataset.names:
        yield "no piece: only `data merge` can use it, with the other parts of its build"
        return
    train, valid, test = (int((dataset.split == k).sum()) for k in range(3))
    if min(valid, test) < 2:
        count = len(dataset.names)
        yield (
            f"{count} piece{'s' * (count > 1)}, {valid} held out in valid and {test} in test: from "
            "8 on, two each are, from 12 on three in test; with fewer in valid, train with "
            "--output.held_out=0"
        )
    # Windows of four bars of 4/4, from every fourth bar.
    steps = 16 * dataset.steps_per_beat
    starts = [dataset.bars_of(piece)[::4] for piece in range(len(dataset.names))]
    first = np.concatenate(starts)
    silent = np.ones(len(dataset.tracks))
    if len(first):
        last = np.minimum(first + steps, len(dataset.timeline))
        low, _ = pianoroll.edges_over(dataset.edges(), first, last)
        silent = np.mean(low == pianoroll.SILENT, axis=0)
    for track, share in zip(dataset.tracks, silent, strict=True):
        if share > 0.5:
            yield f"the track {track.name} is silent in {share:.0%} of the passages of four bars"
