"""`zkpy shell` against a real server: every command, its refusals, and completion."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.client import KazooClient
from kazoo.protocol.states import Callback

from zkpy.cli import quotas
from zkpy.cli.arguments import UsageError
from zkpy.cli.context import Context
from zkpy.cli.link import Client, Link
from zkpy.cli.main import zkpy
from zkpy.cli.shell import DONE, REFUSED, WRONG, Prompt
from zkpy.cli.verbs import BY_NAME, VERBS, parse_acl, show_acl
from zkpy.testing.realserver import free_ports

LIMIT_S = 30


@contextmanager
def serving(data: Path, port: str = "0") -> Iterator[str]:
    """A server, and where it is."""
    options = ["--port", port, "--data-dir", str(data), "-DextendedTypesEnabled=true"]
    options.append("-Dadmin.enableServer=false")
    child = subprocess.Popen(
        [sys.executable, "-m", "zkpy", "serve", *options], stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    with child.stderr as stderr:
        found = re.search(r'KazooClient\("(.+)"\)', stderr.readline())
        assert found is not None
        yield found[1]
        child.send_signal(signal.SIGTERM)
        assert child.wait(LIMIT_S) == 0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own for this module."""
    with serving(tmp_path_factory.mktemp("shell") / "data") as hosts:
        yield hosts


@pytest.fixture
def link(hosts: str) -> Iterator[Link]:
    link = Link(hosts, LIMIT_S)
    yield link
    link.close()


@pytest.fixture
def client(link: Link) -> KazooClient:
    """Connected, and nothing there."""
    client = link.client
    for name in set(client.get_children("/")) - {"zookeeper"}:
        client.delete(f"/{name}", recursive=True)
    return client


class Shell:
    """Runs lines and collects what they say."""

    def __init__(self, link: Link, capsys: pytest.CaptureFixture[str]) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()
        self.interrupt_at: str | None = None
        self.context = Context(link, self.tell)
        self.prompt = Prompt(self.context)
        self._capsys = capsys

    def tell(self, said: str | bytes) -> None:
        line = said if isinstance(said, str) else said.decode()
        self.said.append(line)
        self.heard.set()
        if line == self.interrupt_at:
            raise KeyboardInterrupt

    def until(self, line: str) -> None:
        while line not in self.said:
            self.heard.clear()
            if line not in self.said:
                assert self.heard.wait(LIMIT_S), (line, self.said)

    def __call__(self, line: str) -> str:
        self.said.clear()
        assert self.prompt.run_line(line) == DONE, self._capsys.readouterr().err
        return "\n".join(self.said)

    def refused(self, line: str, code: int = REFUSED) -> str:
        assert self.prompt.run_line(line) == code
        return self._capsys.readouterr().err


