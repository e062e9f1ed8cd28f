"""The zip of a dataset file: written as a stream, read with what was computed once at its build.

A hash of gigabytes takes seconds in every process that trains. A zip has a CRC-32 of each member,
which is checked while it is unpacked. The description of the dataset holds these, beside the
SHA-256 of the music, and is hashed itself (`seal`): a wrong byte anywhere is noticed without
hashing again.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from musegan_jax.data import npz

ABOUT, SEAL, CHECKS = "about", "seal", "crc32"
# zlib's, up to 9. The default, 6, takes twice the time, in which no other process can help, for
# files that are a fifth (a folder of MIDI files) to a third (chorales) smaller.
LEVEL = 4


class Streamed(NamedTuple):
    """An array that comes in parts, along its first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Iterable[np.ndarray]


def write(
    file: IO[bytes], arrays: Mapping[str, Streamed], about: Callable[[], dict[str, Any]]
) -> None:
    """Write the arrays, one after another, and then what `about` returns, with their checks.

    Equal content gives equal bytes.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, array in arrays.items():
            _write(archive, name, array)
        checks = {info.filename: info.CRC for info in archive.infolist()}
        text = json.dumps({**about(), CHECKS: checks}).encode()
        for name, content in ((ABOUT, text), (SEAL, hashlib.sha256(text).digest())):
            array = np.frombuffer(content, np.uint8)
            _write(archive, name, Streamed(array.shape, array.dtype, [array]))


def _write(archive: zipfile.ZipFile, name: str, array: Streamed) -> None:
    # Dated 1980, as `open` does to a name: the bytes are the same tomorrow.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(array.dtype),
            "fortran_order": False,
            "shape": array.shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        for part in array.parts:
            file.write(np.ascontiguousarray(part).data)


def read(source: Path | IO[bytes], *limits: Any) -> tuple[dict[str, np.ndarray], bool | None]:
    """The arrays by name, and whether they are those that were written: None if not known.

    If so, nothing has to be hashed. Of files of earlier versions, without a seal, it is not known.

    Args:
        source: the file.
        limits: of `npz.check_size`.

    Raises:
        Exception: as of `npz.read_arrays`.
    """
    arrays, _ = npz.read_arrays(source, *limits)
    if SEAL not in arrays:
        return arrays, None
    text = arrays[ABOUT].tobytes()
    with zipfile.ZipFile(source) as archive:
        found = {info.filename: info.CRC for info in archive.infolist()}
    own = {f"{name}.npy" for name in (ABOUT, SEAL)}
    checks = {name: found[name] for name in found.keys() - own}
    sealed = hashlib.sha256(text).digest() == arrays[SEAL].tobytes()
    return arrays, sealed and checks == json.loads(text)[CHECKS]
