"""Settings -> Config, judged together; and where settings come from."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

import attrs

from zkpy.config import tls
from zkpy.config.ensemble import MEMBER, Ensemble, is_wildcard, sockets_of
from zkpy.config.keys import (
    ELSEWHERE,
    HONOURED,
    IGNORED,
    LOUD,
    PROMETHEUS,
    PROTECTION,
    PROVIDERS,
    SASL_PROVIDER,
    SNAPSHOTS_RETAINED_MIN,
    judge,
)
from zkpy.config.properties import Setting, read_properties
from zkpy.config.tls import CLIENTS, MEMBERS, Tls
from zkpy.config.values import Corrected, is_loopback, parse_setting
from zkpy.errors import ConfigError
from zkpy.limits import ENTRY_BYTES_CEILING, ENTRY_BYTES_LEAST, Limits
from zkpy.membership import (
    ANY_ADDRESS,
    ANY_IPV4,
    SERVER_ID_MAX,
    ClientAddress,
    Configuration,
    ServerSpec,
)

_T = TypeVar("_T")

LOOPBACK: Final = "127.0.0.1"
CLIENT_PORT: Final = 2181
ADMIN_PORT: Final = 8080
METRICS_PORT: Final = 7000
CHEAP_WORDS: Final = "srvr,ruok,stat,isro,mntr,envi,conf"
"""What a server on loopback answers without being told to: read-only, and short to find out."""
LOOPBACK_NAMES: Final = frozenset({"localhost", LOOPBACK, "::1"})


@attrs.define(frozen=True)
class Config:
    data_dir: str
    log_dir: str
    """Where the log lies: `dataLogDir`, or the data directory."""
    client: ClientAddress | None
    """None: clients are served over TLS alone."""
    limits: Limits
    client_line: str = ""
    """Where the host of `client` was given, as errors name it; "" if it was not."""
    secure: ClientAddress | None = None
    """`secureClientPort`: where TLS is spoken."""
    secure_line: str = ""
    """Where its host was given."""
    port_unification: bool = False
    """`client.portUnification`: the other port takes TLS, too."""
    tls: Tls | None = None
    """None: TLS is spoken nowhere."""
    members_tls: Tls | None = None
    """Between members; None: without."""
    ssl_quorum: bool = False
    """`sslQuorum`: links with other members begin with TLS."""
    members_unified: bool = False
    """`portUnification`: the others' need not, for the time of a change."""
    election_key_file: str | None = None
    """`electionKeyFile`: keys by which members know each other's election datagrams."""
    election_key_line: str = ""
    server_id: int | None = None
    """What `myid` says; None without one, which only a server alone may be."""
    servers: tuple[ServerSpec, ...] = ()
    """Empty: this server alone."""
    groups: Mapping[int, int] = attrs.field(factory=dict)
    """Server id -> group, for hierarchical quorums; empty for majorities."""
    weights: Mapping[int, int] = attrs.field(factory=dict)
    observer: bool = False
    """`peerType`, unless the server's own line says otherwise."""
    reconfig_enabled: bool = False
    """`reconfigEnabled`: membership may change, and addresses come from the log."""
    standalone_enabled: bool = True
    """`standaloneEnabled`: a reconfig never leaves less than two voters."""
    dynamic_file: str | None = None
    """`dynamicConfigFile`: kept up to date by the server."""
    quorum_on_all_addresses: bool = False
    """`quorumListenOnAllIPs`: the own host in a server line is for the others to know."""
    listen_backlog: int = 1024
    tcp_keepalive: bool = False
    four_letter_words: tuple[str, ...] = ("srvr",)
    """Words that are answered; `*` for all."""
    data_dir_autocreate: bool = True
    ensemble_autocreate: bool = True
    """`db.autocreate`: whether servers without data may found an ensemble."""
    segment_bytes: int = 64 * 1024 * 1024
    """`preAllocSize`: log files are made this large at once."""
    autopurge: bool = True
    snapshots_retained: int = SNAPSHOTS_RETAINED_MIN
    sync_warning_ms: int = 1000
    """`fsync.warningthresholdms`: a slower disk is worth a log line."""
    super_digest: str | None = attrs.field(default=None, repr=False)
    digest_scheme: bool = True
    """`DigestAuthenticationProvider.enabled`: whether anybody knows the scheme digest."""
    digest_hash: str = "sha1"
    """`DigestAuthenticationProvider.digestAlg`, as `hashlib` calls it."""
    ensemble_scheme: bool = False
    """The EnsembleAuthenticationProvider is asked for."""
    ensemble_names: tuple[str, ...] = ()
    """`ensembleAuthName`: any, if there are none."""
    required_schemes: tuple[str, ...] = ()
    """`enforce.auth.schemes`, where that is enabled: clients have to authenticate with one."""
    sasl_scheme: bool = False
    """The SASLAuthenticationProvider is asked for: ACLs may name users of SASL."""
    jaas_file: str = ""
    """`java.security.auth.login.config`: the file with the users; "" if there is none."""
    jaas_section: str = "Server"
    """`sasl.serverconfig`"""
    sasl_users: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """User -> password, from that file, if it was read (`zkpy.config.sasl`): SASL is served if
    there are any."""
    sasl_super_users: tuple[str, ...] = ()
    """`superUser`, `superUser.N`: these may do everything."""
    sasl_super_password: str | None = attrs.field(default=None, repr=False)
    sasl_keeps_failed: bool = False
    """`allowSaslFailedClients`: who fails to authenticate stays connected."""
    audit: bool = False
    """`audit.enable`: changes that clients ask for are logged, with who asked."""
    x509_super: str | None = None
    """`X509AuthenticationProvider.superUser`: the subject that may do everything."""
    extended_types: bool = False
    enforce_quota: bool = False
    read_only_mode: bool = False
    leader_serves: bool = True
    """`leaderServes`: whether a leader takes clients."""
    local_sessions: bool = False
    """`localSessionsEnabled`: sessions begin as local ones, if there are other servers."""
    local_sessions_upgrading: bool = False
    admin: ClientAddress | None = None
    """Where the admin server listens; None if it does not."""
    admin_line: str = ""
    """Where that port was given; "" if it was not, so that it may be another program's."""
    admin_host_line: str = ""
    """Where its host was given; "" if it was not."""
    admin_path: str = "/commands"
    """`admin.commandURL`, without a slash at its end."""
    admin_idle_ms: int = 30_000
    """`admin.idleTimeout`, of the port for metrics too."""
    metrics: ClientAddress | None = None
    """Where Prometheus finds `/metrics` on a port of its own."""
    metrics_line: str = ""
    metrics_host_line: str = ""
    source: str = "the command line"
    properties: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Every key as written, without `zookeeper.`, whether it has an effect or not."""
    warnings: tuple[str, ...] = ()

    @property
    def is_ensemble(self) -> bool:
        """Whether there are others, or may be."""
        return _is_ensemble(len(self.servers), self.reconfig_enabled)

    @property
    def asks_for_sasl(self) -> bool:
        """Whether anything is said of SASL."""
        return bool(
            self.sasl_scheme
            or self.jaas_file
            or self.sasl_super_users
            or self.sasl_super_password
            or self.sasl_keeps_failed
        )

    @property
    def membership(self) -> Configuration:
        """What the files say; the log has the last word (see `zkpy.server.ensemble`)."""
        return Configuration.of(self.servers, self.groups, self.weights)


def _is_ensemble(servers: int, reconfig_enabled: object) -> bool:
    return servers > 1 or (servers == 1 and bool(reconfig_enabled))


@attrs.define
class _Draft:
    """Settings sorted by what they are, before they are judged together."""

    source: str
    latest: dict[str, Setting] = attrs.Factory(dict)
    warnings: list[str] = attrs.Factory(list)
    values: dict[str, object] = attrs.Factory(dict)
    ensemble: Ensemble = attrs.Factory(Ensemble)
    super_users: list[str] = attrs.Factory(list)
    """Of keys `superUser.N`."""

    def add(self, setting: Setting) -> None:
        """Later settings win: options come after the file."""
        earlier = self.latest.get(setting.key)
        if earlier is not None and earlier.value != setting.value:
            self.warnings.append(setting.warning(f"replaces the value given at {earlier.where}"))
        self.latest[setting.key] = setting

    def sort(self) -> None:
        for key, setting in self.latest.items():
            member = MEMBER.fullmatch(key)
            if key in HONOURED:
                field, parser = HONOURED[key]
                self.values[field] = self._plain(setting, parse_setting(setting, parser))
            elif member is not None and key not in IGNORED:
                self.ensemble.add(setting, member[1], member[2])
            elif key.startswith("authProvider.") and setting.value in PROVIDERS:
                self.values[PROVIDERS[setting.value]] = True
            elif key.startswith("superUser."):
                self.super_users.append(setting.value)
            elif (warning := judge(setting)) is not None:
                self.warnings.append(warning)
        self.ensemble.check()

    def _plain(self, setting: Setting, value: object) -> object:
        if not isinstance(value, Corrected):
            return value
        off = value.value is False and setting.value.lower() in ("1", "on")
        loud = LOUD if off and setting.key.startswith(PROTECTION) else ""
        self.warnings.append(setting.warning(f"{value.how}{loud}"))
        return value.value

    def take(self, field: str, kind: type[_T], default: _T) -> _T:
        """A value that `Config` has no field for."""
        value = self.values.pop(field, default)
        assert isinstance(value, kind)
        return value

    def error(self, key: str, why: str) -> ConfigError:
        """An error of the file as a whole, at the line of `key` if it has one."""
        setting = self.latest.get(key)
        return setting.error(why) if setting else ConfigError(f"{self.source}: {key}: {why}")

    def lacks(self, key: str, example: str) -> ConfigError:
        """An error that names the line which may have been meant: `clientport` says nothing."""
        meant = [each for each in self.latest.values() if each.key.lower() == key.lower()]
        hint = f", {meant[0].key} ({meant[0].where}) is another key" if meant else ""
        return ConfigError(
            f"{self.source}: {key} is not set{hint}: a line like {key}={example} is needed"
        )


def parse(settings: Iterable[Setting], source: str, server_id: int | None = None) -> Config:
    """Settings -> Config.  `server_id` is what `myid` says, None if there is none.

    Raises ConfigError, which names file, line and key.
    """
    draft = _Draft(source)
    for setting in settings:
        draft.add(setting)
    draft.sort()
    draft.values.pop("election", None)
    _check_ticks(draft)
    limits = _build_limits(draft)
    data_dir, log_dir = _build_dirs(draft)
    own = _find_self(draft, server_id)
    secure = _build_secure(draft)
    client = _build_client(draft, own, secure)
    if own is not None:
        _check_ports(draft, own, client, secure)
    secured = _build_clients_tls(draft, secure)
    members_tls = _build_members_tls(draft)
    _check_schemes(draft, secured)
    super_users = (draft.take("super_user", str, ""), *draft.super_users)
    _check_effects(draft)
    _build_admin(draft)
    _build_metrics(draft)
    _check_http_ports(draft, own, client, secure)
    _check_told(draft)
    if draft.values.get("listen_backlog") == -1:
        del draft.values["listen_backlog"]
    if own is not None:
        draft.values["observer"] = own.observer
    return Config(
        data_dir=data_dir,
        log_dir=log_dir,
        client=client,
        limits=limits,
        secure=secure,
        secure_line=str(draft.latest.get("secureClientPortAddress") or ""),
        tls=secured,
        members_tls=members_tls,
        election_key_line=str(draft.latest.get("electionKeyFile") or ""),
        client_line=_find_client_line(draft, own),
        server_id=server_id,
        servers=tuple(draft.ensemble.servers.values()),
        groups=draft.ensemble.groups,
        weights=draft.ensemble.weights,
        sasl_super_users=tuple(filter(None, super_users)),
        source=source,
        properties={key: setting.value for key, setting in draft.latest.items()},
        warnings=tuple(draft.warnings),
        **draft.values,  # type: ignore[arg-type]  # each parser gives its field's type
    )


def _check_ticks(draft: _Draft) -> None:
    """None at all, as ZooKeeper takes it, where nobody is waited for."""
    ensemble = _is_ensemble(len(draft.ensemble.servers), draft.values.get("reconfig_enabled"))
    for key, field in (("initLimit", "limits.init_ticks"), ("syncLimit", "limits.sync_ticks")):
        if draft.values.get(field) == 0:
            if ensemble:
                raise draft.error(key, "a whole number of ticks, at least 1, is needed")
            del draft.values[field]


def _build_limits(draft: _Draft) -> Limits:
    """Session time-outs are 2 and 20 ticks unless given (-1 counts as not given)."""
    fields = {
        field.removeprefix("limits."): draft.values.pop(field)
        for field in list(draft.values)
        if field.startswith("limits.")
    }
    limits = Limits(**fields)  # type: ignore[arg-type]  # as above
    low = draft.take("min_session_ms", int, -1)
    high = draft.take("max_session_ms", int, -1)
    extra = draft.take("extra_bytes", int, limits.frame_bytes_max)
    requests = draft.take("requests_max", int, 0) or limits.outstanding_max
    limits = attrs.evolve(
        limits,
        session_timeout_min_ms=low if low > 0 else 2 * limits.tick_ms,
        session_timeout_max_ms=high if high > 0 else 20 * limits.tick_ms,
        entry_bytes_max=max(limits.frame_bytes_max + extra, ENTRY_BYTES_LEAST),
        outstanding_max=min(limits.outstanding_max, requests),
    )
    if limits.entry_bytes_max > ENTRY_BYTES_CEILING:
        key = "jute.maxbuffer.extrasize" if extra != limits.frame_bytes_max else "jute.maxbuffer"
        raise draft.error(
            key,
            f"jute.maxbuffer and jute.maxbuffer.extrasize (as large, unless it is given) come to "
            f"{limits.entry_bytes_max} bytes; {ENTRY_BYTES_CEILING} is the most",
        )
    if limits.session_timeout_min_ms > limits.session_timeout_max_ms:
        key = "minSessionTimeout" if low > 0 else "maxSessionTimeout"
        raise draft.error(
            key,
            f"the smallest session time-out, {limits.session_timeout_min_ms} ms, must not be "
            f"above the largest, {limits.session_timeout_max_ms} ms",
        )
    return limits


def _build_dirs(draft: _Draft) -> tuple[str, str]:
    data_dir = draft.take("data_dir", str, "")
    if not data_dir:
        raise draft.lacks("dataDir", "/var/lib/zookeeper")
    log_dir = draft.take("log_dir", str, data_dir)
    for key in ("dataDir", "dataLogDir"):
        setting = draft.latest.get(key)
        if setting and not setting.where.startswith("-") and not os.path.isabs(setting.value):
            draft.warnings.append(
                setting.warning("is a relative path: it depends on where the server is started")
            )
    return os.path.abspath(data_dir), os.path.abspath(log_dir)


def _find_self(draft: _Draft, server_id: int | None) -> ServerSpec | None:
    servers = draft.ensemble.servers
    if not servers:
        return None
    if server_id is None:
        directory = draft.latest["dataDir"].value
        raise ConfigError(
            f"{directory}/myid: the file is missing: with server.N lines in {draft.source} it must "
            "hold this server's number N"
        )
    own = servers.get(server_id)
    if own is None:
        raise ConfigError(
            f"{draft.source}: there is no server.{server_id}, but myid says that this server is "
            f"{server_id}"
        )
    said = draft.values.get("observer")
    if said is not None and said != own.observer:
        setting = draft.latest["peerType"]
        draft.warnings.append(setting.warning(f"contradicts server.{server_id}, which counts"))
    return own


def _build_secure(draft: _Draft) -> ClientAddress | None:
    number = draft.take("secure_port", int, -1)
    host = draft.take("secure_host", str, ANY_ADDRESS)
    if number == -1 and host:
        setting = draft.latest["secureClientPortAddress"]
        draft.warnings.append(setting.warning("has no effect without secureClientPort"))
    return ClientAddress(host, number) if number != -1 else None


def _build_clients_tls(draft: _Draft, secure: ClientAddress | None) -> Tls | None:
    unified = draft.values.get("port_unification", False)
    asked_by = "secureClientPort" if secure else "client.portUnification" if unified else None
    return _build_tls(
        draft, CLIENTS, asked_by, "without secureClientPort or client.portUnification=true"
    )


def _build_members_tls(draft: _Draft) -> Tls | None:
    """What takes TLS only must be able to; a server alone has nobody to speak it with."""
    switches = {"sslQuorum": "ssl_quorum", "portUnification": "members_unified"}
    asked = [key for key, field in switches.items() if draft.values.get(field)]
    alone = not _is_ensemble(len(draft.ensemble.servers), draft.values.get("reconfig_enabled"))
    keyed = ["electionKeyFile"] if "election_key_file" in draft.values else []
    for key in asked + keyed if alone else ():
        draft.warnings.append(draft.latest[key].warning("has no effect: this server is alone"))
    why = "without sslQuorum=true or portUnification=true, or on a server alone"
    return _build_tls(draft, MEMBERS, None if alone or not asked else asked[0], why)


def _build_tls(draft: _Draft, prefix: str, asked_by: str | None, unless: str) -> Tls | None:
    """None where nothing asks for it; then its settings are each worth a warning."""
    keys = [key for key in draft.latest if _prefix_of(key) == prefix]
    fields = {HONOURED[key][0].removeprefix(prefix): key for key in keys}
    values = {field: draft.values.pop(HONOURED[key][0]) for field, key in fields.items()}
    if asked_by is not None:
        return tls.build(prefix, values.get, draft.latest, draft.source, asked_by)
    for key in keys:
        draft.warnings.append(draft.latest[key].warning(f"has no effect {unless}"))
    return None


def _prefix_of(key: str) -> str | None:
    """`ssl.` or `ssl.quorum.`, of a key that is one of those settings."""
    field = HONOURED.get(key, ("",))[0]
    return next((prefix for prefix in (MEMBERS, CLIENTS) if field.startswith(prefix)), None)


def _build_client(
    draft: _Draft, own: ServerSpec | None, secure: ClientAddress | None
) -> ClientAddress | None:
    """The server's own line counts; clientPort may repeat it, but not contradict it."""
    number = draft.take("client_port", int, -1)
    host = draft.take("client_host", str, ANY_ADDRESS)
    listed = own.client if own is not None else None
    if listed is not None:
        if number not in (-1, listed.port) or (host and host not in ("0.0.0.0", listed.host)):
            raise draft.error(
                "clientPort", f"server.{own.server_id if own else ''} says {listed} instead"
            )
        return listed
    if number == -1 and secure is None:
        raise draft.lacks("clientPort", "2181")
    return ClientAddress(host, number) if number != -1 else None


