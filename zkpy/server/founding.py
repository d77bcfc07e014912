"""How a data directory comes to be by an operator's word, instead of by the first start.

`allow` leaves a mark in an empty directory: with it a server may found a new ensemble,
together with others that may, although `db.autocreate` is false.  The mark is ZooKeeper's,
an empty file `initialize`, and lies in the directory that it speaks of: a disk that is
lost takes it along.  `forget` takes it away once there is a record of an ensemble.

`plant` makes the seed of an ensemble: a set of one voter, which serves at once and which
others, with empty directories, join by synchronisation.  Data of a
server that stood alone is such a seed as it is.  A second mark, `seed`, says that this is
meant: without it no such server starts whose zoo.cfg names other voters.
"""

import os
from typing import Final

import attrs

from zkpy.config import Config
from zkpy.effects import DiskBatch, Identity, Recovered, WriteIdentity
from zkpy.errors import ConfigError, StorageError
from zkpy.storage import OsFileSystem
from zkpy.storage.fs import join, write_new
from zkpy.zab.member import recovered_voters
from zkpy.zab.quorum import VoterSet
from zkpy.zxid import show

MARK: Final = "initialize"
SEED: Final = "seed"
IMPORTING: Final = "importing"
"""Lies in a directory while `zkpy import` fills it: what was not brought to its end is no empty
server, which might found an ensemble without the data."""


def is_allowed(config: Config) -> bool:
    """Whether a server without data may found an ensemble."""
    return config.ensemble_autocreate or has_mark(config, MARK)


def has_mark(config: Config, name: str) -> bool:
    return os.path.exists(join(config.data_dir, name))


def forget(config: Config, recovered: Recovered) -> None:
    """Take the marks away that have served: this member is past its founding, or not alone."""
    identity = recovered.identity
    if identity is None or identity.founding:
        return
    voters = VoterSet.decode(identity.voters).voters()
    for name in (MARK,) if voters == [identity.server_id] else (MARK, SEED):
        unmark(config, name)


def allow(config: Config, recovered: Recovered) -> str:
    """What was done, in words; StorageError if there is data already."""
    if recovered.identity is not None or recovered.suspect is not None:
        raise StorageError(f"{config.data_dir}: {describe(recovered)}; nothing was changed")
    write_new(OsFileSystem(), join(config.data_dir, MARK), (b"",))
    return (
        f"{config.data_dir}: empty, and marked: this server may found a new ensemble, together "
        "with a majority of the voters of its zoo.cfg that are empty too"
    )


def mark(config: Config, name: str) -> None:
    path = join(config.data_dir, name)
    if not os.path.exists(path):
        write_new(OsFileSystem(), path, (b"",))


def unmark(config: Config, name: str) -> None:
    path, fs = join(config.data_dir, name), OsFileSystem()
    if os.path.exists(path):
        fs.unlink(path)
        fs.sync_dir(config.data_dir)


def refuse_half_imported(config: Config, recovered: Recovered) -> None:
    if recovered.identity is None and has_mark(config, IMPORTING):
        raise ConfigError(
            f"{config.data_dir}: `zkpy import` was begun and did not end; repeat it (or remove the "
            f"file {IMPORTING}, for an empty server)"
        )


def mark_seed(config: Config) -> None:
    """This directory is meant to be that of the only voter, whoever else zoo.cfg names."""
    mark(config, SEED)


def refuse_standalone_past(config: Config, recovered: Recovered) -> None:
    """ConfigError for a zoo.cfg that makes an ensemble of what was a server alone.

    Who votes is in its log, and that is it alone: it would go on as it was, while the others,
    which are empty, found an ensemble without it, or learn from it and count for nothing.
    A reconfig says who votes, however few; and so does the mark.

    Where a set of one came from need not be recorded, since there are four ways to one:

    - a server founded it alone, for its zoo.cfg named no other voter: what is refused here;
    - a reconfig left one voter: that set bears the zxid of what decided on it, wherever it is
      kept, in the log, the record and a leader's image (but those of format 1, written before
      there were marks);
    - `zkpy init --seed` and `zkpy recover` make one, and leave the mark.  A crash before the mark
      is made, or a copy of the directory without it, is refused, and may be marked then;
    - a set that is proposed and taken back, by a log that is cut: the one before it is in force
      again, and is one of these.  So it is the set in force that is asked for: the record may
      be ahead of a cut log, and is behind the log for as long as a power cut may fall between.
    """
    identity = recovered.identity
    voting = [spec for spec in config.servers if not spec.observer]
    others = [f"server.{each.server_id}" for each in voting if each.server_id != config.server_id]
    if identity is None or identity.founding or not others:
        return
    voters = recovered_voters(identity, recovered.image_zxid, recovered.entries)[-1]
    changed = voters.joint or voters.decided
    if changed or voters.voters() != [config.server_id] or has_mark(config, SEED):
        return
    raise ConfigError(
        f"{config.source}: {', '.join(others)}: {config.data_dir} holds the data of server "
        f"{config.server_id} alone, and such lines make nobody a voter beside it: leave its own "
        "line only and add the others by `zkpy reconfig` (docs/operations.md, From one server to "
        "three), or say by `zkpy init --seed` that it is to be the only voter"
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
