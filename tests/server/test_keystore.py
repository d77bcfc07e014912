"""JKS stores: those that keytool wrote, and what became of them on their way."""

import base64
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkpy.server import certificates
from zkpy.server.keystore import StoreError, is_jks, read_jks

TESTDATA = Path(__file__).parent / "testdata"
KEY, TRUST, OTHER = (
    base64.b64decode((TESTDATA / f"{name}.jks.b64").read_text())
    for name in ("key", "trust", "other-key-password")
)
"""`keytool -storetype JKS`: an EC key of CN=localhost, its certificate as a trusted one, and the
first with another password for its key."""
PASSWORD = "sesame1"


def test_a_key_and_its_certificate(tmp_path: Path) -> None:
    (key,) = read_jks(KEY, PASSWORD).keys
    (certificate,) = key.chain
    assert certificates.read(certificate).subject == "CN=localhost"
    body = base64.encodebytes(key.pkcs8).decode()
    pem = tmp_path / "pem"
    pem.write_text(
        f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"
        + ssl.DER_cert_to_PEM_cert(certificate)
    )
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)  # OpenSSL: they fit


def test_a_trusted_certificate() -> None:
    found = read_jks(TRUST, PASSWORD)
    assert (found.keys, found.trusted) == ((), read_jks(KEY, PASSWORD).keys[0].chain)


def test_what_is_a_store() -> None:
    assert is_jks(KEY) and is_jks(TRUST)
    assert not is_jks(b"\x30\x82") and not is_jks(b"")


def test_a_wrong_password() -> None:
    with pytest.raises(StoreError, match="password is wrong") as refused:
        read_jks(KEY, "sesame2")
    assert refused.value.password


def test_a_key_with_a_password_of_its_own() -> None:
    with pytest.raises(StoreError, match="another password than the store") as refused:
        read_jks(OTHER, "store12")
    assert refused.value.password


@pytest.mark.parametrize("data", [b"", KEY[:3], b"x" * 100])
def test_what_is_no_store(data: bytes) -> None:
    with pytest.raises(StoreError):
        read_jks(data, PASSWORD)


def test_a_version_that_is_not_known() -> None:
    with pytest.raises(StoreError, match="version 3"):
        read_jks(KEY[:4] + b"\0\0\0\3" + KEY[8:], PASSWORD)


@given(at=st.integers(8, len(KEY) - 1), flip=st.integers(1, 255))
def test_damage_is_found(at: int, flip: int) -> None:
    damaged = KEY[:at] + bytes([KEY[at] ^ flip]) + KEY[at + 1 :]
    with pytest.raises(StoreError, match="damaged"):
        read_jks(damaged, PASSWORD)


@given(st.integers(0, len(KEY) - 1))
def test_a_store_that_is_cut_off(size: int) -> None:
    with pytest.raises(StoreError):
        read_jks(KEY[:size], PASSWORD)


def test_a_key_is_in_no_repr() -> None:
    found = read_jks(KEY, PASSWORD)
    assert repr(found.keys[0].pkcs8)[2:20] not in repr(found)
