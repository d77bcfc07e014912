"""`zkpy reconfig` and what `zkpy shell` has of it, on an ensemble of one that may grow."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    NoAuthError,
    ReconfigDisabledError,
)

from tests.server.members import Servers
from zkpy.cli.main import zkpy
from zkpy.cli.reconfig import (
    Answer,
    Doubt,
    Refusal,
    Wish,
    carry_out,
    check_quorum,
    read_answer,
)
from zkpy.membership import Configuration, parse_configuration

OBSERVER = "server.2=127.0.0.1:7:8:observer;127.0.0.1:9"
VOTER = "server.3=127.0.0.1:17:18:participant;127.0.0.1:19"
AUTH = ("--auth", "digest:super:test")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("reconfig"), 1)
    try:
        servers.configure(1).start()
        servers.all[1].until_serving()
        yield servers
    finally:
        servers.end()


@pytest.fixture
def run(servers: Servers) -> Iterator["Run"]:
    run = Run(servers)
    yield run
    run("--members", str(run.one))


class Run:
    def __init__(self, servers: Servers) -> None:
        self.hosts = servers.all[1].hosts
        self.line = servers.line(1)
        self.one = servers.all[1].data / "one"
        self.one.write_text(f"# all that is left\n\n{self.line}\n")

    def __call__(self, *words: str, auth: tuple[str, ...] = AUTH) -> Result:
        return CliRunner().invoke(zkpy, ["reconfig", "-s", self.hosts, *auth, *words])

    def shell(self, *words: str, auth: tuple[str, ...] = AUTH) -> Result:
        return CliRunner().invoke(zkpy, ["shell", "-s", self.hosts, *auth, *words])


def test_the_plan_alone(run: Run) -> None:
    shown = run("--dry-run", "--add", OBSERVER, "--add", VOTER)
    assert shown.exit_code == 1
    assert re.sub(r"version \w+", "version V", shown.output).splitlines() == [
        "now:    version V, voters 1; a quorum is 1 of 1, 0 may fail",
        f"change: server.2 joins as an observer: {OBSERVER.partition('=')[2]}",
        f"change: server.3 joins as a voter: {VOTER.partition('=')[2]}",
        "then:   voters 1 3, observers 2; a quorum is 2 of 2, 0 may fail",
        "note:   2 voters bear no more losses than 1",
        "ready:  server.1 serves as leader",
        f"ready:  server.3 does not answer at its client address ({VOTER.rpartition(chr(59))[2]})",
        "refused: no quorum of the new voters answers",
    ]
    assert run.shell("config").output.count("server.") == 1


def test_a_plan_that_may_be_carried_out(run: Run) -> None:
    before = run.shell("config").output
    shown = run("--dry-run", "--add", OBSERVER)
    assert shown.exit_code == 0, shown.output
    assert shown.output.endswith("ready:  server.1 serves as leader\n")
    assert run.shell("config").output == before


def test_a_plan_of_one_who_may_not(run: Run) -> None:
    shown = run("--dry-run", "--add", OBSERVER, auth=())
    assert shown.exit_code == 1
    assert "refused: not permitted by the ACL" in shown.output


class Scripted:
    """A client whose servers answer a reconfig and a change of the configuration's znode so."""

    def __init__(self, reconfig: Exception, change: Exception | None = None) -> None:
        self.refusals = {"reconfig": reconfig, "set": change}
        self.versions: list[int] = []

    def get(self, path: str) -> tuple[bytes, None]:
        return f"{THREE}\nversion=100000002".encode(), None

    def reconfig(self, joining: str, leaving: str, members: str, version: int) -> None:
        self.versions.append(version)
        raise self.refusals["reconfig"] or AssertionError

    def set(self, path: str, data: bytes, version: int) -> None:
        self.versions.append(version)
        raise self.refusals["set"] or AssertionError