@pytest.fixture
def do(link: Link, client: KazooClient, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(link, capsys)


# --- znodes -----------------------------------------------------------------------------


def test_create_get_set_delete(do: Shell, client: KazooClient) -> None:
    assert do('create /a "two words"') == "Created /a"
    assert do("get /a") == "two words"
    assert "dataVersion = 1" in do("set -s /a new")
    assert do("get -s /a").splitlines()[0] == "new"
    assert "the version is another" in do.refused("set -v 0 /a x")
    assert "the version is another" in do.refused("delete -v 7 /a")
    assert "the znode exists" in do.refused("create /a")
    do("delete /a")
    assert "there is no such znode" in do.refused("get /a")
    assert "there is no such znode" in do.refused("stat /a")
    assert client.exists("/a") is None


def test_a_hash_is_data(do: Shell, client: KazooClient) -> None:
    do("create /a #1")
    assert client.get("/a")[0] == b"#1"
    do("set /a one#two")
    assert client.get("/a")[0] == b"one#two"


def test_kinds_of_znodes(do: Shell, client: KazooClient) -> None:
    do("create /q")
    assert do("create -s /q/n-") == "Created /q/n-0000000000"
    assert do("create -s /q/") == "Created /q/0000000001"
    do("create -e /mine")
    assert client.exists("/mine").ephemeralOwner == client.client_id[0]
    assert do("getEphemerals") == "/mine"
    assert do("create -c /box") == "Created /box"
    assert do("create -t 60000 /soon x") == "Created /soon"
    assert do("create -s -t 60000 /soon/n-") == "Created /soon/n-0000000000"
    assert "cannot be used with -e, -s or -t" in do.refused("create -c -e /x", WRONG)
    assert "cannot be used with -e" in do.refused("create -t 5 -e /x", WRONG)
    assert "ephemerals have no children" in do.refused("create /mine/x")


def test_listing(do: Shell, client: KazooClient) -> None:
    client.create("/a/b/c", b"", makepath=True)
    client.create("/a/d")
    assert do("ls /a") == "b\nd"
    assert do("ls -R /a") == "/a\n/a/b\n/a/b/c\n/a/d"
    assert "numChildren = 2" in do("ls -s /a")
    assert do("tree /a") == "/a\n├── b\n│   └── c\n└── d"
    assert do("tree -d 1 /a") == "/a\n├── b\n└── d"
    assert do("count /a") == "3"
    assert do("ls") == "a\nzookeeper"
    assert "the znode has children" in do.refused("delete /a")
    do("deleteall /a")
    assert "-s cannot be used with -R" in do.refused("ls -R -s /", WRONG)
    for line in ("ls -R /a", "tree /a", "tree -d 0 /a", "deleteall /a"):
        assert "there is no such znode" in do.refused(line)
    assert do.said == []
    assert do("ls /") == "zookeeper"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_deleting_some_at_a_time(do: Shell, client: KazooClient, size: int) -> None:
    for name in ("/a/b/c", "/a/b/d", "/a/e"):
        client.create(name, makepath=True)
    do(f"deleteall /a -b {size}")
    assert do("ls /") == "zookeeper"
    assert "0: it must be greater than zero" in do.refused("deleteall -b 0 /a", WRONG)


@pytest.mark.parametrize("path", ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"])
def test_what_can_never_be_deleted_takes_nothing_else_along(
    do: Shell, client: KazooClient, path: str
) -> None:
    """The server refuses it last, when all that is below it would be gone."""
    for name in ("/a/b", "/zookeeper/quota/x", "/zookeeper/x"):
        client.create(name, makepath=True)
    assert f"{path} cannot be deleted; nothing was" in do.refused(f"deleteall {path}", WRONG)
    below = [client.exists(name) for name in ("/a/b", "/zookeeper/quota/x", "/zookeeper/x")]
    assert None not in below
    do("deleteall /zookeeper/x")
    do("deleteall /zookeeper/quota/x")


def test_stat_is_zookeepers(do: Shell, client: KazooClient) -> None:
    client.create("/a", b"123")
    lines = do("stat /a").splitlines()
    assert [line.partition(" = ")[0] for line in lines] == [
        *("cZxid", "ctime", "mZxid", "mtime", "pZxid", "cversion", "dataVersion"),
        *("aclVersion", "ephemeralOwner", "dataLength", "numChildren"),
    ]
    assert lines[0] == f"cZxid = {client.exists('/a').czxid:#x}"
    assert lines[9] == "dataLength = 3"


def test_what_cannot_be_printed_is_escaped(do: Shell, client: KazooClient) -> None:
    client.create("/a", b"\x1b[2J\xff\n")
    assert do("get /a") == "\\x1b[2J\\xff\\n"


def test_data_in_base64_and_as_a_dump(do: Shell, client: KazooClient) -> None:
    do("create /a")
    do("set -b /a AGFiY2RlZmdoaWprbG1ub3D/")
    assert client.get("/a")[0] == b"\0abcdefghijklmnop\xff"
    assert do("get -b /a") == "AGFiY2RlZmdoaWprbG1ub3D/"
    assert do("get -x /a").splitlines()[1:-1] == [
        "         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |",
        "+--------+-------------------------------------------------+----------------+",
        "|00000000| 00 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f |.abcdefghijklmno|",
        "|00000010| 70 ff                                           |p.              |",
    ]
    assert "-b !!: base64 is needed" in do.refused("set -b /a !!", WRONG)


def test_sync_config_version(do: Shell) -> None:
    assert do("sync /") == ""
    assert do("version") == "3.9.5"
    do("config")


# --- watches ----------------------------------------------------------------------------


def test_a_single_watch(do: Shell, client: KazooClient) -> None:
    client.create("/a", b"")
    do("get -w /a")
    do.said.clear()
    do.heard.clear()
    client.set("/a", b"x")
    assert do.heard.wait(LIMIT_S)
    assert do.said == ["WATCHER:: CHANGED /a"]


@contextmanager
def watching(do: Shell, path: str, end: str) -> Iterator[None]:
    """`watch` in a thread; Ctrl-C when it has told `end`."""
    do.interrupt_at = end
    thread = threading.Thread(target=do, args=(f"watch {path}",))
    thread.start()
    yield
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_persistent_watches(do: Shell, client: KazooClient) -> None:
    client.create("/a")
    do("addWatch /a")
    client.create("/a/b")
    do.until("WATCHER:: CREATED /a/b")
    client.set("/a", b"x")
    do.until("WATCHER:: CHANGED /a")
    do("addWatch -m PERSISTENT /a")
    client.delete("/a/b")
    do.until("WATCHER:: CHILD /a")
    do("removewatches /a")
    assert "there is no such watch" in do.refused("removewatches /a")
    assert "invalid choice: 'OFTEN'" in do.refused("addWatch -m OFTEN /a", WRONG)


def test_removing_single_watches(do: Shell, client: KazooClient) -> None:
    client.create("/a")
    do("get -w /a")
    assert "there is no such watch" in do.refused("removewatches -c /a")
    do("removewatches -d /a")
    client.set("/a", b"x")
    do("ls -w /a")
    client.create("/a/b")
    do.until("WATCHER:: CHILD /a")
    assert do.said == ["WATCHER:: CHILD /a"]


def let_callbacks_run(client: KazooClient) -> None:
    """Those of events that are here: kazoo has a thread for them, and it is late at times."""
    done = threading.Event()
    client.handler.dispatch_callback(Callback("watch", done.set, ()))
    assert done.wait(LIMIT_S)


def test_watches_are_told_of_or_not(do: Shell, client: KazooClient) -> None:
    client.create("/a/b", makepath=True)
    assert do("printwatches") == "printwatches is on"
    do("printwatches off")
    assert do("printwatches") == "printwatches is off"
    do("ls -R -w /a")
    client.create("/a/b/c")
    let_callbacks_run(client)
    do("printwatches on")
    client.create("/a/d")
    do.until("WATCHER:: CHILD /a")
    assert do.said == ["WATCHER:: CHILD /a"]


def test_watching_all_changes(do: Shell, client: KazooClient) -> None:
    client.create("/a", b"one")
    with watching(do, "/a", end="/a does not exist"):
        do.until("/a version 0: one")
        client.set("/a", b"two")
        do.until("/a version 1: two")
        client.create("/a/b")
        do.until("+ /a/b")
        client.delete("/a/b")
        do.until("- /a/b")
        client.delete("/a")


def test_watching_what_comes_and_goes(do: Shell, client: KazooClient) -> None:
    with watching(do, "/a", end="+ /a/c"):
        do.until("/a does not exist")
        client.create("/a", b"first")
        do.until("/a version 0: first")
        client.create("/a/b")
        do.until("+ /a/b")
        client.delete("/a", recursive=True)
        do.said.clear()
        client.create("/a", b"second")
        do.until("/a version 0: second")
        client.create("/a/c")


def test_a_watch_ends_with_its_command(do: Shell, client: KazooClient) -> None:
    client.create("/a", b"one")
    with watching(do, "/a", end="/a version 0: one"):
        pass
    client.create("/b", b"")
    with watching(do, "/b", end="/b version 1: x"):
        do.until("/b version 0: ")
        client.set("/a", b"two")
        client.set("/b", b"x")
    assert do.said == ["/b version 0: ", "/b version 1: x"]


# --- connections ------------------------------------------------------------------------


def test_nothing_is_sent_to_a_server_that_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(free_ports(1)[0])
    with serving(tmp_path, port) as hosts:
        link = Link(hosts, LIMIT_S)
        lost = threading.Event()
        link.client.add_listener(lambda state: lost.set() if state == "SUSPENDED" else None)
        do = Shell(link, capsys)
        do("create /a early")
    assert lost.wait(LIMIT_S)
    link.client.patience_s = 0.1
    assert "there is no connection; nothing was sent" in do.refused("set /a late")
    link.client.patience_s = LIMIT_S
    with serving(tmp_path, port):
        assert do("get /a") == "early"
        link.close()


def test_persistent_watches_outlive_a_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(free_ports(1)[0])
    with serving(tmp_path, port) as hosts:
        link = Link(hosts, LIMIT_S)
        do = Shell(link, capsys)
        do("addWatch /")
    with serving(tmp_path, port):
        do("create /a")
        do.until("WATCHER:: CREATED /a")
        link.close()


def test_close_and_connect(do: Shell, link: Link, hosts: str, client: KazooClient) -> None:
    do("create -e /mine")
    do("close")
    assert do.refused("ls /") == "not connected (connect HOST:PORT)\n"
    do(f"connect {hosts}")
    assert do("ls /") == "zookeeper"
    assert "'x:y': HOST:PORT[,...][/CHROOT] is needed" in do.refused("connect x:y", WRONG)
    assert do("ls /") == "zookeeper"
    link.timeout_s = 0.2
    assert "nobody answers at 127.0.0.1:1" in do.refused("connect 127.0.0.1:1")


def test_a_command_that_is_interrupted(
    do: Shell, link: Link, client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    client.create("/a")
    with monkeypatch.context() as patch:
        patch.setattr(client, "set", interrupted)
        assert do.refused("set /a x") == "interrupted\n"
        assert link.client is client
        patch.setattr(Client, "busy", True)  # an answer is outstanding
        assert "may still be carried out" in do.refused("set /a x")
    assert link.client is not client
    assert do("get /a") == ""


def test_identities_that_are_refused(do: Shell, link: Link, hosts: str) -> None:
    refused = "the server refused the authentication, and closed the connection\n"
    assert do.refused("addauth nope x") == refused
    assert "digest" not in do("whoami")
    do("addauth digest me:secret")
    link.give_up()
    assert "digest: me" in do("whoami")
    done = run("-s", hosts, "--auth", "nope:x", "whoami")
    assert (done.exit_code, done.stderr) == (REFUSED, f"zkpy: {refused}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--auth", "digest"), "SCHEME:AUTH is needed"),
        (("--auth", ":x"), "SCHEME:AUTH is needed"),
        (("-s", "127.0.0.1:abc"), "'127.0.0.1:abc': HOST:PORT[,...][/CHROOT] is needed"),
        (("-s", ""), "'': HOST:PORT[,...][/CHROOT] is needed"),
    ],
)
def test_mistaken_options(options: tuple[str, ...], said: str) -> None:
    done = run(*options, "ls")
    assert done.exit_code == WRONG and said in done.stderr


