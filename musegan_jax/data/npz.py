"""Arrays of an `.npz` file of unknown origin, without pickle, each checked before it is allocated.

`np.load` allocates whatever shape a header claims: a file of a hundred bytes could ask for a
terabyte. So each header is compared with the size in the zip's directory first.
"""

import warnings
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np


class Header(NamedTuple):
    """What an array's header says: its shape, whether its first axis is the fastest, its dtype."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """The size of the array, which may be more than any memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Read the header of an `.npy` file; what follows is the array.

    Raises:
        ValueError: if there is none.
    """
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        return Header(*read(file))


def check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    """The header of one array of a zip, which has the size that it says, and no Python objects.

    Raises:
        ValueError: if it has not.
    """
    with archive.open(member) as file:
        header = read_header(file)
        if header.dtype.hasobject:
            raise ValueError(f"array {member.filename} holds Python objects, which are not read")
        if header.bytes != member.file_size - file.tell():
            raise ValueError(f"array {member.filename} is not what its header says")
    return header


def check_size(
    archive: zipfile.ZipFile, most: float, free: float = 0, ratio: float = np.inf
) -> None:
    """Refuse a zip that unpacks to more than music does.

    Args:
        archive: the zip.
        most: bytes of all its members, unpacked.
        free: bytes that a zip of any size may hold.
        ratio: bytes more for each byte of the zip.

    Raises:
        ValueError: if it does.
    """
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if size > min(most, free + ratio * packed):
        raise ValueError(f"{packed} bytes that unpack to {size}: more than music does")


def read_arrays(
    path: Path | IO[bytes],
    most: float,
    free: float = 0,
    ratio: float = np.inf,
    other: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """All arrays of an `.npz` file by name, and the content of its members named in `other`.

    Args:
        path: the file.
        most: see `check_size`, as `free` and `ratio`.
        free: see there.
        ratio: see there.
        other: names of members that are no arrays.

    Raises:
        OSError: if it cannot be read.
        Exception: if it is damaged, or not such a file; the parsers may raise anything.
    """
    arrays, others = {}, {}
    with zipfile.ZipFile(path) as archive:
        check_size(archive, most, free, ratio)
        for member in archive.infolist():
            if member.filename in other:
                others[member.filename] = archive.read(member)
                continue
            check_member(archive, member)
            with archive.open(member) as file:
                name = member.filename.removesuffix(".npy")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays, others