def _find_client_line(draft: _Draft, own: ServerSpec | None) -> str:
    setting = draft.latest.get("clientPortAddress")
    if own is not None and own.client is not None:
        setting = draft.ensemble.lines[own.server_id]
    return str(setting or "")


def _check_ports(
    draft: _Draft, own: ServerSpec, client: ClientAddress | None, secure: ClientAddress | None
) -> None:
    """As ZooKeeper, where all are TCP, needs it as well."""
    everywhere = draft.values.get("quorum_on_all_addresses", False)
    lines = {
        "clientPort": draft.ensemble.lines[own.server_id] if own.client else None,
        "secureClientPort": None,
    }
    for key, taken in (("clientPort", client), ("secureClientPort", secure)):
        if taken is None:
            continue
        setting = lines[key] or draft.latest[key]
        for address in own.addresses:
            if not everywhere and not _overlap(taken.host, address.host):
                continue
            for use, port in (("quorum", address.quorum_port), ("election", address.election_port)):
                if taken.port == port:
                    raise setting.error(
                        f"{port} is the {use} port of server.{own.server_id}, too: clients need a "
                        "port of their own"
                    )


def _overlap(one: str, other: str) -> bool:
    """Whether two hosts may be one address of this machine; names are not looked up."""
    if is_wildcard(one) or is_wildcard(other):
        return True
    return one.lower() == other.lower() or {one, other} <= LOOPBACK_NAMES


