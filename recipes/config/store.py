"""The last good configuration in a file, for starts while no server can be reached.

JSON, replaced atomically (a new file beside it, fsync, rename, fsync of the directory), so there
is the old one or the new one whenever the machine stops:

    {"path":"/shop","born":<czxid>,"version":7,"sha256":"<of document>","document":"{...}"}
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Final, TypeVar

import attrs

from recipes.config.document import Good, Node, examine
from recipes.config.errors import ConfigError, InvalidConfigError
from recipes.config.schema import Schema

log = logging.getLogger(__name__)

T = TypeVar("T")
NEW_SUFFIX: Final = ".new"


@attrs.frozen
class Saved:
    """What is in the file."""

    path: str
    """Of the znode."""
    born: int
    version: int
    sha256: str
    document: str


_SAVED: Final = Schema(Saved)


def save(file: Path, path: str, node: Node, data: bytes) -> None:
    """Raises OSError.  One file belongs to one subscriber."""
    digest = hashlib.sha256(data).hexdigest()
    saved = Saved(path, node.born, node.version, digest, data.decode())
    fresh = file.with_name(file.name + NEW_SUFFIX)
    with fresh.open("wb") as out:
        out.write(json.dumps(_SAVED.write(saved)).encode())
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    sync_directory(file.parent)


def sync_directory(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def load(file: Path, path: str, schema: Schema[T]) -> Good[T] | None:
    """None, and a line in the log, for a file that cannot be used: damaged, of another path,
    or with values that the schema does not take any more."""
    try:
        return _load(file.read_bytes(), path, schema)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, ConfigError) as why:
        log.warning("%s cannot be used: %s", file, why)
        return None


def _load(data: bytes, path: str, schema: Schema[T]) -> Good[T]:
    saved = _SAVED.read(json.loads(data))
    document = saved.document.encode()
    if saved.path != path:
        raise InvalidConfigError([f"a copy of {saved.path}"])
    if hashlib.sha256(document).hexdigest() != saved.sha256:
        raise InvalidConfigError(["damaged"])
    return examine(document, Node(saved.born, saved.version), schema)
