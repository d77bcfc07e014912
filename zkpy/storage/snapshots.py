"""Image files: the exact state at one zxid, written in chunks, read back whole.

Owns the files `image.<zxid in hex>` of a generation's directory.  In: chunks of
bytes that storage does not understand.  Out: the same chunks.

    file      header(64) chunk* trailer
    header    >4sIIIqI36x     magic "zkI1", CRC of the rest, version, generation, zxid, chain, zero
    chunk     >II length (not 0) and CRC, then the data
    trailer   >IIQqIQ         0, CRC of what follows, number of chunks, zxid, chain, digest

All integers big-endian.  Each chunk's CRC is seeded with the one before it, the
trailer's with the last, so that order and completeness are covered.  The file ends
with its trailer.  It gets its name only when it is complete and synced (D8): a file
of that name that does not verify was damaged later.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

import attrs

from zkpy.crc import crc32
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage.fs import TEMP_SUFFIX, File, FileSystem, join
from zkpy.storage.segments import numbers_of

IMAGE_PREFIX: Final = "image."
FORMAT_VERSION: Final = 1
_MAGIC: Final = b"zkI1"
_HEADER: Final = struct.Struct(">4sIIIqI36x")
_HEADER_REST: Final = struct.Struct(">IIqI36x")
_FRAME: Final = struct.Struct(">II")
_TRAILER: Final = struct.Struct(">QqIQ")
_CRC_END: Final = 8


def image_name(zxid: int) -> str:
    return f"{IMAGE_PREFIX}{zxid:016x}"


def image_zxids(fs: FileSystem, directory: str) -> list[int]:
    """Zxids of the finished images in a directory, ascending."""
    return numbers_of(fs.listdir(directory), IMAGE_PREFIX)


@attrs.frozen
class Image:
    """A verified image."""

    zxid: int
    chain: int
    digest: int
    chunks: Iterable[bytes]
    """Read, and checked again, one at a time whenever they are walked through."""


@attrs.define(eq=False)
class ImageFile:
    """An image being written to a temp file; it counts once `finish` returned."""

    fs: FileSystem
    directory: str
    zxid: int
    chain: int
    sync_bytes: int
    wait_for_room: Callable[[OSError], None] | None
    """Returns when a write that failed for want of room is to be tried again, or raises its error;
    None: such a failure is as any other."""
    _file: File
    _pos: int
    _crc: int
    _chunks: int = 0
    _synced: int = 0

    @classmethod
    def begin(
        cls,
        fs: FileSystem,
        directory: str,
        generation: int,
        zxid: int,
        chain: int,
        sync_bytes: int,
        wait_for_room: Callable[[OSError], None] | None = None,
    ) -> Self:
        temp = join(directory, image_name(zxid) + TEMP_SUFFIX)
        if fs.exists(temp):
            fs.unlink(temp)
        file = fs.open(temp, create=True)
        rest = _HEADER_REST.pack(FORMAT_VERSION, generation, zxid, chain)
        crc = crc32(rest)
        image = cls(fs, directory, zxid, chain, sync_bytes, wait_for_room, file, _HEADER.size, crc)
        try:
            image._write(0, (_MAGIC, crc.to_bytes(4, "big"), rest))
        except OSError:
            image.abandon()
            raise
        return image

    def add(self, data: bytes) -> None:
        """One more chunk.  An empty one would read as the trailer, and carries nothing."""
        if not data:
            return
        self._crc = crc32(data, self._crc)
        self._write(self._pos, (_FRAME.pack(len(data), self._crc), data))
        self._pos += _FRAME.size + len(data)
        self._chunks += 1
        # Paced: one sync at the end of a large file would hold up the log's syncs.
        if self._pos - self._synced >= self.sync_bytes:
            self._file.sync_data()
            self._synced = self._pos

    def finish(self, digest: int) -> None:
        """Trailer, sync, rename, directory sync: from here on the image counts."""
        trailer = _TRAILER.pack(self._chunks, self.zxid, self.chain, digest)
        self._write(self._pos, (_FRAME.pack(0, crc32(trailer, self._crc)), trailer))
        self._file.sync()
        self._file.close()
        path = join(self.directory, image_name(self.zxid))
        self.fs.rename(path + TEMP_SUFFIX, path)
        self.fs.sync_dir(self.directory)

    def _write(self, pos: int, parts: Sequence[bytes]) -> None:
        while True:
            try:
                self._file.write(pos, parts)
                return
            except OSError as error:
                if self.wait_for_room is None:
                    raise
                self.wait_for_room(error)

    def close(self) -> None:
        """Let go; the temp file is removed at the next start."""
        self._file.close()

    def abandon(self) -> None:
        """Let go and remove the temp file."""
        self.close()
        temp = join(self.directory, image_name(self.zxid) + TEMP_SUFFIX)
        if self.fs.exists(temp):
            self.fs.unlink(temp)


def load_image(fs: FileSystem, directory: str, generation: int, zxid: int) -> Image:
    """Verify an image; CorruptionError says what is wrong with it.

    Its chunks stay in the file until they are asked for: held together they would take as
    much memory as the state that is made of them, and leave holes behind in it.
    """
    chunks = _Chunks(fs, directory, generation, zxid)
    chain, digest = chunks.verify()
    return Image(zxid, chain, digest, chunks)


def header_of_image(fs: FileSystem, path: str) -> tuple[int, int]:
    """(generation, zxid) that an image file says it has; CorruptionError if it says nothing."""
    file = fs.open(path)
    try:
        data = file.read(0, _HEADER.size)
    finally:
        file.close()
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise CorruptionError(f"{path}: it is not an image")
    _, _, _, generation, zxid, _ = _HEADER.unpack(data)
    return generation, zxid


def verify_image(fs: FileSystem, directory: str, generation: int, zxid: int) -> bool:
    """Whether an image can be read back whole; holds one chunk at a time."""
    try:
        _Chunks(fs, directory, generation, zxid).verify()
    except CorruptionError:
        return False
    return True


@attrs.frozen
class _Chunks:
    """The chunks of an image file: each walk opens it, and raises CorruptionError at damage,
    StorageError where it cannot be read."""

    fs: FileSystem
    directory: str
    generation: int
    zxid: int

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._opened() as reader:
                yield from reader.read_chunks()
        except OSError as error:
            path = join(self.directory, image_name(self.zxid))
            raise StorageError(f"{path}: {error.strerror or error}") from error

    def verify(self) -> tuple[int, int]:
        """The image's chain and digest."""
        with self._opened() as reader:
            for _ in reader.read_chunks():
                pass
            return reader.chain, reader.digest

    @contextmanager
    def _opened(self) -> Iterator["_ImageReader"]:
        path = join(self.directory, image_name(self.zxid))
        file = self.fs.open(path)
        try:
            yield _ImageReader(file, path, self.generation, self.zxid)
        finally:
            file.close()


