"""zoo.cfg and command line -> one frozen `Config`.

In: the text of a zoo.cfg (a Java properties file, with the keys of ZooKeeper 3.9),
settings from the command line, and what lies beside them (`myid`, the file that
`dynamicConfigFile` names).  Out: a `Config`, valid as a whole, with `Limits` filled
and a list of warnings for the log.

Every key of ZooKeeper 3.9 is known.  It is honoured (table `HONOURED`), or one
warning line names it and says why it has no effect.  Any other key is kept as a
property and warned of.  A key may be written with or without `zookeeper.` in front:
so a system property of ZooKeeper (`-D zookeeper.snapCount=5000`) and a line of the
file (`snapCount=5000`) are one thing.  The command line wins over the file.

Values never appear in a warning, and those of secrets not even in an error.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import attrs

from zkpy.errors import ConfigError
from zkpy.limits import Limits

_T = TypeVar("_T")

LOOPBACK: Final = "127.0.0.1"
ANY_ADDRESS: Final = ""
"""Listen on every address of the machine, IPv4 and IPv6: what zoo.cfg means by no address."""
CLIENT_PORT: Final = 2181
SERVER_ID: Final = 1
"""The id of a server that was never given one."""
SERVER_ID_MAX: Final = 255
"""Session ids carry it in their first byte."""
SNAPSHOTS_RETAINED_MIN: Final = 3
PREFIX: Final = "zookeeper."


@attrs.define(frozen=True)
class Setting:
    """One key and value, and where it was written: `zoo.cfg:7`, or an option."""

    key: str
    value: str
    where: str

    def error(self, why: str) -> ConfigError:
        shown = self.key if is_secret(self.key) else f"{self.key}={self.value}"
        return ConfigError(f"{self.where}: {shown}: {why}")

    def warning(self, text: str) -> str:
        return f"{self.where}: {self.key} {text}"


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


@attrs.define(frozen=True)
class Config:
    data_dir: str
    log_dir: str
    """Where the log lies: `dataLogDir`, or the data directory."""
    client: ClientAddress
    limits: Limits
    server_id: int = SERVER_ID
    servers: tuple[ServerSpec, ...] = ()
    """Empty: this server alone."""
    groups: Mapping[int, int] = attrs.field(factory=dict)
    """Server id -> group, for hierarchical quorums; empty for majorities."""
    weights: Mapping[int, int] = attrs.field(factory=dict)
    observer: bool = False
    """`peerType`, unless the server's own line says otherwise."""
    listen_backlog: int = 1024
    tcp_keepalive: bool = False
    four_letter_words: tuple[str, ...] = ("srvr",)
    """Words that are answered; `*` for all."""
    data_dir_autocreate: bool = True
    segment_bytes: int = 64 * 1024 * 1024
    """`preAllocSize`: log files are made this large at once."""
    autopurge: bool = True
    snapshots_retained: int = SNAPSHOTS_RETAINED_MIN
    sync_warning_ms: int = 1000
    """`fsync.warningthresholdms`: a slower disk is worth a log line."""
    super_digest: str | None = attrs.field(default=None, repr=False)
    skip_acl: bool = False
    enforce_quota: bool = False
    extended_types: bool = False
    read_only_mode: bool = False
    reconfig_enabled: bool = False
    source: str = "the command line"
    properties: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Every key as written, without `zookeeper.`, whether it has an effect or not."""
    warnings: tuple[str, ...] = ()


def is_secret(key: str) -> bool:
    lowered = key.lower()
    return "password" in lowered or "digest" in lowered or "secret" in lowered


# --- values -------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]{1,18})")

Parser = Callable[[str], object]
"""Text -> value; ValueError says what would be right."""


def whole(low: int, high: int = 2**63 - 1, unit: str = "") -> Parser:
    """A whole number, also in hexadecimal as Java reads `0xfffff`."""
    bounds = f"at least {low}" if high >= 2**31 else f"from {low} to {high}"
    wanted = f"a whole number{' of ' + unit if unit else ''}, {bounds}, is needed"

    def parse(text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise ValueError(wanted)
        number = int(text, 16 if "x" in text.lower() else 10)
        if not low <= number <= high:
            raise ValueError(wanted)
        return number

    return parse


def kilobytes(low: int) -> Parser:
    parse = whole(low, 2**40, "kilobytes")

    def scaled(text: str) -> int:
        number = parse(text)
        assert isinstance(number, int)
        return number * 1024

    return scaled


def parse_flag(text: str) -> bool:
    try:
        return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("true or false is needed") from None


def parse_text(text: str) -> str:
    if not text:
        raise ValueError("a value is needed")
    return text


def parse_host(text: str) -> str:
    """An address to listen on; the wildcards of IPv6 stand for every address."""
    host = parse_text(text).removeprefix("[").removesuffix("]")
    return ANY_ADDRESS if host in ("::", "0:0:0:0:0:0:0:0", "*") else host


def parse_words(text: str) -> tuple[str, ...]:
    """`4lw.commands.whitelist`; srvr is always in it, as in ZooKeeper."""
    words = [word.strip() for word in text.split(",")]
    return tuple(dict.fromkeys([word for word in words if word] + ["srvr"]))


def parse_role(text: str) -> bool:
    """Whether it is an observer."""
    try:
        return {"observer": True, "participant": False}[text.lower()]
    except KeyError:
        raise ValueError("participant or observer is needed") from None


def parse_purge_interval(text: str) -> bool:
    """Whether old images and logs are removed at all.

    They are after every new image, so that the length of the interval - hours in
    ZooKeeper, or a number with a unit - says nothing here."""
    if not re.fullmatch(r"\d+(ms|s|m|h|d)?", text):
        raise ValueError("a whole number of hours is needed, 0 for never")
    return int(re.sub(r"\D", "", text)) > 0


def parse_election(text: str) -> int:
    if text != "3":
        raise ValueError("3 is the only election algorithm there is")
    return 3


port = whole(0, 65535)
ms = whole(1, 2**31 - 1, "milliseconds")
count = whole(0, 2**31 - 1)

# --- keys ---------------------------------------------------------------------------

HONOURED: Final[dict[str, tuple[str, Parser]]] = {
    "4lw.commands.whitelist": ("four_letter_words", parse_words),
    "autopurge.purgeInterval": ("autopurge", parse_purge_interval),
    "autopurge.snapRetainCount": ("snapshots_retained", count),
    "clientPort": ("client_port", port),
    "clientPortAddress": ("client_host", parse_host),
    "clientPortListenBacklog": ("listen_backlog", whole(-1, 2**31 - 1)),
    "clientTcpKeepAlive": ("tcp_keepalive", parse_flag),
    "dataDir": ("data_dir", parse_text),
    "dataLogDir": ("log_dir", parse_text),
    "datadir.autocreate": ("data_dir_autocreate", parse_flag),
    "DigestAuthenticationProvider.superDigest": ("super_digest", parse_text),
    "dynamicConfigFile": ("dynamic_file", parse_text),
    "electionAlg": ("election", parse_election),
    "enforceQuota": ("enforce_quota", parse_flag),
    "extendedTypesEnabled": ("extended_types", parse_flag),
    "fsync.warningthresholdms": ("sync_warning_ms", ms),
    "globalOutstandingLimit": ("limits.outstanding_max", whole(1, 2**31 - 1, "requests")),
    "initLimit": ("limits.init_ticks", whole(1, 2**31 - 1, "ticks")),
    "jute.maxbuffer": ("limits.frame_bytes_max", whole(1024, 2**31 - 1, "bytes")),
    "jute.maxbuffer.extrasize": ("extra_bytes", whole(0, 2**31 - 1, "bytes")),
    "maxClientCnxns": ("limits.connections_per_address_max", count),
    "maxCnxns": ("limits.connections_max", count),
    "maxSessionTimeout": ("max_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "minSessionTimeout": ("min_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "peerType": ("observer", parse_role),
    "preAllocSize": ("segment_bytes", kilobytes(64)),
    "readonlymode.enabled": ("read_only_mode", parse_flag),
    "reconfigEnabled": ("reconfig_enabled", parse_flag),
    "skipACL": ("skip_acl", parse_flag),
    "snapCount": ("limits.snap_entries", whole(2, 2**31 - 1, "transactions")),
    "syncLimit": ("limits.sync_ticks", whole(1, 2**31 - 1, "ticks")),
    "tickTime": ("limits.tick_ms", ms),
}
"""Key -> (field, parser).  Fields that `Config` lacks are combined in `build`."""

UNSUPPORTED: Final[dict[str, str | None]] = {
    "admin.enableServer": "false",
    "audit.enable": "false",
    "client.portUnification": "false",
    "closeSessionTxn.enabled": "true",
    "connectionMaxTokens": "0",
    "connection_throttle_tokens": "0",
    "db.autocreate": "true",
    "digest.enabled": "true",
    "DigestAuthenticationProvider.enabled": "true",
    "enableEagerACLCheck": "false",
    "enforce.auth.enabled": "false",
    "forceSync": "yes",
    "IPAuthenticationProvider.usexforwardedfor": "false",
    "leaderServes": "yes",
    "localSessionsEnabled": "false",
    "localSessionsUpgradingEnabled": "false",
    "observer.syncEnabled": "true",
    "portUnification": "false",
    "quorum.auth.enableSasl": "false",
    "quorum.auth.learnerRequireSasl": "false",
    "quorum.auth.serverRequireSasl": "false",
    "quorumListenOnAllIPs": "false",
    "serializeLastProcessedZxid.enabled": "true",
    "sessionRequireClientSASLAuth": "false",
    "snapshot.trust.empty": "false",
    "sslQuorum": "false",
    "standaloneEnabled": "true",
    "syncEnabled": "true",
    "tcpKeepAlive": "false",
} | dict.fromkeys(
    """
    DigestAuthenticationProvider.digestAlg SASLAuthenticationProvider.superPassword
    X509AuthenticationProvider.superUser allowSaslFailedClients cnxTimeout commitLogCount
    connectToLearnerMasterLimit electionPortBindRetry emulate353TTLNodes enforce.auth.schemes
    ensembleAuthName fastleader.maxNotificationInterval fastleader.minNotificationInterval
    flushDelay largeRequestMaxBytes largeRequestThreshold leader.maxConcurrentDiffSyncs
    leader.maxConcurrentSnapSyncs leader.maxTimeToWaitForEpoch letAnySaslUserDoX maxBatchSize
    maxConcurrentDiffSyncs maxConcurrentSnapSyncs maxTimeToWaitForEpoch maxWriteQueuePollTime
    observerMasterPort observerMaster.sizeLimit oraclePath outstandingHandshake.limit
    quorumCnxnTimeoutMs request_stale_connection_check request_stale_latency_check
    request_throttle_drop_stale request_throttle_max_requests request_throttle_stall_time
    requestStaleConnectionCheck requestStaleLatencyCheck requestThrottleDropStale
    requestThrottleLimit requestThrottleStallTime secureClientPort secureClientPortAddress
    server.principal server.realm snapSizeLimitInKb snapshot.compression.method
    sslQuorumReloadCertFiles superUser throttledOpWaitTime throttled_op_wait_time
    txnLogSizeLimitInKb java.security.auth.login.config
    znode.container.checkIntervalMs znode.container.maxNeverUsedIntervalMs
    znode.container.maxPerMinute
    """.split()
)
"""Keys with a meaning that zkpy does not act on yet -> the value, if there is one, that asks
for no more than what zkpy does anyhow."""

UNSUPPORTED_FAMILIES: Final = (
    "admin.",
    "audit.",
    "authProvider",
    "client.certReload",
    "connection",
    "kerberos.",
    "metricsProvider.",
    "multiAddress.",
    "observer.",
    "pathStats.",
    "quorum.auth.",
    "sasl.",
    "security.",
    "ssl.",
)

MEANINGLESS: Final = frozenset(
    """
    advancedFlowControlEnabled bitHashCacheSize configuration controllerPort fips-mode
    follower.nodelay follower.skipLearnerRequestToNextProcessor forceSnapshotSync
    forward_learner_requests_to_commit_processor_disabled intBufferStartingSizeBytes kinit
    leader.ackLoggingFrequency leader.closeSocketAsync leader.nodelay
    leaderConnectDelayDuringRetryMs learner.asyncSending learner.closeSocketAsync log.dir
    log.file maxGetChildrenResponseCacheSize maxInProcessingDeadWatchers maxResponseCacheSize
    quorum.cnxn.threads.size request.timeout request_throttler.shutdownTimeout
    requireKerberosConfig root.logger console.threshold serverCnxnFactory
    snapshotSizeFactor watchManagerName watcherCleanIntervalInSeconds watcherCleanThreadsNum
    watcherCleanThreshold
    """.split()
)
"""Keys about the insides of the Java server: its threads, caches and libraries."""

MEANINGLESS_FAMILIES: Final = (
    "commitProcessor.",
    "com.sun.",
    "file.",
    "java.",
    "javax.",
    "jdk.",
    "jmx.",
    "jvm.",
    "log4j",
    "logback",
    "messageTracker.",
    "netty.",
    "nio.",
    "org.",
    "sun.",
    "user.",
)

PROTECTION: Final = (
    "enforce.auth.",
    "quorum.auth.",
    "secureClientPort",
    "sessionRequireClientSASLAuth",
    "ssl.clientAuth",
    "ssl.quorum.clientAuth",
    "sslQuorum",
)
"""Keys that an operator sets for safety: ignoring them deserves a louder word."""

ALIASES: Final = {key.lower(): key for key in (*HONOURED, *UNSUPPORTED, *sorted(MEANINGLESS))}
"""For a hint when only the case of a key is wrong: Java's properties are case-sensitive."""

