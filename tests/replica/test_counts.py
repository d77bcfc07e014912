"""What a member counts of its clients, in virtual time."""

from tests.replica.harness import Client, World
from wire import records
from wire.codes import EventType, OpCode
from zkpy.replica.counts import ResponseSizes, ServingCounts
from zkpy.replica.status import status_of
from zkpy.zab.counts import Counts


def counts_of(world: World) -> ServingCounts:
    return status_of(world.replica).served


def test_handshakes(world: World, client: Client) -> None:
    granted = client.granted
    world.replica.client_down(client.link, world.now)
    world.connect(session_id=granted.session_id, password=granted.password)
    counts = counts_of(world)
    assert (counts.connection_requests, counts.connections_resumed) == (2, 1)
    assert (counts.connections_throttled, counts.connections_without_service) == (0, 0)
    assert (counts.token_deficit.count, counts.token_deficit.greatest) == (2, 0)


def test_handshakes_without_a_token_are_no_requests() -> None:
    world = World(connect_tokens_max=2, connect_fill_ms=1000, connect_fill_count=1)
    clients = [world.connect() for _ in range(3)]
    assert [each.closed for each in clients] == [False, False, True]
    counts = counts_of(world)
    assert (counts.connection_requests, counts.connections_throttled) == (2, 1)
    assert counts.token_deficit.greatest == 2


def test_handshakes_while_there_is_no_quorum() -> None:
    world = World(voters=(1, 2, 3))
    assert world.connect().closed
    assert counts_of(world).connections_without_service == 1


def test_who_says_nothing_is_not_waited_for(world: World) -> None:
    world.raw()
    world.advance(20_000)
    counts = counts_of(world)
    assert (counts.handshakes_expired, counts.connection_requests) == (1, 0)


def test_sessions_that_expire(world: World, client: Client) -> None:
    closing = world.connect()
    closing.send(OpCode.CLOSE_SESSION)
    world.run()
    assert counts_of(world).sessions_expired == 0, "one that is closed does not"
    world.advance(20_000)
    assert client.closed and counts_of(world).sessions_expired == 1


def test_events_by_how_many_they_are_for(world: World, client: Client) -> None:
    other = world.connect()
    client.create("/a")
    for each in (client, other):
        each.get("/a", watch=True)
    client.get("/nothing", watch=False)
    client.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"1", -1))
    client.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"2", -1))
    told = status_of(world.replica).told
    changed = told[EventType.NODE_DATA_CHANGED]
    assert (changed.count, changed.total) == (1, 2), "the second one was for nobody"
    assert told[EventType.NODE_CREATED].count == told[EventType.NODE_DELETED].count == 0
    event_bytes = 16 + 4 + 4 + 4 + len("/a")
    assert counts_of(world).watch_bytes == 2 * event_bytes


def test_sizes_of_responses() -> None:
    sizes = ResponseSizes()
    assert (sizes.last, sizes.least, sizes.greatest) == (-1, -1, -1)
    sizes.add([bytes(41)], 1)
    assert (sizes.total, sizes.last) == (0, -1), "a handshake is none"
    sizes.add([bytes(104), bytes(24), bytes(44)], 0)
    assert (sizes.total, sizes.last, sizes.least, sizes.greatest) == (160, 40, 20, 100)


def test_sizes_are_those_of_what_was_sent(world: World, client: Client) -> None:
    assert status_of(world.replica).sizes.last == -1
    client.create("/a", b"x" * 1000)
    client.get("/a")
    client.get("/b")
    sizes = status_of(world.replica).sizes
    assert (sizes.least, sizes.last) == (16, 16)
    assert sizes.greatest == 16 + 4 + 1000 + 68


def test_which_answers_are_those_of_writes(world: World, client: Client) -> None:
    """Also where a read came with the write, and only where."""
    reader = world.connect()
    client.send(OpCode.CREATE, records.CreateRequest("/a", b"", list(records.OPEN_ACL), 0))
    reader.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    updated: list[int] = []
    clients: list[int] = []
    for _ in range(10):
        ready = world.replica.ready()
        clients += [link for link, _ in ready.clients]
        updated += ready.updated
        if ready.disk is not None:
            world.pending.append(ready.disk)
        world.save()
    assert sorted(clients) == sorted([client.link, reader.link])
    assert updated == [client.link]


def test_a_wrong_state_is_counted(world: World, client: Client) -> None:
    client.create("/a")
    recovered = world.recovered()
    zxid, digest = recovered.digests[-1]
    recovered.digests[-1] = (zxid, digest ^ 1)
    assert counts_of(World(recovered)).digest_mismatches == 1
    assert counts_of(world).digest_mismatches == 0


def test_writes_refused_for_want_of_room(world: World, client: Client) -> None:
    world.replica.set_low_space(True, world.now)
    client.create("/a")
    assert counts_of(world).ops_throttled == 1


def test_a_server_alone_shows_no_elections(world: World, client: Client) -> None:
    """It holds one with itself at its start, which is nobody's to know."""
    client.create("/a")
    status = status_of(world.replica)
    assert world.replica.zab.counts.proposed > 0
    assert status.counts.proposed == Counts().proposed == status.timings.election.count == 0


def test_a_reset(world: World, client: Client) -> None:
    client.create("/a")
    client.get("/a", watch=True)
    client.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"1", -1))
    world.replica.reset_counts()
    status = status_of(world.replica)
    assert (status.served.connection_requests, status.served.watch_bytes) == (0, 0)
    assert (status.sizes.greatest, status.sizes.total) == (-1, 0)
    assert status.told[EventType.NODE_DATA_CHANGED].count == 0
    assert (status.packets_received, status.znodes) != (0, 0)
