"""The identity record: one small file, replaced whole or not at all.

    file      >4sII magic "zkM1", CRC of the payload, its length; payload
    payload   >B16sqBqIII version, cluster id, server id, founding, accepted epoch,
              generation, length of voters, length of proposed voters; both

All integers big-endian.  The length must be that of the file.
"""

import struct
from typing import Final

from zkpy.crc import crc32
from zkpy.effects import Identity
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage.fs import FileSystem, join, read_whole, write_new

IDENTITY_NAME: Final = "identity"
FORMAT_VERSION: Final = 1
_MAGIC: Final = b"zkM1"
_FRAME: Final = struct.Struct(">4sII")
_PAYLOAD: Final = struct.Struct(">B16sqBqIII")


def encode_identity(identity: Identity) -> bytes:
    assert len(identity.cluster_id) == 16, "a cluster id has 16 bytes"
    payload = (
        _PAYLOAD.pack(
            FORMAT_VERSION,
            identity.cluster_id,
            identity.server_id,
            identity.founding,
            identity.accepted_epoch,
            identity.generation,
            len(identity.voters),
            len(identity.proposed_voters),
        )
        + identity.voters
        + identity.proposed_voters
    )
    return _FRAME.pack(_MAGIC, crc32(payload), len(payload)) + payload


def decode_identity(data: bytes) -> Identity:
    """CorruptionError for damaged bytes, StorageError for another version."""
    payload = data[_FRAME.size :]
    if len(data) < _FRAME.size + _PAYLOAD.size or data[: _FRAME.size] != _FRAME.pack(
        _MAGIC, crc32(payload), len(payload)
    ):
        raise CorruptionError("the identity record is damaged")
    version, cluster, server, founding, epoch, generation, voters, proposed = _PAYLOAD.unpack_from(
        payload
    )
    if version != FORMAT_VERSION:
        raise StorageError(f"identity format {version}, this program reads {FORMAT_VERSION}")
    rest = payload[_PAYLOAD.size :]
    if len(rest) != voters + proposed:
        raise CorruptionError("the identity record contradicts itself")
    return Identity(
        cluster_id=cluster,
        server_id=server,
        founding=bool(founding),
        accepted_epoch=epoch,
        voters=rest[:voters],
        proposed_voters=rest[voters:],
        generation=generation,
    )


def read_identity(fs: FileSystem, data_dir: str) -> Identity | None:
    """None if there is no record: the member is blank.  CorruptionError if it is damaged."""
    path = join(data_dir, IDENTITY_NAME)
    if not fs.exists(path):
        return None
    try:
        return decode_identity(read_whole(fs, path))
    except StorageError as error:
        raise type(error)(f"{path}: {error}") from error


def write_identity(fs: FileSystem, data_dir: str, identity: Identity) -> None:
    """Replace the record; the new one is durable on return, and never half of it."""
    write_new(fs, join(data_dir, IDENTITY_NAME), (encode_identity(identity),))
