"""Reads Java's key stores, JKS: bytes and a password in, keys and certificates out.

A store of version 1 or 2, all numbers big-endian:

    FEEDFEED, version u32, entries u32
    each entry: tag u32 (1 a key, 2 a trusted certificate), alias, date in ms u64, and
        of a key           sealed key (u32 length), certificates u32, each as below
        of a certificate   one as below
    a certificate: in version 2 its type (X.509), then u32 length and DER
    SHA-1 of the password in UTF-16BE, "Mighty Aphrodite" and all bytes before

An alias or a type is a u16 length and text.  A sealed key is a DER EncryptedPrivateKeyInfo
of Sun's own algorithm: a salt of 20 bytes, the key's PKCS #8 xored with a key stream, and a
check of 20 bytes.  The stream is a chain of SHA-1, each of the password and the digest before
it, the first of the salt; the check is the SHA-1 of password and plain key.

That seal keeps nothing secret from those who may guess: it is read here, never written.
"""

import hashlib
import hmac
from typing import Final

import attrs

MAGIC: Final = b"\xfe\xed\xfe\xed"
_WHITENER: Final = b"Mighty Aphrodite"
_DIGEST_BYTES: Final = 20
_KEY: Final = 1
_TRUSTED: Final = 2
_SUN_PROTECTION: Final = bytes.fromhex("060a2b060104012a02110101")
"""The object identifier of that algorithm, 1.3.6.1.4.1.42.2.17.1.1, in DER."""


class StoreError(ValueError):
    """A store that cannot be read; `password` says whether that may be the wrong one."""

    def __init__(self, why: str, *, password: bool = False) -> None:
        super().__init__(why)
        self.password = password


@attrs.define(frozen=True)
class Key:
    """A private key and its certificates, its own first."""

    pkcs8: bytes = attrs.field(repr=False)
    """DER"""
    chain: tuple[bytes, ...]


@attrs.define(frozen=True)
class Contents:
    keys: tuple[Key, ...] = ()
    trusted: tuple[bytes, ...] = ()
    """DER certificates."""


def is_jks(data: bytes) -> bool:
    return data[:4] == MAGIC


def read_jks(data: bytes, password: str) -> Contents:
    """All that a store holds.  Raises StoreError."""
    reader = _Reader(data[:-_DIGEST_BYTES])
    if reader.take(4) != MAGIC:
        raise StoreError("it is no JKS store")
    version = reader.number(4)
    if version not in (1, 2):
        raise StoreError(f"it is a JKS store of version {version}; 1 and 2 are known")
    _check_integrity(data, password)
    keys: list[Key] = []
    trusted: list[bytes] = []
    for _ in range(reader.number(4)):
        tag = reader.number(4)
        reader.take(reader.number(2) + 8)  # the alias, and when it was made
        if tag == _KEY:
            sealed = reader.take(reader.number(4))
            chain = tuple(reader.certificate(version) for _ in range(reader.number(4)))
            keys.append(Key(unseal(sealed, password), chain))
        elif tag == _TRUSTED:
            trusted.append(reader.certificate(version))
        else:
            raise StoreError(f"it has an entry of a kind that is not known ({tag})")
    return Contents(tuple(keys), tuple(trusted))


def _check_integrity(data: bytes, password: str) -> None:
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    expected = _sha1(_utf16(password) + _WHITENER + body)
    if not hmac.compare_digest(expected, digest):
        raise StoreError("the password is wrong, or the file is damaged", password=True)


def unseal(sealed: bytes, password: str) -> bytes:
    """The PKCS #8 of a key.  Raises StoreError."""
    algorithm, data = _open_info(sealed)
    if _SUN_PROTECTION not in algorithm:
        raise StoreError("its key is protected in a way that is not known")
    salt, check = data[:_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    secret = _utf16(password)
    plain = _xor(data[_DIGEST_BYTES:-_DIGEST_BYTES], secret, salt)
    if not hmac.compare_digest(_sha1(secret + plain), check):
        raise StoreError("the key has another password than the store", password=True)
    return plain


def _xor(data: bytes, secret: bytes, salt: bytes) -> bytes:
    stream, digest = bytearray(), salt
    while len(stream) < len(data):
        digest = _sha1(secret + digest)
        stream += digest
    return bytes(one ^ other for one, other in zip(data, stream, strict=False))


def _open_info(sealed: bytes) -> tuple[bytes, bytes]:
    """EncryptedPrivateKeyInfo: (algorithm, encrypted data)."""
    whole = _Reader(_Reader(sealed).der(0x30))
    algorithm = whole.der(0x30)
    data = whole.der(0x04)
    if len(data) < 2 * _DIGEST_BYTES:
        raise StoreError("its key is cut off")
    return algorithm, data


def _utf16(password: str) -> bytes:
    return password.encode("utf-16-be", "surrogatepass")


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


class _Reader:
    """Takes a piece of bytes after the other; StoreError where there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise StoreError("it is cut off")
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def certificate(self, version: int) -> bytes:
        if version == 2:
            self.take(self.number(2))  # its type; there is but X.509
        return self.take(self.number(4))

    def der(self, tag: int) -> bytes:
        """The contents of the DER value that comes next, which has that tag."""
        if self.number(1) != tag:
            raise StoreError("its key is damaged")
        size = self.number(1)
        return self.take(size if size < 0x80 else self.number(size & 0x7F))
