"""A1-A13 and the D rules of docs/guarantees.md, checked from outside after every step.

`Invariants` is told what members read at boot, ask for, have made durable and hear
(`ensemble.Watcher`), and looks at each member after each of its steps.  It keeps

    order     the committed log: entries as first applied anywhere, with their chain values
    made      zxid -> the entry that its epoch's primary, one and only, proposed
    disks     per member: what its disk is known to hold, batch by batch

A chain value stands for all entries before it, so that one comparison per step compares
whole logs, and the cost of a step does not grow with them.

How the rules are checked:

    A1 A7  equal zxid, equal entry, one proposer per epoch       on every proposal and append
    A2 A3  every application continues `order`                   on every application
    A4 A10 zxids follow each other, in order and in every log    on both
    A5 A8  epochs and promises never go back                     on every step and boot
    A6     a new primary's log holds all of `order` before it    on its first proposal
    A9     committed: on a quorum of disks; never cut off again  on first application, on cuts
    A11    applied: durable on this very disk before             on every application
    A12    equal zxid, equal digest                              on every step
    A7 A13 no epoch without a quorum's promises, one per voter   on every promise, on (e,1)
    A13    no ack of others counts: by A9
    D1 D2  ACK, LEADERINFO, ACKEPOCH only of what is durable     on every send
    C11    expiry not before time-out after the last touch       on every expiry proposed
    C13    no reply when the leader, or the quorum, was silent,
           or the server has long ceased to serve                on every send to a client
"""

import struct
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

import attrs

from wire import txn as txns
from wire.peer import Ack, AckEpoch, LeaderInfo, Ping, Role
from wire.txn import CloseSessionTxn, CreateSessionTxn, TxnHeader
from zkpy import zxid as zxids
from zkpy.effects import (
    CHAIN_START,
    Append,
    BeginGeneration,
    DiskBatch,
    Entry,
    EntryKind,
    Identity,
    Ready,
    Recovered,
    Truncate,
    WriteIdentity,
    chain_next,
)
from zkpy.pipeline.request import LEADER
from zkpy.replica.membership import shown
from zkpy.testing.ensemble import Ensemble, Member, Watcher
from zkpy.testing.histories import Commit
from zkpy.testing.setup import Setup
from zkpy.testing.world import Violation
from zkpy.zab.quorum import Members, VoterSet
from zkpy.zxid import show

SESSION: Final = struct.Struct(">q")


@attrs.define
class DiskLog:
    """A log as a disk holds it: entries behind `base`, with chain values."""

    base: int = zxids.NONE
    base_chain: int = CHAIN_START
    zxids: list[int] = attrs.Factory(list)
    chains: dict[int, int] = attrs.Factory(dict)

    @property
    def last(self) -> int:
        return self.zxids[-1] if self.zxids else self.base

    def append(self, entry: Entry) -> None:
        self.zxids.append(entry.zxid)
        self.chains[entry.zxid] = entry.chain

    def truncate(self, zxid: int) -> None:
        while self.zxids and self.zxids[-1] > zxid:
            del self.chains[self.zxids.pop()]

    def chain_at(self, zxid: int) -> int | None:
        return self.base_chain if zxid == self.base else self.chains.get(zxid)


@attrs.define(eq=False)
class Disk:
    """What one member's disk is known to hold; a crash may have left more."""

    log: DiskLog = attrs.Factory(DiskLog)
    identity: Identity | None = None
    pending: DiskLog | None = None
    generation: int = 0
    """Of `pending`."""
    wiped: bool = False
    """Emptied, and no full member since."""
    rotten: bool = False
    """Damaged, and no image adopted since."""

    @property
    def cluster_id(self) -> bytes:
        return self.identity.cluster_id if self.identity is not None else b""

    @property
    def is_full(self) -> bool:
        """Whether it is that of a full member of an ensemble, and sound."""
        identity = self.identity
        sound = identity is not None and not identity.founding and not self.rotten
        return sound and any(self.cluster_id)

    @property
    def may_have_held(self) -> bool:
        """What it lacks it may have lost; it elects nobody until it is a full member again."""
        return self.wiped or self.rotten


