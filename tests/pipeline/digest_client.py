"""The client's side of SASL DIGEST-MD5 for tests, written apart from the server's."""

import re
from collections.abc import Mapping
from hashlib import md5


def respond(
    challenge: bytes,
    user: str = "bob",
    password: str = "open-sesame",
    *,
    change: Mapping[str, bytes | None] | None = None,
    extra: bytes = b"",
    **given: str,
) -> bytes:
    """The second token.  `given` are other values that it truthfully uses (cnonce, uri, realm,
    authzid, nonce); `change`, by directive, is written over them as it is; None leaves it out."""
    found = re.search(rb'nonce="([^"]*)"', challenge)
    assert found is not None
    nonce = given.get("nonce", found[1].decode())
    realm, uri = given.get("realm", "zk-sasl-md5"), given.get("uri", "zookeeper/zk-sasl-md5")
    cnonce, authzid = given.get("cnonce", "OA6MHXh6VqTrRk"), given.get("authzid")
    key = md5(b":".join(map(narrow, (user, realm, password)))).digest()
    a1 = b":".join((key, nonce.encode(), cnonce.encode()))
    a1 += b"" if authzid is None else b":" + authzid.encode()
    middle = f"{nonce}:00000001:{cnonce}:auth".encode()
    proof = digest(digest(a1) + b":" + middle + b":" + digest(f"AUTHENTICATE:{uri}".encode()))
    directives: dict[str, bytes | None] = {
        "charset": b"utf-8",
        "username": quote(user),
        "realm": quote(realm),
        "nonce": quote(nonce),
        "nc": b"00000001",
        "cnonce": quote(cnonce),
        "digest-uri": quote(uri),
        "response": proof,
        "qop": b"auth",
        "authzid": None if authzid is None else quote(authzid),
        **(change or {}),
    }
    written = [b"%b=%b" % (name.encode(), value) for name, value in directives.items() if value]
    return b",".join(written) + extra


def narrow(text: str) -> bytes:
    return text.encode("latin-1" if max(map(ord, text), default=0) < 0x100 else "utf-8")


def digest(data: bytes) -> bytes:
    return md5(data).hexdigest().encode()


def quote(text: str) -> bytes:
    return b'"' + text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
