"""`server.N`, `group.N` and `weight.N`: who the ensemble is."""

import re
from collections.abc import Iterator
from typing import Final

import attrs

from zkpy.config.properties import Setting
from zkpy.config.values import count, parse_setting
from zkpy.membership import (
    ANY_ADDRESS,
    ANY_IPV4,
    SERVER_ID_MAX,
    ServerSpec,
    parse_host,
    parse_server,
)

WILDCARDS: Final = frozenset({ANY_ADDRESS, ANY_IPV4})
MEMBER: Final = re.compile(r"(server|group|weight)\.(.*)", re.DOTALL)


def parse_members(setting: Setting) -> list[int]:
    """`1:2:3`, the server ids of a group."""
    try:
        return [int(part) for part in setting.value.split(":")]
    except ValueError:
        raise setting.error("server ids are needed, as in 1:2:3") from None


def is_wildcard(host: str) -> bool:
    """Whether it stands for addresses of whichever machine listens there."""
    return not host or parse_host(host) in WILDCARDS


def sockets_of(spec: ServerSpec) -> Iterator[tuple[str, str, int]]:
    """(protocol, host, port) of all that a server listens on, as far as a machine is named."""
    for address in spec.addresses:
        yield "TCP", address.host.lower(), address.quorum_port
        yield "UDP", address.host.lower(), address.election_port
    if spec.client is not None:
        every = [address.host for address in spec.addresses]
        for host in every if is_wildcard(spec.client.host) else [spec.client.host]:
            yield "TCP", host.lower(), spec.client.port


@attrs.define
class Ensemble:
    """What `server.`, `group.` and `weight.` lines say."""

    servers: dict[int, ServerSpec] = attrs.Factory(dict)
    lines: dict[int, Setting] = attrs.Factory(dict)
    groups: dict[int, int] = attrs.Factory(dict)
    weights: dict[int, int] = attrs.Factory(dict)
    group_lines: list[Setting] = attrs.Factory(list)
    """Those of weights too."""

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
        self._check_weights()
        self._check_apart()

    def _check_weights(self) -> None:
        """Else there is no quorum, ever; a reconfig to such a set is refused too."""
        voters = [sid for sid, spec in self.servers.items() if not spec.observer]
        if voters and not any(self.weights.get(sid, 1) for sid in voters):
            weights = [each for each in self.group_lines if each.key.startswith("weight.")]
            lines = [each for each in weights if self._mentioned(each)[0] in voters]
            raise lines[-1].error("no voter has any weight: at least one of 1 or more is needed")

    def _check_apart(self) -> None:
        """Two servers at one address: one of them would be taken for the other."""
        taken: dict[tuple[str, str, int], int] = {}
        for server_id, spec in self.servers.items():
            for protocol, host, port in sockets_of(spec):
                other = taken.setdefault((protocol, host, port), server_id)
                if other != server_id and not is_wildcard(host):
                    raise self.lines[server_id].error(
                        f"{host}:{port} ({protocol}) is server.{other}'s already, at "
                        f"{self.lines[other].where}: each server needs ports of its own"
                    )

    def _mentioned(self, setting: Setting) -> list[int]:
        if setting.key.startswith("weight."):
            return [int(setting.key.partition(".")[2])]
        return parse_members(setting)
