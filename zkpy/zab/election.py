"""Fast leader election over datagrams.  Only a hint: safety is in epochs and promises.

A member that looks for a leader votes, first for itself, then for the best candidate it
heard of: greatest last zxid, then greatest server id.  Votes are compared within a *round*; a
later round replaces an earlier one.  A quorum for one candidate, and no better vote for
a short while, decides.

Three kinds take part:

    electors   members with a record of this ensemble, or, while a founding is possible,
               blank ones (among themselves); only voters are candidates, and decide
    seekers    everyone else: blank members once a founding is vetoed, suspect ones.
               They vote for nobody and wait for a leader to say that it leads
    settled    members with a leader answer with it, and change nothing

A looking member joins a leader that a quorum of fresh answers names and that says itself that
it leads; after one re-send period its own word is enough, for a cut datagram path must
not keep a member out.  That is also why a returning member disturbs nobody: a round number
costs nothing (the pre-vote of other protocols).

Datagrams get lost, doubled, reordered and forged: each carries the sender's incarnation and
sequence, and the *echo* of the receiver's incarnation.  Without the right echo it is
not counted, and earns one short answer, from which the sender learns the echo.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from wire.peer import NO_CLUSTER, NO_VOTE, Notification, Role, Standing
from zkpy import zxid as zxids
from zkpy.zab.member import Member
from zkpy.zab.outlook import Word, why_stuck
from zkpy.zab.standing import FOUNDERS, RECORDED, SETTLED

FRESH_RESENDS: Final = 3
"""Answers and votes older than so many (longest) re-send periods are forgotten."""
ROUND_MAX: Final = 1 << 62
"""A later round is nobody's: a new one begins once per lost leader.  Should somebody forge this
one, it is every later election's too, which then tells old votes by their sequence alone."""
GUESTS_MAX: Final = 64
"""Senders remembered at a time that no configuration names: anybody can claim to be one."""
REMIND_MS: Final = 60_000
"""That no leader can be elected is said again so often."""
Vote = tuple[int, int]
"""Last zxid of the candidate, its server id: greater is better."""
NOBODY: Final[Vote] = (-1, NO_VOTE)


@dataclass(slots=True)
class _Peer:
    """What protects from copies and stragglers."""

    incarnation: int
    sequence: int


@dataclass(slots=True)
class _Ballot:
    vote: Vote
    at: int


@dataclass(slots=True)
class _Claim:
    """What a settled member says."""

    role: int
    leader: int
    epoch: int
    round: int
    since: int
    """Since when it has said so without a break."""
    at: int


