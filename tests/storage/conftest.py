"""The two file systems, and a storage with some history on the one in memory."""

import random
from pathlib import Path

import pytest

from tests.storage.model import DATA_DIR
from zkpy.storage import FileSystem, OsFileSystem
from zkpy.testing.memfs import MemFileSystem


@pytest.fixture
def memory(rng: random.Random) -> MemFileSystem:
    fs = MemFileSystem(rng)
    fs.mkdir(DATA_DIR)
    fs.sync_dir("/")
    return fs


@pytest.fixture(params=["os", "memory"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, rng: random.Random
) -> tuple[FileSystem, str]:
    """A file system and an empty directory in it: whatever passes on one must on the other."""
    if request.param == "os":
        return OsFileSystem(), str(tmp_path)
    fs = MemFileSystem(rng)
    fs.mkdir("/tmp")
    return fs, "/tmp"
