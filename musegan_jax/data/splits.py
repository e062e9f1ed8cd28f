"""Which pieces are held out: by a hash of their names.

So that a new file never moves an old one to another split. Where that would leave a small
collection without held-out pieces, see `splits_of`.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

SPLIT_ENDS = (0.8, 0.9)  # train below the first, valid below the second, test above


def _share(name: str) -> float:
    """A hash of a name as a number in [0, 1), below which is the share of all names with less."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(name: str) -> int:
    """The split, as an index into `SPLITS`, of a piece of this name in a large collection."""
    return sum(_share(name) >= end for end in SPLIT_ENDS)


def splits_of(names: Sequence[str]) -> np.ndarray:
    """The split of each of all pieces of a collection, by name: uint8 `(N,)`, index into `SPLITS`.

    By the hash of its name alone, if that gives `valid` two pieces and `test` three, as it does for
    nearly every collection of a hundred: then no piece is ever moved by adding others. A smaller
    collection moves as few pieces as it can: those with the highest hashes are held out, two and
    three, or two each of fewer than twelve pieces, one of fewer than eight, none of fewer than
    four. Three, because an evaluation compares distances between pieces: of two there is one only.
    """
    shares = np.array([_share(name) for name in names])
    split = np.array([split_of(name) for name in names], np.uint8)
    train, valid, test = (int((split == k).sum()) for k in range(3))
    quarter = len(names) // 4
    fewest = min(quarter, 2), min(quarter, 3)
    if quarter and valid >= fewest[0] and test >= fewest[1] and 2 * train >= len(names):
        return split
    valid, test = (
        max(least, min(count, quarter)) for least, count in zip(fewest, (valid, test), strict=True)
    )
    highest = np.argsort(-shares, kind="stable")
    split[:] = 0
    split[highest[:test]] = 2
    split[highest[test : test + valid]] = 1
    return split