class Election:
    """Lives as long as the process; `begin` and `settle` say whether it looks."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.round = 0
        self.out: list[tuple[int, Notification]] = []
        self.looking = False
        self.vote = NOBODY
        self._role = Role.LOOKING
        self._epoch = 0
        self._ballots: dict[int, _Ballot] = {}
        self._claims: dict[int, _Claim] = {}
        self._peers: dict[int, _Peer] = {}
        self._sequence = 0
        self._interval = 0
        self._resend_at = 0
        self._finalize_at: int | None = None
        self._last_look = -1
        self.why_stuck: str | None = None
        """Why this search cannot end by itself (see `outlook`)."""
        self.alarm: str | None = None
        """The same, when it is to be said; see `take_alarm`."""
        self._strangers: dict[int, bytes] = {}
        """Server -> cluster id of another ensemble, which the operator was told of."""
        self._news: list[str] = []
        """What is to be said of them."""
        self._words: dict[int, tuple[Word, int]] = {}
        """Voter -> what it said about itself since this search began, and when."""
        self._said = ""
        self._say_again_at = 0

    # --- what the owner tells

    def begin(self, now: int) -> None:
        """Look for a leader: a new round, with a vote for oneself."""
        self.looking = True
        self._role, self._epoch = Role.LOOKING, 0
        self.round = min(self.round + 1, ROUND_MAX)
        self._interval = self.member.options.resend_ms
        self._words.clear()
        self.why_stuck = None
        self._restart(now)

    def _restart(self, now: int) -> None:
        self._ballots.clear()
        self._claims.clear()
        self.vote = self._own_vote()
        self._finalize_at = None
        self._broadcast(now)

    def settle(self, role: Role, leader: int, epoch: int) -> None:
        """A leader is known: from now on only answer.  Also when its epoch becomes known."""
        self.looking = False
        self.why_stuck = self.alarm = None
        self._role, self._epoch = role, epoch
        self.vote = (self.member.window.last, leader)

    def _own_vote(self) -> Vote:
        return (self.member.window.last, self.member.me) if self.member.may_lead else NOBODY

    # --- datagrams in

    def receive(self, n: Notification, now: int) -> bool:
        """Whether it is news: from one that knows this process, and no copy or straggler."""
        member = self.member
        if n.sid == member.me:
            return False
        if n.echo != member.incarnation:
            self._answer(n)
            return False
        if n.role == Role.LOOKING and n.round > ROUND_MAX:
            # Adopted, it would leave no room to count on: the next round could not be encoded,
            # and one datagram would have ended this process (ZOOKEEPER-3769).
            return False
        peer = self._peers.get(n.sid)
        known = peer is not None and peer.incarnation == n.incarnation
        if peer is not None and known and n.sequence <= peer.sequence:
            return False
        self._remember(n)
        self._meet(n, now)
        asks = n.role == Role.LOOKING and not self.looking
        if self.looking:
            asks = self._note(n, now)
        if asks or not known:
            self._answer(n)
        return True

    def _remember(self, n: Notification) -> None:
        """The newest is the last.  Of those that are not named the oldest goes, with its word."""
        peers = self._peers
        peers.pop(n.sid, None)
        peers[n.sid] = _Peer(n.incarnation, n.sequence)
        if len(peers) > GUESTS_MAX:
            named = self._named()
            guests = [sid for sid in peers if sid not in named]
            if len(guests) > GUESTS_MAX:
                for known in self._by_sender():
                    known.pop(guests[0], None)

    def _named(self) -> dict[int, None]:
        member = self.member
        return dict.fromkeys(member.voters.everyone() + member.options.voters.everyone())

    def _by_sender(self) -> list[dict[int, Any]]:
        return [self._peers, self._words, self._ballots, self._claims, self._strangers]

    def _meet(self, n: Notification, now: int) -> None:
        """The first who is not blank: whatever was agreed among blank members is void."""
        member = self.member
        could_found = member.may_found
        member.meet(n.standing)
        word = Word(n.standing, n.cluster_id, n.role == Role.LOOKING)
        self._words[n.sid] = word, now
        if self._is_stranger(word):
            self._tell_of_stranger(n)
        if self.looking and could_found and not member.may_found:
            self._restart(now)

    def _note(self, n: Notification, now: int) -> bool:
        """Whether the sender needs to be told something."""
        if n.role == Role.LOOKING:
            self._claims.pop(n.sid, None)
            return self._may_agree(n) and self._note_ballot(n, now)
        self._ballots.pop(n.sid, None)
        self._note_claim(n, now)
        return False

    def _note_ballot(self, n: Notification, now: int) -> bool:
        if n.round < self.round:
            return True
        vote = (n.zxid, n.leader)
        later = n.round > self.round
        if later:
            self.round = n.round
            self._ballots.clear()
        self._ballots[n.sid] = _Ballot(vote, now)
        self._adopt(max(vote, self._own_vote() if later else self.vote), now, later)
        return False

    def _adopt(self, vote: Vote, now: int, always: bool) -> None:
        changed = vote != self.vote
        if changed:
            self.vote = vote
            self._finalize_at = None
        if changed or always:
            self._interval = self.member.options.resend_ms
            self._broadcast(now)

    def _may_agree(self, n: Notification) -> bool:
        """Whether both of us may take part in one and the same election.

        Members of one ensemble do, whoever they think the voters are: the set known here may be
        an old one, and one may be needed by a set that one has not heard of yet.  Who
        counts is for each to say when it counts.
        """
        if self._is_kin(n):
            return True
        voters = self.member.voters
        blank = self.member.may_found and n.standing in FOUNDERS
        known = n.leader == NO_VOTE or voters.is_voter(n.leader)
        return blank and known and voters.is_voter(n.sid)

    def _is_kin(self, n: Notification) -> bool:
        return (
            self.member.standing in RECORDED
            and n.standing in RECORDED
            and n.cluster_id == self.member.cluster_id
        )

    def _note_claim(self, n: Notification, now: int) -> None:
        if not self._may_join(n):
            self._claims.pop(n.sid, None)
            return
        old = self._claims.get(n.sid)
        same = old is not None and (old.role, old.leader) == (n.role, n.leader)
        since = old.since if old is not None and same else now
        self._claims[n.sid] = _Claim(n.role, n.leader, n.epoch, n.round, since, now)

    def _may_join(self, n: Notification) -> bool:
        """Members stay with their ensemble; blank ones take any that is not just founding itself
        against a veto."""
        member = self.member
        if member.standing in SETTLED and any(member.cluster_id):
            return n.cluster_id == member.cluster_id
        founded = n.standing == Standing.MEMBER or n.cluster_id == member.cluster_id
        return founded or member.may_found

    # --- members of other ensembles

    def _is_stranger(self, word: Word) -> bool:
        """Neither will ever join the other, and one of them may wait for that in vain."""
        own = self.member.cluster_id
        both = self.member.standing in SETTLED and word.standing in SETTLED
        return both and NO_CLUSTER not in (own, word.cluster_id) and own != word.cluster_id

    def _tell_of_stranger(self, n: Notification) -> None:
        """Once: it sends again and again, and may share its number with one of ours."""
        if self._strangers.get(n.sid) != n.cluster_id:
            self._strangers[n.sid] = n.cluster_id
            self._news.append(
                f"{self._describe_stranger(n.sid, n.cluster_id)}: neither joins the other. "
                "Has one of them a data directory that is not its own?"
            )

    def _describe_stranger(self, sid: int, cluster_id: bytes) -> str:
        return (
            f"server {sid} belongs to another ensemble "
            f"(cluster id {cluster_id.hex()}; here it is {self.member.cluster_id.hex()})"
        )

    @property
    def strangers(self) -> str | None:
        """Which members of other ensembles are there while this one looks for a leader."""
        if not self.looking:
            return None
        words = [(sid, self._words[sid][0]) for sid in sorted(self._words)]
        texts = [
            self._describe_stranger(sid, word.cluster_id)
            for sid, word in words
            if self._is_stranger(word)
        ]
        return "; ".join(texts) or None

    def take_alarm(self) -> str | None:
        """What an operator must know now."""
        alarms, self._news = self._news, []
        if self.alarm:
            alarms.append(self.alarm)
            self.alarm = None
        return "; ".join(alarms) or None

    # --- time

    def deadline(self) -> int | None:
        if not self.looking:
            return None
        times = [self._resend_at]
        if self._finalize_at is not None:
            times.append(self._finalize_at)
        for claim in self._claims.values():
            times.append(claim.since + self.member.options.resend_ms)
        # A claim's time may have passed without a decision: then only a re-send brings news.
        return min([time for time in times if time > self._last_look] or [self._resend_at])

    def handle_timer(self, now: int) -> None:
        if self.looking and now >= self._resend_at:
            cap = self.member.options.resend_cap_ms
            self._interval = min(2 * self._interval, cap)
            self._forget(now)
            self._broadcast(now)
            self._judge(now)

    def _forget(self, now: int) -> None:
        oldest = now - FRESH_RESENDS * self.member.options.resend_cap_ms
        self._words = {s: word for s, word in self._words.items() if word[1] >= oldest}
        self._ballots = {s: b for s, b in self._ballots.items() if b.at >= oldest}
        self._claims = {s: c for s, c in self._claims.items() if c.at >= oldest}

    def _judge(self, now: int) -> None:
        """Say it once, and again now and then, if nobody can be elected.

        A blank member leaves it to others: it knows a configuration, which may name more voters
        than the ensemble has so far.
        """
        member = self.member
        self.why_stuck = None
        if member.standing is not Standing.BLANK:
            me = Word(member.standing, member.cluster_id, True)
            words = {sid: word for sid, (word, _) in self._words.items()}
            self.why_stuck = why_stuck(member.voters, {**words, member.me: me})
        if self.why_stuck and (self.why_stuck != self._said or now >= self._say_again_at):
            self.alarm = self._said = self.why_stuck
            self._say_again_at = now + REMIND_MS

    # --- decisions

    def decide(self, now: int) -> int | None:
        """The leader to lead as or to follow, once there is one."""
        if not self.looking:
            return None
        self._last_look = now
        claimed = self._claimed_leader(now)
        return claimed if claimed is not None else self._elected(now)

    def _claimed_leader(self, now: int) -> int | None:
        """A leader that says so, the one of the latest epoch first."""
        claims = [
            (claim.epoch, sid)
            for sid, claim in self._claims.items()
            if claim.role == Role.LEADING and claim.leader == sid
        ]
        for _, sid in sorted(claims, reverse=True):
            waited = now - self._claims[sid].since >= self.member.options.resend_ms
            if waited or self.member.voters.won(self._followers_of(sid)):
                return sid
        return None

    def _followers_of(self, leader: int) -> dict[int, None]:
        return dict.fromkeys(sid for sid, c in self._claims.items() if c.leader == leader)

    def _elected(self, now: int) -> int | None:
        """By counting, which is for voters; others wait for a leader's word."""
        member = self.member
        candidate = self.vote[1]
        if candidate == NO_VOTE or not member.stands:
            return None
        ballots = [sid for sid, ballot in self._ballots.items() if ballot.vote == self.vote]
        agreeing = dict.fromkeys([member.me, *ballots, *self._already_following()])
        if not member.voters.won(agreeing):
            self._finalize_at = None
            return None
        if member.voters.unanimous(agreeing):
            return candidate
        if self._finalize_at is None:
            self._finalize_at = now + member.options.finalize_ms
        return candidate if now >= self._finalize_at else None

    def _already_following(self) -> list[int]:
        """Voters that elected this member in this very round and settled before it did.

        Losing schedule without them: 1 and 2 elect 3 and follow it; 3, still waiting for a
        better vote, hears that they are settled, which takes their ballots away, and looks
        until they give up.  Of this round only, and of no epoch that is in the own log:
        followers that have not noticed yet that their leader resigned, or was started
        again (its rounds too), would else put it back at once.
        """
        me, past = self.member.me, zxids.epoch_of(self.member.window.last)
        if self.vote[1] != me:
            return []
        return [
            sid
            for sid, claim in self._claims.items()
            if claim.role == Role.FOLLOWING and claim.leader == me and claim.round == self.round
            if not 0 < claim.epoch <= past
        ]

    # --- datagrams out

    def _broadcast(self, now: int) -> None:
        jitter = self.member.rng.randrange(self._interval // 4 + 1)
        self._resend_at = now + self._interval + jitter
        self._send(sid for sid in self.hearers() if sid != self.member.me)

    def hearers(self) -> list[int]:
        """Voters, all of the configuration, and whoever is said to lead.

        The voter set known here may be an old one: its members still know the leader, and
        the leader itself must be asked whether it leads.
        """
        named = [claim.leader for claim in self._claims.values() if claim.leader != NO_VOTE]
        configured = self.member.options.voters.everyone()
        return sorted({*self.member.voters.voters(), *configured, *named})

    def _send(self, sids: Iterable[int]) -> None:
        for sid in sids:
            peer = self._peers.get(sid)
            self.out.append((sid, self._notification(peer.incarnation if peer else 0)))

    def _answer(self, n: Notification) -> None:
        self.out.append((n.sid, self._notification(n.incarnation)))

    def _notification(self, echo: int) -> Notification:
        member = self.member
        self._sequence += 1
        zxid, leader = self.vote
        return Notification(
            self._role,
            member.standing,
            member.cluster_id,
            member.me,
            member.incarnation,
            self._sequence,
            echo,
            self.round,
            leader,
            zxid,
            self._epoch,
        )