def _check_schemes(draft: _Draft, secured: Tls | None) -> None:
    """Who has to authenticate must be able to: a scheme that is not served would shut all out."""
    enabled = draft.take("enforce_auth", bool, False)
    required = draft.values.get("required_schemes", ())
    assert isinstance(required, tuple)
    is_on = {
        "digest": draft.values.get("digest_scheme", True),
        "ip": True,
        "sasl": draft.values.get("sasl_scheme", False),
        "x509": secured is not None and secured.client_auth != "none",
    }
    if draft.values.get("x509_super") and not is_on["x509"]:
        setting = draft.latest["X509AuthenticationProvider.superUser"]
        draft.warnings.append(setting.warning("has no effect: no client shows a certificate"))
    served = [scheme for scheme, on in is_on.items() if on]
    if draft.take("require_sasl", bool, False):
        if not is_on["sasl"]:
            raise draft.error(
                "sessionRequireClientSASLAuth", f"needs authProvider.1={SASL_PROVIDER}"
            )
        draft.values["required_schemes"] = ("sasl",)
    elif not enabled:
        if draft.values.pop("required_schemes", None):
            setting = draft.latest["enforce.auth.schemes"]
            without = "has no effect without enforce.auth.enabled=true"
            draft.warnings.append(setting.warning(without + LOUD))
    elif not required:
        raise draft.error("enforce.auth.enabled", "needs enforce.auth.schemes, for example digest")
    else:
        for scheme in required:
            if scheme not in served:
                raise draft.error(
                    "enforce.auth.schemes",
                    f"nobody can authenticate by {scheme!r} here, but by {' and '.join(served)}",
                )


