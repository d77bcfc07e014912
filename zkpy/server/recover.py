"""The way out when the quorum is lost for good: one member goes on alone, with what it has.

In: the data directory of the member that is to go on, no server running on it.  Out:
the same data as that of a new ensemble whose only voter it is.  What only the others
had is lost, if it was acknowledged or not: so this is done by an operator who says so,
never by a server.

The cluster id is a new one.  A member of the old ensemble that comes back with its data does
not join, and finds no quorum; were it the same, it would bring a second truth with it.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import attrs

from zkpy.config import Config
from zkpy.effects import (
    Append,
    DiskBatch,
    DiskStep,
    Entry,
    EntryKind,
    Identity,
    Recovered,
    WriteIdentity,
    chain_next,
)
from zkpy.errors import StorageError
from zkpy.membership import Configuration
from zkpy.replica.membership import founding_set
from zkpy.server.founding import mark_seed
from zkpy.storage import OsFileSystem, Storage, StorageOptions
from zkpy.zab.quorum import VoterSet
from zkpy.zxid import show


@attrs.define(frozen=True)
class Found:
    """What the directory holds."""

    server_id: int
    last: int
    committed: int
    uncertain: int
    """Entries that are not known to be committed: they are kept."""
    voters: list[int]

    def __str__(self) -> str:
        return (
            f"server {self.server_id}: last zxid {show(self.last)}, known to be committed up to "
            f"{show(self.committed)} ({self.uncertain} entries behind that are kept), "
            f"voters so far {' '.join(map(str, self.voters))}"
        )


def recover(
    config: Config, cluster_id: bytes, time_ms: int, confirm: Callable[[Found], bool]
) -> bool:
    """Make it the data of an ensemble of one, if `confirm` says so; StorageError if it cannot
    be."""
    for directory in (config.data_dir, config.log_dir):
        if not os.path.isdir(directory):  # opening would make it
            raise StorageError(f"{directory}: no such directory; choose another member's data")
    options = StorageOptions(segment_bytes=config.segment_bytes)
    storage, recovered = Storage.open(OsFileSystem(), config.data_dir, config.log_dir, options)
    try:
        identity = sound_identity(config, recovered)
        if not confirm(look(identity, recovered)):
            return False
        storage.execute(DiskBatch(1, steps_to(config, identity, recovered, cluster_id, time_ms)))
        mark_seed(config)
        return True
    finally:
        storage.close()


def sound_identity(config: Config, recovered: Recovered) -> Identity:
    identity = recovered.identity
    if recovered.suspect is not None:
        raise StorageError(f"{config.data_dir}: {recovered.suspect}; choose another member's")
    if identity is None or identity.founding:
        raise StorageError(f"{config.data_dir}: it holds no member's data; choose another's")
    return identity


def look(identity: Identity, recovered: Recovered) -> Found:
    last = recovered.entries[-1].zxid if recovered.entries else recovered.image_zxid
    uncertain = sum(entry.zxid > recovered.committed for entry in recovered.entries)
    voters = VoterSet.decode(identity.proposed_voters).voters()
    return Found(identity.server_id, last, recovered.committed, uncertain, voters)


def steps_to(
    config: Config, identity: Identity, recovered: Recovered, cluster_id: bytes, time_ms: int
) -> list[DiskStep]:
    """The record first: should the power fail before the log has the new set as well, it is
    in force nevertheless, under the new id; only `/zookeeper/config` is behind."""
    voters = sole_voter(config, identity.server_id, time_ms)
    found = look(identity, recovered)
    chain = recovered.entries[-1].chain if recovered.entries else recovered.image_chain
    zxid, kind, data = found.last + 1, int(EntryKind.CONFIG), voters.encode()
    entry = Entry(zxid, kind, data, chain_next(chain, zxid, kind, data))
    known = voters.at(zxid).encode()
    changed = replace(
        identity, cluster_id=cluster_id, voters=known, proposed_voters=known, founding=False
    )
    return [WriteIdentity(changed), Append([entry], zxid, 0, 0)]


def sole_voter(config: Config, server_id: int, time_ms: int) -> VoterSet:
    own = [attrs.evolve(s, observer=False) for s in config.servers if s.server_id == server_id]
    if not own:
        return VoterSet.of([server_id])
    return founding_set(Configuration.of(own), time_ms)
