"""The parts of the fault runs: relays, draws, logs put together; and that lies are found."""

import asyncio
import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.faults import record
from tests.faults.cluster import until
from tests.faults.figures import percentile
from tests.faults.proxy import HOST, Proxy
from tests.faults.record import MemberLog
from tests.faults.rounds import KINDS, draw_rounds
from tests.server.members import LIMIT_S, member_ports
from wire import txn as txns
from wire.txn import CreateSessionTxn, ErrorTxn, TxnHeader
from zkpy.effects import CHAIN_START, Entry, EntryKind, chain_next
from zkpy.storage import OsFileSystem
from zkpy.storage.txnlog import TxnLog
from zkpy.testing.world import Violation


def test_rounds_follow_from_the_seed() -> None:
    rounds = draw_rounds(7, 30, 5)
    assert rounds == draw_rounds(7, 30, 5)
    assert rounds != draw_rounds(8, 30, 5)
    assert {each.kind for each in rounds[: len(KINDS)]} == set(KINDS)
    assert max(len(each.targets) for each in rounds) == 2
    assert all(len(each.targets) <= 1 for each in draw_rounds(7, 30, 3))


def test_percentiles() -> None:
    values = [float(i) for i in random.Random(1).sample(range(1, 201), 200)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (100.0, 198.0)
    assert percentile([3.0], 0.99) == 3.0


# --- relays


def test_a_relay_carries_both_ways_and_holds_what_is_blocked() -> None:
    asyncio.run(_check_relay())


async def _check_relay() -> None:
    (ports,) = member_ports(1)
    proxy, came = Proxy([1, 2]), asyncio.Queue[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            came.put_nowait(data)
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(answer, HOST, ports[1])
    await proxy.start({1: 1, 2: ports[1]}, {1: 1, 2: ports[2]})
    reader, writer = await asyncio.open_connection(HOST, proxy.relays[1, 2].tcp_port)
    writer.write(b"a")
    assert await came.get() == b"a"
    assert await reader.read(100) == b"A"
    proxy.block([(2, 1)])
    writer.write(b"b")
    assert await came.get() == b"b"
    await until("something is held", lambda: proxy.held, LIMIT_S)
    waiting = asyncio.ensure_future(reader.read(100))
    await asyncio.sleep(0)
    assert not waiting.done()
    proxy.heal()
    assert await waiting == b"B"
    writer.close()
    server.close()
    await proxy.stop()


def test_a_relay_loses_datagrams_while_it_is_blocked() -> None:
    asyncio.run(_check_datagrams())


async def _check_datagrams() -> None:
    loop, came = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    class Far(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, sender: object) -> None:
            came.put_nowait(data)

    far, _ = await loop.create_datagram_endpoint(Far, (HOST, 0))
    proxy = Proxy([1, 2])
    await proxy.start({1: 1, 2: 1}, {1: 1, 2: far.get_extra_info("sockname")[1]})
    address = HOST, proxy.relays[1, 2].udp_port
    near, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
    proxy.block([(1, 2)])
    near.sendto(b"lost")
    await until("something is lost", lambda: proxy.lost, LIMIT_S)
    proxy.heal()
    near.sendto(b"kept")
    assert await came.get() == b"kept"
    near.close()
    far.close()
    await proxy.stop()


# --- logs


def entries_of(*payloads: bytes) -> dict[int, Entry]:
    chain, entries = CHAIN_START, {}
    for zxid, data in enumerate(payloads, start=(1 << 32) + 1):
        chain = chain_next(chain, zxid, EntryKind.TXN, data)
        entries[zxid] = Entry(zxid, int(EntryKind.TXN), data, chain)
    return entries


OPENED = txns.encode(TxnHeader(5, 0, 1, 1, 1, 1000), CreateSessionTxn(1000, bytes(16)))
REFUSED = txns.encode(TxnHeader(5, 1, 1, 1, 2, 1001), ErrorTxn(-101))
FIRST = (1 << 32) + 1


def test_logs_are_put_together() -> None:
    whole = entries_of(OPENED, REFUSED)
    late = {FIRST + 1: whole[FIRST + 1]}
    entries, _ = record.merge({1: MemberLog(whole), 2: MemberLog(late)})
    commits, _ = record.replay(entries, {})
    assert [commit.zxid for commit in commits] == [FIRST, FIRST + 1]
    assert commits[1].header is not None and commits[1].header.session == 5


@pytest.mark.parametrize(
    ("logs", "rule"),
    [
        ({1: MemberLog(entries_of(OPENED)), 2: MemberLog(entries_of(REFUSED))}, "A2"),
        ({1: MemberLog({FIRST + 1: entries_of(OPENED, REFUSED)[FIRST + 1]})}, "A10"),
        ({1: MemberLog({}, {FIRST: 1}), 2: MemberLog({}, {FIRST: 2})}, "A12"),
    ],
    ids=["other entry", "hole", "other digest"],
)
def test_logs_that_contradict_each_other(logs: dict[int, MemberLog], rule: str) -> None:
    with pytest.raises(Violation) as found:
        record.merge(logs)
    assert found.value.rule == rule


def test_a_digest_that_the_log_does_not_give() -> None:
    entries = list(entries_of(OPENED).values())
    _, digest = record.replay(entries, {})
    assert record.replay(entries, {FIRST: digest})[1] == digest
    with pytest.raises(Violation):
        record.replay(entries, {FIRST: digest ^ 1})


def refuse(error: OSError) -> None:
    raise error


def test_a_damaged_log_is_no_log(tmp_path: Path) -> None:
    fs = OsFileSystem()
    log = TxnLog.create(fs, str(tmp_path), 1, 0, CHAIN_START, 1 << 16, refuse, nullcontext())
    log.close()
    assert record.read_log(tmp_path) == MemberLog()
    segment = next(tmp_path.iterdir())
    segment.write_bytes(b"nothing of the kind")
    with pytest.raises(Exception, match="not a log file"):
        record.read_log(tmp_path)