def _build_admin(draft: _Draft) -> None:
    """On loopback, where ZooKeeper's listens on all addresses: it asks nobody who he is."""
    enabled = draft.take("admin_enabled", bool, True)
    host = draft.take("admin_host", str, LOOPBACK)
    port = draft.take("admin_port", int, ADMIN_PORT)
    if not enabled:
        return
    draft.values["admin"] = ClientAddress(host, port)
    draft.values["admin_line"] = str(draft.latest.get("admin.serverPort", ""))
    draft.values["admin_host_line"] = str(draft.latest.get("admin.serverAddress", ""))
    if not is_loopback(host):
        draft.warnings.append(
            draft.latest["admin.serverAddress"].warning(
                "lets everybody who reaches it see paths, sessions, addresses and configuration: "
                "nobody is asked for a password there"
            )
        )


def _build_metrics(draft: _Draft) -> None:
    """A port of its own is there only where ZooKeeper's class for Prometheus is named."""
    name = draft.take("metrics_class", str, "")
    host = draft.take("metrics_host", str, ANY_IPV4)
    port = draft.take("metrics_port", int, METRICS_PORT)
    draft.values.pop("metrics_of_jvm", None)
    setting = draft.latest.get("metricsProvider.className")
    if name == PROMETHEUS:
        draft.values["metrics"] = ClientAddress(host, port)
        draft.values["metrics_line"] = str(draft.latest.get("metricsProvider.httpPort", setting))
        draft.values["metrics_host_line"] = str(draft.latest.get("metricsProvider.httpHost", ""))
    elif setting is not None and name not in ELSEWHERE:
        draft.warnings.append(
            setting.warning(f"has no effect: of such classes {PROMETHEUS} is known, and not {name}")
        )
    for key in ("metricsProvider.httpHost", "metricsProvider.httpPort"):
        if name != PROMETHEUS and key in draft.latest:
            draft.warnings.append(
                draft.latest[key].warning(
                    f"has no effect without metricsProvider.className={PROMETHEUS}"
                )
            )