# --- ACLs and identities ----------------------------------------------------------------


def test_acls(do: Shell, client: KazooClient) -> None:
    client.create("/a/b", b"", makepath=True)
    assert do("acl /a") == do("getAcl /a") == "world:anyone:cdrwa"
    do("addauth digest me:secret")
    assert "ip: 127.0.0.1" in do("whoami") and "digest: me" in do("whoami")
    do("setAcl -R /a auth::cdrwa,world:anyone:r")
    assert do("getAcl /a/b").splitlines()[1] == "world:anyone:r"
    assert "aclVersion = 2" in do("setAcl -s /a auth::cdrwa")
    assert "aclVersion = 2" in do("getAcl -s /a")
    do("acl /a world:anyone:cdrwa")
    assert do("acl /a") == "world:anyone:cdrwa"
    assert "scheme:id:perms is needed" in do.refused("setAcl /a world:anyone:xyz", WRONG)
    assert "the ACL is not a valid one" in do.refused("setAcl /a world:someone:r")


def test_no_permission(do: Shell, client: KazooClient) -> None:
    do("create /a x digest:u:p:r")
    assert "not permitted by the ACL" in do.refused("get /a")
    client.delete("/a")


@pytest.mark.parametrize("text", ["world:anyone:r", "digest:u:a:b=:cdrwa", "ip:fe80::1/8:wa"])
def test_acl_text_comes_back(text: str) -> None:
    assert show_acl(parse_acl(text)) == text


