"""What a certificate says of itself, as Java says it."""

import random
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.server.authority import Authority
from zkpy.server.certificates import CertificateError, hosts_of, read

A = x509.NameAttribute
IA5, T61, BMP, NUMERIC, UNIVERSAL = (
    getattr(_ASN1Type, f"{name}String") for name in ("IA5", "T61", "BMP", "Numeric", "Universal")
)
DER = Encoding.DER
CN, UID, DC = NameOID.COMMON_NAME, NameOID.USER_ID, NameOID.DOMAIN_COMPONENT


def one(*attributes: x509.NameAttribute[str]) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName(attributes)


@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ([], ""),
        ([one(A(CN, "localhost"))], "CN=localhost"),
        (
            [
                one(A(NameOID.COUNTRY_NAME, "DE")),
                one(A(NameOID.STATE_OR_PROVINCE_NAME, "Bayern")),
                one(A(NameOID.LOCALITY_NAME, "München")),
                one(A(NameOID.ORGANIZATION_NAME, "Ex, Inc.")),
                one(A(NameOID.ORGANIZATIONAL_UNIT_NAME, "a+b=c")),
                one(A(CN, ' #lead "q" \\ ;<> ')),
            ],
            r"CN=\ \#lead \"q\" \\ \;\<\>\ ,OU=a\+b\=c,O=Ex\, Inc.,L=München,ST=Bayern,C=DE",
        ),
        (
            [one(A(DC, "org", _type=IA5)), one(A(DC, "example", _type=IA5)), one(A(UID, "ann"))],
            "UID=ann,DC=example,DC=org",
        ),
        (
            [
                one(A(NameOID.EMAIL_ADDRESS, "a@b.c", _type=IA5)),
                one(A(NameOID.SERIAL_NUMBER, "42")),
                one(A(NameOID.SURNAME, "Müller")),
                one(A(NameOID.STREET_ADDRESS, "Weg 1")),
            ],
            "STREET=Weg 1,2.5.4.4=#0c074dc3bc6c6c6572,2.5.4.5=#13023432,"
            "1.2.840.113549.1.9.1=#16056140622e63",
        ),
        ([one(A(CN, "ann"), A(UID, "u1")), one(A(NameOID.TITLE, "Dr"))], None),
        ([one(A(CN, "  two  "))], r"CN=\ \ two\ \ "),
        ([one(A(CN, "   "))], r"CN=\ \ \ "),
        ([one(A(CN, "\u4e2d\U0001f600x"))], "CN=\u4e2d\U0001f600x"),
        ([one(A(CN, "bmp", _type=BMP))], r"CN=\00b\00m\00p"),
        ([one(A(CN, "t61", _type=T61))], "CN=t61"),
        ([one(A(CN, "num", _type=NUMERIC))], "CN=#12036e756d"),
        ([one(A(CN, "uni", _type=UNIVERSAL))], "CN=#1c0c000000750000006e00000069"),
        ([one(A(ObjectIdentifier("1.2.3.4.555.70000"), "own"))], "1.2.3.4.555.70000=#0c036f776e"),
        ([one(A(CN, "nul\0in\ttab\nnl"))], "CN=nul\\00in\ttab\nnl"),
        ([one(A(CN, "cr\r"))], "CN=cr\\\r"),
    ],
)
def test_names_are_java_s(
    authority: Authority, parts: list[x509.RelativeDistinguishedName], name: str | None
) -> None:
    """Each of these was shown to `X500Principal.getName()` of Java 17, which said the same."""
    issued = authority.issue(x509.Name(parts))
    found = read(issued.certificate.public_bytes(DER)).subject
    assert found == (name if name is not None else "2.5.4.12=#0c024472,CN=ann+UID=u1")


def test_text_that_is_none_is_shown_as_it_is(authority: Authority) -> None:
    """Java writes U+FFFD for each such byte, so that two names could be one."""
    der = authority.issue(x509.Name([A(CN, "ab", _type=T61)])).certificate.public_bytes(DER)
    assert read(der.replace(b"\x14\x02ab", b"\x14\x02\xe9b")).subject == "CN=#1402e962"


