"""Every key of ZooKeeper 3.9, and what becomes of it here."""

from typing import Final

from zkpy.config.properties import PREFIX, Setting
from zkpy.config.values import (
    Parser,
    count,
    kilobytes,
    ms,
    parse_election,
    parse_flag,
    parse_purge_interval,
    parse_text,
    parse_words,
    port,
    whole,
)
from zkpy.membership import parse_host, parse_role

HONOURED: Final[dict[str, tuple[str, Parser]]] = {
    "4lw.commands.whitelist": ("four_letter_words", parse_words),
    "autopurge.purgeInterval": ("autopurge", parse_purge_interval),
    "autopurge.snapRetainCount": ("snapshots_retained", count),
    "clientPort": ("client_port", port),
    "clientPortAddress": ("client_host", parse_host),
    "clientPortListenBacklog": ("listen_backlog", whole(-1, 2**31 - 1)),
    "clientTcpKeepAlive": ("tcp_keepalive", parse_flag),
    "connectionMaxTokens": ("limits.connect_tokens_max", count),
    "connectionTokenFillCount": ("limits.connect_fill_count", whole(1, 2**31 - 1, "tokens")),
    "connectionTokenFillTime": ("limits.connect_fill_ms", ms),
    "connection_throttle_fill_count": ("limits.connect_fill_count", whole(1, 2**31 - 1, "tokens")),
    "connection_throttle_fill_time": ("limits.connect_fill_ms", ms),
    "connection_throttle_tokens": ("limits.connect_tokens_max", count),
    "dataDir": ("data_dir", parse_text),
    "dataLogDir": ("log_dir", parse_text),
    "datadir.autocreate": ("data_dir_autocreate", parse_flag),
    "db.autocreate": ("ensemble_autocreate", parse_flag),
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
    "localSessionsEnabled": ("local_sessions", parse_flag),
    "localSessionsUpgradingEnabled": ("local_sessions_upgrading", parse_flag),
    "maxClientCnxns": ("limits.connections_per_address_max", count),
    "maxCnxns": ("limits.connections_max", count),
    "maxSessionTimeout": ("max_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "minSessionTimeout": ("min_session_ms", whole(-1, 2**31 - 1, "milliseconds")),
    "nio.sessionlessCnxnTimeout": ("limits.handshake_ms", ms),
    "peerType": ("observer", parse_role),
    "preAllocSize": ("segment_bytes", kilobytes(64)),
    "quorumListenOnAllIPs": ("quorum_on_all_addresses", parse_flag),
    "readonlymode.enabled": ("read_only_mode", parse_flag),
    "reconfigEnabled": ("reconfig_enabled", parse_flag),
    "requestThrottleLimit": ("requests_max", count),
    "request_throttle_max_requests": ("requests_max", count),
    "snapCount": ("limits.snap_entries", whole(2, 2**31 - 1, "transactions")),
    "standaloneEnabled": ("standalone_enabled", parse_flag),
    "syncLimit": ("limits.sync_ticks", whole(1, 2**31 - 1, "ticks")),
    "tickTime": ("limits.tick_ms", ms),
    "znode.container.checkIntervalMs": ("limits.container_check_ms", ms),
    "znode.container.maxNeverUsedIntervalMs": ("limits.container_never_used_ms", count),
    "znode.container.maxPerMinute": ("limits.container_removals_max", whole(1, 2**31 - 1)),
}
"""Key -> (field, parser).  Fields that `Config` lacks are combined in `build`."""

UNSUPPORTED: Final[dict[str, str | None]] = {
    "admin.enableServer": "false",
    "audit.enable": "false",
    "client.portUnification": "false",
    "closeSessionTxn.enabled": "true",
    "digest.enabled": "true",
    "DigestAuthenticationProvider.enabled": "true",
    "enableEagerACLCheck": "false",
    "enforce.auth.enabled": "false",
    "forceSync": "yes",
    "IPAuthenticationProvider.usexforwardedfor": "false",
    "largeRequestThreshold": "-1",
    "leaderServes": "yes",
    "observer.syncEnabled": "true",
    "portUnification": "false",
    "quorum.auth.enableSasl": "false",
    "quorum.auth.learnerRequireSasl": "false",
    "quorum.auth.serverRequireSasl": "false",
    "serializeLastProcessedZxid.enabled": "true",
    "requestStaleConnectionCheck": "true",
    "requestStaleLatencyCheck": "false",
    "requestThrottleDropStale": "true",
    "request_stale_connection_check": "true",
    "request_stale_latency_check": "false",
    "request_throttle_drop_stale": "true",
    "sessionRequireClientSASLAuth": "false",
    "skipACL": "false",
    "snapshot.trust.empty": "false",
    "sslQuorum": "false",
    "syncEnabled": "true",
    "tcpKeepAlive": "false",
    "throttledOpWaitTime": "0",
    "throttled_op_wait_time": "0",
} | dict.fromkeys(
    """
    DigestAuthenticationProvider.digestAlg SASLAuthenticationProvider.superPassword
    X509AuthenticationProvider.superUser allowSaslFailedClients cnxTimeout commitLogCount
    connectToLearnerMasterLimit electionPortBindRetry emulate353TTLNodes enforce.auth.schemes
    ensembleAuthName fastleader.maxNotificationInterval fastleader.minNotificationInterval
    flushDelay largeRequestMaxBytes leader.maxConcurrentDiffSyncs
    leader.maxConcurrentSnapSyncs leader.maxTimeToWaitForEpoch letAnySaslUserDoX maxBatchSize
    maxConcurrentDiffSyncs maxConcurrentSnapSyncs maxTimeToWaitForEpoch maxWriteQueuePollTime
    observerMasterPort observerMaster.sizeLimit oraclePath outstandingHandshake.limit
    quorumCnxnTimeoutMs secureClientPort secureClientPortAddress
    server.principal server.realm snapSizeLimitInKb snapshot.compression.method
    sslQuorumReloadCertFiles superUser
    txnLogSizeLimitInKb java.security.auth.login.config
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
    quorum.cnxn.threads.size request.timeout requestThrottleStallTime
    request_throttle_stall_time request_throttler.shutdownTimeout
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
