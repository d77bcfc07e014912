"""SASL with real servers and kazoo: users of a JAAS file, on one server and on each of three."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient, KazooState, KeeperState
from kazoo.exceptions import (
    InvalidACLError,
    NoAuthError,
    SessionClosedRequireSaslError,
)
from kazoo.security import make_acl

from zkpy.testing.realserver import ZKPY, RealEnsemble, RealServer

PROVIDER = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n"
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
BOBS = [make_acl("sasl", "bob", all=True)]


@pytest.fixture
def jaas(tmp_path: Path) -> str:
    """The lines of zoo.cfg."""
    path = tmp_path / "jaas.conf"
    path.write_text(f'Server {{ {MODULE} required user_bob="open-sesame" user_root="hush"; }};')
    path.chmod(0o600)
    return f"{PROVIDER}java.security.auth.login.config={path}\nsuperUser=root\n"


def make_client(hosts: str, user: str, password: str) -> KazooClient:
    sasl = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
    return KazooClient(hosts, timeout=10, sasl_options=sasl if user else None)


@contextmanager
def session(hosts: str, user: str = "", password: str = "") -> Iterator[KazooClient]:
    client = make_client(hosts, user, password)
    try:
        client.start(30)
        yield client
    finally:
        client.stop()
        client.close()


def check_refused(hosts: str, user: str, password: str) -> None:
    """kazoo says that it is connected when it has a session, and authenticates then."""
    client, lost = make_client(hosts, user, password), threading.Event()
    states: list[str] = []

    def listen(state: str) -> None:
        if state == KazooState.LOST:
            states.append(client.client_state)
            lost.set()

    client.add_listener(listen)
    client.start_async()
    try:
        assert lost.wait(30)
    finally:
        client.stop()
        client.close()
    assert states[0] == KeeperState.AUTH_FAILED


def test_users(tmp_path: Path, jaas: str) -> None:
    with RealServer(tmp_path, more=jaas) as server:
        with session(server.hosts, "bob", "open-sesame") as bob:
            bob.create("/a", b"for bob", acl=BOBS)
            bob.create("/b", acl=[make_acl("auth", "", all=True)])
            assert [(acl.id.scheme, acl.id.id) for acl in bob.get_acls("/b")[0]] == [
                ("sasl", "bob")
            ]
            with session(server.hosts) as nobody, pytest.raises(NoAuthError):
                nobody.get("/a")
            with session(server.hosts, "root", "hush") as root:
                assert root.get("/a")[0] == b"for bob"
            server.restart()
            # The session goes on, on a new connection, on which kazoo authenticates again.
            assert bob.retry(bob.get, "/a")[0] == b"for bob"
        for user, password in (("bob", "open"), ("ann", "open-sesame")):
            check_refused(server.hosts, user, password)
        assert "zk_auth_failed_count\t2\n" in server.ask("mntr")
        assert server.ask("srst") and "zk_auth_failed_count\t0\n" in server.ask("mntr")
        words = "".join(map(server.ask, ("conf", "cons", "dump", "envi", "mntr", "stat")))
        for shown in (server.log.read_text(), words):
            assert "open-sesame" not in shown and "hush" not in shown
        assert "WARNING" in next(
            line for line in server.log.read_text().splitlines() if "authenticate by SASL" in line
        )


def test_without_the_provider_no_acl_names_a_user(tmp_path: Path, jaas: str) -> None:
    with (
        RealServer(tmp_path, more=jaas.replace(PROVIDER, "")) as server,
        session(server.hosts, "bob", "open-sesame") as bob,
        pytest.raises(InvalidACLError),
    ):
        bob.create("/a", acl=BOBS)


def test_every_member_knows_its_users(tmp_path: Path, jaas: str) -> None:
    """And the leader whom a follower or an observer forwards for."""
    ensemble = RealEnsemble(tmp_path)
    for server in ensemble.servers:
        third = next(each for each in server.more.splitlines() if each.startswith("server.3="))
        server.more = server.more.replace(third, f"{third}:observer") + jaas
    with ensemble:
        for server in ensemble.servers:
            with session(server.hosts, "bob", "open-sesame") as bob:
                bob.create(f"/{server.number}", acl=BOBS)
                bob.set(f"/{server.number}", b"x")
            with session(server.hosts) as nobody:
                nobody.sync(f"/{server.number}")
                with pytest.raises(NoAuthError):
                    nobody.get(f"/{server.number}")
                with pytest.raises(NoAuthError):
                    nobody.set(f"/{server.number}", b"y")


def test_all_clients_have_to_be_users(tmp_path: Path, jaas: str) -> None:
    more = jaas + "sessionRequireClientSASLAuth=true\n"
    server = RealServer(tmp_path, ZKPY, more=more)
    server.start(wait=False)
    try:
        with session(server.hosts, "bob", "open-sesame") as bob:
            assert bob.get_children("/") == ["zookeeper"]
        with session(server.hosts) as nobody, pytest.raises(SessionClosedRequireSaslError):
            nobody.get_children("/")
    finally:
        server.stop()
