"""Commands and their text, as ZooKeeper 3.9 gives it."""

import re
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import attrs
import pytest

from wire.client import FOUR_LETTER_WORDS
from zkpy import __version__
from zkpy.admin.commands import (
    COMMANDS,
    NS_PER_MS,
    ConnectionView,
    ServerView,
    version_text,
)
from zkpy.admin.fourletter import NOT_SERVING, answer, is_allowed
from zkpy.admin.metrics import Metrics
from zkpy.config import ClientAddress, Config, parse, read_properties
from zkpy.limits import Limits
from zkpy.replica.status import Details, Status
from zkpy.summary import SAMPLES_KEPT, Samples, Summary
from zkpy.zab.counts import Counts

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
    links=lambda: iter(()),
    connections=2,
)
SESSION = 0x100_0000_0000_0001
CONNECTIONS = (
    ConnectionView(
        "10.0.0.1:4000",
        reading=True,
        queued=1,
        received=2,
        sent=3,
        session=SESSION,
        timeout_ms=10_000,
        opened_ms=1_700_000_000_000,
        expires_ms=1_700_000_010_500,
        last_opcode=4,
        last_xid=17,
        last_zxid=0x1_0000_0005,
        last_response_ms=1_700_000_000_400,
        latency=Summary(2, 5 * NS_PER_MS, NS_PER_MS, 4 * NS_PER_MS, 4 * NS_PER_MS),
    ),
    ConnectionView(
        "10.0.0.2:5000",
        reading=False,
        queued=0,
        received=0,
        sent=0,
        opened_ms=1_699_999_998_000,
    ),
)
DETAILS = Details(
    ephemerals={SESSION: ["/a", "/b"]},
    watches=[(SESSION, "/a"), (SESSION, "/b"), (-1, "/a")],
    deadlines={52_000: [SESSION, -1]},
    timeouts={SESSION: 10_000, -1: 4000},
    digests=[(0x1_0000_0000, 7), (0x1_0000_0005, 9)],
)
CONFIG = Config("/nowhere/data", "/nowhere/log", ClientAddress("127.0.0.1", 0), Limits())


def make_view(mode: str = "standalone", **changes: Any) -> ServerView:
    latency = Summary()
    for sample_ms in (1, 2, 5):
        latency.add(sample_ms * NS_PER_MS)
    view = ServerView(
        attrs.evolve(STATUS, mode=mode),
        Metrics(),
        1234,
        CONFIG,
        lambda: iter(CONNECTIONS),
        latency,
        client_port=2181,
        wall_ms=1_700_000_000_500,
        now_ms=50_000,
        details=lambda: DETAILS,
    )
    return attrs.evolve(view, **changes)


def ask(word: str, mode: str = "standalone", **changes: Any) -> str:
    return answer(word, make_view(mode, **changes), ("*",), read_only_mode=False).decode()


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_connections_are_gone_through_where_they_are_shown() -> None:
    """For thousands that takes ms, in which nobody is served."""

    def fail() -> Iterator[ConnectionView]:
        raise AssertionError("nobody wants to see them")

    view = make_view(connections=fail)
    for command in COMMANDS:
        if command.word not in ("cons", "dump", "stat"):
            command.run(view)


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


@pytest.mark.parametrize("word", ["srvr", "stat", "mntr"])
def test_words_that_need_service_tell_why_there_will_be_none(word: str) -> None:
    """D5: what the log says too, for those who ask."""
    status = attrs.evolve(STATUS, mode="", why_idle="no leader can be elected: ...")
    said = answer(word, make_view(status=status), (word,), read_only_mode=False)
    assert said == NOT_SERVING.encode() + b"no leader can be elected: ...\n"


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


def test_conf_of_a_server_alone() -> None:
    assert ask("conf") == (
        "clientPort=2181\nsecureClientPort=-1\ndataDir=/nowhere/data\ndataDirSize=0\n"
        "dataLogDir=/nowhere/log\ndataLogSize=0\ntickTime=2000\nmaxClientCnxns=60\n"
        "minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=1024\n"
        "serverId=0\n"
    )


def test_conf_of_a_member() -> None:
    lines = (
        "dataDir=/d\nclientPort=2181\nserver.1=a:2888:3888|b:2889:3889\nserver.2=c:1:2:observer\n"
    )
    config = parse(read_properties(lines, "zoo.cfg"), "zoo.cfg", 1)
    said = ask("conf", status=attrs.evolve(STATUS, standalone=False), config=config)
    assert said.partition("initLimit")[2] == (
        "=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3888|3889\nquorumPort=2888|2889\n"
        "peerType=0\nmembership: \nserver.1=a:2888:3888|b:2889:3889\n"
        "server.2=c:1:2:observer\nversion=0"
    )
    changed = attrs.evolve(STATUS, standalone=False, membership="server.1=d:1:2\nversion=1f")
    said = ask("conf", status=changed, config=config)
    assert said.endswith("\nmembership: \nserver.1=d:1:2\nversion=1f")


