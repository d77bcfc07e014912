"""Elections, leaderships and links that do not go smoothly: scenarios of docs/reliability.md."""

import pytest

from tests.sim.raw import Raw
from tests.sim.stages import begin, followers_of, leader_of, play, run, settle
from wire import records
from wire.codes import ErrorCode, OpCode
from wire.peer import Role
from zkpy.testing.histories import Op
from zkpy.testing.network import Direction
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND


def leaderships(stage: Stage) -> int:
    """How often somebody came to serve as leader."""
    marks = stage.ensemble.timeline.marks
    return sum(
        mark.kind == "role" and mark.text.startswith("leading") and mark.text.endswith("serving")
        for mark in marks
    )


# --- elections end


@pytest.mark.parametrize("voters", [3, 5, 7])
@pytest.mark.parametrize("delay_ms", [1, 60])
def test_t_el_3_leaders_die_again_and_again(voters: int, delay_ms: int) -> None:
    """569, 1419, 498, 512, A14: the network takes longer than re-send and decision do, and
    each leader dies as soon as it serves; as many as may be are down at a time."""
    stage = begin(voters=voters, delay=delay_ms * MS, jitter=delay_ms * MS)
    down: list[int] = []
    for _ in range(6):
        leader = leader_of(stage).sid
        down.append(leader)
        play(stage, f"kill {leader}")
        if len(down) > (voters - 1) // 2:
            play(stage, f"boot {down.pop(0)}")
        printed = play(stage, "until leader")
        assert not [line for line in printed if line.startswith("not")], printed
    settle(stage)


def test_t_el_2_a_supporter_changes_its_mind() -> None:
    """3109: it starts again while the elected leader waits for its epoch's quorum, and has not
    got one without it.  Nobody waits for the whole initLimit, which is 10 s here."""
    stage = begin("client a leader", "ask a create /x one", voters=3, init_ticks=50)
    low, high = followers_of(stage)
    play(stage, "kill leader")
    heir = stage.ensemble.members[high].replica.zab
    while heir.role is not Role.LEADING:
        run(stage, MS // 10)
    assert not heir.learners
    play(stage, f"kill {low}", f"boot {low}")
    started = stage.world.now
    play(stage, "until leader")
    assert stage.world.now - started < SECOND
    settle(stage)


@pytest.mark.parametrize("whose", ["heir", "supporter"])
@pytest.mark.parametrize("calls", range(1, 13))
def test_t_meta_1_crash_at_every_call_of_an_election(calls: int, whose: str) -> None:
    """1653, 2307, 2354, 4269: the promise of the epoch is on the disk, or half of it, and nothing
    of the epoch itself; it starts again, sound, and votes by its log."""
    stage = begin("client a leader", "ask a create /x one", "run 300ms", voters=3)
    supporter, heir = followers_of(stage)
    old = leader_of(stage).sid
    stage.ensemble.restart_mean = 1 << 50
    victim = stage.ensemble.members[heir if whose == "heir" else supporter]
    victim.fs.cut_power_at(victim.fs.calls + calls)
    play(stage, f"power {old}", "run 2s")
    victim.crash(power=True)
    booted = play(stage, f"boot {victim.sid}")
    assert not [line for line in booted if "suspect" in line], booted
    printed = play(stage, "until leader", "client b leader", "ask b get /x")
    assert "one" in printed[-1]
    settle(stage)


# --- who keeps the leadership


def bridge_of_five(leader: int) -> list[Direction]:
    """Two halves that only one member sees both of; it is not the leader."""
    others = [sid for sid in range(1, 6) if sid != leader]
    left, right = others[:2], [others[3], leader]
    return [pair for a in left for b in right for pair in ((a, b), (b, a))]


def cut_off(victim: int, leader: int, ways: str) -> list[Direction]:
    pairs = {"to": [(victim, leader)], "from": [(leader, victim)]}
    return pairs.get(ways, pairs["to"] + pairs["from"])


@pytest.mark.parametrize("ways", ["to", "from", "both", "bridge"])
def test_t_net_2_without_reelections(ways: str) -> None:
    """A follower cut from the leader alone, in any direction, and a bridge: the rest go on."""
    stage = begin("client a leader", "ask a create /x one", voters=5)
    leader = leader_of(stage).sid
    victim = followers_of(stage)[0]
    pairs = bridge_of_five(leader) if ways == "bridge" else cut_off(victim, leader, ways)
    stage.ensemble.network.block(pairs)
    for i in range(20):
        run(stage, 500 * MS)
        printed = play(stage, f"ask a set /x {i}")
        assert "version" in printed[-1], printed
    assert leaderships(stage) == 1
    stage.ensemble.network.unblock(pairs)
    settle(stage)
    assert leaderships(stage) <= 2, "one that promised in vain may cost one more"


@pytest.mark.parametrize("flaps", [200, 1100])
def test_t_net_2_a_link_that_comes_and_goes(flaps: int) -> None:
    """A follower that flaps costs nobody an election, whatever it does meanwhile."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    leader, victim = leader_of(stage).sid, followers_of(stage)[0]
    for i in range(8):
        play(stage, f"isolate {victim}", f"run {flaps}ms", "heal", f"run {flaps}ms")
        printed = play(stage, f"ask a set /x {i}")
        assert "version" in printed[-1], printed
    assert leaderships(stage) == 1
    assert leader_of(stage).sid == leader
    settle(stage)


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_t_slow_1_a_dangling_link_is_given_up(whose: str) -> None:
    """3240: one end believes that the link stands; the other dials anew, and is let in."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    leader, victim = leader_of(stage).sid, followers_of(stage)[0]
    ends = (leader, victim) if whose == "leader" else (victim, leader)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(ends[0]) if s.remote == ends[1]]
    stage.ensemble.network.cut(socket, half_open=True)
    play(stage, "ask a set /x two", "run 3s")
    assert victim in leader_of(stage).replica.zab.learners
    assert leaderships(stage) == 1
    settle(stage)


