"""zoo.cfg text and options -> Config: every key, every refusal, every warning."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkpy.config import (
    ANY_ADDRESS,
    ClientAddress,
    Config,
    PeerAddress,
    Setting,
    keys,
    load,
    option_setting,
    parse,
    parse_server,
    read_properties,
    standalone,
)
from zkpy.errors import ConfigError
from zkpy.limits import Limits

ENSEMBLE_PROVIDER = "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider"
SASL_PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
BASE = "dataDir=/data\nclientPort=2181\n"


def read(text: str, server_id: int | None = None) -> Config:
    return parse(read_properties(BASE + text, "zoo.cfg"), "zoo.cfg", server_id)


def refusal(text: str, server_id: int | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, server_id)
    return str(caught.value)


# --- the properties file --------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a=b", "a", "b"),
        ("a = b ", "a", "b"),
        ("a:b", "a", "b"),
        ("a b", "a", "b"),
        ("  a\t=\tb c", "a", "b c"),
        ("a==b", "a", "=b"),
        ("a", "a", ""),
        (r"a\=b=c", "a=b", "c"),
        (r"a=C:\\zk\\data", "a", r"C:\zk\data"),
        (r"a=\u0041\tb", "a", "A\tb"),
        ("a=b\\\n   c", "a", "bc"),
        ("a=b\\\n# no comment", "a", "b# no comment"),
        ("a=b # no comment either", "a", "b # no comment either"),
        ("zookeeper.a=b", "a", "b"),
    ],
)
def test_lines_as_java_reads_them(line: str, key: str, value: str) -> None:
    (setting,) = read_properties(line, "f")
    assert (setting.key, setting.value) == (key, value)


def test_comments_and_blank_lines_are_skipped_and_lines_counted() -> None:
    text = "\ufeff# one\r\n! two\r\n\r\n   # four\r\na=1\\\r\n  2\r\nb=3"
    assert read_properties(text, "f") == [Setting("a", "12", "f:5"), Setting("b", "3", "f:7")]


def test_line_without_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"f:2: there is no key"):
        read_properties("a=b\n=c", "f")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    said = "zoo.cfg"
    try:
        read(text)
    except ConfigError as refused:
        said = str(refused)
    assert said.startswith(("zoo.cfg", "/data/myid")), "the file that is wrong"


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda key: not key.startswith("zookeeper.")),
        st.text().map(str.strip),
    )
)
def test_escaped_settings_come_back(settings: dict[str, str]) -> None:
    text = "".join(f"{escape(key)}={escape(value)}\n" for key, value in settings.items())
    assert {found.key: found.value for found in read_properties(text, "f")} == settings


def escape(text: str) -> str:
    """Every character as Java's own writer does with those beyond ASCII."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(f"\\u{code:04x}" for code in codes)


# --- keys -----------------------------------------------------------------------------


def test_defaults() -> None:
    found = read("")
    assert found.data_dir == found.log_dir == "/data"
    assert found.client == ClientAddress(ANY_ADDRESS, 2181)
    assert found.limits == Limits()
    assert found.four_letter_words == ("srvr",)
    assert found.autopurge
    assert (found.server_id, found.servers, found.warnings) == (None, (), ())


def test_honoured_keys() -> None:
    found = read(
        """
        dataLogDir=/log
        clientPortAddress=10.0.0.1
        clientPortListenBacklog=50
        tickTime=1000
        initLimit=4
        syncLimit=2
        maxClientCnxns=0
        maxCnxns=9
        globalOutstandingLimit=77
        jute.maxbuffer=0x1fffff
        snapCount=5000
        preAllocSize=1024
        autopurge.snapRetainCount=5
        autopurge.purgeInterval=0
        4lw.commands.whitelist=stat, ruok
        fsync.warningthresholdms=20
        zookeeper.clientTcpKeepAlive=yes
        DigestAuthenticationProvider.superDigest=super:abc=
        DigestAuthenticationProvider.enabled=false
        DigestAuthenticationProvider.digestAlg=sha3-256
        extendedTypesEnabled=true
        enforceQuota=true
        readonlymode.enabled=true
        snapSizeLimitInKb=2048
        leaderServes=no
        localSessionsUpgradingEnabled=false
        datadir.autocreate=false
        db.autocreate=false
        electionAlg=3
        peerType=observer
        connection_throttle_tokens=100
        connection_throttle_fill_time=20
        connectionTokenFillCount=5
        nio.sessionlessCnxnTimeout=3000
        znode.container.checkIntervalMs=500
        znode.container.maxNeverUsedIntervalMs=900
        znode.container.maxPerMinute=8
        """
    )
    assert found.log_dir == "/log"
    assert found.client == ClientAddress("10.0.0.1", 2181)
    assert found.limits == Limits(
        tick_ms=1000,
        init_ticks=4,
        sync_ticks=2,
        session_timeout_min_ms=2000,
        session_timeout_max_ms=20000,
        frame_bytes_max=0x1FFFFF,
        entry_bytes_max=2 * 0x1FFFFF,
        connections_per_address_max=0,
        connections_max=9,
        outstanding_max=77,
        snap_entries=5000,
        snap_bytes=2048 * 1024,
        connect_tokens_max=100,
        connect_fill_ms=20,
        connect_fill_count=5,
        handshake_ms=3000,
        container_check_ms=500,
        container_never_used_ms=900,
        container_removals_max=8,
    )
    assert (found.listen_backlog, found.segment_bytes) == (50, 1024 * 1024)
    assert (found.autopurge, found.snapshots_retained) == (False, 5)
    assert found.four_letter_words == ("stat", "ruok", "srvr")
    assert (found.sync_warning_ms, found.tcp_keepalive) == (20, True)
    assert found.super_digest == "super:abc="
    assert (found.digest_scheme, found.digest_hash) == (False, "sha3_256")
    assert found.extended_types and found.enforce_quota
    assert found.read_only_mode
    assert not found.leader_serves
    assert found.observer
    assert not found.data_dir_autocreate
    assert not found.ensemble_autocreate
    assert [each.split(": ")[1] for each in found.warnings] == ["leaderServes has no effect"]


