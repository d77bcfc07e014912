"""How a data directory comes to be by an operator's word, instead of by the first start.

`allow` leaves a mark in an empty directory: with it a server may found a new ensemble,
together with others that may, although `db.autocreate` is false.  The mark is ZooKeeper's,
an empty file `initialize`, and lies in the directory that it speaks of: a disk that is
lost takes it along.  `forget` takes it away once there is a record of an ensemble.

`plant` makes the seed of an ensemble: a set of one voter, which serves at once and which
others, with empty directories, join by synchronisation (DESIGN.md, decision 8).  Data of a
server that stood alone is such a seed as it is.
"""

import os
from typing import Final

import attrs

from zkpy.config import Config
from zkpy.effects import DiskBatch, Identity, Recovered, WriteIdentity
from zkpy.errors import ConfigError, StorageError
from zkpy.storage import OsFileSystem
from zkpy.storage.fs import join, write_new
from zkpy.zab.quorum import VoterSet
from zkpy.zxid import show

MARK: Final = "initialize"


def is_allowed(config: Config) -> bool:
    """Whether a server without data may found an ensemble."""
    return config.ensemble_autocreate or os.path.exists(join(config.data_dir, MARK))


def forget(config: Config, recovered: Recovered) -> None:
    """Take the mark away, if this member is past its founding."""
    path = join(config.data_dir, MARK)
    identity = recovered.identity
    if identity is not None and not identity.founding and os.path.exists(path):
        fs = OsFileSystem()
        fs.unlink(path)
        fs.sync_dir(config.data_dir)


def allow(config: Config, recovered: Recovered) -> str:
    """What was done, in words; StorageError if there is data already."""
    if recovered.identity is not None or recovered.suspect is not None:
        raise StorageError(f"{config.data_dir}: {describe(recovered)}; nothing was changed")
    write_new(OsFileSystem(), join(config.data_dir, MARK), (b"",))
    return (
        f"{config.data_dir}: empty, and marked: this server may found a new ensemble, together "
        "with a majority of the voters of its zoo.cfg that are empty too"
    )


def narrow(config: Config, server_id: int) -> Config:
    """The same, as if this server were the only one; ConfigError if it has no line."""
    own = [attrs.evolve(s, observer=False) for s in config.servers if s.server_id == server_id]
    if config.servers and not own:
        raise ConfigError(f"{config.data_dir}: zoo.cfg has no line server.{server_id}")
    return attrs.evolve(config, servers=tuple(own), groups={}, weights={})


def plant(config: Config, recovered: Recovered, voters: VoterSet, cluster_id: bytes) -> "Planted":
    """Looks only; `Planted.steps` is what remains to be done.  StorageError if it cannot be.

    `voters` is this server alone, as `narrow`'s configuration has it."""
    (server_id,) = voters.voters()
    identity = recovered.identity
    if recovered.suspect is None and identity is None:
        encoded = voters.encode()
        made = Identity(cluster_id, server_id, False, 0, encoded, encoded)
        return Planted(server_id, recovered, DiskBatch(1, [WriteIdentity(made)]))
    if recovered.suspect is not None or not _is_seed(identity, server_id):
        raise StorageError(f"{config.data_dir}: {describe(recovered)}; nothing was changed")
    return Planted(server_id, recovered, None)


def _is_seed(identity: Identity | None, server_id: int) -> bool:
    """Whether what is there is all the quorum that there is."""
    if identity is None or identity.founding:
        return False
    return VoterSet.decode(identity.proposed_voters).alone(server_id)


@attrs.define
class Planted:
    server_id: int
    recovered: Recovered
    steps: DiskBatch | None
    """None: the data that is there is a seed as it is."""

    def __str__(self) -> str:
        if self.steps is None:
            what = f"keeps its data: {describe(self.recovered)}"
        else:
            what = "has no data yet"
        return (
            f"server {self.server_id} {what}. It is the only voter of its ensemble, and serves "
            "as soon as it is started, whatever else its zoo.cfg names"
        )


def describe(recovered: Recovered) -> str:
    """What a directory holds."""
    if recovered.suspect is not None:
        return recovered.suspect
    identity = recovered.identity
    if identity is None:
        return "no data"
    last = recovered.entries[-1].zxid if recovered.entries else recovered.image_zxid
    voters = " ".join(map(str, VoterSet.decode(identity.proposed_voters).voters()))
    standing = "began to found" if identity.founding else "is a member of"
    return (
        f"server {identity.server_id}, which {standing} an ensemble of the voters {voters}, "
        f"last zxid {show(last)}"
    )
