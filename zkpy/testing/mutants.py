"""Old bugs, put back: what random seeds must find (docs/reliability.md).

Each mutant replaces one method while it is planted, and switches off the decision of the
design that makes the bug impossible.  Nothing of this is reachable from production code.
A mutant that is not found means that the simulator, not the server, needs work.

The number is that of the ZooKeeper issue; where zkpy is built so differently that the bug
cannot be copied, the mutant is its nearest relative here, and says so.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import attrs

from wire.codes import ErrorCode, OpCode
from wire.peer import Ack
from wire.txn import TxnHeader
from zkpy import zxid as zxids
from zkpy.compiled import COMPILED
from zkpy.effects import Append, Entry, Truncate
from zkpy.errors import ZkError
from zkpy.pipeline.gate import Gate
from zkpy.pipeline.prepare import Preparer
from zkpy.pipeline.request import LEADER
from zkpy.replica.clients import Clients
from zkpy.replica.leading import Leading as LeadingOffice
from zkpy.state.lifetimes import Lifetimes
from zkpy.zab import leader as zab_leader
from zkpy.zab.election import NOBODY, Election, Vote
from zkpy.zab.leader import Leading, Phase, Progress
from zkpy.zab.learner import Learning
from zkpy.zab.member import Member
from zkpy.zab.quorum import Members, VoterSet
from zkpy.zab.sync import Plan, Way, plan_sync
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab

Plant = Callable[[], list[tuple[Any, str, Any]]]
"""What to replace: (object, attribute, value)."""


@attrs.define(frozen=True)
class Mutant:
    name: str
    bug: str
    plant: Plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Within this block the bug is back.  RuntimeError where the core is compiled: what it
    calls is settled then, and the bug would only seem to be there."""
    if COMPILED:
        raise RuntimeError("bugs can be planted in the sources only, not in a compiled core")
    replaced = [(owner, key, getattr(owner, key)) for owner, key, _ in _BY_NAME[name].plant()]
    for owner, key, value in _BY_NAME[name].plant():
        setattr(owner, key, value)
    try:
        yield
    finally:
        for owner, key, value in replaced:
            setattr(owner, key, value)


# --- durability


def _plant_3911() -> list[tuple[Any, str, Any]]:
    """ACK of NEWLEADER, here of (e,1), before what it stands for is on the disk."""
    honest = Learning.maybe_ack

    def maybe_ack(self: Learning) -> None:
        window = self.member.window
        synced = self._target and self._acked < self._target <= window.last
        if synced and self.member.staging is None:
            self._acked = self._target
            self.member.send(self.leader, Ack(self._target))
        else:
            honest(self)

    return [(Learning, "maybe_ack", maybe_ack)]


def _plant_4646() -> list[tuple[Any, str, Any]]:
    """The log is written behind the protocol's back: handed to the disk counts as durable."""
    honest = Member.take_batch

    def take_batch(self: Member, digest_zxid: int, digest: int) -> Any:
        batch = honest(self, digest_zxid, digest)
        if batch is not None and self.staging is None:
            self.window.saved = self.window.last
        return batch

    return [(Member, "take_batch", take_batch)]


def _plant_4643() -> list[tuple[Any, str, Any]]:
    """The promised epoch, stored before the entries, counts in the vote: a shorter log wins."""

    def own_vote(self: Election) -> Vote:
        member = self.member
        if not member.may_lead:
            return NOBODY
        last = zxids.make(member.accepted_epoch, zxids.counter_of(member.window.last))
        return last, member.me

    def is_ahead(self: Leading, last: int) -> bool:
        return False

    return [(Election, "_own_vote", own_vote), (Leading, "_is_ahead", is_ahead)]


def _plant_4882() -> list[tuple[Any, str, Any]]:
    """What a quorum committed is applied, though the own disk does not have it."""

    def take_committed(self: Window) -> list[Entry]:
        if self.committed <= self.applied:
            return []
        entries = self.entries[self.position(self.applied) : self.position(self.committed)]
        self.applied = self.committed
        return entries

    return [(Window, "take_committed", take_committed)]


