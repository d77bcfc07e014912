"""The byte formats, frozen: files of a small history, compared byte for byte.

A difference means that data directories of earlier versions need care.  Rewrite
with `--rewrite` and read the difference.
"""

import random
from pathlib import Path

from tests.storage.model import DATA_DIR, IDENTITY, append, state_of, write_image
from zkpy.effects import DiskBatch, Entry, WriteIdentity
from zkpy.storage import Storage, StorageOptions
from zkpy.testing.memfs import MemFileSystem

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = StorageOptions(segment_bytes=512)
FILES = {
    "identity": "identity",
    "image": "gen-0001/image.0000000100000003",
    "segment-sealed": "gen-0001/log.0000000000000000",
    "segment-last": "gen-0001/log.0000000100000003",
}


def make_history(fs: MemFileSystem) -> list[Entry]:
    history: list[Entry] = []
    storage, _ = Storage.open(fs, DATA_DIR, None, OPTIONS)
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    for count, committed in ((3, 0), (2, 1 << 32 | 2), (1, 1 << 32 | 5)):
        append(storage, history, count, committed)
    write_image(storage, history[:3])
    storage.close()
    return history


def test_written_as_ever(rewrite: bool) -> None:
    fs = MemFileSystem(random.Random(2181))
    make_history(fs)
    for name, path in FILES.items():
        data = fs.get(f"{DATA_DIR}/{path}")
        if rewrite:
            GOLDEN.mkdir(exist_ok=True)
            (GOLDEN / name).write_bytes(data)
        assert data == (GOLDEN / name).read_bytes(), name


def test_read_as_ever() -> None:
    history = make_history(MemFileSystem(random.Random(1)))
    fs = MemFileSystem(random.Random(2))
    for directory in (DATA_DIR, DATA_DIR + "/gen-0001"):
        fs.mkdir(directory)
    for name, path in FILES.items():
        fs.put(f"{DATA_DIR}/{path}", (GOLDEN / name).read_bytes())
    _, recovered = Storage.open(fs, DATA_DIR, None, OPTIONS)
    assert state_of(recovered).history == tuple(history)
    assert recovered.identity == IDENTITY
    assert recovered.committed == 1 << 32 | 5
    assert (recovered.image_zxid, recovered.image_digest) == (1 << 32 | 3, 3 * (1 << 32 | 3))
    assert [e.zxid & 0xF for e in recovered.entries] == [4, 5, 6]
