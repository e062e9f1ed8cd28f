"""Files that are whole or not there at all, here or at a remote address."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musegan_jax.errors import UserError, first_line

if TYPE_CHECKING:  # a quarter of a second that `--help` must not wait for
    from etils import epath

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# `etils.epath.Path` among them, which is the one for remote addresses.
AnyPath = str | os.PathLike[str]


def is_remote(path: AnyPath) -> bool:
    """Whether this is an address such as `gs://bucket/run`, not a path of this machine."""
    return "://" in str(path)


def locate(path: AnyPath) -> "epath.Path":
    """A path or a remote address as an `etils.epath.Path`, which reads and writes both.

    Raises:
        UserError: if nothing here can reach the address.
    """
    from etils import epath

    located = epath.Path(path)
    if is_remote(path):
        try:
            located.exists()
        except ImportError as error:
            raise UserError(
                f"{path}: reading and writing there needs another package ({error}); for gs:// "
                "install the extra `gcs`"
            ) from error
        except Exception as error:  # whatever a network, a permission or a client brings about
            raise UserError(f"{path}: cannot be reached ({first_line(error)})") from error
    return located


def make_folder(path: Any) -> Any:
    """Create `path` and its parents, and make sure that files can be written there.

    Raises:
        UserError: if that is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not is_remote(path):
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        raise UserError(
            f"{path}: cannot write into this folder ({error.strerror or error}); choose another"
        ) from error
    return path


def move_folder(source: "epath.Path", target: "epath.Path") -> None:
    """Move a folder to where none is; a remote one is copied first, as it cannot be renamed.

    Raises:
        UserError: if that is impossible.
    """
    try:
        if not is_remote(source):
            source.rename(target)
            return
        _copy_folder(source, target)
        source.rmtree()
    except OSError as error:
        raise UserError(
            f"{source}: cannot be moved to {target} ({error.strerror or error})"
        ) from error


def _copy_folder(source: "epath.Path", target: "epath.Path") -> None:
    for path in source.iterdir():
        if path.is_dir():
            _copy_folder(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


@contextlib.contextmanager
def locked(folder: AnyPath) -> Iterator[None]:
    """Keep a folder for this process as long as the block runs; nothing is left behind.

    Remote folders, and file systems that know no locks, are not kept.

    Raises:
        UserError: if another process has it.
    """
    if is_remote(folder) or fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process is training here; wait for it, or choose another "
                    "folder"
                ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends well, and else is removed.

    It lies beside `path`, or on this machine where `path` is remote: what is written there at once
    is whole or not there. It keeps the suffix, which some writers choose their format by.

    Args:
        path: a `pathlib.Path`, its text, or an `etils.epath.Path`.

    Raises:
        UserError: if the file cannot be written.
    """
    target: Any = Path(path) if isinstance(path, str) else path
    with contextlib.ExitStack() as stack:
        folder = Path(target).parent
        if is_remote(path):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        temporary = folder / f".{target.stem}.{os.getpid()}{target.suffix}"
        try:
            yield temporary
            if is_remote(path):
                target.write_bytes(temporary.read_bytes())
            else:
                os.replace(temporary, path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            # Where nothing could be written there is nothing to remove, for reasons already told.
            with contextlib.suppress(OSError):
                temporary.unlink()
