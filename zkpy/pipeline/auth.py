"""Who a connection is: identities that ACLs are matched against.

A connection starts as its network address and gains an identity with each auth
packet that its scheme accepts.  Nothing here outlives the connection.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from wire.codes import ErrorCode
from wire.errors import RemoteProtocolError
from zkpy.errors import ZkError
from zkpy.pipeline.digest_md5 import SaslUsers
from zkpy.pipeline.request import Identities


def identities_of_address(address: str) -> Identities:
    """What every connection is before it authenticates."""
    return (("ip", address),)


def digest_id(credential: bytes, algorithm: str = "sha1") -> str:
    """`user:base64(hash("user:password"))`, as ACLs of scheme `digest` name it.

    SHA-1 is the usual choice; the hash is an identifier here, and whoever
    can read it still needs the password to claim it.
    """
    user = credential.partition(b":")[0].decode()
    hashed = base64.b64encode(hashlib.new(algorithm, credential, usedforsecurity=False).digest())
    return f"{user}:{hashed.decode()}"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """The schemes that this server accepts in auth packets."""

    super_digest: str | None = None
    """`DigestAuthenticationProvider.superDigest`: the id that may do everything."""
    digest_scheme: bool = True
    digest_hash: str = "sha1"
    ensembles: tuple[str, ...] | None = None
    """`ensembleAuthName`: with the scheme `ensemble` a client says whom it looks for.  None
    where the scheme is unknown, no names where every name will do."""
    required: tuple[str, ...] = ()
    """`enforce.auth.schemes`: who has no identity of any of them is nobody.  Empty: all may ask."""
    sasl: SaslUsers | None = None
    """Who may authenticate by an exchange of SASL tokens; None if that is not served."""
    x509_super: str | None = None
    """`X509AuthenticationProvider.superUser`: the subject that may do everything."""

    def is_nobody(self, identities: Identities) -> bool:
        """Whether requests of such a connection are refused."""
        return bool(self.required) and not any(scheme in self.required for scheme, _ in identities)

    def certified(self, subject: str) -> Identities:
        """What a connection is by its client's certificate, as ZooKeeper orders it."""
        named = (("x509", subject),)
        return (("super", ""), *named) if subject == self.x509_super else named

    def authenticate(
        self, scheme: str, auth: bytes | None, address: str, held: Identities = ()
    ) -> Identities:
        """The identities that an auth packet earns, or ZkError(AUTH_FAILED).

        `held` are those that the connection has: a certificate was shown before, or never.

        RemoteProtocolError closes the connection without an answer: the client is to try
        another server, and would give up if it were told anything."""
        if scheme == "digest" and self.digest_scheme:
            return self._digest(auth)
        if scheme == "ip":
            return identities_of_address(address)
        if scheme == "x509" and any(each == "x509" for each, _ in held):
            return held
        if scheme == "ensemble" and self.ensembles is not None:
            return self._look_for(auth or b"", self.ensembles)
        raise ZkError(ErrorCode.AUTH_FAILED)

    def _look_for(self, auth: bytes, ensembles: tuple[str, ...]) -> Identities:
        name = auth.decode(errors="replace")
        if name and ensembles and name not in ensembles:
            raise RemoteProtocolError(f"it looks for the ensemble {name[:100]!r}")
        return ()

    def _digest(self, auth: bytes | None) -> Identities:
        if auth is None:  # but of an empty one there is an id, in ZooKeeper too
            raise ZkError(ErrorCode.AUTH_FAILED)
        try:
            name = digest_id(auth, self.digest_hash)
        except UnicodeDecodeError as error:
            raise ZkError(ErrorCode.AUTH_FAILED) from error
        if self.super_digest and hmac.compare_digest(name.encode(), self.super_digest.encode()):
            return (("digest", name), ("super", ""))
        return (("digest", name),)
