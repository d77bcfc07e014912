"""`server.N`, `group.N` and `weight.N`: who the ensemble is."""

import re
from typing import Final

import attrs

from zkpy.config.properties import Setting
from zkpy.config.values import ANY_ADDRESS, count, parse_host, parse_role, parse_setting

SERVER_ID_MAX: Final = 255
"""Session ids carry it in their first byte."""
MEMBER: Final = re.compile(r"(server|group|weight)\.(.*)", re.DOTALL)


@attrs.define(frozen=True)
class PeerAddress:
    host: str
    quorum_port: int
    election_port: int


@attrs.define(frozen=True)
class ClientAddress:
    host: str
    """`ANY_ADDRESS` for all."""
    port: int

    def __str__(self) -> str:
        host = self.host or "*"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@attrs.define(frozen=True)
class ServerSpec:
    """One `server.N` line."""

    server_id: int
    addresses: tuple[PeerAddress, ...]
    observer: bool
    client: ClientAddress | None
    text: str
    """The value as it was written: `/zookeeper/config` shows it so."""


_SERVER_FORM: Final = (
    "host:quorum-port:election-port[:participant|observer][|...][;[address:]client-port] is needed"
)


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
    if not 3 <= len(parts) <= 4 or not parts[0]:
        raise ValueError(_SERVER_FORM)
    quorum, election = _port(parts[1]), _port(parts[2])
    if quorum == election:
        raise ValueError("quorum and election port must differ")
    return PeerAddress(parts[0], quorum, election)


def _client_address(text: str) -> ClientAddress:
    parts = split_address(text)
    if len(parts) > 2:
        raise ValueError(_SERVER_FORM)
    host = parse_host(parts[0]) if len(parts) == 2 else ANY_ADDRESS
    # ZooKeeper means every address by 0.0.0.0 here, IPv6 too.
    return ClientAddress(ANY_ADDRESS if host == "0.0.0.0" else host, _port(parts[-1]))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text or 'nothing'} is not a port; {_SERVER_FORM}")
    return int(text)


def parse_members(setting: Setting) -> list[int]:
    """`1:2:3`, the server ids of a group."""
    try:
        return [int(part) for part in setting.value.split(":")]
    except ValueError:
        raise setting.error("server ids are needed, as in 1:2:3") from None


@attrs.define
class Ensemble:
    """What `server.`, `group.` and `weight.` lines say."""

    servers: dict[int, ServerSpec] = attrs.Factory(dict)
    lines: dict[int, Setting] = attrs.Factory(dict)
    groups: dict[int, int] = attrs.Factory(dict)
    weights: dict[int, int] = attrs.Factory(dict)
    group_lines: list[Setting] = attrs.Factory(list)

    def add(self, setting: Setting, kind: str, number: str) -> None:
        if not number.isascii() or not number.isdigit():
            raise setting.error(f"{kind}.N with a whole number N is needed")
        {"server": self._add_server, "group": self._add_group, "weight": self._add_weight}[kind](
            setting, int(number)
        )

    def _add_server(self, setting: Setting, server_id: int) -> None:
        if server_id > SERVER_ID_MAX:
            raise setting.error(f"server ids go from 0 to {SERVER_ID_MAX}")
        try:
            self.servers[server_id] = parse_server(server_id, setting.value)
        except ValueError as why:
            raise setting.error(str(why)) from None
        self.lines[server_id] = setting

    def _add_group(self, setting: Setting, group: int) -> None:
        self.group_lines.append(setting)
        for server_id in parse_members(setting):
            if self.groups.setdefault(server_id, group) != group:
                raise setting.error(f"server {server_id} is in two groups")

    def _add_weight(self, setting: Setting, server_id: int) -> None:
        self.group_lines.append(setting)
        self.weights[server_id] = parse_setting(setting, count)  # type: ignore[assignment]

    def check(self) -> None:
        """Groups and weights must speak of the servers, and of every one that votes."""
        for setting in self.group_lines:
            for server_id in self._mentioned(setting):
                if server_id not in self.servers:
                    raise setting.error(f"there is no server.{server_id}")
        for server_id, spec in self.servers.items():
            if self.groups and not spec.observer and server_id not in self.groups:
                raise self.lines[server_id].error("there are groups, and it is in none")
        if self.servers and all(spec.observer for spec in self.servers.values()):
            raise next(iter(self.lines.values())).error("at least one participant is needed")

    def _mentioned(self, setting: Setting) -> list[int]:
        if setting.key.startswith("weight."):
            return [int(setting.key.partition(".")[2])]
        return parse_members(setting)