def _check_http_ports(
    draft: _Draft,
    own: ServerSpec | None,
    client: ClientAddress | None,
    secure: ClientAddress | None,
) -> None:
    """One port for two uses is an error at the line of the second.  An admin port that nobody
    asked for yields: the zoo.cfg may be older than the admin server."""
    taken = [
        *((each, use) for each, use in ((client, "client"), (secure, "secure client")) if each),
        *(_peer_ports(draft, own) if own is not None else ()),
    ]
    metrics, admin = draft.values.get("metrics"), draft.values.get("admin")
    if isinstance(metrics, ClientAddress):
        asking = draft.latest.get("metricsProvider.httpPort") or draft.latest.get(
            "metricsProvider.className"
        )
        if asking is not None and (use := _find_use(metrics, taken)):
            raise asking.error(f"{metrics.port} is {use} port, too: metrics need one of their own")
        taken.append((metrics, "metrics"))
    if isinstance(admin, ClientAddress) and (use := _find_use(admin, taken)):
        named = draft.latest.get("admin.serverPort")
        if named is not None:
            raise named.error(f"{admin.port} is {use} port, too: it needs one of its own")
        draft.warnings.append(
            f"{draft.source}: going on without the admin server: {admin.port} is {use} port "
            "(admin.serverPort gives it another, admin.enableServer=false ends this line)"
        )
        draft.values["admin"] = None


