"""Files that are whole or not there at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from musegan_jax.errors import UserError


def make_folder(path: Path) -> Path:
    """Create `path` and its parents, and make sure that files can be written there.

    Raises:
        UserError: if that is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"{path}: cannot write into this folder ({error.strerror}); choose another"
        ) from error
    return path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well, else removed.

    The temporary name keeps the suffix, which some writers choose their format by.

    Raises:
        UserError: if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        # Where nothing could be written there is nothing to remove, for reasons already told.
        with contextlib.suppress(OSError):
            temporary.unlink()
