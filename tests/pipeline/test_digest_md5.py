"""SASL DIGEST-MD5: the exchange, by RFC 2831 and as ZooKeeper 3.9.5 answered."""

from hmac import compare_digest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.digest_client import respond
from zkpy.pipeline import digest_md5
from zkpy.pipeline.digest_md5 import (
    NONCE_BYTES,
    RANDOM_BYTES,
    Exchange,
    SaslError,
    SaslUsers,
    parse_directives,
    proof_of,
    secret_of,
)

LONG = "x" * 101
"""A user's name, of which the log shows no more than 100 characters."""
PASSWORDS = {
    "bob": "open-sesame",
    "bob@EXAMPLE.ORG": "open-sesame",
    'q"o\\e': "pw",
    "jürgen": "öl",
    "日本": "日",
    "super": "secret",
    LONG: "open-sesame",
}
SECRETS = {user: secret_of(user, password) for user, password in PASSWORDS.items()}
DICE = bytes(range(RANDOM_BYTES))
NONCE = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"


def begin(dice: bytes = DICE) -> tuple[Exchange, bytes]:
    exchange = Exchange(SECRETS, dice)
    return exchange, exchange.challenge()


def test_the_challenge_is_zookeepers() -> None:
    _, challenge = begin()
    assert challenge == (b'realm="zk-sasl-md5",nonce="%b",charset=utf-8,algorithm=md5-sess' % NONCE)


def test_the_example_of_the_rfc() -> None:
    """RFC 2831, chapter 4; its realm and digest-uri are those of a mail server."""
    secret = secret_of("chris", "secret", "elwood.innosoft.com")
    nonce, cnonce = b"OA6MG9tEQGm2hh", b"OA6MHXh6VqTrRk"
    said = {"cnonce": cnonce, "digest-uri": b"imap/elwood.innosoft.com"}
    assert proof_of(secret, nonce, said, b"AUTHENTICATE") == b"d388dad90d4bbd760a152321f2143af7"
    assert proof_of(secret, nonce, said, b"") == b"ea40f60335c427b5527b84dbabcdfffd"


def test_the_directives_of_the_rfcs_example() -> None:
    token = (
        b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",'
        b'nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",'
        b"response=d388dad90d4bbd760a152321f2143af7,qop=auth"
    )
    found = parse_directives(token)
    assert found["username"] == b"chris"
    assert found["response"] == b"d388dad90d4bbd760a152321f2143af7"
    assert len(found) == 9


@pytest.mark.parametrize("user", PASSWORDS)
def test_a_user_with_the_right_password(user: str) -> None:
    exchange, challenge = begin()
    answer = exchange.finish(respond(challenge, user, PASSWORDS[user]))
    assert answer.startswith(b"rspauth=") and len(answer) == 40
    assert exchange.user == user


def test_the_servers_proof_is_right() -> None:
    exchange, challenge = begin()
    token = respond(challenge)
    expected = proof_of(SECRETS["bob"], NONCE, parse_directives(token), b"")
    assert exchange.finish(token) == b"rspauth=" + expected


@pytest.mark.parametrize(
    "token",
    [
        respond(begin()[1], authzid="bob"),
        respond(begin()[1], uri="ZooKeeper/ZK-sasl-md5"),
        respond(begin()[1], change={"qop": None}),
        respond(begin()[1], change={"charset": None}),
        respond(begin()[1], change={"charset": b'"utf-8"', "qop": b'"auth"'}),
        respond(begin()[1], change={"charset": b"UTF-8"}),
        respond(begin()[1], change={"username": b"bob"}),
        respond(begin()[1], change={"username": b'"b\\o\\b"'}),
        respond(begin()[1], extra=b' , ,foo=1,\tfoo = "2,\\"" , maxbuf=1024,'),
    ],
)
def test_what_may_be_said_in_another_way(token: bytes) -> None:
    exchange, _ = begin()
    exchange.finish(token)
    assert exchange.user == "bob"


def test_names_of_clients_that_name_no_charset() -> None:
    """In UTF-8, as ZooKeeper takes it, and in ISO 8859-1, as the RFC says."""
    for raw in ("jürgen".encode(), "jürgen".encode("latin-1")):
        exchange, challenge = begin()
        change = {"charset": None, "username": b'"%b"' % raw}
        exchange.finish(respond(challenge, "jürgen", "öl", change=change))
        assert exchange.user == "jürgen"


