"""Contexts for TLS, made of what zoo.cfg says, and of the files that it names.

A store is PEM, or one of Java's: which of the two, JKS or PKCS #12, its first bytes tell, as
Java itself goes by them (`keytool` has long written PKCS #12 into files named `.jks`).
OpenSSL takes keys from files alone.  A key that was in a store is in a file without a name
for that moment, or in a directory that only this user can enter.

As in ZooKeeper, whatever is in the trust store is trusted as it is, be it no root.  There are no
tickets for sessions, so that with TLS 1.3 each connection shows its certificate.  With TLS 1.2
OpenSSL resumes a session by its number all the same, while it keeps it: see `sealed`.
"""

import base64
import binascii
import logging
import os
import re
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from zkpy.config.tls import MEMBERS, Store, Tls
from zkpy.errors import ConfigError
from zkpy.server import certificates
from zkpy.server.keystore import Contents, Key, StoreError, is_jks, read_jks

log = logging.getLogger("zkpy.server")

_VERIFY: Final = {"none": ssl.CERT_NONE, "want": ssl.CERT_OPTIONAL, "need": ssl.CERT_REQUIRED}
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_SUITES_1_3: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384") + (
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""What OpenSSL offers with TLS 1.3; Python's ssl cannot choose among them."""
_CERTIFICATE: Final = re.compile(
    b"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.+?)-----END ", re.DOTALL
)
"""All headers by which OpenSSL knows one."""
_REVOKED: Final = b"-----BEGIN X509 CRL-----"

Secret = Callable[[], str]