def _plant_4712() -> list[tuple[Any, str, Any]]:
    """The old writer outlives its role: what it still had to write lands behind the cut."""
    honest = Member.truncate

    def truncate(self: Member, zxid: int) -> None:
        stale = [entry for entry in self.window.entries if entry.zxid > zxid]
        honest(self, zxid)
        cut = [step for step in self._steps if isinstance(step, Truncate)]
        if cut and stale:
            self._steps.append(Append(stale, self.window.committed, 0, 0))

    return [(Member, "truncate", truncate)]


# --- roles


def _plant_2845() -> list[tuple[Any, str, Any]]:
    """All of the log is taken for committed when a role ends, and kept through the election."""
    honest = Zab._look

    def look(self: Zab, now: int) -> None:
        honest(self, now)
        window = self.member.window
        window.committed = max(window.committed, window.saved)

    return [(Zab, "_look", look)]


def _plant_4925() -> list[tuple[Any, str, Any]]:
    """A leader sends DIFFs from a history that lacks what it got by synchronisation itself:
    the nearest relative here sends a learner that is far behind only what is at hand."""
    honest = plan_sync

    def planned(marks: Any, log: Window) -> Plan:
        plan = honest(marks, log)
        if plan.way is Way.SNAP and marks:
            return Plan(Way.DIFF, marks[0][0], marks[0][1])
        return plan

    def after(self: Window, zxid: int, bytes_max: int) -> list[Entry]:
        return honest_after(self, max(zxid, self.base), bytes_max)

    def feed(self: Leading, sid: int, progress: Progress, digest_zxid: int, digest: int) -> None:
        progress.sent = max(progress.sent, self.window.base)
        honest_feed(self, sid, progress, digest_zxid, digest)

    honest_after, honest_feed = Window.after, Leading._feed
    return [
        (zab_leader, "plan_sync", planned),
        (Window, "after", after),
        (Leading, "_feed", feed),
    ]


def _plant_1113() -> list[tuple[Any, str, Any]]:
    """Whoever answers counts: observers, and those that are still blank."""

    def counted(self: Leading) -> list[tuple[int, Progress]]:
        return list(self.progress.items())

    def agreed(self: Members, values: Mapping[int, int]) -> int:
        reached = sorted(values.values(), reverse=True)
        quorum = len(self.voters) // 2
        return reached[quorum] if len(reached) > quorum else 0

    return [(Leading, "counted", counted), (Members, "agreed", agreed)]


def _plant_2959() -> list[tuple[Any, str, Any]]:
    """Promises of an epoch are counted without asking whose they are."""

    def promise(self: Leading, sid: int) -> None:
        self.promises[sid] = None
        enough = len(self.promises) > len(self.member.voters.voters()) // 2
        if self.phase is Phase.DISCOVERY and enough:
            self._open_epoch()

    return [(Leading, "_promise", promise)]


def _plant_amnesia() -> list[tuple[Any, str, Any]]:
    """zkpy's own: an established leader takes in whoever comes, though one that was wiped may have
    promised a later epoch, and the leader be the one of an earlier one."""

    def is_proven(self: Leading, sid: int, progress: Progress) -> bool:
        return True

    return [(Leading, "_is_proven", is_proven)]


def _plant_335() -> list[tuple[Any, str, Any]]:
    """The epoch is taken from the log alone, not from what was promised."""
    honest = Member.write_identity

    def write_identity(self: Member, **changes: Any) -> None:
        if self.identity is not None:
            changes.pop("accepted_epoch", None)
        honest(self, **changes)

    return [(Member, "write_identity", write_identity)]


# --- sessions, requests


def _plant_1208() -> list[tuple[Any, str, Any]]:
    """A session whose end is on its way is still taken for alive."""

    def check_session(self: Preparer, header: TxnHeader) -> None:
        known = header.session in self._state.sessions or header.session in self._pending.opening
        if not known:
            raise ZkError(ErrorCode.SESSION_EXPIRED)
        if header.origin != LEADER and header.origin != self._owner_of(header.session):
            raise ZkError(ErrorCode.SESSION_MOVED)

    return [(Preparer, "_check_session", check_session)]


def _plant_2774() -> list[tuple[Any, str, Any]]:
    """Sessions expire by the wall clock."""
    honest = LeadingOffice.handle_timer

    def handle_timer(self: LeadingOffice, *arguments: Any) -> None:
        start = self.__dict__.setdefault("_wall_start", self._wall_clock() - self.now)
        true_now, self.now = self.now, self._wall_clock() - start
        try:
            honest(self, *arguments)
        finally:
            self.now = true_now

    return [(LeadingOffice, "handle_timer", handle_timer)]


