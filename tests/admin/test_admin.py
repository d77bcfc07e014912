"""Commands and their text, as ZooKeeper 3.9 gives it."""

import re

import attrs
import pytest

from zkpy import __version__
from zkpy.admin.commands import COMMANDS, ConnectionView, ServerView, version_text
from zkpy.admin.fourletter import answer, is_allowed
from zkpy.admin.metrics import NS_PER_MS, Metrics, Summary
from zkpy.replica.status import Status

STATUS = Status(
    mode="standalone",
    zxid=0x1_0000_0005,
    znodes=7,
    data_bytes=99,
    ephemerals=1,
    watches=2,
    sessions=3,
    outstanding=4,
    packets_received=10,
    packets_sent=11,
    links=(),
)
CONNECTIONS = (
    ConnectionView("10.0.0.1:4000", reading=True, queued=1, received=2, sent=3),
    ConnectionView("10.0.0.2:5000", reading=False, queued=0, received=0, sent=0),
)


def make_view(mode: str = "standalone") -> ServerView:
    metrics = Metrics()
    for sample_ms in (1, 2, 5):
        metrics.latency.add(sample_ms * NS_PER_MS)
    return ServerView(attrs.evolve(STATUS, mode=mode), metrics, 1234, CONNECTIONS)


def ask(word: str, mode: str = "standalone") -> str:
    return answer(word, make_view(mode), ("*",), read_only_mode=False).decode()


def test_ruok() -> None:
    assert ask("ruok") == "imok"
    assert ask("ruok", mode="") == "imok"


@pytest.mark.parametrize(
    ("mode", "text"), [("standalone", "rw"), ("leader", "rw"), ("read-only", "ro"), ("", "null")]
)
def test_isro(mode: str, text: str) -> None:
    assert ask("isro", mode) == text


SERVER = f"""\
Zookeeper version: {version_text()}
Latency min/avg/max: 1/2.6667/5
Received: 10
Sent: 11
Connections: 2
Outstanding: 4
Zxid: 0x100000005
Mode: standalone
Node count: 7
"""


def test_srvr() -> None:
    assert ask("srvr") == SERVER


def test_stat_adds_the_clients() -> None:
    head, _, tail = SERVER.partition("Latency")
    clients = (
        "Clients:\n"
        " /10.0.0.1:4000[1](queued=1,recved=2,sent=3)\n"
        " /10.0.0.2:5000[0](queued=0,recved=0,sent=0)\n\n"
    )
    assert ask("stat") == f"{head}{clients}Latency{tail}"


def test_read_only_server_says_so() -> None:
    assert ask("srvr", "read-only").splitlines()[1].startswith("READ-ONLY mode")


def test_envi_gives_the_version_that_clients_parse() -> None:
    lines = ask("envi", mode="").splitlines()
    assert lines[0] == "Environment:"
    assert all("=" in line for line in lines[1:])
    version = next(line for line in lines if line.startswith("zookeeper.version="))
    assert re.fullmatch(rf"zookeeper.version=3\.9\.5-zkpy-{__version__}, built on .+", version)
    # As kazoo does it: digits and dots up to the first other character.
    parsed = re.match(r"([\d.]*)", version.partition("=")[2])
    assert parsed is not None
    assert parsed[1] == "3.9.5"


def test_envi_for_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert "user.name=<NA>\n" in ask("envi")


def test_mntr_is_keys_and_values() -> None:
    found = dict(line.split("\t") for line in ask("mntr").splitlines())
    assert found["zk_version"] == version_text()
    assert found["zk_server_state"] == "standalone"
    assert found["zk_avg_latency"] == "2.6667"
    assert found["zk_num_alive_connections"] == "2"
    assert found["zk_znode_count"] == "7"
    assert found["zk_uptime"] == "1234"
    assert int(found["zk_open_file_descriptor_count"]) > 0
    assert int(found["zk_max_file_descriptor_count"]) > 0
    assert found["zk_cnt_fsynctime"] == "0"


@pytest.mark.parametrize("word", ["srvr", "stat", "mntr"])
def test_words_that_need_service(word: str) -> None:
    assert ask(word, mode="") == "This ZooKeeper instance is not currently serving requests\n"


def test_words_outside_the_whitelist_are_refused() -> None:
    said = answer("stat", make_view(), ("srvr",), read_only_mode=False)
    assert said == b"stat is not executed because it is not in the whitelist.\n"


@pytest.mark.parametrize(
    ("word", "whitelist", "read_only_mode", "allowed"),
    [
        ("srvr", ("srvr",), False, True),
        ("ruok", ("srvr",), False, False),
        ("ruok", ("*",), False, True),
        ("isro", ("srvr",), False, False),
        ("isro", ("srvr",), True, True),
    ],
)
def test_whitelist(
    word: str, whitelist: tuple[str, ...], read_only_mode: bool, allowed: bool
) -> None:
    assert is_allowed(word, whitelist, read_only_mode) is allowed


def test_word_without_a_command() -> None:
    assert ask("gtmk") == "gtmk is not a command of this server.\n"


def test_every_command_has_a_text() -> None:
    for command in COMMANDS:
        assert ask(command.word)


def test_summary() -> None:
    summary = Summary()
    assert (summary.average_ms, summary.min_ms, summary.max_ms) == (0.0, 0, 0)
    summary.add(3 * NS_PER_MS)
    summary.add(1 * NS_PER_MS)
    assert (summary.average_ms, summary.min_ms, summary.max_ms) == (2.0, 1, 3)
