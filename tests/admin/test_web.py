"""What a request is answered, and who is refused."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs
import pytest

from tests.admin.test_admin import CONFIG, CONNECTIONS, SESSION, STATUS, make_view
from zkpy.admin import documents
from zkpy.admin.commands import COMMANDS, WITHOUT_WORD, ServerView
from zkpy.admin.web import HTML, JSON, Request, Response, Site, respond
from zkpy.config import parse, read_properties
from zkpy.replica.status import Tables

SITE = Site("/commands", ("*",))
MEMBER = """\
dataDir=/d
clientPort=2182
server.1=a:2888:3888|b:2889:3889
server.2=c:1:2;0.0.0.0:2182
server.3=d:1:2:observer
DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
colour=red
"""


class FakeTables:
    def watched_paths(self) -> Iterator[str]:
        return iter(["/a", "/gone", "/b"])

    def watchers(self, path: str) -> list[int]:
        return {"/a": [SESSION, -1], "/b": [SESSION]}.get(path, [])

    def watching_links(self) -> list[int]:
        return [1, 2, 3]

    def watched_by(self, link: int) -> tuple[int, Iterator[str]]:
        session, paths = {1: (SESSION, ["/a", "/b"]), 2: (-1, ["/a"])}.get(link, (0, []))
        return session, iter(paths)

    def owners(self) -> list[int]:
        return [SESSION, 8]

    def owned_by(self, session: int) -> list[str]:
        return ["/e"] if session == SESSION else []

    def deadlines(self) -> dict[int, list[int]]:
        return {52_000: [SESSION, -1]}

    def digests(self) -> list[tuple[int, int]]:
        return [(5, 9)]


def view_of(mode: str = "standalone", **changes: Any) -> ServerView:
    return make_view(mode, **{"tables": cast(Tables, FakeTables()), **changes})


def ask(
    target: str,
    method: str = "GET",
    site: Site = SITE,
    view: ServerView | None = None,
    on_loopback: bool = True,
    host: str = "localhost:8080",
    more: Mapping[str, str] | None = None,
) -> Response:
    request = Request(method, target, {"host": host, **(more or {})}, on_loopback)
    return respond(request, site, lambda: view or view_of())


def body(response: Response) -> str:
    whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return whole.decode()


def document(name: str, **changes: Any) -> Any:
    response = ask(f"/commands/{name}", **changes)
    assert response.content_type == JSON
    found = json.loads(body(response))
    assert list(found)[-2:] == ["command", "error"]
    return found


# --- who may have what ----------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.:8080",
        "zk.localhost",
        "127.0.0.1:8080",
        "10.0.0.7",
        "[::1]:8080",
        "[fe80::1%eth0]",
        "",
        "zk7.example",
    ],
)
def test_hosts_that_mean_this_machine(host: str) -> None:
    site = Site("/commands", host="zk7.example")
    assert ask("/commands/ruok", site=site, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.org",
        "127.0.0.1%evil.com",
        "[::1].evil.com",
        "[evil.com]",
        "[localhost]",
        "localhost@evil.com",
        "localhost:1:2",
        "localhost evil.com",
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(host: str) -> None:
    for target in ("/commands/ruok", "/commands", "/metrics"):
        assert ask(target, host=host).status == 403


def test_services_have_names_elsewhere() -> None:
    """Prometheus and probes say what their configuration says."""
    assert ask("/metrics", host="zk-0.zk.svc.cluster.local:7000", on_loopback=False).status == 200


@pytest.mark.parametrize("name", ["stat_reset", "srst", "connection_stat_reset", "crst"])
def test_what_changes_something_needs_a_post_and_the_whitelist(name: str) -> None:
    done: list[str] = []
    view = view_of(
        reset_stats=lambda: done.append("srst"), reset_connections=lambda: done.append("crst")
    )
    target = f"/commands/{name}"
    for method in ("GET", "HEAD"):
        refused = ask(target, method, view=view)
        assert (refused.status, refused.allow) == (405, "POST")
    word = documents.BY_NAME[name].word
    shy = Site("/commands", ("srvr", "mntr"))
    assert ask(target, "POST", site=shy, view=view).status == 403
    for header in ("origin", "referer", "sec-fetch-site", "sec-fetch-mode"):
        assert ask(target, "POST", view=view, more={header: "null"}).status == 403
    assert done == []
    assert ask(target, "POST", site=Site("/commands", (word,)), view=view).status == 200
    assert done == [word]


def test_every_other_command_takes_no_post() -> None:
    for name, command in documents.BY_NAME.items():
        if not command.changes:
            assert ask(f"/commands/{name}", "POST").status == 405
    assert ask("/commands", "POST").status == ask("/metrics", "POST").status == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT"])
def test_other_methods(method: str) -> None:
    refused = ask("/commands/ruok", method)
    assert (refused.status, refused.allow) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "name", ["snapshot", "snap", "restore", "rest", "set_trace_mask", "stmk", "orst"]
)
def test_what_is_not_there_says_so(name: str) -> None:
    for method in ("GET", "POST"):
        response = ask(f"/commands/{name}", method)
        assert response.status == 501
        assert json.loads(body(response))["error"]


@pytest.mark.parametrize("name", ["nothing", "ruok/", "..", "%72uok", ""])
def test_a_command_that_nobody_knows(name: str) -> None:
    response = ask(f"/commands/x{name}")
    assert response.status == 404
    assert json.loads(body(response)) == {
        "command": f"x{name}",
        "error": f"Unknown command: x{name}",
    }


def test_a_long_name_is_not_given_back_whole() -> None:
    assert len(body(ask("/commands/" + "x" * 8000))) < 300


def test_paths() -> None:
    for target in ("/commands", "/commands/", "/commands?x=1"):
        assert (ask(target).status, ask(target).content_type) == (200, HTML)
    for target in ("/", "/commandsx", "/command", "http://localhost/commands", "*"):
        assert ask(target).status == 404
    elsewhere = Site("/zk/do")
    assert ask("/zk/do/ruok", site=elsewhere).status == 200
    assert ask("/commands/ruok", site=elsewhere).status == 404
    only_metrics = Site(None)
    assert ask("/metrics", site=only_metrics).status == 200
    assert ask("/commands/ruok", site=only_metrics).status == 404


def test_the_list_links_what_may_be_followed() -> None:
    text = body(ask("/commands"))
    assert text.startswith('<a href="/commands/configuration">configuration</a>\n<br/>\n')
    names = [line.partition(">")[2].partition("<")[0] for line in text.splitlines() if "<a" in line]
    assert all(ask(f"/commands/{name}").status == 200 for name in names)
    assert "stat_reset" not in names and "stat_reset (POST)" in text


# --- answers ----------------------------------------------------------------------------


def test_layout_is_zookeepers() -> None:
    assert body(ask("/commands/ruok")) == '{\n  "command" : "ruok",\n  "error" : null\n}'


def test_both_names_give_one_answer() -> None:
    pairs = {"conf": "configuration", "config": "configuration", "env": "environment"}
    for command in (*COMMANDS, *WITHOUT_WORD):
        if command.word and command.word != "stmk" and not command.changes:
            pairs[command.word] = command.name
    for word, name in pairs.items():
        assert document(word)["command"] == name
        assert document(word).keys() == document(name).keys()


def commands() -> list[str]:
    return [name for name, each in documents.BY_NAME.items() if name == each.name]


@pytest.mark.parametrize("name", commands())
def test_without_service(name: str) -> None:
    """A probe has to see it; what it is for, is said without service too."""
    status = attrs.evolve(STATUS, mode="", why_idle="voter 2 is missing")
    method = "POST" if documents.BY_NAME[name].changes else "GET"
    response = ask(f"/commands/{name}", method, view=view_of(status=status))
    if name in ("environment", "get_trace_mask", "system_properties", "zabstate"):
        assert response.status == 200
    else:
        assert response.status == 503
        assert json.loads(body(response))["error"] == (
            "This ZooKeeper instance is not currently serving requests: voter 2 is missing"
        )
    assert ask("/metrics", view=view_of(status=status)).status == 200
    assert ask("/commands", view=view_of(status=status)).status == 200


def test_connections() -> None:
    whole, brief = document("connections")["connections"]
    assert whole == {
        "remote_socket_address": "10.0.0.1:4000",
        "interest_ops": 1,
        "outstanding_requests": 1,
        "packets_received": 2,
        "packets_sent": 3,
        "session_id": SESSION,
        "last_operation": "GETD",
        "established": 1_700_000_000_000,
        "session_timeout": 10_000,
        "last_cxid": 17,
        "last_zxid": 0x1_0000_0005,
        "last_response_time": 1_700_000_000_400,
        "last_latency": 4,
        "min_latency": 1,
        "avg_latency": 2,
        "max_latency": 4,
    }
    assert brief == {key: brief[key] for key in list(whole)[:5]}
    assert document("connections")["secure_connections"] == []


def test_stats_are_those_of_the_server_and_its_connections() -> None:
    stats, server = document("stats"), document("server_stats")
    assert [list(each) for each in stats.pop("connections")] == [
        ["remote_socket_address", "interest_ops", "outstanding_requests"]
        + ["packets_received", "packets_sent"]
    ] * len(CONNECTIONS)
    del stats["secure_connections"]
    assert {**stats, "command": "server_stats"} == server
    figures = server["server_stats"]
    assert (figures["server_state"], figures["last_processed_zxid"]) == (
        "standalone",
        0x1_0000_0005,
    )
    assert (figures["avg_latency"], figures["min_latency"], figures["uptime"]) == (2.6667, 1, 1234)
    assert server["client_response"] == figures["client_response_stats"]
    assert (server["node_count"], server["read_only"]) == (7, False)
    assert "proposal_stats" not in server


def test_a_leader_tells_of_its_proposals() -> None:
    status = attrs.evolve(STATUS, mode="leader", proposal_sizes=(3, 2, 9))
    assert document("server_stats", view=view_of(status=status))["proposal_stats"] == {
        "last_buffer_size": 3,
        "min_buffer_size": 2,
        "max_buffer_size": 9,
    }


def test_tables() -> None:
    assert document("dump")["expiry_time_to_session_ids"] == {"1700000002500": [SESSION, -1]}
    assert document("dump")["session_id_to_ephemeral_paths"] == {str(SESSION): ["/e"]}
    by_session = document("watches")["session_id_to_watched_paths"]
    assert by_session == {str(SESSION): ["/a", "/b"], "-1": ["/a"]}
    by_path = document("watches_by_path")["path_to_session_ids"]
    assert by_path == {"/a": [SESSION, -1], "/b": [SESSION]}
    summary = document("watch_summary")
    assert [summary[f"num_{key}"] for key in ("connections", "paths", "total_watches")] == [3, 3, 3]
    assert document("hash")["digests"] == [{"zxid": 5, "digest_version": 0, "digest": 9}]


def test_a_table_comes_in_pieces_of_one_size() -> None:
    """Whether many rows are long, or one."""

    class Many(FakeTables):
        def watched_paths(self) -> Iterator[str]:
            return iter(["/one", *(f"/{i}" for i in range(20_000))])

        def watchers(self, path: str) -> list[int]:
            return list(range(60_000)) if path == "/one" else [SESSION]

    view = view_of(tables=cast(Tables, Many()))
    response = ask("/commands/wchp", view=view)
    assert not isinstance(response.body, bytes)
    pieces = list(response.body)
    assert len(pieces) > 20
    assert max(map(len, pieces)) < 2 * documents.PIECE_CHARACTERS
    found = json.loads(b"".join(pieces))["path_to_session_ids"]
    assert len(found) == 20_001
    assert found["/one"] == list(range(60_000))
    assert document("watch_summary", view=view)["num_paths"] == 20_001


def test_counting_is_done_in_parts() -> None:
    """Whether there are many watches, or one session has them."""

    class Many(FakeTables):
        def watched_paths(self) -> Iterator[str]:
            return (f"/{i}" for i in range(20_000))

        def watched_by(self, link: int) -> tuple[int, Iterator[str]]:
            return SESSION, (f"/{i}" for i in range(20_000 if link == 2 else 0))

    response = ask("/commands/wchs", view=view_of(tables=cast(Tables, Many())))
    assert not isinstance(response.body, bytes)
    pieces = list(response.body)
    assert pieces.count(b"") > 2 * 20_000 // documents.STEPS_PER_PART
    assert json.loads(b"".join(pieces))["num_total_watches"] == 20_000


def test_configuration_without_secrets() -> None:
    config = parse(read_properties(MEMBER, "zoo.cfg"), "zoo.cfg", 2)
    view = view_of(config=config)
    whole = "".join(body(ask(f"/commands/{name}", view=view)) for name in commands())
    assert "D/InIHSb7yEE" not in whole and "super:" not in whole
    text = document("initial_configuration", view=view)["initial_configuration"]
    assert "DigestAuthenticationProvider.superDigest=***\n" in text
    assert text.startswith("dataDir=/d\nclientPort=2182\nserver.1=a:2888:3888|b:2889:3889\n")
    properties = document("system_properties", view=view)
    assert properties["zookeeper.colour"] == "red"
    shown = document("configuration", view=view)
    assert (shown["data_dir"], shown["server_id"], shown["client_port"]) == ("/d", 0, 2181)


def test_a_member_tells_of_its_ensemble() -> None:
    config = parse(read_properties(MEMBER, "zoo.cfg"), "zoo.cfg", 2)
    status = attrs.evolve(
        STATUS, mode="follower", standalone=False, server_id=2, leader=1, phase="broadcast"
    )
    view = view_of(config=config, status=status)
    leader = document("leader", view=view)
    assert (leader["is_leader"], leader["leader_id"], leader["leader_ip"]) == (False, 1, "a")
    zab = document("zabstate", view=view)
    assert zab["quorum_address"]["all_addresses"] == ["c:1"]
    assert zab["election_address"]["all_ports"] == [2]
    assert (zab["client_address"], zab["voting"], zab["zabstate"]) == (
        "0.0.0.0:2182",
        True,
        "broadcast",
    )
    assert (zab["last_zxid"], zab["zab_epoch"], zab["zab_counter"]) == ("0x100000005", 1, 5)
    voters = document("voting_view", view=view)["current_config"]
    assert list(voters) == ["1", "2"]
    assert voters["1"] == {
        "server_addresses": ["a:2888", "b:2889"],
        "election_addresses": ["a:3888", "b:3889"],
        "client_address": "",
        "learner_type": "participant",
    }
    assert document("observers", view=view)["observers"] == []
    led = attrs.evolve(status, mode="leader", leader=2, observers=(3,))
    assert document("observers", view=view_of(config=config, status=led))["observers"] == [
        {"sid": 3}
    ]
    assert document("leader", view=view_of(config=config, status=led))["is_leader"] is True


def test_a_server_alone_has_no_ensemble() -> None:
    assert document("leader")["error"] == "server is not initialized"
    assert document("voting_view")["current_config"] == {}
    zab = document("zabstate")
    assert (zab["voting"], zab["zabstate"]) == (False, "")


def test_last_snapshot() -> None:
    found = document("last_snapshot", view=view_of(last_image=lambda: (0x1_0000_0005, 99)))
    assert (found["zxid"], found["timestamp"]) == ("100000005", 99)
    assert document("last_snapshot")["zxid"] == "f" * 16


def test_monitor_is_mntr() -> None:
    found = document("monitor", view=view_of(config=CONFIG))
    assert (found["znode_count"], found["server_state"], found["avg_latency"]) == (
        7,
        "standalone",
        2.6667,
    )