def test_session_timeouts_given_in_full() -> None:
    limits = read("minSessionTimeout=-1\nmaxSessionTimeout=90000").limits
    assert (limits.session_timeout_min_ms, limits.session_timeout_max_ms) == (4000, 90000)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("requestThrottleLimit=9", 9),
        ("request_throttle_max_requests=9\nglobalOutstandingLimit=5", 5),
        ("requestThrottleLimit=0\nglobalOutstandingLimit=5", 5),
    ],
)
def test_the_narrower_bound_on_requests_counts(text: str, bound: int) -> None:
    assert read(text).limits.outstanding_max == bound


def test_words_that_a_server_on_loopback_answers() -> None:
    words = ("srvr", "ruok", "stat", "isro", "mntr", "envi", "conf")
    assert standalone("/d").four_letter_words == words
    only = [option_setting("4lw.commands.whitelist=dump")]
    assert standalone("/d", options=only).four_letter_words == ("dump", "srvr")


def test_extra_buffer_adds_to_the_largest_request() -> None:
    assert read("jute.maxbuffer.extrasize=5").limits.entry_bytes_max == 0xFFFFF + 5


def test_the_provider_of_ensembles_is_here() -> None:
    found = read(f"authProvider.1={ENSEMBLE_PROVIDER}\nensembleAuthName= red,blue ")
    assert (found.ensemble_scheme, found.ensemble_names) == (True, ("red", "blue"))
    assert found.warnings == ()
    (said,) = read("authProvider.1=org.example.Provider").warnings
    assert "providers in Java cannot be loaded" in said


def test_clients_have_to_authenticate() -> None:
    found = read("enforce.auth.enabled=true\nenforce.auth.schemes= digest , ip")
    assert (found.required_schemes, found.warnings) == (("digest", "ip"), ())


@pytest.mark.parametrize("line", ["", "enforce.auth.enabled=false\n"])
def test_schemes_alone_ask_for_nothing(line: str) -> None:
    assert read(f"{line}enforce.auth.schemes=x509").required_schemes == ()


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("enforce.auth.enabled=true", "zoo.cfg:3: enforce.auth.enabled=true: needs enforce.auth"),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=digest,sasl",
            "zoo.cfg:4: enforce.auth.schemes=digest,sasl: nobody can authenticate by 'sasl' here, "
            "but by digest and ip",
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=digest\n"
            "DigestAuthenticationProvider.enabled=false",
            "nobody can authenticate by 'digest' here, but by ip",
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=x509",
            "nobody can authenticate by 'x509' here, but by digest and ip",
        ),
    ],
)
def test_nobody_is_shut_out_by_mistake(lines: str, why: str) -> None:
    assert why in refusal(lines)


def test_a_small_buffer_bounds_requests_alone() -> None:
    limits = read("jute.maxbuffer=100").limits
    assert (limits.frame_bytes_max, limits.entry_bytes_max) == (100, 2048)


@pytest.mark.parametrize(("text", "on"), [("0", False), ("1", True), ("24", True), ("10m", True)])
def test_purge_interval_switches_purging(text: str, on: bool) -> None:
    assert read(f"autopurge.purgeInterval={text}").autopurge is on


@pytest.mark.parametrize("size", [0, -1])
def test_images_may_have_no_bound_in_bytes(size: int) -> None:
    assert read(f"snapSizeLimitInKb={size}").limits.snap_bytes == 1 << 62


@pytest.mark.parametrize("key", ["localSessionsEnabled=true", "leaderServes=no"])
@pytest.mark.parametrize("reconfig", [False, True])
def test_one_server_line_is_an_ensemble_if_there_may_be_more(key: str, reconfig: bool) -> None:
    text = f"{key}\nreconfigEnabled={str(reconfig).lower()}\n{ONE}"
    found = read(text, server_id=1)
    assert found.is_ensemble is reconfig
    assert [f"{key.partition('=')[0]} has no effect" in each for each in found.warnings] == (
        [] if reconfig else [True]
    )


def test_local_sessions() -> None:
    text = f"localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=yes\n{THREE}"
    found = read(text, 1)
    assert (found.local_sessions, found.local_sessions_upgrading) == (True, True)
    assert found.warnings == ()


def test_listen_backlog_of_minus_one_is_the_default() -> None:
    assert read("clientPortListenBacklog=-1").listen_backlog == read("").listen_backlog


