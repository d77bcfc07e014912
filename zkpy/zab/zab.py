"""Zab: one member's part in the broadcast.  The package docstring tells how to drive it.

It owns the role, and hands each input to the object that plays it.  A change of role
throws that object away whole; nothing is reset field by field (ZOOKEEPER-2845).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from wire.peer import FollowerInfo, Notification, Role, Upper
from zkpy.effects import DiskBatch, Entry, Identity
from zkpy.zab.counts import Counts, Timings
from zkpy.zab.election import Election
from zkpy.zab.leader import Leading, Stage
from zkpy.zab.leader import Phase as LeaderPhase
from zkpy.zab.learner import DISCOVERY, Learning
from zkpy.zab.learner import Phase as LearnerPhase
from zkpy.zab.member import Member, SnapAdopted, SnapEvent, ZabOptions
from zkpy.zab.quorum import Members, VoterSet
from zkpy.zab.window import Window
from zkpy.zxid import COUNTER_MAX

MOVES: Final[dict[tuple[Role, Role], str]] = {
    (Role.LOOKING, Role.LEADING): "elected",
    (Role.LOOKING, Role.FOLLOWING): "a leader is known",
    (Role.LOOKING, Role.OBSERVING): "a leader is known, and no vote is held",
    (Role.FOLLOWING, Role.OBSERVING): "voted out",
    (Role.OBSERVING, Role.FOLLOWING): "voted in",
    (Role.LEADING, Role.LOOKING): "the quorum is silent, or a later epoch is met",
    (Role.FOLLOWING, Role.LOOKING): "the link ends, or the leader is silent",
    (Role.OBSERVING, Role.LOOKING): "the link ends, or the leader is silent",
}
"""(from, to) -> what brings it about."""


@dataclass(slots=True)
class ZabReady:
    """What one pass asks for; all that depends on a write waits for `saved` by itself."""

    disk: DiskBatch | None
    peers: list[tuple[int, object]]
    votes: list[tuple[int, object]]
    peer_closes: list[int]
    images: list[int]
    """Learners for whom an image of the present state must be begun now."""
    halt: str | None
    alarm: str | None
    """What an operator must know now: no leader can be elected (see `outlook`), or a member of
    another ensemble was met."""


class Zab:
    """The broadcast core of one member: inputs with `now`, effects from `ready`."""

    def __init__(
        self,
        me: int,
        recovered_identity: Identity | None,
        log: Window,
        options: ZabOptions,
        rng: random.Random,
        now: int,
        suspect: bool = False,
    ) -> None:
        """`suspect`: recovery found damage (rule D5)."""
        log.bytes_max = options.window_bytes_max
        self.options = options
        self._entries_max = options.epoch_entries_max
        self.member = Member(me, recovered_identity, log, options, rng, suspect)
        self.role = Role.LOOKING
        self.leader: int | None = None
        self.epoch = 0
        """Of the leader led as or followed; 0 while there is none, or it is not known yet."""
        self.serving = False
        self.paused = False
        self.why_looking = "started"
        """Why the last leader was given up: for the operator's log."""
        self._election = Election(self.member)
        self._counts = Counts()
        """Without those of the present leadership."""
        self._looking_since = now
        self._idle_since: int | None = None
        """Since when this member serves nobody, for want of a leader; None while it serves."""
        self._leading: Leading | None = None
        self._learning: Learning | None = None
        self._judged: VoterSet | None = None
        self._named = False
        self._callers: dict[int, FollowerInfo] = {}
        """Learners that came before the election here was over."""
        self.stirred = True
        """Something came in since the last `ready`: else there is nothing to write or send."""
        self._alarm = 0
        """A later `now` than this means that the process stood still."""
        self._look(now)
        self._settle(now)

    # --- facts

    @property
    def me(self) -> int:
        return self.member.me

    @property
    def log(self) -> Window:
        return self.member.window

    @property
    def suspect(self) -> bool:
        """Recovery found damage, and no leader has mended it yet (D5)."""
        return self.member.suspect

    @property
    def voters(self) -> VoterSet:
        return self.member.voters

    @property
    def identity(self) -> Identity | None:
        """The record as the disk has it."""
        return self.member.durable

    @property
    def dial(self) -> int | None:
        """The member to which this one's shell shall keep a link."""
        return self._learning.leader if self._learning else None

    @property
    def why_stuck(self) -> str | None:
        """Why no leader can be elected until an operator does something (D5)."""
        return self._election.why_stuck

    @property
    def strangers(self) -> str | None:
        """Which members of other ensembles are there instead of a leader."""
        return self._election.strangers

    @property
    def digests(self) -> dict[int, int]:
        """zxid -> digest that the state must have there; pop them while applying."""
        return self.member.digests

    @property
    def confirmed(self) -> int:
        return self._leading.confirmed if self._leading else 0

    @property
    def learners(self) -> list[int]:
        """Of a leader: the learners that follow its stream, ascending."""
        progress = self._leading.progress if self._leading else {}
        return sorted(sid for sid, p in progress.items() if p.stage is Stage.STREAMING)

    @property
    def successors(self) -> list[int]:
        """Of a leader: voters that could lead in its place, since they count and are up to date."""
        progress = self._leading.progress if self._leading else {}
        ready = [sid for sid, p in progress.items() if p.counts and p.up_to_date]
        return sorted(filter(self.voters.is_voter, ready))

    @property
    def counts(self) -> Counts:
        """Of this process so far."""
        counts = replace(self._counts)
        if self._leading:
            self._leading.count(counts)
        elif self._learning:
            self._learning.count(counts)
        return counts

    @property
    def timings(self) -> Timings:
        """Likewise."""
        return self.member.timings

    def reset_counts(self) -> None:
        """What was counted and timed so far counts no more."""
        self._counts.subtract(self.counts)
        self.timings.reset()

    def time_proposals(self, now: int) -> None:
        """At the end of a pass, before `ready`."""
        if self._leading:
            self._leading.time_proposals(now)

    @property
    def lag(self) -> int:
        """In entries: how far the slowest synchronised learner is behind this leader; of others,
        how many are known to be committed and not applied, for want of a sync of their own disk."""
        if self._leading:
            return self._leading.lag
        log = self.log
        return log.position(log.committed) - log.position(log.applied)

    def set_ping_payload(self, payload: Callable[[], bytes]) -> None:
        """What goes with each ping, asked for when it is made (touched sessions)."""
        self.member.ping_payload = payload

    # --- proposals

    def propose(self, kind: int, data: bytes) -> int:
        """Append one entry and send it with the next `ready`; returns its zxid.

        Only while leading and serving; `serving` ends by itself with the epoch's last zxid.
        """
        leading = self._leading
        assert leading is not None and self.serving, "only a serving leader proposes"
        self.stirred = True
        # Flat for transactions, which come by the hundred thousand.
        zxid = leading.propose(kind, data) if kind else leading.window.append_next(kind, data)
        if zxid & COUNTER_MAX >= self._entries_max:
            leading.fill_up()
            self.serving = False
        return zxid

    @property
    def changing_voters(self) -> bool:
        """Whether a change of voters is on its way: one at a time."""
        voters = self.voters
        return voters.joint or voters.version > self.member.window.applied

    @property
    def deciding_voters(self) -> bool:
        """Whether its outcome is open; then the rest of it follows by itself."""
        voters = self.voters
        return voters.joint and voters.version > self.member.window.applied

    def may_change_voters(self, new: Members) -> bool:
        """Whether `propose_voters` may be called: else answer NEW_CONFIG_NO_QUORUM, or
        RECONFIG_IN_PROGRESS while `voters.joint`."""
        return self._leading is not None and self.serving and self._leading.may_change_voters(new)

    def propose_voters(self, new: Members, note: bytes = b"") -> int:
        """Change the voter set; returns the zxid of the joint set's entry.

        The entry of the new set alone follows by itself once the joint one is committed.
        """
        leading = self._leading
        assert leading is not None and self.may_change_voters(new)
        self.stirred = True
        zxid = leading.propose_voters(new, note)
        self.serving = leading.serving
        return zxid

    def confirm_leadership(self) -> int:
        """A token: `confirmed >= token` once a quorum answered a round begun after this call."""
        assert self._leading is not None and self.serving
        self.stirred = True
        return self._leading.confirm()

    # --- inputs

    def receive(self, sid: int, message: object, now: int) -> None:
        """A message of the link with `sid`."""
        self._notice(now)
        if sid not in self.member.links:
            return
        if self._leading:
            self._leading.receive(sid, message, now)
        elif self._learning:
            self._learning.receive(sid, message, now)
        else:
            self._receive_looking(sid, message)
        self._settle(now)

    def _receive_looking(self, sid: int, message: object) -> None:
        """A learner may be quicker than the election here; all else is too late."""
        if isinstance(message, FollowerInfo) and sid not in self._callers:
            self._callers[sid] = message
        else:
            self._close(sid)

    def link_up(self, sid: int, now: int) -> None:
        self._notice(now)
        self.member.links[sid] = None
        if self._learning and sid == self._learning.leader:
            self._learning.link_up(now)
        self._settle(now)

    def link_down(self, sid: int, now: int) -> None:
        self._notice(now)
        member = self.member
        if sid in member.closes:
            member.closes.remove(sid)
        if sid not in member.links:
            return
        del member.links[sid]
        member.forget_messages(sid)
        self._callers.pop(sid, None)
        if self._leading:
            self._leading.link_down(sid)
        if self._learning and sid == self._learning.leader:
            self._learning.fail("the link to the leader is gone")
        self._settle(now)

    def resign(self, why: str, now: int) -> None:
        """Give up a leadership, and stand for none until others had the time to."""
        self._notice(now)
        if self._leading:
            self._leading.fail(why)
            self.member.back_at = now + self.options.init_ms
        self._settle(now)

    def drop_link(self, sid: int, why: str, now: int) -> None:
        """What the replica there has sent by `send` is not to be understood."""
        self._notice(now)
        if self._leading:
            self._leading.drop(sid)
        elif self._learning and sid == self._learning.leader:
            self._learning.fail(why)
        self._settle(now)

    def receive_vote(self, sid: int, notification: Notification, now: int) -> None:
        """An election datagram.  `sid` is the sender as the transport knows it."""
        self._notice(now)
        if notification.sid != sid:
            return
        news = self._election.receive(notification, now)
        if news and notification.role == Role.LOOKING:
            self._see_looking(notification)
        self._settle(now)

    def _see_looking(self, n: Notification) -> None:
        """A partner that looks again, before anything was established: do not wait for it.

        Without this a leader whose supporter changed its mind, or a follower whose leader did,
        sits out the whole initLimit (ZOOKEEPER-3109).

        A leader that votes for another in the same round changed its mind too.  Losing schedule:
        {1, 2} are about to become {3}, which 2 and 3 know and 1 does not; 1 counts 2's first
        vote, for itself, and its own, and follows; 2 and 3 are for 3 by then, and wait for
        1's vote.
        """
        if n.round < self._election.round:
            return
        learning, leading = self._learning, self._leading
        again = n.round > self._election.round
        if learning and n.sid == learning.leader and learning.phase in DISCOVERY:
            if again or n.leader != n.sid:
                learning.fail("the leader is looking again")
        elif not again:
            return
        elif leading and leading.phase is not LeaderPhase.BROADCAST:
            linked = dict.fromkeys([self.me, *self.member.links])
            if self.voters.is_voter(n.sid) and not self.voters.won(linked):
                leading.fail("a supporter is looking again")

    def saved(self, number: int, now: int) -> None:
        """The batch handed out by `ready` is durable."""
        self._notice(now)
        window, hung = self.member.window, self.member.disk_hangs
        self.member.saved(number)
        if self._leading:
            self._leading.saved(now)
        elif self._learning:
            self._learning.saved()
        elif window is not self.member.window:
            self._look(now)  # A SNAP was adopted though its link had gone: another log now.
        elif hung:
            self._look(now)  # There was no vote for this member; now there is one.
        self._settle(now)

    def handle_timer(self, now: int) -> None:
        self._notice(now)
        self.member.watch_disk(now)
        if 0 < self.member.back_at <= now:
            self.member.back_at = 0
            if self.role is Role.LOOKING and not self.member.adopting:
                self._look(now)
        if self._leading:
            self._leading.handle_timer(now)
        elif self._learning:
            self._learning.handle_timer(now)
        else:
            self._election.handle_timer(now)
        self._settle(now)

    def deadline(self) -> int | None:
        """When `handle_timer` is due next; 0: at once."""
        part = self._leading or self._learning
        if part and part.failed:
            return 0
        if self._leading:
            return self._leading.deadline()
        if self._learning:
            return self._learning.deadline()
        return self._election.deadline()

    def _notice(self, now: int) -> None:
        """Before any input: did this process stand still (SIGSTOP, a long apply)?"""
        self.stirred = True
        if now <= self._alarm:
            return
        self.member.watch_disk(now, stood_still=True)
        if self._leading:
            self._leading.stalled(now)
        elif self._learning:
            self._learning.stalled(now)

    # --- roles

    def decide(self, leader: int, now: int) -> None:
        """Lead or follow: what an election says, or an oracle in its place.

        A wrong word costs time, never safety: elections are hints.
        """
        if self.role is not Role.LOOKING or self.member.adopting:
            return
        if leader == self.me:
            self._become_leading(now)
        else:
            self._become_learning(leader, now)
        self._settle(now)

    def _become_leading(self, now: int) -> None:
        self._leading = Leading(self.member, now)
        self._set_role(Role.LEADING, self.me, now)
        self._leading.maybe_choose_epoch(now)
        callers, self._callers = self._callers, {}
        for sid, info in callers.items():
            self._leading.receive(sid, info, now)

    def _become_learning(self, leader: int, now: int) -> None:
        for sid in list(self.member.links):
            self._close(sid)  # Others dialed those; a learner dials its leader itself.
        self._learning = Learning(self.member, leader, now)
        self._set_role(self._learner_role(), leader, now)

    def _set_role(self, role: Role, leader: int, now: int) -> None:
        self.timings.election.add(now - self._looking_since)
        self._enter(role)
        self.leader = leader
        self._election.settle(role, leader, self.epoch)

    def _enter(self, role: Role) -> None:
        assert role is self.role or (self.role, role) in MOVES, f"from {self.role} to {role}"
        self.role = role

    def _look(self, now: int) -> None:
        """Without a leader: whatever was under way is thrown away whole."""
        self._counts = self.counts
        self._counts.looked += 1
        self._looking_since = now
        if self._idle_since is None:
            self._idle_since = now
        self._leading = self._learning = None
        self._enter(Role.LOOKING)
        self.leader, self.epoch = None, 0
        self.serving = self.paused = False
        member = self.member
        member.abandon_staging()
        for sid in list(member.links):
            if sid not in self._callers:
                member.close(sid)
        member.upper.clear()
        member.pings.clear()
        if self.options.elects and not member.adopting:
            self._election.begin(now)

    def _close(self, sid: int) -> None:
        self._callers.pop(sid, None)
        self.member.close(sid)

    def _settle(self, now: int) -> None:
        """After any input: carry out what it led to, and bring the public facts up to date."""
        self.stirred = True
        part = self._leading or self._learning
        if part and part.failed:
            self.why_looking = part.failed
            self._look(now)
            part = None
        if part is None and not self.member.adopting:
            leader = self._election.decide(now)
            if leader is not None:
                self.decide(leader, now)
                return
        if part is not None:
            self._show(part)
            if self.serving and self._idle_since is not None:
                self._time_return(now - self._idle_since, now)
        deadline = self.deadline()
        self._alarm = _NEVER if deadline is None else deadline + self.options.tick_ms

    def _time_return(self, idle_ms: int, now: int) -> None:
        self._idle_since = None
        timings, learning = self.timings, self._learning
        timings.unavailable.add(idle_ms)
        if learning is None:
            timings.leader_unavailable.add(idle_ms)
        elif self.role is Role.FOLLOWING:
            timings.follower_sync.add(now - learning.sync_since)
        else:
            timings.observer_sync.add(now - learning.sync_since)

    def _show(self, part: Leading | Learning) -> None:
        self.serving, self.paused = part.serving, part.paused
        if self.is_left_out:
            self.serving = False
        role = Role.LEADING if part is self._leading else self._learner_role()
        if part.epoch != self.epoch or role is not self.role:
            self._enter(role)
            self.epoch = part.epoch
            assert self.leader is not None
            self._election.settle(role, self.leader, self.epoch)

    @property
    def configured(self) -> VoterSet:
        """The set in force at what is applied; of version 0 before the log has one."""
        return self.member.history.sets[0]

    @property
    def named(self) -> bool:
        """Whether the configuration in force names this member; false before there is one."""
        configured = self.configured
        if configured is not self._judged:
            self._judged = configured
            self._named = configured.version > 0 and self.me in configured.everyone()
        return self._named

    @property
    def is_removed(self) -> bool:
        """Whether the configuration in force, if there is one, does not name this member."""
        return self.options.named_only and not self.named and self.configured.version > 0

    @property
    def is_left_out(self) -> bool:
        """A learner that the configuration does not name, and that serves nobody for that."""
        learning = self._learning
        if learning is None or not self.options.named_only or self.named:
            return False
        return self.configured.version > 0 or not learning.founding

    @property
    def waits_for_membership(self) -> bool:
        """A learner that is left out, and could serve at once if it were not."""
        return self.is_left_out and self._learning is not None and self._learning.serving

    def _learner_role(self) -> Role:
        """A change of voters makes a follower of an observer, and the other way round."""
        return Role.FOLLOWING if self.voters.is_voter(self.me) else Role.OBSERVING

    # --- for the replica

    def take_committed(self) -> list[Entry]:
        """Entries committed and durable here, in order, each once: apply them all."""
        member = self.member
        adopted = [event for event in member.snaps if isinstance(event, SnapAdopted)]
        assert not adopted, "take_snap comes first: these entries are for the new state"
        entries = member.window.take_committed()
        if entries and len(member.history.sets) > 1:
            member.history.forget(member.window.applied)
        return entries

    def send(self, sid: int, data: bytes) -> bool:
        """To the replica on the other side of a link, behind this pass's frames.

        False if there is no link that can carry it: treat it as lost.
        """
        if sid not in self.member.links or not self._is_streaming(sid):
            return False
        self.stirred = True
        self.member.out_upper.append((sid, Upper(data)))
        return True

    def _is_streaming(self, sid: int) -> bool:
        if self._leading:
            progress = self._leading.progress.get(sid)
            return progress is not None and progress.stage is Stage.STREAMING
        learning = self._learning
        return learning is not None and learning.phase is LearnerPhase.BROADCAST

    def take_upper(self) -> list[tuple[int, bytes]]:
        """What replicas sent by `send`: (server id, data), FIFO per sender."""
        upper, self.member.upper = self.member.upper, []
        return upper

    def take_pings(self) -> list[tuple[int, bytes]]:
        """Payloads that came with pings: (server id, data); empty ones left out."""
        pings, self.member.pings = self.member.pings, []
        return pings

    def take_snap(self) -> list[SnapEvent]:
        """A SNAP coming in; call it before `take_committed`."""
        snaps, self.member.snaps = self.member.snaps, []
        return snaps

    def snap_loaded(self, now: int) -> None:
        """The image that came in is decoded, and its digest is right."""
        if self._learning and self.member.staging:
            self._learning.snap_loaded()
        self._settle(now)

    def on_digest_mismatch(self, now: int) -> None:
        """The state here is not the leader's: serve nothing, ask for a SNAP (A12).

        Its log is sound, so the member still votes and acknowledges; it is no candidate.
        """
        self.member.wants_image = True
        if self.voters.alone(self.me):
            self.member.halt = "the digest differs, and there is no other server to copy from"
        elif self._learning:
            self._learning.fail("the digest differs from the leader's")
        elif self._leading:
            self._leading.fail("the digest differs from the one recorded here")
        elif self.role is Role.LOOKING and not self.member.adopting:
            self._look(now)
        self._settle(now)

    def image_room(self, sid: int) -> int | None:
        """How many chunks may be handed over now; None: forget that image."""
        return self._leading.image_room(sid) if self._leading else None

    def image_chunk(self, sid: int, data: bytes) -> None:
        assert self._leading is not None
        self.stirred = True
        self._leading.image_chunk(sid, data)

    def image_end(self, sid: int, digest: int) -> None:
        """The image is complete: `digest` is that of the state it was made of."""
        assert self._leading is not None
        self.stirred = True
        self._leading.image_end(sid, digest)

    def take_batch(self, digest_zxid: int, digest: int) -> DiskBatch | None:
        """What may be written now, ahead of all else that `ready` gives; None while a batch is
        under way."""
        member = self.member
        return None if member.halt else member.take_batch(digest_zxid, digest)

    def ready(self, digest_zxid: int, digest: int) -> ZabReady:
        """What to write and send; all that `take_committed` gave is applied: to `digest_zxid`."""
        self.stirred = False
        member = self.member
        images: list[int] = []
        if self._leading:
            images = self._leading.flush(digest_zxid, digest)
        elif member.window.held_bytes > member.window.bytes_max:
            member.window.trim(member.window.applied)
        if member.digests:
            member.digests = {z: d for z, d in member.digests.items() if z > digest_zxid}
        votes: list[tuple[int, object]] = [*self._election.out]
        self._election.out.clear()
        peers = member.out + member.out_upper
        member.out, member.out_upper = [], []
        closes, member.closes = member.closes, []
        disk = member.take_batch(digest_zxid, digest)
        return ZabReady(
            disk, peers, votes, closes, images, member.halt, self._election.take_alarm()
        )


_NEVER = 1 << 62