def _plant_710() -> list[tuple[Any, str, Any]]:
    """A session's writes are let through, whatever server they come by."""
    honest = Preparer._check_session

    def check_session(self: Preparer, header: TxnHeader) -> None:
        try:
            honest(self, header)
        except ZkError as refusal:
            if refusal.code != ErrorCode.SESSION_MOVED:
                raise

    return [(Preparer, "_check_session", check_session)]


def _plant_1175() -> list[tuple[Any, str, Any]]:
    """zkpy's own: forward numbers start again with each role, and meet those of the one before."""
    honest = Gate.__init__

    def init(self: Gate, server: int, incarnation: int, last_number: int = 0) -> None:
        honest(self, server, incarnation)

    return [(Gate, "__init__", init)]


def _plant_1863() -> list[tuple[Any, str, Any]]:
    """Reads do not wait for the writes in front of them."""
    honest = Clients._on_request

    def on_request(self: Clients, link: Any, request: Any) -> None:
        if request.opcode in (OpCode.GET_DATA, OpCode.EXISTS) and not link.barred:
            queue, link.queue = link.queue, type(link.queue)()
            honest(self, link, request)
            link.queue = queue
        else:
            honest(self, link, request)

    return [(Clients, "_on_request", on_request)]


def _plant_1675() -> list[tuple[Any, str, Any]]:
    """sync is answered by whoever thinks it leads: no quorum confirms it."""

    def confirm(self: Zab) -> int:
        return 0

    return [(Zab, "confirm_leadership", confirm)]


def _plant_5010() -> list[tuple[Any, str, Any]]:
    """The end of a session leaves its last ephemeral behind on some members: those whose
    index of ephemerals has an odd number of sessions."""
    honest = Lifetimes.ephemerals_of

    def ephemerals_of(self: Lifetimes, session: int) -> Any:
        owned = list(honest(self, session))
        return owned[:-1] if len(owned) > 1 and len(self.ephemerals) % 2 else owned

    return [(Lifetimes, "ephemerals_of", ephemerals_of)]


def _plant_1699() -> list[tuple[Any, str, Any]]:
    """A change of voters is decided by the old ones alone (there: by the new ones alone)."""
    won, agreed = VoterSet.won, VoterSet.agreed

    def old_alone(self: VoterSet) -> VoterSet:
        return replace(self, joining=None)

    return [
        (VoterSet, "won", lambda self, yes: won(old_alone(self), yes)),
        (VoterSet, "agreed", lambda self, values: agreed(old_alone(self), values)),
    ]


MUTANTS: Final = (
    Mutant("3911", "NEWLEADER acknowledged before the entries are durable", _plant_3911),
    Mutant("4643", "epoch stored before the entries wins elections", _plant_4643),
    Mutant("2845", "uncommitted entries kept in memory through an election", _plant_2845),
    Mutant("4712", "two log writers interleave after a role change", _plant_4712),
    Mutant("1113", "acks counted without asking who sent them", _plant_1113),
    Mutant("1208", "a create behind closeSession makes an ephemeral", _plant_1208),
    Mutant("4646", "acknowledged when handed to the disk, not when durable", _plant_4646),
    Mutant("4882", "applied before it is durable on this member", _plant_4882),
    Mutant("4925", "DIFF with a hole", _plant_4925),
    Mutant("2959", "observers' promises of an epoch are counted", _plant_2959),
    Mutant("335", "promises of epochs are not durable", _plant_335),
    Mutant("2774", "sessions expire by the wall clock", _plant_2774),
    Mutant("710", "writes accepted from a connection that its session has left", _plant_710),
    Mutant("1863", "reads overtake writes of their connection", _plant_1863),
    Mutant("1675", "sync without a quorum", _plant_1675),
    Mutant("1699", "a change of voters without the quorum of the new ones", _plant_1699),
    Mutant("5010", "an ephemeral outlives its session", _plant_5010),
    Mutant("amnesia", "a wiped member counts for a leader of an earlier epoch", _plant_amnesia),
    Mutant("numbers", "forward numbers used twice in one life", _plant_1175),
)
_BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}
