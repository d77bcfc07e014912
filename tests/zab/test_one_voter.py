"""A Zab alone: everything happens without a timer, and nothing before it is durable."""

import random
from dataclasses import replace

import pytest

from wire.peer import Role
from zkpy import zxid as zxids
from zkpy.effects import Append, DiskBatch, Entry, EntryKind, Identity, WriteIdentity
from zkpy.zab.member import ZabOptions
from zkpy.zab.quorum import Members, Voter, VoterSet
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab

OPTIONS = ZabOptions(VoterSet.of([1]))


def make(identity: Identity | None = None, window: Window | None = None) -> Zab:
    return Zab(1, identity, window or Window(), OPTIONS, random.Random(1), 0)


def save(zab: Zab) -> DiskBatch:
    ready = zab.ready(zab.log.applied, 0)
    assert ready.disk and not ready.peers and not ready.votes and ready.halt is None
    zab.saved(ready.disk.number, 0)
    return ready.disk


def entries_of(batch: DiskBatch) -> list[Entry]:
    return [e for step in batch.steps if isinstance(step, Append) for e in step.entries]


def identities_of(batch: DiskBatch) -> list[Identity]:
    return [step.identity for step in batch.steps if isinstance(step, WriteIdentity)]


def founded() -> tuple[Zab, Identity, list[Entry]]:
    zab = make()
    save(zab)
    entries = zab.take_committed()
    identity = zab.identity
    assert identity is not None
    return zab, identity, entries


def test_founds_with_one_write() -> None:
    zab = make()
    assert (zab.role, zab.leader, zab.epoch, zab.serving) == (Role.LEADING, 1, 1, False)
    batch = save(zab)
    assert isinstance(batch.steps[0], WriteIdentity), "the promise comes before its epoch"
    first = identities_of(batch)[0]
    assert (first.founding, first.accepted_epoch, first.server_id) == (False, 1, 1)
    assert any(first.cluster_id)
    assert [(e.zxid, e.kind) for e in entries_of(batch)] == [
        (zxids.make(1, 1), EntryKind.EPOCH),
        (zxids.make(1, 2), EntryKind.CONFIG),
    ]
    assert zab.serving
    assert zab.take_committed() == entries_of(batch)


def test_serves_only_once_it_is_durable() -> None:
    zab = make()
    ready = zab.ready(0, 0)
    assert not zab.serving and zab.take_committed() == []
    with pytest.raises(AssertionError):
        zab.propose(EntryKind.TXN, b"too early")
    assert ready.disk
    zab.saved(ready.disk.number, 0)
    assert zab.serving


def test_proposals_are_a_group_commit() -> None:
    zab, _, _ = founded()
    save(zab)
    assert zab.ready(zab.log.applied, 0).disk is None
    zab.propose(EntryKind.TXN, b"a")
    first = zab.ready(zab.log.applied, 77).disk
    assert first is not None
    (step,) = first.steps
    assert isinstance(step, Append)
    assert (step.committed, step.digest_zxid, step.digest) == (zxids.make(1, 2),) * 2 + (77,)
    for data in (b"b", b"c"):
        zab.propose(EntryKind.TXN, data)
        assert zab.ready(zab.log.applied, 0).disk is None, "at most one batch under way"
    assert zab.take_committed() == []
    zab.saved(first.number, 0)
    assert [e.data for e in zab.take_committed()] == [b"a"]
    assert [e.data for e in entries_of(save(zab))] == [b"b", b"c"]
    assert [e.data for e in zab.take_committed()] == [b"b", b"c"]
    assert zab.take_committed() == []


def test_restart_commits_the_whole_history() -> None:
    zab, identity, entries = founded()
    for data in (b"a", b"b"):
        zab.propose(EntryKind.TXN, data)
    entries += entries_of(save(zab))
    again = make(identity, Window(0, 0, entries, entries[2].zxid))
    assert again.role is Role.LEADING and again.epoch == 2
    assert again.take_committed() == entries[:3], (
        "what is known to be committed is replayed at once"
    )
    batch = save(again)
    assert again.serving
    assert [e.zxid for e in entries_of(batch)] == [zxids.make(2, 1)]
    assert again.take_committed() == [entries[3], *entries_of(batch)]
    assert again.propose(EntryKind.TXN, b"c") == zxids.make(2, 2)


def test_a_promise_without_an_epoch_is_not_used_twice() -> None:
    """It crashed between the record and (2,1): another leader may have had epoch 2 from it."""
    _, identity, entries = founded()
    promised = replace(identity, accepted_epoch=2)
    assert make(promised, Window(0, 0, entries, entries[-1].zxid)).epoch == 3


def test_the_epoch_rolls_when_it_is_full() -> None:
    """T-roll-1: behind the last zxid of an epoch writes go on in the next, without an error."""
    options = replace(OPTIONS, epoch_entries_max=5)
    zab = Zab(1, None, Window(), options, random.Random(1), 0)
    save(zab)
    written = []
    for number in range(10):
        if zab.serving:
            written.append(zab.propose(EntryKind.TXN, b"%d" % number))
        batch = zab.ready(zab.log.applied, 0).disk
        if batch:
            zab.saved(batch.number, 0)
        zab.take_committed()
        if zab.deadline() == 0:
            zab.handle_timer(0)
    assert written == [zxids.make(1, n) for n in (3, 4, 5)] + [
        zxids.make(2, n) for n in (2, 3, 4, 5)
    ]
    assert zab.epoch == 3 and zab.why_looking == "the epoch is full"


def test_confirmation_needs_nobody_else() -> None:
    zab, _, _ = founded()
    token = zab.confirm_leadership()
    assert zab.confirmed >= token
    assert zab.confirm_leadership() > token


def test_a_digest_mismatch_stops_the_only_server() -> None:
    zab, _, _ = founded()
    zab.on_digest_mismatch(0)
    assert "no other server" in (zab.ready(zab.log.applied, 0).halt or "")


def test_founding_can_be_forbidden() -> None:
    options = replace(OPTIONS, autocreate=False)
    zab = Zab(1, None, Window(), options, random.Random(1), 0)
    assert zab.role is Role.LOOKING
    assert zab.ready(0, 0).disk is None


def test_a_suspect_server_alone_serves_nothing() -> None:
    _, identity, _ = founded()
    zab = Zab(1, identity, Window(), OPTIONS, random.Random(1), 0, suspect=True)
    for now in range(0, 100_000, 500):
        zab.handle_timer(now)
    assert zab.role is Role.LOOKING and not zab.serving
    assert zab.ready(0, 0).disk is None


def test_weightless_partners_do_not_keep_it_waiting() -> None:
    voters = VoterSet(Members({1: Voter(), 2: Voter(weight=0)}))
    zab = Zab(1, None, Window(), replace(OPTIONS, voters=voters), random.Random(1), 0)
    batch = zab.ready(0, 0).disk
    assert batch is not None
    zab.saved(batch.number, 0)
    assert zab.serving


def test_memory_is_bounded() -> None:
    options = replace(OPTIONS, window_bytes_max=20_000)
    zab = Zab(1, None, Window(), options, random.Random(1), 0)
    save(zab)
    for _ in range(500):
        zab.propose(EntryKind.TXN, b"x" * 100)
        save(zab)
        zab.take_committed()
    zab.ready(zab.log.applied, 0)
    assert len(zab.log.entries) < 100
    assert zab.log.held_bytes <= 20_000
