"""The hot paths, timed one by one: what a request meets on its way in and out.

`tox -e bench` times them; elsewhere each runs once, as a test that it does what its
name says.  No time is asserted: a machine that is busy would make that a lie.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.pipeline.leader import Preparing
from tests.replica.harness import Client, World
from tests.state.anew import chunks_of
from tests.state.driver import next_counter
from wire import txn as txns
from wire.client import ClientConnection, Event, Request, Role, encode_reply
from wire.codes import OpCode
from wire.jute import Record
from wire.records import (
    OPEN_ACL,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    GetDataRequest,
    SetDataRequest,
)
from wire.txn import CreateTxn, SetDataTxn, Txn, TxnHeader
from zkpy import zxid as zxids
from zkpy.effects import Append, DiskBatch, Entry, EntryKind, Identity, WriteIdentity, chain_next
from zkpy.state import digest, image
from zkpy.state import znode as zn
from zkpy.state.apply import Applied, ReplicatedState
from zkpy.storage.disk import Storage
from zkpy.storage.fs import OsFileSystem

DATA = b"x" * 100
BATCH = 16
HEADER = TxnHeader(session=1, cxid=1, origin=1, incarnation=7, number=1, time_ms=1_700_000_000_000)


# --- wire ----------------------------------------------------------------------------


@pytest.fixture
def connections() -> tuple[ClientConnection, ClientConnection]:
    """A server's end and a client's, with the handshake behind them."""
    server = ClientConnection(Role.SERVER, 0xFFFFF)
    client = ClientConnection(Role.CLIENT, 0xFFFFF)
    server.receive_data(client.send(ConnectRequest(0, 0, 10_000, 0, bytes(16), False)))
    client.receive_data(server.send(ConnectResponse(0, 10_000, 1, bytes(16), False)))
    return server, client


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (OpCode.GET_DATA, GetDataRequest("/bench/node", False)),
        (OpCode.SET_DATA, SetDataRequest("/bench/node", DATA, -1)),
    ],
    ids=["getData", "setData"],
)
def test_receive_sixteen_requests(
    benchmark: BenchmarkFixture,
    connections: tuple[ClientConnection, ClientConnection],
    opcode: OpCode,
    body: Record,
) -> None:
    server, client = connections
    data = b"".join(client.send(Request(xid, opcode, body)) for xid in range(BATCH))
    events: list[Event] = benchmark(server.receive_data, data)
    assert events == [Request(xid, opcode, body) for xid in range(BATCH)]


def test_receive_one_request(
    benchmark: BenchmarkFixture, connections: tuple[ClientConnection, ClientConnection]
) -> None:
    server, client = connections
    request = Request(1, OpCode.GET_DATA, GetDataRequest("/bench/node", False))
    events: list[Event] = benchmark(server.receive_data, client.send(request))
    assert events == [request]


def test_encode_reply(benchmark: BenchmarkFixture) -> None:
    body = bytes(172)
    frame: bytes = benchmark(encode_reply, 1, zxids.make(1, 5), 0, body)
    assert frame[20:] == body


def test_encode_set_data_txn(benchmark: BenchmarkFixture) -> None:
    txn = SetDataTxn("/bench/node", DATA, 7)
    data: bytes = benchmark(txns.encode, HEADER, txn)
    assert txns.decode(data) == (HEADER, txn)


def test_decode_set_data_txn(benchmark: BenchmarkFixture) -> None:
    txn = SetDataTxn("/bench/node", DATA, 7)
    found: tuple[TxnHeader, Txn] = benchmark(txns.decode, txns.encode(HEADER, txn))
    assert found == (HEADER, txn)


# --- state ---------------------------------------------------------------------------


@pytest.fixture
def state() -> ReplicatedState:
    """A tree with /bench and a thousand children below it."""
    built = ReplicatedState.founded()
    apply_create(built, "/", "bench")
    for number in range(1000):
        apply_create(built, "/bench", f"{number:04}")
    return built


def apply_create(state: ReplicatedState, parent: str, name: str) -> Applied:
    counter = next_counter(state.tree.nodes[parent])
    path = f"{parent.rstrip('/')}/{name}"
    return state.apply(state.zxid + 1, HEADER, CreateTxn(path, DATA, OPEN_ACL, 0, counter))


def test_apply_set_data(benchmark: BenchmarkFixture, state: ReplicatedState) -> None:
    versions = itertools.count(1)

    def apply() -> Applied:
        txn = SetDataTxn("/bench/0500", DATA, next(versions))
        return state.apply(state.zxid + 1, HEADER, txn)

    applied: Applied = benchmark(apply)
    assert applied.error == 0
    assert zn.data_of(state.tree.nodes["/bench/0500"]) == DATA


def test_apply_create(benchmark: BenchmarkFixture, state: ReplicatedState) -> None:
    names = (f"new-{number:010}" for number in itertools.count())
    applied: Applied = benchmark(lambda: apply_create(state, "/bench", next(names)))
    assert applied.path in state.tree.nodes


def test_digest(benchmark: BenchmarkFixture, state: ReplicatedState) -> None:
    txn = SetDataTxn("/bench/0500", DATA, 1)
    before = state.digest
    changes = state.apply(state.zxid + 1, HEADER, txn).changes
    delta: int = benchmark(digest.delta_of, changes)
    assert (before + delta - state.digest) % 2**64 == 0


def test_encode_image(benchmark: BenchmarkFixture, state: ReplicatedState) -> None:
    chunks: list[bytes] = benchmark(lambda: list(chunks_of(state)))
    assert image.load(chunks).digest == state.digest


def test_load_image(benchmark: BenchmarkFixture, state: ReplicatedState) -> None:
    loaded: ReplicatedState = benchmark(image.load, list(chunks_of(state)))
    assert loaded.tree.nodes == state.tree.nodes


# --- pipeline ------------------------------------------------------------------------


@pytest.fixture
def preparing() -> Preparing:
    built = Preparing()
    built.run((OpCode.CREATE, CreateRequest("/bench", DATA, list(OPEN_ACL), 0)))
    return built


def test_prepare_and_apply_set_data(benchmark: BenchmarkFixture, preparing: Preparing) -> None:
    """Through the codec of transactions too, as `Preparing` does it; so with create."""
    step = (OpCode.SET_DATA, SetDataRequest("/bench", b"y" * 100, -1))
    applied: Applied = benchmark(preparing.run, step)
    assert applied.error == 0
    assert zn.data_of(preparing.state.tree.nodes["/bench"]) == b"y" * 100


def test_prepare_and_apply_create(benchmark: BenchmarkFixture, preparing: Preparing) -> None:
    paths = (f"/bench/new-{number:010}" for number in itertools.count())
    acl = list(OPEN_ACL)

    def create() -> Applied:
        return preparing.run((OpCode.CREATE, CreateRequest(next(paths), DATA, acl, 0)))

    applied: Applied = benchmark(create)
    assert applied.error == 0
    assert applied.path in preparing.state.tree.nodes


# --- storage -------------------------------------------------------------------------


class Writer:
    """Appends batches to a real log, as the disk thread does."""

    def __init__(self, directory: Path) -> None:
        self.storage, _ = Storage.open(OsFileSystem(), str(directory))
        self.numbers = itertools.count(1)
        self.last, self.chain = zxids.NONE, 0
        self.execute(WriteIdentity(Identity(b"c" * 16, 1, False, 1, b"v", b"v", 1)))

    def execute(self, step: WriteIdentity | Append) -> None:
        self.storage.execute(DiskBatch(next(self.numbers), [step]))

    def make_batch(self, count: int) -> Append:
        entries = []
        for _ in range(count):
            self.last = self.last + 1 if self.last else zxids.first_of(1)
            self.chain = chain_next(self.chain, self.last, EntryKind.TXN, DATA)
            entries.append(Entry(self.last, EntryKind.TXN, DATA, self.chain))
        return Append(entries, committed=0, digest_zxid=0, digest=0)


@pytest.mark.parametrize("count", [1, 64])
def test_append_and_sync(benchmark: BenchmarkFixture, tmp_path: Path, count: int) -> None:
    writer = Writer(tmp_path)
    benchmark.pedantic(writer.execute, setup=lambda: ((writer.make_batch(count),), {}), rounds=200)
    assert writer.storage.last_zxid == writer.last


# --- a whole member without its sockets and its disk -------------------------------------


@pytest.fixture
def member() -> tuple[World, Client]:
    """A standalone member with a hundred znodes, and a client."""
    world = World()
    client = world.connect()
    for number in range(100):
        client.create(f"/{number:02}", DATA)
    return world, client


def requests(client: Client, opcode: OpCode, bodies: Iterable[Record]) -> bytes:
    """Requests as they come from a socket; `client` does not wait for their answers."""
    connection = ClientConnection(Role.CLIENT, 0xFFFFF)
    connection.send(ConnectRequest(0, 0, 10_000, 0, bytes(16), False))
    answer = ConnectResponse(0, 10_000, 1, bytes(16), False).encode()
    connection.receive_data(len(answer).to_bytes(4, "big") + answer)
    return b"".join(connection.send(Request(1, opcode, body)) for body in bodies)


def read_pass(world: World, client: Client, data: bytes) -> list[tuple[int, bytes]]:
    world.replica.receive_client(client.link, data, world.now)
    ready = world.replica.ready()
    world.replica.deadline()
    return list(ready.clients)


@pytest.mark.parametrize("count", [1, BATCH])
def test_pass_of_reads(
    benchmark: BenchmarkFixture, member: tuple[World, Client], count: int
) -> None:
    world, client = member
    bodies = [GetDataRequest(f"/{number:02}", False) for number in range(count)]
    data = requests(client, OpCode.GET_DATA, bodies)
    out = benchmark(read_pass, world, client, data)
    assert [link for link, _ in out] == [client.link]
    assert out[0][1].count(DATA) == count


def write_cycle(world: World, client: Client, data: bytes) -> list[tuple[int, bytes]]:
    """From the bytes to the replies, with a disk that takes no time."""
    world.replica.receive_client(client.link, data, world.now)
    batch = world.replica.ready().disk
    assert batch is not None
    assert world.replica.saved(batch.number, world.now) is None
    return list(world.replica.ready().clients)


@pytest.mark.parametrize("count", [1, BATCH, 200])
def test_cycle_of_writes(
    benchmark: BenchmarkFixture, member: tuple[World, Client], count: int
) -> None:
    world, client = member
    bodies = [SetDataRequest(f"/{number % 100:02}", DATA, -1) for number in range(count)]
    data = requests(client, OpCode.SET_DATA, bodies)
    out = benchmark(write_cycle, world, client, data)
    assert len(out[0][1]) == count * (20 + zn.STAT_BYTES)


def test_cycle_of_creates(benchmark: BenchmarkFixture, member: tuple[World, Client]) -> None:
    world, client = member
    rounds = itertools.count()

    def more() -> tuple[tuple[World, Client, bytes], dict[str, object]]:
        prefix = f"/00/{next(rounds)}-"
        names = (f"{prefix}{number:02}" for number in range(BATCH))
        bodies = [CreateRequest(name, DATA, list(OPEN_ACL), 0) for name in names]
        return (world, client, requests(client, OpCode.CREATE, bodies)), {}

    out = benchmark.pedantic(write_cycle, setup=more, rounds=200)
    assert len(world.replica.state.tree.children_of("/00")) % BATCH == 0
    assert len(out) == 1
