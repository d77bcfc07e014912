"""Identities of a connection."""

import pytest

from wire.codes import ErrorCode
from wire.errors import RemoteProtocolError
from zkpy.errors import ZkError
from zkpy.pipeline.auth import Authenticator, digest_id, identities_of_address

ADDRESS = "10.0.0.7"
ADMIN = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
"""Of super:admin, as ZooKeeper's DigestAuthenticationProvider prints it."""


def test_connection_begins_as_its_address() -> None:
    assert identities_of_address(ADDRESS) == (("ip", ADDRESS),)


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (b"super:admin", ADMIN),
        (b"jane", "jane:io3u1EYj1MRCaMJmUtgJRYUcT38="),
        (b"a:b:c", "a:cLzgnoJ6mP5qz3w+mwvPE2vDgu0="),
    ],
)
def test_digest_id(credential: bytes, expected: str) -> None:
    assert digest_id(credential) == expected


def test_digest_earns_its_id() -> None:
    assert Authenticator().authenticate("digest", b"super:admin", ADDRESS) == (("digest", ADMIN),)


def test_super_digest_earns_super() -> None:
    authenticator = Authenticator(super_digest=ADMIN)
    earned = authenticator.authenticate("digest", b"super:admin", ADDRESS)
    assert earned == (("digest", ADMIN), ("super", ""))
    other = authenticator.authenticate("digest", b"super:other", ADDRESS)
    assert [scheme for scheme, _ in other] == ["digest"]


def test_ip_is_what_the_connection_has_and_not_what_it_says() -> None:
    assert Authenticator().authenticate("ip", b"10.9.9.9", ADDRESS) == (("ip", ADDRESS),)


@pytest.mark.parametrize("ensembles", [(), ("red", "blue")])
@pytest.mark.parametrize("name", [None, b"", b"blue"])
def test_whoever_looks_for_this_ensemble_passes(
    ensembles: tuple[str, ...], name: bytes | None
) -> None:
    assert Authenticator(ensembles=ensembles).authenticate("ensemble", name, ADDRESS) == ()


@pytest.mark.parametrize("name", [b"green", b"\xff", b" blue"])
def test_whoever_looks_for_another_ensemble_is_left_to_look_on(name: bytes) -> None:
    assert Authenticator(ensembles=()).authenticate("ensemble", name, ADDRESS) == ()
    with pytest.raises(RemoteProtocolError, match="it looks for the ensemble"):
        Authenticator(ensembles=("red", "blue")).authenticate("ensemble", name, ADDRESS)


def test_without_the_scheme_digest_nobody_is_anybody() -> None:
    authenticator = Authenticator(super_digest=ADMIN, digest_scheme=False)
    with pytest.raises(ZkError) as refused:
        authenticator.authenticate("digest", b"super:admin", ADDRESS)
    assert refused.value.code == ErrorCode.AUTH_FAILED
    assert authenticator.authenticate("ip", b"", ADDRESS) == (("ip", ADDRESS),)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("sha256", "super:wjySwxg860UATFtciuZ1lpzrCHrPeov6SPu/ZD56uig="),
        ("sha3_256", "super:cRy/KPYuDpW/dtsepniTMpuiuupnWgdU9txltIfv3hA="),
    ],
)
def test_other_hashes_make_other_names(algorithm: str, name: str) -> None:
    """The names are those of ZooKeeper 3.9.5."""
    authenticator = Authenticator(name, digest_hash=algorithm)
    found = authenticator.authenticate("digest", b"super:test", ADDRESS)
    assert found == (("digest", name), ("super", ""))


@pytest.mark.parametrize(
    ("required", "nobody"),
    [((), False), (("ip",), False), (("digest",), True), (("digest", "ip"), False)],
)
def test_who_is_nobody(required: tuple[str, ...], nobody: bool) -> None:
    authenticator = Authenticator(required=required)
    assert authenticator.is_nobody(identities_of_address(ADDRESS)) is nobody
    assert not authenticator.is_nobody((("ip", ADDRESS), ("digest", "jane:x")))


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        ("digest", b"\xff\xfe:x"),
        ("digest", None),
        ("world", b"anyone"),
        ("super", b""),
        ("auth", b""),
        ("sasl", b"jane"),
        ("ensemble", b"blue"),
        ("", b""),
    ],
)
def test_refused(scheme: str, auth: bytes | None) -> None:
    with pytest.raises(ZkError) as refused:
        Authenticator(super_digest=ADMIN).authenticate(scheme, auth, ADDRESS)
    assert refused.value.code == ErrorCode.AUTH_FAILED


def test_a_certificate_is_its_subject() -> None:
    assert Authenticator().certified("CN=ann") == (("x509", "CN=ann"),)
    found = Authenticator(x509_super="CN=ann")
    assert found.certified("CN=ann") == (("super", ""), ("x509", "CN=ann"))
    assert found.certified("CN=bob") == (("x509", "CN=bob"),)


def test_an_auth_packet_shows_no_certificate() -> None:
    """It may say that one was shown: then it earns what the connection has."""
    held = (("ip", ADDRESS), ("x509", "CN=ann"))
    assert Authenticator().authenticate("x509", b"CN=bob", ADDRESS, held) == held
    with pytest.raises(ZkError) as refused:
        Authenticator().authenticate("x509", b"CN=bob", ADDRESS, held[:1])
    assert refused.value.code == ErrorCode.AUTH_FAILED


def test_who_has_to_show_a_certificate() -> None:
    authenticator = Authenticator(required=("x509",))
    assert authenticator.is_nobody((("ip", ADDRESS), ("digest", ADMIN)))
    assert not authenticator.is_nobody((("ip", ADDRESS), ("x509", "CN=ann")))