REFUSED = {
    "a wrong password": (respond(begin()[1], password="open"), "not the password of 'bob'"),
    "an unknown user": (respond(begin()[1], "zed"), "no such user"),
    "a long name": (respond(begin()[1], "z" * 101), f"the password of '{'z' * 100}'$"),
    "a long name and another authzid": (
        respond(begin()[1], LONG, authzid="super"),
        f"^'{LONG[:100]}' asks to be somebody else$",
    ),
    "nobody's secret": (respond(begin()[1], "", ""), "no such user"),
    "another authzid": (respond(begin()[1], authzid="super"), "somebody else"),
    "an empty authzid": (respond(begin()[1], authzid=""), "somebody else"),
    # ZooKeeper 3.9.5 makes of this one the user super: see docs/differences.md.
    "another authzid of a principal": (
        respond(begin()[1], "bob@EXAMPLE.ORG", authzid="super"),
        "somebody else",
    ),
    "another nonce": (respond(begin()[1], nonce="AAAA"), "another challenge"),
    "the nonce of another exchange": (respond(begin(DICE[::-1])[1]), "another challenge"),
    "another realm": (respond(begin()[1], realm="EXAMPLE"), "realm is not zk-sasl-md5"),
    "another service": (respond(begin()[1], uri="imap/zk-sasl-md5"), "digest-uri is not"),
    "another host": (respond(begin()[1], uri="zookeeper/zk1"), "digest-uri is not"),
    "an empty cnonce": (respond(begin()[1], cnonce=""), "cnonce is empty"),
    "a second use": (respond(begin()[1], change={"nc": b"00000002"}), "nc is not 00000001"),
    "a short nc": (respond(begin()[1], change={"nc": b"1"}), "nc is not 00000001"),
    "integrity": (respond(begin()[1], change={"qop": b"auth-int"}), "only qop=auth"),
    "another charset": (respond(begin()[1], change={"charset": b"latin1"}), "charset is not"),
    "bad UTF-8": (respond(begin()[1], change={"username": b'"\xfc"'}), "is not UTF-8"),
    "a name twice": (respond(begin()[1], extra=b',username="bob"'), "username is given twice"),
    "twice, in other case": (respond(begin()[1], extra=b",NC=00000001"), "nc is given twice"),
    "no directive": (respond(begin()[1], extra=b",garbage"), "no directive at byte"),
    "an open string": (respond(begin()[1], extra=b',foo="bar'), "no directive at byte"),
    "behind a string": (respond(begin()[1], extra=b',foo="bar"x'), "no directive at byte"),
    "too long": (respond(begin()[1], extra=b',foo="%b"' % (b"x" * 4096)), "a token of"),
    "nothing": (b"", "username is missing"),
    "a proof in capitals": (
        respond(begin()[1], change={"response": b"ABCDEF" * 6}),
        "not the password",
    ),
} | {
    f"no {name}": (respond(begin()[1], change={name: None}), f"{name} is missing")
    for name in ("username", "realm", "nonce", "nc", "cnonce", "digest-uri", "response")
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    token, why = REFUSED[name]
    exchange, challenge = begin()
    with pytest.raises(SaslError, match=why):
        exchange.finish(token)
    assert exchange.user == ""
    with pytest.raises(SaslError, match="the exchange is over"):
        exchange.finish(respond(challenge))


@pytest.mark.parametrize("secret", [bytes(16), DICE[NONCE_BYTES:]], ids=["0", "drawn"])
def test_no_secret_makes_a_user_of_whom_nobody_knows(secret: bytes) -> None:
    """Nor the one that stands in for it, which is another one in each exchange."""
    exchange, challenge = begin()
    said = parse_directives(respond(challenge, "root"))
    proof = proof_of(secret, NONCE, said, b"AUTHENTICATE")
    with pytest.raises(SaslError, match="no such user"):
        exchange.finish(respond(challenge, "root", change={"response": proof}))
    assert exchange.user == ""


def test_an_exchange_succeeds_once() -> None:
    exchange, challenge = begin()
    token = respond(challenge)
    exchange.finish(token)
    with pytest.raises(SaslError, match="the exchange is over"):
        exchange.finish(token)


@pytest.mark.patches
def test_an_unknown_user_costs_what_a_wrong_password_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []

    def count(one: bytes, other: bytes) -> bool:
        counted[-1] += 1
        return compare_digest(one, other)

    monkeypatch.setattr(digest_md5, "compare_digest", count)
    for user in ("bob", "zed"):
        counted.append(0)
        exchange, challenge = begin()
        with pytest.raises(SaslError):
            exchange.finish(respond(challenge, user, "wrong"))
    assert counted == [2, 2]


@given(st.binary(max_size=300))
def test_any_token_is_a_list_or_an_error(token: bytes) -> None:
    try:
        found = parse_directives(token)
    except SaslError:
        return
    assert all(isinstance(value, bytes) for value in found.values())


PARTS = st.sampled_from(
    [b"username", b"nc", b"x", b"=", b'"', b"\\", b",", b" ", b"\xff", b"\0", b"bob", b"\t"]
)


@given(st.lists(PARTS, max_size=40).map(b"".join))
def test_what_looks_like_directives_is_a_list_or_an_error(token: bytes) -> None:
    exchange, _ = begin()
    with pytest.raises(SaslError):
        exchange.finish(token)


NAMES = st.sampled_from(["username", "realm", "nonce", "cnonce", "nc", "qop", "authzid"])


@given(st.dictionaries(NAMES, st.binary(max_size=50)))
def test_quoted_values_come_back(values: dict[str, bytes]) -> None:
    escaped = {
        name: value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') for name, value in values.items()
    }
    token = b",".join(b'%b="%b"' % (name.encode(), value) for name, value in escaped.items())
    assert parse_directives(token) == values


@pytest.mark.timeout(5)
@pytest.mark.parametrize("part", [b" ", b",", b"\\", b'a="', b"a", b"a=b ,", b'"\\'])
def test_a_long_token_is_looked_at_once(part: bytes) -> None:
    token = (part * 4096)[:4095]
    exchange, _ = begin()
    with pytest.raises(SaslError):
        exchange.finish(token)


def test_identities() -> None:
    users = SaslUsers(SECRETS, super_users=("super",))
    assert users.identities("bob") == (("sasl", "bob"),)
    assert users.identities("super") == (("sasl", "super"), ("super", ""))


def test_secrets_are_not_shown() -> None:
    users = SaslUsers(SECRETS)
    assert repr(SECRETS["bob"]) not in repr(users)
