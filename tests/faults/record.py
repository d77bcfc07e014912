"""What members of an ended run have on disk, as one log that the checkers can replay.

Every member's log is read whole, with `zkpy.storage.inspect`.  Equal zxids must be equal
entries, with equal chain values (A1, A2), and equal digests of the tree (A12) wherever two
batch headers name the same zxid.  Then the longest log is replayed through
`ReplicatedState`, which must come to every digest that any of them wrote down.
"""

from collections.abc import Mapping
from pathlib import Path

import attrs

from wire import txn as txns
from zkpy.effects import Entry, EntryKind
from zkpy.replica.membership import shown
from zkpy.state.apply import ReplicatedState
from zkpy.storage import OsFileSystem
from zkpy.storage.inspect import find_segments, open_segment
from zkpy.testing.histories import Commit
from zkpy.testing.world import Violation
from zkpy.zab.quorum import VoterSet
from zkpy.zxid import NONE, follows, show


@attrs.define
class MemberLog:
    """What one member has."""

    entries: dict[int, Entry] = attrs.Factory(dict)
    digests: dict[int, int] = attrs.Factory(dict)
    """zxid -> digest of the tree there, as batch headers say."""


def read_log(directory: Path) -> MemberLog:
    """Of an ended member.  Violation if it is damaged."""
    fs, found = OsFileSystem(read_only=True), MemberLog()
    for path in find_segments(fs, str(directory)):
        segment = open_segment(fs, path)
        for batch in segment.batches():
            found.entries |= {entry.zxid: entry for entry in batch.entries}
            if batch.header.digest_zxid:
                found.digests[batch.header.digest_zxid] = batch.header.digest
        if segment.problem is not None:
            raise Violation("D4", f"{path}: {segment.problem}")
    return found


def merge(logs: Mapping[int, MemberLog]) -> tuple[list[Entry], dict[int, int]]:
    """One log and all digests; Violation where two members differ, or something is missing."""
    entries: dict[int, Entry] = {}
    digests: dict[int, int] = {}
    for sid, log in logs.items():
        for zxid, entry in log.entries.items():
            if entries.setdefault(zxid, entry) != entry:
                raise Violation("A2", f"server {sid} has another {show(zxid)} than others")
        for zxid, digest in log.digests.items():
            if digests.setdefault(zxid, digest) != digest:
                raise Violation("A12", f"server {sid} had another tree at {show(zxid)}")
    ordered = [entries[zxid] for zxid in sorted(entries)]
    _check_gaps(ordered)
    return ordered, digests


def _check_gaps(entries: list[Entry]) -> None:
    last = NONE
    for entry in entries:
        if not follows(last, entry.zxid):
            raise Violation("A10", f"no member has what lies between {show(last)} and {entry.zxid}")
        last = entry.zxid


def replay(entries: list[Entry], digests: Mapping[int, int]) -> tuple[list[Commit], int]:
    """The log as commits, and the digest of the tree that it makes."""
    state = ReplicatedState.founded()
    commits = []
    for entry in entries:
        commit = Commit(entry.zxid, 0)
        if entry.kind == EntryKind.TXN:
            commit.header, commit.txn = txns.decode(entry.data)
        elif entry.kind == EntryKind.CONFIG:
            voters = VoterSet.decode(entry.data).at(entry.zxid)
            commit.header, commit.txn = shown(voters) or (None, None)
        if commit.header is not None and commit.txn is not None:
            state.apply(entry.zxid, commit.header, commit.txn)
        else:
            state.apply_other(entry.zxid)
        commits.append(commit)
        if digests.get(entry.zxid, state.digest) != state.digest:
            raise Violation("A12", f"replayed, {show(entry.zxid)} gives another tree than it did")
    return commits, state.digest


def find_last(log: MemberLog) -> int:
    return max(log.entries, default=NONE)
