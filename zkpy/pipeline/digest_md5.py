"""The server's side of SASL DIGEST-MD5, RFC 2831: one exchange, in which a client proves a
password without sending it.

In: the client's two tokens, the first one without a meaning.  Out: the challenge

    realm="zk-sasl-md5",nonce="...",charset=utf-8,algorithm=md5-sess

with a nonce that is this exchange's alone, and, if the second token answers it rightly,
`rspauth=...`, which proves that the server knows the password, too.  What is not offered: a
protection of what is sent afterwards (the only qop is `auth`), and a second exchange that
goes on from the first one.

MD5 is what the protocol asks for.  A client's answer can be tried against guessed passwords by
whoever has heard it, so this is for networks that are trusted, or under TLS.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

REALM: Final = "zk-sasl-md5"
"""ZooKeeper's, of every server; it is the host of the digest-uri as well."""
NONCE_BYTES: Final = 30
"""Of randomness in a nonce, in base64 then."""
RANDOM_BYTES: Final = NONCE_BYTES + 16
"""Of randomness in an exchange: behind the nonce is the secret of those whom nobody knows."""
_URI: Final = b"zookeeper/zk-sasl-md5"
_TOKEN_BYTES_MAX: Final = 4096
"""RFC 2831: 'a digest-response ... MUST be less than 4096 bytes'."""
_NONCE_COUNT: Final = b"00000001"
_ONCE: Final = (
    *("username", "realm", "nonce", "cnonce", "nc", "qop", "digest-uri", "response"),
    *("maxbuf", "charset", "cipher", "authzid"),
)
"""Directives that may be given once; any other one means nothing, however often."""
_NEEDED: Final = ("username", "realm", "nonce", "cnonce", "nc", "digest-uri", "response")
_SPACE: Final = re.compile(rb"[ \t\r\n,]*")
_DIRECTIVE: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t\r\n]*=[ \t\r\n]*"
    rb'(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z-]+))[ \t\r\n]*(?:,|\Z)',
    re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


class SaslError(Exception):
    """The exchange failed; the text is for the operator's log, never for the client."""


@dataclass(frozen=True, slots=True)
class SaslUsers:
    """Who may authenticate by SASL, and what becomes of who tries."""

    secrets: Mapping[str, bytes] = field(repr=False)
    """User -> `secret_of` the password: as good as the password, and so never shown."""
    super_users: tuple[str, ...] = ()
    """`superUser`: these may do everything."""
    keeps_failed: bool = False
    """`allowSaslFailedClients`: who fails stays connected, as who never tried."""

    def identities(self, user: str) -> tuple[tuple[str, str], ...]:
        """What a connection is from now on: (scheme, id) pairs."""
        named = (("sasl", user),)
        return (*named, ("super", "")) if user in self.super_users else named


def secret_of(user: str, password: str, realm: str = REALM) -> bytes:
    """16 bytes: all that the server has to keep of a password."""
    return _md5(b":".join((_narrow(user), _narrow(realm), _narrow(password))))


