"""The simulated network keeps TCP's promises, and breaks what TCP does not promise."""

import random

import pytest

from zkpy.testing.network import PEER, SHAPES, Conditions, Network, Socket
from zkpy.testing.world import SECOND, World

HOSTS = [1, 2, 3, 4, 5]


class End:
    """One end of a connection, and what it saw."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.data = b""
        self.opened = self.closed = False
        socket.on_open = self._open
        socket.on_data = self._take
        socket.on_close = self._close

    def _open(self) -> None:
        self.opened = True

    def _take(self, data: bytes) -> None:
        assert not self.closed, "data behind the end"
        self.data += data

    def _close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


class Net:
    def __init__(self, seed: int = 1, conditions: Conditions | None = None) -> None:
        self.world = World(seed)
        self.network = Network(self.world, conditions or Conditions())
        self.accepted: list[End] = []
        self.network.listen(2, PEER, lambda socket: self.accepted.append(End(socket)))

    def run(self, duration: int = 10 * SECOND) -> None:
        self.world.run_until(self.world.now + duration)

    def connect(self) -> tuple[End, End]:
        near = End(self.network.dial(1, 2, PEER))
        self.run(SECOND // 100)
        assert near.opened
        return near, self.accepted[-1]


def test_a_stream_arrives_whole_and_in_order() -> None:
    net = Net(conditions=Conditions(jitter=100_000, spike_chance=0.3))
    near = End(net.network.dial(1, 2, PEER))
    net.run(SECOND)
    far = net.accepted[0]
    sent = [b"%d " % i for i in range(200)]
    for piece in sent:
        near.socket.send(piece)
    near.socket.close()
    net.run()
    assert far.data == b"".join(sent)
    assert far.closed
    assert not near.closed


def test_nobody_listens() -> None:
    net = Net()
    end = End(net.network.dial(1, 3, PEER))
    net.run()
    assert end.closed
    assert not end.opened


def test_a_blocked_direction_delivers_late_and_the_other_one_goes_on() -> None:
    net = Net()
    near, far = net.connect()
    net.network.block([(1, 2)])
    near.socket.send(b"late")
    far.socket.send(b"soon")
    net.run()
    assert (near.data, far.data) == (b"soon", b"")
    near.socket.send(b"r")
    net.network.unblock([(1, 2)])
    net.run()
    assert far.data == b"later"


def test_blocks_are_counted() -> None:
    net = Net()
    net.network.block([(1, 2)])
    net.network.block([(1, 2)])
    net.network.unblock([(1, 2)])
    assert net.network.is_blocked(1, 2)
    assert not net.network.is_blocked(2, 1)
    net.network.unblock([(1, 2)])
    assert not net.network.is_blocked(1, 2)


def test_dialling_through_a_partition_fails_in_time() -> None:
    net = Net()
    net.network.block([(2, 1)])
    end = End(net.network.dial(1, 2, PEER))
    net.run()
    assert end.closed
    assert not net.accepted


def test_a_cut_leaves_a_prefix_on_both_sides() -> None:
    lengths = set()
    for seed in range(30):
        net = Net(seed)
        near, far = net.connect()
        near.socket.send(b"0123456789")
        net.network.cut(near.socket)
        near.socket.send(b"more")
        net.run()
        assert near.closed
        assert far.closed
        assert b"0123456789more".startswith(far.data)
        lengths.add(len(far.data))
    assert len(lengths) > 4, "cuts fall anywhere"


def test_half_open_one_end_learns_it_the_other_does_not() -> None:
    net = Net()
    near, far = net.connect()
    net.network.cut(near.socket, half_open=True)
    net.run()
    far.socket.send(b"hello?")
    net.run()
    assert near.closed
    assert not far.closed
    assert near.data == b""


def test_a_stall_delays_what_comes_behind_it() -> None:
    net = Net()
    near, far = net.connect()
    near.socket.stall(3 * SECOND)
    near.socket.send(b"x")
    net.run(2 * SECOND)
    assert far.data == b""
    net.run(2 * SECOND)
    assert far.data == b"x"


def test_a_killed_process_is_noticed_and_a_dead_machine_is_not() -> None:
    net = Net()
    _, far = net.connect()
    net.network.process_ends(1, silent=False)
    net.run()
    assert far.closed

    net = Net()
    _, far = net.connect()
    net.network.process_ends(1, silent=True)
    net.network.switch(1, on=False)
    far.socket.send(b"anybody?")
    net.run()
    assert not far.closed
    net.network.switch(1, on=True)
    net.run()
    assert far.closed, "the machine is up again, and knows of no such connection"


def datagrams(conditions: Conditions, count: int = 300) -> list[int]:
    world = World(1)
    network = Network(world, conditions)
    arrived: list[int] = []
    network.listen_datagrams(2, lambda source, data: arrived.append(int(data)))
    for i in range(count):
        network.send_datagram(1, 2, b"%d" % i)
        world.run_until(world.now + 1000)
    world.run_until(world.now + SECOND)
    return arrived


def test_datagrams_arrive_once_and_in_order_if_nothing_is_wrong() -> None:
    assert datagrams(Conditions()) == list(range(300))


def test_datagrams_get_lost_doubled_and_reordered() -> None:
    assert 150 < len(datagrams(Conditions(loss=0.3))) < 280
    doubled = datagrams(Conditions(copies=0.3))
    assert len(doubled) > 350
    assert set(doubled) == set(range(300))
    reordered = datagrams(Conditions(reordering=0.3))
    assert reordered != sorted(reordered)
    assert sorted(reordered) == list(range(300))


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_shapes_block_something_but_never_all(shape: str) -> None:
    everything = {(a, b) for a in HOSTS for b in HOSTS if a != b}
    for seed in range(50):
        blocked = SHAPES[shape](random.Random(seed), HOSTS)
        assert blocked
        assert len(set(blocked)) == len(blocked)
        assert set(blocked) < everything


def test_a_bridge_sees_both_sides() -> None:
    for seed in range(20):
        blocked = set(SHAPES["bridge"](random.Random(seed), HOSTS))
        free = [h for h in HOSTS if not any(h in pair for pair in blocked)]
        assert len(free) == 1
