"""The copy in a file: whole or as it was, and refused when it is not what it says."""

import json
import os
from pathlib import Path

import pytest

from recipes.config import Schema
from recipes.config.document import Document, Node, encode, examine
from recipes.config.store import load, save
from tests.recipes.config.settings import Pool, Settings

SCHEMA = Schema(Settings)
NODE = Node(5, 2)
DATA = encode(Document(2, "a" * 32, 1, "ops", "ü", SCHEMA.write(Settings.pair(3))))
NEWER = encode(Document(3, "b" * 32, 1, "ops", "", SCHEMA.write(Settings.pair(4))))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy.json"


def test_what_is_saved_is_loaded(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    assert load(file, "/a", SCHEMA) == examine(DATA, NODE, SCHEMA)


def test_only_one_file_is_left(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    save(file, "/a", Node(5, 3), NEWER)
    assert os.listdir(file.parent) == [file.name]
    found = load(file, "/a", SCHEMA)
    assert found is not None
    assert found.published.value == Settings.pair(4)


def test_a_crash_before_the_rename_leaves_the_old_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(file, "/a", NODE, DATA)

    def fail(*ignored: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            save(file, "/a", Node(5, 3), NEWER)
    assert load(file, "/a", SCHEMA) == examine(DATA, NODE, SCHEMA)


def test_the_file_is_synced_before_it_takes_the_place(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def note(this: Path, target: Path) -> None:
        done.append("rename")
        replace(this, target)

    monkeypatch.setattr(os, "fsync", lambda opened: done.append("fsync"))
    monkeypatch.setattr(Path, "replace", note)
    save(file, "/a", NODE, DATA)
    assert done == ["fsync", "rename", "fsync"]


def test_no_file_is_no_copy(file: Path) -> None:
    assert load(file, "/a", SCHEMA) is None


def test_a_copy_of_another_path(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    assert load(file, "/b", SCHEMA) is None


def test_every_torn_or_flipped_file_is_refused_or_the_same(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    whole, same = file.read_bytes(), load(file, "/a", SCHEMA)
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at])
        assert load(file, "/a", SCHEMA) is None
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = load(file, "/a", SCHEMA)
        assert found is None or found.document == same.document  # type: ignore[union-attr]


def test_values_that_the_schema_does_not_take_any_more(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    assert load(file, "/a", Schema(Pool)) is None


def test_a_document_under_a_wrong_version(file: Path) -> None:
    save(file, "/a", NODE, DATA)
    plain = json.loads(file.read_bytes())
    file.write_bytes(json.dumps({**plain, "version": 9}).encode())
    assert load(file, "/a", SCHEMA) is None


def test_nested_too_deeply(file: Path) -> None:
    file.write_bytes(b"[" * 100_000)
    assert load(file, "/a", SCHEMA) is None
