"""One named fault each: rows of docs/reliability.md, swept over every boundary that they have."""

import pytest

from tests.sim.stages import begin, followers_of, leader_of, play, run, settle
from wire.peer import (
    Commit,
    Diff,
    LeaderInfo,
    Propose,
    SnapBegin,
    SnapChunk,
    SnapEnd,
    Trunc,
    UpToDate,
)
from zkpy.testing.ensemble import Member
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND
from zkpy.zab.learner import Phase

SENT_TO_LEARNERS = (
    LeaderInfo,
    Diff,
    Trunc,
    SnapBegin,
    SnapChunk,
    SnapEnd,
    Propose,
    Commit,
    UpToDate,
)


# --- synchronisation


@pytest.mark.parametrize("calls", range(1, 14))
def test_t_sync_1_and_2_crash_at_every_boundary_of_a_synchronisation(calls: int) -> None:
    """3911, 4643, 4646, 4785: the learner dies before its n-th call to the file system after
    it joined; then it is half of the quorum that remembers."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    away, other = followers_of(stage)
    play(stage, f"power {away}", "ask a set /x two", "ask a set /x three", "run 300ms")
    play(stage, f"boot {away}")
    member = stage.ensemble.members[away]
    stage.ensemble.restart_mean = 1 << 50
    member.fs.cut_power_at(member.fs.calls + calls)
    run(stage, 300 * MS)
    member.crash(power=True)
    # The leader goes for good: what it had acknowledged must be found between the other two.
    play(stage, "kill leader", f"boot {away}", "until leader")
    printed = play(stage, f"client b {other}", "ask b get /x")
    assert "three" in printed[-1]
    settle(stage)


def cut_behind_each_message(stage: Stage, learner: int) -> None:
    """Cut the learner's link when it has heard a message of a kind for the first time."""
    seen: dict[type, None] = {}
    watcher = stage.invariants
    honest = watcher.heard

    def heard(member: Member, sid: int, message: object) -> None:
        honest(member, sid, message)
        kind = type(message)
        if member.sid == learner and kind in SENT_TO_LEARNERS and kind not in seen:
            seen[kind] = None
            for socket in stage.ensemble.network.sockets_of(learner):
                if socket.remote > 0:
                    stage.ensemble.network.cut(socket)

    watcher.heard = heard  # type: ignore[method-assign]


@pytest.mark.parametrize("window_bytes", [1 << 20, 1000], ids=["diff", "snap"])
def test_t_sync_6_the_link_ends_behind_every_message(window_bytes: int) -> None:
    """5094, 3642, 2355: a synchronisation that is cut short leaves nothing half-done behind."""
    stage = begin("client a leader", "ask a create /x one", voters=3, window_bytes=window_bytes)
    (learner, _) = followers_of(stage)
    play(stage, f"power {learner}", *(f"ask a set /x {i}" for i in range(12)), "run 2s")
    cut_behind_each_message(stage, learner)
    play(stage, f"boot {learner}", "run 5s")
    assert stage.ensemble.members[learner].replica.zab.serving
    settle(stage)


def test_t_sync_6_after_every_message_of_a_truncation() -> None:
    stage = begin("client a leader", "ask a create /x one", voters=3)
    old = leader_of(stage).sid
    play(stage, "isolate leader", "send a set /x lost", "run 100ms", "until leader", "run 2s")
    cut_behind_each_message(stage, old)
    play(stage, "heal", "run 5s")
    settle(stage)


def test_t_sync_5_synced_then_leader_then_syncing_another() -> None:
    """4925: what came by synchronisation must be in what is sent on by synchronisation."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    first = leader_of(stage).sid
    stale, other = followers_of(stage)
    play(stage, f"kill {stale}", "ask a set /x two", "ask a set /x three", f"boot {stale}")
    play(stage, "until equal", f"kill {other}", "ask a set /x four", "run 300ms")
    play(stage, f"kill {first}", f"boot {other}", "until leader", "until equal")
    printed = play(stage, f"client b {other}", "ask b get /x")
    assert "four" in printed[-1]
    settle(stage)


@pytest.mark.parametrize("window_bytes", [1 << 20, 2000], ids=["diff", "snap"])
def test_t_sync_3_and_7_writes_go_on_while_a_slow_learner_is_synchronised(
    window_bytes: int,
) -> None:
    """4685, 4394, 3104: proposals and commits between the sync point and UPTODATE."""
    stage = begin("client a leader", "ask a create /x one", voters=3, window_bytes=window_bytes)
    (learner, _) = followers_of(stage)
    play(stage, f"kill {learner}", *(f"ask a set /x {i}" for i in range(20)), f"boot {learner}")
    stage.ensemble.members[learner].slow_disk = 60
    for i in range(60):
        play(stage, f"send a set /x {i}", "run 5ms")
    play(stage, "until equal")
    assert leader_of(stage).replica.zab.epoch == 1, "nobody gave up"
    settle(stage)


# --- roles


def test_t_role_1_a_role_ends_with_writes_on_their_way_to_the_disk() -> None:
    """4712, 4541: one writer at a time, and nothing of the old role lands later."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    leader = leader_of(stage)
    leader.slow_disk = 200
    for i in range(10):
        play(stage, f"send a set /x {i}", "run 1ms")
    for socket in stage.ensemble.network.sockets_of(leader.sid):
        if socket.remote > 0:
            stage.ensemble.network.cut(socket)
    run(stage, 3 * SECOND)
    settle(stage)