THREE = "\n".join(f"server.{n}=127.0.0.1:{n}1:{n}2;127.0.0.1:{n}" for n in (1, 2, 3))


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zkpy.cli.reconfig.ask_member", lambda spec: Answer("serves", True))


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("client", "leaving", "why"),
    [
        (Scripted(ReconfigDisabledError()), "3", ReconfigDisabledError),
        (Scripted(BadVersionError(), NoAuthError()), "3", NoAuthError),
        (Scripted(BadVersionError(), BadVersionError()), "2,3", Refusal),
    ],
)
def test_a_plan_is_refused_as_the_change_would_be(
    client: Scripted, leaving: str, why: type[Exception]
) -> None:
    with pytest.raises(why):
        carry_out(client, Wish(leaving=leaving), -1, dry_run=True)
    assert 0x100000002 not in client.versions and -1 not in client.versions


@pytest.mark.usefixtures("serving")
def test_a_plan_is_only_asked_about() -> None:
    client = Scripted(BadVersionError(), BadVersionError())
    carry_out(client, Wish(leaving="3"), -1, dry_run=True)
    assert client.versions == [0x100000001, 2**31 - 1]


def test_the_reason_that_servers_do_not_give() -> None:
    with pytest.raises(Refusal, match="1 voter would be left, .*standaloneEnabled=false"):
        carry_out(Scripted(BadArgumentsError()), Wish(leaving="2,3"), -1, dry_run=False)
    with pytest.raises(BadArgumentsError):
        carry_out(Scripted(BadArgumentsError()), Wish(leaving="3"), -1, dry_run=False)


NOT_SERVING = "This ZooKeeper instance is not currently serving requests"


@pytest.mark.parametrize(
    ("lines", "ready"),
    [
        (["Mode: leader"], True),
        (["Zxid: 0x1", "Mode: follower", "Node count: 5"], True),
        (["Mode: observer"], True),
        (["Mode: standalone"], False),
        (["Mode: read-only"], False),
        ([NOT_SERVING], False),
        ([NOT_SERVING, "no leader can be elected: ..."], False),
        ([NOT_SERVING, "learning from server 2: not serving: this server is not in ..."], True),
        ([], False),
    ],
)
def test_who_counts_as_there(lines: list[str], ready: bool) -> None:
    assert read_answer(lines).ready is ready


def answers(*ready: bool | None) -> dict[int, Answer]:
    return {sid: Answer("", each) for sid, each in enumerate(ready, 1)}


def test_a_quorum_has_to_be_there() -> None:
    three = parse_configuration(THREE)
    check_quorum(three, answers(True, True, False))
    with pytest.raises(Refusal):
        check_quorum(three, answers(True, False, False))
    with pytest.raises(Doubt):
        check_quorum(three, answers(True, False, None))
    weighted = Configuration(three.servers, weights={1: 3})
    check_quorum(weighted, answers(True, False, False))


def test_it_is_done(run: Run) -> None:
    done = run("--add", OBSERVER.removeprefix("server."))
    assert done.exit_code == 0, done.output
    version = re.search(r"^done: version (\w+)$", done.output, re.MULTILINE)
    assert version is not None
    config = run.shell("config").output.splitlines()
    assert config == [run.line, OBSERVER, f"version={version[1]}"]
    assert run.shell("config", "-c").output == f"{version[1]} {run.hosts},127.0.0.1:9\n"
    changed = run("--add", OBSERVER.replace(":7:", ":70:"), "--from-version", version[1])
    assert "change: server.2 was 127.0.0.1:7:8" in changed.output and changed.exit_code == 0
    gone = run("--remove", "2")
    assert gone.exit_code == 0
    assert "change: server.2, an observer, leaves" in gone.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--add", VOTER], "no quorum of the new voters is connected and synchronised"),
        (["--remove", "1"], "0 voters would be left"),
        (["--remove", "1,5"], "0 voters would be left"),
        (["--add", "3=somewhere"], "host:quorum-port:election-port"),
        (["--add", "300=h:1:2;3"], "server ids go from 0 to 255"),
        (["--add", OBSERVER, "--from-version", "5"], "not 5"),
    ],
)
def test_what_is_refused(run: Run, words: list[str], why: str) -> None:
    refused = run(*words)
    assert refused.exit_code == 1
    assert "refused: " in refused.output and why in refused.output
    assert "done" not in refused.output


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_who_is_no_member_cannot_leave(run: Run, words: tuple[str, ...]) -> None:
    """ZooKeeper makes a new version without a change, and so does the server."""
    before = run.shell("config").output
    refused = run("--remove", "5", *words)
    assert refused.exit_code == 1
    assert refused.output == "refused: server.5 is no member: members are 1\n"
    assert run.shell("config").output == before
    done = run.shell("reconfig", "-remove", "5")
    assert done.exit_code == 0 and done.output != before


