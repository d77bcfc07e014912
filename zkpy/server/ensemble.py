"""A server's ties to the other members of its ensemble, as one thing for driver and app.

In: the ports of the own `server.N` line, bound before anything else at start.  Out: what
the core wants sent, over learner links (`peers`) and election datagrams (`votes`), to
where the members are (`addresses`).

Where they are is what the files say; where the membership may change (`reconfigEnabled`)
it is first what the log says of a server, committed or proposed.  The own ports are those
that the files give at the start, always: whoever is to be reached at another address has to
be started there.
What is committed is written to a file as well (`dynamic`), for people and for a next start.
Who counts is always what the log says: files that name others, or other roles, are warned of.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from wire.peer import Hello, Notification
from zkpy.config import ANY_ADDRESS, Config, PeerAddress, ServerSpec
from zkpy.config.values import is_loopback
from zkpy.effects import Ready
from zkpy.errors import ConfigError
from zkpy.replica.membership import known_to, members_of
from zkpy.server import dynamic
from zkpy.server.addresses import Directory
from zkpy.server.driver import Driver
from zkpy.server.peers import PeerLink, Peers
from zkpy.server.sockets import bind_everywhere
from zkpy.server.votes import Votes
from zkpy.zab.quorum import Members, Voter, VoterSet

if TYPE_CHECKING:
    from zkpy.server.tls import Certificates

log = logging.getLogger("zkpy.server")

NAMES_PATIENCE_S: Final = 1.0
"""How long a start waits for the names of the others."""


class Facts(Protocol):
    """What the ties must know of a `Replica`."""

    @property
    def dial(self) -> int | None: ...
    @property
    def voter_sets(self) -> tuple[VoterSet, VoterSet]:
        """In force at what is applied, and the newest one in the log."""

    def hello(self) -> Hello: ...


@attrs.define(frozen=True)
class Ports:
    """Bound sockets of one server."""

    quorum: tuple[socket.socket, ...]
    election: tuple[socket.socket, ...]


class Ensemble:
    """The others, from one server's point of view."""

    def __init__(
        self,
        config: Config,
        ports: Ports,
        facts: Facts,
        certificates: "Certificates | None" = None,
        election_keys: Sequence[bytes] = (),
    ) -> None:
        """`certificates` are for links with the others."""
        own = own_line(config)
        self.own = own
        self._config = config
        self._ports = ports
        self._facts = facts
        self._directory = Directory(
            config.servers, own.server_id, hosts_guests=config.reconfig_enabled
        )
        self._certificates = certificates
        self._election_keys = election_keys
        self._followed: tuple[VoterSet, VoterSet] | None = None
        self._compared = 0
        """Version of the set that the files were last compared with."""
        self._writer = ThreadPoolExecutor(1, "zkpy-membership")
        """For the file: the loop waits for no disk, and what is newer is written later."""
        self._peers: Peers | None = None
        self._votes: Votes | None = None

    async def start(self, driver: Driver) -> None:
        warn_of_strangers(self._config, self.own)
        self._follow_membership()
        await self._directory.start(NAMES_PATIENCE_S)
        warn_of_loopback(self.own, self._ports, self._directory)
        self._peers = Peers(
            driver,
            self._directory,
            self._config.limits,
            dial=lambda: self._facts.dial,
            greeting=self._facts.hello,
            enter=self._secure(),
        )
        self._votes = Votes(
            self._ports.election,
            self._directory,
            driver.receive_vote,
            keys=self._election_keys,
            takes_unsigned=self._config.members_unified,
        )
        await self._peers.listen(self._ports.quorum)
        self._votes.start()
        driver.ensemble = self

    def _secure(self) -> Callable[[Peers, PeerLink], asyncio.Protocol] | None:
        if self._certificates is None:
            return None
        from zkpy.server.peer_tls import PeerSecurity  # who speaks no TLS is the smaller without

        self._certificates.start()
        return PeerSecurity(
            self._certificates,
            self._directory,
            dials_tls=self._config.ssl_quorum,
            takes_plain=self._config.members_unified,
        ).enter

    def stop(self) -> None:
        if self._certificates is not None:
            self._certificates.stop()
        self._directory.stop()
        self._writer.shutdown(wait=False)
        if self._votes is not None:
            self._votes.stop()
        if self._peers is not None:
            self._peers.stop()

    def carry_out(self, ready: Ready) -> None:
        """What one pass has for the others; then dial whom the core wants to reach now."""
        assert self._peers is not None and self._votes is not None
        self._follow_membership()
        if ready.peers:
            self._peers.send(ready.peers)
        for sid in ready.peer_closes:
            self._peers.close(sid)
        for sid, notification in ready.votes:
            assert isinstance(notification, Notification)
            self._votes.send(sid, notification)
        self._peers.keep()

    @property
    def voters(self) -> VoterSet:
        """The newest set in the log; before there is one, what the files propose."""
        return self._facts.voter_sets[1]

    def _follow_membership(self) -> None:
        """After each pass; the sets are the same objects until there are others."""
        applied, newest = self._facts.voter_sets
        followed = self._followed
        if followed is not None and followed[0] is applied and followed[1] is newest:
            return
        self._followed = applied, newest
        if applied is newest:
            self._compare_files(applied, at_start=followed is None)
        if not self._config.reconfig_enabled:
            return
        self._directory.update(merge_lines(self._config.servers, applied, newest))
        if followed is None or followed[0] is not applied:
            self._writer.submit(dynamic.keep, self._config, applied)

    def _compare_files(self, voters: VoterSet, at_start: bool) -> None:
        """A file that this server keeps up to date itself (`dynamicConfigFile`) is compared at
        the start only: what was read from it is an old version by then."""
        config = self._config
        if not voters.version or voters.joint or voters.version == self._compared:
            return
        self._compared = voters.version
        kept = config.reconfig_enabled and config.dynamic_file is not None
        found = difference(config, voters)
        if found is not None and (at_start or not kept):
            log.warning("%s", found)