@pytest.mark.parametrize("text", ["world", "world:anyone", "world:anyone:", "world:anyone:x", ""])
def test_bad_acl_text(text: str) -> None:
    with pytest.raises(UsageError):
        parse_acl(text)


# --- quotas -----------------------------------------------------------------------------


def test_quotas(do: Shell, client: KazooClient) -> None:
    client.create("/a/b", b"bytes", makepath=True)
    assert do("quota /a") == "/a has no quota"
    assert do("setquota -n 5 -B 1000 /a") == ""
    assert client.get("/zookeeper/quota/a/zookeeper_limits")[0] == (
        b"count=5,bytes=-1=;byteHardLimit=1000;countHardLimit=-1"
    )
    do("setquota -N 9 /a")
    assert do("listquota /a").splitlines() == [
        "count: 5",
        "bytes: no limit",
        "countHardLimit: 9",
        "byteHardLimit: 1000",
        "znodes now: 2",
        "bytes now: 5",
    ]
    do("delquota -n /a")
    assert "count: no limit" in do("quota /a")
    assert "/a has a quota" in do.refused("setquota -n 1 /a/b", WRONG)
    do("delquota /a")
    do("setquota -n 1 /a/b")
    assert "/a/b below it has a quota" in do.refused("setquota -n 1 /a", WRONG)
    do("delquota /a/b")
    assert client.get_children("/zookeeper/quota") == []
    assert "one of -n, -b, -N, -B is needed" in do.refused("setquota /a", WRONG)
    assert "there is no such znode" in do.refused("setquota -n 1 /nope")