def test_who_may(run: Run) -> None:
    refused = run("--add", OBSERVER, auth=())
    assert refused.exit_code == 1
    assert "refused: not permitted by the ACL" in refused.output


@pytest.mark.parametrize(
    "words",
    [[], ["--add", OBSERVER, "--members", "FILE"], ["--remove", "1", "--from-version", "x"]],
)
def test_what_is_not_to_be_understood(run: Run, words: list[str]) -> None:
    wrong = run(*(str(run.one) if word == "FILE" else word for word in words))
    assert wrong.exit_code == 2


@pytest.mark.parametrize("words", [("-s", "zk1:client"), ("--auth", "super")])
def test_what_names_no_server_or_no_identity_is_not_understood(words: tuple[str, ...]) -> None:
    wrong = CliRunner().invoke(zkpy, ["reconfig", *words, "--remove", "3"])
    assert wrong.exit_code == 2
    assert "is needed" in wrong.output


def test_sasl_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """kazoo would show a traceback, and the command a full disk."""
    monkeypatch.setattr("zkpy.cli.options.find_spec", lambda name: None)
    words = ["reconfig", "-s", "127.0.0.1:1", "--auth", "sasl:jane:x", "--remove", "3"]
    wrong = CliRunner().invoke(zkpy, words)
    assert wrong.exit_code == 2
    assert "sasl needs the package pure-sasl" in wrong.output


def test_nobody_there(tmp_path: Path) -> None:
    words = ["reconfig", "-s", "127.0.0.1:1", "--timeout", "0.2", "--remove", "1"]
    result = CliRunner().invoke(zkpy, words)
    assert (result.exit_code, result.output) == (1, "zkpy: nobody answers at 127.0.0.1:1\n")


def test_the_shell_does_it_as_zkcli_does(run: Run) -> None:
    done = run.shell("reconfig", "-add", OBSERVER, "-s")
    assert done.output.startswith(f"Committed new configuration:\n{run.line}\n{OBSERVER}\nversion=")
    assert "dataVersion = -1" in done.output
    assert run.shell("reconfig", "-remove", "2", "-v", "zz").exit_code == 2
    assert run.shell("reconfig", "-remove", "2", "-v", "5").exit_code == 1
    assert run.shell("reconfig", "-remove", "2").output.count("server.") == 1
    assert run.shell("reconfig", "-members", f"{run.line},{OBSERVER}").output.count("server.") == 2
    assert run.shell("reconfig", "-file", str(run.one)).output.count("server.") == 1
    assert run.shell("reconfig", "-file", str(run.one), "-remove", "1").exit_code == 2


def test_a_list_of_members_that_is_no_text(tmp_path: Path) -> None:
    listed = tmp_path / "members"
    listed.write_bytes(b"server.1=\xff")
    result = CliRunner().invoke(zkpy, ["reconfig", "-s", "127.0.0.1:1", "--members", str(listed)])
    assert result.exit_code == 2
    assert f"{listed}: not a text in UTF-8; server.N lines are needed" in result.output
