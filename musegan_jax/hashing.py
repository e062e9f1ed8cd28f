"""SHA-256 of text and arrays, the same on every machine."""

import hashlib
from collections.abc import Iterable

import numpy as np


def sha256(parts: Iterable[str | np.ndarray]) -> str:
    """Hash parts in order, as 64 hexadecimal digits.

    Text is hashed as UTF-8, an array as its bytes, little-endian, last axis fastest. Shapes and
    dtypes are not hashed: put them into a text before the array.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            little_endian = part.dtype.newbyteorder("<")
            digest.update(np.ascontiguousarray(part).astype(little_endian, copy=False).data)
    return digest.hexdigest()