@pytest.mark.parametrize("text", ["::", "[::]", "*"])
def test_every_address(text: str) -> None:
    assert read(f"clientPortAddress={text}").client == ClientAddress(ANY_ADDRESS, 2181)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("tickTime=fast", "tickTime=fast: a whole number of milliseconds, from 1 to"),
        ("tickTime=1_000", "a whole number"),
        ("tickTime=0", "tickTime=0: "),
        ("clientPort=65536", "a whole number, from 0 to 65535"),
        ("extendedTypesEnabled=perhaps", "true or false is needed"),
        ("DigestAuthenticationProvider.digestAlg=SHA-3", "one of SHA1, SHA-1, SHA, SHA-224"),
        ("electionAlg=1", "3 is the only election algorithm"),
        ("peerType=leader", "participant or observer"),
        ("autopurge.purgeInterval=often", "a whole number of hours"),
        ("dataLogDir=", "a value is needed"),
        ("minSessionTimeout=50000", "must not be above the largest, 40000 ms"),
        ("jute.maxbuffer=30000000", "bytes; 50331648 is the most"),
        ("jute.maxbuffer.extrasize=50000000", "bytes; 50331648 is the most"),
        ("maxSessionTimeout=3000", "the smallest session time-out, 4000 ms"),
    ],
)
def test_bad_values_are_refused_with_line_key_and_remedy(line: str, complaint: str) -> None:
    said = refusal(line)
    assert said.startswith(f"zoo.cfg:3: {line.partition('=')[0]}")
    assert complaint in said


def test_secrets_are_not_shown() -> None:
    said = refusal("DigestAuthenticationProvider.superDigest=")
    assert said == "zoo.cfg:3: DigestAuthenticationProvider.superDigest: a value is needed"
    found = read("ssl.keyStore.password=sesame\nDigestAuthenticationProvider.superDigest=open")
    shown = repr(found) + "".join(found.warnings)
    assert "sesame" not in shown
    assert "open" not in shown
    assert found.properties["ssl.keyStore.password"] == "sesame"


@pytest.mark.parametrize("missing", ["dataDir", "clientPort"])
def test_what_a_file_must_hold(missing: str) -> None:
    lines = [line for line in BASE.splitlines() if not line.startswith(missing)]
    with pytest.raises(ConfigError, match=rf"^zoo.cfg: {missing} is not set: a line like"):
        parse(read_properties("\n".join(lines), "zoo.cfg"), "zoo.cfg")
    other = BASE.replace(missing, missing.lower())
    with pytest.raises(ConfigError, match=rf"is not set, {missing.lower()} \(zoo.cfg:\d\) is an"):
        parse(read_properties(other, "zoo.cfg"), "zoo.cfg")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("autopurge.purgeInterval=-1", lambda c: not c.autopurge),
        ("maxClientCnxns=-1", lambda c: c.limits.connections_per_address_max == 0),
        ("maxCnxns=-1", lambda c: c.limits.connections_max == 0),
        ("requestThrottleLimit=-1", lambda c: c.limits.outstanding_max == Limits().outstanding_max),
        (
            "znode.container.maxNeverUsedIntervalMs=-1",
            lambda c: not c.limits.container_never_used_ms,
        ),
        ("fsync.warningthresholdms=0", lambda c: c.sync_warning_ms == 1),
        ("initLimit=0", lambda c: c.limits.init_ticks == Limits().init_ticks),
        ("snapCount=-1", lambda c: c.limits.snap_entries == 2),
        ("globalOutstandingLimit=0", lambda c: c.limits.outstanding_max == 1),
        ("preAllocSize=1", lambda c: c.segment_bytes == 64 * 1024),
        ("enforceQuota=1", lambda c: not c.enforce_quota),
    ],
)
def test_values_with_which_zookeeper_starts(line: str, value: Callable[[Config], bool]) -> None:
    assert value(read(line))


@pytest.mark.parametrize("key", ["initLimit", "syncLimit"])
def test_no_ticks_at_all_are_for_a_server_alone(key: str) -> None:
    three = "".join(f"server.{n}=h{n}:2888:3888\n" for n in (1, 2, 3))
    assert f"zoo.cfg:6: {key}=0: a whole number of ticks, at least 1" in refusal(
        three + f"{key}=0", 1
    )


# --- TLS ------------------------------------------------------------------------------

SECURE = """
secureClientPort=2281
ssl.keyStore.location=/keys/server.p12
ssl.keyStore.password=sesame
ssl.trustStore.location=/keys/trust.jks
"""


def test_a_port_for_tls() -> None:
    found = read(SECURE)
    assert (found.client, found.secure) == (
        ClientAddress(ANY_ADDRESS, 2181),
        ClientAddress(ANY_ADDRESS, 2281),
    )
    assert found.tls is not None and found.tls.trust_store is not None
    assert (found.tls.key_store.kind, found.tls.trust_store.kind) == ("PKCS12", "JKS")
    assert (found.tls.client_auth, found.tls.key_store.password) == ("need", "sesame")
    assert found.warnings == ()


def test_tls_alone() -> None:
    text = f"dataDir=/data{SECURE}secureClientPortAddress=10.0.0.1"
    found = parse(read_properties(text, "f"), "f")
    assert (found.client, found.secure) == (None, ClientAddress("10.0.0.1", 2281))


def test_one_port_for_both() -> None:
    found = read(SECURE.replace("secureClientPort=2281", "client.portUnification=true"))
    assert (found.secure, found.port_unification) == (None, True)
    assert found.tls is not None


def test_a_port_is_needed_still() -> None:
    with pytest.raises(ConfigError, match="clientPort is not set"):
        parse(read_properties("dataDir=/data", "f"), "f")


def test_no_value_is_in_the_repr_of_a_setting() -> None:
    """Not only those of keys that are known to be secret."""
    assert repr(Setting("sasl.x", "sesame", "f:1")) == "Setting('f:1', 'sasl.x')"