@pytest.mark.parametrize("ends", [30, 365 * 50], ids=["UTCTime", "GeneralizedTime"])
def test_validity(authority: Authority, ends: int) -> None:
    found = read(authority.issue(begins=-2, ends=ends).certificate.public_bytes(DER))
    now = datetime.now(UTC)
    assert timedelta(days=1) < now - found.begins < timedelta(days=3)
    assert timedelta(days=ends - 1) < found.ends - now < timedelta(days=ends + 1)


@given(st.binary(max_size=200))
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(CertificateError):
        read(data)


def test_a_certificate_that_is_cut_off(tmp_path: Path) -> None:
    whole = Authority(tmp_path).certificate.public_bytes(DER)
    for size in range(0, len(whole), 7):
        with pytest.raises(CertificateError):
            read(whole[:size])


# --- hosts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "others", "hosts"),
    [
        ("CN=ZK1", (), {"zk1"}),
        ("CN=10.0.0.1", (), {ip_address("10.0.0.1")}),
        ("CN=a,CN=b", (), set()),
        ("O=a", (), set()),
        ("CN=a", ("ZK1.example", "fd00::1"), {"zk1.example", ip_address("fd00::1")}),
        ("CN=a", b"\x30\x05\x81\x03x@y", {"a"}),
        ("CN=a", b"\x30\x04\x81\x02\xff\xff", {"a"}),
        ("CN=a", ("*.example",), {"*.example"}),
        ("CN=a", b"\x30\x0a\x82\x0810.0.0.1", {"10.0.0.1"}),
        ("CN=a", b"\x30\x04\x82\x02\xff\xfe", {r"\xff\xfe"}),
        ("CN=a", b"\x30\x04\x82\x02a\x00", {"a\0"}),
        ("CN=a", b"\x30\x02\x82\x00", set()),
        ("CN=a", b"\x30\x00", {"a"}),
    ],
)
def test_hosts_that_it_names(
    authority: Authority, subject: str, others: tuple[str, ...] | bytes, hosts: set[object]
) -> None:
    """Names and addresses are kept apart, and the CN counts where there is no other."""
    issued = authority.issue(subject, hosts=others)
    assert hosts_of(issued.certificate.public_bytes(DER)) == hosts


@pytest.mark.parametrize(
    "others", [b"\x30\x7f\x82", b"\x30\x04\x87\x02\x7f\x00", b"\x30\x80\x82\x01a\x00\x00", b"\x30"]
)
def test_other_names_that_cannot_be_read(authority: Authority, others: bytes) -> None:
    with pytest.raises(CertificateError):
        hosts_of(authority.issue(hosts=others).certificate.public_bytes(DER))


def test_whatever_it_is_hosts_are_read_or_refused(authority: Authority) -> None:
    dice = random.Random(7)
    whole = authority.issue(hosts=("a", "10.0.0.1")).certificate.public_bytes(DER)
    outcomes = set()
    for _ in range(3000):
        der = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            der[dice.randrange(len(der))] = dice.randrange(256)
        try:
            outcomes.add(frozenset(map(str, hosts_of(bytes(der)))))
        except CertificateError:
            outcomes.add(frozenset())
    assert {frozenset(), frozenset({"a", "10.0.0.1"})} <= outcomes


def test_a_type_of_an_attribute_is_bounded() -> None:
    validity = value(0x30, 2 * value(0x17, b"260101000000Z"))
    for size in (20, 200):
        name = value(0x30, value(6, b"\x81" * size + b"\x01") + value(0x0C, b"own"))
        subject = value(0x30, value(0x31, name))
        body = 3 * value(2, b"") + validity + subject
        der = value(0x30, value(0x30, body))
        if size == 20:
            assert read(der).subject.endswith("6f776e")
            continue
        with pytest.raises(CertificateError, match="endless type"):
            read(der)


def value(tag: int, contents: bytes) -> bytes:
    """In DER, of less than 64 KiB."""
    return b"%c\x82%b%b" % (tag, len(contents).to_bytes(2, "big"), contents)
