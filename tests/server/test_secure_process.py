"""TLS with a real server and kazoo: who a client is, what it may do, and what stops a start."""

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import InvalidACLError, NoAuthError, SessionClosedRequireSaslError
from kazoo.security import CREATOR_ALL_ACL, make_acl

from tests.server.authority import Authority, Issued, lines_of
from tests.server.test_process import LIMIT_S, Process, start
from zkpy.testing.realserver import free_ports

__all__ = ["start"]  # a fixture

Serve = Callable[..., "Secure"]
Connect = Callable[..., KazooClient]


@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Secure:
    """A process with a port for TLS, and perhaps a plain one."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def plain(self) -> str:
        return self.process.hosts

    def ask(self, word: bytes, context: ssl.SSLContext) -> str:
        with (
            socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as below,
            context.wrap_socket(below) as opened,
        ):
            opened.sendall(word)
            return b"".join(iter(lambda: opened.recv(65536), b"")).decode()


@pytest.fixture
def serve(start: type[Process], authority: Authority, tmp_path: Path) -> Serve:
    def run(*lines: str, plain: bool = True) -> Secure:
        (port,) = free_ports(1)
        given = [*lines_of(authority, authority.issue("CN=server")), *lines]
        return Secure(start_with(start, tmp_path, port, *given, plain=plain), port)

    return run


def start_with(
    start: type[Process],
    directory: Path,
    port: int,
    *lines: str,
    plain: bool = True,
) -> Process:
    path = directory / "zoo.cfg"
    fixed = [
        "tickTime=2000",
        f"dataDir={directory / 'data'}",
        "4lw.commands.whitelist=*",
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        *(["clientPort=0", "clientPortAddress=127.0.0.1"] if plain else []),
    ]
    path.write_text("\n".join([*fixed, *lines]) + "\n")
    return start("serve", str(path))


@pytest.fixture
def connect(authority: Authority) -> Iterator[Connect]:
    clients: list[KazooClient] = []

    def run(server: Secure, issued: Issued | None = None) -> KazooClient:
        assert server.process.hosts
        given = {"certfile": str(issued.save("client"))} if issued is not None else {}
        client = KazooClient(
            f"127.0.0.1:{server.port}",
            timeout=LIMIT_S,
            use_ssl=True,
            ca=str(authority.path),
            keyfile=given.get("certfile"),
            **given,
        )
        clients.append(client)
        client.start(LIMIT_S)
        return client

    yield run
    for client in clients:
        client.stop()
        client.close()


def test_acls_name_the_subject(serve: Serve, connect: Connect, authority: Authority) -> None:
    server = serve()
    ann = connect(server, authority.issue("CN=ann,O=Example"))
    assert ann.create("/own", b"1", acl=CREATOR_ALL_ACL) == "/own"
    acl, _ = ann.get_acls("/own")
    assert [(each.id.scheme, each.id.id) for each in acl] == [("x509", "CN=ann,O=Example")]
    bob = connect(server, authority.issue("CN=bob"))
    with pytest.raises(NoAuthError):
        bob.get("/own")
    ann.set_acls("/own", [make_acl("x509", "CN=bob", read=True), *acl])
    assert bob.get("/own")[0] == b"1"
    with pytest.raises(NoAuthError):
        bob.set("/own", b"2")
    with pytest.raises(InvalidACLError):
        ann.create("/odd", acl=[make_acl("x509", "no name", read=True)])
    plain = KazooClient(server.plain)
    plain.start(LIMIT_S)
    with pytest.raises(NoAuthError):
        plain.get("/own")
    plain.stop()
    plain.close()


def test_a_superuser_is_known_by_the_certificate(
    serve: Serve, connect: Connect, authority: Authority
) -> None:
    server = serve("X509AuthenticationProvider.superUser=CN=root,O=Example")
    ann = connect(server, authority.issue("CN=ann"))
    ann.create("/own", b"1", acl=CREATOR_ALL_ACL)
    root = connect(server, authority.issue("CN=root,O=Example"))
    assert root.get("/own")[0] == b"1"
    root.set_acls("/own", [make_acl("auth", "", all=True)])
    assert [each.id.id for each in root.get_acls("/own")[0]] == ["CN=root,O=Example"]


def test_a_certificate_can_be_asked_of_everybody(
    serve: Serve, connect: Connect, authority: Authority
) -> None:
    server = serve("enforce.auth.enabled=true", "enforce.auth.schemes=x509")
    connect(server, authority.issue("CN=ann")).create("/a")
    plain = KazooClient(server.plain)
    plain.start(LIMIT_S)
    with pytest.raises(SessionClosedRequireSaslError):
        plain.get("/a")
    plain.stop()
    plain.close()


def test_without_a_plain_port(serve: Serve, connect: Connect, authority: Authority) -> None:
    server = serve(plain=False)
    issued = authority.issue("CN=ann")
    connect(server, issued).create("/a")
    assert "use_ssl=True" in server.process.log
    context = authority.client(issued)
    assert server.ask(b"ruok", context) == "imok"
    conf = server.ask(b"conf", context)
    assert f"secureClientPort={server.port}\n" in conf and "clientPort=-1\n" in conf
    assert len(re.findall(r"^ /127.0.0.1:", server.ask(b"cons", context), re.MULTILINE)) == 2
    mntr = dict(line.split("\t") for line in server.ask(b"mntr", context).splitlines())
    assert mntr["zk_num_alive_connections"] == "2"
    assert mntr["zk_unsuccessful_handshake"] == mntr["zk_tls_handshake_exceeded"] == "0"
    assert server.process.end() == 0


def test_both_ports_serve_one_tree(serve: Serve, connect: Connect, authority: Authority) -> None:
    server = serve()
    assert f"with TLS on port {server.port}" in (server.plain and server.process.log)
    connect(server, authority.issue()).create("/a", b"1")
    plain = KazooClient(server.plain)
    plain.start(LIMIT_S)
    assert plain.get("/a")[0] == b"1"
    assert f"secureClientPort={server.port}\n" in plain.command(b"conf")
    plain.stop()
    plain.close()


PASSWORD = "open-sesame-5"
WORDS = (b"conf", b"envi", b"mntr", b"cons", b"dump", b"stat")


@pytest.mark.parametrize("fails", [False, True])
def test_no_password_is_told(
    start: type[Process],
    connect: Connect,
    authority: Authority,
    tmp_path: Path,
    fails: bool,
) -> None:
    """Neither by a server that starts, by word or log, nor by one that does not."""
    issued = authority.issue("CN=server")
    (tmp_path / "key.pem").write_bytes(issued.pem("another" if fails else PASSWORD))
    (port,) = free_ports(1)
    process = start_with(
        start,
        tmp_path,
        port,
        f"ssl.keyStore.location={tmp_path}/key.pem",
        f"ssl.keyStore.password={PASSWORD}",
        f"ssl.trustStore.location={authority.path}",
        f"ssl.trustStore.password={PASSWORD}",
    )
    if fails:
        assert process.wait() == 1
        assert "ssl.keyStore.password" in process.log
    else:
        server = Secure(process, port)
        connect(server, issued)
        context = authority.client(issued)
        told = [server.ask(word, context) for word in WORDS]
        assert all(told) and PASSWORD not in "".join(told)
        process.end()
    assert PASSWORD not in process.log
    assert PASSWORD not in repr(read_config(tmp_path))


def read_config(directory: Path) -> object:
    from zkpy import config

    return config.load(str(directory / "zoo.cfg"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "zoo.cfg:4: secureClientPort={port}: needs ssl.keyStore.location"),
        (
            ["ssl.keyStore.location=/none.pem"],
            "zoo.cfg:4: secureClientPort={port}: needs ssl.trust",
        ),
        (
            ["ssl.keyStore.location=/none.pem", "ssl.clientAuth=none"],
            "zoo.cfg:8: ssl.keyStore.location=/none.pem: /none.pem cannot be read: No such file",
        ),
        (
            ["ssl.keyStore.location=/none.kdb"],
            "zoo.cfg:8: ssl.keyStore.location=/none.kdb: the name ends in none of .jks, .pem, .p12",
        ),
        (["ssl.keyStore.type=BCFKS"], "zoo.cfg:8: ssl.keyStore.type=BCFKS: one of JKS, PEM"),
        (["ssl.ocsp=true"], "zoo.cfg:8: ssl.ocsp=true: nobody is asked here"),
        (["ssl.protocol=TLSv1.1"], "zoo.cfg:8: ssl.protocol=TLSv1.1: TLSv1.2 and TLSv1.3"),
    ],
)
def test_what_cannot_be_right_stops_the_start_and_touches_nothing(
    start: type[Process],
    tmp_path: Path,
    lines: list[str],
    said: str,
) -> None:
    (port,) = free_ports(1)
    process = start_with(start, tmp_path, port, *lines)
    assert process.wait() == 1
    (line,) = process.log.splitlines()
    assert said.format(port=port) in line.replace(f"{tmp_path}/", "")
    assert not (tmp_path / "data").exists()


def test_who_speaks_no_tls_does_not_load_it() -> None:
    """It would be megabytes; and a PEM or JKS store needs no package of its own."""
    look = (
        "import sys, zkpy.server.app; seen = set(sys.modules); import zkpy.server.peer_tls;"
        "import zkpy.server.secure; print('zkpy.server.tls' in seen, 'cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
