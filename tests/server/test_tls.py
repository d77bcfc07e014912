"""From zoo.cfg and its files to a context: what is read, and what is refused."""

import base64
import os
import re
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.server.authority import Authority, Issued, lines_of, read_tls
from tests.server.test_keystore import KEY, OTHER, PASSWORD, TRUST
from zkpy.config.tls import MEMBERS, Tls
from zkpy.errors import ConfigError
from zkpy.server import tls
from zkpy.server.keystore import read_jks
from zkpy.server.tls import Certificates, build_context, openssl_name, private_file


@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(name="issued", scope="module")
def issue(authority: Authority) -> Issued:
    return authority.issue()


def shown(context: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    """The certificate that such a server shows to such a client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    peer = client.wrap_bio(to_client, to_server)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (peer, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return peer.getpeercert(True)


def names(context: ssl.SSLContext) -> list[str]:
    return [each["name"] for each in context.get_ciphers()]


# --- stores ------------------------------------------------------------------------------


def test_pem(authority: Authority, issued: Issued) -> None:
    context = build_context(read_tls(*lines_of(authority, issued)))
    assert shown(context, authority.client(issued)) == der(issued)
    assert context.verify_mode is ssl.CERT_REQUIRED


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def test_jks(tmp_path: Path) -> None:
    (tmp_path / "key.jks").write_bytes(KEY)
    (tmp_path / "trust.jks").write_bytes(TRUST)
    context = build_context(
        read_tls(
            f"ssl.keyStore.location={tmp_path}/key.jks",
            f"ssl.keyStore.password={PASSWORD}",
            f"ssl.trustStore.location={tmp_path}/trust.jks",
            f"ssl.trustStore.password={PASSWORD}",
        )
    )
    (trusted,) = read_jks(TRUST, PASSWORD).trusted
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=trusted)
    client.load_cert_chain(_pem(tmp_path))
    assert shown(context, client) == trusted


def _pem(tmp_path: Path) -> Path:
    (key,) = read_jks(KEY, PASSWORD).keys
    path = tmp_path / "key.pem"
    body = base64.encodebytes(key.pkcs8).decode()
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    path.write_text(f"{begin}\n{body}{end}\n{ssl.DER_cert_to_PEM_cert(key.chain[0])}")
    return path


@pytest.mark.parametrize("name", ["server.p12", "server.jks"])
def test_pkcs12_goes_by_its_contents(
    authority: Authority, issued: Issued, tmp_path: Path, name: str
) -> None:
    """keytool writes PKCS #12 into what is named `.jks`, and Java reads it."""
    (tmp_path / name).write_bytes(issued.pkcs12("sesame"))
    context = build_context(
        read_tls(
            f"ssl.keyStore.location={tmp_path / name}",
            "ssl.keyStore.password=sesame",
            f"ssl.trustStore.location={authority.path}",
        )
    )
    assert shown(context, authority.client(issued)) == der(issued)


def test_the_type_counts_before_the_name(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    (tmp_path / "server.jks").write_bytes(issued.pem())
    at = f"ssl.keyStore.location={tmp_path}/server.jks"
    build_context(read_tls(at, "ssl.keyStore.type=pem", "ssl.clientAuth=none"))
    with pytest.raises(ConfigError, match="ssl.keyStore.location"):
        build_context(read_tls(at, "ssl.clientAuth=none"))


def test_the_password_in_a_file_wins(issued: Issued, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(issued.pem("sesame"))
    (tmp_path / "password").write_text("sesame\n")
    build_context(
        read_tls(
            f"ssl.keyStore.location={tmp_path}/key.pem",
            "ssl.keyStore.password=wrong",
            f"ssl.keyStore.passwordPath={tmp_path}/password",
            "ssl.clientAuth=none",
        )
    )


def test_nobody_is_asked_for_a_certificate() -> None:
    tls = read_tls("ssl.keyStore.location=/k.pem", "ssl.clientAuth=none")
    assert tls.trust_store is None


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "password", "why"),
    [
        (None, "", "key.pem cannot be read: No such file or directory"),
        (b"", "", "there is no certificate in it"),
        ("key", "", "there is no certificate in it"),
        ("certificate", "", "there is no private key in it"),
        ("mixed", "", "its key does not fit its certificate"),
        ("sealed", "", "the password of its key is wrong"),
        ("sealed", "guess", "the password of its key is wrong"),
    ],
)
def test_a_pem_store_that_cannot_be_used(
    authority: Authority,
    issued: Issued,
    tmp_path: Path,
    data: str | bytes | None,
    password: str,
    why: str,
) -> None:
    contents = {
        "key": issued.key_pem(),
        "certificate": authority.path.read_bytes(),
        "mixed": issued.key_pem() + authority.path.read_bytes(),
        "sealed": issued.pem("sesame"),
    }
    if data is not None:
        found = contents[data] if isinstance(data, str) else data
        (tmp_path / "key.pem").write_bytes(found)
    lines = [f"ssl.keyStore.location={tmp_path}/key.pem", "ssl.clientAuth=none"]
    if password:
        lines.append(f"ssl.keyStore.password={password}")
    with pytest.raises(ConfigError) as refused:
        build_context(read_tls(*lines))
    assert str(refused.value).endswith(why)
    assert str(refused.value).startswith("-D: ssl.keyStore.")
    assert "guess" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "password", "why"),
    [
        (
            KEY,
            "guess12",
            "ssl.keyStore.password: {}: the password is wrong, or the file is damaged",
        ),
        (OTHER, "store12", "ssl.keyStore.password: {}: the key has another password"),
        (TRUST, PASSWORD, "it holds 0 private keys: one key and its certificate are needed"),
        (b"", "guess12", "it is neither"),
        (b"\x30\x80junk", "guess12", "neither a JKS nor a PKCS #12 store"),
    ],
)
def test_a_java_store_that_cannot_be_used(
    tmp_path: Path, data: bytes, password: str, why: str
) -> None:
    path = tmp_path / "key.jks"
    path.write_bytes(data)
    lines = [
        f"ssl.keyStore.location={path}",
        f"ssl.keyStore.password={password}",
        "ssl.clientAuth=none",
    ]
    with pytest.raises(ConfigError) as refused:
        build_context(read_tls(*lines))
    assert why.format(path) in str(refused.value)
    assert "guess" not in str(refused.value)