def test_what_asks_for_no_protection_is_no_loud_warning() -> None:
    (said,) = read("sessionRequireClientSASLAuth=0").warnings
    assert said.endswith("true or false is meant")


def test_no_password_is_in_a_repr() -> None:
    settings = read_properties(SECURE, "f")
    assert "sesame" not in repr(settings) + repr(read(SECURE))


def test_the_port_for_tls_is_no_members_port() -> None:
    text = f"dataDir=/data{SECURE}server.1=a:2281:3888;2181"
    with pytest.raises(ConfigError, match=r"^f:2: secureClientPort=2281: 2281 is the quorum port"):
        parse(read_properties(text, "f"), "f", 1)


def test_clients_may_have_to_show_a_certificate() -> None:
    lines = "enforce.auth.enabled=true\nenforce.auth.schemes=x509\n"
    assert read(SECURE + lines).required_schemes == ("x509",)
    assert "but by digest and ip" in refusal(SECURE + lines + "ssl.clientAuth=none")


BETWEEN = """
ssl.quorum.keyStore.location=/keys/zk1.pem
ssl.quorum.trustStore.location=/keys/trust.pem
server.1=a:2888:3888
server.2=b:2888:3888
"""


@pytest.mark.parametrize("line", ["sslQuorum=true", "portUnification=true"])
def test_tls_between_members(line: str) -> None:
    found = read(BETWEEN + line, 1)
    assert found.tls is None and found.members_tls is not None
    assert (found.ssl_quorum, found.members_unified) == ("ssl" in line, "port" in line)
    assert (found.members_tls.client_auth, found.members_tls.hostnames) == ("need", True)
    assert found.warnings == ()
    other = read(BETWEEN + line + "\nssl.quorum.hostnameVerification=false", 1)
    assert other.members_tls is not None and not other.members_tls.hostnames


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sslQuorum=true", "sslQuorum=true: needs ssl.quorum.keyStore.location"),
        ("sslQuorum=true\nssl.quorum.keyStore.location=/k.pem", "needs ssl.quorum.trustStore"),
        ("ssl.quorum.clientAuth=none", "members show each other their certificates, always"),
        ("ssl.quorum.ocsp=true", "nobody is asked here whether a certificate was revoked"),
        ("ssl.quorum.protocol=SSLv3", "TLSv1.2 and TLSv1.3 are what there is"),
    ],
)
def test_tls_between_members_is_there_or_is_not(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"{text}\nserver.1=a:2888:3888\nserver.2=b:2888:3888", 1)
    assert why in str(refused.value)


# --- warnings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("admin.forceHttps=true", "the HTTP server has no TLS yet: THE PROTECTION IT ASKS FOR"),
        ("metricsProvider.ssl.x=y", "the HTTP server has no TLS yet: THE PROTECTION IT ASKS FOR"),
        ("admin.snapshot.enabled=true", "the commands snapshot and restore are not there"),
        ("admin.serverAddress=0.0.0.0", "lets everybody who reaches it see paths, sessions"),
        ("metricsProvider.className=a.b.C", "has no effect: of such classes org.apache.zookeeper."),
        ("metricsProvider.className=a.b.C", "is known, and not a.b.C"),
        ("metricsProvider.httpPort=7001", "has no effect without metricsProvider.className="),
        ("forceSync=no", "forceSync has no effect: a write is on disk before it is answered"),
        ("server.realm=X", "server.realm has no effect: Kerberos is not supported"),
        ("nio.numWorkerThreads=4", "nio.numWorkerThreads has no effect: it concerns"),
        ("serverCnxnFactory=x", "serverCnxnFactory has no effect: it concerns"),
        ("sslQuorum=true", "sslQuorum has no effect: this server is alone"),
        ("portUnification=true", "portUnification has no effect: this server is alone"),
        ("ssl.quorum.keyStore.location=/k", "has no effect without sslQuorum=true or portUnific"),
        ("electionKeyFile=/k", "electionKeyFile has no effect: this server is alone"),
        ("ssl.clientHostnameVerification=true", "IT ASKS FOR IS NOT IN FORCE"),
        ("ssl.authProvider=mine", "no Java classes can be loaded, and OpenSSL does the TLS: THE"),
        ("ssl.sslProvider=OPENSSL", "no Java classes can be loaded, and OpenSSL does the TLS"),
        ("ssl.keyStore.location=/k", "without secureClientPort or client.portUnification=true"),
        ("ssl.clientAuth=none", "without secureClientPort or client.portUnification=true"),
        ("client.certReload=true", "without secureClientPort or client.portUnification=true"),
        ("secureClientPortAddress=a", "secureClientPortAddress has no effect without secureClient"),
        ("X509AuthenticationProvider.superUser=CN=a", "no effect: no client shows a certificate"),
        ("quorum.auth.enableSasl=true", "THE PROTECTION IT ASKS FOR IS NOT IN FORCE"),
        (
            "enforce.auth.schemes=digest",
            "without enforce.auth.enabled=true: THE PROTECTION IT ASKS",
        ),
        (
            "enforce.auth.enabled=on",
            "is read as false, as in ZooKeeper: true or false is meant: THE",
        ),
        ("sessionRequireClientSASLAuth=1", "true or false is meant: THE PROTECTION IT ASKS FOR"),
        ("letAnySaslUserDoX=me", "a user has the rights that ACLs give to it by name"),
        ("snapcount=1", "snapcount is not a known key (did you mean snapCount?)"),
        ("colour=red", "colour is not a known key; it is kept as a property zookeeper.colour"),
        ("localSessionsEnabled=true", "localSessionsEnabled has no effect: this server is alone"),
        ("leaderServes=no", "leaderServes has no effect: this server is alone"),
        ("localSessionsUpgradingEnabled=yes", "has no effect without localSessionsEnabled=true"),
        ("skipACL=yes", "skipACL has no effect: ACLs always hold"),
        ("leader.maxConcurrentSnapSyncs=2", "learners are synchronised in slices"),
        ("connectionFreezeTime=1", "a handshake takes one token"),
        ("autopurge.snapRetainCount=1", "autopurge.snapRetainCount is raised to 3"),
        ("autopurge.snapRetainCount=-3", "autopurge.snapRetainCount is raised to 3"),
        ("snapCount=1", "snapCount is raised to 2"),
        ("globalOutstandingLimit=0", "globalOutstandingLimit is raised to 1"),
        ("preAllocSize=1", "preAllocSize is raised to 64"),
        ("enforceQuota=1", "enforceQuota is read as false, as in ZooKeeper: true or false"),
    ],
)
def test_keys_without_effect_are_named_once(line: str, warning: str) -> None:
    (said,) = read(line).warnings
    assert said.startswith("zoo.cfg:3: ")
    assert warning in said


