"""Configurations as text, and what a reconfig request makes of them."""

import pytest

from zkpy import membership
from zkpy.membership import Configuration, change, check_ids, parse_configuration, parse_server


def line(sid: int, role: str = "participant") -> str:
    return f"server.{sid}=host{sid}:2888:3888:{role};host{sid}:2181"


THREE = parse_configuration("\n".join(map(line, (1, 2, 3))))


def changed(joining: str = "", leaving: str = "", members: str = "", least: int = 1) -> list[int]:
    return sorted(change(THREE, joining, leaving, members, least).servers)


# --- text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a:1:2", "a:1:2:participant"),
        ("a:1:2:OBSERVER;3", "a:1:2:observer;0.0.0.0:3"),
        ("a:1:2:participant;*:3", "a:1:2:participant;0.0.0.0:3"),
        ("a:1:2;b:3", "a:1:2:participant;b:3"),
        ("[::1]:1:2;[fe80::1]:3", "[::1]:1:2:participant;[fe80::1]:3"),
        ("b:1:2|a:3:4", "a:3:4|b:1:2:participant"),
    ],
)
def test_a_server_has_one_form(written: str, shown: str) -> None:
    assert str(parse_server(1, written)) == shown
    assert str(parse_server(1, shown)) == shown


def test_a_configuration_is_shown_as_zookeeper_does() -> None:
    text = (
        "weight.2=3\nserver.2=b:1:2\nversion=1f\n\nserver.10=j:1:2:observer;5\n"
        " server.1 = a:1:2 \ngroup.4=1:2\n"
    )
    found = parse_configuration(text)
    assert (found.voters, found.observers, found.by_majority) == ([1, 2], [10], False)
    shown = membership.show(str(found), 0x1F)
    assert shown.split("\n") == [
        "server.1=a:1:2:participant",
        "server.2=b:1:2:participant",
        "server.10=j:1:2:observer;0.0.0.0:5",
        "group.4=1:2",
        "weight.2=3",
        "version=1f",
    ]
    assert parse_configuration(shown) == found
    assert membership.version_in(shown) == 0x1F
    assert membership.version_in("server.1=a:1:2") == 0


@pytest.mark.parametrize(
    "text",
    [
        "some thing",
        "server.x=a:1:2",
        "server.1",
        "server.1=a:1",
        "client.1=a:1:2",
        "group.1=1:x\nserver.1=a:1:2",
        "group.1=2\nserver.1=a:1:2",
        "group.1=1\nserver.1=a:1:2\nserver.2=b:1:2",
        "weight.1=-1\nserver.1=a:1:2",
    ],
)
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_configuration(text)


def test_quorums() -> None:
    assert THREE.is_quorum([1, 2]) and not THREE.is_quorum([3, 9])
    groups = "".join(f"group.{n}={3 * n - 2}:{3 * n - 1}:{3 * n}\n" for n in (1, 2, 3))
    nine = parse_configuration("\n".join(map(line, range(1, 10))) + f"\n{groups}")
    assert nine.is_quorum([1, 2, 4, 5]) and not nine.is_quorum([1, 2, 4, 7])
    silent = parse_configuration(str(nine) + "".join(f"\nweight.{n}=0" for n in (7, 8, 9)))
    assert silent.is_quorum([1, 2, 4, 5]) and not silent.is_quorum([1, 2, 7, 8])


# --- changes


def test_by_steps() -> None:
    assert changed(joining=f"{line(4)},{line(5, 'observer')}", leaving="1") == [2, 3, 4, 5]
    assert changed(leaving="9") == [1, 2, 3], "who is not there may leave"
    assert changed() == [1, 2, 3]
    again = change(THREE, line(3, "observer"), "", "", 1)
    assert (again.voters, again.observers) == ([1, 2], [3])
    moved = change(THREE, "server.3=host1:5:6;7", "", "", 1)
    assert moved.servers[3].addresses[0].quorum_port == 5


def test_as_a_whole() -> None:
    new = change(THREE, "ignored", "ignored", f"{line(7)},{line(8)},version=5", 1)
    assert new.voters == [7, 8]
    grouped = change(THREE, "", "", f"{line(7)},{line(8)},group.1=7,group.2=8,weight.7=2", 1)
    assert (grouped.groups, grouped.weights) == ({7: 1, 8: 2}, {7: 2})


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"joining": "some thing"}, "server.N="),
        ({"joining": "group.1=1"}, "server.N="),
        ({"joining": "server.4=a:1:2"}, "a client port is needed"),
        ({"joining": "server.4=host1:9:3888;5"}, "is server.1's"),
        ({"joining": "server.4=a:2181:3;host1:2181"}, "is server.1's"),
        ({"joining": "server.4=a\nserver.9=b:1:2;3"}, "host:quorum-port"),
        ({"joining": "server.4=a:1:2;b\nversion=9:3"}, "host:quorum-port"),
        ({"leaving": "one"}, "not a whole number"),
        ({"leaving": "1,2", "least": 2}, "at least 2"),
        ({"leaving": "1,2,3"}, "at least 1"),
        ({"members": line(1, "observer")}, "at least 1"),
        ({"members": f"{line(1)},weight.1=0"}, "any weight"),
        ({"members": "some thing"}, "server.N="),
    ],
)
def test_what_is_refused(request_: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        changed(**request_)  # type: ignore[arg-type]


def test_wildcards_do_not_meet() -> None:
    """`;2181` on every server is how most people write it."""
    assert changed("server.4=a:2888:3888;2181,server.5=b:2888:3888;2181") == [1, 2, 3, 4, 5]


def test_by_steps_needs_a_majority() -> None:
    grouped = parse_configuration(f"{line(1)}\n{line(2)}\ngroup.1=1:2")
    with pytest.raises(ValueError, match="all members have to be named"):
        change(grouped, line(3), "", "", 1)


def test_ids_beyond_a_byte_are_no_servers() -> None:
    check_ids(THREE)
    with pytest.raises(ValueError, match="from 0 to 255"):
        check_ids(Configuration.of([parse_server(256, "a:1:2;3")]))
