"""Who the ensemble is, as text: `server.N` lines, and what a reconfig makes of them.

In: lines of a zoo.cfg or of `/zookeeper/config`, the three lists of a reconfig request.
Out: `Configuration`, and its text in ZooKeeper's form, by which clients know it:

    server.N=host:quorum:election:participant|observer[|host:...][;client-host:client-port]
    group.N=1:2:3
    weight.N=K
    version=HEX

one line each, servers by number, without a line end behind the last.  What is wrong is a
ValueError that says what would be right; which error a client sees is its caller's to say.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

import attrs

SERVER_ID_MAX: Final = 255
"""Session ids carry it in their first byte."""
ANY_ADDRESS: Final = ""
"""Every address of the machine, IPv4 and IPv6: what zoo.cfg means by no address."""
ANY_IPV4: Final = "0.0.0.0"
_HOST: Final = re.compile(r"[^\s,;|=]+")
"""Nothing by which its line would end, or mean something else once it is read again."""
_LINE: Final = re.compile(r"(server|group|weight)\.(\d{1,18})")


@attrs.define(frozen=True)
class PeerAddress:
    host: str
    quorum_port: int
    election_port: int

    def __str__(self) -> str:
        return f"{_shown(self.host)}:{self.quorum_port}:{self.election_port}"


@attrs.define(frozen=True)
class ClientAddress:
    host: str
    """`ANY_ADDRESS` for all."""
    port: int

    def __str__(self) -> str:
        return f"{_shown(self.host or '*')}:{self.port}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@attrs.define(frozen=True)
class ServerSpec:
    """One `server.N` line."""

    server_id: int
    addresses: tuple[PeerAddress, ...]
    observer: bool
    client: ClientAddress | None
    text: str = attrs.field(eq=False)
    """The value as it was written."""

    def __str__(self) -> str:
        """The value in the one form that all members show."""
        role = "observer" if self.observer else "participant"
        peers = "|".join(map(str, sorted(self.addresses, key=lambda each: each.host)))
        host = _shown(self.client.host or ANY_IPV4) if self.client else ""
        return f"{peers}:{role}" + (f";{host}:{self.client.port}" if self.client else "")


# --- one server -----------------------------------------------------------------------

_SERVER_FORM: Final = (
    "host:quorum-port:election-port[:participant|observer][|...][;[address:]client-port] is needed"
)


def parse_role(text: str) -> bool:
    """Whether it is an observer."""
    try:
        return {"observer": True, "participant": False}[text.lower()]
    except KeyError:
        raise ValueError("participant or observer is needed") from None


def parse_host(text: str) -> str:
    """An address to listen on; the wildcards of IPv6 stand for every address."""
    if not text:
        raise ValueError("a value is needed")
    host = text.removeprefix("[").removesuffix("]")
    return ANY_ADDRESS if host in ("::", "0:0:0:0:0:0:0:0", "*") else host


def split_address(text: str) -> list[str]:
    """The parts between colons; the first may be an IPv6 address in brackets."""
    host, bracket, rest = text.partition("]")
    if not bracket:
        return text.strip().split(":")
    return [host.strip().removeprefix("["), *rest.split(":")[1:]]


def parse_server(server_id: int, text: str) -> ServerSpec:
    """One `server.N` value; ValueError says what would be right."""
    peers, semicolon, client = text.partition(";")
    parts = [split_address(address) for address in peers.split("|")]
    roles = list(dict.fromkeys(parse_role(part[3]) for part in parts if len(part) == 4))
    if len(roles) > 1:
        raise ValueError("all addresses of one server must have the same role")
    return ServerSpec(
        server_id=server_id,
        addresses=tuple(_peer_address(part) for part in parts),
        observer=bool(roles and roles[0]),
        client=_client_address(client) if semicolon else None,
        text=text,
    )


def _peer_address(parts: list[str]) -> PeerAddress:
    if not 3 <= len(parts) <= 4 or not _HOST.fullmatch(parts[0]):
        raise ValueError(_SERVER_FORM)
    quorum, election = _port(parts[1]), _port(parts[2])
    if quorum == election:
        raise ValueError("quorum and election port must differ")
    return PeerAddress(parts[0], quorum, election)


def _client_address(text: str) -> ClientAddress:
    parts = split_address(text)
    if len(parts) > 2:
        raise ValueError(_SERVER_FORM)
    if len(parts) == 2 and not _HOST.fullmatch(parts[0]):
        raise ValueError(_SERVER_FORM)
    host = parse_host(parts[0]) if len(parts) == 2 else ANY_ADDRESS
    # ZooKeeper means every address by 0.0.0.0 here, IPv6 too.
    return ClientAddress(ANY_ADDRESS if host == ANY_IPV4 else host, _port(parts[-1]))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text or 'nothing'} is not a port; {_SERVER_FORM}")
    return int(text)


# --- the ensemble ---------------------------------------------------------------------


@attrs.define(frozen=True)
class Configuration:
    """All servers, and how they count."""

    servers: Mapping[int, ServerSpec]
    """Server id -> line, ascending by id."""
    groups: Mapping[int, int] = attrs.field(factory=dict)
    """Server id -> group, for hierarchical quorums; empty for majorities."""
    weights: Mapping[int, int] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls,
        servers: Iterable[ServerSpec],
        groups: Mapping[int, int] | None = None,
        weights: Mapping[int, int] | None = None,
    ) -> "Configuration":
        by_id = sorted(servers, key=lambda spec: spec.server_id)
        return cls({spec.server_id: spec for spec in by_id}, groups or {}, weights or {})

    @property
    def voters(self) -> list[int]:
        return [sid for sid, spec in self.servers.items() if not spec.observer]

    @property
    def observers(self) -> list[int]:
        return [sid for sid, spec in self.servers.items() if spec.observer]

    @property
    def by_majority(self) -> bool:
        return not self.groups and not self.weights

    def is_quorum(self, sids: Container[int]) -> bool:
        """Most of the weight in most of the groups that have any, as `zkpy.zab.quorum` counts."""
        there: dict[int, int] = {}
        total: dict[int, int] = {}
        for sid in self.voters:
            group, weight = self.groups.get(sid, 0), self.weights.get(sid, 1)
            total[group] = total.get(group, 0) + weight
            there[group] = there.get(group, 0) + (weight if sid in sids else 0)
        won = [2 * there[group] > weight for group, weight in total.items() if weight]
        return 2 * sum(won) > len(won)

    def __str__(self) -> str:
        """Without a version."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (f"server.{sid}={spec}" for sid, spec in self.servers.items())
        for group in sorted(set(self.groups.values())):
            ids = [str(sid) for sid, each in sorted(self.groups.items()) if each == group]
            yield f"group.{group}={':'.join(ids)}"
        yield from (f"weight.{sid}={weight}" for sid, weight in sorted(self.weights.items()))