@pytest.mark.parametrize(
    "line",
    [
        "forceSync=yes",
        "sslQuorum=false",
        "forceSync=true",
        "ssl.hostnameVerification=true",
        "ssl.hostnameVerification=false",
        "ssl.clientHostnameVerification=false",
        "ssl.authProvider=x509",
        "skipACL=no",
        "admin.enableServer=FALSE",
        "admin.enableServer=no",
        "digest.enabled=yes",
        "tcpKeepAlive=no",
        "admin.serverPort=8081",
        "admin.serverAddress=::1",
        "admin.snapshot.enabled=false",
        "metricsProvider.exportJvmInfo=true",
        "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
        f"metricsProvider.className={keys.PROMETHEUS}",
    ],
)
def test_keys_that_ask_for_what_is_done_anyway_are_not_named(line: str) -> None:
    assert read(line).warnings == ()


def test_unknown_keys_are_kept_as_properties() -> None:
    assert read("colour=red").properties["colour"] == "red"


def test_relative_data_directory_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = parse(read_properties("dataDir=data\nclientPort=1", "f"), "f")
    assert found.data_dir == str(tmp_path / "data")
    assert "f:1: dataDir is a relative path" in found.warnings[0]


def test_no_key_is_in_two_tables() -> None:
    assert not set(keys.HONOURED) & set(keys.IGNORED)


def test_keys_of_the_administrators_guide_are_known() -> None:
    """A sample of each of its sections; unknown ones would be warned of as such."""
    keys = """
    advancedFlowControlEnabled audit.impl.class authProvider.sasl cnxTimeout
    commitLogCount commitProcessor.numWorkerThreads connectToLearnerMasterLimit
    connectionDropIncrease digest.enabled
    emulate353TTLNodes fastleader.maxNotificationInterval fips-mode flushDelay jvm.pause.monitor
    kerberos.removeHostFromPrincipal largeRequestThreshold leader.maxConcurrentSnapSyncs
    learner.asyncSending maxResponseCacheSize
    messageTracker.Enabled metricsProvider.workerShutdownTimeoutMs multiAddress.enabled
    netty.server.earlyDropSecureConnectionHandshakes nio.numSelectorThreads
    observer.reconnectDelayMs observerMasterPort oraclePath
    ssl.quorum.handshakeDetectionTimeoutMillis
    quorum.auth.server.saslLoginContext quorum.cnxn.threads.size
    request_throttler.shutdownTimeout requestThrottleStallTime ssl.clientHostnameVerification
    serializeLastProcessedZxid.enabled
    snapshot.compression.method snapshot.trust.empty ssl.quorum.clientHostnameVerification
    syncEnabled tcpKeepAlive throttledOpWaitTime txnLogSizeLimitInKb watchManagerName
    """.split()
    found = read("".join(f"{key}=other\n" for key in keys))
    assert [said for said in found.warnings if "not a known key" in said] == []
    assert len(found.warnings) == len(keys)


def test_where_http_is_served() -> None:
    found = read("")
    assert (found.admin, found.admin_line) == (ClientAddress("127.0.0.1", 8080), "")
    assert (found.admin_path, found.admin_idle_ms, found.metrics) == ("/commands", 30_000, None)
    found = read("admin.serverPort=81\nadmin.serverAddress=localhost\nadmin.commandURL=/zk/do/\n")
    assert found.admin == ClientAddress("localhost", 81)
    assert (found.admin_line, found.admin_path) == ("zoo.cfg:3: admin.serverPort=81", "/zk/do")
    assert read("admin.enableServer=false\nadmin.serverPort=81").admin is None
    line = f"metricsProvider.className={keys.PROMETHEUS}"
    found = read(line)
    assert found.metrics == ClientAddress("0.0.0.0", 7000)
    assert found.metrics_line == f"zoo.cfg:3: {line}"
    found = read(f"{line}\nmetricsProvider.httpHost=::\nmetricsProvider.httpPort=9")
    assert found.metrics == ClientAddress("", 9)
    assert found.metrics_line == "zoo.cfg:5: metricsProvider.httpPort=9"