@pytest.mark.parametrize(("number", "votes", "kind"), [(1, False, 1), (2, True, 0)])
def test_conf_tells_the_present_role(number: int, votes: bool, kind: int) -> None:
    """A reconfig makes another of it than the files say."""
    lines = "dataDir=/d\nclientPort=2181\nserver.1=a:2888:3888\nserver.2=c:1:2:observer\n"
    config = parse(read_properties(lines, "zoo.cfg"), "zoo.cfg", number)
    status = attrs.evolve(STATUS, standalone=False, votes=votes)
    assert f"\npeerType={kind}\n" in ask("conf", status=status, config=config)


def test_dirs_measures_files_below(tmp_path: Path) -> None:
    (tmp_path / "gen-0001").mkdir()
    (tmp_path / "gen-0001" / "log.1").write_bytes(bytes(300))
    config = attrs.evolve(CONFIG, data_dir=str(tmp_path))
    assert ask("dirs", config=config) == "datadir_size: 300\nlogdir_size: 0\n"


def test_cons() -> None:
    assert ask("cons") == (
        " /10.0.0.1:4000[1](queued=1,recved=2,sent=3,sid=0x100000000000001,lop=GETD,"
        "est=1700000000000,to=10000,lcxid=0x11,lzxid=0x100000005,lresp=1700000000400,"
        "llat=4,minlat=1,avglat=2,maxlat=4)\n"
        " /10.0.0.2:5000[0](queued=0,recved=0,sent=0)\n"
        "\n"
    )


def test_dump() -> None:
    assert ask("dump") == (
        "SessionTracker dump:\n"
        "Session Sets (1)/(2):\n"
        "2 expire at Tue Nov 14 22:13:22 UTC 2023:\n"
        "\t0x100000000000001\n\t0xffffffffffffffff\n"
        "ephemeral nodes dump:\n"
        "Sessions with Ephemerals (1):\n"
        "0x100000000000001:\n\t/a\n\t/b\n"
        "Connections dump:\n"
        "Connections Sets (2)/(2):\n"
        "1 expire at Tue Nov 14 22:13:30 UTC 2023:\n"
        "\tip: /10.0.0.2:5000 sessionId: 0x0\n"
        "1 expire at Tue Nov 14 22:13:32 UTC 2023:\n"
        "\tip: /10.0.0.1:4000 sessionId: 0x100000000000001\n"
    )


GLOBAL_SETS = "Sets (1)/(2):\n2 expire at Tue Nov 14 22:13:22 UTC 2023:\n"
BOTH = "\t0x100000000000001\n\t0xffffffffffffffff\n"
LOCAL_SETS = "Sets (1)/(1):\n1 expire at Tue Nov 14 22:13:20 UTC 2023:\n\t0x7\n"


@pytest.mark.parametrize(
    ("details", "text"),
    [
        (
            attrs.evolve(DETAILS, deadlines=None),
            "Global Sessions(2):\n0xffffffffffffffff\t4000ms\n0x100000000000001\t10000ms\n",
        ),
        (
            attrs.evolve(DETAILS, deadlines=None, timeouts={}, local_deadlines={50_000: [7]}),
            f"Local Session {LOCAL_SETS}Global Sessions(0):\n",
        ),
        (
            attrs.evolve(DETAILS, local_deadlines={50_000: [7]}),
            f"Local Session {LOCAL_SETS}Global Session {GLOBAL_SETS}{BOTH}",
        ),
    ],
)
def test_dump_shows_who_watches_over_sessions(details: Details, text: str) -> None:
    """As ZooKeeper 3.9.5 does on a follower, and with localSessionsEnabled."""
    said = ask("dump", details=lambda: details)
    assert said.startswith(f"SessionTracker dump:\n{text}ephemeral nodes dump:\n")


def test_watches() -> None:
    assert ask("wchs") == "2 connections watching 2 paths\nTotal watches:3\n"
    assert ask("wchc") == "0x100000000000001\n\t/a\n\t/b\n0xffffffffffffffff\n\t/a\n\n"
    assert ask("wchp") == (
        "/a\n\t0x100000000000001\n\t0xffffffffffffffff\n/b\n\t0x100000000000001\n\n"
    )


def test_hash() -> None:
    assert ask("hash") == "100000000: 7\n100000005: 9\n"


@pytest.mark.parametrize("word", ["gtmk", "stmk"])
def test_there_is_no_trace_mask(word: str) -> None:
    assert ask(word) == "0"


