"""Conformance: the operating system's files and those in memory behave alike."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from zkpy.storage.fs import (
    FileSystem,
    OsFileSystem,
    join,
    make_dirs,
    parent,
    read_whole,
    remove_tree,
    write_new,
)

Place = tuple[FileSystem, str]


def test_what_is_written_is_read(place: Place) -> None:
    fs, base = place
    file = fs.open(join(base, "f"), create=True)
    file.write(0, (b"abc", b"", b"def"))
    file.write(10, (b"xyz",))
    assert file.size() == 13
    assert file.read(0, 100) == b"abcdef\0\0\0\0xyz"
    assert file.read(4, 4) == b"ef\0\0"
    assert file.read(13, 4) == b""
    file.sync_data()
    file.sync()
    file.close()
    file.close()
    assert read_whole(fs, join(base, "f")) == b"abcdef\0\0\0\0xyz"


def test_truncate_cuts_and_extends_with_zeros(place: Place) -> None:
    fs, base = place
    file = fs.open(join(base, "f"), create=True)
    file.write(0, (b"abcdef",))
    file.truncate(2)
    file.truncate(4)
    assert file.read(0, 10) == b"ab\0\0"


def test_preallocate_reads_as_zeros_and_never_shortens(place: Place) -> None:
    fs, base = place
    file = fs.open(join(base, "f"), create=True)
    file.write(0, (b"ab",))
    file.preallocate(5000)
    assert file.read(0, 6000) == b"ab" + bytes(4998)
    file.preallocate(10)
    assert file.size() == 5000


def test_names(place: Place) -> None:
    fs, base = place
    for name in ("b", "a", "c"):
        fs.open(join(base, name), create=True).close()
    fs.mkdir(join(base, "d"))
    assert fs.listdir(base) == ["a", "b", "c", "d"]
    fs.rename(join(base, "b"), join(base, "a"))
    fs.unlink(join(base, "c"))
    fs.sync_dir(base)
    assert fs.listdir(base) == ["a", "d"]
    assert fs.exists(join(base, "a")) and not fs.is_dir(join(base, "a"))
    assert fs.is_dir(join(base, "d")) and not fs.exists(join(base, "c"))
    fs.rename(join(base, "d"), join(base, "e"))
    fs.rmdir(join(base, "e"))
    assert fs.listdir(base) == ["a"]


def test_an_open_file_outlives_its_name(place: Place) -> None:
    fs, base = place
    file = fs.open(join(base, "f"), create=True)
    fs.unlink(join(base, "f"))
    file.write(0, (b"still",))
    assert file.read(0, 9) == b"still"
    assert not fs.exists(join(base, "f"))


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda fs, d: fs.open(d + "/none"), errno.ENOENT),
        (lambda fs, d: fs.open(d + "/file", create=True), errno.EEXIST),
        (lambda fs, d: fs.open(d + "/dir"), errno.EISDIR),
        (lambda fs, d: fs.open(d + "/none/x", create=True), errno.ENOENT),
        (lambda fs, d: fs.listdir(d + "/none"), errno.ENOENT),
        (lambda fs, d: fs.listdir(d + "/file"), errno.ENOTDIR),
        (lambda fs, d: fs.mkdir(d + "/dir"), errno.EEXIST),
        (lambda fs, d: fs.unlink(d + "/none"), errno.ENOENT),
        (lambda fs, d: fs.rename(d + "/none", d + "/x"), errno.ENOENT),
        (lambda fs, d: fs.rmdir(d + "/dir"), errno.ENOTEMPTY),
        (lambda fs, d: fs.sync_dir(d + "/none"), errno.ENOENT),
    ],
)
def test_refusals_have_code_and_name(
    place: Place, act: Callable[[FileSystem, str], object], code: int
) -> None:
    fs, base = place
    fs.open(base + "/file", create=True).close()
    fs.mkdir(base + "/dir")
    fs.open(base + "/dir/inner", create=True).close()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the code is checked below
        act(fs, base)
    assert caught.value.errno == code
    assert str(caught.value.filename).startswith(base)


def test_a_lock_is_exclusive_until_closed(place: Place) -> None:
    fs, base = place
    lock = fs.lock(base + "/lock")
    with pytest.raises(BlockingIOError):
        fs.lock(base + "/lock")
    lock.close()
    lock.close()
    fs.lock(base + "/lock").close()


def test_entropy_differs(place: Place) -> None:
    fs, _ = place
    assert len({fs.entropy(8) for _ in range(20)}) == 20


def test_helpers(place: Place) -> None:
    fs, base = place
    make_dirs(fs, base + "/a/b/c")
    write_new(fs, base + "/a/b/f", (b"one",))
    fs.open(base + "/a/b/f.tmp", create=True).close()
    write_new(fs, base + "/a/b/f", (b"two",))
    assert fs.listdir(base + "/a/b") == ["c", "f"]
    assert read_whole(fs, base + "/a/b/f") == b"two"
    remove_tree(fs, base + "/a")
    assert fs.listdir(base) == []


@pytest.mark.parametrize(
    ("path", "above"), [("/a/b", "/a"), ("/a", "/"), ("a/b/", "a"), ("a", "."), ("/", "/")]
)
def test_parent(path: str, above: str) -> None:
    assert parent(path) == above


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def write_half(fd: int, parts: Sequence[bytes], offset: int) -> int:
        data = b"".join(parts)
        return whole(fd, (data[: len(data) // 2],), offset)

    monkeypatch.setattr(os, "pwritev", write_half)
    file = OsFileSystem().open(str(tmp_path / "f"), create=True)
    file.write(3, (b"abc", b"defgh"))
    assert file.read(0, 20) == b"\0\0\0abcdefgh"


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_preallocation_does_without_support_but_not_without_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("zkpy.storage.fs._allocate", refuse)
    file = OsFileSystem().open(str(tmp_path / "f"), create=True)
    if code == errno.ENOSPC:
        with pytest.raises(OSError, match="No space left") as caught:
            file.preallocate(100)
        assert caught.value.filename == str(tmp_path / "f")
    else:
        file.preallocate(100)
        assert file.read(0, 200) == bytes(100)