@pytest.mark.parametrize("path", ["commands", "/", "/a b", "/<x>", "/a//b", "/a?b"])
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(ConfigError, match="zoo.cfg:3: admin.commandURL=.*: a path is needed"):
        read(f"admin.commandURL={path}")


def test_the_figures_keep_their_path() -> None:
    for path in ("/metrics", "/metrics/"):
        assert "another path is needed" in refusal(f"admin.commandURL={path}")


@pytest.mark.parametrize("key", ["admin.serverAddress", "metricsProvider.httpHost"])
@pytest.mark.parametrize("host", ["x" * 300, f"{'x' * 64}.org", "a b", "a..b", "a/b", "1:2:3"])
def test_a_host_that_can_be_none(key: str, host: str) -> None:
    assert refusal(f"{key}={host}").startswith(f"zoo.cfg:3: {key}=")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0:0:0:0:0:0:0:1", True),
        ("LocalHost", True),
        ("zk.localhost", True),
        ("127.evil.com", False),
        ("localhost.evil.com", False),
        ("10.0.0.7", False),
        ("::", False),
    ],
)
def test_who_may_reach_the_admin_server_is_warned_of(host: str, is_loopback: bool) -> None:
    warnings = read(f"admin.serverAddress={host}").warnings
    assert len(warnings) == (0 if is_loopback else 1)


METRICS = f"metricsProvider.className={keys.PROMETHEUS}\n"
MEMBERS = "server.1=zk1:8080:1\nserver.2=zk2:3:4;2181\nserver.3=zk1:5:6;8082\n"


@pytest.mark.parametrize(
    ("text", "server_id", "use"),
    [
        ("clientPort=8080", None, "the client"),
        ("clientPort=8080\nclientPortAddress=127.0.0.1", None, "the client"),
        (METRICS + "metricsProvider.httpPort=8080", None, "the metrics"),
        ("quorumListenOnAllIPs=true\n" + MEMBERS, 1, "server.1's"),
        ("admin.serverAddress=zk1\n" + MEMBERS, 1, "server.1's"),
        ("server.1=localhost:1:2\nserver.2=localhost:3:4;8080", 1, "server.2's"),
        (MEMBERS, 2, None),
        ("clientPort=8080\nclientPortAddress=10.0.0.7", None, None),
    ],
)
def test_an_admin_port_that_nobody_asked_for_yields(
    text: str, server_id: int | None, use: str | None
) -> None:
    found = read(text, server_id)
    said = [each for each in found.warnings if "going on without the admin server" in each]
    if use is None:
        assert found.admin is not None and said == []
    else:
        assert found.admin is None
        assert said[0].startswith(
            f"zoo.cfg: going on without the admin server: 8080 is {use} port (admin.serverPort"
        )


@pytest.mark.parametrize(
    ("text", "server_id", "said"),
    [
        ("admin.serverPort=2181", None, "3: admin.serverPort=2181: 2181 is the client port"),
        (
            "metricsProvider.httpPort=2181\n" + METRICS,
            None,
            "3: metricsProvider.httpPort=2181: 2181 is the client port",
        ),
        (
            "clientPort=7000\n" + METRICS,
            None,
            f"4: {METRICS.strip()}: 7000 is the client port",
        ),
        (
            "admin.serverPort=7000\n" + METRICS,
            None,
            "3: admin.serverPort=7000: 7000 is the metrics port",
        ),
        (
            "admin.serverAddress=zk1\nadmin.serverPort=8082\n" + MEMBERS,
            1,
            "4: admin.serverPort=8082: 8082 is server.3's port",
        ),
    ],
)
def test_a_port_of_http_that_is_named_needs_to_be_free(
    text: str, server_id: int | None, said: str
) -> None:
    assert refusal(text, server_id).startswith(f"zoo.cfg:{said}, too: ")


def test_any_free_port_is_no_clash() -> None:
    found = read(f"clientPort=0\nadmin.serverPort=0\n{METRICS}metricsProvider.httpPort=0\n")
    assert found.admin is not None and found.metrics is not None


# --- the ensemble ---------------------------------------------------------------------

ONE = "server.1=zk1:2888:3888;2181"
THREE = """
server.1=zk1:2888:3888;2181
server.2=zk2:2888:3888:participant;10.0.0.2:2182
server.3=[fd00::3]:2888:3888:observer
"""


def test_server_lines() -> None:
    found = read(THREE, 1)
    one, two, three = found.servers
    assert one.addresses == (PeerAddress("zk1", 2888, 3888),)
    assert one.client == ClientAddress(ANY_ADDRESS, 2181)
    assert two.client == ClientAddress("10.0.0.2", 2182)
    assert three.addresses == (PeerAddress("fd00::3", 2888, 3888),)
    assert (three.observer, three.client) == (True, None)
    assert two.text == "zk2:2888:3888:participant;10.0.0.2:2182"
    assert (found.server_id, found.observer) == (1, False)


def test_server_with_several_addresses() -> None:
    spec = parse_server(1, "a:1:2:observer|[::1]:3:4:OBSERVER;[::1]:5")
    assert spec.addresses == (PeerAddress("a", 1, 2), PeerAddress("::1", 3, 4))
    assert (spec.observer, spec.client) == (True, ClientAddress("::1", 5))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "host",
        "host:1",
        "host:1:1",
        "host:1:x",
        ":1:2",
        "host:1:70000",
        "host:1:2:king",
        "host:1:2:observer:5",
        "host:1:2;",
        "host:1:2;a:b:3",
        "a:1:2:observer|b:1:2:participant",
    ],
)
def test_bad_server_lines_are_refused(value: str) -> None:
    assert refusal(f"server.1={value}", 1).startswith("zoo.cfg:3: server.1=")