def test_a_wrong_password_of_pkcs12(issued: Issued, tmp_path: Path) -> None:
    (tmp_path / "key.p12").write_bytes(issued.pkcs12("sesame"))
    with pytest.raises(ConfigError, match=r"^-D: ssl.keyStore.password: .*password is wrong"):
        build_context(
            read_tls(
                f"ssl.keyStore.location={tmp_path}/key.p12",
                "ssl.keyStore.password=guess",
                "ssl.clientAuth=none",
            )
        )


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("trust.pem", b"nothing", "ssl.trustStore.location"),
        ("trust.jks", KEY, "there is no trusted certificate in it"),
    ],
)
def test_a_trust_store_that_cannot_be_used(
    issued: Issued, tmp_path: Path, name: str, data: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=why):
        build_context(
            read_tls(
                f"ssl.keyStore.location={issued.save('server')}",
                f"ssl.trustStore.location={tmp_path / name}",
                f"ssl.trustStore.password={PASSWORD}",
            )
        )


@pytest.mark.parametrize("begins", [-9, 2])
def test_a_certificate_out_of_its_time_is_warned_of(
    authority: Authority, begins: int, caplog: pytest.LogCaptureFixture
) -> None:
    build_context(read_tls(*lines_of(authority, authority.issue(begins=begins, ends=begins + 5))))
    (line,) = caplog.messages
    assert "the certificate expired on" in line or "is valid only from" in line


