"""How a simulated ensemble is configured: `Setup`, and what its servers are told of it."""

from typing import Final

import attrs

from zkpy.limits import Limits
from zkpy.membership import Configuration, ServerSpec, parse_server
from zkpy.replica.membership import founding_set
from zkpy.testing.world import MS
from zkpy.zab.member import ZabOptions
from zkpy.zab.quorum import Members, Voter, VoterSet
from zkpy.zxid import COUNTER_MAX

SUPERUSER: Final = b"super:test"
"""May do everything: what an auth packet of scheme digest has to say."""
WALL_START_MS: Final = 1_700_000_000_000


@attrs.define(frozen=True)
class Setup:
    """One ensemble as it is configured, and the machines it runs on."""

    voters: tuple[int, ...] = (1, 2, 3)
    observers: tuple[int, ...] = ()
    strangers: tuple[int, ...] = ()
    """Servers that run, but are no members at first; with any, or if `reconfig` says so, the
    membership may change."""
    reconfig: bool = False
    tick_ms: int = 200
    sync_ticks: int = 5
    init_ticks: int = 10
    snap_entries: int = 200
    segment_bytes: int = 1 << 16
    window_bytes: int = 1 << 20
    frame_bytes: int = 1 << 20
    image_slice_nodes: int = 50
    fsync: int = 500
    """Mean time of a batch in microseconds."""
    steady: bool = False
    """Every batch takes exactly the mean: for scripts."""
    fsync_spike_chance: float = 0.0
    fsync_spike: int = 300 * MS
    pass_delay: int = 100
    """Longest time from an input to the pass that answers it."""
    weights: tuple[int, ...] = ()
    """Of the voters, in their order; empty: one each."""
    groups: tuple[int, ...] = ()
    """Of the voters, in their order; empty: there are none."""
    drift_ppm: int = 0
    """Clocks go wrong by up to so much, each its own way."""
    elects: bool = True
    """False: an oracle names leaders."""
    founding_wait_ms: int = 600
    finalize_ms: int = 0
    """Wait for a better vote; 0: a quarter of a tick."""
    epoch_entries: int = COUNTER_MAX
    """zxids of one epoch; few, to reach its end."""
    read_only: bool = False
    """Without a quorum, serve reads to those who ask for no more."""
    leader_serves: bool = True
    """The leader takes clients, too."""
    local_sessions: bool = False
    """Sessions begin as local ones, and become global with their first ephemeral."""

    @property
    def ids(self) -> tuple[int, ...]:
        return self.voters + self.observers + self.strangers

    @property
    def changes(self) -> bool:
        return self.reconfig or bool(self.strangers)

    @property
    def configuration(self) -> Configuration:
        """Who founds the ensemble."""
        roles = dict.fromkeys(self.voters, False) | dict.fromkeys(self.observers, True)
        return Configuration.of(line_of(sid, observer) for sid, observer in roles.items())

    def founding_set(self) -> VoterSet:
        if self.changes:
            return founding_set(self.configuration, WALL_START_MS)
        weights = self.weights or [1] * len(self.voters)
        groups = self.groups or [0] * len(self.voters)
        rows = zip(self.voters, weights, groups, strict=True)
        voters = {sid: Voter(weight, group) for sid, weight, group in rows}
        return VoterSet(Members(voters, self.observers))

    def zab_options(self) -> ZabOptions:
        return ZabOptions(
            self.founding_set(),
            named_only=self.changes,
            tick_ms=self.tick_ms,
            init_ticks=self.init_ticks,
            sync_ticks=self.sync_ticks,
            resend_ms=max(10, self.tick_ms // 4),
            resend_cap_ms=self.tick_ms * 2,
            finalize_ms=self.finalize_ms or max(10, self.tick_ms // 4),
            founding_wait_ms=self.founding_wait_ms,
            yield_ms=self.tick_ms * 30,
            elects=self.elects,
            window_bytes_max=self.window_bytes,
            frame_bytes_max=self.frame_bytes,
            epoch_entries_max=self.epoch_entries,
        )

    def limits(self) -> Limits:
        return Limits(
            tick_ms=self.tick_ms,
            init_ticks=self.init_ticks,
            sync_ticks=self.sync_ticks,
            session_timeout_min_ms=2 * self.tick_ms,
            session_timeout_max_ms=20 * self.tick_ms,
            snap_entries=self.snap_entries,
            image_slice_nodes=self.image_slice_nodes,
            window_bytes_max=self.window_bytes,
        )


def line_of(sid: int, observer: bool = False) -> ServerSpec:
    """The network knows servers by their numbers; so do these addresses."""
    role = "observer" if observer else "participant"
    return parse_server(sid, f"10.0.0.{sid}:2888:3888:{role};10.0.0.{sid}:2181")
