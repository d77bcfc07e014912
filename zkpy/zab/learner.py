"""Learning: a follower or observer on its link to one leader.

    phase       waits for                        may be told
    LINKING     the link                         nothing
    GREETING    LEADERINFO                       LEADERINFO
    PROMISING   its promise to be durable        nothing
    PROMISED    what to do with its log          DIFF, TRUNC, SNAP
    SYNCING     entries up to the target         entries, commits
    IMAGING     the image                        chunks
    TAIL        entries behind the image         entries, commits
    BROADCAST   more, for ever                   entries, commits, UPTODATE

An observer differs in nothing but its voice: it is in no voter set, so nobody counts it.
A frame out of order ends the link, and the member looks for a leader again; there is no
half-way state to mend (ZOOKEEPER-5094, -3642).
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from wire.errors import RemoteProtocolError
from wire.peer import (
    NO_CLUSTER,
    Ack,
    AckEpoch,
    Commit,
    Diff,
    FollowerInfo,
    Joined,
    LeaderInfo,
    Ping,
    Propose,
    SnapAck,
    SnapBegin,
    SnapChunk,
    SnapEnd,
    Standing,
    Trunc,
    Upper,
    UpToDate,
)
from zkpy import zxid as zxids
from zkpy.zab.counts import Counts
from zkpy.zab.member import Member, Staging
from zkpy.zab.quorum import VoterSet
from zkpy.zab.standing import FOUNDERS
from zkpy.zab.window import Window

MARKS_MAX: Final = 64
"""Epochs of which the learner tells where its log stands; older ones need a SNAP."""


class Phase(Enum):
    LINKING = "linking"
    GREETING = "greeting"
    PROMISING = "promising"
    PROMISED = "promised"
    SYNCING = "syncing"
    IMAGING = "imaging"
    TAIL = "tail"
    BROADCAST = "broadcast"


MOVES: Final[dict[tuple[Phase, Phase], str]] = {
    (Phase.LINKING, Phase.GREETING): "the link is up, FollowerInfo sent",
    (Phase.GREETING, Phase.PROMISING): "LeaderInfo",
    (Phase.PROMISING, Phase.PROMISED): "the promise is durable, AckEpoch sent",
    (Phase.PROMISED, Phase.SYNCING): "Diff or Trunc",
    (Phase.SYNCING, Phase.BROADCAST): "entries up to the target",
    (Phase.PROMISED, Phase.IMAGING): "SnapBegin",
    (Phase.IMAGING, Phase.TAIL): "SnapEnd",
    (Phase.TAIL, Phase.BROADCAST): "image and tail are durable and adopted",
}
"""(from, to) -> what brings it about.  Nothing leads back: a new attempt begins anew."""
DISCOVERY: Final = (Phase.LINKING, Phase.GREETING, Phase.PROMISING, Phase.PROMISED)
"""Before synchronisation: each of them has to end within its limit."""


class Learning:
    """One attempt to learn from one leader, from the decision until the link ends."""

    def __init__(self, member: Member, leader: int, now: int) -> None:
        self.member = member
        self.leader = leader
        self.phase = Phase.LINKING
        self.epoch = 0
        self.cluster_id = NO_CLUSTER
        self.serving = False
        self.paused = False
        self.failed: str | None = None
        self.standing = member.standing
        """As told in FOLLOWERINFO."""
        self.founding = False
        """As told in LEADERINFO: no configuration is in force yet."""
        self._fresh = False
        self._target = 0
        self._acked = 0
        self._snap_acked = (0, 0)
        self._owes_joined = False
        self.sync_since = now
        """When the leader said how it synchronises this learner."""
        self._heard = now
        self._stalled_at = now
        self._give_up_at = now + member.options.tick_ms * member.options.connect_ticks

    def _enter(self, phase: Phase) -> None:
        assert (self.phase, phase) in MOVES, f"from {self.phase} to {phase}"
        self.phase = phase

    def count(self, counts: Counts) -> None:
        """Add what came of this leader so far, once synchronised."""
        if self.phase is Phase.BROADCAST:
            window = self.member.window
            counts.received += window.last - self._target
            counts.told += max(0, window.committed - self._target)

    # --- inputs

    def link_up(self, now: int) -> None:
        """FollowerSendFOLLOWERINFO."""
        member = self.member
        self._enter(Phase.GREETING)
        self._heard = now
        self._give_up_at = now + member.options.init_ms
        info = FollowerInfo(member.accepted_epoch, self.standing, member.cluster_id)
        member.send(self.leader, info)

    def receive(self, sid: int, message: object, now: int) -> None:
        handler = LEGAL.get((self.phase, type(message)))
        if sid != self.leader:
            self.member.close(sid)
        elif handler is None:
            self.fail(f"{type(message).__name__} while {self.phase.value}")
        else:
            self._heard = now
            try:
                handler(self, message)
            except RemoteProtocolError as error:
                self.fail(str(error))

    def saved(self) -> None:
        """What the disk has now sets messages free."""
        if self.phase is Phase.PROMISING:
            self.maybe_promise()
        elif self.phase is Phase.TAIL and self.member.staging is None:
            self._enter(Phase.BROADCAST)
        self.maybe_ack()
        if self._owes_joined and self.member.is_recorded:
            self._owes_joined = False
            self.member.send(self.leader, Joined())

    def deadline(self) -> int:
        silence = self._heard + self.member.options.sync_ms + 1
        if self.paused:
            return self._stalled_at + self.member.options.beat_ms
        if self.phase is Phase.LINKING:
            return self._give_up_at
        return min(silence, self._give_up_at) if self.phase in DISCOVERY else silence

    def handle_timer(self, now: int) -> None:
        self._maybe_resume(now)
        if self.phase in DISCOVERY and now >= self._give_up_at:
            self.fail(f"still {self.phase.value} after the limit")
        elif self.phase is not Phase.LINKING and now - self._heard > self.member.options.sync_ms:
            self.fail("nothing heard from the leader within syncLimit")

    def stalled(self, now: int) -> None:
        """This process stood still: first read what waits in the socket, then judge the leader."""
        options = self.member.options
        self._heard = max(self._heard, now - options.sync_ms + options.beat_ms)
        self._stalled_at = now
        self.paused = True

    def _maybe_resume(self, now: int) -> None:
        grace_over = now >= self._stalled_at + self.member.options.beat_ms
        if self.paused and grace_over:
            self.paused = False
            if self._heard < self._stalled_at:
                self.fail("nothing heard from the leader after a pause")

    def fail(self, reason: str) -> None:
        self.serving = False
        self.failed = self.failed or reason

    # --- discovery

    def on_leader_info(self, info: LeaderInfo) -> None:
        """FollowerProcessLEADERINFO."""
        refusal = self._refusal(info)
        if refusal:
            self.fail(refusal)
            return
        self.epoch, self.cluster_id, self.founding = info.epoch, info.cluster_id, info.founding
        self._fresh = info.epoch > self.member.accepted_epoch
        self._record_promise(info)
        self._enter(Phase.PROMISING)
        self.maybe_promise()

    def _refusal(self, info: LeaderInfo) -> str | None:
        member = self.member
        same = info.cluster_id == member.cluster_id
        if self.standing is Standing.BLANK or (self.standing is Standing.FOUNDING and not same):
            if info.founding and not member.may_found:
                return "a founding after a member was met who is not blank"
            return None
        if not same and member.cluster_id != NO_CLUSTER:
            return "the leader is of another ensemble"
        if info.epoch < member.accepted_epoch:
            return "the leader's epoch is older than one promised"
        return None

    def _record_promise(self, info: LeaderInfo) -> None:
        """A promise is recorded by those whose promise counts; nobody relies on another's."""
        member = self.member
        if info.founding and self.standing in FOUNDERS:
            epoch = max(info.epoch, member.accepted_epoch)
            self._fresh = self._fresh and epoch == info.epoch
            member.write_identity(cluster_id=info.cluster_id, founding=True, accepted_epoch=epoch)
        elif self._fresh and member.cluster_id == info.cluster_id:
            member.write_identity(accepted_epoch=info.epoch)

    def maybe_promise(self) -> None:
        """ACKEPOCH, once the promise is durable (D2)."""
        member = self.member
        if not member.is_recorded:
            return
        self._enter(Phase.PROMISED)
        member.send(self.leader, AckEpoch(self._fresh, self._marks(), member.window.last))

    def _marks(self) -> list[tuple[int, int]]:
        if self.member.wants_image:
            return []
        window = self.member.window
        marks = window.ends_of_epochs(window.committed)
        return marks[: MARKS_MAX - 1] + marks[MARKS_MAX - 1 :][-1:]

    # --- synchronisation

    def on_diff(self, diff: Diff) -> None:
        """FollowerProcessDIFF."""
        if diff.zxid != self.member.window.last or diff.chain != self.member.window.chain:
            raise RemoteProtocolError("a DIFF that does not continue this log")
        self.member.become_joiner(self.cluster_id)
        self._follow_to(diff.target)

    def on_trunc(self, trunc: Trunc) -> None:
        """FollowerProcessTRUNC.  Never below what is committed: that would be lost data (D12)."""
        window = self.member.window
        if trunc.zxid < window.committed:
            self.member.halt = (
                f"the leader would cut the log at {zxids.show(trunc.zxid)}, "
                f"below {zxids.show(window.committed)}, which is committed"
            )
            self.fail("safety violation")
        elif window.chain_at(trunc.zxid) != trunc.chain:
            self.member.wants_image = True
            raise RemoteProtocolError("a TRUNC to a point that the logs do not share")
        else:
            self.member.become_joiner(self.cluster_id)
            self.member.truncate(trunc.zxid)
            self._follow_to(trunc.target)

    def _follow_to(self, target: int) -> None:
        self._enter(Phase.SYNCING)
        self.sync_since = self._heard
        self._target = target
        self._maybe_finish()
        self.maybe_ack()

    def on_snap_begin(self, snap: SnapBegin) -> None:
        """FollowerProcessSNAP: beside the old log and state, which stay until all is durable."""
        try:
            voters = VoterSet.decode(snap.voters)
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from error
        self.member.become_joiner(self.cluster_id)
        self._enter(Phase.IMAGING)
        self.sync_since = self._heard
        self._target = snap.target
        window = Window(snap.zxid, snap.chain, bytes_max=self.member.options.window_bytes_max)
        self.member.begin_staging(window, voters, snap.target)

    def on_snap_chunk(self, chunk: SnapChunk) -> None:
        self.member.stage_chunk(chunk.data)

    def on_snap_end(self, end: SnapEnd) -> None:
        self._enter(Phase.TAIL)
        self.member.stage_end(end.digest)
        self.maybe_adopt()

    def snap_loaded(self) -> None:
        """The replica has decoded the image, and its digest is right."""
        assert self.member.staging
        self.member.staging.loaded = True
        self.maybe_adopt()

    def maybe_adopt(self) -> None:
        """Image loaded and the tail complete: one record puts the new generation in force."""
        staging = self.member.staging
        if self.phase is not Phase.TAIL or staging is None or staging.adopting:
            return
        if staging.loaded and staging.window.last >= self._target:
            self.member.adopt()

    def _maybe_finish(self) -> None:
        if self.phase is Phase.SYNCING and self.member.window.last >= self._target:
            self._enter(Phase.BROADCAST)

    def on_up_to_date(self, message: UpToDate) -> None:
        """FollowerProcessUPTODATE: serve; one that did not count becomes a full member."""
        self.serving = True
        if self.standing is Standing.MEMBER:
            return
        member = self.member
        if member.standing is not Standing.MEMBER:
            epoch = max(self.epoch, member.accepted_epoch)
            member.write_identity(cluster_id=self.cluster_id, founding=False, accepted_epoch=epoch)
        self._owes_joined = True
        self.saved()

    # --- broadcast

    def on_propose(self, message: Propose) -> None:
        """FollowerProcessPROPOSAL, a whole batch.  Acknowledged when it is durable."""
        member = self.member
        member.append_received(message.entries)
        log = member.staging.window if member.staging else member.window
        if log.chain != message.chain:
            member.wants_image = True
            raise RemoteProtocolError("the chain of the log differs from the leader's")
        self._maybe_finish()
        self._commit(log, message.committed, message.digest_zxid, message.digest)
        self.maybe_adopt()

    def on_commit(self, message: Commit) -> None:
        """FollowerProcessCOMMIT."""
        log = self.member.staging.window if self.member.staging else self.member.window
        self._commit(log, message.committed, message.digest_zxid, message.digest)

    def _commit(self, log: Window, committed: int, digest_zxid: int, digest: int) -> None:
        member = self.member
        if committed > log.last:
            raise RemoteProtocolError("a commit of what was not proposed")
        member.commit(committed)
        if digest_zxid > log.applied:
            digests = member.staging.digests if member.staging else member.digests
            digests[digest_zxid] = digest

    def maybe_ack(self) -> None:
        """Cumulative: all up to there is durable, in a log that is part of the leader's."""
        member = self.member
        if self.phase in (Phase.SYNCING, Phase.BROADCAST):
            if member.window.saved > self._acked:
                self._acked = member.window.saved
                member.send(self.leader, Ack(self._acked))
        elif member.staging:
            self._ack_snap(member.staging)

    def _ack_snap(self, staging: Staging) -> None:
        progress = (staging.chunks_saved, staging.window.saved)
        if progress != self._snap_acked:
            self._snap_acked = progress
            self.member.send(self.leader, SnapAck(*progress))

    # --- at any time

    def on_ping(self, ping: Ping) -> None:
        member = self.member
        if ping.payload:
            member.pings.append((self.leader, ping.payload))
        payload = member.ping_payload() if self.phase is Phase.BROADCAST else b""
        member.send(self.leader, Ping(ping.round, payload))

    def on_upper(self, message: Upper) -> None:
        self.member.upper.append((self.leader, message.data))


Handler = Callable[[Learning, Any], None]
_STREAM: Final = (Phase.SYNCING, Phase.TAIL, Phase.BROADCAST)

LEGAL: Final[dict[tuple[Phase, type], Handler]] = {
    (Phase.GREETING, LeaderInfo): Learning.on_leader_info,
    (Phase.PROMISED, Diff): Learning.on_diff,
    (Phase.PROMISED, Trunc): Learning.on_trunc,
    (Phase.PROMISED, SnapBegin): Learning.on_snap_begin,
    (Phase.IMAGING, SnapChunk): Learning.on_snap_chunk,
    (Phase.IMAGING, SnapEnd): Learning.on_snap_end,
    **{(phase, Propose): Learning.on_propose for phase in _STREAM},
    **{(phase, Commit): Learning.on_commit for phase in _STREAM},
    **{(phase, Upper): Learning.on_upper for phase in _STREAM},
    (Phase.BROADCAST, UpToDate): Learning.on_up_to_date,
    **{(phase, Ping): Learning.on_ping for phase in Phase if phase is not Phase.LINKING},
}
"""(phase, message) -> handler; what is not here ends the link."""