@pytest.mark.parametrize("header", [b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"])
def test_other_headers_of_a_certificate(
    authority: Authority, tmp_path: Path, header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What OpenSSL takes."""
    expired = authority.issue(begins=-9, ends=-4)
    path = tmp_path / "server.pem"
    path.write_bytes(expired.pem().replace(b" CERTIFICATE-", b" %b-" % header))
    context = build_context(read_tls(f"ssl.keyStore.location={path}", "ssl.clientAuth=none"))
    client = authority.client()
    client.verify_mode = ssl.CERT_NONE
    assert shown(context, client) == der(expired)
    assert "the certificate expired on" in caplog.text


def test_a_certificate_without_a_readable_date(
    issued: Issued, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "server.pem"
    odd = re.sub(rb"(\x17\x0d\d{10})\d", rb"\1Q", der(issued))
    path.write_bytes(issued.key_pem() + ssl.DER_cert_to_PEM_cert(odd).encode())
    build_context(read_tls(f"ssl.keyStore.location={path}", "ssl.clientAuth=none"))
    assert "until when the certificate is valid cannot be read" in caplog.text


# --- who is trusted ------------------------------------------------------------------------


def test_a_certificate_can_be_trusted_without_its_issuer(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """As with a trust store of Java's."""
    friend = authority.issue("CN=friend")
    (tmp_path / "friend.pem").write_bytes(friend.certificate.public_bytes(Encoding.PEM))
    context = build_context(
        read_tls(
            f"ssl.keyStore.location={issued.save('server')}",
            f"ssl.trustStore.location={tmp_path}/friend.pem",
        )
    )
    assert shown(context, authority.client(friend))
    with pytest.raises(ssl.SSLError):
        shown(context, authority.client(authority.issue("CN=other")))


def test_a_revoked_certificate(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    good, bad = authority.issue("CN=good"), authority.issue("CN=bad")
    trust = tmp_path / "trust.pem"
    lines = [
        f"ssl.keyStore.location={issued.save('server')}",
        f"ssl.trustStore.location={trust}",
        "ssl.crl=true",
    ]
    trust.write_bytes(authority.path.read_bytes())
    with pytest.raises(ConfigError, match="ssl.crl=true: no list of revoked certificates in"):
        build_context(read_tls(*lines))
    trust.write_bytes(authority.path.read_bytes() + authority.revoke(bad))
    context = build_context(read_tls(*lines))
    assert shown(context, authority.client(good))
    with pytest.raises(ssl.SSLError, match="revoked"):
        shown(context, authority.client(bad))


# --- protocols and suites ------------------------------------------------------------------

SUITE_1_2 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
SUITES_1_3 = "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384,TLS_CHACHA20_POLY1305_SHA256"
OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("lines", "versions"),
    [
        ([], (OLD, NEW)),
        (["ssl.protocol=TLSv1.2"], (OLD, OLD)),
        (["ssl.protocol=TLS"], (OLD, NEW)),
        (["ssl.protocol=TLSv1.2", "ssl.enabledProtocols=TLSv1.3"], (NEW, NEW)),
        (["ssl.enabledProtocols=TLSv1.3,TLSv1.2"], (OLD, NEW)),
        ([f"ssl.ciphersuites={SUITE_1_2}"], (OLD, OLD)),
        ([f"ssl.ciphersuites={SUITES_1_3}"], (NEW, NEW)),
        ([f"ssl.ciphersuites={SUITE_1_2},{SUITES_1_3}"], (OLD, NEW)),
    ],
)
def test_protocols(
    authority: Authority, issued: Issued, lines: list[str], versions: tuple[object, object]
) -> None:
    context = build_context(read_tls(*lines_of(authority, issued), *lines))
    assert (context.minimum_version, context.maximum_version) == versions


def test_suites(authority: Authority, issued: Issued) -> None:
    both = f"ssl.ciphersuites={SUITE_1_2},TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
    found = names(build_context(read_tls(*lines_of(authority, issued), both)))
    assert [name for name in found if not name.startswith("TLS_")] == [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ]


@pytest.mark.parametrize(
    ("java", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"),
        ("TLS_DHE_RSA_WITH_AES_256_CBC_SHA", "DHE-RSA-AES256-SHA"),
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ECDHE-ECDSA-AES128-CCM8"),
    ],
)
def test_java_s_names_of_suites(java: str, openssl: str) -> None:
    assert openssl_name(java) == openssl


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["ssl.ciphersuites=TLS_NO_SUCH_SUITE"], "OpenSSL knows no TLS_NO_SUCH_SUITE here"),
        (["ssl.ciphersuites=ALL"], "OpenSSL knows no ALL here"),
        (
            ["ssl.ciphersuites=TLS_AES_256_GCM_SHA384"],
            "TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256 are needed as well",
        ),
        (
            [f"ssl.ciphersuites={SUITE_1_2}", "ssl.protocol=TLSv1.3"],
            "a suite of a protocol that is enabled is needed",
        ),
    ],
)
def test_suites_that_cannot_be_had(
    authority: Authority, issued: Issued, lines: list[str], why: str
) -> None:
    with pytest.raises(ConfigError, match="-D: ssl.ciphersuites") as refused:
        build_context(read_tls(*lines_of(authority, issued), *lines))
    assert why in str(refused.value)