@pytest.mark.parametrize(
    ("text", "server_id", "complaint"),
    [
        ("server.x=h:1:2", 1, "server.N with a whole number N is needed"),
        ("server.256=h:1:2", 1, "server ids go from 0 to 255"),
        (THREE, None, "/data/myid: the file is missing"),
        (THREE, 4, "there is no server.4, but myid says"),
        ("server.1=h:1:2:observer", 1, "at least one participant is needed"),
        ("server.1=h:1:2;2182", 1, "clientPort=2181: server.1 says *:2182 instead"),
        ("server.1=h:1:2\ngroup.1=1:2", 1, "there is no server.2"),
        ("server.1=h:1:2\nweight.2=1", 1, "there is no server.2"),
        ("server.1=h:1:2\nweight.1=x", 1, "a whole number, from 0"),
        (
            THREE + "weight.1=0\nweight.2=0\nweight.3=0",
            1,
            "zoo.cfg:8: weight.2=0: no voter has any weight: at least one of 1 or more is needed",
        ),
        ("server.1=h:1:2\ngroup.1=x", 1, "server ids are needed, as in 1:2:3"),
        (THREE + "group.1=1", 1, "there are groups, and it is in none"),
        (THREE + "group.1=1:2\ngroup.2=2:3", 1, "server 2 is in two groups"),
    ],
)
def test_bad_ensembles_are_refused(text: str, server_id: int | None, complaint: str) -> None:
    assert complaint in refusal(text, server_id)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "*"])
def test_a_line_that_all_are_told_names_a_machine(host: str) -> None:
    """It would be in the founding's configuration, by which the members look for each other."""
    lines = f"server.1={host}:2888:3888;2181\nserver.2=b:2888:3888;2181"
    assert read(lines, 1).servers[0].addresses[0].host == host.strip("[]")
    refused = refusal(f"reconfigEnabled=true\n{lines}", 1)
    assert refused.startswith(f"zoo.cfg:4: server.1={host}:2888:3888;2181: {host.strip('[]')} is")
    assert "quorumListenOnAllIPs=true" in refused


def test_a_line_without_a_client_address_is_warned_of_where_it_is_told() -> None:
    lines = "server.1=a:2888:3888\nserver.2=b:2888:3888;2181\nserver.3=c:2888:3888:observer"
    assert read(lines, 1).warnings == ()
    warned = read(f"{lines}\nreconfigEnabled=true", 1).warnings
    assert [each.partition(" (")[0] for each in warned] == [
        "zoo.cfg:3: server.1 has no client address",
        "zoo.cfg:5: server.3 has no client address",
    ]


APART = "server.1=h:1:2;5\nserver.2=h:3:4;6"


@pytest.mark.parametrize(
    ("second", "taken"),
    [
        ("h:1:4;6", "h:1 (TCP)"),
        ("H:3:2;6", "h:2 (UDP)"),
        ("h:3:4;5", "h:5 (TCP)"),
        ("h:5:4;6", "h:5 (TCP)"),
        ("h:3:4|h:7:2;6", "h:2 (UDP)"),
        ("g:3:4;h:5", "h:5 (TCP)"),
    ],
)
def test_two_servers_at_one_address_are_refused(second: str, taken: str) -> None:
    assert read(f"clientPort=5\n{APART}", 1).servers[1].client == ClientAddress(ANY_ADDRESS, 6)
    text = f"clientPort=5\n{APART.partition('server.2')[0]}server.2={second}"
    assert refusal(text, 1) == (
        f"zoo.cfg:5: server.2={second}: {taken} is server.1's already, at zoo.cfg:4: each server "
        "needs ports of its own"
    )


@pytest.mark.parametrize("second", ["g:1:2;5", "h:3:1;6", "0.0.0.0:1:2;6", "h:3:2181;6"])
def test_servers_that_do_not_meet_are_not_refused(second: str) -> None:
    """Elsewhere, or the one TCP and the other UDP."""
    read(f"clientPort=5\nserver.1=h:1:2;5\nserver.2={second}", 1)


@pytest.mark.parametrize(
    ("more", "use"),
    [
        ("server.1=h:2181:3", "quorum"),
        ("server.1=h:3:2181", "election"),
        ("clientPortAddress=127.0.0.1\nserver.1=localhost:2181:3", "quorum"),
        ("clientPortAddress=10.0.0.1\nserver.1=0.0.0.0:2181:3", "quorum"),
        ("clientPortAddress=10.0.0.1\nquorumListenOnAllIPs=true\nserver.1=h:2181:3", "quorum"),
    ],
)
def test_a_client_port_that_is_one_of_the_members(more: str, use: str) -> None:
    assert refusal(more, 1) == (
        f"zoo.cfg:2: clientPort=2181: 2181 is the {use} port of server.1, too: clients need a port "
        "of their own"
    )


def test_a_client_port_in_the_own_line_that_is_the_quorums() -> None:
    assert refusal("server.1=h:2181:3;2181", 1).startswith(
        "zoo.cfg:3: server.1=h:2181:3;2181: 2181 is the quorum port of server.1, too"
    )