def _peer_ports(draft: _Draft, own: ServerSpec) -> Iterator[tuple[ClientAddress, str]]:
    """TCP ports of members on this machine, as far as their lines say so: others may be there."""
    everywhere = draft.values.get("quorum_on_all_addresses", False)
    here = {each.host.lower() for each in own.addresses}
    for server_id, spec in draft.ensemble.servers.items():
        for protocol, host, port in sockets_of(spec):
            if protocol == "TCP" and (host in here or is_loopback(host)):
                wide = everywhere and spec is own
                yield ClientAddress("" if wide else host, port), f"server.{server_id}'s"


def _find_use(asked: ClientAddress, taken: list[tuple[ClientAddress, str]]) -> str | None:
    """Whose port it is: "the client"."""
    for address, use in taken:
        if asked.port == address.port != 0 and _overlap(asked.host, address.host):
            return use if use.startswith("server.") else f"the {use}"
    return None


def _check_effects(draft: _Draft) -> None:
    """What asks for something that only an ensemble has, or another setting brings."""
    ensemble = _is_ensemble(len(draft.ensemble.servers), draft.values.get("reconfig_enabled"))
    for key, asked in (
        ("localSessionsEnabled", draft.values.get("local_sessions")),
        ("leaderServes", not draft.values.get("leader_serves", True)),
    ):
        if asked and not ensemble:
            draft.warnings.append(draft.latest[key].warning("has no effect: this server is alone"))
    if draft.values.get("local_sessions_upgrading") and not draft.values.get("local_sessions"):
        setting = draft.latest["localSessionsUpgradingEnabled"]
        draft.warnings.append(setting.warning("has no effect without localSessionsEnabled=true"))