_MEMBER: Final = re.compile(r"(server|group|weight)\.(.*)", re.DOTALL)


def judge(setting: Setting) -> str | None:
    """The warning for a key that is not in HONOURED; None if nothing is to be said."""
    key = setting.key
    if key in UNSUPPORTED or key.startswith(UNSUPPORTED_FAMILIES):
        if setting.value.lower() == UNSUPPORTED.get(key, None):
            return None
        if key.startswith(PROTECTION):
            return setting.warning(
                "is not supported yet: THE PROTECTION IT ASKS FOR IS NOT IN FORCE"
            )
        return setting.warning("is not supported yet and has no effect")
    if key in MEANINGLESS or key.startswith(MEANINGLESS_FAMILIES):
        return setting.warning("concerns ZooKeeper's Java server and has no effect here")
    hint = ALIASES.get(key.lower())
    meant = f" (did you mean {hint}?)" if hint else ""
    return setting.warning(f"is not a known key{meant}; it is kept as a property {PREFIX}{key}")


# --- the properties file ------------------------------------------------------------

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_KEY_END: Final = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*", re.DOTALL)


def read_properties(text: str, name: str) -> list[Setting]:
    """The settings of a Java properties file, in order.

    `key=value`, `key:value` or `key value`; `#` and `!` open comments; a backslash
    escapes, and joins lines at their end.  Values are trimmed, as ZooKeeper does.
    """
    return [
        _split(line, f"{name}:{number}") for number, line in _logical_lines(text) if line.strip()
    ]


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """(number of its first line, line) with continuations joined and comments left out."""
    started, joined = 0, ""
    for number, raw in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1):
        line = raw.lstrip()
        if not joined and line.startswith(("#", "!")):
            continue
        started = started if joined else number
        joined += line
        if _continues(line):
            joined = joined[:-1]
            continue
        yield started, joined
        joined = ""
    yield started, joined


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str, where: str) -> Setting:
    match = _KEY_END.match(line)
    assert match is not None  # every part of the pattern may be empty
    key = _unescape(match[1]).removeprefix(PREFIX)
    if not key:
        raise ConfigError(f"{where}: there is no key before '='; key=value is needed")
    return Setting(key, _unescape(line[match.end() :]).strip(), where)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text)
    # Java writes what lies beyond 16 bits as two halves.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def option_setting(text: str) -> Setting:
    """A setting from `-D key=value`."""
    key, separator, value = text.partition("=")
    key = key.strip().removeprefix(PREFIX)
    if not key or not separator:
        raise ConfigError(f"-D {key}: key=value is needed, for example -D snapCount=50000")
    return Setting(key, value.strip(), "-D")