def test_a_quota_that_is_exceeded_already(do: Shell, client: KazooClient) -> None:
    client.create("/a/b", b"bytes", makepath=True)
    assert do("setquota -n 1 -B 4 /a").splitlines() == [
        "warning: count is 1, and znodes now: 2",
        "warning: byteHardLimit is 4, and bytes now: 5",
    ]
    do("delquota /a")


@pytest.mark.parametrize("command", ["setquota -n 1", "delquota", "listquota", "quota"])
@pytest.mark.parametrize("path", ["/", "/zookeeper/quota", "/zookeeper/quota/a"])
def test_where_no_quota_can_be(do: Shell, command: str, path: str) -> None:
    assert f"{path}: no quota can be there" in do.refused(f"{command} {path}", WRONG)


def test_limits_as_zookeeper_writes_them() -> None:
    old = quotas.parse_limits("count=1,bytes=2")
    assert old == {"count": 1, "bytes": 2, "countHardLimit": -1, "byteHardLimit": -1}
    assert quotas.parse_limits(quotas.encode_limits(old)) == old
    assert quotas.parse_limits("nonsense") == dict.fromkeys(old, -1)


# --- the prompt -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("frobnicate", "frobnicate: no such command"),
        ("get", "the following arguments are required: path"),
        ("get a", "a: a path begins with /"),
        ("get /a /b", "unrecognized arguments"),
        ("get 'open", "No closing quotation"),
        ("create relative", "relative: a path begins with /"),
        ("create -t 0 /a", "ttl must be positive"),
        ("create -t 99999999999999999999 /a", "ttl must be positive and not above"),
        ("create -t x /a", "x: a number is needed"),
        ("set -v 99999999999 /a x", "99999999999: a number of 32 bits is needed"),
        ("reconfig -file /nonexist", "/nonexist: cannot be read (No such file or directory)"),
        ("reconfig -v 1ffffffffffffffff -remove 1", "a version in hexadecimal is needed"),
    ],
)
def test_mistakes(do: Shell, line: str, said: str) -> None:
    assert said in do.refused(line, WRONG)


def test_history(do: Shell, client: KazooClient) -> None:
    do("create /a x")
    do("  get  /a")
    do("set /a y")
    assert do("history").splitlines() == [
        *("0 - create /a x", "1 - get  /a", "2 - set /a y", "3 - history")
    ]
    assert do("redo 1") == "y"
    assert do("history").splitlines()[4:] == ["4 - redo 1", "5 - get  /a", "6 - history"]
    assert "redo 1: a redo is not done again" in do.refused("redo 4", WRONG)
    assert "99: there is no such command" in do.refused("redo 99", WRONG)


def test_names_in_any_case_and_aliases(do: Shell, client: KazooClient) -> None:
    client.create("/a")
    assert do("GETACL /a") == "world:anyone:cdrwa"
    assert do("ls2 /a") == ""
    do("rmr /a")
    assert do("") == do("  # a comment") == ""


