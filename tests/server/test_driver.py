"""The driver and the client connections, on a scripted core and disk."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import attrs
import pytest

from tests.server.fakes import LIMIT_S, Bench, Writer
from zkpy.effects import ImageBegin, ImageChunk, ImageEnd, ImageStep, Ready
from zkpy.errors import StorageError
from zkpy.limits import Limits
from zkpy.server.app import EXIT_HALTED, EXIT_STOPPED, IMAGE_BACKLOG_MAX
from zkpy.server.clock import monotonic_ms, monotonic_ns
from zkpy.server.complaints import LOG_BURST

Play = Callable[[Callable[[], Awaitable[object]]], object]


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection, with or without a reset; nothing more comes."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_inputs_of_one_turn_share_a_pass(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            clients = [await bench.connect() for _ in range(3)]
            settled = bench.core.passes
            links = [call[1] for call in bench.core.calls if call[0] == "up"]
            # As the loop delivers what is readable: all of it before any pass.
            for link in links:
                found = bench.server.clients.links[link]  # type: ignore[index]
                found.data_received(b"a")
                found.data_received(b"b")
            for reader, _ in clients:
                assert await reader.readexactly(2) == b"ab"
            assert bench.core.passes == settled + 1

    play(scene)


def test_a_write_is_answered_when_it_is_durable(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, writer = await bench.connect()
            bench.disk.gate.clear()
            writer.write(b"w1")
            await bench.core.until(lambda: ("receive", 1, b"w1") in bench.core.calls)
            writer.write(b"read")  # a sign that passes go on while the disk is busy
            assert await reader.readexactly(4) == b"read"
            assert "saved" not in bench.core.names()
            bench.disk.gate.set()
            assert await reader.readexactly(2) == b"w1"
            assert bench.core.names().count("saved") == 1

    play(scene)


def test_timer_fires_at_the_deadline(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            due = monotonic_ms() + 30
            bench.core.due = due
            bench.server.driver.request_pass()
            await bench.core.until(lambda: "timer" in bench.core.names())
            fired = next(call[1] for call in bench.core.calls if call[0] == "timer")
            assert isinstance(fired, int)
            assert fired >= due

    play(scene)


def test_an_earlier_deadline_moves_the_timer(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.core.due = monotonic_ms() + 3_600_000
            await bench.run_pass()
            bench.core.due = monotonic_ms() + 20
            bench.server.driver.request_pass()
            await bench.core.until(lambda: "timer" in bench.core.names())

    play(scene)


def test_a_past_deadline_means_another_pass_after_io(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.core.due = monotonic_ms() - 1
            bench.server.driver.request_pass()
            await bench.core.until(lambda: "timer" in bench.core.names())

    play(scene)


def test_closes_after_the_last_bytes(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, _ = await bench.connect()
            bench.core.next = Ready(clients=[(1, b"bye" * 100_000)], closes=[1])
            bench.server.driver.request_pass()
            assert await reader.read() == b"bye" * 100_000
            await bench.core.until(lambda: "down" in bench.core.names())
            assert bench.server.metrics.connections_lost == 0

    play(scene)


def test_client_that_leaves_is_reported_once(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            _, writer = await bench.connect()
            writer.close()
            await bench.core.until(lambda: ("down", 1) in bench.core.calls)
            bench.core.next = Ready(clients=[(1, b"too late")], closes=[1])
            await bench.run_pass()
            assert bench.core.names().count("down") == 1
            assert bench.server.clients.links == {}
            assert bench.server.metrics.connections_lost == 1

    play(scene)


def test_client_that_never_reads_is_not_read_and_then_dropped(play: Play) -> None:
    async def scene() -> None:
        limits = Limits(output_bytes_max=3_000_000)
        async with Bench(limits=limits) as bench:
            _, writer = await bench.connect()
            shrink(writer)
            link = bench.server.clients.links[1]
            chunk = bytes(1_000_000)
            while link.reading:
                bench.core.next = Ready(clients=[(1, chunk)])
                await bench.run_pass()
            bench.core.next = Ready(clients=[(1, chunk)] * 20)
            bench.server.driver.request_pass()
            await bench.core.until(lambda: "down" in bench.core.names())
            assert bench.server.metrics.connections_dropped >= 1

    play(scene)


def shrink(writer: Writer) -> None:
    """Small buffers in the kernel, and no reading at all on our side."""
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too


def test_reading_stops_while_the_core_is_overloaded(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, writer = await bench.connect()
            bench.core.is_overloaded = True
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            assert not bench.server.clients.links[1].reading
            assert bench.server.metrics.connections_held == 1
            bench.core.is_overloaded = False
            bench.server.driver.request_pass()
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
            assert bench.server.clients.links[1].reading

    play(scene)


def test_connections_per_address_are_bounded(play: Play) -> None:
    async def scene() -> None:
        async with Bench(limits=Limits(connections_per_address_max=2)) as bench:
            _, first = await bench.connect()
            await bench.connect()
            refused, _ = await bench.connect_raw()
            assert await is_cut(refused)
            assert bench.server.metrics.connections_rejected == 1
            first.close()
            await bench.core.until(lambda: "down" in bench.core.names())
            await bench.connect()
            assert "down" not in bench.core.names()[-1:]

    play(scene)


def test_connections_in_all_are_bounded(play: Play) -> None:
    async def scene() -> None:
        limits = Limits(connections_max=1, connections_per_address_max=0)
        async with Bench(limits=limits) as bench:
            await bench.connect()
            refused, _ = await bench.connect_raw()
            assert await is_cut(refused)

    play(scene)


def test_a_full_server_says_so_once_for_all_addresses(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """And remembers none of them: there may be any number, and they hold nothing here."""

    async def scene() -> None:
        async with Bench(limits=Limits(connections_max=1)) as bench:
            clients = bench.server.clients
            _, first = await bench.connect()
            hosts = [f"10.0.{number // 256}.{number % 256}" for number in range(1000)]
            assert not any(map(clients.admit, hosts))
            assert len(clients._warned) == 1
            assert clients.metrics.connections_rejected == len(hosts)
            first.close()
            await bench.core.until(lambda: "down" in bench.core.names())
            await bench.connect()
            assert not clients.admit(hosts[0]), "full again, and that is told again"

    caplog.set_level(logging.WARNING)
    play(scene)
    assert caplog.messages == 2 * ["refusing connections: maxCnxns is 1"]


def test_addresses_go_to_the_core_with_port(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            _, writer = await bench.connect()
            port = writer.get_extra_info("sockname")[1]
            assert ("up", 1, f"127.0.0.1:{port}") in bench.core.calls

    play(scene)


def test_small_writes_are_not_delayed(play: Play) -> None:
    async def scene() -> None:
        async with Bench(tcp_keepalive=True) as bench:
            await bench.connect()
            transport = bench.server.clients.links[1]._transport
            assert transport is not None
            opened = transport.get_extra_info("socket")
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    play(scene)


def test_four_letter_word_is_answered_and_closed(play: Play) -> None:
    async def scene() -> None:
        async with Bench(four_letter_words=("ruok", "srvr")) as bench:
            reader, writer = await bench.connect()
            writer.write(b"4ruok")
            assert await reader.read() == b"imok"
            reader, writer = await bench.connect()
            writer.write(b"4srvr")
            assert b"Mode: standalone\n" in await reader.read()
            reader, writer = await bench.connect()
            writer.write(b"4mntr")
            assert await reader.read() == (
                b"mntr is not executed because it is not in the whitelist.\n"
            )

    play(scene)


def test_latency_is_measured_once_per_answer(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, writer = await bench.connect()
            for _ in range(3):
                writer.write(b"ping")
                await reader.readexactly(4)
            latency = bench.server.clients.latency()
            assert latency.count == 3
            assert 0 < latency.least <= latency.greatest
            (link,) = bench.server.clients.links.values()
            bench.server.clients.fold_latency()
            assert (link.latency.count, bench.server.clients.latency().count) == (0, 3)
            writer.close()
            await bench.core.until_called("down", 1)
            assert bench.server.clients.latency().count == 3
            assert bench.server.metrics.bytes_received == bench.server.metrics.bytes_sent == 12

    play(scene)


def test_reads_and_updates_are_told_apart(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, writer = await bench.connect()
            for word in (b"read", b"write", b"read"):
                writer.write(word)
                await reader.readexactly(len(word))
            metrics = bench.server.metrics
            reads, updates = metrics.reads.summary(), metrics.updates.summary()
            assert (reads.count, updates.count) == (2, 1)
            assert reads.total + updates.total == bench.server.clients.latency().total

    play(scene)


def test_one_answer_of_a_pass_is_timed(play: Play) -> None:
    """Each place comes in turn."""

    async def scene() -> None:
        async with Bench() as bench:
            driver, metrics = bench.server.driver, bench.server.metrics
            for _ in range(3):
                await bench.connect()
            links = list(bench.server.clients.links.values())
            timed = []
            for _ in range(3):
                for waited, link in enumerate(links, 1):
                    link.waiting_since = monotonic_ns() - waited * 10**12
                outputs = [(link.number, b"answer") for link in links]
                before = metrics.updates.summary().total
                driver._write(outputs, [link.number for link in links], monotonic_ns())
                timed.append((metrics.updates.summary().total - before) // 10**12)
            assert sorted(timed) == [1, 2, 3]
            assert metrics.updates.summary().count == 3
            assert bench.server.clients.latency().count == 9

    play(scene)


def test_a_reset_sets_all_figures_back(play: Play) -> None:
    """As ZooKeeper's srst: counts, maxima and percentiles, of the core too."""

    async def scene() -> None:
        async with Bench(four_letter_words=("*",)) as bench:
            reader, writer = await bench.connect()
            for word in (b"read", b"write"):
                writer.write(word)
                await reader.readexactly(len(word))
            bench.core.next = Ready(image=[ImageBegin(7, 0), ImageEnd(7, 9)])
            bench.server.driver.request_pass()
            await bench.core.until(lambda: ("image_saved", 7) in bench.core.calls)
            metrics = bench.server.metrics
            kept = (metrics.sync, metrics.image, metrics.reads)
            assert [each.summary().count for each in kept] == [1, 1, 1]
            assert metrics.sync.summary().greatest > 0
            asked, words = await bench.connect()
            words.write(b"4srst")
            assert await asked.read() == b"Server stats reset.\n"
            assert "reset_counts" in bench.core.names()
            summary = bench.server.clients.latency()
            assert (summary.count, summary.greatest, summary.total) == (0, 0, 0)
            for samples in (metrics.sync, metrics.image, metrics.reads, metrics.updates):
                assert (samples.summary().count, samples.percentiles((999,))) == (0, [0])
            assert metrics.bytes_received == metrics.bytes_sent == 0

    play(scene)