# --- the ensemble -------------------------------------------------------------------

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
class _Ensemble:
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
        self.weights[server_id] = _parse(setting, count)  # type: ignore[assignment]

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


# --- together -----------------------------------------------------------------------


def _parse(setting: Setting, parser: Parser) -> object:
    try:
        return parser(setting.value)
    except ValueError as why:
        raise setting.error(str(why)) from None


@attrs.define
class _Draft:
    """Settings sorted by what they are, before they are judged together."""

    source: str
    latest: dict[str, Setting] = attrs.Factory(dict)
    warnings: list[str] = attrs.Factory(list)
    values: dict[str, object] = attrs.Factory(dict)
    ensemble: _Ensemble = attrs.Factory(_Ensemble)

    def add(self, setting: Setting) -> None:
        """Later settings win: options come after the file."""
        earlier = self.latest.get(setting.key)
        if earlier is not None and earlier.value != setting.value:
            self.warnings.append(setting.warning(f"replaces the value given at {earlier.where}"))
        self.latest[setting.key] = setting

    def sort(self) -> None:
        for key, setting in self.latest.items():
            member = _MEMBER.fullmatch(key)
            if key in HONOURED:
                field, parser = HONOURED[key]
                self.values[field] = _parse(setting, parser)
            elif member is not None and key not in UNSUPPORTED:
                self.ensemble.add(setting, member[1], member[2])
            elif (warning := judge(setting)) is not None:
                self.warnings.append(warning)
        self.ensemble.check()

    def take(self, field: str, kind: type[_T], default: _T) -> _T:
        """A value that `Config` has no field for."""
        value = self.values.pop(field, default)
        assert isinstance(value, kind)
        return value

    def error(self, key: str, why: str) -> ConfigError:
        """An error of the file as a whole, at the line of `key` if it has one."""
        setting = self.latest.get(key)
        return setting.error(why) if setting else ConfigError(f"{self.source}: {key}: {why}")