@attrs.define(eq=False)
class Seen:
    """What one member's process was last seen to be."""

    applied: int = 0
    made: int = 0
    """Of a leader: its log was looked at up to here."""
    epoch: int = 0
    accepted: int = 0
    offered: dict[int, int] = attrs.Factory(dict)
    """Server id -> epoch of its last LEADERINFO."""
    heard: dict[int, int] = attrs.Factory(dict)
    """Server id -> local ms of its last message."""
    touched: dict[int, int] = attrs.Factory(dict)
    """Of a leader: session -> local ms at which it learnt of life."""
    serves_since: int | None = None
    """Of a leader: local ms."""
    served: int = 0
    """Local ms at which it was last seen to serve; at first, of its start."""


class Invariants(Watcher):
    """Raises Violation out of the step that broke a rule."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.commits: list[Commit] = []
        self.disks = {sid: Disk() for sid in setup.ids}
        self.seen: dict[int, Seen] = {}
        self.ensemble: Ensemble
        """Set by whoever builds both."""
        self.checks_client_silence = self.checks_expiry = True
        self.leaders: dict[int, int] = {}
        """Epoch -> the one that put it into a zxid."""
        self.acks_checked = 0
        self.promises_checked = 0
        self._sets: list[VoterSet] = [setup.founding_set()]
        """All voter sets ever proposed, by zxid."""
        self._promises: dict[tuple[int, int], int] = {}
        """Server id, epoch -> whom it promised that to."""
        self._order: list[int] = []
        self._chains: dict[int, int] = {zxids.NONE: CHAIN_START}
        self._made: dict[int, Entry] = {}
        self._digests: dict[int, int] = {}
        self._timeouts: dict[int, int] = {}

    # --- what the watcher is told

    def booted(self, member: Member, recovered: Recovered) -> None:
        """What a crash left: all that was durable, and nothing that was never asked for."""
        sid, disk = member.sid, self.disks[member.sid]
        self.seen[sid] = Seen(applied=recovered.image_zxid, served=member.clock.now_ms())
        self._forget_unsaid(sid, recovered)
        if recovered.suspect is None:
            self._check_recovered(member, disk, recovered)
        log = DiskLog(recovered.image_zxid, recovered.image_chain)
        for entry in recovered.entries:
            log.append(entry)
        found = Disk(log, recovered.identity)
        found.wiped = disk.wiped and not found.is_full
        found.rotten = recovered.suspect is not None
        self.disks[sid] = found

    def _forget_unsaid(self, sid: int, recovered: Recovered) -> None:
        """A sole voter opens an epoch and writes its promise in one batch: lost with it, the
        epoch was never heard of, and may be opened anew."""
        identity = recovered.identity
        if not self._newest_set(recovered).alone(sid):
            return
        durable = identity.accepted_epoch if identity else 0
        for epoch in [e for e, leader in self.leaders.items() if leader == sid and e > durable]:
            del self.leaders[epoch]
            for zxid in [zxid for zxid in self._made if zxids.epoch_of(zxid) == epoch]:
                del self._made[zxid]

    def _newest_set(self, recovered: Recovered) -> VoterSet:
        """By which it counts: of its log, of which its record may be behind."""
        for entry in reversed(recovered.entries):
            if entry.kind == EntryKind.CONFIG:
                return VoterSet.decode(entry.data).at(entry.zxid)
        identity = recovered.identity
        return VoterSet.decode(identity.proposed_voters) if identity else self._sets[0]

    def wiped(self, member: Member) -> None:
        self.disks[member.sid] = Disk(wiped=True)
        for key in [key for key in self._promises if key[0] == member.sid]:
            del self._promises[key]

    def rotted(self, member: Member) -> None:
        self.disks[member.sid].rotten = True

    def _check_recovered(self, member: Member, disk: Disk, recovered: Recovered) -> None:
        sid = member.sid
        before, identity = disk.identity, recovered.identity
        if before is not None and (
            identity is None or identity.accepted_epoch < before.accepted_epoch
        ):
            raise Violation("A8", f"server {sid} forgot its promise {before} for {identity}")
        committed = recovered.committed
        # A leader that died within the pass in which it committed told nobody: so look.
        told = committed <= self._last or committed in self._chains
        if not told and not self._is_on_a_quorum(committed):
            raise Violation("A9", f"server {sid} recovers {show(committed)} as committed")
        if identity is not None and before is not None and identity.generation > before.generation:
            assert disk.pending is not None
            self._check_adopted(sid, disk, disk.pending)
            disk.log = disk.pending
        self._check_log_kept(member, disk.log, recovered)

    def _is_on_a_quorum(self, zxid: int) -> bool:
        """Whether a quorum of voters has one and the same entry there, durably."""
        chains = {sid: disk.log.chain_at(zxid) for sid, disk in self.disks.items()}
        sets = self._sets_around(zxid)
        lost = [sid for sid, disk in self.disks.items() if disk.may_have_held]
        for chain in dict.fromkeys(chains.values()):
            holders = lost + [sid for sid, each in chains.items() if each == chain]
            if chain is not None and any(is_quorum(holders, voters) for voters in sets):
                return True
        return False

    def _sets_around(self, zxid: int) -> list[VoterSet]:
        """By which the entry may have been counted: the one in force there, or a later one that
        a leader had proposed by then."""
        before = [each for each in self._sets if each.version <= zxid and self._may_be_in(each)]
        return before[-1:] + [each for each in self._sets if each.version > zxid]

    def _may_be_in(self, voters: VoterSet) -> bool:
        """Whether that set is in the committed order, or beyond it."""
        version = voters.version
        return not 0 < version <= self._last or version in self._chains

    def _check_log_kept(self, member: Member, log: DiskLog, recovered: Recovered) -> None:
        chains = {entry.zxid: entry.chain for entry in recovered.entries}
        chains[recovered.image_zxid] = recovered.image_chain
        last = log.last
        if last <= recovered.image_zxid or chains.get(last) == log.chain_at(last):
            return
        kept = recovered.entries[-1].zxid if recovered.entries else recovered.image_zxid
        if self._cuts_committed(log, kept):
            raise Violation("A9", f"server {member.sid} lost {show(last)}, which was committed")
        if not any(isinstance(step, Truncate) for step in member.unfinished):
            raise Violation("D1", f"server {member.sid} lost {show(last)}, which was durable")

    def asked(self, member: Member, ready: Ready) -> None:
        if member.replica.zab.role is Role.LEADING:
            self._note_made(member, self.seen[member.sid])
        if ready.disk is not None:
            for step in ready.disk.steps:
                if isinstance(step, Append):
                    self._check_appended(member, step.entries)
        for sid, message in ready.peers:
            check = _ON_SEND.get(type(message))
            if check is not None:
                check(self, member, sid, message)
        if ready.clients and self.checks_client_silence:
            self._check_not_cut_off(member)

    def made_durable(self, member: Member, batch: DiskBatch) -> None:
        disk = self.disks[member.sid]
        for step in batch.steps:
            act = _ON_DURABLE.get(type(step))
            if act is not None:
                act(self, member.sid, disk, step)

    def heard(self, member: Member, sid: int, message: object) -> None:
        seen = self.seen[member.sid]
        now = member.clock.now_ms()
        seen.heard[sid] = now
        if isinstance(message, LeaderInfo):
            seen.offered[sid] = message.epoch
        elif isinstance(message, Ping) and message.payload:
            for (session,) in SESSION.iter_unpack(message.payload):
                seen.touched[session] = now

    def heard_client(self, member: Member, link: int) -> None:
        client = member.replica.clients.links.by_id.get(link)
        if client is not None and client.session:
            self.seen[member.sid].touched[client.session] = member.clock.now_ms()

    def stepped(self, member: Member) -> None:
        seen, replica = self.seen[member.sid], member.replica
        zxid = replica.state.zxid
        if replica.zab.role is Role.LEADING:
            self._note_made(member, seen)
        if zxid != seen.applied:
            self._check_applied(member, seen, zxid)
            self._check_digest(member, zxid, replica.state.digest)
        accepted = replica.zab.member.accepted_epoch
        if accepted < seen.accepted:
            raise Violation("A8", f"server {member.sid} goes back from epoch {seen.accepted}")
        seen.accepted = accepted
        epoch = replica.zab.epoch
        if epoch != seen.epoch:
            seen.epoch, seen.serves_since = epoch, None
            seen.touched.clear()
        if replica.zab.serving:
            seen.served = member.clock.now_ms()
            if seen.serves_since is None:
                seen.serves_since = seen.served

    # --- applied: A2, A3, A4, A5, A9, A11, A12

    @property
    def _last(self) -> int:
        return self._order[-1] if self._order else zxids.NONE

    def _check_applied(self, member: Member, seen: Seen, zxid: int) -> None:
        sid, disk = member.sid, self.disks[member.sid]
        if zxid < seen.applied:
            raise Violation("A2", f"server {sid} goes back to {show(zxid)}")
        chain = disk.log.chain_at(zxid)
        if chain is None:
            raise Violation("A11", f"server {sid} applied {show(zxid)}, not durable there")
        if zxid > self._last:
            self._extend(member, zxid)
        known = self._chains.get(zxid)
        if known is None or known != chain:
            raise Violation("A2", f"server {sid} applied another {show(zxid)} than others did")
        seen.applied = zxid

    def _extend(self, member: Member, zxid: int) -> None:
        """First applied here: this is what committed means to the outside."""
        # By the disk: the window may have dropped entries as soon as they were applied.
        log = self.disks[member.sid].log
        if log.chain_at(self._last) != self._chains[self._last]:
            raise Violation("A2", f"server {member.sid} applies on another log than others")
        now = member.world.now
        entries = log.zxids[bisect_right(log.zxids, self._last) : bisect_right(log.zxids, zxid)]
        for each in entries:
            self._commit(self._made[each], now)
        holders = [s for s in self.disks if self._holds(self.disks[s].log, zxid)]
        lost = [s for s in self.disks if self.disks[s].may_have_held and s not in holders]
        if not any(is_quorum(holders + lost, each) for each in self._sets_around(zxid)):
            raise Violation("A9", f"{show(zxid)} is committed, but durable only on {holders}")
        self.ensemble.timeline.count_commits(now, len(entries))

    def _commit(self, entry: Entry, now: int) -> None:
        if not zxids.follows(self._last, entry.zxid):
            raise Violation("A4", f"{show(entry.zxid)} applied behind {show(self._last)}")
        self._order.append(entry.zxid)
        self._chains[entry.zxid] = entry.chain
        commit = Commit(entry.zxid, now)
        if entry.kind == EntryKind.TXN:
            commit.header, commit.txn = txns.decode(entry.data)
        elif entry.kind == EntryKind.CONFIG:
            commit.header, commit.txn = shown(VoterSet.decode(entry.data).at(entry.zxid)) or (
                None,
                None,
            )
        self.commits.append(commit)

    def _holds(self, log: DiskLog, zxid: int) -> bool:
        """A log whose image is beyond `zxid` holds it if that image is in the order."""
        return log.chain_at(zxid) == self._chains[zxid] or (
            log.base > zxid and self._chains.get(log.base) == log.base_chain
        )

    def _check_digest(self, member: Member, zxid: int, digest: int) -> None:
        known = self._digests.setdefault(zxid, digest)
        if known != digest:
            raise Violation("A12", f"server {member.sid} has another tree at {show(zxid)}")

    # --- appended: A1, A5, A6, A7, A10

    def _note_made(self, member: Member, seen: Seen) -> None:
        """What a leader has put into its log since we looked: nothing of it is sent yet."""
        window = member.replica.zab.member.window
        if window.last == seen.made:
            return
        epoch = member.replica.zab.epoch
        for entry in window.entries[window.position(seen.made) :]:
            if zxids.epoch_of(entry.zxid) == epoch:
                self._check_made(member, epoch, entry)
        seen.made = window.last

    def _check_made(self, member: Member, epoch: int, entry: Entry) -> None:
        leader = self.leaders.setdefault(epoch, member.sid)
        if leader != member.sid:
            raise Violation("A7", f"servers {leader} and {member.sid} both propose in {epoch}")
        if self._made.setdefault(entry.zxid, entry).chain != entry.chain:
            raise Violation("A1", f"server {member.sid} makes {show(entry.zxid)} twice")
        if entry.zxid == zxids.first_of(epoch):
            self._check_promised(member, epoch)
        elif entry.zxid == zxids.first_of(epoch) + 1:
            # Not at (e,1): a candidate that stood still may append that when it has lost already.
            self._check_complete(member, zxids.first_of(epoch))
        if entry.kind == EntryKind.TXN:
            self._check_expiry(member, entry)
        elif entry.kind == EntryKind.CONFIG and entry.zxid > self._sets[-1].version:
            self._sets.append(VoterSet.decode(entry.data).at(entry.zxid))

    def _check_appended(self, member: Member, entries: list[Entry]) -> None:
        for entry in entries:
            made = self._made.get(entry.zxid)
            if made is None and self._may_have_made(member, entry):
                # Made and given up within one step: its maker does not lead any more.
                made = self._made[entry.zxid] = entry
            if made is None or made.chain != entry.chain:
                what = "makes up" if made is None else "has another"
                raise Violation("A1", f"server {member.sid} {what} {show(entry.zxid)}")

    def _may_have_made(self, member: Member, entry: Entry) -> bool:
        return self.leaders.setdefault(zxids.epoch_of(entry.zxid), member.sid) == member.sid

    def _check_complete(self, member: Member, first: int) -> None:
        """A6: what any member ever delivered of earlier epochs is in a primary's log."""
        window = member.replica.zab.member.window
        position = bisect_right(self._order, first)
        last = self._order[position - 1] if position else zxids.NONE
        if last > window.base and window.chain_at(last) != self._chains[last]:
            raise Violation(
                "A6", f"server {member.sid} leads without {show(last)}, which was delivered"
            )

    # --- durable: A9, A8

    def _on_append(self, sid: int, disk: Disk, step: Append) -> None:
        log = disk.pending if disk.pending is not None else disk.log
        for entry in step.entries:
            if not zxids.follows(log.last, entry.zxid):
                raise Violation("A10", f"server {sid}: {show(entry.zxid)} on {show(log.last)}")
            chain = log.chain_at(log.last)
            assert chain is not None
            if chain_next(chain, entry.zxid, entry.kind, entry.data) != entry.chain:
                raise Violation("A10", f"server {sid}: {show(entry.zxid)} on another log")
            log.append(entry)

    def _on_truncate(self, sid: int, disk: Disk, step: Truncate) -> None:
        if self._cuts_committed(disk.log, step.zxid):
            raise Violation("A9", f"server {sid} cuts committed entries behind {show(step.zxid)}")
        disk.log.truncate(step.zxid)
        if disk.log.last != step.zxid:
            raise Violation("D12", f"server {sid}: cut at {show(step.zxid)}, which it lacks")

    def _cuts_committed(self, log: DiskLog, keep: int) -> bool:
        """Whether a cut behind `keep` takes away something of the committed order."""
        position = bisect_right(self._order, keep)
        if position == len(self._order):
            return False
        following = self._order[position]
        return log.chain_at(following) == self._chains[following]

    def _on_identity(self, sid: int, disk: Disk, step: WriteIdentity) -> None:
        before, after = disk.identity, step.identity
        if before is not None and after.accepted_epoch < before.accepted_epoch:
            raise Violation("A8", f"server {sid} takes back its promise of {before}")
        if disk.pending is not None and after.generation == disk.generation:
            self._check_adopted(sid, disk, disk.pending)
            disk.log = disk.pending
            disk.rotten = False
        disk.pending = None
        disk.identity = after
        disk.wiped = disk.wiped and (after.founding or not any(after.cluster_id))

    def _check_adopted(self, sid: int, disk: Disk, adopted: DiskLog) -> None:
        """A SNAP must not lose what its receiver had of the committed order."""
        position = bisect_right(self._order, adopted.last)
        if position < len(self._order):
            following = self._order[position]
            if disk.log.chain_at(following) == self._chains[following]:
                raise Violation("A9", f"server {sid} loses {show(following)} to a SNAP")

    def _on_begin(self, sid: int, disk: Disk, step: BeginGeneration) -> None:
        disk.pending = DiskLog(step.zxid, step.chain)
        disk.generation = step.generation

    # --- sent: D1, D2

    def _on_ack(self, member: Member, sid: int, message: Ack) -> None:
        self.acks_checked += 1
        disk = self.disks[member.sid]
        if message.zxid > disk.log.last:
            raise Violation(
                "D1",
                f"server {member.sid} acknowledges {show(message.zxid)}, "
                f"its disk has {show(disk.log.last)}",
            )

    def _on_leader_info(self, member: Member, sid: int, message: LeaderInfo) -> None:
        self._check_promise(member, message.epoch, "offers")
        self._note_promise(member.sid, message.epoch, member.sid)

    def _on_ack_epoch(self, member: Member, sid: int, message: AckEpoch) -> None:
        disk, epoch = self.disks[member.sid], self.seen[member.sid].offered.get(sid, 0)
        if not message.fresh or disk.identity is None:
            return
        if not disk.identity.founding:
            self._check_promise(member, epoch, "promises")
        if not disk.rotten and any(disk.cluster_id) and disk.cluster_id == self._cluster_of(sid):
            self._note_promise(member.sid, epoch, sid)

    def _cluster_of(self, sid: int) -> bytes:
        return self.disks[sid].cluster_id

    def _check_promise(self, member: Member, epoch: int, what: str) -> None:
        identity = self.disks[member.sid].identity
        durable = identity.accepted_epoch if identity else 0
        if durable < epoch:
            raise Violation(
                "D2", f"server {member.sid} {what} epoch {epoch}, its disk has {durable}"
            )

    def _note_promise(self, sid: int, epoch: int, leader: int) -> None:
        """A promise that may count.  Half-founded members may begin anew, with epoch 1."""
        self.promises_checked += 1
        before = self._promises.setdefault((sid, epoch), leader)
        identity = self.disks[sid].identity
        if before != leader and identity is not None and not identity.founding:
            raise Violation("A7", f"server {sid} promised epoch {epoch} to {before} and {leader}")
        self._promises[sid, epoch] = leader

    def _check_promised(self, member: Member, epoch: int) -> None:
        """A7, A13: who opens an epoch has the promises of a quorum whose promises count."""
        kept = self._promises.items()
        promised = [sid for (sid, at), to in kept if (at, to) == (epoch, member.sid)]
        if not is_quorum([member.sid, *promised], member.replica.zab.voters):
            raise Violation(
                "A7", f"server {member.sid} opens epoch {epoch}, promised by {promised} only"
            )

    # --- sessions: C11

    def _check_expiry(self, member: Member, entry: Entry) -> None:
        header, txn = txns.decode(entry.data)
        if type(txn) is CreateSessionTxn:
            self._timeouts[header.session] = txn.timeout_ms
        elif type(txn) is CloseSessionTxn and header.origin == LEADER and self.checks_expiry:
            self._check_silence(member, header)

    def _check_silence(self, member: Member, header: TxnHeader) -> None:
        """A new leader gives every session its full time, whoever has heard of it before."""
        seen = self.seen[member.sid]
        assert seen.serves_since is not None, "only a leader that serves proposes"
        touched = max(seen.touched.get(header.session, 0), seen.serves_since)
        silent = member.clock.now_ms() - touched - self._stood_still(member, touched)
        if silent < self._timeouts[header.session]:
            raise Violation(
                "C11", f"session {header.session:#x} expires {silent} ms after its last touch"
            )

    def _stood_still(self, member: Member, since: int) -> int:
        """What of that time the process did not live through, in ms, as far as it can tell: two
        ticks of each pause may have been an ordinary wait for its timer."""
        unnoticed = 2 * self.setup.tick_ms
        pauses = [end - max(begin, since) - unnoticed for begin, end in member.pauses]
        return sum(pause for pause in pauses if pause > 0)

    # --- staleness: C13

    def _check_not_cut_off(self, member: Member) -> None:
        zab = member.replica.zab
        setup, heard = self.setup, self.seen[member.sid].heard
        oldest = member.clock.now_ms() - setup.tick_ms * (setup.sync_ticks + 1)
        if not zab.serving:
            silent = self.seen[member.sid].served < oldest and not setup.read_only
        elif zab.role is Role.LEADING:
            fresh = [sid for sid, at in heard.items() if at >= oldest]
            # Of a joint set, those that it would replace: without them nobody else can lead.
            silent = not is_quorum([member.sid, *fresh], VoterSet(zab.voters.members))
        else:
            assert zab.leader is not None
            silent = heard.get(zab.leader, 0) < oldest
        if silent:
            raise Violation("C13", f"server {member.sid} answers clients though it is cut off")