def test_notices_of_the_core_are_logged(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            with caplog.at_level("INFO", "zkpy"):
                bench.core.notices.append("something of interest")
                bench.server.driver.request_pass()
                await bench.core.until(lambda: not bench.core.notices)

    play(scene)
    assert "something of interest" in caplog.messages


def test_an_alarm_of_the_core_is_an_error_in_the_log(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.core.next = Ready(alarm="no leader can be elected")
            bench.server.driver.request_pass()
            await bench.core.until(lambda: bench.core.next.alarm is None)

    play(scene)
    levels = [each.levelname for each in caplog.records if "no leader" in each.message]
    assert levels == ["ERROR"]


# --- images ---------------------------------------------------------------------------


def test_failures_to_authenticate_are_warnings_and_few(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """Who guesses passwords must not fill the disk with it."""

    async def scene() -> None:
        async with Bench() as bench:
            bench.core.next = Ready(failures=["failed"] * (LOG_BURST + 90))
            bench.server.driver.request_pass()
            await bench.core.until(lambda: not bench.core.next.failures)

    play(scene)
    said = [each.levelname for each in caplog.records if each.message.startswith("failed")]
    assert said == ["WARNING"] * LOG_BURST


def test_images_are_written_in_order_and_reported(play: Play) -> None:
    async def scene() -> None:
        async with Bench(snapshots_retained=4) as bench:
            steps: list[ImageStep] = [ImageBegin(7, 0), ImageChunk(b"c"), ImageEnd(7, 9)]
            bench.core.next = Ready(image=steps)
            bench.server.driver.request_pass()
            await bench.core.until(lambda: ("image_saved", 7) in bench.core.calls)
            assert bench.disk.calls == [*steps, ("purge", 4)]

    play(scene)


def test_autopurge_can_be_off(play: Play) -> None:
    async def scene() -> None:
        async with Bench(autopurge=False) as bench:
            bench.core.next = Ready(image=[ImageBegin(7, 0), ImageEnd(7, 9)])
            bench.server.driver.request_pass()
            await bench.core.until(lambda: ("image_saved", 7) in bench.core.calls)
            assert len(bench.disk.calls) == 2

    play(scene)


def test_image_slices_wait_for_a_slow_disk(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.disk.image_gate.clear()
            many = IMAGE_BACKLOG_MAX + 2
            bench.core.next = Ready(image=[ImageChunk(b"c")] * many)
            await bench.run_pass()
            await bench.core.until(lambda: bench.core.images.paused)
            settled = bench.core.passes
            bench.disk.image_gate.set()
            await bench.core.until(lambda: bench.core.passes > settled)
            assert not bench.core.images.paused
            assert len(bench.disk.calls) == many

    play(scene)


@pytest.mark.parametrize("ample", [True, False])
def test_slices_of_the_next_segment_are_written_beside_where_there_is_room(
    play: Play, ample: bool
) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.server._space = SimpleNamespace(  # type: ignore[assignment]
                ample=ample, stop=lambda: None
            )
            bench.disk.slices_wanted = 1
            _, writer = await bench.connect()
            writer.write(b"w1")
            await bench.core.until_called("saved", 1)
            writer.close()
            assert not ample or await asyncio.to_thread(bench.disk.sliced.wait, LIMIT_S)
        assert ("slice" in bench.disk.calls) is ample

    play(scene)


def test_with_little_room_no_more_of_the_next_segment_is_prepared(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            bench.server._set_low_space(True)
            assert await asyncio.to_thread(bench.disk.sliced.wait, LIMIT_S)
            bench.server._set_low_space(False)
            assert [call for call in bench.core.calls if call[0] == "low_space"] == [
                ("low_space", True),
                ("low_space", False),
            ]
        assert bench.disk.calls.count("stopped") == 1

    play(scene)


# --- ends -----------------------------------------------------------------------------


def test_stop_finishes_the_batch_under_way_and_nothing_else(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            port = bench.server.address.port
            reader, writer = await bench.connect()
            bench.disk.gate.clear()
            writer.write(b"w1")
            await bench.disk.until_writing()
            bench.server.stop()
            bench.disk.gate.set()
            assert await bench.running == EXIT_STOPPED
            assert [call for call in bench.disk.calls if call == "close"] == ["close"]
            assert bench.disk.calls[-1] == "close"
            assert len(bench.disk.calls) == 2
            assert await is_cut(reader)  # durable, but nobody was told
            with pytest.raises(OSError, match="onnect"):
                await asyncio.open_connection("127.0.0.1", port)

    play(scene)


def test_halt_sends_nothing_more(play: Play) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, _ = await bench.connect()
            bench.core.next = Ready(clients=[(1, b"a lie")], halt="the tree is wrong")
            bench.server.driver.request_pass()
            assert await bench.running == EXIT_HALTED
            assert await is_cut(reader)
            assert "close" not in bench.disk.calls

    play(scene)


def test_failed_disk_ends_the_server_without_an_answer(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            reader, writer = await bench.connect()
            bench.disk.failure = StorageError("fsync: input/output error")
            writer.write(b"w1")
            assert await bench.running == EXIT_HALTED
            assert await is_cut(reader)
            assert "saved" not in bench.core.names()
            assert "close" not in bench.disk.calls

    play(scene)
    assert "the disk failed: fsync: input/output error" in caplog.messages


@pytest.mark.parametrize("entry", ["up", "receive", "down", "ready", "saved", "timer"])
def test_exception_of_the_core_ends_the_server(play: Play, entry: str) -> None:
    async def scene() -> None:
        async with Bench() as bench:
            _, writer = await bench.connect()
            bench.core.fails_on = entry
            if entry == "up":
                await bench.connect_raw()
            elif entry == "down":
                writer.close()
            elif entry == "timer":
                bench.core.due = monotonic_ms()
                bench.server.driver.request_pass()
            else:
                writer.write(b"w1")
            assert await bench.running == EXIT_HALTED

    play(scene)


# --- garbage --------------------------------------------------------------------------


def test_connections_leave_no_cyclic_garbage(play: Play) -> None:
    """The collector is off in a server: what only it could free would never go."""

    async def scene() -> None:
        async with Bench(limits=attrs.evolve(Limits(), connections_per_address_max=0)) as bench:
            await churn(bench, 5)  # what is made once and kept
            gc.collect()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await churn(bench, 50)
                gc.collect()
                mine = [each for each in gc.garbage if type(each).__module__.startswith("zkpy")]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
            assert mine == []

    play(scene)


async def churn(bench: Bench, times: int) -> None:
    """Clients that come, ask, and go, by their own will or the server's."""
    for turn in range(times):
        downs = bench.core.names().count("down")
        opened = socket.create_connection(("127.0.0.1", bench.server.address.port))
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(opened, b"w" if turn % 2 else b"r")
        assert await loop.sock_recv(opened, 10)
        if turn % 3 == 0:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if turn % 3 == 2:
            bench.core.next.closes.append(max(bench.server.clients.links))
            bench.server.driver.request_pass()
            assert await loop.sock_recv(opened, 10) == b""
        opened.close()
        await bench.core.until_called("down", downs + 1)
