"""Looking at a data directory from outside: never writes, takes no lock.

In: a data directory, a generation in it, or one file.  Out: batches and images as
they stand there.  It is safe beside a running server, which only appends: the last
batch may be half written, and a file that was there a moment ago may be purged.
"""

import re
from collections.abc import Iterator
from typing import Final

import attrs

from zkpy.effects import Entry
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage import record
from zkpy.storage.fs import FileSystem, join, parent, read_whole
from zkpy.storage.identity import read_identity
from zkpy.storage.record import SEGMENT_HEADER_BYTES, BatchHeader, SegmentHeader
from zkpy.storage.segments import SEGMENT_PREFIX, numbers_of, segment_name
from zkpy.storage.snapshots import IMAGE_PREFIX, Image, header_of_image, image_name, load_image

_GENERATION: Final = re.compile(r"gen-\d{4,10}")


@attrs.define(frozen=True)
class Batch:
    """One batch of the log where it lies."""

    path: str
    offset: int
    header: BatchHeader
    entries: list[Entry]


@attrs.define
class Segment:
    """One file of the log; `end` and `problem` are known once its batches were read."""

    path: str
    header: SegmentHeader
    sealed: bool = False
    """Whether it says that the log goes on in the next file."""
    end: int = SEGMENT_HEADER_BYTES
    torn: bool = False
    """Something stands behind `end` that is no batch: half of the last one, most likely."""
    problem: str | None = None
    """Damage that no crash leaves."""
    _data: bytes = b""

    def batches(self) -> Iterator[Batch]:
        data, salt = self._data, self.header.salt
        while (header := record.read_batch(data, self.end, salt)) is not None:
            if not header.count:
                self.sealed = True
                return
            yield Batch(self.path, self.end, header, record.decode_entries(data, self.end, header))
            self.end += header.total_bytes
        if not record.is_zero(data, self.end):
            self.torn = True
            later = record.find_batch(data, self.end, salt)
            if later is not None:
                self.problem = f"the batch at {self.end} is damaged, an intact one at {later}"


def find_segments(fs: FileSystem, path: str) -> list[str]:
    """The log files that `path` means, in order; StorageError if there are none."""
    return _find(fs, path, SEGMENT_PREFIX, "log")


def find_images(fs: FileSystem, path: str) -> list[str]:
    """The image files that `path` means, oldest first; StorageError if there are none."""
    return _find(fs, path, IMAGE_PREFIX, "image")


def _find(fs: FileSystem, path: str, prefix: str, what: str) -> list[str]:
    if not fs.is_dir(path):
        if not fs.exists(path):
            raise StorageError(f"{path}: no such file or directory")
        return [path]
    for directory in _places(fs, path):
        numbers = numbers_of(fs.listdir(directory), prefix)
        if numbers:
            return [join(directory, f"{prefix}{number:016x}") for number in numbers]
    raise StorageError(
        f"{path}: there is no {what} here"
        + ("; if dataLogDir is set, name that directory" if what == "log" else "")
    )


def _places(fs: FileSystem, path: str) -> list[str]:
    """The directory itself, the generation in force, and then the others, newest first."""
    generations = [name for name in fs.listdir(path) if _GENERATION.fullmatch(name)]
    generations.sort(key=lambda name: int(name[4:]), reverse=True)
    try:
        identity = read_identity(fs, path)
    except CorruptionError:
        identity = None
    if identity is not None:
        generations.sort(key=lambda name: int(name[4:]) != identity.generation)
    return [path, *[join(path, name) for name in generations]]


def open_segment(fs: FileSystem, path: str) -> Segment:
    """StorageError if it is no segment."""
    data = read_whole(fs, path)
    header = record.decode_segment_header(data)
    if header is None:
        raise CorruptionError(f"{path}: it is not a log file, or its header is damaged")
    name = path.rpartition("/")[2]
    problem = None
    if name.startswith(SEGMENT_PREFIX) and name != segment_name(header.base):
        problem = f"it holds {segment_name(header.base)}"
    return Segment(path, header, problem=problem, data=data)


def open_image(fs: FileSystem, path: str) -> Image:
    """A verified image; CorruptionError says what is wrong with it."""
    generation, zxid = header_of_image(fs, path)
    if path.rpartition("/")[2] != image_name(zxid):
        raise CorruptionError(f"{path}: it holds {image_name(zxid)}")
    return load_image(fs, parent(path), generation, zxid)
