"""Moves: a ZooKeeper's data into an empty data directory, and a server's data to a ZooKeeper.

Neither server runs meanwhile.  What is imported is the data of an ensemble of one, a seed (see
`founding`): others with empty directories join it.  What is exported is one snapshot, which
every member of a ZooKeeper may start from.
"""

import os
from typing import Final

import attrs

from wire import txn as txns
from zkpy.config import Config
from zkpy.effects import (
    CHAIN_START,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    EntryKind,
    GenerationChunk,
    Identity,
    Recovered,
    WriteIdentity,
    chain_next,
)
from zkpy.errors import StorageError
from zkpy.replica.images import load_state
from zkpy.server.boot import find_server_id, open_storage, propose_voters
from zkpy.server.founding import IMPORTING, describe, mark, mark_seed, narrow, unmark
from zkpy.server.recover import look, sound_identity
from zkpy.state.apply import ReplicatedState
from zkpy.state.image import ImageWriter
from zkpy.storage import OsFileSystem, Storage
from zkpy.storage.fs import TEMP_SUFFIX, join, make_dirs, parent, remove_tree, write_new
from zkpy.zab.quorum import VoterSet
from zkpy.zookeeper.convert import from_state, to_state
from zkpy.zookeeper.directory import VERSION_DIR, Loaded
from zkpy.zookeeper.files import write_snapshot
from zkpy.zookeeper.tree import Tree
from zkpy.zxid import epoch_of, show

GENERATION: Final = 1
CHUNK_NODES: Final = 4096
TTL_WARNING: Final = "ZooKeeper deletes them unless it has zookeeper.extendedTypesEnabled=true"


@attrs.define(frozen=True)
class Moved:
    """What went over."""

    zxid: int
    znodes: int
    sessions: int
    ended: int
    """Ephemeral znodes that were left behind, their sessions having ended."""
    place: str
    uncertain: int = 0
    """Transactions not known to be committed, which are among it."""
    ttls: int = 0
    """TTL znodes that are handed to a ZooKeeper."""

    def __str__(self) -> str:
        kept = f", {self.sessions} sessions" if self.sessions else ""
        gone = f"; {self.ended} ephemeral znodes ended with their sessions" if self.ended else ""
        doubt = f"; the last {self.uncertain} transactions may be no majority's"
        ttls = f"; {self.ttls} TTL znodes: {TTL_WARNING}" if self.ttls else ""
        return (
            f"{self.place}: {self.znodes} znodes{kept}, as of zxid {show(self.zxid)}{gone}"
            f"{doubt if self.uncertain else ''}{ttls}"
        )


# --- in


def take_over(config: Config, loaded: Loaded, keep_sessions: bool, cluster_id: bytes) -> Moved:
    """Make it the data of this server, which has none yet; StorageError if it has."""
    storage, recovered = open_storage(config)
    try:
        if recovered.identity is not None or recovered.suspect is not None:
            raise StorageError(f"{config.data_dir}: {describe(recovered)}; nothing was changed")
        server_id = find_server_id(config, recovered)
        ended = loaded.tree.end_sessions(keep_sessions)
        state = to_state(loaded.tree)
        voters = propose_voters(narrow(config, server_id), server_id).encode()
        identity = Identity(cluster_id, server_id, False, loaded.epoch, voters, voters, GENERATION)
        mark(config, IMPORTING)
        _write(storage, state, identity)
        mark_seed(config)
        unmark(config, IMPORTING)
    finally:
        storage.close()
    return Moved(state.zxid, state.node_count, len(state.sessions), ended, config.data_dir)


def _write(storage: Storage, state: ReplicatedState, identity: Identity) -> None:
    """The identity record comes last, and puts all of it in force."""
    number = 0

    def execute(step: DiskStep) -> None:
        nonlocal number
        number += 1
        storage.execute(DiskBatch(number, [step]))

    writer = ImageWriter(state)
    # Not that of an empty log: two imports must not look like one history.
    digest = state.digest.to_bytes(8, "big")
    chain = chain_next(CHAIN_START, state.zxid, int(EntryKind.TXN), digest)
    execute(BeginGeneration(GENERATION, state.zxid, chain))
    while (chunk := writer.next_chunk(CHUNK_NODES)) is not None:
        execute(GenerationChunk(chunk))
    execute(EndGeneration(state.digest))
    execute(WriteIdentity(identity))


# --- out


def hand_over(config: Config, target: str) -> Moved:
    """Write what this server has as a snapshot of ZooKeeper's, into `target`/version-2, which
    must not be there yet."""
    for directory in (config.data_dir, config.log_dir):
        if not os.path.isdir(directory):  # opening would make it
            raise StorageError(f"{directory}: no such directory")
    place = os.path.join(target, VERSION_DIR)
    if os.path.exists(place):
        raise StorageError(f"{place} is there already: choose another directory")
    storage, recovered = open_storage(config)
    try:
        identity = sound_identity(config, recovered)
        state = replayed(recovered)
        znodes = state.node_count
        tree = from_state(state)
        epoch = max(identity.accepted_epoch, epoch_of(state.zxid))
        _write_directory(place, tree, epoch)
    finally:
        storage.close()
    alone = VoterSet.decode(identity.proposed_voters).alone(identity.server_id)
    uncertain = 0 if alone else look(identity, recovered).uncertain
    ended = znodes - len(tree.nodes)
    ttls = len(state.lifetimes.ttls)
    return Moved(state.zxid, len(tree.nodes), 0, ended, place, uncertain, ttls)


def _write_directory(place: str, tree: Tree, epoch: int) -> None:
    """Whole or not at all."""
    fs, made = OsFileSystem(), place + TEMP_SUFFIX
    if fs.exists(made):  # an earlier try did not end
        remove_tree(fs, made)
    make_dirs(fs, made)
    for name in ("acceptedEpoch", "currentEpoch"):
        write_new(fs, join(made, name), (str(epoch).encode(),))
    file, offset = fs.open(join(made, f"snapshot.{tree.zxid:x}"), create=True), 0
    try:
        for piece in write_snapshot(tree):
            file.write(offset, (piece,))
            offset += len(piece)
        file.sync()
    finally:
        file.close()
    fs.sync_dir(made)
    fs.rename(made, place)
    fs.sync_dir(parent(place))


def replayed(recovered: Recovered) -> ReplicatedState:
    """The state after the last entry of the log, known to be committed or not."""
    state = load_state(recovered)
    for entry in recovered.entries:
        if entry.kind == EntryKind.TXN:
            state.apply(entry.zxid, *txns.decode(entry.data))
        else:  # what `/zookeeper/config` shows of it is not handed over
            state.apply_other(entry.zxid)
    return state