def is_quorum(sids: list[int], voters: VoterSet) -> bool:
    """Counted here, not by what is to be checked: of both sets in a joint one."""
    sets = [voters.members] + ([voters.joining] if voters.joining is not None else [])
    return all(_is_majority(sids, one) for one in sets)


def _is_majority(sids: list[int], members: Members) -> bool:
    """More than half of the weight, in more than half of the groups that have any."""
    present: dict[int, int] = {}
    total: dict[int, int] = {}
    for sid, voter in members.voters.items():
        total[voter.group] = total.get(voter.group, 0) + voter.weight
        present[voter.group] = present.get(voter.group, 0) + voter.weight * (sid in sids)
    groups = [group for group, weight in total.items() if weight]
    return 2 * sum(2 * present[group] > total[group] for group in groups) > len(groups)


_ON_SEND: Final[dict[type, Callable[[Invariants, Member, int, Any], None]]] = {
    Ack: Invariants._on_ack,
    LeaderInfo: Invariants._on_leader_info,
    AckEpoch: Invariants._on_ack_epoch,
}
_ON_DURABLE: Final[dict[type, Callable[[Invariants, int, Any, Any], None]]] = {
    Append: Invariants._on_append,
    Truncate: Invariants._on_truncate,
    WriteIdentity: Invariants._on_identity,
    BeginGeneration: Invariants._on_begin,
}