@attrs.define
class _ImageReader:
    """Walks an image file; `chain` and `digest` are known when the chunks are read."""

    file: File
    path: str
    generation: int
    zxid: int
    chain: int = 0
    digest: int = 0

    def read_chunks(self) -> Iterator[bytes]:
        size = self.file.size()
        crc = self._read_header()
        pos, count = _HEADER.size, 0
        while True:
            frame = self.file.read(pos, _FRAME.size)
            if len(frame) < _FRAME.size:
                raise self._damage("it ends without a trailer")
            length, expected = _FRAME.unpack(frame)
            pos += _FRAME.size
            if not length:
                self._read_trailer(pos, size, count, crc, expected)
                return
            if length > size - pos:
                raise self._damage(f"chunk {count} is longer than the file")
            chunk = self.file.read(pos, length)
            crc = crc32(chunk, crc)
            if crc != expected:
                raise self._damage(f"the checksum of chunk {count} is wrong")
            yield chunk
            pos += length
            count += 1

    def _read_header(self) -> int:
        data = self.file.read(0, _HEADER.size)
        if len(data) < _HEADER.size:
            raise self._damage("its header is incomplete")
        magic, crc, version, generation, zxid, chain = _HEADER.unpack(data)
        if magic != _MAGIC or crc != crc32(data[_CRC_END:]):
            raise self._damage("its header is damaged")
        if version != FORMAT_VERSION:
            raise StorageError(
                f"{self.path}: image format {version}, this program reads {FORMAT_VERSION}"
            )
        if (generation, zxid) != (self.generation, self.zxid):
            raise self._damage("it holds another image")
        self.chain = chain
        return int(crc)

    def _read_trailer(self, pos: int, size: int, count: int, crc: int, expected: int) -> None:
        data = self.file.read(pos, _TRAILER.size)
        if len(data) < _TRAILER.size or crc32(data, crc) != expected:
            raise self._damage("its trailer is damaged")
        chunks, zxid, chain, self.digest = _TRAILER.unpack(data)
        if (chunks, zxid, chain) != (count, self.zxid, self.chain) or pos + len(data) != size:
            raise self._damage("its trailer belongs to another image")

    def _damage(self, what: str) -> CorruptionError:
        return CorruptionError(f"{self.path}: {what}")
