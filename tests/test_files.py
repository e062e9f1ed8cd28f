"""Files that are whole or not there, in a folder or in a bucket."""

import os

import pytest
from etils import epath

from musegan_jax import files
from musegan_jax.errors import UserError
from musegan_jax.runs.logging import JsonLines, read_lines


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that is treated as a remote one: nothing is appended, renamed or locked there."""
    monkeypatch.setattr(files, "is_remote", lambda path: str(path).startswith(str(tmp_path)))
    monkeypatch.setattr(epath.Path, "rename", None)
    return epath.Path(tmp_path)


@pytest.mark.parametrize("text", [True, False])
def test_a_file_is_replaced_or_left_alone(tmp_path, text):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(str(path) if text else path) as file:
        file.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with files.replacing(path) as file:
        assert file.suffix == ".txt"
        file.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """Else a loss of power can leave the new name with nothing behind it."""
    done = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        done.append(("sync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def replaced(source, target):
        done.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with files.replacing(tmp_path / "file.txt") as file:
        file.write_text("new")
    content, folder = ((tmp_path / name).stat().st_ino for name in ("file.txt", "."))
    assert done == [("sync", content), ("replace", content), ("sync", folder)]


def test_a_remote_file_is_written_at_once(bucket):
    path = bucket / "file.txt"
    with pytest.raises(ZeroDivisionError), files.replacing(path) as file:
        assert not str(file).startswith(str(bucket))
        file.write_text("half")
        raise ZeroDivisionError
    assert not path.exists() and not file.parent.exists()
    with files.replacing(path) as file:
        file.write_text("new")
    assert path.read_text() == "new"


def test_remote_lines_are_published_in_pieces(bucket, monkeypatch):
    path = bucket / "metrics.jsonl"
    lines = JsonLines(path, 0, pytest.fail)
    (bucket / "metrics-backup.jsonl").write_text('{"iteration": 9}\n')  # the user's own
    for iteration in (1, 2):
        lines.write({"iteration": iteration})
        lines.publish()
    lines.publish()  # nothing new
    lines.write({"iteration": 3})
    assert [each.name for each in sorted(bucket.iterdir())] == [
        "metrics-000001.jsonl", "metrics-000002.jsonl", "metrics-backup.jsonl", "metrics.jsonl",
    ]  # fmt: skip
    assert (bucket / "metrics-000002.jsonl").read_text() == '{"iteration": 2}\n'
    assert read_lines(path) == [{"iteration": 1}, {"iteration": 2}]
    with monkeypatch.context() as patch:  # an old listing, without the last piece
        first = bucket / "metrics-000001.jsonl"
        patch.setattr(type(path), "glob", lambda *_: iter([first]))
        assert read_lines(path) == [{"iteration": 1}, {"iteration": 2}]
    lines._file.close()
    lines._folder.cleanup()
    # Killed after the pieces were joined, before the last was removed; resumed after 1.
    path.write_text('{"iteration": 1}\n{"iteration": 2}\n')
    (bucket / "metrics-000001.jsonl").unlink()
    again = JsonLines(path, 1, pytest.fail)
    again.write({"iteration": 2, "loss": 3})
    again.close()
    names = sorted(each.name for each in bucket.iterdir())
    assert names == ["metrics-backup.jsonl", "metrics.jsonl"]
    assert read_lines(path) == [{"iteration": 1}, {"iteration": 2, "loss": 3}]


def test_a_remote_folder_is_copied_and_removed(bucket):
    (bucket / "a" / "b").mkdir(parents=True)
    (bucket / "a" / "b" / "c").write_text("1")
    (bucket / "a" / "d").write_text("2")
    # A bucket makes folders by itself.
    (bucket / "to" / "b").mkdir(parents=True)
    files.move_folder(bucket / "a", bucket / "to")
    assert not (bucket / "a").exists()
    assert (bucket / "to" / "b" / "c").read_text() == "1"
    assert (bucket / "to" / "d").read_text() == "2"


def test_a_folder_is_locked_for_one(tmp_path):
    with files.locked(tmp_path):
        with pytest.raises(UserError, match="another process"), files.locked(tmp_path):
            pass
    with files.locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_an_address_that_cannot_be_reached():
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="install the extra `gcs`"):
            files.locate("gs://no-such-bucket/run")
    assert files.locate("runs/a") == epath.Path("runs/a")
