"""Every key of ZooKeeper 3.9, and what becomes of it here."""

from typing import Final

import attrs

from zkpy.config.properties import PREFIX, Setting
from zkpy.config.tls import (
    parse_client_auth,
    parse_kind,
    parse_need,
    parse_ocsp,
    parse_password,
    parse_protocol,
    parse_protocols,
)
from zkpy.config.values import (
    Parser,
    count,
    kilobytes,
    ms,
    parse_bound,
    parse_election,
    parse_flag,
    parse_hash,
    parse_http_host,
    parse_names,
    parse_path,
    parse_property,
    parse_purge_interval,
    parse_snapshot_size,
    parse_sync_warning,
    parse_text,
    parse_unicode,
    parse_words,
    port,
    raised,
    whole,
)
from zkpy.membership import parse_host, parse_role

SNAPSHOTS_RETAINED_MIN: Final = 3
"""Fewer images are too few to be safe, in ZooKeeper as here."""

HONOURED: Final[dict[str, tuple[str, Parser]]] = {
    "4lw.commands.whitelist": ("four_letter_words", parse_words),
    "admin.commandURL": ("admin_path", parse_path),
    "admin.enableServer": ("admin_enabled", parse_property),
    "admin.idleTimeout": ("admin_idle_ms", ms),
    "admin.serverAddress": ("admin_host", parse_http_host),
    "admin.serverPort": ("admin_port", port),
    "allowSaslFailedClients": ("sasl_keeps_failed", parse_property),
    "audit.enable": ("audit", parse_property),
    "autopurge.purgeInterval": ("autopurge", parse_purge_interval),
    "autopurge.snapRetainCount": ("snapshots_retained", raised(SNAPSHOTS_RETAINED_MIN)),
    "client.certReload": ("ssl.reload", parse_property),
    "client.portUnification": ("port_unification", parse_property),
    "clientPort": ("client_port", port),
    "clientPortAddress": ("client_host", parse_host),
    "clientPortListenBacklog": ("listen_backlog", whole(-1, 2**31 - 1)),
    "clientTcpKeepAlive": ("tcp_keepalive", parse_property),
    "connectionMaxTokens": ("limits.connect_tokens_max", count),
    "connectionTokenFillCount": ("limits.connect_fill_count", whole(1, 2**31 - 1, "tokens")),
    "connectionTokenFillTime": ("limits.connect_fill_ms", ms),
    "connection_throttle_fill_count": ("limits.connect_fill_count", whole(1, 2**31 - 1, "tokens")),
    "connection_throttle_fill_time": ("limits.connect_fill_ms", ms),
    "connection_throttle_tokens": ("limits.connect_tokens_max", count),
    "dataDir": ("data_dir", parse_text),
    "dataLogDir": ("log_dir", parse_text),
    "datadir.autocreate": ("data_dir_autocreate", parse_property),
    "db.autocreate": ("ensemble_autocreate", parse_property),
    "DigestAuthenticationProvider.digestAlg": ("digest_hash", parse_hash),
    "DigestAuthenticationProvider.enabled": ("digest_scheme", parse_property),
    "DigestAuthenticationProvider.superDigest": ("super_digest", parse_unicode),
    "dynamicConfigFile": ("dynamic_file", parse_text),
    "electionAlg": ("election", parse_election),
    "electionKeyFile": ("election_key_file", parse_text),
    "enforce.auth.enabled": ("enforce_auth", parse_property),
    "enforce.auth.schemes": ("required_schemes", parse_names),
    "enforceQuota": ("enforce_quota", parse_property),
    "ensembleAuthName": ("ensemble_names", parse_names),
    "extendedTypesEnabled": ("extended_types", parse_property),
    "fsync.warningthresholdms": ("sync_warning_ms", parse_sync_warning),
    "globalOutstandingLimit": ("limits.outstanding_max", raised(1, "requests")),
    "initLimit": ("limits.init_ticks", whole(0, 2**31 - 1, "ticks")),
    "java.security.auth.login.config": ("jaas_file", parse_text),
    "jute.maxbuffer": ("limits.frame_bytes_max", whole(1, 2**31 - 1, "bytes")),
    "jute.maxbuffer.extrasize": ("extra_bytes", whole(0, 2**31 - 1, "bytes")),
    "leaderServes": ("leader_serves", parse_property),
    "localSessionsEnabled": ("local_sessions", parse_flag),
    "localSessionsUpgradingEnabled": ("local_sessions_upgrading", parse_flag),
    "maxClientCnxns": ("limits.connections_per_address_max", parse_bound),
    "maxCnxns": ("limits.connections_max", parse_bound),
    "maxSessionTimeout": ("max_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "minSessionTimeout": ("min_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "metricsProvider.className": ("metrics_class", parse_text),
    "metricsProvider.exportJvmInfo": ("metrics_of_jvm", parse_property),
    "metricsProvider.httpHost": ("metrics_host", parse_http_host),
    "metricsProvider.httpPort": ("metrics_port", port),
    "netty.server.outstandingHandshake.limit": ("limits.tls_handshakes_max", parse_bound),
    "nio.sessionlessCnxnTimeout": ("limits.handshake_ms", ms),
    "outstandingHandshake.limit": ("limits.tls_handshakes_max", parse_bound),
    "peerType": ("observer", parse_role),
    "portUnification": ("members_unified", parse_flag),
    "preAllocSize": ("segment_bytes", kilobytes(64)),
    "quorumListenOnAllIPs": ("quorum_on_all_addresses", parse_flag),
    "readonlymode.enabled": ("read_only_mode", parse_property),
    "reconfigEnabled": ("reconfig_enabled", parse_flag),
    "requestThrottleLimit": ("requests_max", parse_bound),
    "request_throttle_max_requests": ("requests_max", parse_bound),
    "SASLAuthenticationProvider.superPassword": ("sasl_super_password", parse_unicode),
    "sasl.serverconfig": ("jaas_section", parse_text),
    "secureClientPort": ("secure_port", port),
    "secureClientPortAddress": ("secure_host", parse_host),
    "sessionRequireClientSASLAuth": ("require_sasl", parse_property),
    "snapCount": ("limits.snap_entries", raised(2, "transactions")),
    "snapSizeLimitInKb": ("limits.snap_bytes", parse_snapshot_size),
    "ssl.ciphersuites": ("ssl.ciphers", parse_names),
    "ssl.clientAuth": ("ssl.client_auth", parse_client_auth),
    "ssl.crl": ("ssl.crl", parse_property),
    "ssl.enabledProtocols": ("ssl.enabled_protocols", parse_protocols),
    "ssl.handshakeDetectionTimeoutMillis": ("limits.tls_detection_ms", ms),
    "ssl.keyStore.location": ("ssl.key_store.location", parse_text),
    "ssl.keyStore.password": ("ssl.key_store.password", parse_password),
    "ssl.keyStore.passwordPath": ("ssl.key_store.password_path", parse_text),
    "ssl.keyStore.type": ("ssl.key_store.type", parse_kind),
    "ssl.ocsp": ("ssl.ocsp", parse_ocsp),
    "ssl.protocol": ("ssl.protocol", parse_protocol),
    "ssl.quorum.ciphersuites": ("ssl.quorum.ciphers", parse_names),
    "ssl.quorum.clientAuth": ("ssl.quorum.client_auth", parse_need),
    "ssl.quorum.crl": ("ssl.quorum.crl", parse_property),
    "ssl.quorum.enabledProtocols": ("ssl.quorum.enabled_protocols", parse_protocols),
    "ssl.quorum.hostnameVerification": ("ssl.quorum.hostnames", parse_property),
    "ssl.quorum.keyStore.location": ("ssl.quorum.key_store.location", parse_text),
    "ssl.quorum.keyStore.password": ("ssl.quorum.key_store.password", parse_password),
    "ssl.quorum.keyStore.passwordPath": ("ssl.quorum.key_store.password_path", parse_text),
    "ssl.quorum.keyStore.type": ("ssl.quorum.key_store.type", parse_kind),
    "ssl.quorum.ocsp": ("ssl.quorum.ocsp", parse_ocsp),
    "ssl.quorum.protocol": ("ssl.quorum.protocol", parse_protocol),
    "ssl.quorum.trustStore.location": ("ssl.quorum.trust_store.location", parse_text),
    "ssl.quorum.trustStore.password": ("ssl.quorum.trust_store.password", parse_password),
    "ssl.quorum.trustStore.passwordPath": ("ssl.quorum.trust_store.password_path", parse_text),
    "ssl.quorum.trustStore.type": ("ssl.quorum.trust_store.type", parse_kind),
    "ssl.trustStore.location": ("ssl.trust_store.location", parse_text),
    "ssl.trustStore.password": ("ssl.trust_store.password", parse_password),
    "ssl.trustStore.passwordPath": ("ssl.trust_store.password_path", parse_text),
    "ssl.trustStore.type": ("ssl.trust_store.type", parse_kind),
    "sslQuorum": ("ssl_quorum", parse_flag),
    "sslQuorumReloadCertFiles": ("ssl.quorum.reload", parse_flag),
    "standaloneEnabled": ("standalone_enabled", parse_flag),
    "superUser": ("super_user", parse_text),
    "syncLimit": ("limits.sync_ticks", whole(0, 2**31 - 1, "ticks")),
    "tickTime": ("limits.tick_ms", ms),
    "X509AuthenticationProvider.superUser": ("x509_super", parse_text),
    "znode.container.checkIntervalMs": ("limits.container_check_ms", ms),
    "znode.container.maxNeverUsedIntervalMs": ("limits.container_never_used_ms", parse_bound),
    "znode.container.maxPerMinute": ("limits.container_removals_max", whole(1, 2**31 - 1)),
}
"""Key -> (field, parser).  Fields that `Config` lacks are combined in `build`."""


@attrs.frozen
class Ignored:
    """Why a key has no effect, and the value, if there is one, that asks for no more than
    what zkpy does anyhow."""

    why: str
    harmless: str | None = None


QUORUM_SASL: Final = "members do not authenticate each other"
KERBEROS: Final = "Kerberos is not supported"
HTTPS: Final = "the HTTP server has no TLS yet"
BACKUP: Final = "the commands snapshot and restore are not there"
AUDIT: Final = "the audit log is zkpy's own"
PROMETHEUS: Final = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider"
ELSEWHERE: Final = tuple(
    f"org.apache.zookeeper.metrics.impl.{name}MetricsProvider" for name in ("Default", "Null")
)
"""Providers of ZooKeeper's that open no port."""
SASL_PROVIDER: Final = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
PROVIDERS: Final = {
    "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider": "ensemble_scheme",
    SASL_PROVIDER: "sasl_scheme",
}
"""What `authProvider.N` may name besides classes of one's own: it is here, too.  -> field"""

JAVA: Final = "it concerns ZooKeeper's Java server"
TIMED: Final = "it follows from tickTime"

_REASONS: Final = {
    "a client is known by its certificate, not by a name of its address": """
        ssl.clientHostnameVerification=false
    """,
    "both ends of a link go by ssl.quorum.hostnameVerification": """
        ssl.quorum.clientHostnameVerification=true
    """,
    "a member has two seconds to show who it is": "ssl.quorum.handshakeDetectionTimeoutMillis",
    "clients look at the server's name, it looks at none": """
        ssl.hostnameVerification=true ssl.hostnameVerification=false
    """,
    "no Java classes can be loaded, and OpenSSL does the TLS": """
        ssl.authProvider=x509 ssl.context.supplier.class ssl.sslProvider
        ssl.quorum.context.supplier.class
    """,
    QUORUM_SASL: """
        quorum.auth.enableSasl=false quorum.auth.learnerRequireSasl=false
        quorum.auth.serverRequireSasl=false
    """,
    HTTPS: """
        admin.forceHttps=false admin.needClientAuth=false admin.portUnification=false
        metricsProvider.httpsPort
    """,
    BACKUP: """
        admin.rateLimiterIntervalInMS admin.restore.enabled=false admin.snapshot.enabled=false
    """,
    KERBEROS: "server.principal server.realm",
    "a user has the rights that ACLs give to it by name": "letAnySaslUserDoX",
    "ACLs always hold": "skipACL=false",
    "ACLs are checked by the leader alone": "enableEagerACLCheck=false",
    "a client's address is that of its connection": """
        IPAuthenticationProvider.usexforwardedfor=false
    """,
    "a write is on disk before it is answered": "forceSync=true",
    "what arrives together is written together, and nothing waits for more": """
        flushDelay=0 maxBatchSize maxWriteQueuePollTime
    """,
    "a log file ends at preAllocSize": "txnLogSizeLimitInKb=-1",
    "images are of a format of their own, not compressed": "snapshot.compression.method",
    "an image always names its zxid": "serializeLastProcessedZxid.enabled=true",
    "a log names what it follows, so that a missing image is noticed": """
        snapshot.trust.empty=false
    """,
    "the state's digest is always kept and compared": "digest.enabled=true",
    "the end of a session is always replayed exactly": "closeSessionTxn.enabled=true",
    "what is kept for learners is bounded in bytes": "commitLogCount",
    "learners are synchronised in slices, any number at a time": """
        leader.maxConcurrentDiffSyncs leader.maxConcurrentSnapSyncs maxConcurrentDiffSyncs
        maxConcurrentSnapSyncs
    """,
    "observers keep log and images as voters do": """
        observer.syncEnabled=true syncEnabled=true
    """,
    "observers learn from the leader": "observerMasterPort observerMaster.sizeLimit",
    "there is no oracle: of two voters both are needed": "oraclePath",
    "initLimit bounds it": "connectToLearnerMasterLimit",
    TIMED: """
        cnxTimeout fastleader.maxNotificationInterval fastleader.minNotificationInterval
        leader.maxTimeToWaitForEpoch maxTimeToWaitForEpoch quorumCnxnTimeoutMs
    """,
    "a port that is taken ends the start": "electionPortBindRetry",
    "members notice by their pings that a link is dead": "tcpKeepAlive=false",
    "jute.maxbuffer bounds requests": "largeRequestMaxBytes largeRequestThreshold=-1",
    "clients are not read for a while, and what was read is done": """
        requestStaleConnectionCheck=true requestStaleLatencyCheck=false
        requestThrottleDropStale=true requestThrottleStallTime request_stale_connection_check=true
        request_stale_latency_check=false request_throttle_drop_stale=true
        request_throttle_stall_time throttledOpWaitTime=0 throttled_op_wait_time=0
    """,
    "TTL znodes have one format": "emulate353TTLNodes=false",
    "replies are kept as they are sent": "maxGetChildrenResponseCacheSize maxResponseCacheSize",
    JAVA: """
        advancedFlowControlEnabled bitHashCacheSize configuration controllerPort fips-mode
        follower.nodelay follower.skipLearnerRequestToNextProcessor forceSnapshotSync
        forward_learner_requests_to_commit_processor_disabled intBufferStartingSizeBytes kinit
        leader.ackLoggingFrequency leader.closeSocketAsync leader.nodelay
        leaderConnectDelayDuringRetryMs learner.asyncSending learner.closeSocketAsync log.dir
        log.file maxInProcessingDeadWatchers quorum.cnxn.threads.size request.timeout
        request_throttler.shutdownTimeout requireKerberosConfig root.logger console.threshold
        serverCnxnFactory snapshotSizeFactor watchManagerName watcherCleanIntervalInSeconds
        watcherCleanThreadsNum watcherCleanThreshold
    """,
}
"""Why -> the keys, each with the value that asks for nothing, if there is one (or two)."""


def _ignored() -> dict[str, Ignored]:
    found: dict[str, Ignored] = {}
    for why, keys in _REASONS.items():
        for key, _, harmless in (each.partition("=") for each in keys.split()):
            also = found.get(key)
            values = f"{also.harmless} {harmless}" if also is not None else harmless
            found[key] = Ignored(why, values or None)
    return found


IGNORED: Final = _ignored()

IGNORED_FAMILIES: Final = {
    "admin.": JAVA,
    "audit.": AUDIT,
    "authProvider": "providers in Java cannot be loaded",
    "connection": "a handshake takes one token, and none is dropped at random",
    "kerberos.": KERBEROS,
    "metricsProvider.ssl.": HTTPS,
    "metricsProvider.": JAVA,
    "multiAddress.": "a member tries all addresses of another one, in turn",
    "observer.": TIMED,
    "pathStats.": "there are no figures by path",
    "quorum.auth.": QUORUM_SASL,
    "sasl.": "it concerns ZooKeeper's Java client",
    "security.": KERBEROS,
    "ssl.": "there is no such key in ZooKeeper 3.9",
} | dict.fromkeys(
    """
    commitProcessor. com.sun. file. java. javax. jdk. jmx. jvm. log4j logback messageTracker.
    netty. nio. org. sun. user.
    """.split(),
    JAVA,
)
"""Beginning of a key -> why it has no effect; what is in `IGNORED` or `HONOURED` goes by that."""

PROTECTION: Final = (
    "admin.forceHttps",
    "admin.needClientAuth",
    "enforce.auth.enabled",
    "metricsProvider.httpsPort",
    "metricsProvider.ssl.",
    "quorum.auth.",
    "sessionRequireClientSASLAuth",
    "ssl.authProvider",
    "ssl.clientHostnameVerification",
    "ssl.context.supplier.class",
    "ssl.quorum.clientHostnameVerification",
    "ssl.quorum.context.supplier.class",
)
"""Keys that an operator sets for safety: ignoring them deserves a louder word."""
LOUD: Final = ": THE PROTECTION IT ASKS FOR IS NOT IN FORCE"

ALIASES: Final = {key.lower(): key for key in (*HONOURED, *IGNORED)}
"""For a hint when only the case of a key is wrong: Java's properties are case-sensitive."""


def ignored(key: str) -> Ignored | None:
    """Of a key that is known, and not honoured."""
    for family, why in IGNORED_FAMILIES.items():
        if key.startswith(family):
            return IGNORED.get(key, Ignored(why))
    return IGNORED.get(key)


def _plain(value: str) -> str:
    """A flag has two spellings, in any case."""
    low = value.lower()
    return {"yes": "true", "no": "false"}.get(low, low)


def judge(setting: Setting) -> str | None:
    """The warning for a key that is not in HONOURED; None if nothing is to be said."""
    key = setting.key
    found = ignored(key)
    if found is None:
        hint = ALIASES.get(key.lower())
        meant = f" (did you mean {hint}?)" if hint else ""
        return setting.warning(f"is not a known key{meant}; it is kept as a property {PREFIX}{key}")
    if _plain(setting.value) in map(_plain, (found.harmless or "").split()):
        return None
    loud = LOUD if key.startswith(PROTECTION) else ""
    return setting.warning(f"has no effect: {found.why}{loud}")