def _check_told(draft: _Draft) -> None:
    """With `reconfigEnabled` the lines of a founding are where all members look for each other."""
    if not draft.values.get("reconfig_enabled"):
        return
    for server_id, spec in draft.ensemble.servers.items():
        line = draft.ensemble.lines[server_id]
        if spec.client is None:
            draft.warnings.append(
                line.warning(
                    "has no client address (;port at its end): with reconfigEnabled=true that is "
                    "how clients and `zkpy reconfig` learn where a server serves"
                )
            )
        wild = [each.host for each in spec.addresses if is_wildcard(each.host)]
        if wild:
            raise line.error(
                f"{wild[0]} is the address of no machine, and with reconfigEnabled=true all "
                "members are told this line: write the name by which they reach this server, and "
                "quorumListenOnAllIPs=true so that it listens on all its own addresses"
            )


# --- files --------------------------------------------------------------------------

ZOOKEEPER_TICK: Final = Setting("tickTime", "3000", "default")
"""ZooKeeper's tick if a zoo.cfg gives none (its sample file gives 2000, as zkpy's own default)."""


def load(path: str, options: Iterable[Setting] = ()) -> Config:
    """The Config of a zoo.cfg, of the files it points to, and of options, which win."""
    settings = [*_read_settings(path), *options]
    keys = {setting.key: setting for setting in settings}
    dynamic = keys.get("dynamicConfigFile")
    if dynamic is not None:
        settings = [*_read_dynamic(dynamic, settings), *settings]
    if "tickTime" not in keys:
        settings.append(ZOOKEEPER_TICK)
    data_dir = keys.get("dataDir")
    if data_dir is None or not data_dir.value:
        return parse(settings, path)
    server_id = read_myid(data_dir.value, _has_members(settings))
    return parse(settings, path, server_id)


