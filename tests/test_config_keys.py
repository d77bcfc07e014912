"""Every key of a ZooKeeper 3.9 zoo.cfg is known; docs/configuration.md says what becomes of it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from zkpy.config import keys, parse, read_properties
from zkpy.config.ensemble import MEMBER
from zkpy.errors import ConfigError

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
EFFECT, NO_EFFECT = PAGE.partition("## Keys that have none")[::2]
ROW = re.compile(r"^\| (?P<first>.+?) \| (?P<second>.+) \|$", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`(?: \(([^)]*)\))?")

GUIDE = """
tickTime dataDir dataLogDir clientPort clientPortAddress secureClientPort secureClientPortAddress
initLimit syncLimit connectToLearnerMasterLimit minSessionTimeout maxSessionTimeout maxClientCnxns
maxCnxns clientPortListenBacklog db.autocreate datadir.autocreate

server.1 group.1 weight.1 peerType standaloneEnabled reconfigEnabled dynamicConfigFile
observerMasterPort syncEnabled cnxTimeout electionAlg electionPortBindRetry quorumListenOnAllIPs
leaderServes localSessionsEnabled localSessionsUpgradingEnabled oraclePath

snapCount snapSizeLimitInKb txnLogSizeLimitInKb commitLogCount preAllocSize forceSync
fsync.warningthresholdms flushDelay maxWriteQueuePollTime maxBatchSize autopurge.snapRetainCount
autopurge.purgeInterval snapshot.compression.method snapshot.trust.empty digest.enabled
serializeLastProcessedZxid.enabled closeSessionTxn.enabled

jute.maxbuffer jute.maxbuffer.extrasize globalOutstandingLimit requestThrottleLimit
request_throttle_max_requests requestThrottleStallTime requestThrottleDropStale connectionMaxTokens
connection_throttle_tokens connectionTokenFillTime connectionTokenFillCount
connection_throttle_weight_enabled connection_throttle_global_session_weight
connection_throttle_renew_session_weight connection_throttle_local_session_weight enforceQuota
maxResponseCacheSize maxGetChildrenResponseCacheSize leader.maxConcurrentSnapSyncs
leader.maxConcurrentDiffSyncs maxConcurrentDiffSyncs readonlymode.enabled extendedTypesEnabled
enableEagerACLCheck throttled_op_wait_time largeRequestThreshold largeRequestMaxBytes skipACL

admin.enableServer admin.serverAddress admin.serverPort admin.idleTimeout admin.commandURL
admin.portUnification admin.forceHttps admin.needClientAuth admin.snapshot.enabled
admin.restore.enabled admin.rateLimiterIntervalInMS metricsProvider.className
metricsProvider.httpHost metricsProvider.httpPort metricsProvider.exportJvmInfo audit.enable
4lw.commands.whitelist

ssl.keyStore.location ssl.keyStore.password ssl.trustStore.location ssl.quorum.keyStore.location
ssl.quorum.trustStore.location ssl.hostnameVerification ssl.quorum.hostnameVerification
ssl.clientAuth ssl.quorum.clientAuth ssl.crl ssl.ocsp ssl.protocol ssl.ciphersuites
client.certReload sslQuorumReloadCertFiles sslQuorum portUnification client.portUnification
fips-mode authProvider.1 java.security.auth.login.config quorum.auth.enableSasl
quorum.auth.learnerRequireSasl quorum.auth.serverRequireSasl quorum.cnxn.threads.size
IPAuthenticationProvider.usexforwardedfor DigestAuthenticationProvider.superDigest
X509AuthenticationProvider.superUser superUser enforce.auth.enabled enforce.auth.schemes
sessionRequireClientSASLAuth ensembleAuthName znode.container.checkIntervalMs
""".split()
"""The keys of the administrator's guide, area by area."""


def rows(text: str) -> Iterator[re.Match[str]]:
    return (row for row in ROW.finditer(text) if row["first"] not in ("key", "why", "---"))


def named(column: str) -> list[tuple[str, str]]:
    """(key, values that ask for nothing) in a cell."""
    return [(found[1], found[2] or "") for found in NAME.finditer(column)]


@pytest.mark.parametrize("key", GUIDE)
def test_a_key_of_the_guide_is_known(key: str) -> None:
    known = key in keys.HONOURED or keys.ignored(key) is not None or MEMBER.fullmatch(key)
    assert known


WITHOUT_EFFECT = [key for key in GUIDE if keys.ignored(key) and key not in keys.HONOURED]


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_a_key_without_effect_is_named_with_file_line_and_reason(key: str) -> None:
    text = f"dataDir=/data\nclientPort=2181\n{key}=something"
    (said,) = parse(read_properties(text, "zoo.cfg"), "zoo.cfg").warnings
    assert said.startswith(f"zoo.cfg:3: {key} has no effect: ")
    assert said.rpartition("no effect: ")[2]


MAY_BE_EMPTY = ("4lw.commands.whitelist", "ssl.keyStore.password")
"""Of no words `srvr` is left, and a password may be one of no letters."""
VALUED = [key for key in GUIDE if key in keys.HONOURED and key not in MAY_BE_EMPTY]


@pytest.mark.parametrize("key", VALUED)
def test_a_value_that_cannot_be_right_is_refused_with_file_line_and_remedy(key: str) -> None:
    text = f"dataDir=/data\nclientPort=2181\n{key}="
    with pytest.raises(ConfigError, match=f"^zoo.cfg:3: {re.escape(key)}") as refused:
        parse(read_properties(text, "zoo.cfg"), "zoo.cfg")
    assert "needed" in str(refused.value) or "there is" in str(refused.value)


def test_the_page_names_every_key_that_has_an_effect() -> None:
    told = [key for row in rows(EFFECT) for key, _ in named(row["first"])]
    members = ["server.N", "group.N", "weight.N"]
    assert sorted(told) == sorted([*keys.HONOURED, *members])


def test_the_page_says_of_every_other_key_why_it_has_none() -> None:
    told = {
        (row["first"], key, values.replace(",", ""))
        for row in rows(NO_EFFECT)
        for key, values in named(row["second"])
    }
    single = {(each.why, key, each.harmless or "") for key, each in keys.IGNORED.items()}
    families = {(why, f"{family}*", "") for family, why in keys.IGNORED_FAMILIES.items()}
    assert told == single | families