@pytest.mark.parametrize("whose", ["leader", "follower"])
@pytest.mark.parametrize("operation", ["write", "sync_data"])
def test_t_disk_1_a_failing_disk_ends_the_process(whose: str, operation: str) -> None:
    """4882, 2247: no zombie goes on with what its disk never took."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    victim = leader_of(stage).sid if whose == "leader" else followers_of(stage)[0]
    member = stage.ensemble.members[victim]
    member.fail_disk(operation)
    stage.ensemble.restart_mean = 1 << 50
    play(stage, "send a set /x two", "run 500ms")
    assert not member.alive
    play(stage, "until leader", "until serving")
    settle(stage)


@pytest.mark.parametrize("batch", range(1, 6))
@pytest.mark.parametrize("victim", [1, 3])
def test_t_meta_1_crash_at_every_batch_of_a_founding(batch: int, victim: int) -> None:
    """1653, 2307, 2354, 4269: whatever was half written, it starts again."""
    stage = Stage()
    play(stage, "start voters=3", f"crash-in-batch {victim} {batch}", "run 3s", f"boot {victim}")
    settle(stage)


# --- leaders and quorums


def test_t_el_5_a_member_that_promised_a_later_epoch_comes_back() -> None:
    """It must not go back on its promise, nor stay out for ever."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    (lone, _) = followers_of(stage)
    member = stage.ensemble.members[lone].replica.zab.member
    play(stage, f"isolate {lone}", "run 3s")
    member.write_identity(accepted_epoch=7)
    play(stage, "heal", "run 20s", "until serving", "until equal")
    assert leader_of(stage).replica.zab.epoch > 7
    settle(stage)


def test_t_slow_1_one_peer_that_stands_still_holds_nobody_up() -> None:
    """2201, 3531, 87."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    lame, _ = followers_of(stage)
    leader = leader_of(stage).sid
    stage.ensemble.network.block([(leader, lame)])
    started = stage.world.now
    for i in range(50):
        play(stage, f"ask a set /x {i}")
    assert stage.world.now - started < SECOND
    run(stage, 5 * SECOND)
    assert leader_of(stage).replica.zab.epoch == 1
    stage.ensemble.network.unblock([(leader, lame)])
    settle(stage)


def test_t_net_2_a_deaf_leader_gives_up_and_a_mute_one_is_left() -> None:
    for deaf in (True, False):
        stage = begin("client a leader", "ask a create /x one", voters=3)
        leader = leader_of(stage).sid
        others = followers_of(stage)
        pairs = [(sid, leader) if deaf else (leader, sid) for sid in others]
        stage.ensemble.network.block(pairs)
        run(stage, 5 * SECOND)
        assert not stage.ensemble.members[leader].replica.zab.serving
        stage.ensemble.network.unblock(pairs)
        settle(stage)


def test_t_clk_1_wall_clocks_do_not_matter() -> None:
    """2774: a jump of a day ends no session and holds none alive."""
    for jump in (86_400_000, -86_400_000):
        stage = begin("client a leader", "ask a ephemeral /e", voters=3)
        leader_of(stage).clock.wall_jump_ms += jump
        printed = play(stage, "run 3s", "ask a get /e")
        assert "version 0" in printed[-1]
        stage.clients["a"].stop()
        run(stage, 5 * SECOND)
        assert not len(leader_of(stage).replica.state.sessions)


def test_a_pause_of_the_leader_expires_nobody() -> None:
    """C11: what was sent to it meanwhile is still unread."""
    stage = begin("client a leader", "client b 1", "ask a ephemeral /e", voters=1)
    play(stage, "pause 1")
    run(stage, 10 * SECOND)
    play(stage, "resume 1", "run 100ms", "client c 1")
    printed = play(stage, "ask c exists /e")
    assert "NO_NODE" not in printed[-1]


def test_a_learner_that_waits_for_its_image_counts_for_nothing() -> None:
    """D10, A13: half of a SNAP is no promise."""
    stage = begin("client a leader", "ask a create /x one", voters=3, window_bytes=1000)
    (learner, other) = followers_of(stage)
    play(stage, f"kill {learner}", *(f"ask a set /x {i}" for i in range(12)), "run 2s")
    stage.ensemble.members[learner].slow_disk = 3000
    play(stage, f"boot {learner}", "run 400ms")
    phase = stage.ensemble.members[learner].replica.zab._learning
    assert phase is not None
    assert phase.phase in (Phase.IMAGING, Phase.TAIL, Phase.PROMISING)
    play(stage, f"kill {other}", "send a set /x alone", "run 200ms")
    assert leader_of(stage).replica.zab.member.window.committed < (
        leader_of(stage).replica.zab.member.window.last
    )
    stage.ensemble.members[learner].slow_disk = 1
    settle(stage)