@pytest.mark.parametrize("operation", ["write", "sync_data"])
def test_t_disk_1_a_leader_whose_disk_fails_is_replaced_in_time(operation: str) -> None:
    """2247, 4203: the process ends, and another one leads within syncLimit and an election."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    leader = leader_of(stage)
    stage.ensemble.restart_mean = 1 << 50
    leader.fail_disk(operation)
    play(stage, "send a set /x two")
    started = stage.world.now
    play(stage, "run 100ms", "until leader")
    assert not leader.alive
    assert stage.world.now - started < 2 * SECOND
    settle(stage)


# --- epochs that run out


def test_t_roll_1_an_epoch_runs_out_of_zxids_under_continuous_writes() -> None:
    """1277, 4883, 2789: the service goes on; each epoch's end costs what the loss of a leader
    costs: one write in flight whose fate is unknown, and a short while without service."""
    stage = begin("client a 1", "ask a create /x one", voters=3, epoch_entries=20)
    answered = lost = longest = 0
    since = stage.world.now
    while answered < 100 and stage.world.now - since < 60 * SECOND:
        said = play(stage, f"ask a set /x {answered}")[-1]
        if "version" in said:
            answered += 1
            longest, since = max(longest, stage.world.now - since), stage.world.now
        else:
            lost += said == "lost"
            run(stage, 20 * MS)
    assert answered == 100
    epochs = leader_of(stage).replica.zab.epoch
    assert epochs > 4
    assert lost <= epochs
    assert longest < SECOND
    settle(stage)


# --- read-only members


@pytest.mark.parametrize("window_bytes", [1 << 20, 1000], ids=["diff", "snap"])
def test_t_ro_2_who_was_removed_serves_no_reads_either(window_bytes: int) -> None:
    """It learns of it while it is synchronised, and may serve reads alone since it was cut off."""
    stage = begin(
        "client a leader super",
        "ask a create /x one",
        voters=4,
        reconfig=1,
        read_only=1,
        window_bytes=window_bytes,
    )
    server = followers_of(stage)[0]
    member = stage.ensemble.members[server]
    play(stage, "run 300ms", f"isolate {server}", "run 3s")
    reader = Raw(stage, -9, server, lambda raw: raw.connect(read_only=True))
    run(stage, 100 * MS)
    assert reader.granted is not None and reader.granted.read_only
    said = play(stage, f"ask a reconfig -{server}", *(f"ask a set /x {i}" for i in range(12)))
    assert "version=" in said[0]
    play(stage, "heal", "run 3s")
    assert member.replica.zab.is_left_out and not reader.socket.open
    again = Raw(stage, -9, server, lambda raw: raw.connect(read_only=True))
    run(stage, 100 * MS)
    assert again.granted is None and not again.socket.open
    play(stage, f"isolate {server}", "run 3s")
    cut_off = Raw(stage, -9, server, lambda raw: raw.connect(read_only=True))
    run(stage, 100 * MS)
    assert cut_off.granted is None and not cut_off.socket.open


@pytest.mark.parametrize("window_bytes", [1 << 20, 1000], ids=["diff", "snap"])
def test_t_ro_1_serving_reads_alone_touches_neither_log_nor_epochs(window_bytes: int) -> None:
    """3526, 4352: a member without a quorum serves those who ask for no more than reads; what it
    is sent when it comes back depends on its log alone."""
    stage = begin(
        "client a leader", "ask a create /x one", voters=3, read_only=1, window_bytes=window_bytes
    )
    server = followers_of(stage)[0]
    member = stage.ensemble.members[server]
    play(stage, "run 300ms")
    log = member.replica.zab.log
    before = log.last, log.committed, member.replica.state.digest, member.replica.zab.identity
    play(stage, f"isolate {server}", "run 3s")
    raw = Raw(stage, -9, server, lambda raw: raw.connect(read_only=True))
    run(stage, 100 * MS)
    raw.ask(1, OpCode.GET_DATA, records.GetDataRequest("/x", False))
    raw.ask(2, OpCode.SET_DATA, records.SetDataRequest("/x", b"no", -1))
    run(stage, 100 * MS)
    assert [op.error for op in raw.record.stream if isinstance(op, Op)] == [
        0,
        ErrorCode.NOT_READ_ONLY,
    ]
    after = log.last, log.committed, member.replica.state.digest, member.replica.zab.identity
    assert after == before
    stage.connections.remove(raw.record)
    play(stage, *(f"ask a set /x {i}" for i in range(12)), "heal", "until equal")
    printed = play(stage, f"client b {server}", "ask b get /x")
    assert "11" in printed[-1]
    settle(stage)
