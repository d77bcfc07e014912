"""What a member holds whatever its role: log, identity, voter sets, links, work for the disk.

Roles come and go as whole objects (`leader.Leading`, `learner.Learning`); all that
must outlive them is here.  Nothing that depends on a write is queued for later: a role
asks what is durable (`window.saved`, `durable`) and derives its messages from that,
so no order of events can let one out too early.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wire.errors import RemoteProtocolError
from wire.peer import NO_CLUSTER, Standing
from zkpy import zxid as zxids
from zkpy.effects import (
    Append,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    EntryKind,
    GenerationChunk,
    Identity,
    Truncate,
    WriteIdentity,
)
from zkpy.zab.counts import Timings
from zkpy.zab.quorum import VoterHistory, VoterSet
from zkpy.zab.standing import FOUNDERS, RECORDED, SETTLED
from zkpy.zab.window import Window

CONFIG: Final = int(EntryKind.CONFIG)


@dataclass(frozen=True, slots=True)
class ZabOptions:
    """Timings in milliseconds, bounds in bytes."""

    voters: VoterSet
    """What the configuration proposes; used for founding only, later the log rules."""
    tick_ms: int = 2000
    init_ticks: int = 10
    """For discovery and synchronisation."""
    sync_ticks: int = 5
    """Silence after which a link is given up, and the leadership without a quorum."""
    connect_ticks: int = 2
    """For the link to an elected leader to come up."""
    resend_ms: int = 150
    resend_cap_ms: int = 1000
    """Election datagrams are sent again after the first, then twice as long, up to the cap."""
    finalize_ms: int = 200
    """A quorum agrees: wait so long for a better vote."""
    founding_wait_ms: int = 3000
    """Blank members wait so long for voters not yet heard, before they found an ensemble."""
    yield_ms: int = 60_000
    """A leader steps down for a member that has promised a later epoch, at most this often."""
    autocreate: bool = True
    """Whether blank members may found an ensemble (`db.autocreate`)."""
    named_only: bool = False
    """A learner that the configuration in force does not name learns, but serves nobody."""
    elects: bool = True
    """False: no election of its own; `Zab.decide` is called by an oracle (simulation)."""
    window_bytes_max: int = 16 * 1024 * 1024
    frame_bytes_max: int = 1024 * 1024
    """Entries in one Propose frame."""
    inflight_bytes_max: int = 8 * 1024 * 1024
    """Entries sent to a learner and not yet acknowledged."""
    image_chunks_inflight: int = 4
    epoch_entries_max: int = zxids.COUNTER_MAX
    """zxids of one epoch; smaller in simulations, to reach its end."""

    @property
    def init_ms(self) -> int:
        return self.tick_ms * self.init_ticks

    @property
    def sync_ms(self) -> int:
        return self.tick_ms * self.sync_ticks

    @property
    def beat_ms(self) -> int:
        """Half a tick: pings, and counting who still answers."""
        return max(1, self.tick_ms // 2)


# --- a SNAP coming in: what the replica is told


@dataclass(slots=True)
class SnapStarted:
    zxid: int


@dataclass(slots=True)
class SnapData:
    data: bytes


@dataclass(slots=True)
class SnapFinished:
    digest: int
    """What the digest of the decoded state must be."""


@dataclass(slots=True)
class SnapAdopted:
    zxid: int
    """The new state is in force, at this zxid."""


@dataclass(slots=True)
class SnapAborted:
    pass


SnapEvent = SnapStarted | SnapData | SnapFinished | SnapAdopted | SnapAborted


class Staging:
    """A SNAP on its way in: a log and a generation beside those in force.

    Losing schedule without it: Q = {L, B, C} acked w; B drops its log for L's image
    and C dies before B has the tail again: w is on L alone (rule D8).
    """

    __slots__ = (
        "adopting",
        "chunks",
        "chunks_saved",
        "digests",
        "generation",
        "history",
        "loaded",
        "target",
        "window",
    )

    def __init__(self, window: Window, voters: VoterSet, generation: int, target: int) -> None:
        self.window = window
        self.history = VoterHistory([voters])
        self.generation = generation
        self.target = target
        self.digests: dict[int, int] = {}
        self.chunks = self.chunks_saved = 0
        self.loaded = False
        self.adopting = False


@dataclass(slots=True)
class _Batch:
    """What becomes true when the batch under way is durable."""

    number: int
    window: Window
    last: int
    identity: Identity | None
    staging: Staging | None
    staging_last: int
    chunks: int


def no_payload() -> bytes:
    return b""


class Member:
    """The lasting part of a Zab."""

    def __init__(
        self,
        me: int,
        identity: Identity | None,
        window: Window,
        options: ZabOptions,
        rng: random.Random,
        suspect: bool,
    ) -> None:
        assert identity is None or identity.server_id == me
        self.me = me
        self.options = options
        self.rng = rng
        self.incarnation = rng.getrandbits(63) | 1
        self.window = window
        self.identity = identity
        """As it shall be; `durable` as the disk has it."""
        self.durable = identity
        recorded = identity.accepted_epoch if identity else 0
        self.accepted_epoch = max(recorded, zxids.epoch_of(window.last))
        """The highest epoch promised; of a member without a record, in memory only."""
        self.highest_epoch = self.accepted_epoch
        """The highest epoch that anybody is known to have promised."""
        recovered = recovered_voters(identity, window.base, window.entries)
        self.history = VoterHistory(recovered or [options.voters])
        self._recorded = _versions_in(identity)
        """zxids of the two voter sets in the identity record."""
        self.suspect = suspect
        self.wants_image = suspect
        """The state here is wrong, or the log cannot be matched: ask for a SNAP."""
        self.vetoed = identity is not None and identity.cluster_id == NO_CLUSTER
        """Met somebody who is not blank: never found an ensemble in this process.

        A record without an ensemble is that of a member which was about to join one."""
        self.yield_at = 0
        self.links: dict[int, None] = {}
        self.out: list[tuple[int, object]] = []
        self.out_upper: list[tuple[int, object]] = []
        """Behind the frames of the same pass: an answer never overtakes the commit it speaks of."""
        self.closes: list[int] = []
        self.upper: list[tuple[int, bytes]] = []
        self.pings: list[tuple[int, bytes]] = []
        self.snaps: list[SnapEvent] = []
        self.digests: dict[int, int] = {}
        self.halt: str | None = None
        self.ping_payload: Callable[[], bytes] = no_payload
        self.staging: Staging | None = None
        self._steps: list[DiskStep] = []
        self._batch: _Batch | None = None
        self._watched = 0, 0
        """(number of the batch under way, since when it is seen to be)."""
        self.back_at = 0
        """Until then, in ms, this member stands for nothing, having resigned; 0: it does."""
        self.disk_hangs = False
        """That was too long ago: nothing here can be promised or acknowledged for now."""
        self._number = 0
        self.timings = Timings()

    # --- who we are

    @property
    def voters(self) -> VoterSet:
        return self.history.in_force

    @property
    def standing(self) -> Standing:
        if self.suspect:
            return Standing.SUSPECT
        if self.identity is None or self.identity.cluster_id == NO_CLUSTER:
            return Standing.BLANK
        return Standing.FOUNDING if self.identity.founding else Standing.MEMBER

    @property
    def cluster_id(self) -> bytes:
        return self.identity.cluster_id if self.identity else NO_CLUSTER

    @property
    def may_found(self) -> bool:
        """Of a founding: blank, and nobody met who is not.

        A voter set in the log says that a founding went past the point where its members
        may have been served: that one can only be resumed.
        """
        blank = self.standing in FOUNDERS
        unset = self.voters.version == 0
        return blank and unset and self.options.autocreate and not self.vetoed

    @property
    def stands(self) -> bool:
        """Whether this member takes part in elections as a voter.

        One that an uncommitted set leaves out still does.  Losing schedule otherwise: {1..5} become
        {4}; 4 lacks the last entries, so it resigns before the longer logs of the
        others, and they, no voters any more, never lead to bring it up to date.
        """
        sets = self.history.sets
        committed = self.voters.version <= self.window.committed
        named = any(voters.is_voter(self.me) for voters in (sets[-1:] if committed else sets))
        return named and (self.standing in RECORDED or self.may_found)

    @property
    def may_lead(self) -> bool:
        """Whether a vote for this member makes sense."""
        able = not self.wants_image and not self.disk_hangs and not self.back_at
        return self.stands and able

    @property
    def is_recorded(self) -> bool:
        """Whether the identity is durable as it shall be."""
        return self.identity is self.durable

    def meet(self, standing: int) -> None:
        """One who is not blank vetoes a founding, for as long as this process lives."""
        if standing in SETTLED:
            self.vetoed = True

    # --- links

    def send(self, sid: int, message: object) -> None:
        if sid in self.links:
            self.out.append((sid, message))

    def close(self, sid: int) -> None:
        if sid in self.links:
            del self.links[sid]
            self.closes.append(sid)
            self.forget_messages(sid)

    def forget_messages(self, sid: int) -> None:
        self.out = [item for item in self.out if item[0] != sid]
        self.out_upper = [item for item in self.out_upper if item[0] != sid]

    # --- identity

    def write_identity(
        self,
        *,
        cluster_id: bytes | None = None,
        founding: bool | None = None,
        accepted_epoch: int | None = None,
        generation: int | None = None,
    ) -> None:
        """Replace what is given; takes the voter sets from the log."""
        old = self.identity or self._blank_identity()
        epoch = old.accepted_epoch if accepted_epoch is None else accepted_epoch
        assert epoch >= old.accepted_epoch, "a promise is never taken back"
        self.accepted_epoch = max(self.accepted_epoch, epoch)
        self._put_identity(
            Identity(
                old.cluster_id if cluster_id is None else cluster_id,
                self.me,
                old.founding if founding is None else founding,
                epoch,
                self.history.at(self.window.committed).encode(),
                self.voters.encode(),
                old.generation if generation is None else generation,
            )
        )

    def _blank_identity(self) -> Identity:
        """A record that says no more than none: it still counts as blank."""
        voters = self.options.voters.encode()
        return Identity(NO_CLUSTER, self.me, True, 0, voters, voters)

    def _put_identity(self, identity: Identity) -> None:
        self.identity = identity
        self._recorded = _versions_in(identity)
        self._flush()
        self._steps.append(WriteIdentity(identity))

    def become_joiner(self, cluster_id: bytes) -> None:
        """Keep a record that counts as blank until this member is synchronised.

        With the leader's cluster id in it, a member that lost its directory, and crashed with
        half of its log copied back, would count with that half.  A suspect member without
        a record has nothing to write to before the SNAP is complete.
        """
        if self.cluster_id == cluster_id or self.suspect:
            return
        self.vetoed = True
        if self.identity is None or self.cluster_id != NO_CLUSTER:
            self.write_identity(cluster_id=NO_CLUSTER, founding=True)

    def _record_voters(self) -> None:
        """The sets committed and last proposed, if there is a record to keep them in."""
        if self.identity is not None and not self.staging and self._versions() != self._recorded:
            self.write_identity()

    def _versions(self) -> tuple[int, int]:
        return self.history.at(self.window.committed).version, self.voters.version

    # --- the log

    def append_own(self, kind: int, data: bytes) -> int:
        """A leader's next entry of its epoch."""
        zxid = self.window.append_next(kind, data)
        if kind == CONFIG:
            self._add_voters(self.history, zxid, data)
        return zxid

    def append_received(self, entries: Sequence[tuple[int, int, bytes]]) -> None:
        """Entries of a leader; RemoteProtocolError if they do not follow (A10)."""
        window, history = self._active()
        for zxid, kind, data in entries:
            if not zxids.follows(window.last, zxid):
                raise RemoteProtocolError(
                    f"{zxids.show(zxid)} cannot follow {zxids.show(window.last)}"
                )
            window.append(zxid, kind, data)
            if kind == CONFIG:
                self._add_voters(history, zxid, data)

    def _active(self) -> tuple[Window, VoterHistory]:
        """The log that grows: a SNAP's while one comes in."""
        if self.staging:
            return self.staging.window, self.staging.history
        return self.window, self.history

    def _add_voters(self, history: VoterHistory, zxid: int, data: bytes) -> None:
        try:
            history.add(VoterSet.decode(data).at(zxid))
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from error
        self._record_voters()

    def truncate(self, zxid: int) -> None:
        self._flush()
        self.window.truncate(zxid)
        self.history.truncate(zxid)
        if self._batch:
            self._batch.last = min(self._batch.last, zxid)
        self._steps.append(Truncate(zxid))
        self._record_voters()

    def commit(self, zxid: int) -> None:
        """Entries up to `zxid` are committed; a voter set among them is recorded as such."""
        window, _ = self._active()
        if zxid > window.committed:
            window.committed = zxid
            self._record_voters()

    # --- a SNAP coming in

    def begin_staging(self, window: Window, voters: VoterSet, target: int) -> Staging:
        self.abandon_staging()
        self._flush()
        generation = (self.identity.generation if self.identity else 1) + 1
        self.staging = Staging(window, voters, generation, target)
        self._steps.append(BeginGeneration(generation, window.base, window.base_chain))
        self.snaps.append(SnapStarted(window.base))
        return self.staging

    def stage_chunk(self, data: bytes) -> None:
        assert self.staging
        self.staging.chunks += 1
        self._steps.append(GenerationChunk(data))
        self.snaps.append(SnapData(data))

    def stage_end(self, digest: int) -> None:
        self._steps.append(EndGeneration(digest))
        self.snaps.append(SnapFinished(digest))

    def abandon_staging(self) -> None:
        """The old log and state stay in force, as if nothing had come.

        Except if the record that adopts the new ones is on its way to the disk: it cannot
        be called back, and all behind it is whole and durable, so it is awaited.
        """
        if self.staging is None or self.staging.adopting:
            return
        self.staging = None
        if self.identity is not None:
            self._steps.append(WriteIdentity(self.identity))
        self.snaps.append(SnapAborted())

    def adopt(self) -> None:
        """Name the new generation in the identity record: from then on it is in force."""
        staging = self.staging
        assert staging and not staging.adopting
        staging.adopting = True
        self._flush()
        old = self.identity or self._blank_identity()
        committed = staging.history.at(staging.window.committed).encode()
        proposed = staging.history.in_force.encode()
        self._put_identity(
            replace(old, voters=committed, proposed_voters=proposed, generation=staging.generation)
        )

    def _finish_adoption(self, staging: Staging) -> None:
        self.window, self.history, self.digests = staging.window, staging.history, staging.digests
        self.staging = None
        self.suspect = self.wants_image = False
        self.snaps.append(SnapAdopted(self.window.base))
        self._record_voters()

    # --- the disk

    def _flush(self, digest_zxid: int = 0, digest: int = 0) -> None:
        """Entries appended so far become a step, before whatever step comes next.

        The commit watermark is the one of now: with that of a later moment, entries that a
        Truncate behind them takes away again would look committed after a crash between.
        """
        window, _ = self._active()
        if not window.has_unflushed:
            return
        entries = window.take_unflushed()
        last = self._steps[-1] if self._steps else None
        if isinstance(last, Append):
            last.entries += entries
            last.committed, last.digest_zxid, last.digest = window.committed, digest_zxid, digest
        else:
            self._steps.append(Append(entries, window.committed, digest_zxid, digest))

    def take_batch(self, digest_zxid: int, digest: int) -> DiskBatch | None:
        """Everything to be made durable, unless a batch is under way: group commit."""
        if self._batch is not None:
            return None
        if self.staging is None:
            self._flush(digest_zxid, digest)
        else:
            self._flush()
        if not self._steps:
            return None
        self._number += 1
        batch = DiskBatch(self._number, self._steps)
        self._steps = []
        staging = self.staging
        self._batch = _Batch(
            self._number,
            self.window,
            self.window.last,
            self.identity,
            staging,
            staging.window.last if staging else 0,
            staging.chunks if staging else 0,
        )
        return batch

    def watch_disk(self, now: int, stood_still: bool = False) -> None:
        """At every timer: has the disk had one and the same batch for longer than syncLimit?

        After `stood_still` the time counts anew: the word that it is saved may wait to be read.
        """
        number = self._batch.number if self._batch is not None else 0
        watched, since = self._watched
        if number != watched or stood_still or not number:
            self._watched = number, now
        elif now - since > self.options.sync_ms:
            self.disk_hangs = True

    def saved(self, number: int) -> None:
        """The batch under way is durable: only now anything may depend on it."""
        batch = self._batch
        assert batch is not None and batch.number == number, "an unknown batch was saved"
        self._batch = None
        self.disk_hangs = False
        self.durable = batch.identity
        if batch.last > batch.window.saved:
            batch.window.saved = batch.last
        if batch.staging is not None:
            self._staging_saved(batch, batch.staging)

    def _staging_saved(self, batch: _Batch, staging: Staging) -> None:
        staging.window.saved = max(staging.window.saved, batch.staging_last)
        staging.chunks_saved = batch.chunks
        if staging is self.staging and staging.adopting and self._names(staging):
            self._finish_adoption(staging)

    def _names(self, staging: Staging) -> bool:
        return self.durable is not None and self.durable.generation == staging.generation

    @property
    def adopting(self) -> bool:
        return self.staging is not None and self.staging.adopting


def _versions_in(identity: Identity | None) -> tuple[int, int]:
    if identity is None:
        return 0, 0
    committed = VoterSet.decode(identity.voters)
    return committed.version, VoterSet.decode(identity.proposed_voters).version


def recovered_voters(
    identity: Identity | None, base: int, entries: Iterable[Entry]
) -> list[VoterSet]:
    """The recorded sets that are in the log still, and those of its CONFIG entries; the newest
    is in force.  None before there is a record."""
    sets = [_recorded_voters(identity, base)] if identity else []
    for entry in entries:
        if entry.kind == CONFIG and (not sets or entry.zxid > sets[-1].version):
            sets.append(VoterSet.decode(entry.data).at(entry.zxid))
    return sets


def _recorded_voters(identity: Identity, base: int) -> VoterSet:
    """The set in force at `base`.

    A proposed one beyond it counts only if its entry is there: a cut log has lost it,
    though a crash may have kept the record from saying so.
    """
    committed = VoterSet.decode(identity.voters)
    proposed = VoterSet.decode(identity.proposed_voters)
    return proposed if committed.version < proposed.version <= base else committed