def difference(config: Config, voters: VoterSet) -> str | None:
    """In whom the files and the log name, or in how they count; None if there is none."""
    named, counted = members_of(config.membership), voters.members
    if named == counted:
        return None
    how = "`zkpy reconfig`" if config.reconfig_enabled else "`zkpy reconfig` (reconfigEnabled=true)"
    return (
        f"{config.dynamic_file or config.source} names {describe_members(named)}, the "
        f"ensemble's are {describe_members(counted)}: these count, and only {how} changes them"
    )


def describe_members(members: Members) -> str:
    voters = " ".join(describe_voter(sid, voter) for sid, voter in members.voters.items())
    observers = " ".join(map(str, members.observers))
    return f"voters {voters}" + (f" and observers {observers}" if observers else "")


def describe_voter(sid: int, voter: Voter) -> str:
    group = f" in group {voter.group}" if voter.group else ""
    weight = f" of weight {voter.weight}" if voter.weight != 1 else ""
    return f"{sid} ({(group + weight).strip()})" if group or weight else str(sid)


def merge_lines(static: Iterable[ServerSpec], *sets: VoterSet) -> Iterable[ServerSpec]:
    """What comes later has the first word about a server.

    What the files say is tried as well, where it is different: an address that was changed
    in every file (machines moved, and nothing of them ran) must not keep all of them apart.
    """
    lines = {spec.server_id: spec for spec in static}
    for voters in sets:
        for sid, spec in known_to(voters).servers.items():
            lines[sid] = with_addresses(spec, lines[sid]) if sid in lines else spec
    return lines.values()


def with_addresses(spec: ServerSpec, more: ServerSpec) -> ServerSpec:
    return attrs.evolve(spec, addresses=tuple(dict.fromkeys(spec.addresses + more.addresses)))


def own_line(config: Config) -> ServerSpec:
    own = [spec for spec in config.servers if spec.server_id == config.server_id]
    assert own, "config has found this server among the lines"
    return own[0]


def bind_ports(config: Config, stack: ExitStack) -> Ports:
    """Quorum ports for TCP, election ports for UDP; ConfigError if one cannot be had."""
    addresses = own_line(config).addresses

    def bind_all(kind: int, port: Callable[[PeerAddress], int]) -> tuple[socket.socket, ...]:
        return tuple(
            stack.enter_context(opened)
            for address in addresses
            for opened in bind_port(address.host, port(address), kind, config)
        )

    return Ports(
        bind_all(socket.SOCK_STREAM, lambda address: address.quorum_port),
        bind_all(socket.SOCK_DGRAM, lambda address: address.election_port),
    )


def bind_port(host: str, port: int, kind: int, config: Config) -> list[socket.socket]:
    if config.quorum_on_all_addresses:
        host = ANY_ADDRESS
    try:
        return bind_everywhere(host, port, kind)
    except OSError as why:
        use, protocol = _PORTS[kind]
        raise ConfigError(
            f"{config.source}: server.{config.server_id}: cannot listen on {host or '*'}:{port} "
            f"({protocol}, {use}): {why.strerror or why}"
        ) from None


_PORTS: Final[dict[int, tuple[str, str]]] = {
    socket.SOCK_STREAM: ("the quorum port", "TCP"),
    socket.SOCK_DGRAM: ("the election port", "UDP"),
}


def warn_of_strangers(config: Config, own: ServerSpec) -> None:
    """What is not protected is said at each start, so that nobody thinks that it is."""
    where = ", ".join(f"{a.host}:{a.quorum_port}/{a.election_port}" for a in own.addresses)
    tls, keyed = config.ssl_quorum, config.election_key_file is not None
    if not tls or config.members_unified:
        how = " (portUnification takes links without TLS)" if config.members_tls else ""
        log.warning(
            "PEERS ARE NOT AUTHENTICATED%s: whoever can reach the quorum and election ports (%s) "
            "can join this ensemble, read all of it and change all of it. Let only its own servers "
            "reach them.",
            *(how, where),
        )
    elif not keyed:
        log.warning(
            "ELECTION DATAGRAMS ARE NOT AUTHENTICATED (sslQuorum covers the links alone): whoever "
            "is on the way to the election ports (%s) can keep this ensemble from electing a "
            "leader. Let only its own servers reach them, or set electionKeyFile.",
            where,
        )


def warn_of_loopback(own: ServerSpec, ports: Ports, directory: Directory) -> None:
    """Debian's /etc/hosts has the own name as 127.0.1.1, where no other machine gets through."""
    hosts = {opened.getsockname()[0] for opened in ports.quorum + ports.election}
    if not all(map(is_loopback, hosts)) or not directory.is_elsewhere():
        return
    log.warning(
        "the other servers cannot reach this one: server.%d names %s, which is %s here, an "
        "address that no other machine reaches. Mend that name (in /etc/hosts?), or set "
        "quorumListenOnAllIPs=true",
        *(own.server_id, ", ".join(dict.fromkeys(each.host for each in own.addresses))),
        ", ".join(sorted(hosts)),
    )
