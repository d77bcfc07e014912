"""A real server process: start, serve kazoo, stop, die, come back."""

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import make_digest_acl

from tests.server.figures import keys_of
from wire.client import encode_frame
from wire.codes import OpCode
from wire.records import ConnectRequest, GetDataRequest
from zkpy.config.keys import PROMETHEUS
from zkpy.testing.hostile import CONNECT, Case, cases, packet
from zkpy.testing.realserver import free_ports

LIMIT_S = 30
SECRETS = ("open-sesame", "top-secret-data")


class Process:
    """`python -m zkpy ...`, its log read as it comes."""

    def __init__(self, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "zkpy", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.lines: list[str] = []
        self._banner = threading.Event()
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stderr is not None
        with self.child.stderr as stderr:
            for line in stderr:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()
                if "connect with kazoo" in line:
                    self._banner.set()
        self._banner.set()

    @property
    def hosts(self) -> str:
        """What the banner says to connect to."""
        assert self._banner.wait(LIMIT_S)
        found = re.search(r'KazooClient\("([^"]+)"', self.log)
        assert found is not None, self.log
        return found[1]

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def find(self, pattern: str) -> str:
        """What its first group is in the log, once it is there."""
        with self._news:
            assert self._news.wait_for(lambda: re.search(pattern, self.log), LIMIT_S), self.log
        found = re.search(pattern, self.log)
        assert found is not None
        return found[1]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.child.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code


@pytest.fixture
def start() -> Iterator[type[Process]]:
    """Starts processes, and sees to it that none is left."""
    started: list[Process] = []

    class Started(Process):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Started
    for process in started:
        process.end(signal.SIGKILL)


@pytest.fixture
def connect() -> Iterator[type[KazooClient]]:
    clients: list[KazooClient] = []

    class Connected(KazooClient):  # type: ignore[misc]
        def __init__(self, hosts: str) -> None:
            super().__init__(hosts, timeout=LIMIT_S)
            self.start(LIMIT_S)
            clients.append(self)

    yield Connected
    for client in clients:
        client.stop()
        client.close()


def serve(start: type[Process], directory: Path, *more: str) -> Process:
    """Without HTTP, since many of these run at a time; but for whoever asks for it in `more`."""
    none = "-Dadmin.enableServer=false"
    return start("serve", "--port", "0", "--data-dir", str(directory), none, *more)


def test_the_audit_log(start: type[Process], connect: type[KazooClient], tmp_path: Path) -> None:
    server = serve(start, tmp_path, "-D", "audit.enable=true")
    client = connect(server.hosts)
    client.create("/a", b"top-secret-data")
    assert server.end() == 0
    audited = [
        line.split(" INFO     ")[1].rstrip() for line in server.lines if "operation=" in line
    ]
    first, create, last = [line.split("\t") for line in audited]
    assert first[1:] == ["operation=serverStart", "result=success"]
    assert create[2:5] == ["ip=127.0.0.1", "operation=create", "znode=/a"]
    assert last[1:] == ["operation=serverStop", "result=invoked"]
    assert "top-secret-data" not in server.log


def test_serves_kazoo_and_stops_at_once(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data")
    client = connect(server.hosts)
    client.create("/a", b"one", ephemeral=False)
    assert client.get("/a")[0] == b"one"
    assert server.end() == 0
    assert server.log.count("\n") == len(server.lines)
    assert "stopping: SIGTERM" in server.log


def test_data_and_session_outlive_a_restart(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    config = tmp_path / "zoo.cfg"
    port = free_ports(1)[0]
    config.write_text(
        f"tickTime=2000\ndataDir={tmp_path / 'data'}\nclientPort={port}\n"
        "clientPortAddress=127.0.0.1\n"
    )
    server = start(str(config))
    client = connect(server.hosts)
    client.create("/kept", b"v")
    client.create("/mine", b"", ephemeral=True)
    session = client.client_id
    assert server.end(signal.SIGINT) == 0
    server = start("-Dzookeeper.snapCount=100", str(config))
    assert server.hosts == f"127.0.0.1:{port}"
    assert client.retry(client.get, "/kept")[0] == b"v"
    assert client.client_id == session
    assert client.exists("/mine").ephemeralOwner == session[0]


def test_every_acknowledged_create_survives_kill_9(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data")
    client = connect(server.hosts)
    client.create("/many")
    acknowledged: list[str] = []
    killed = threading.Event()
    # Each is a byte in a pipe of kazoo's, which takes 278 of them, and is emptied no more once the
    # server has gone: who writes then waits for good.
    under_way = threading.Semaphore(100)

    def note(index: int, result: object) -> None:
        path = f"/many/{index}"
        under_way.release()
        try:
            assert result.get() == path  # type: ignore[attr-defined]
        except KazooException:
            return
        acknowledged.append(path)
        if len(acknowledged) == 5_000:
            server.child.kill()
            killed.set()

    # As many are asked for as are answered, for as long as the server lives: a number that is asked
    # for at first can be answered before it is killed.
    index = 0
    while not killed.is_set():
        assert under_way.acquire(timeout=LIMIT_S)
        client.create_async(f"/many/{index}", b"v").rawlink(lambda r, i=index: note(i, r))
        index += 1
    assert server.wait() == -signal.SIGKILL
    client.stop()
    settled = list(acknowledged)
    assert len(settled) >= 5_000
    again = connect(serve(start, tmp_path / "data").hosts)
    there = {f"/many/{name}" for name in again.get_children("/many")}
    assert sorted(set(settled) - there) == []


def test_four_letter_words(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data", "-D4lw.commands.whitelist=*")
    client = connect(server.hosts)
    assert client.server_version() == (3, 9, 5)
    assert client.command(b"ruok") == "imok"
    assert client.command(b"isro") == "rw"
    client.create("/a", b"12")
    srvr = client.command(b"srvr")
    assert "Mode: standalone\n" in srvr
    assert f"Zxid: {client.last_zxid:#x}\n" in srvr
    assert "Node count: 5\n" in srvr
    stat = client.command(b"stat")
    one = r" /127\.0\.0\.1:\d+\[1\]\(queued=\d+,recved=\d+,sent=\d+\)\n"
    assert re.search(rf"Clients:\n({one})+\n", stat)
    mntr = dict(line.split("\t") for line in client.command(b"mntr").splitlines())
    assert mntr["zk_znode_count"] == "5"
    assert int(mntr["zk_packets_received"]) >= int(mntr["zk_packets_sent"]) > 1
    assert sorted(keys_of("standalone") - mntr.keys()) == []
    assert int(mntr["zk_cnt_fsynctime"]) > 1
    assert int(mntr["zk_cnt_updatelatency"]) == 2, "the session, and the create"
    assert mntr["zk_cnt_dbinittime"] == mntr["zk_connection_request_count"] == "1"
    sizes = (mntr["zk_min_client_response_size"], mntr["zk_last_client_response_size"])
    assert sizes == ("22", "22"), "the header, and the path of what was created"
    assert mntr["zk_connection_drop_count"] == "0", "words end with a close of the server's"
    assert f"clientPort={server.hosts.rpartition(':')[2]}\n" in client.command(b"conf")
    client.get("/a", watch=print)
    client.create("/mine", ephemeral=True)
    session = f"0x{client.client_id[0]:x}"
    assert client.command(b"wchs") == "1 connections watching 1 paths\nTotal watches:1\n"
    assert client.command(b"wchp") == f"/a\n\t{session}\n\n"
    dump = client.command(b"dump")
    assert f"Sessions with Ephemerals (1):\n{session}:\n\t/mine\n" in dump
    assert f" sessionId: {session}\n" in dump
    whole = rf",sid={session},lop=CREA,est=\d+,to=30000,lcxid=0x3,lzxid={client.last_zxid:#x},"
    assert re.search(whole, client.command(b"cons"))
    assert client.command(b"crst") == "Connection stats reset.\n"
    assert f"(queued=0,recved=0,sent=0,sid={session}" in client.command(b"cons")
    assert client.command(b"srst") == "Server stats reset.\n"
    assert "Latency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 0\n" in client.command(b"srvr")
    mntr = dict(line.split("\t") for line in client.command(b"mntr").splitlines())
    assert (
        mntr["zk_max_fsynctime"] == mntr["zk_cnt_fsynctime"] == mntr["zk_bytes_sent_count"] == "0"
    )
    assert (mntr["zk_znode_count"], mntr["zk_watch_count"]) == ("6", "1"), "what is there, stays"
    assert re.fullmatch(rf"{client.last_zxid:x}: \d+\n", client.command(b"hash"))


def test_http(start: type[Process], connect: type[KazooClient], tmp_path: Path) -> None:
    server = start(
        *("serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
        *("-Dadmin.serverPort=0", "-D4lw.commands.whitelist=srvr,srst"),
        f"-DmetricsProvider.className={PROMETHEUS}",
        *("-DmetricsProvider.httpHost=127.0.0.1", "-DmetricsProvider.httpPort=0"),
        "-DDigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    )
    client = connect(server.hosts)
    session = str(client.client_id[0])
    client.create("/a", b"12")
    client.create("/mine", ephemeral=True)
    client.get("/a", watch=print)
    client.exists("/b", watch=print)
    commands, metrics = (server.find(rf"{what} on (\S+)\n") for what in ("server", "metrics"))

    def ask(name: str, data: bytes | None = None) -> dict[str, Any]:
        with urllib.request.urlopen(f"{commands}/{name}", data, LIMIT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    assert ask("ruok") == {"command": "ruok", "error": None}
    assert ask("dump")["session_id_to_ephemeral_paths"] == {session: ["/mine"]}
    assert list(ask("dump")["expiry_time_to_session_ids"].values()) == [[client.client_id[0]]]
    assert ask("watches")["session_id_to_watched_paths"] == {session: ["/a", "/b"]}
    assert ask("wchp")["path_to_session_ids"]["/b"] == [client.client_id[0]]
    assert ask("wchs")["num_total_watches"] == 2
    assert ask("last_snapshot")["zxid"] == "f" * 16
    assert ask("srvr")["server_stats"]["last_processed_zxid"] == client.last_zxid
    (connection,) = ask("cons")["connections"]
    assert connection["session_id"] == client.client_id[0]
    assert ask("mntr")["cnt_updatelatency"] > 0
    with urllib.request.urlopen(metrics, timeout=LIMIT_S) as answer:
        text = answer.read().decode()
    assert "\nznode_count 6.0\n" in text and "\nephemerals_count 1.0\n" in text
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("srst")
    with refused.value as error:
        assert error.code == 405
    assert ask("srst", b"") == {"command": "stat_reset", "error": None}
    assert ask("mntr")["cnt_updatelatency"] == 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("crst", b"")
    with refused.value as error:
        assert error.code == 403
    assert server.end() == 0


def test_a_port_for_http_that_is_taken(start: type[Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(
            start, tmp_path / "data", "-Dadmin.enableServer=true", f"-Dadmin.serverPort={port}"
        )
        assert server.wait() == 1
    assert server.lines[-1] == (
        f"zkpy: -D: admin.serverPort={port}: cannot listen on 127.0.0.1:{port}: "
        "Address already in use\n"
    )
    assert not (tmp_path / "data").exists()


def test_words_that_are_answered_without_being_asked_for(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    client = connect(serve(start, tmp_path / "data").hosts)
    assert client.command(b"ruok") == "imok"
    assert client.command(b"dump") == ("dump is not executed because it is not in the whitelist.\n")


def test_port_that_is_taken(start: type[Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start("serve", "--port", str(port), "--data-dir", str(tmp_path / "data"))
        assert server.wait() == 1
    assert server.lines == [
        f"zkpy: cannot listen on 127.0.0.1:{port}: Address already in use; is a server running "
        "there? Another port is chosen with --port or clientPort\n"
    ]
    assert not (tmp_path / "data").exists()


def test_directory_that_is_taken(start: type[Process], tmp_path: Path) -> None:
    first = serve(start, tmp_path / "data")
    assert first.hosts
    second = serve(start, tmp_path / "data")
    assert second.wait() == 1
    (line,) = second.lines
    assert line.startswith("zkpy: ")
    assert str(tmp_path / "data") in line


def test_directory_of_another_program(start: type[Process], tmp_path: Path) -> None:
    (tmp_path / "version-2").mkdir()
    server = serve(start, tmp_path)
    assert server.wait() == 1
    (line,) = server.lines
    assert "version-2" in line


def test_own_name_that_cannot_be_looked_up(start: type[Process], tmp_path: Path) -> None:
    config = tmp_path / "zoo.cfg"
    config.write_text(
        f"dataDir={tmp_path}\nclientPort=0\nserver.1=a.invalid:1:2\nserver.2=b.invalid:1:2\n"
    )
    (tmp_path / "myid").write_text("1")
    server = start(str(config))
    assert server.wait() == 1
    assert server.lines[-1] == (
        f"zkpy: {config}: server.1: cannot listen on a.invalid:1 (TCP, the quorum port): "
        "the name a.invalid cannot be looked up\n"
    )


def test_a_file_for_one_server_with_id(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    (tmp_path / "myid").write_text("7\n")
    config = tmp_path / "zoo.cfg"
    config.write_text(
        f"dataDir={tmp_path}\nclientPort=0\nclientPortAddress=127.0.0.1\nserver.7=localhost:1:2\n"
    )
    server = start(str(config))
    client = connect(server.hosts)
    assert client.client_id[0] >> 56 == 7
    assert server.end() == 0
    (tmp_path / "myid").write_text("8\n")
    config.write_text(config.read_text().replace("server.7", "server.8"))
    again = start(str(config))
    assert again.wait() == 1
    assert "it says 8, but the data there is that of server 7" in again.lines[-1]


def test_log_holds_no_secrets(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    superuser = "-DDigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
    server = serve(start, tmp_path / "data", superuser)
    client = connect(server.hosts)
    client.add_auth("digest", "me:open-sesame")
    client.create("/a", b"top-secret-data", acl=[make_digest_acl("me", "open-sesame", all=True)])
    password = client.client_id[1]
    host, _, port = server.hosts.partition(":")
    with socket.create_connection((host, int(port))) as hostile:
        hostile.sendall(b"\0\0\0\4junk" + b"top-secret-data" * 9)
        hostile.recv(10)
    assert server.end() == 0
    for secret in (*SECRETS, "D/InIHSb7yEE", password.hex(), repr(password)):
        assert secret not in server.log


def test_no_founding_without_leave(start: type[Process], tmp_path: Path) -> None:
    server = serve(start, tmp_path / "data", "-Ddb.autocreate=false")
    assert server.wait() == 1
    assert "it holds no data yet, and db.autocreate is false" in server.lines[-1]


def test_damaged_log_is_refused(start: type[Process], tmp_path: Path) -> None:
    first = serve(start, tmp_path / "data")
    assert first.hosts
    assert first.end() == 0
    (log,) = (tmp_path / "data").glob("gen-*/log.*")
    log.unlink()
    server = serve(start, tmp_path / "data")
    assert server.wait() == 1
    (line,) = server.lines
    assert line.startswith(f"zkpy: {tmp_path / 'data'}: ")
    assert "acknowledged writes may be missing" in line


# --- hostile clients --------------------------------------------------------------------


def dial(hosts: str) -> socket.socket:
    host, _, port = hosts.partition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


def throw(hosts: str, case: Case) -> None:
    """One hostile connection, reset at its end so that no answer is waited for."""
    with dial(hosts) as hostile:
        hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            if case.connected:
                hostile.sendall(encode_frame(CONNECT.encode()))
                hostile.recv(100)
            for piece in case.pieces:
                hostile.sendall(piece)
        except OSError:  # refused in the middle of it
            return


def memory_of(server: Process) -> int:
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_malformed_input_does_not_disturb_the_others(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data", "-DmaxClientCnxns=0", "-DmaxSessionTimeout=4000")
    client = connect(server.hosts)
    client.create("/h")
    client.create("/h/a")
    sample = list(islice(cases(2), 0, 30_000, 61))
    for case in sample[:100]:
        throw(server.hosts, case)
    before = memory_of(server)
    for number, case in enumerate(sample[100:]):
        throw(server.hosts, case)
        if number % 50 == 0:
            value = b"%d" % number
            client.set("/h/a", value)
            assert client.get("/h/a")[0] == value
    assert client.state == "CONNECTED"
    assert "CRITICAL" not in server.log and "Traceback" not in server.log
    assert memory_of(server) - before < 32 * 1024 * 1024
    assert server.end() == 0


def test_a_client_that_never_reads_costs_little_and_ends_with_its_session(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data", "-DtickTime=500", "-DmaxSessionTimeout=30000")
    client = connect(server.hosts)
    client.create("/big", bytes(1_000_000))
    client.create("/small")
    read = encode_frame(packet(OpCode.GET_DATA, GetDataRequest("/big", False)))
    before = memory_of(server)
    with dial(server.hosts) as greedy:
        greedy.sendall(encode_frame(ConnectRequest(0, 0, 1000, 0, bytes(16), False).encode()))
        greedy.recv(100)
        greedy.sendall(read * 900)
        while "expiring session" not in server.log:
            client.set("/small", b"x")
            assert len(client.get("/big")[0]) == 1_000_000
        assert memory_of(server) - before < 32 * 1024 * 1024


def test_a_client_that_reads_gets_all_that_it_asked_for_at_once(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    server = serve(start, tmp_path / "data")
    client = connect(server.hosts)
    client.create("/big", bytes(1_000_000))
    read = encode_frame(packet(OpCode.GET_DATA, GetDataRequest("/big", False)))
    with dial(server.hosts) as busy:
        busy.sendall(encode_frame(CONNECT.encode()))
        busy.recv(100)
        busy.sendall(read * 150)
        left = 150 * (20 + 4 + 1_000_000 + 68)  # header, length, data, Stat
        while left:
            left -= len(busy.recv(min(left, 1 << 20)))
    assert "dropping" not in server.log


def test_what_recovery_put_right_is_in_the_log(
    start: type[Process], connect: type[KazooClient], tmp_path: Path
) -> None:
    """A torn batch is cut off; of an image that cannot be read an older one stands in."""
    server = serve(start, tmp_path / "data")
    client = connect(server.hosts)
    client.create("/a", b"v")
    server.end(signal.SIGKILL)
    (segment,) = (tmp_path / "data" / "gen-0001").glob("log.*")
    with segment.open("r+b") as file:
        file.truncate(len(file.read().rstrip(b"\0")) - 1)
    damaged = segment.with_name("image.0000000100000001")
    damaged.write_bytes(b"no image")
    again = serve(start, tmp_path / "data")
    assert again.hosts
    told = [line for line in again.lines if "WARNING" in line]
    assert any(f"{damaged.name}" in line and "older image" in line for line in told), told
    assert any("cut off a torn batch behind 0x1" in line for line in told), told


def test_a_handshake_that_takes_too_long_is_ended(start: type[Process], tmp_path: Path) -> None:
    server = serve(start, tmp_path / "data", "-Dnio.sessionlessCnxnTimeout=200")
    with dial(server.hosts) as idle, dial(server.hosts) as slow:
        slow.sendall(encode_frame(CONNECT.encode())[:20])
        assert idle.recv(1) == slow.recv(1) == b""