def test_completion(do: Shell, client: KazooClient) -> None:
    client.create("/apple/core", makepath=True)
    client.create("/apricot")
    assert do.prompt.complete("ge", "ge") == [
        *("get ", "getAcl ", "getAllChildrenNumber ", "getEphemerals ")
    ]
    assert do.prompt.complete("get /ap", "/ap") == ["/apple", "/apricot"]
    assert do.prompt.complete("get -s /apple/", "/apple/") == ["/apple/core"]
    assert do.prompt.complete("get /nope/x", "/nope/x") == []
    assert do.prompt.complete("create /a da", "da") == []


def test_every_name_is_one_commands() -> None:
    names = [name.lower() for verb in VERBS for name in (verb.name, *verb.aliases)]
    assert len(names) == len(set(names)) == len(BY_NAME)


# --- the command ------------------------------------------------------------------------


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(zkpy, ["shell", *arguments], input=input)


def test_one_command_and_its_exit_code(hosts: str, client: KazooClient) -> None:
    done = run("-s", hosts, "create", "/a", "data")
    assert (done.exit_code, done.stdout) == (DONE, "Created /a\n")
    assert run("-s", hosts, "ls", "-s", "/").stdout.startswith("a\nzookeeper\ncZxid = ")
    done = run("-s", hosts, "get", "/nope")
    assert (done.exit_code, done.stderr) == (REFUSED, "there is no such znode\n")
    assert run("-s", hosts, "get").exit_code == WRONG
    assert run("-s", hosts, "quit").exit_code == DONE
    done = run("-s", hosts, "get", "-h")
    assert done.exit_code == DONE and "Show the data of a znode." in done.stdout


def test_bytes_as_they_are(hosts: str, client: KazooClient) -> None:
    client.create("/a", b"\xff\\\n\0")
    assert run("-s", hosts, "get", "--raw", "/a").stdout_bytes == b"\xff\\\n\0"
    assert run("-s", hosts, "get", "/a").stdout == "\\xff\\\\\\n\\x00\n"
    run("-s", hosts, "set", "/a", "\udcff")  # how Python has a byte that is not UTF-8
    assert client.get("/a")[0] == b"\xff"


def test_a_chroot_and_identities(hosts: str, client: KazooClient) -> None:
    client.create("/base/x", makepath=True)
    below = ("-s", f"{hosts}/base")
    assert run(*below, "ls", "/").stdout == "x\n"
    assert run(*below, "create", "-c", "/box").stdout == "Created /box\n"
    assert run(*below, "create", "-t", "60000", "/box/t").stdout == "Created /box/t\n"
    assert client.get_children("/base/box") == ["t"]
    assert run(*below, "count").stdout == "3\n"
    done = run(*below, input="create -e /mine\ngetEphemerals\n")
    assert done.stdout == "Created /mine\n/mine\n"
    done = run("-s", hosts, "--auth", "digest:me:pass:word", "whoami")
    assert "digest: me\n" in done.stdout


def test_commands_from_a_pipe(hosts: str, client: KazooClient) -> None:
    lines = "create /p 1\nget /p\nget /nope\nhelp\nset /p 2\n"
    done = run("-s", hosts, input=lines)
    assert done.exit_code == DONE
    assert done.stdout.startswith("Created /p\n1\n")
    assert "there is no such znode" in done.stderr
    assert client.get("/p")[0] == b"2"
    assert run("-s", hosts, input="get /nope\nquit\nset /p 3\n").exit_code == REFUSED
    assert client.get("/p")[0] == b"2"


def test_help_needs_no_server() -> None:
    done = run("help")
    assert done.exit_code == 0
    assert all(verb.name in done.stdout for verb in VERBS)


@pytest.mark.parametrize("name", ["get", "ADDWATCH", "rmr"])
def test_help_on_a_command_needs_no_server(name: str) -> None:
    done = run("-s", "127.0.0.1:1", "--timeout", "0.2", name, "-h")
    assert (done.exit_code, done.stderr) == (DONE, "")
    assert done.stdout.startswith("usage: ")


def test_nobody_there(tmp_path: Path) -> None:
    done = run("-s", "127.0.0.1:1", "--timeout", "0.2", "ls")
    assert (done.exit_code, done.stderr) == (REFUSED, "zkpy: nobody answers at 127.0.0.1:1\n")