def test_resets_are_carried_out() -> None:
    done: list[str] = []
    said = ask("srst", reset_stats=lambda: done.append("stats"))
    said += ask("crst", reset_connections=lambda: done.append("connections"))
    assert said == "Server stats reset.\nConnection stats reset.\n"
    assert done == ["stats", "connections"]


def test_what_was_counted_before_a_reset_counts_no_more() -> None:
    metrics = Metrics(packets_received_before=4, packets_sent_before=10)
    assert "Received: 6\nSent: 1\n" in ask("srvr", metrics=metrics)


def test_leader_tells_of_its_learners_and_proposals() -> None:
    status = attrs.evolve(
        STATUS,
        mode="leader",
        standalone=False,
        voters=3,
        learners=4,
        synced_followers=2,
        synced_observers=1,
        leading_since_ms=49_000,
        pending_syncs=5,
        epoch=7,
        lag=6,
        counts=Counts(1, 20, 19, 3, 2),
        proposal_sizes=(40, 32, 100),
    )
    found = dict(line.split("\t") for line in ask("mntr", status=status).splitlines())
    assert found["zk_peer_state"] == "leading - broadcast"
    assert found["zk_quorum_size"] == "3"
    assert (found["zk_learners"], found["zk_synced_followers"]) == ("4", "2")
    assert found["zk_synced_observers"] == found["zk_synced_non_voting_followers"] == "1"
    assert (found["zk_leader_uptime"], found["zk_pending_syncs"]) == ("1000", "5")
    assert (found["zk_current_epoch"], found["zk_max_learner_lag"]) == ("7", "6")
    assert (found["zk_proposal_count"], found["zk_commit_count"]) == ("20", "19")
    assert (found["zk_diff_count"], found["zk_snap_count"]) == ("3", "2")
    assert "zk_learner_lag" not in found
    assert ask("srvr", status=status).endswith("Proposal sizes last/min/max: 40/32/100\n")


def test_learner_tells_what_it_was_told() -> None:
    counts = Counts(looked=2, received=9, told=8)
    status = attrs.evolve(STATUS, mode="follower", standalone=False, epoch=7, lag=1, counts=counts)
    found = dict(line.split("\t") for line in ask("mntr", status=status).splitlines())
    assert (found["zk_current_epoch"], found["zk_learner_lag"]) == ("7", "1")
    assert found["zk_learner_proposal_received_count"] == "9"
    assert found["zk_learner_commit_received_count"] == "8"
    assert found["zk_looking_count"] == "2"
    assert not {"zk_leader_uptime", "zk_max_learner_lag", "zk_pending_syncs"} & found.keys()


def test_server_alone_has_no_figures_of_an_ensemble() -> None:
    found = dict(line.split("\t") for line in ask("mntr").splitlines())
    assert not {"zk_quorum_size", "zk_current_epoch", "zk_learner_lag"} & found.keys()


def test_every_word_of_the_protocol_has_a_command_and_a_text() -> None:
    assert {command.word for command in COMMANDS} == set(FOUR_LETTER_WORDS)
    for command in COMMANDS:
        assert ask(command.word)


def test_summary() -> None:
    summary = Summary()
    assert (summary.average(), summary.least, summary.greatest) == (0.0, 0, 0)
    summary.add(3)
    summary.add(1)
    assert (summary.average(), summary.least, summary.greatest) == (2.0, 1, 3)
    assert summary.average(1000) == 0.002


def test_summaries_add_up() -> None:
    total, other = Summary(), Summary()
    other.add(3)
    total.merge(other)
    assert (total.average(), total.least, total.greatest) == (3.0, 3, 3)
    total.add(1)
    total.merge(Summary())
    assert (total.average(), total.least, total.greatest, total.last) == (2.0, 1, 3, 1)
    total.reset()
    assert astuple(total) == astuple(Summary())


def test_percentiles_are_values_that_were_there() -> None:
    samples = Samples()
    assert samples.percentiles((500, 999)) == [0, 0]
    for value in range(100, 0, -1):
        samples.add(value)
    assert samples.percentiles((0, 500, 950, 990, 999)) == [1, 50, 95, 99, 100]
    assert astuple(samples.summary()) == (100, 5050, 1, 100, 1)


def test_samples_forget_what_is_old_and_count_it_all_the_same() -> None:
    samples = Samples()
    for value in [1000] * SAMPLES_KEPT + [7] * SAMPLES_KEPT + [5]:
        samples.add(value)
    assert samples.percentiles((500, 999)) == [7, 7]
    summary = samples.summary()
    assert (summary.count, summary.least, summary.greatest) == (2 * SAMPLES_KEPT + 1, 5, 1000)
    assert summary.total == 1007 * SAMPLES_KEPT + 5
    samples.reset()
    assert (samples.summary().count, samples.percentiles((500,))) == (0, [0])
