"""Leading: discovery, synchronisation, broadcast.

    phase        until                                            then
    DISCOVERY    a quorum of counting voters has promised epoch e append EPOCH (e,1)
    SYNC         a quorum has (e,1), and so all before it, durable established
    BROADCAST    the quorum falls silent, or a later epoch is met gives up

(e,1) is the last act of synchronisation: its ACK is ACK-NEWLEADER, its commit commits
the whole history before it.  So the epoch of the last entry of a log is currentEpoch,
and rule D3's order of writes is the order of the log.

What is sent to a learner is derived from cursors (`Progress.sent`, `told`) once per pass,
one frame per learner; nothing is queued per proposal, so a slow learner costs no
memory but the window's, and a proposal can fall through no gap between synchronisation and
broadcast (ZOOKEEPER-3023, -4394): both are the same stream.
"""

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from wire.peer import (
    NO_CLUSTER,
    Ack,
    AckEpoch,
    Commit,
    Diff,
    FollowerInfo,
    Joined,
    LeaderInfo,
    Mark,
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
from zkpy.effects import EntryKind
from zkpy.zab.counts import Counts, Stopwatch
from zkpy.zab.member import CONFIG, Member
from zkpy.zab.quorum import Members, VoterSet
from zkpy.zab.standing import FOUNDERS, RECORDED
from zkpy.zab.sync import Way, plan_sync
from zkpy.zab.window import bytes_of

_SID: Final = struct.Struct(">q")
PATIENCE: Final = 2
"""Entries in memory, in windows, up to which those that a learner has yet to get are kept."""
PATIENCE_CATCHING_UP: Final = 16
"""Likewise while it gets an image and what was written meanwhile."""


class Phase(Enum):
    DISCOVERY = "discovery"
    SYNC = "synchronisation"
    BROADCAST = "broadcast"


class Stage(Enum):
    """Where one learner is."""

    CALLED = "called"
    """FOLLOWERINFO is here; the epoch is not yet durable, or not yet chosen."""
    OFFERED = "offered"
    """LEADERINFO is sent."""
    PROMISED = "promised"
    """ACKEPOCH is here; synchronisation has not begun."""
    IMAGING = "imaging"
    """A SNAP is going out."""
    STREAMING = "streaming"
    """Entries and commits follow the cursor `sent`."""


MOVES: Final[dict[tuple[Phase, Phase], str]] = {
    (Phase.DISCOVERY, Phase.SYNC): "a quorum has promised the epoch",
    (Phase.SYNC, Phase.BROADCAST): "a quorum has the entry (e,1) durable",
}
STAGES: Final[dict[tuple[Stage, Stage], str]] = {
    (Stage.CALLED, Stage.OFFERED): "the own promise is durable, LeaderInfo sent",
    (Stage.OFFERED, Stage.PROMISED): "AckEpoch",
    (Stage.PROMISED, Stage.STREAMING): "Diff or Trunc sent",
    (Stage.PROMISED, Stage.IMAGING): "an image is due",
    (Stage.IMAGING, Stage.STREAMING): "SnapEnd sent",
}
"""(from, to) -> what brings it about.  A learner that is out of step loses its link instead."""


@dataclass(eq=False, slots=True)
class Progress:
    """What the leader knows of one learner."""

    accepted_epoch: int
    standing: int
    cluster_id: bytes
    heard: int
    """When it last said anything."""
    counts: bool = False
    """Whether its promises and acks count, if it is a voter (A13)."""
    member: bool = False
    """Its record as a full member is durable."""
    stage: Stage = Stage.CALLED
    marks: list[Mark] = field(default_factory=list)
    target: int = 0
    """It is up to date once it has acknowledged this entry."""
    sent: int = 0
    acked: int = 0
    told: int = 0
    """Commit watermark sent."""
    since: int = 0
    """The last entry that there was when it called."""
    up_to_date: bool = False
    caught_up: bool = False
    """There was a time when all there was had been sent to it."""
    answered: int = 0
    """The last ping round that it answered."""
    inflight: deque[tuple[int, int]] = field(default_factory=deque)
    """(last zxid, bytes) of frames not yet acknowledged."""
    inflight_bytes: int = 0
    imaged: bool = False
    """SnapBegin is sent."""
    chunks: int = 0
    chunks_acked: int = 0
    watch: Stopwatch | None = None
    """Of its acks, once it is a member that is up to date."""

    def enter(self, stage: Stage) -> None:
        assert (self.stage, stage) in STAGES, f"from {self.stage} to {stage}"
        self.stage = stage

    def release(self, zxid: int) -> None:
        """Frames up to there have arrived: there is room for more."""
        while self.inflight and self.inflight[0][0] <= zxid:
            self.inflight_bytes -= self.inflight.popleft()[1]


class Leading:
    """One leadership, from the decision of the election until it is given up."""

    def __init__(self, member: Member, now: int) -> None:
        options = member.options
        self.member = member
        self.window = member.window
        self.phase = Phase.DISCOVERY
        self.epoch = 0
        self.cluster_id = member.cluster_id
        self.founding = False
        self.serving = False
        self.failed: str | None = None
        self.progress: dict[int, Progress] = {}
        self.promises: dict[int, None] = {}
        """Who promised this epoch to this leader; a promise outlives the link it came by."""
        self.history_last = zxids.NONE
        """Last entry before (e,1)."""
        self.full = False
        """The epoch has no zxid left."""
        self.voted_out = False
        """The set that is committed now does without this member."""
        self.round = 0
        self.confirmed = 0
        self.paused = False
        self._resumed_round = 0
        self._wanted_round = 0
        self._timed = zxids.NONE
        """The last entry that `time_proposals` has seen."""
        self._quorum_watch = Stopwatch(member.timings.quorum_ack)
        self._own_watch = Stopwatch(member.timings.acks_of(member.me))
        self._diffs = self._snaps = 0
        """Learners synchronised so, for `count`."""
        self._images: list[int] = []
        self._unproven: dict[int, None] = {}
        """Learners that have everything and must not count yet."""
        self._give_up_at = now + options.init_ms
        self._found_at = now + options.founding_wait_ms
        self._waits_to_found = True
        self._check_at = now + options.beat_ms
        self._frames: dict[int, tuple[Propose, int]] = {}
        """In this pass: cursor -> frame of what follows it, bytes that it counts for."""

    def _enter(self, phase: Phase) -> None:
        assert (self.phase, phase) in MOVES, f"from {self.phase} to {phase}"
        self.phase = phase

    # --- facts

    def count(self, counts: Counts) -> None:
        """Add what this leadership has done so far."""
        counts.diffs += self._diffs
        counts.snaps += self._snaps
        if self.phase is not Phase.DISCOVERY:
            first = zxids.first_of(self.epoch)
            counts.proposed += self.window.last - first
            counts.committed += max(0, self.window.committed - first)

    def time_proposals(self, now: int) -> None:
        """Once per pass: put the stopwatches on what was proposed in it."""
        window, last = self.window, self.window.last
        if last == self._timed or self.phase is not Phase.BROADCAST:
            return
        self._timed = last
        self._quorum_watch.start(last, window.committed, now)
        self._own_watch.start(last, window.saved, now)
        for sid, progress in self.progress.items():
            watch = progress.watch or self._maybe_watch(sid, progress)
            if watch is not None:
                watch.start(last, progress.acked, now)

    def _maybe_watch(self, sid: int, progress: Progress) -> Stopwatch | None:
        """Of members alone: anybody can be a guest, under any number, and figures are kept."""
        if progress.up_to_date and sid in self.member.voters.everyone():
            progress.watch = Stopwatch(self.member.timings.acks_of(sid))
        return progress.watch

    @property
    def lag(self) -> int:
        """How many entries the slowest of the synchronised learners has not acknowledged."""
        acked = [progress.acked for progress in self.progress.values() if progress.up_to_date]
        return self.window.last - min(acked, default=self.window.last)

    # --- inputs

    def receive(self, sid: int, message: object, now: int) -> None:
        progress = self.progress.get(sid)
        stage = progress.stage if progress else None
        handler = LEGAL.get((stage, type(message)))
        if handler is None:
            self.drop(sid)
            return
        if progress:
            progress.heard = now
        handler(self, sid, message, now)

    def link_down(self, sid: int) -> None:
        self.progress.pop(sid, None)
        self._unproven.pop(sid, None)
        if sid in self._images:
            self._images.remove(sid)

    def saved(self, now: int) -> None:
        if self.phase is Phase.DISCOVERY:
            self.maybe_promise(now)
        else:
            self._own_watch.arrived(self.window.saved, now)
            self.maybe_commit()
            self._quorum_watch.arrived(self.window.committed, now)
        self.maybe_announce()

    def deadline(self) -> int:
        if self.phase is Phase.BROADCAST:
            return self._check_at
        times = [self._check_at, self._give_up_at]
        if self._waits_to_found and not self.epoch:
            times.append(self._found_at)
        return min(times)

    def handle_timer(self, now: int) -> None:
        if not self.epoch:
            self._waits_to_found = now < self._found_at
            self.maybe_choose_epoch(now)
        if self.phase is not Phase.BROADCAST and now >= self._give_up_at:
            self.fail("no quorum within initLimit")
        elif now >= self._check_at:
            self.beat(now)

    def fail(self, reason: str) -> None:
        """Give up.  Serving stops first; the owner closes the links."""
        self.serving = False
        self.failed = self.failed or reason

    def drop(self, sid: int) -> None:
        self.member.close(sid)
        self.link_down(sid)

    # --- who counts

    def recount(self, progress: Progress) -> None:
        """Whether this learner's word counts, now that the ensemble is known."""
        same = progress.cluster_id == self.cluster_id != NO_CLUSTER
        progress.member = same and progress.standing == Standing.MEMBER
        known = same and progress.standing in RECORDED
        founder = (
            self.founding and self.phase is not Phase.BROADCAST and progress.standing in FOUNDERS
        )
        progress.counts = known or founder

    def counted(self) -> list[tuple[int, Progress]]:
        return [(sid, progress) for sid, progress in self.progress.items() if progress.counts]

    # --- discovery

    def on_follower_info(self, sid: int, info: FollowerInfo, now: int) -> None:
        """LeaderProcessFOLLOWERINFO."""
        member = self.member
        member.meet(info.standing)
        member.highest_epoch = max(member.highest_epoch, info.accepted_epoch)
        progress = Progress(info.accepted_epoch, info.standing, info.cluster_id, now)
        progress.since = self.window.last
        self.progress[sid] = progress
        if not self.epoch:
            self.maybe_choose_epoch(now)
            return
        self.recount(progress)
        if not self._is_kin(progress):
            self.drop(sid)
        elif info.accepted_epoch > self.epoch:
            self._meet_later_epoch(sid, progress, now)
        else:
            self.maybe_announce()

    def _is_kin(self, progress: Progress) -> bool:
        """Members of another ensemble are never taken in: their data would be lost."""
        free = progress.standing in FOUNDERS
        return free or progress.cluster_id in (self.cluster_id, NO_CLUSTER)

    def _meet_later_epoch(self, sid: int, progress: Progress, now: int) -> None:
        """It can never join this epoch, nor take its promise back: lead a later one instead.

        Once in a while only: a member that promised in vain again and again must not be able
        to keep the ensemble from working (test T-el-5).
        """
        member = self.member
        if progress.counts and now >= member.yield_at:
            member.yield_at = now + member.options.yield_ms
            self.fail("a member has promised a later epoch")
        else:
            self.drop(sid)

    def maybe_choose_epoch(self, now: int) -> None:
        """WaitForEpoch: a quorum of those whose promise will count has called."""
        member = self.member
        if member.voters.won(self._kin()):
            self._choose_epoch(self.cluster_id)
        elif self._may_found(now):
            self.founding = True
            self._choose_epoch(member.rng.randbytes(len(NO_CLUSTER)))
        elif member.standing is Standing.BLANK and not member.may_found:
            self.fail("a blank member met one who is not: it founds nothing")

    def _kin(self) -> dict[int, None]:
        """Self and callers with a record of the same ensemble."""
        if self.member.standing not in RECORDED:
            return {}
        sids = [
            sid
            for sid, p in self.progress.items()
            if p.cluster_id == self.cluster_id and p.standing in RECORDED
        ]
        return dict.fromkeys([self.member.me, *sids])

    def _may_found(self, now: int) -> bool:
        """Of a founding: a blank quorum, no veto, and nobody still to be waited for.

        The cluster id is always a new one.  Had it been kept from an earlier attempt, a
        member of that one which was away now would find its log cut in silence; like
        this, it is refused and says why.
        """
        member = self.member
        if not member.may_found:
            return False
        callers = [sid for sid, p in self.progress.items() if p.standing in FOUNDERS]
        present = dict.fromkeys([member.me, *callers])
        waited = member.voters.unanimous(present) or now >= self._found_at
        return member.voters.won(present) and waited

    def _choose_epoch(self, cluster_id: bytes) -> None:
        member = self.member
        self.cluster_id = cluster_id
        self.epoch = max(member.highest_epoch, member.accepted_epoch) + 1
        alone = member.voters.alone(member.me)
        founding = not alone and (self.founding or member.standing is Standing.FOUNDING)
        member.write_identity(cluster_id=cluster_id, founding=founding, accepted_epoch=self.epoch)
        for sid, progress in list(self.progress.items()):
            self.recount(progress)
            if not self._is_kin(progress):
                self.drop(sid)
        if alone:
            # One disk, in order: nobody else can hear of the epoch before it is durable.
            self._promise(member.me)

    def maybe_promise(self, now: int) -> None:
        if self.epoch and self.member.is_recorded:
            self._promise(self.member.me)

    def maybe_announce(self) -> None:
        """LEADERINFO(e), once the leader's own promise of e is durable (D2)."""
        if not self.epoch or not self.member.is_recorded:
            return
        founding = self.founding and self.phase is not Phase.BROADCAST
        info = LeaderInfo(self.epoch, self.cluster_id, founding)
        for sid, progress in self.progress.items():
            if progress.stage is Stage.CALLED:
                progress.enter(Stage.OFFERED)
                self.member.send(sid, info)

    def on_ack_epoch(self, sid: int, ack: AckEpoch, now: int) -> None:
        """LeaderProcessACKEPOCH."""
        progress = self.progress[sid]
        progress.enter(Stage.PROMISED)
        progress.marks = ack.marks
        if progress.counts and self._is_ahead(ack.last):
            # This check, not the election, gives A6 and A9.  Only those that count: else one
            # that comes to be repaired could make leaders resign for ever.
            self.fail("a voter has a longer log")
            return
        if progress.counts and ack.fresh:
            self._promise(sid)
        self.maybe_synchronise(sid, progress)

    def _is_ahead(self, last: int) -> bool:
        if self.phase is Phase.BROADCAST:
            return False
        history = self.window.last if self.phase is Phase.DISCOVERY else self.history_last
        return zxids.epoch_of(last) < self.epoch and last > history

    def _promise(self, sid: int) -> None:
        self.promises[sid] = None
        if self.phase is Phase.DISCOVERY and self.member.voters.won(self.promises):
            self._open_epoch()

    def _open_epoch(self) -> None:
        """(e,1) ends the history that a quorum must have, every entry of it, before it counts."""
        window = self.window
        self._enter(Phase.SYNC)
        self.history_last = window.last
        data = self.cluster_id + _SID.pack(self.member.me)
        window.append(zxids.first_of(self.epoch), int(EntryKind.EPOCH), data)
        if self.member.voters.alone(self.member.me):
            self._settle_voters()
        for sid, progress in list(self.progress.items()):
            self.maybe_synchronise(sid, progress)

    # --- synchronisation

    def maybe_synchronise(self, sid: int, progress: Progress) -> None:
        """LeaderSyncFollower.  Those that do not count wait until the leader is established.

        Losing schedule otherwise: A and S acked w, S's log is damaged, B leads without w.
        B sends S its own log, then S restarts, sound as it seems, and {B, S} is a quorum
        that never heard of w (D5: synchronised by a leader established without it).
        """
        if progress.stage is not Stage.PROMISED or self.phase is Phase.DISCOVERY:
            return
        if not progress.counts and self.phase is not Phase.BROADCAST:
            return
        plan = plan_sync(progress.marks, self.window)
        progress.target = self.window.last
        if plan.way is Way.SNAP:
            progress.enter(Stage.IMAGING)
            self._images.append(sid)
            self._snaps += 1
            self.member.timings.snaps.add(self._synchronising(Stage.IMAGING))
            return
        self._diffs += 1
        message = Diff if plan.way is Way.DIFF else Trunc
        self.member.send(sid, message(plan.zxid, plan.chain, progress.target))
        progress.enter(Stage.STREAMING)
        progress.sent = plan.zxid
        self.member.timings.diffs.add(self._synchronising(Stage.STREAMING))

    def _synchronising(self, stage: Stage) -> int:
        """How many learners are at that stage and not up to date."""
        progress = self.progress.values()
        return sum([each.stage is stage and not each.up_to_date for each in progress])

    def _begin_image(self, sid: int) -> None:
        """At the end of a pass, when the state is exactly at `applied`."""
        member, progress = self.member, self.progress[sid]
        window = member.window
        chain = window.chain_at(window.applied)
        assert chain is not None
        progress.imaged = True
        progress.sent = window.applied
        progress.target = window.last
        voters = member.history.at(window.applied).encode()
        member.send(sid, SnapBegin(window.applied, chain, window.last, voters))

    def image_room(self, sid: int) -> int | None:
        progress = self.progress.get(sid)
        if progress is None or progress.stage is not Stage.IMAGING or not progress.imaged:
            return None
        unacked = progress.chunks - progress.chunks_acked
        return max(0, self.member.options.image_chunks_inflight - unacked)

    def image_chunk(self, sid: int, data: bytes) -> None:
        self.progress[sid].chunks += 1
        self.member.send(sid, SnapChunk(data))

    def image_end(self, sid: int, digest: int) -> None:
        self.progress[sid].enter(Stage.STREAMING)
        self.member.send(sid, SnapEnd(digest))

    def on_snap_ack(self, sid: int, ack: SnapAck, now: int) -> None:
        progress = self.progress[sid]
        if not progress.chunks_acked <= ack.chunks <= progress.chunks:
            self.drop(sid)
            return
        progress.chunks_acked = ack.chunks
        progress.release(ack.zxid)
        # A member that loads a big image is no reason to resign.
        self._give_up_at = max(self._give_up_at, now + self.member.options.sync_ms)

    # --- broadcast

    def on_ack(self, sid: int, ack: Ack, now: int) -> None:
        """LeaderProcessACK, and of (e,1) LeaderProcessACKLD."""
        progress = self.progress[sid]
        if ack.zxid > progress.sent or ack.zxid < progress.acked:
            self.drop(sid)
            return
        progress.acked = ack.zxid
        progress.release(ack.zxid)
        if progress.watch is not None:
            progress.watch.arrived(ack.zxid, now)
        self.maybe_commit()
        self._quorum_watch.arrived(self.window.committed, now)
        self.maybe_tell(sid, progress)

    def maybe_commit(self) -> None:
        """The greatest zxid, of this epoch, that a quorum has durable.

        Not one of an earlier epoch: that a quorum has it does not keep a later leader without
        it from being elected, only an entry of this epoch behind it does.
        """
        member, window = self.member, self.window
        acks = {sid: progress.acked for sid, progress in self.counted()}
        acks[member.me] = window.saved
        agreed = member.voters.agreed(acks)
        if agreed > window.committed and agreed >= zxids.first_of(self.epoch):
            member.commit(agreed)
            if self.phase is Phase.SYNC:
                self._establish()
            self._settle_voters()
            self._end_founding()
            for sid in list(self._unproven):
                self.maybe_tell(sid, self.progress[sid])
        if not self.serving:
            self.maybe_serve()

    def _establish(self) -> None:
        self._enter(Phase.BROADCAST)
        for sid, progress in list(self.progress.items()):
            self.maybe_synchronise(sid, progress)
            self.maybe_tell(sid, progress)

    def _end_founding(self) -> None:
        """The voter set is committed: from here on the ensemble can only be resumed.

        Not with (e,1), which a founder may leave behind for a founding of its own.  Losing
        schedule otherwise: L hears that F has (e,1), is a member by that, and stands still; F
        and G found another ensemble, and L, of one that is nobody else's, can never join it.
        """
        member = self.member
        committed = 0 < member.voters.version <= self.window.committed
        if committed and member.standing is Standing.FOUNDING:
            member.write_identity(founding=False)
            for sid, progress in list(self.progress.items()):
                self.maybe_tell(sid, progress)

    def maybe_tell(self, sid: int, progress: Progress) -> None:
        """UPTODATE, with the leader's commit level (not the learner's)."""
        founding = self.member.standing is Standing.FOUNDING
        if self.phase is not Phase.BROADCAST or founding or progress.up_to_date:
            return
        has_all = progress.stage is Stage.STREAMING and progress.acked >= progress.target
        if has_all and self._is_proven(sid, progress):
            progress.up_to_date = True
            self.member.send(sid, UpToDate(self.window.committed))

    def _is_proven(self, sid: int, progress: Progress) -> bool:
        """Whether one whose word did not count may become a member, since this leader led without
        it *after* it had called: an entry proposed since then is committed.

        UPTODATE waits for that, since it is what makes the learner write down that it counts.
        Losing schedule otherwise: L leads epoch 1 and hears nobody, for less than syncLimit; N
        and W establish epoch 2 and acknowledge w; W is wiped, forgets its promise, and
        reaches L only: L and W commit beside N, and w is on N alone.  With it: whoever
        acknowledged the proof had promised nothing later, so whatever leader comes later, and
        counts one of those, has the proof and what is before it, or gives up.
        """
        if progress.counts or self.window.committed > progress.since:
            self._unproven.pop(sid, None)
            return True
        self._unproven[sid] = None
        if self.window.last == progress.since and not self.full:
            self.propose(int(EntryKind.PROOF), b"")
        return False

    def on_joined(self, sid: int, _joined: Joined, _now: int) -> None:
        """Synchronised by a leader that led without it: from now on it counts (decision 8)."""
        progress = self.progress[sid]
        if not progress.up_to_date:
            self.drop(sid)
            return
        progress.counts = progress.member = True
        self.maybe_commit()

    def maybe_serve(self) -> None:
        """Established, and full members are a quorum: nothing acknowledged rests on a founding."""
        member = self.member
        voters = member.voters
        if self.phase is not Phase.BROADCAST or self.failed or self.full:
            return
        if member.window.saved < zxids.first_of(self.epoch):
            # Others' disks were quicker: the history is committed, but not applied here, and
            # a request judged against less than the whole log could be let through wrongly.
            return
        if 0 < voters.version <= member.window.committed and voters.won(self._full_members()):
            self.serving = True

    def _full_members(self) -> dict[int, None]:
        member = self.member
        durable = member.durable
        me = [member.me] if durable is not None and not durable.founding else []
        return dict.fromkeys(me + [sid for sid, p in self.progress.items() if p.member])

    def _settle_voters(self) -> None:
        """Put a founding's set into the log; complete a change of sets that has become joint."""
        member = self.member
        voters = member.voters
        if self.full or voters.version > member.window.committed:
            return
        if voters.version == 0:
            self.propose(CONFIG, voters.encode())
        elif voters.joint:
            self.propose(CONFIG, voters.leave().encode())
        elif not voters.is_voter(member.me):
            self.voted_out = True

    def propose(self, kind: int, data: bytes) -> int:
        zxid = self.member.append_own(kind, data)
        if zxid & zxids.COUNTER_MAX >= self.member.options.epoch_entries_max:
            self.fill_up()
        return zxid

    def fill_up(self) -> None:
        """The epoch's last zxid is given away: once all is committed, lead a new one."""
        self.full = True
        self.serving = False

    def may_change_voters(self, new: Members) -> bool:
        """No change is under way, and full members that are up to date are a quorum of the new.

        Else the change could leave the ensemble waiting for members that do not count yet.
        """
        voters = self.member.voters
        ready = [sid for sid, p in self.progress.items() if p.member and p.up_to_date]
        settled = not voters.joint and voters.version <= self.window.committed
        return (
            settled
            and not self.full
            and not self.voted_out
            and VoterSet(new).won([self.member.me, *ready])
        )

    def propose_voters(self, new: Members, note: bytes) -> int:
        """Begin a change; the joint set counts from this proposal on."""
        joint = self.member.voters.join(new, note)
        return self.propose(CONFIG, joint.encode())

    # --- heartbeats

    def beat(self, now: int) -> None:
        """Every half tick: who still answers?  Then ask again.

        The own disk has to answer as well, where the others get on without it: what is not
        durable here is not applied here, so that this member's clients would wait, and all
        that is proposed, for good.  Where they do not, nobody else could do more.
        """
        member = self.member
        if member.disk_hangs and self.window.committed > self.window.saved:
            self.fail("the disk here has written nothing within syncLimit")
            return
        silent = now - self.member.options.sync_ms
        for sid, progress in list(self.progress.items()):
            if progress.heard < silent:
                self.drop(sid)
        if self.phase is Phase.BROADCAST and self.heard_by_quorum(now) < silent:
            self.fail("no quorum heard within syncLimit")
            return
        self._check_at = now + self.member.options.beat_ms
        self._begin_round()

    def heard_by_quorum(self, now: int) -> int:
        """When last a quorum had been heard from, oneself included."""
        heard = {sid: progress.heard for sid, progress in self.counted()}
        return self.member.voters.agreed(heard | {self.member.me: now})

    def stalled(self, now: int) -> None:
        """This process stood still: read first what waits in the sockets, then count."""
        grace = self.member.options.beat_ms
        self._check_at = now + grace
        for progress in self.progress.values():
            progress.heard = max(progress.heard, now - self.member.options.sync_ms)
        self._begin_round()
        self.paused = self.confirmed < self.round
        self._resumed_round = self.round

    def _begin_round(self) -> None:
        self.round += 1
        payload = self.member.ping_payload() if self.progress else b""
        for sid in self.progress:
            self.member.send(sid, Ping(self.round, payload))
        self._confirm()

    def on_ping(self, sid: int, ping: Ping, now: int) -> None:
        progress = self.progress[sid]
        if not progress.answered <= ping.round <= self.round:
            self.drop(sid)
            return
        progress.answered = ping.round
        if ping.payload:
            self.member.pings.append((sid, ping.payload))
        self._confirm()

    def _confirm(self) -> None:
        """The last round that a quorum answered: nobody had promised a later epoch before."""
        answers = {sid: progress.answered for sid, progress in self.counted()}
        self.confirmed = self.member.voters.agreed(answers | {self.member.me: self.round})
        if self.paused and self.confirmed >= self._resumed_round:
            self.paused = False

    def confirm(self) -> int:
        """A round that begins after this call: the current pass's, shared by all its callers."""
        self._wanted_round = self.round + 1
        if self.member.voters.alone(self.member.me):
            self._begin_round()
        return self._wanted_round

    def on_upper(self, sid: int, message: Upper, now: int) -> None:
        self.member.upper.append((sid, message.data))

    # --- one pass

    def flush(self, digest_zxid: int, digest: int) -> list[int]:
        """Frames for every learner; returns those for whom an image must be begun."""
        if self._wanted_round > self.round:
            self._begin_round()
        images, self._images = self._images, []
        for sid in images:
            self._begin_image(sid)
        self._frames.clear()
        for sid, progress in list(self.progress.items()):
            if progress.stage is Stage.STREAMING:
                self._feed(sid, progress, digest_zxid, digest)
        self._trim()
        if self.full and self.window.committed == self.window.last:
            self.fail("the epoch is full")
        elif self.voted_out and self.window.applied >= self.member.voters.version:
            # Not before: the change is answered and told to the learners in this very pass.
            self.fail("no longer a voter")
        return images

    def _feed(self, sid: int, progress: Progress, digest_zxid: int, digest: int) -> None:
        window, options = self.window, self.member.options
        if progress.sent < window.base:
            self.drop(sid)  # Hopelessly slow: it comes back for a SNAP.
            return
        while progress.sent < window.last and progress.inflight_bytes < options.inflight_bytes_max:
            self._send_entries(sid, progress, digest_zxid, digest)
        progress.caught_up |= progress.sent >= window.last
        committed = min(window.committed, progress.sent)
        if committed > progress.told:
            progress.told = committed
            if digest_zxid > committed:
                digest_zxid = digest = 0
            self.member.send(sid, Commit(committed, digest_zxid, digest))

    def _send_entries(self, sid: int, progress: Progress, digest_zxid: int, digest: int) -> None:
        made = self._frames.get(progress.sent)
        if made is None:
            made = self._make_frame(progress.sent, digest_zxid, digest)
            self._frames[progress.sent] = made
        frame, size = made
        progress.sent = frame.entries[-1][0]
        progress.told = max(progress.told, frame.committed)
        progress.inflight.append((progress.sent, size))
        progress.inflight_bytes += size
        self.member.send(sid, frame)

    def _make_frame(self, sent: int, digest_zxid: int, digest: int) -> tuple[Propose, int]:
        window = self.window
        entries = window.after(sent, self.member.options.frame_bytes_max)
        committed = min(window.committed, entries[-1].zxid)
        if digest_zxid > committed:
            digest_zxid = digest = 0
        rows = [(entry.zxid, entry.kind, entry.data) for entry in entries]
        frame = Propose(committed, digest_zxid, digest, entries[-1].chain, rows)
        return frame, bytes_of(entries)

    def _trim(self) -> None:
        """Keep what learners still need, up to twice the window; then they need a SNAP.

        Those that are being sent one get more patience, or, under steady writes, the entries
        behind the image were gone each time that it had arrived.
        """
        window = self.window
        if window.held_bytes <= window.bytes_max:
            return
        needed = window.applied
        for progress in self.progress.values():
            imaging = progress.stage is Stage.IMAGING
            catches_up = imaging or (progress.imaged and not progress.caught_up)
            patience = PATIENCE_CATCHING_UP if catches_up else PATIENCE
            reads = imaging or progress.stage is Stage.STREAMING
            if reads and window.held_bytes <= patience * window.bytes_max:
                needed = min(needed, progress.sent)
        window.trim(needed)


Handler = Callable[[Leading, int, Any, int], None]
_ALL: Final = (Stage.CALLED, Stage.OFFERED, Stage.PROMISED, Stage.IMAGING, Stage.STREAMING)

LEGAL: Final[dict[tuple[Stage | None, type], Handler]] = {
    (None, FollowerInfo): Leading.on_follower_info,
    (Stage.OFFERED, AckEpoch): Leading.on_ack_epoch,
    (Stage.IMAGING, SnapAck): Leading.on_snap_ack,
    (Stage.STREAMING, SnapAck): Leading.on_snap_ack,
    (Stage.STREAMING, Ack): Leading.on_ack,
    (Stage.STREAMING, Joined): Leading.on_joined,
    (Stage.STREAMING, Upper): Leading.on_upper,
    **{(stage, Ping): Leading.on_ping for stage in _ALL},
}
"""(stage of the learner, message) -> handler; what is not here closes the link."""