def test_one_port_at_two_addresses() -> None:
    found = read("clientPortAddress=10.0.0.1\nserver.1=10.0.0.2:2181:3", 1)
    assert found.client == ClientAddress("10.0.0.1", 2181)


def test_groups_and_weights() -> None:
    found = read(THREE + "group.1=1:2\ngroup.2=3\nweight.1=2\nweight.3=0", 3)
    assert found.groups == {1: 1, 2: 1, 3: 2}
    assert found.weights == {1: 2, 3: 0}
    assert found.observer


def test_own_line_gives_the_client_port() -> None:
    text = "dataDir=/data\nserver.1=h:1:2;127.0.0.1:4000"
    found = parse(read_properties(text, "f"), "f", 1)
    assert found.client == ClientAddress("127.0.0.1", 4000)


def test_peer_type_that_contradicts_the_own_line_is_warned_of() -> None:
    found = read("peerType=participant\nserver.1=a:1:2:observer\nserver.2=b:1:2", 1)
    assert found.observer
    assert found.warnings == ("zoo.cfg:3: peerType contradicts server.1, which counts",)


# --- files and options ----------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path / 'data'}\nclientPort=2181\n")
    return path


def test_load(zoo: Path) -> None:
    (zoo.parent / "data" / "myid").write_text("7\n")
    found = load(str(zoo))
    assert (found.server_id, found.source) == (7, str(zoo))
    assert found.limits.tick_ms == 3000  # ZooKeeper's, where the file does not say


def test_bad_myid(zoo: Path) -> None:
    (zoo.parent / "data" / "myid").write_text("seven")
    with pytest.raises(ConfigError, match=r"data/myid: a number from 0 to 255 is needed"):
        load(str(zoo))


@pytest.mark.parametrize("servers", ["", "server.1=a:1:2\n"])
def test_a_myid_of_thousands_of_digits_is_one_line_for_the_operator(
    zoo: Path, servers: str
) -> None:
    (zoo.parent / "data" / "myid").write_text("9" * 5000)
    zoo.write_text(zoo.read_text() + servers)
    with pytest.raises(ConfigError, match=r"data/myid: a number from 0 to 255 is needed"):
        load(str(zoo))


@pytest.mark.parametrize("text", ["-1", "256", "+7"])
def test_a_server_alone_needs_no_myid_that_makes_sense(zoo: Path, text: str) -> None:
    """ZooKeeper takes any number; members have to have one of theirs."""
    (zoo.parent / "data" / "myid").write_text(text)
    assert load(str(zoo)).server_id is None
    zoo.write_text(zoo.read_text() + "server.1=a:1:2\n")
    with pytest.raises(ConfigError, match=r"data/myid: a number from 0 to 255 is needed"):
        load(str(zoo))


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"^/none/zoo.cfg: it cannot be read: No such file"):
        load("/none/zoo.cfg")


def test_latin_comment_is_no_obstacle(zoo: Path) -> None:
    zoo.write_bytes("# für uns\n".encode("latin-1") + zoo.read_bytes())
    assert load(str(zoo)).client == ClientAddress(ANY_ADDRESS, 2181)


def test_dynamic_file(zoo: Path) -> None:
    dynamic = zoo.with_name("zoo.cfg.dynamic.100000000")
    dynamic.write_text("server.1=a:1:2;2181\nversion=100000000\n")
    zoo.write_text(zoo.read_text() + f"dynamicConfigFile={dynamic}\n")
    (zoo.parent / "data" / "myid").write_text("1")
    assert load(str(zoo)).servers[0].server_id == 1
    dynamic.write_text("snapCount=1")
    with pytest.raises(ConfigError, match=r"dynamic.100000000:1: snapCount=1: only server.N"):
        load(str(zoo))
    zoo.write_text(zoo.read_text() + "server.1=a:1:2\n")
    with pytest.raises(ConfigError, match=r"zoo.cfg:4: server.1=a:1:2: it belongs in"):
        load(str(zoo))


def test_options_win_over_the_file(zoo: Path) -> None:
    found = load(
        str(zoo), [option_setting("zookeeper.clientPort=9"), option_setting("snapCount=8")]
    )
    assert (found.client, found.limits.snap_entries) == (ClientAddress(ANY_ADDRESS, 9), 8)
    assert found.warnings == (f"-D: clientPort replaces the value given at {zoo}:2",)


@pytest.mark.parametrize("text", ["", "key", "=value", "zookeeper.=x"])
def test_bad_option(text: str) -> None:
    with pytest.raises(ConfigError, match="key=value is needed"):
        option_setting(text)


def test_bad_option_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^-D: snapCount=x: a whole number of transactions"):
        standalone("/data", options=[option_setting("snapCount=x")])


def test_standalone_without_a_file(tmp_path: Path) -> None:
    found = standalone(str(tmp_path / "new"), 4000)
    assert found.client == ClientAddress("127.0.0.1", 4000)
    assert found.data_dir == str(tmp_path / "new")
    assert (found.server_id, found.limits, found.warnings) == (None, Limits(), ())


def test_standalone_with_options(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("3")
    options = [f"dataDir={tmp_path}", "clientPortAddress=0.0.0.0", "tickTime=500"]
    found = standalone("elsewhere", options=map(option_setting, options))
    assert found.data_dir == str(tmp_path)
    assert found.client == ClientAddress("0.0.0.0", 2181)
    assert (found.server_id, found.limits.tick_ms, found.warnings) == (3, 500, ())