def standalone(data_dir: str, port: int = CLIENT_PORT, options: Iterable[Setting] = ()) -> Config:
    """The Config of a server alone, without a file: on loopback, unless options say otherwise."""
    settings = [
        Setting("dataDir", data_dir, "--data-dir"),
        Setting("clientPort", str(port), "--port"),
        Setting("clientPortAddress", LOOPBACK, "default"),
        Setting("4lw.commands.whitelist", CHEAP_WORDS, "default"),
    ]
    given = {option.key: option for option in options}
    merged = {setting.key: setting for setting in settings} | given
    directory = merged["dataDir"].value
    server_id = read_myid(directory, _has_members(merged.values()))
    return parse(merged.values(), "the command line", server_id)


def _has_members(settings: Iterable[Setting]) -> bool:
    return any(MEMBER.fullmatch(setting.key) for setting in settings)


def _read_settings(path: str) -> list[Setting]:
    return read_properties(_read_text(path), path)


def _read_text(path: str) -> str:
    """UTF-8, or else Latin-1, in which Java reads such files and everything is text."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
    except OSError as why:
        raise ConfigError(f"{path}: it cannot be read: {why.strerror}") from None


def _read_dynamic(dynamic: Setting, static: list[Setting]) -> list[Setting]:
    """The `server.`, `group.` and `weight.` lines, which then may not be in the static file."""
    for setting in static:
        if MEMBER.fullmatch(setting.key) and setting.key not in IGNORED:
            raise setting.error(f"it belongs in {dynamic.value}, since dynamicConfigFile is set")
    settings = [setting for setting in _read_settings(dynamic.value) if setting.key != "version"]
    for setting in settings:
        if not MEMBER.fullmatch(setting.key):
            raise setting.error("only server.N, group.N, weight.N and version may stand here")
    return settings


def read_myid(data_dir: str, member: bool = True) -> int | None:
    """The server id in `data_dir/myid`; None if there is no such file.  To one that is no
    `member`, a number that cannot be one says nothing, as in ZooKeeper."""
    path = os.path.join(data_dir, "myid")
    if not os.path.isfile(path):
        return None
    first = (_read_text(path).splitlines() or [""])[0].strip()
    if not member and re.fullmatch(r"[+-]?[0-9]{1,18}", first) and not _is_server_id(first):
        return None
    if not _is_server_id(first):
        raise ConfigError(f"{path}: a number from 0 to {SERVER_ID_MAX} is needed")
    return int(first)


def _is_server_id(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}", text) is not None and int(text) <= SERVER_ID_MAX
