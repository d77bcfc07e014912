"""Ensembles of real processes: they form, survive their leader, take members back."""

import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.protocol.states import WatchedEvent

from tests.server.figures import keys_of, left_out
from tests.server.members import LIMIT_S, Member, Members
from wire.client import ClientConnection, Reply, Request, Role
from wire.codes import OpCode
from wire.records import OPEN_ACL, ConnectRequest, CreateRequest


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """Three voters and an observer.  Each test leaves all four serving."""
    members = Members(tmp_path_factory.mktemp("ensemble"), 3, 1, "tickTime=500")
    try:
        members.start()
        yield members
    finally:
        members.end()


def test_each_member_takes_writes_and_shows_those_of_the_others(ensemble: Members) -> None:
    clients = [ensemble.connect(each.hosts) for each in ensemble.all]
    clients[0].ensure_path("/each")
    for number, client in enumerate(clients):
        client.create(f"/each/{number}", str(number).encode())
    for client in clients:
        client.sync("/each")
        assert sorted(client.get_children("/each")) == ["0", "1", "2", "3"]
        assert client.get("/each/3")[0] == b"3"


def test_what_members_say_about_themselves(ensemble: Members) -> None:
    modes = [each.monitor()["zk_server_state"] for each in ensemble.all]
    assert sorted(modes) == ["follower", "follower", "leader", "observer"]
    assert modes[3] == "observer"
    assert [each.ask("isro") for each in ensemble.all] == ["rw"] * 4
    leader = ensemble.find_leader()
    shown = leader.monitor()
    assert shown["zk_synced_followers"] == "2"
    assert shown["zk_learners"] == "3"
    assert shown["zk_quorum_size"] == "3"
    assert int(shown["zk_cnt_leader_unavailable_time"]) >= 1
    text = "".join(leader.lines)
    assert f"server {leader.number}, one of 3 voters, listening on" in text
    assert "PEERS ARE NOT AUTHENTICATED" in text
    assert "cannot reach this one" not in text, "all are on loopback"


def test_own_name_that_stands_for_loopback(tmp_path: Path) -> None:
    """As in Debian's /etc/hosts.  The others are elsewhere, and would wait without a word."""
    member = Members(tmp_path, 3).all[0]
    own = f"server.1=localhost:{member.quorum_port}:{member.election_port}\n"
    member.write_files(f"{own}server.2=203.0.113.2:2888:3888\nserver.3=zk3.invalid:2888:3888\n")
    member.start()
    try:
        member.until(lambda lines: "looking for a leader" in "".join(lines))
    finally:
        member.end()
    (line,) = [line for line in member.lines if "cannot reach this one" in line]
    assert "server.1 names localhost, which is 127.0.0.1" in line
    assert "quorumListenOnAllIPs=true" in line


def test_every_role_shows_the_figures_of_zookeepers(ensemble: Members) -> None:
    """All but those that docs/metrics.md calls missing; a leader shows its own acks at least."""
    for each in ensemble.all:
        shown = each.monitor()
        wanted = keys_of(shown["zk_server_state"], each.number)
        assert len(wanted) > 150
        assert sorted(wanted - shown.keys()) == []
        assert not {f"zk_{key}" for key in left_out()} & shown.keys()


def test_every_member_shows_all_sessions(ensemble: Members) -> None:
    client = ensemble.connect(ensemble.all[3].hosts)
    assert client.client_id is not None
    session = f"\n0x{client.client_id[0]:x}\t10000ms\n"
    leader = ensemble.find_leader()
    for each in ensemble.all:
        ensemble.connect(each.hosts).sync("/")
        said = each.ask("dump")
        assert (each is leader) == ("\nSession Sets (" in said)
        assert (each is leader) != (session in said)
        assert (each is leader) != ("\nGlobal Sessions(" in said)
        assert " sessionId: 0x0\n" in said, "the connection that asks has none"


def test_killed_leader_is_replaced_and_comes_back(ensemble: Members) -> None:
    client = ensemble.connect(ensemble.hosts)
    client.ensure_path("/failover")
    session = client.client_id
    client.create("/failover/mine", ephemeral=True)
    leader = ensemble.find_leader()
    leader.end()
    for number in range(20):
        client.retry(client.create, f"/failover/{number}", b"v")
    assert client.client_id == session
    assert client.exists("/failover/mine").ephemeralOwner == session[0]
    leader.start()
    leader.until_serving()
    returned = ensemble.connect(leader.hosts)
    returned.sync("/failover")
    assert len(returned.get_children("/failover")) == 21
    returned.create("/failover/again")
    assert leader.ask("srvr").count("Mode: follower\n") == 1


def test_member_that_lost_its_data_gets_it_anew(ensemble: Members) -> None:
    leader = ensemble.find_leader()
    lost = next(each for each in ensemble.all[:3] if each is not leader)
    assert lost.end(signal.SIGTERM) == 0
    client = ensemble.connect(leader.hosts)
    client.create("/anew", b"v" * 100)
    text = lost.config.read_text()
    remove(lost.data)
    lost.write_files(text.partition("clientPortAddress=127.0.0.1\n")[2])
    lost.start()
    lost.until_serving()
    assert ensemble.connect(lost.hosts).get("/anew")[0] == b"v" * 100