# --- keys on their way to OpenSSL ------------------------------------------------------------


@pytest.mark.parametrize("memory", [True, False])
def test_a_private_file_is_nobody_elses(monkeypatch: pytest.MonkeyPatch, memory: bool) -> None:
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with private_file(b"secret") as path:
        assert Path(path).read_bytes() == b"secret"
        if not memory:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert not os.path.exists(path)


# --- files that change -----------------------------------------------------------------------


def test_files_are_read_again_when_they_change(
    authority: Authority, issued: Issued, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "server.pem"
    path.write_bytes(issued.pem())
    os.utime(path, (1, 1))
    lines = [f"ssl.keyStore.location={path}", f"ssl.trustStore.location={authority.path}"]
    found = Certificates(read_tls(*lines, "client.certReload=true"))
    client = authority.client(issued)
    before = found.context
    found.look()
    assert found.context is before
    path.write_bytes(b"half")
    found.look()
    assert found.context is before and "the certificates stay as they are" in caplog.text
    other = authority.issue("CN=other")
    path.write_bytes(other.pem())
    found.look()
    assert shown(found.context, client) == der(other)


def test_it_is_looked_at_now_and_then(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    path.write_bytes(issued.pem())
    os.utime(path, (1, 1))
    lines = [f"ssl.keyStore.location={path}", f"ssl.trustStore.location={authority.path}"]
    found = Certificates(read_tls(*lines, "client.certReload=true"), interval_s=0.01)
    before = found.context
    found.start()
    try:
        path.write_bytes(authority.issue().pem())
        assert found.reread.wait(20)
        assert found.context is not before
    finally:
        found.stop()


def test_whatever_a_file_does_it_is_looked_at_again(
    authority: Authority,
    issued: Issued,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Be it the settings for dialling alone that fail, and nobody knows why."""
    path = tmp_path / "server.pem"
    path.write_bytes(issued.pem())
    lines = lines_of(authority, issued, MEMBERS)
    lines[0] = f"{MEMBERS}keyStore.location={path}"
    found = Certificates(read_tls(*lines, prefix=MEMBERS))
    before = found.context, found.dialling
    build = tls.build_context

    def fail(settings: Tls, *, dials: bool = False) -> ssl.SSLContext:
        if dials:
            raise AssertionError("nobody knows")
        return build(settings)

    with monkeypatch.context() as patch:
        patch.setattr(tls, "build_context", fail)
        path.write_bytes(issued.pem() + b"\n")
        found.look()
    assert (found.context, found.dialling) == before
    assert "the certificates stay as they are" in caplog.text
    changed_ns = os.stat(path).st_ctime_ns
    while os.stat(path).st_ctime_ns == changed_ns:
        path.chmod(0o600)  # who may read it is what was wrong with it
    found.look()
    assert found.context is not before[0] and found.dialling is not before[1]
