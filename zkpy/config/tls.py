"""What zoo.cfg says of TLS: the keys `ssl.*` for clients, `ssl.quorum.*` between members.

Files are named here, and read by `zkpy.server.tls`; errors that only show then name the
setting they come from (`Tls.error`).  Passwords are in no repr.
"""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from zkpy.config.properties import Setting
from zkpy.errors import ConfigError

PROTOCOLS: Final = ("TLSv1.2", "TLSv1.3")
"""Oldest first."""
SUFFIXES: Final = {".jks": "JKS", ".pem": "PEM", ".p12": "PKCS12"}
"""By which ZooKeeper tells what a store is, where `.type` does not."""
CLIENT_AUTH: Final = ("none", "want", "need")
CLIENTS: Final = "ssl."
MEMBERS: Final = "ssl.quorum."
"""What the keys begin with, and in this module the fields, that are gathered here."""


@attrs.define(frozen=True)
class Store:
    """A file with keys, or with certificates that are trusted."""

    key: str
    """`ssl.keyStore`, for example, as errors name it."""
    path: str
    kind: str
    """JKS, PEM or PKCS12."""
    password: str | None = attrs.field(default=None, repr=False)
    password_path: str | None = None
    """A file with the password; it wins."""


@attrs.define(frozen=True)
class Tls:
    """How clients, or members, speak TLS."""

    prefix: str
    """`ssl.` or `ssl.quorum.`: what the keys begin with."""
    key_store: Store
    trust_store: Store | None
    """None where no client is asked for a certificate."""
    client_auth: str = "need"
    protocols: tuple[str, ...] = PROTOCOLS
    ciphers: tuple[str, ...] = ()
    """`ssl.ciphersuites`, by Java's names; empty: OpenSSL's choice."""
    crl: bool = False
    """Clients' certificates are looked up in the lists of revoked ones beside the trusted ones."""
    reload: bool = False
    """`client.certReload`, `sslQuorumReloadCertFiles`: the stores are read again when their files
    change."""
    hostnames: bool = True
    """`ssl.quorum.hostnameVerification`: a member's certificate names a host of its line."""
    settings: Mapping[str, Setting] = attrs.field(factory=dict, repr=False)
    source: str = ""

    def error(self, key: str, why: str) -> ConfigError:
        setting = self.settings.get(key)
        return setting.error(why) if setting else ConfigError(f"{self.source}: {key}: {why}")


def parse_client_auth(text: str) -> str:
    if text.lower() not in CLIENT_AUTH:
        raise ValueError("one of none, want and need is needed")
    return text.lower()


def parse_kind(text: str) -> str:
    if text.upper() not in SUFFIXES.values():
        raise ValueError("one of JKS, PEM and PKCS12 is needed")
    return text.upper()


def parse_protocols(text: str) -> tuple[str, ...]:
    """Of `ssl.enabledProtocols`.  What is older than TLS 1.2 is broken, and refused."""
    names = {name.strip() for name in text.split(",")}
    if not names <= set(PROTOCOLS):
        raise ValueError("TLSv1.2 and TLSv1.3 are what there is: one of them, or both, is needed")
    return tuple(name for name in PROTOCOLS if name in names)


def parse_protocol(text: str) -> tuple[str, ...]:
    """Of `ssl.protocol`; `TLS` leaves it open."""
    return PROTOCOLS if text == "TLS" else parse_protocols(text)


def parse_ocsp(text: str) -> object:
    if text.lower() in ("false", "no"):
        return False
    raise ValueError(
        "nobody is asked here whether a certificate was revoked; false is needed, and a list "
        "of revoked certificates (ssl.crl) does the same"
    )


def parse_password(text: str) -> str:
    """It may be empty."""
    return text


def parse_need(text: str) -> str:
    if text.lower() != "need":
        raise ValueError("members show each other their certificates, always: need is needed")
    return "need"


Take = Callable[[str], object]
"""A field's value, None if it was not given."""


def build(
    prefix: str, take: Take, settings: Mapping[str, Setting], source: str, asked_by: str
) -> Tls:
    """`asked_by` is the key that asks for TLS, where nothing else is wrong.

    Raises ConfigError."""
    given = {
        key: setting
        for key, setting in settings.items()
        if key.startswith(prefix) or key == asked_by
    }
    tell = Tls(prefix, Store("", "", ""), None, settings=given, source=source)
    key_store = _find_store(take, tell, "keyStore")
    if key_store is None:
        raise tell.error(asked_by, f"needs {prefix}keyStore.location, the own certificate")
    client_auth = str(take("client_auth") or "need")
    trust_store = _find_store(take, tell, "trustStore")
    if trust_store is None and client_auth != "none":
        raise tell.error(asked_by, f"needs {prefix}trustStore.location{_UNLESS[prefix]}")
    return attrs.evolve(
        tell,
        key_store=key_store,
        trust_store=trust_store if client_auth != "none" else None,
        client_auth=client_auth,
        protocols=_names(take("enabled_protocols")) or _names(take("protocol")) or PROTOCOLS,
        ciphers=_names(take("ciphers")),
        crl=bool(take("crl")),
        reload=bool(take("reload")),
        hostnames=take("hostnames") is not False,
    )


_UNLESS: Final = {
    CLIENTS: ", whose certificates clients show (ssl.clientAuth=none asks them for none)",
    MEMBERS: ", whose certificates members show each other",
}


def _find_store(take: Take, tell: Tls, what: str) -> Store | None:
    key, name = f"{tell.prefix}{what}", "key_store" if what == "keyStore" else "trust_store"
    path, kind = take(f"{name}.location"), take(f"{name}.type")
    password, password_path = take(f"{name}.password"), take(f"{name}.password_path")
    if path is None:
        return None
    kind = kind or next((SUFFIXES[end] for end in SUFFIXES if str(path).endswith(end)), None)
    if kind is None:
        raise tell.error(
            f"{key}.location",
            f"the name ends in none of {', '.join(SUFFIXES)}: {key}.type is needed",
        )
    return Store(key, str(path), str(kind), _text(password), _text(password_path))


def _names(value: object) -> tuple[str, ...]:
    assert value is None or isinstance(value, tuple)
    return value or ()


def _text(value: object) -> str | None:
    return None if value is None else str(value)
