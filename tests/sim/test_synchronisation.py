"""What a member is told when it comes back, and what it keeps: scenarios of docs/reliability.md."""

import errno

import pytest

from tests.sim.stages import begin, followers_of, leader_of, play, run, settle
from wire.peer import Propose, Role, UpToDate
from zkpy.testing.ensemble import Member
from zkpy.testing.network import Socket
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND

FOREVER = 1 << 50


def socket_to(stage: Stage, source: int, target: int) -> Socket:
    (socket,) = [s for s in stage.ensemble.network.sockets_of(source) if s.remote == target]
    return socket


# --- what one member alone remembers


def with_an_entry_on_one_follower_only(slow: int) -> tuple[Stage, int, int, int]:
    """`two` is durable on one follower only, and its leader is dead: (stage, that follower, the
    other one, the old leader)."""
    stage = begin("client a leader", "ask a create /x one", "run 300ms", voters=3)
    old = leader_of(stage).sid
    other, only = followers_of(stage)
    leader_of(stage).slow_disk = 1000
    stage.ensemble.restart_mean = FOREVER
    play(stage, f"block {old}>{other}", "send a set /x two", "run 20ms", f"power {old}", "heal")
    assert stage.ensemble.members[only].replica.zab.log.last & 0xFFFFFFFF == 5
    stage.ensemble.members[old].slow_disk = 1
    stage.ensemble.members[other].slow_disk = slow
    return stage, only, other, old


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
@pytest.mark.parametrize("slow", [1, 40])
@pytest.mark.parametrize("batch", range(1, 4))
def test_t_sync_1_a_member_dies_in_a_batch_of_its_synchronisation(
    batch: int, slow: int, power: bool
) -> None:
    """3911, 4646, 3023, 4785: a leader whose last entry nobody else has synchronises another
    member, which dies within that; then the leader dies too, and the third comes back.

    Whatever a client has seen must be on the disk of the one that was being synchronised."""
    stage, only, other, old = with_an_entry_on_one_follower_only(slow)
    victim = stage.ensemble.members[other]
    victim.crash_in_batches, victim.crash_power = batch, power
    for _ in range(60):
        run(stage, 20 * MS)
        if stage.ensemble.leader() is not None or not victim.alive:
            break
    if stage.ensemble.leader() is not None:
        play(stage, f"client b {only}", "ask b get /x")
    run(stage, SECOND)
    play(stage, f"power {other}", f"power {only}", f"boot {old}", f"boot {other}", "until leader")
    play(stage, f"client c {other}", "ask c get /x", "ask c set /x three")
    settle(stage)


