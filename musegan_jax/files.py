"""Write files completely or not at all, on this machine or at a remote address."""

import contextlib
import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musegan_jax.errors import UserError, first_line

if TYPE_CHECKING:  # takes 0.25 s to import, too long for `--help`
    from etils import epath

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_MEMORY = "takes more memory than there is"
DAMAGED = "damaged"  # the folder of a run for what cannot be read

# Includes `etils.epath.Path`, which can hold a remote address.
AnyPath = str | os.PathLike[str]


def is_remote(path: AnyPath) -> bool:
    """Whether this is an address such as `gs://bucket/run`, not a local path."""
    return "://" in str(path)


def locate(path: AnyPath) -> "epath.Path":
    """A path or a remote address as an `etils.epath.Path`, which reads and writes both.

    Raises:
        UserError: if the address cannot be reached.
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
        except Exception as error:  # network, permission, client: may raise anything
            raise UserError(f"{path}: cannot be reached ({first_line(error)})") from error
    return located


def unreadable(path: AnyPath, error: Exception, what: str) -> UserError:
    """The line for whatever was raised while a file was read as `what`, "MusicXML" say."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, OSError):
        return UserError(f"{path}: cannot be read ({error.strerror or error})")
    if isinstance(error, MemoryError):
        return UserError(f"{path}: {NO_MEMORY}")
    return UserError(f"{path}: not readable as {what} ({first_line(error)})")


def make_folder(path: Any) -> Any:
    """Create `path` and its parents, and check that files can be written there.

    Raises:
        UserError: if either fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not is_remote(path):
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        in_place = isinstance(error, FileExistsError | NotADirectoryError)
        why = "a file is in its place" if in_place else error.strerror or error
        raise UserError(f"{path}: cannot write into this folder ({why}); choose another") from error
    return path


def move_folder(source: "epath.Path", target: "epath.Path") -> None:
    """Move a folder; `target` must not exist. Remote folders cannot be renamed: copy and delete.

    Raises:
        UserError: if that fails.
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


def set_aside(path: "epath.Path", workdir: "epath.Path") -> "epath.Path":
    """Move a damaged file or folder of a run into its folder `damaged`; nothing is overwritten.

    Returns:
        Where it is now.

    Raises:
        UserError: if that fails.
    """
    folder = make_folder(workdir / DAMAGED)
    # By name: a listing may be older.
    names = (path.name + (f"-{n}" if n else "") for n in itertools.count())
    target = next(each for name in names if not (each := folder / name).exists())
    move_folder(path, target)
    return target


def _copy_folder(source: "epath.Path", target: "epath.Path") -> None:
    for path in source.iterdir():
        if path.is_dir():
            _copy_folder(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


def sync(path: AnyPath) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk: survive power loss.

    Raises:
        OSError: if the disk fails.
    """
    if fcntl is None and os.path.isdir(path):  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if fcntl else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync no folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: AnyPath) -> None:
    """`sync` a folder and everything in it.

    Raises:
        OSError: if the disk fails.
    """
    for root, _, names in os.walk(folder):
        for name in names:
            sync(os.path.join(root, name))
        sync(root)


@contextlib.contextmanager
def locked(folder: AnyPath, doing: str = "training") -> Iterator[None]:
    """Lock a folder for this process while the block runs; no lock file is left behind.

    Remote folders, and file systems without locks, are not locked.

    Args:
        folder: to be locked.
        doing: what goes on there, for the message.

    Raises:
        UserError: if another process has locked it.
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
                    f"{folder}: another process is {doing} here; wait for it, or choose another "
                    "folder"
                ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """A temporary file that replaces `path` if the block succeeds, and is otherwise removed.

    On return the file is on the disk. The temporary file lies beside `path`, or on this machine if
    `path` is remote: then it is uploaded in one write, which is complete or not visible. It keeps
    the suffix, from which some writers choose a format.

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
                # In this order: after a loss of power the new name must not show an empty file.
                sync(temporary)
                os.replace(temporary, path)
                sync(folder)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            # If nothing was written, there is nothing to remove, and the error is already reported.
            with contextlib.suppress(OSError):
                temporary.unlink()