class Exchange:
    """One client's attempt.  It has one challenge, which can be answered once."""

    __slots__ = ("_nobodys", "_nonce", "_over", "_secrets", "user")

    def __init__(self, secrets: Mapping[str, bytes], randomness: bytes) -> None:
        """`randomness`: `RANDOM_BYTES` that nobody can guess."""
        assert len(randomness) == RANDOM_BYTES
        self._secrets = secrets
        self._nonce = base64.b64encode(randomness[:NONCE_BYTES])
        self._nobodys = randomness[NONCE_BYTES:]
        """In place of a secret, so that a name that nobody has costs the same work."""
        self._over = False
        self.user = ""
        """Who it is, once it has succeeded."""

    def challenge(self) -> bytes:
        """The answer to the first token."""
        realm = REALM.encode()
        return b'realm="%b",nonce="%b",charset=utf-8,algorithm=md5-sess' % (realm, self._nonce)

    def finish(self, token: bytes) -> bytes:
        """The answer to the second token.  Raises SaslError if it does not prove who it is."""
        if self._over:
            raise SaslError("the exchange is over")
        self._over = True
        given = parse_directives(token)
        self._check(given)
        user, known = self._find_user(given)
        secret = self._secrets.get(user, self._nobodys)
        expected = proof_of(secret, self._nonce, given, b"AUTHENTICATE")
        if not compare_digest(expected, given["response"]) or not known:
            raise SaslError(f"no such user, or not the password of {user[:100]!r}")
        if given.get("authzid", given["username"]) != given["username"]:
            raise SaslError(f"{user[:100]!r} asks to be somebody else")
        self.user = user
        return b"rspauth=" + proof_of(secret, self._nonce, given, b"")

    def _check(self, given: Mapping[str, bytes]) -> None:
        for name in _NEEDED:
            if name not in given:
                raise SaslError(f"{name} is missing")
        for name, wanted in (("realm", REALM.encode()), ("nc", _NONCE_COUNT)):
            if given[name] != wanted:
                raise SaslError(f"{name} is not {wanted.decode()}")
        if not compare_digest(given["nonce"], self._nonce):
            raise SaslError("it answers another challenge")
        if given["digest-uri"].lower() != _URI:
            raise SaslError(f"digest-uri is not {_URI.decode()}")
        if given.get("qop", b"auth") != b"auth":
            raise SaslError("it asks for a protection of what follows; only qop=auth is served")
        if given.get("charset", b"utf-8").lower() != b"utf-8":
            raise SaslError("charset is not utf-8")
        if not given["cnonce"]:
            raise SaslError("cnonce is empty")

    def _find_user(self, given: Mapping[str, bytes]) -> tuple[str, bool]:
        """The user's name, and whether there is one of that name.

        In UTF-8, where the client says so, else in ISO 8859-1.  But there are clients, kazoo
        among them, that write UTF-8 and do not say so: what can be UTF-8 is.
        """
        name = given["username"]
        try:
            user = name.decode()
        except UnicodeDecodeError:
            if "charset" in given:
                raise SaslError("username is not UTF-8") from None
            user = name.decode("latin-1")
        return user, user in self._secrets


def proof_of(secret: bytes, nonce: bytes, given: Mapping[str, bytes], verb: bytes) -> bytes:
    """The response-value of RFC 2831 2.1.2.1: the client's with the verb `AUTHENTICATE`, the
    server's with none.  The digest-uri is in it as the client spells it."""
    parts = [secret, nonce, given["cnonce"]]
    if "authzid" in given:
        parts.append(given["authzid"])
    session_key = _hex_md5(b":".join(parts))
    asked = _hex_md5(verb + b":" + given["digest-uri"])
    return _hex_md5(b":".join((session_key, nonce, _NONCE_COUNT, given["cnonce"], b"auth", asked)))


def parse_directives(token: bytes) -> dict[str, bytes]:
    """The directives of a digest-response that have a meaning, by their names in lower case.

    Raises SaslError for what is no list of directives, or has one twice.
    """
    if len(token) >= _TOKEN_BYTES_MAX:
        raise SaslError(f"a token of {len(token)} bytes")
    found: dict[str, bytes] = {}
    at = _skip_space(token, 0)
    while at < len(token):
        match = _DIRECTIVE.match(token, at)
        if match is None:
            raise SaslError(f"no directive at byte {at} of the token")
        name = match[1].decode().lower()
        if name in found:
            raise SaslError(f"{name} is given twice")
        if name in _ONCE:
            quoted = match[2]
            found[name] = match[3] if quoted is None else _ESCAPE.sub(rb"\1", quoted)
        at = _skip_space(token, match.end())
    return found


def _skip_space(token: bytes, at: int) -> int:
    """To the next directive: elements of a list may be empty."""
    match = _SPACE.match(token, at)
    return match.end() if match is not None else at


def _narrow(text: str) -> bytes:
    """RFC 2831 2.1.2.1: in ISO 8859-1 if it can be, else in UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _hex_md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