def build_context(tls: Tls, *, dials: bool = False) -> ssl.SSLContext:
    """Of the files as they are now, for those who call, or for calling them.

    Raises ConfigError, with the setting that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if dials else ssl.PROTOCOL_TLS_SERVER)
    context.check_hostname = False  # of members it is done elsewhere, on both sides
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if not dials:
        context.num_tickets = 0
    _set_suites(context, tls)
    _load_key(context, tls)
    if tls.trust_store is not None:
        _load_trusted(context, tls, tls.trust_store)
    context.verify_mode = _VERIFY[tls.client_auth]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.crl:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


def files_of(tls: Tls) -> list[str]:
    """All that `build_context` reads."""
    stores = [store for store in (tls.key_store, tls.trust_store) if store is not None]
    return [path for store in stores for path in (store.path, store.password_path) if path]


# --- protocols and cipher suites ---------------------------------------------------------


def _set_suites(context: ssl.SSLContext, tls: Tls) -> None:
    """TLS 1.3 has suites of its own: where `ssl.ciphersuites` has none of these, it is off."""
    named_1_3 = [name for name in tls.ciphers if name in _SUITES_1_3]
    older = [name for name in tls.ciphers if name not in _SUITES_1_3]
    protocols = tls.protocols
    if tls.ciphers:
        usable = {"TLSv1.2": older, "TLSv1.3": named_1_3}
        protocols = tuple(name for name in protocols if usable[name])
        _set_older(context, tls, older)
        if "TLSv1.3" in protocols and len(set(named_1_3)) < len(_SUITES_1_3):
            lacking = [name for name in _SUITES_1_3 if name not in named_1_3]
            raise tls.error(
                f"{tls.prefix}ciphersuites",
                "Python cannot choose among the suites of TLS 1.3: "
                f"{', '.join(lacking)} are needed as well, or {tls.prefix}enabledProtocols=TLSv1.2",
            )
    if not protocols:
        raise tls.error(
            f"{tls.prefix}ciphersuites", "a suite of a protocol that is enabled is needed"
        )
    context.minimum_version = _VERSIONS[protocols[0]]
    context.maximum_version = _VERSIONS[protocols[-1]]


def _set_older(context: ssl.SSLContext, tls: Tls, names: list[str]) -> None:
    """The suites of TLS 1.2."""
    for name in names:
        if not _is_known(context, openssl_name(name)):
            raise tls.error(f"{tls.prefix}ciphersuites", f"OpenSSL knows no {name} here")
    if names:
        context.set_ciphers(":".join(map(openssl_name, names)))


def _is_known(context: ssl.SSLContext, name: str) -> bool:
    """Whether it is one suite, and no word for many."""
    try:
        context.set_ciphers(name)
    except ssl.SSLError:
        return False
    return name in [each["name"] for each in context.get_ciphers()]


def openssl_name(suite: str) -> str:
    """Java's name of a suite of TLS 1.2, as OpenSSL has it: TLS_RSA_WITH_AES_128_CBC_SHA is
    AES128-SHA.  A name that is of no such form is given back; the caller asks OpenSSL."""
    exchange, found, cipher = suite.removeprefix("TLS_").partition("_WITH_")
    if not found:
        return suite
    cipher = re.sub(r"AES_(\d+)", r"AES\1", cipher).replace("_CBC", "").replace("CCM_8", "CCM8")
    cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305").replace("_", "-")
    return cipher if exchange == "RSA" else f"{exchange.replace('_', '-')}-{cipher}"


# --- stores --------------------------------------------------------------------------------


def _load_key(context: ssl.SSLContext, tls: Tls) -> None:
    store = tls.key_store
    data, password = _read_file(tls, store), _read_password(tls, store)
    pem = data if store.kind == "PEM" else _to_pem(_only_key(tls, store, data, password))
    secret: Secret = lambda: password  # noqa: E731 - without one, OpenSSL asks the terminal
    try:
        with private_file(pem) as path:
            context.load_cert_chain(path, password=secret)
    except (ssl.SSLError, ValueError) as why:
        raise _refuse_pem(tls, store, pem, why) from None
    _warn_of_age(store, pem)


def _refuse_pem(tls: Tls, store: Store, pem: bytes, why: Exception) -> ConfigError:
    """OpenSSL's words are for its own developers."""
    reason = getattr(why, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return tls.error(f"{store.key}.location", "its key does not fit its certificate")
    if not _CERTIFICATE.search(pem):
        return tls.error(f"{store.key}.location", "there is no certificate in it")
    if b"PRIVATE KEY-----" not in pem:
        return tls.error(f"{store.key}.location", "there is no private key in it")
    if b"ENCRYPTED" in pem:
        return _wrong_password(tls, store, "the password of its key is wrong")
    return tls.error(f"{store.key}.location", f"it cannot be used ({reason or why})")


def _only_key(tls: Tls, store: Store, data: bytes, password: str) -> Key:
    keys = _open_store(tls, store, data, password).keys
    if len(keys) != 1 or not keys[0].chain:
        held = f"{len(keys)} private keys" if len(keys) != 1 else "no certificate"
        raise tls.error(
            f"{store.key}.location", f"it holds {held}: one key and its certificate are needed"
        )
    return keys[0]


def _to_pem(key: Key) -> bytes:
    lines = base64.encodebytes(key.pkcs8)
    chain = "".join(map(ssl.DER_cert_to_PEM_cert, key.chain))
    return b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n%s" % (lines, chain.encode())


def _warn_of_age(store: Store, pem: bytes) -> None:
    first = _CERTIFICATE.search(pem)
    try:
        found = certificates.read(binascii.a2b_base64(first[1] if first is not None else b""))
    except ValueError as why:  # OpenSSL, which has taken it, is not as strict
        log.warning("%s: until when the certificate is valid cannot be read: %s", store.path, why)
        return
    now = datetime.now(UTC)
    if found.ends < now:
        log.warning("%s: the certificate expired on %s", store.path, found.ends.date())
    elif found.begins > now:
        log.warning("%s: the certificate is valid only from %s", store.path, found.begins.date())


def _load_trusted(context: ssl.SSLContext, tls: Tls, store: Store) -> None:
    data, password = _read_file(tls, store), _read_password(tls, store)
    where = f"{store.key}.location"
    if tls.crl and (store.kind != "PEM" or _REVOKED not in data):
        raise tls.error(
            f"{tls.prefix}crl",
            f"no list of revoked certificates in {store.path}: a PEM trust store with one from "
            "each authority is needed (lists are not fetched)",
        )
    try:
        if store.kind == "PEM":
            with private_file(data) as path:  # what was looked at is what is loaded
                context.load_verify_locations(path)
        else:
            trusted = _open_store(tls, store, data, password).trusted
            if not trusted:
                raise tls.error(where, "there is no trusted certificate in it")
            context.load_verify_locations(cadata=b"".join(trusted))
    except ssl.SSLError as why:
        raise tls.error(where, f"its certificates cannot be used ({why.reason})") from None
    if not context.cert_store_stats()["x509"]:
        raise tls.error(where, "there is no certificate in it")


def _open_store(tls: Tls, store: Store, data: bytes, password: str) -> Contents:
    """One of Java's."""
    try:
        return read_jks(data, password) if is_jks(data) else _read_pkcs12(data, password)
    except StoreError as why:
        if why.password:
            raise _wrong_password(tls, store, str(why)) from None
        raise tls.error(f"{store.key}.location", str(why)) from None
    except ImportError:
        raise tls.error(
            f"{store.key}.location",
            "a PKCS #12 store needs the package cryptography (pip install 'zkpy[tls]'), or turn it "
            "into PEM: openssl pkcs12 -in STORE -out store.pem",
        ) from None


def _read_pkcs12(data: bytes, password: str) -> Contents:
    """Beside a key there are its issuers, and nobody that is trusted."""
    # Here, since it takes some megabytes, and who has no such store does not need it: nor does a
    # machine that only compiles, whose mypy does not find it.
    from cryptography.hazmat.primitives.serialization import (  # type: ignore[import-not-found, unused-ignore]
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    try:
        found = pkcs12.load_pkcs12(data, password.encode())
    except ValueError as why:
        raise StoreError(
            "the password is wrong, or it is neither a JKS nor a PKCS #12 store",
            password="password" in str(why).lower(),
        ) from None
    others = tuple(each.certificate.public_bytes(Encoding.DER) for each in found.additional_certs)
    if found.key is None:
        own = () if found.cert is None else (found.cert.certificate.public_bytes(Encoding.DER),)
        return Contents((), own + others)
    if found.cert is None:
        raise StoreError("there is no certificate for its key")
    plain = found.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Contents((Key(plain, (found.cert.certificate.public_bytes(Encoding.DER), *others)),))


def _wrong_password(tls: Tls, store: Store, why: str) -> ConfigError:
    """At the setting that gave it."""
    for key in (f"{store.key}.passwordPath", f"{store.key}.password", f"{store.key}.location"):
        if key in tls.settings:
            return tls.error(key, f"{store.path}: {why}")
    raise AssertionError("a store has a location")


def _read_password(tls: Tls, store: Store) -> str:
    """The file wins, and the end of its line is not part of it; as in ZooKeeper."""
    if store.password_path is None:
        return store.password or ""
    text = _read(tls, f"{store.key}.passwordPath", store.password_path)
    return text.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _read_file(tls: Tls, store: Store) -> bytes:
    return _read(tls, f"{store.key}.location", store.path)


def _read(tls: Tls, key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as why:
        raise tls.error(key, f"{path} cannot be read: {why.strerror}") from None


@contextmanager
def private_file(data: bytes) -> Iterator[str]:
    """The path of a file with these bytes that nobody else can open, while it is needed."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("zkpy"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.TemporaryDirectory(prefix="zkpy-") as directory:  # of mode 0700
            path = os.path.join(directory, "pem")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            yield path


# --- one server's context, and the files it came from --------------------------------------

RELOAD_S: Final = 5.0


class Certificates:
    """What connections are served by, which may follow its files (`client.certReload`)."""

    def __init__(self, tls: Tls, interval_s: float = RELOAD_S) -> None:
        """Raises ConfigError."""
        self.tls = tls
        self._stamp = stamp_of(files_of(tls))  # first: what changes meanwhile is read again
        self.context = build_context(tls)
        self.dialling = build_context(tls, dials=True) if tls.prefix == MEMBERS else None
        """For calling other members."""
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self.reread = threading.Event()
        """Set once files were read again."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch, if that is asked for; in a thread, since a store's password is slow on purpose."""
        if self.tls.reload:
            self._thread = threading.Thread(target=self._watch, name="zkpy-tls", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self.look()

    def look(self) -> None:
        """Connections from now on are served by what the files say, if they are others than before
        and can be used."""
        before, self._stamp = self._stamp, stamp_of(files_of(self.tls))
        if self._stamp == before:
            return
        try:
            context = build_context(self.tls)
            dialling = None if self.dialling is None else build_context(self.tls, dials=True)
        except ConfigError as why:
            log.warning("the certificates stay as they are: %s", why)
        except Exception:  # of which nobody knows; the next change is still to be noticed
            log.exception("the certificates stay as they are")
        else:
            self.context, self.dialling = context, dialling
            self.reread.set()
            log.info("certificates were read anew: %s", ", ".join(files_of(self.tls)))


def stamp_of(paths: list[str]) -> tuple[tuple[int, ...], ...]:
    """What is another once a file is written, replaced, or may be read by others than before."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