def show(text: str, version: int) -> str:
    """What `/zookeeper/config` holds: the text of a configuration and its version."""
    return f"{text}\nversion={version:x}"


def parse_configuration(text: str) -> Configuration:
    """Of lines as above; the version, if there is one, is left out."""
    servers: dict[int, ServerSpec] = {}
    groups: dict[int, int] = {}
    weights: dict[int, int] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        kind, number, value = _split_line(line)
        if kind == "server":
            servers[number] = parse_server(number, value)
        elif kind == "group":
            groups |= dict.fromkeys(map(_number, value.split(":")), number)
        elif kind == "weight":
            weights[number] = _number(value)
    _check_counted(servers, groups, weights)
    return Configuration.of(servers.values(), groups, weights)


def version_in(text: str) -> int:
    """Of a `/zookeeper/config`; 0 if it names none."""
    found = re.search(r"^version=([0-9a-f]+)$", text, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _split_line(line: str) -> tuple[str, int, str]:
    key, equals, value = (part.strip() for part in line.partition("="))
    if equals and key == "version":
        return key, 0, value
    found = _LINE.fullmatch(key)
    if not equals or found is None:
        raise ValueError(f"{line}: server.N=, group.N= or weight.N= is needed")
    return found[1], _number(found[2]), value


def _number(text: str) -> int:
    stripped = text.strip()
    if not stripped.isascii() or not stripped.isdigit():
        raise ValueError(f"{text or 'nothing'} is not a whole number")
    return int(stripped)


def _check_counted(
    servers: Mapping[int, ServerSpec],
    groups: Mapping[int, int],
    weights: Mapping[int, int],
) -> None:
    for sid in (*groups, *weights):
        if sid not in servers:
            raise ValueError(f"there is no server.{sid} to be counted")
    for sid, spec in servers.items():
        if groups and not spec.observer and sid not in groups:
            raise ValueError(f"there are groups, and server.{sid} is in none")


# --- changes --------------------------------------------------------------------------


def change(
    current: Configuration,
    joining: str,
    leaving: str,
    new_members: str,
    voters_min: int,
) -> Configuration:
    """The configuration that a reconfig request asks for.

    `new_members` says all of it, else `leaving` (ids) and `joining` (`server.N=...`) say what
    is to be different; lists are separated by commas.  Checks in ZooKeeper's order.
    """
    if new_members:
        new = parse_configuration(new_members.replace(",", "\n"))
    else:
        new = _change_by_steps(current, joining, leaving)
    if len(new.voters) < voters_min:
        raise ValueError(f"{len(new.voters)} voters would be left, at least {voters_min} must be")
    if not any(new.weights.get(sid, 1) for sid in new.voters):
        raise ValueError("no voter would have any weight")
    return new


def check_ids(new: Configuration) -> None:
    """Apart from `change`, since ZooKeeper has no such rule: it comes after all of its own."""
    for sid in new.servers:
        if sid > SERVER_ID_MAX:
            raise ValueError(f"server.{sid}: server ids go from 0 to {SERVER_ID_MAX}")


def _change_by_steps(current: Configuration, joining: str, leaving: str) -> Configuration:
    if not current.by_majority:
        raise ValueError("with groups or weights all members have to be named")
    servers = dict(current.servers)
    for sid in parse_leaving(leaving):
        servers.pop(sid, None)  # ZooKeeper takes one that is no member, too
    for text in filter(None, joining.split(",")):
        spec = _parse_joiner(text)
        for other in servers.values():
            if other.server_id != spec.server_id:
                _check_apart(spec, other)
        servers[spec.server_id] = spec
    return Configuration.of(servers.values())


def parse_leaving(text: str) -> list[int]:
    """The ids of a reconfig's list of leaving servers."""
    return [_number(each) for each in text.split(",") if each]


def _parse_joiner(text: str) -> ServerSpec:
    kind, number, value = _split_line(text.strip())
    if kind != "server":
        raise ValueError(f"{text}: server.N=... is needed")
    spec = parse_server(number, value)
    if spec.client is None:
        raise ValueError(f"server.{number}: a client port is needed: ;[address:]port")
    return spec


def _check_apart(one: ServerSpec, other: ServerSpec) -> None:
    """No two servers at one address: a mistake that would only show once both run."""
    taken = set(_ends_of(other))
    for end in _ends_of(one):
        if end in taken:
            raise ValueError(
                f"{end[0]}:{end[1]} of server.{one.server_id} is server.{other.server_id}'s"
            )


def _ends_of(spec: ServerSpec) -> Iterator[tuple[str, int]]:
    """Wildcards say nothing about which machine they mean."""
    for address in spec.addresses:
        if address.host not in (ANY_IPV4, "::"):
            yield address.host, address.quorum_port
            yield address.host, address.election_port
    if spec.client is not None and spec.client.host:
        yield spec.client.host, spec.client.port