def remove(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_session_moves_between_members(ensemble: Members) -> None:
    """As kazoo does it when a server goes: with id and password to another one."""
    first, second = (each for each in ensemble.all[:3] if each is not ensemble.find_leader())
    client = ensemble.connect(first.hosts)
    client.create("/moved", b"", ephemeral=True)
    session = client.client_id
    gone, back = threading.Event(), threading.Event()

    def note(state: str) -> None:
        (back if gone.is_set() and state == "CONNECTED" else gone).set()

    client.add_listener(note)
    client.set_hosts(second.hosts)
    first.end()
    assert back.wait(LIMIT_S)
    assert client.client_id == session
    assert client.exists("/moved").ephemeralOwner == session[0]
    assert f"sid=0x{session[0]:x}" in second.ask("cons")
    first.start()
    first.until_serving()


@pytest.mark.parametrize("index", [0, 3], ids=["voter", "observer"])
def test_ephemeral_goes_when_its_session_expires(ensemble: Members, index: int) -> None:
    """The owner falls silent without a word, behind one server; the event comes at another."""
    watching = ensemble.connect(ensemble.all[1].hosts)
    deleted = threading.Event()
    path = f"/silent-{index}"

    def note(event: WatchedEvent) -> None:
        if event.type == "DELETED":
            deleted.set()

    owner = leave_ephemeral(ensemble.all[index], path)
    try:
        watching.sync(path)
        # On a slow machine its session, of a second, may have ended before anybody looks.
        assert watching.exists(path, watch=note) is None or deleted.wait(LIMIT_S)
    finally:
        owner.close()


def leave_ephemeral(member: Member, path: str) -> socket.socket:
    """A session of the shortest time-out, which nobody keeps alive."""
    connection = ClientConnection(Role.CLIENT, 1 << 20)
    opened = socket.create_connection(("127.0.0.1", member.client_port), LIMIT_S)
    opened.sendall(connection.send(ConnectRequest(0, 0, 100, 0, bytes(16), False)))
    assert connection.receive_data(opened.recv(4096))
    create = CreateRequest(path, b"", list(OPEN_ACL), 1)
    opened.sendall(connection.send(Request(1, OpCode.CREATE, create)))
    (created,) = connection.receive_data(opened.recv(4096))
    assert isinstance(created, Reply) and created.error == 0
    return opened


def test_member_without_a_quorum(tmp_path: Path) -> None:
    """It says so, and ends at once when it is told to."""
    members = Members(tmp_path, 3)
    alone = members.all[0]
    alone.start()
    try:
        alone.until(lambda lines: any("looking for a leader" in line for line in lines))
        assert alone.ask("ruok") == "imok"
        assert alone.ask("isro") == "null"
        assert "not currently serving requests" in alone.ask("srvr")
        assert alone.end(signal.SIGTERM) == 0
    finally:
        members.end()


def test_the_log_says_who_votes_whatever_the_files_say(tmp_path: Path) -> None:
    """A line is added to one file, as one would with ZooKeeper."""
    members = Members(tmp_path, 3)
    first = members.all[0]
    lines = first.config.read_text().partition("clientPortAddress=127.0.0.1\n")[2]
    try:
        members.start()
        assert first.end(signal.SIGTERM) == 0
        first.write_files(f"{lines}\nserver.4=localhost:1:2")
        first.start()
        first.until_serving()
        text = "".join(first.lines)
        assert (
            f"WARNING  {first.config} names voters 1 2 3 4, the ensemble's are voters 1 2 3: these "
            "count, and only `zkpy reconfig` (reconfigEnabled=true) changes them\n"
        ) in text
        assert text.count("the ensemble's are") == 1
        assert "server 1, one of 3 voters, listening on" in text
        shown = first.ask("conf").partition("membership: \n")[2].split("\n")
        assert shown[0] == (
            f"server.1=localhost:{first.quorum_port}:{first.election_port}:participant"
        )
        names = [line.partition("=")[0] for line in shown]
        assert names == ["server.1", "server.2", "server.3", "version"]
    finally:
        members.end()


def test_too_few_that_have_their_data_say_so(tmp_path: Path) -> None:
    """D5: two of three have lost their directories; nobody leads, and an operator learns why."""
    members = Members(tmp_path, 3, more="tickTime=500")
    try:
        members.start()
        for each in members.all:
            each.end()
        *wiped, kept = members.all
        for each in wiped:
            shutil.rmtree(each.data)
            each.data.mkdir()
            (each.data / "myid").write_text(f"{each.number}\n")
        for each in members.all:
            each.start()
        kept.until(lambda lines: any("no leader can be elected" in line for line in lines))
        said = kept.ask("srvr")
        assert said.startswith("This ZooKeeper instance is not currently serving requests\n")
        assert "server 1 has no data, server 2 has no data" in said
    finally:
        members.end()


@pytest.mark.parametrize(
    "kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["quorum", "election"]
)
def test_port_for_members_that_is_taken(tmp_path: Path, kind: int) -> None:
    members = Members(tmp_path, 3)
    member = members.all[0]
    stream = kind == socket.SOCK_STREAM
    port = member.quorum_port if stream else member.election_port
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", port))
        if stream:
            taken.listen()
        member.start()
        member.until(lambda lines: lines and lines[-1] == "")
    assert member.child is not None
    assert member.child.wait(LIMIT_S) == 1
    use = "TCP, the quorum port" if stream else "UDP, the election port"
    assert member.lines[-2] == (
        f"zkpy: {member.config}: server.1: cannot listen on localhost:{port} ({use}): "
        "Address already in use\n"
    )
    assert sorted(path.name for path in member.data.iterdir()) == ["myid"]