@pytest.mark.parametrize("wait", range(60, 460, 80))
def test_t_sync_1_back_in_the_same_epoch_while_an_older_batch_is_written(wait: int) -> None:
    """3911: the batch that is saved is not the one that holds what the DIFF brought."""
    stage = begin("client a leader", "ask a create /x one", "run 300ms", voters=3)
    leader = leader_of(stage).sid
    away, slow = followers_of(stage)
    stage.ensemble.members[slow].slow_disk = 400
    play(stage, f"kill {away}", "send a set /x two", "run 5ms")
    stage.ensemble.network.cut(socket_to(stage, slow, leader))
    for i in range(wait // 5):
        play(stage, f"send a set /x {i}", "run 5ms")
    play(stage, f"power {slow}", f"power {leader}", f"boot {slow}", f"boot {away}", "until leader")
    play(stage, f"client b {slow}", "ask b get /x")
    stage.ensemble.members[slow].slow_disk = 1
    settle(stage)


@pytest.mark.parametrize("calls", range(1, 12))
def test_t_sync_2_elected_though_it_died_within_its_synchronisation(calls: int) -> None:
    """4643: it has promised the new epoch, and not yet the entries: it must not win by that."""
    stage = begin("client a leader", "ask a create /x one", "run 300ms", voters=3)
    old = leader_of(stage).sid
    stale, fresh = followers_of(stage)
    stage.ensemble.restart_mean = FOREVER
    play(stage, f"power {stale}", "ask a set /x two", "ask a set /x three", "run 300ms")
    play(stage, f"kill {old}", f"boot {stale}")
    member = stage.ensemble.members[stale]
    member.fs.cut_power_at(member.fs.calls + calls)
    run(stage, 500 * MS)
    member.crash(power=True)
    # What was acknowledged is with the old leader alone now; these two are the quorum.
    play(stage, f"kill {fresh}", f"boot {stale}", f"boot {old}", "until leader")
    printed = play(stage, f"client b {stale}", "ask b get /x")
    assert "three" in printed[-1], printed
    settle(stage)


def test_t_sync_1_an_observer_keeps_what_it_was_told_between_sync_and_uptodate() -> None:
    """1367, 1551: it logs as a follower does."""
    stage = begin("client a leader", "ask a create /x one", voters=3, observers=1)
    play(stage, "kill 4", *(f"ask a set /x {i}" for i in range(5)), "boot 4")
    for i in range(20):
        play(stage, f"send a set /x more{i}", "run 1ms")
    play(stage, "until equal", "run 300ms", "power 4")
    before = leader_of(stage).replica.state.zxid
    play(stage, "isolate 4", "boot 4", "run 100ms")
    assert stage.ensemble.members[4].replica.zab.log.last == before
    play(stage, "heal")
    settle(stage)


# --- between the sync point and UPTODATE


def test_t_sync_4_commits_between_the_last_ack_and_uptodate() -> None:
    """4394: a COMMIT of what was proposed meanwhile finds it, and nothing is served before
    UPTODATE."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    (learner, _) = followers_of(stage)
    play(stage, f"kill {learner}", "ask a set /x two", f"boot {learner}")
    seen: list[type] = []
    watcher, honest = stage.invariants, stage.invariants.heard

    def heard(member: Member, sid: int, message: object) -> None:
        honest(member, sid, message)
        if member.sid == learner:
            seen.append(type(message))
            assert not member.replica.zab.serving or UpToDate in seen

    watcher.heard = heard  # type: ignore[method-assign]
    stage.ensemble.members[learner].slow_disk = 100
    for i in range(100):
        play(stage, f"send a set /x {i}", "run 2ms")
    play(stage, "until equal")
    assert Propose in seen[: seen.index(UpToDate)], "nothing was under way"
    settle(stage)


def test_t_sync_8_a_diff_from_a_log_whose_tail_is_not_committed() -> None:
    """2846: an observer is synchronised by a leader that has lost its quorum without knowing it.
    It may log the tail, but must not apply it, and gives it up later."""
    stage = begin("client a leader", "ask a create /x one", voters=3, observers=1)
    leader = leader_of(stage)
    play(stage, "kill 4", "ask a set /x two")
    play(stage, *(f"block {leader.sid}>{s} {s}>{leader.sid}" for s in followers_of(stage)))
    play(stage, "send a set /x lost", "run 50ms", "boot 4", "run 200ms")
    observer = stage.ensemble.members[4].replica
    assert observer.zab.log.last == leader.replica.zab.log.last
    assert observer.state.zxid < observer.zab.log.last
    play(stage, "run 2s", "heal", "until equal")
    printed = play(stage, "client b 4", "ask b get /x")
    assert "two" in printed[-1]
    settle(stage)


def test_t_sync_8_a_diff_while_the_leaders_own_disk_is_behind() -> None:
    """2418: what is committed and not yet on the leader's disk is in the DIFF as well."""
    stage = begin("client a leader", "ask a create /x one", voters=5)
    leader = leader_of(stage)
    (learner, *_) = followers_of(stage)
    play(stage, f"kill {learner}")
    leader.slow_disk = 400
    for i in range(20):
        play(stage, f"send a set /x {i}", "run 2ms")
    window = leader.replica.zab.log
    assert window.saved < window.committed
    play(stage, f"boot {learner}", "run 60ms")
    log = stage.ensemble.members[learner].replica.zab.log
    assert window.saved < log.last == window.last
    assert [e.zxid for e in log.entries[-20:]] == [e.zxid for e in window.entries[-20:]]
    leader.slow_disk = 1
    settle(stage)


# --- an image in many pieces


def with_a_member_far_behind() -> tuple[Stage, int]:
    """Its image comes in some ten chunks; (stage, that member, which is down)."""
    stage = begin(
        "client a leader", "ask a create /x one", voters=3, window_bytes=1000, image_slice_nodes=20
    )
    (learner, _) = followers_of(stage)
    play(stage, f"kill {learner}", *(f"ask a create /n{i}" for i in range(200)), "run 2s")
    stage.ensemble.restart_mean = FOREVER
    return stage, learner


def test_t_sync_7_writes_go_on_while_a_big_image_is_sent() -> None:
    """3104: it is in force only when all of it, and all that came meanwhile, is on the disk."""
    stage, learner = with_a_member_far_behind()
    member = stage.ensemble.members[learner]
    member.slow_disk = 4
    play(stage, f"boot {learner}")
    staged = 0
    for i in range(300):
        play(stage, f"send a set /x {i}", "run 2ms")
        staging = member.replica.zab.member.staging
        if staging is not None and staging.adopting:
            assert staging.window.last >= staging.target
        elif staging is not None:
            staged = max(staged, staging.chunks)
            assert not member.replica.zab.serving
        if member.replica.zab.serving:
            break
    assert staged >= 10
    assert len(member.replica.state.tree.nodes) > 200
    play(stage, f"power {learner}", f"boot {learner}", "until equal")
    settle(stage)


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
@pytest.mark.parametrize("batch", range(1, 8))
def test_t_sync_6_dies_in_each_batch_of_an_image(batch: int, power: bool) -> None:
    """2872, 3642: what was there before is whole, or the new state is; and it is no SNAP that is
    taken for a log."""
    stage, learner = with_a_member_far_behind()
    member = stage.ensemble.members[learner]
    member.crash_in_batches, member.crash_power = batch, power
    play(stage, f"boot {learner}", "run 1s", f"boot {learner}", "ask a set /x two", "until equal")
    settle(stage)


# --- what is cut off


def images_of(member: Member) -> list[int]:
    names = [name for name in member.fs.listdir("/data/gen-0001") if name.startswith("image.")]
    return sorted(int(name.split(".")[1], 16) for name in names if not name.endswith(".tmp"))


def test_t_trunc_1_no_image_holds_what_is_cut_later() -> None:
    """4837: images are of committed states only, so a TRUNC never meets a newer one."""
    stage = begin("client a leader", "ask a create /x one", voters=3, snap_entries=3)
    old = leader_of(stage)
    committed = old.replica.zab.log.committed
    play(stage, "isolate leader")
    play(stage, *(f"send a ephemeral /lost{i}" for i in range(12)), "run 3s")
    assert old.replica.zab.log.last > committed
    for _ in range(2):
        images = images_of(old)
        assert all(zxid <= committed for zxid in images), images
        play(stage, f"power {old.sid}", f"boot {old.sid}", "run 300ms")
    play(stage, "heal", "until equal", f"power {old.sid}", f"boot {old.sid}", "until equal")
    printed = play(stage, f"client b {old.sid}", "ask b exists /lost0")
    assert "NO_NODE" in printed[-1]
    settle(stage)


def test_t_trunc_3_what_is_written_behind_a_cut_is_readable() -> None:
    """1489: the log goes on where it was cut, not where it had ended."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    old = leader_of(stage).sid
    play(stage, "isolate leader", *(f"send a set /x lost{i}" for i in range(9)), "run 3s")
    play(stage, "heal", "until equal", "client b leader", "ask b set /x short", "run 300ms")
    for sid in stage.ensemble.members:
        play(stage, f"power {sid}")
    booted = play(stage, *(f"boot {sid}" for sid in stage.ensemble.members))
    assert not [line for line in booted if "suspect" in line], "it would be mended by a SNAP"
    printed = play(stage, "until leader", "until equal", f"client c {old}", "ask c get /x")
    assert "short" in printed[-1]
    settle(stage)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_t_disk_2_a_cut_that_fails_ends_the_process(code: int) -> None:
    """3701: it never goes on with the suffix that it should have cut."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    old = leader_of(stage)
    play(stage, "isolate leader", "send a set /x lost", "run 3s")
    stage.ensemble.restart_mean = FOREVER
    old.fs.fail(lambda call: call.operation == "truncate", code)
    play(stage, "heal", "run 1s")
    assert not old.alive
    play(stage, "client b leader", "ask b set /x two")
    settle(stage)


# --- links


@pytest.mark.parametrize("kept", range(0, 150, 25))
def test_t_net_1_the_link_ends_within_a_proposal(kept: int) -> None:
    """2355: the delete of an ephemeral arrives in part; it is made again, and goes again."""
    stage = begin("client a leader", "ask a ephemeral /e", voters=3)
    leader = leader_of(stage).sid
    (learner, other) = followers_of(stage)
    socket = socket_to(stage, learner, leader)
    honest = socket.on_data

    def on_data(data: bytes) -> None:
        socket.on_data = lambda data: None
        honest(data[:kept])
        stage.ensemble.network.cut(socket)

    run(stage, 20 * MS)
    socket.on_data = on_data
    play(stage, "ask a close", f"client b {other}", "ask b ephemeral /e", "until equal")
    assert "/e" in stage.ensemble.members[learner].replica.state.tree.nodes
    play(stage, "ask b close", "run 300ms", "until equal")
    assert "/e" not in stage.ensemble.members[learner].replica.state.tree.nodes
    settle(stage)


# --- roles


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_t_role_1_one_writer_of_the_log(whose: str) -> None:
    """4712, 4541: a role ends with writes on their way to a slow disk, and the next one begins by
    cutting them off."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    old = leader_of(stage)
    low, high = followers_of(stage)
    if whose == "leader":
        slow, directions = old, [(old.sid, low), (old.sid, high)]
    else:
        slow, directions = stage.ensemble.members[low], [(old.sid, high)]
    slow.slow_disk = 1500
    play(stage, "block " + " ".join(f"{a}>{b}" for a, b in directions))
    for i in range(10):
        play(stage, f"send a set /x lost{i}", "run 1ms")
    if whose == "follower":
        play(stage, f"kill {old.sid}")
    play(stage, "run 2s", "heal", "run 3s")
    slow.slow_disk = 1
    play(stage, "until leader", "until equal")
    play(stage, f"power {slow.sid}", f"boot {slow.sid}", "until equal")
    settle(stage)


def test_t_role_1_nothing_is_left_waiting_when_roles_change() -> None:
    """2380, 2687, 4537: after any number of role changes each request is answered, or its
    connection has ended."""
    stage = begin(voters=3)
    for name, server in zip("abc", (1, 2, 3), strict=True):
        play(stage, f"client {name} {server}")
    play(stage, "ask a create /x one")
    for turn in range(6):
        for name in "abc":
            for i in range(5):
                stage.play(f"send {name} set /x {turn}.{i}")
        run(stage, (turn * 7 % 5) * MS)
        leader = stage.ensemble.leader()
        if leader is not None:
            for socket in stage.ensemble.network.sockets_of(leader.sid):
                if socket.remote > 0 and turn % 2:
                    stage.ensemble.network.cut(socket)
            if not turn % 2:
                leader.replica.zab.on_digest_mismatch(leader.clock.now_ms())
                leader.replica.zab.member.wants_image = False
                leader._request_pass()
        run(stage, 300 * MS)
    run(stage, 3 * SECOND)
    assert not [name for name, client in stage.clients.items() if client.is_busy]
    settle(stage)


@pytest.mark.parametrize("sync_ticks", [5, 20])
def test_t_amnesia_2_a_wiped_member_beside_a_leader_of_an_earlier_epoch(sync_ticks: int) -> None:
    """It has forgotten whom it promised what, and the old leader, whose links are half-open, has
    not noticed that the others went on without it."""
    stage = begin(
        "client a leader", "ask a create /x one", "run 300ms", voters=3, sync_ticks=sync_ticks
    )
    old = leader_of(stage).sid
    others = followers_of(stage)
    play(stage, "block " + " ".join(f"{old}>{sid} {sid}>{old}" for sid in others))
    play(stage, *(f"kill {sid}" for sid in others), *(f"boot {sid}" for sid in others))
    new = await_leader_among(stage, others)
    wiped = next(sid for sid in others if sid != new)
    play(stage, f"client b {new}", "ask b set /x acknowledged")
    play(stage, f"kill {wiped}", f"wipe {wiped}", f"block {wiped}>{new} {new}>{wiped}")
    play(stage, f"unblock {wiped}>{old} {old}>{wiped}", f"boot {wiped}", "run 300ms")
    members = stage.ensemble.members
    assert members[old].replica.zab.serving, "else this shows nothing"
    assert members[wiped].replica.zab.leader == old, "else this shows nothing"
    assert not members[wiped].replica.zab.serving
    play(stage, "ask a set /x beside")
    play(stage, "heal")
    settle(stage)


def await_leader_among(stage: Stage, sids: list[int]) -> int:
    for _ in range(1000):
        run(stage, 5 * MS)
        for sid in sids:
            zab = stage.ensemble.members[sid].replica.zab
            if zab.serving and zab.role is Role.LEADING:
                return sid
    raise AssertionError("none of them leads")