def parse(settings: Iterable[Setting], source: str, server_id: int | None = None) -> Config:
    """Settings -> Config.  `server_id` is what `myid` says, None if there is none.

    Raises ConfigError, which names file, line and key.
    """
    draft = _Draft(source)
    for setting in settings:
        draft.add(setting)
    draft.sort()
    draft.values.pop("election", None)
    draft.values.pop("dynamic_file", None)
    limits = _build_limits(draft)
    data_dir, log_dir = _build_dirs(draft)
    own = _find_self(draft, server_id)
    client = _build_client(draft, own)
    _check_retained(draft)
    if draft.values.get("listen_backlog") == -1:
        del draft.values["listen_backlog"]
    if own is not None:
        draft.values["observer"] = own.observer
    return Config(
        data_dir=data_dir,
        log_dir=log_dir,
        client=client,
        limits=limits,
        server_id=SERVER_ID if server_id is None else server_id,
        servers=tuple(draft.ensemble.servers.values()),
        groups=draft.ensemble.groups,
        weights=draft.ensemble.weights,
        source=source,
        properties={key: setting.value for key, setting in draft.latest.items()},
        warnings=tuple(draft.warnings),
        **draft.values,  # type: ignore[arg-type]  # each parser gives its field's type
    )


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
    limits = attrs.evolve(
        limits,
        session_timeout_min_ms=low if low > 0 else 2 * limits.tick_ms,
        session_timeout_max_ms=high if high > 0 else 20 * limits.tick_ms,
        entry_bytes_max=limits.frame_bytes_max + extra,
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
        raise ConfigError(
            f"{draft.source}: dataDir is not set: a line like dataDir=/var/lib/zookeeper is needed"
        )
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


def _build_client(draft: _Draft, own: ServerSpec | None) -> ClientAddress:
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
    if number == -1:
        raise ConfigError(
            f"{draft.source}: clientPort is not set: a line like clientPort=2181 is needed"
        )
    return ClientAddress(host, number)


def _check_retained(draft: _Draft) -> None:
    """As ZooKeeper does: fewer than three images are too few to be safe."""
    retained = draft.take("snapshots_retained", int, SNAPSHOTS_RETAINED_MIN)
    draft.values["snapshots_retained"] = max(retained, SNAPSHOTS_RETAINED_MIN)
    if retained < SNAPSHOTS_RETAINED_MIN:
        setting = draft.latest["autopurge.snapRetainCount"]
        draft.warnings.append(setting.warning(f"is raised to {SNAPSHOTS_RETAINED_MIN}"))


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
    server_id = read_myid(data_dir.value) if data_dir is not None and data_dir.value else None
    return parse(settings, path, server_id)


def standalone(data_dir: str, port: int = CLIENT_PORT, options: Iterable[Setting] = ()) -> Config:
    """The Config of a server alone, without a file: on loopback, unless options say otherwise."""
    settings = [
        Setting("dataDir", data_dir, "--data-dir"),
        Setting("clientPort", str(port), "--port"),
        Setting("clientPortAddress", LOOPBACK, "default"),
    ]
    given = {option.key: option for option in options}
    merged = {setting.key: setting for setting in settings} | given
    directory = merged["dataDir"].value
    return parse(merged.values(), "the command line", read_myid(directory))


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
        if _MEMBER.fullmatch(setting.key) and setting.key not in UNSUPPORTED:
            raise setting.error(f"it belongs in {dynamic.value}, since dynamicConfigFile is set")
    settings = [setting for setting in _read_settings(dynamic.value) if setting.key != "version"]
    for setting in settings:
        if not _MEMBER.fullmatch(setting.key):
            raise setting.error("only server.N, group.N, weight.N and version may stand here")
    return settings


def read_myid(data_dir: str) -> int | None:
    """The server id in `data_dir/myid`; None if there is no such file."""
    path = os.path.join(data_dir, "myid")
    if not os.path.isfile(path):
        return None
    first = (_read_text(path).splitlines() or [""])[0].strip()
    if not first.isascii() or not first.isdigit() or int(first) > SERVER_ID_MAX:
        raise ConfigError(f"{path}: a number from 0 to {SERVER_ID_MAX} is needed")
    return int(first)
