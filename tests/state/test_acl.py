"""ACLs: who may, what is stored, what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codes import ErrorCode, Perm
from wire.errors import RemoteProtocolError
from wire.records import ACL, OPEN_ACL
from zkpy.errors import ZkError
from zkpy.state import acl as acls_of
from zkpy.state.acl import AclPool, allowed, fix_up, valid_ids, visible

ANN = ("digest", "ann:hash")
HOST = ("ip", "10.1.2.3")
ANN_ALL = (ACL(31, "digest", "ann:hash"),)
BOB_ALL = (ACL(31, "sasl", "bob"),)
VALID = valid_ids(off=())


@pytest.mark.parametrize(
    ("acl", "perm", "identities", "expected"),
    [
        (OPEN_ACL, Perm.ADMIN, [], True),
        (acls_of.READ_ONLY_ACL, Perm.READ, [], True),
        (acls_of.READ_ONLY_ACL, Perm.WRITE, [HOST, ANN], False),
        ((), Perm.ADMIN, [], True),
        (ANN_ALL, Perm.READ, [HOST], False),
        (ANN_ALL, Perm.READ, [HOST, ANN], True),
        (ANN_ALL, Perm.READ, [("sasl", "ann:hash")], False),
        (BOB_ALL, Perm.READ, [("sasl", "bob")], True),
        (BOB_ALL, Perm.READ, [("sasl", "")], False),
        (BOB_ALL, Perm.READ, [("digest", "bob")], False),
        (BOB_ALL, Perm.WRITE, [("sasl", "super")], True),
        (ANN_ALL, Perm.READ, [("sasl", "super")], False),
        (BOB_ALL, Perm.READ, [("digest", "super")], False),
        ((ACL(1, "digest", "ann:hash"),), Perm.WRITE, [ANN], False),
        (ANN_ALL, Perm.ADMIN, [("super", "")], True),
        ((ACL(31, "world", "nobody"),), Perm.READ, [HOST], False),
        ((ACL(0, "world", "anyone"), *ANN_ALL), Perm.READ, [ANN], True),
        ((ACL(1, "ip", "10.1.2.3"),), Perm.READ, [HOST], True),
        ((ACL(1, "ip", "10.1.2.4"),), Perm.READ, [HOST], False),
        ((ACL(1, "ip", "10.1.0.0/16"),), Perm.READ, [HOST], True),
        ((ACL(1, "ip", "10.1.99.99/16"),), Perm.READ, [HOST], True),
        ((ACL(1, "ip", "10.2.0.0/16"),), Perm.READ, [HOST], False),
        ((ACL(1, "ip", "0.0.0.0/0"),), Perm.READ, [HOST], True),
        ((ACL(1, "ip", "::/0"),), Perm.READ, [HOST], False),
        ((ACL(1, "ip", "fd00::/8"),), Perm.READ, [("ip", "fd12::1")], True),
        ((ACL(1, "ip", "not an address"),), Perm.READ, [HOST], False),
        ((ACL(1, "ip", "010.1.2.03"),), Perm.READ, [HOST], True),
        ((ACL(1, "ip", "0a01:203::/0"),), Perm.READ, [HOST], False),
        ((ACL(1, "ip", "fe80::1"),), Perm.READ, [("ip", "fe80::1%eth0")], False),
    ],
)
def test_allowed(
    acl: tuple[ACL, ...], perm: Perm, identities: list[tuple[str, str]], expected: bool
) -> None:
    assert allowed(acl, perm, identities) is expected


def test_fix_up_drops_doubles_and_keeps_order() -> None:
    given_acl = [ACL(1, "world", "anyone"), *ANN_ALL, ACL(1, "world", "anyone")]
    assert fix_up(given_acl, [], VALID) == (ACL(1, "world", "anyone"), *ANN_ALL)


def test_auth_becomes_every_authenticated_identity() -> None:
    identities = [HOST, ANN, ("sasl", "bob"), ("super", "")]
    fixed = fix_up([ACL(3, "auth", "")], identities, VALID)
    assert fixed == (ACL(3, "digest", "ann:hash"), ACL(3, "sasl", "bob"))


def test_auth_and_the_same_identity_by_name_make_one_entry() -> None:
    assert fix_up([ACL(31, "auth", ""), *ANN_ALL], [ANN], VALID) == ANN_ALL


@pytest.mark.parametrize(
    "acl",
    [
        [],
        [ACL(31, "auth", "")],
        [ACL(31, "world", "someone")],
        [ACL(31, "super", "")],
        [ACL(31, "", "")],
        [ACL(31, "unheard-of", "x")],
        [ACL(31, "digest", "ann")],
        [ACL(31, "digest", "ann:")],
        [ACL(31, "digest", "ann:a:b")],
        [ACL(31, "ip", "")],
        [ACL(31, "ip", "10.0.0.256")],
        [ACL(31, "ip", "10.0.0.1/33")],
        [ACL(31, "ip", "10.0.0.1/")],
        [ACL(31, "ip", "10.0.0.1/-1")],
        [ACL(31, "ip", "10.0.0.1/255.0.0.0")],
        [ACL(31, "ip", "10.0.0.1/ 8")],
        [ACL(31, "ip", "10.0.0.1/" + "0" * 5000)],
        [ACL(31, "ip", "10.0.1")],
        [ACL(31, "ip", "10.0.0.")],
        [ACL(31, "ip", "10.0.0.1_0")],
        [ACL(31, "ip", "1")],
        [ACL(31, "ip", "::1/129")],
        [ACL(31, "ip", "::ffff:192.168.1.1")],
        [ACL(31, "ip", "fe80::1%eth0")],
        [ACL(31, "ip", "1:2:3:4:5:6:7")],
        [ACL(31, "ip", "1:2:3:4:5:6:7:8:9")],
        [ACL(31, "ip", "1:2:3:4::5:6:7:8")],
        [ACL(31, "ip", "1::2::3")],
        [ACL(31, "ip", ":::")],
        [ACL(31, "ip", "1:2:3:4:5:6:7:")],
        [ACL(31, "ip", ":1::")],
        [ACL(31, "ip", "12345::")],
        [ACL(31, "ip", "g::")],
        [ACL(31, "ip", "::0xf")],
        [ACL(31, "ip", "::-0X1")],
        [ACL(31, "ip", "1:2:3:4:5:6:7:8::")],
        [*OPEN_ACL, ACL(31, "digest", "ann")],
    ],
)
def test_fix_up_refuses(acl: list[ACL]) -> None:
    with pytest.raises(ZkError) as caught:
        fix_up(acl, [HOST], VALID)
    assert caught.value.code == ErrorCode.INVALID_ACL


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", ["a:" * 500_000, "::" + "a:" * 500_000, "1." * 500_000])
def test_a_megabyte_of_segments_is_refused_at_once(name: str) -> None:
    """Put together one by one they took half a minute, in which the server did nothing else."""
    with pytest.raises(ZkError):
        fix_up([ACL(31, "ip", name)], [], VALID)


def test_fix_up_without_the_scheme_digest() -> None:
    acl = ACL(31, "digest", "ann:hash")
    assert fix_up([acl], [HOST], VALID) == (acl,)
    with pytest.raises(ZkError) as caught:
        fix_up([*OPEN_ACL, acl], [HOST], valid_ids(("digest",)))
    assert caught.value.code == ErrorCode.INVALID_ACL


@pytest.mark.parametrize("name", ["bob", "", "a@b", "a/b@c", "a/b/c", "/@", "@", "a b"])
def test_fix_up_takes_names_of_sasl(name: str) -> None:
    """All of them are ids to ZooKeeper 3.9.5."""
    acl = ACL(31, "sasl", name)
    assert fix_up([acl], [], VALID) == (acl,)
    with pytest.raises(ZkError):
        fix_up([acl], [], valid_ids())


@pytest.mark.parametrize("name", ["a@b@c", "a/b/c@d"])
def test_fix_up_refuses_names_that_are_no_principals(name: str) -> None:
    with pytest.raises(ZkError):
        fix_up([ACL(31, "sasl", name)], [], VALID)


def test_auth_leaves_out_whom_no_acl_may_name() -> None:
    identities = [ANN, ("sasl", "bob")]
    assert fix_up([ACL(31, "auth", "")], identities, valid_ids()) == ANN_ALL
    with pytest.raises(ZkError):
        fix_up([ACL(31, "auth", "")], identities[1:], valid_ids())


ADDRESSES = [
    *("10.0.0.1", "10.0.0.1/0", "10.0.0.1/32", "010.00.000.1", "+10.0.0.1", "10.0.0.1/+08"),
    *("::1", "fe80::/128", "::", "1::", "1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:8", "0001::", "::-1/+64"),
]
"""All of them are ids to ZooKeeper 3.9.5, the strange ones too."""


@pytest.mark.parametrize("name", ADDRESSES)
def test_fix_up_takes_addresses(name: str) -> None:
    assert fix_up([ACL(1, "ip", name)], [], VALID) == (ACL(1, "ip", name),)


def test_hashes_are_shown_to_administrators_only() -> None:
    acl = (ACL(1, "world", "anyone"), *ANN_ALL, ACL(1, "ip", "10.0.0.1"))
    assert visible(acl, [ANN]) == acl
    assert visible(acl, [HOST]) == (acl[0], ACL(31, "digest", "ann:x"), acl[2])


@given(st.lists(st.builds(ACL, st.integers(0, 31), st.text(max_size=9), st.text(max_size=9))))
def test_packed_form_comes_back(entries: list[ACL]) -> None:
    assert acls_of.unpack(acls_of.pack(entries)) == tuple(entries)


def test_damaged_packed_form_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        acls_of.unpack(acls_of.pack(ANN_ALL)[:-1])


def test_pool_shares_and_forgets() -> None:
    pool = AclPool()
    packed = acls_of.pack(ANN_ALL)
    first = pool.take(packed, ANN_ALL)
    assert pool.take(packed, (ACL(31, "digest", "ann:hash"),)) is first
    pool.drop(packed)
    assert len(pool._shared) == 1
    pool.drop(packed)
    assert len(pool._shared) == 0


NAMES = [
    "",
    "CN=localhost",
    " CN = a , o=b",
    "CN=a;O=b",
    "CN=a+UID=b",
    "EMAILADDRESS=a@b",
    "1.2.840.113549.1.9.1=#16056140622e63",
    "OID.2.999.3=a",
    "CN=",
    'CN="a,b" ',
    r"CN=a\,b\41\ ,OU=\#",
    "CN=a=b#c",
    "C=Ü",
]
NO_NAMES = [
    " ",
    "a",
    "=a",
    "E=a",
    "foo=a",
    ",CN=a",
    "CN=a,",
    "CN=a,,O=b",
    "CN=a+",
    "CN=a+b",
    'CN="a',
    'CN="a"b',
    'CN=a"b',
    "CN=a<b",
    "CN=a\\",
    r"CN=a\4",
    r"CN=a\q",
    "CN=#",
    "CN=#0",
    "1=a",
    "3.1=a",
    "1.40=a",
    "1.2..3=a",
]
"""As Java's `X500Principal` sees them, which ZooKeeper asks."""


@pytest.mark.parametrize("name", NAMES)
def test_names_of_certificates(name: str) -> None:
    acl = ACL(31, "x509", name)
    assert fix_up([acl], [HOST], VALID) == (acl,)
    with pytest.raises(ZkError) as caught:
        fix_up([acl], [HOST], valid_ids())
    assert caught.value.code == ErrorCode.INVALID_ACL


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_no_certificate_can_be_named(name: str) -> None:
    with pytest.raises(ZkError):
        fix_up([ACL(31, "x509", name)], [HOST], VALID)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "name",
    ["CN=" + " " * 1_000_000, "CN=" + "a" * 1_000_000, "1." + "1." * 500_000 + "=a"],
)
def test_a_megabyte_of_name_is_refused_at_once(name: str) -> None:
    with pytest.raises(ZkError):
        fix_up([ACL(31, "x509", name)], [HOST], VALID)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "name",
    [
        "CN=" + " " * 16_000 + '"',
        "CN=" + "a,CN=" * 3_200 + "<",
        'CN="' + "\\a" * 8_000,
        "CN=" + r"\41" * 5_000 + "<",
        "2." + "1" * 16_000,
        " " * 16_000 + "x",
    ],
)
def test_a_name_is_looked_at_once(name: str) -> None:
    for _ in range(20):
        with pytest.raises(ZkError):
            fix_up([ACL(31, "x509", name)], [HOST], VALID)


def test_a_certificate_is_compared_as_a_whole() -> None:
    acl = (ACL(31, "x509", "CN=ann,O=Example"),)
    assert allowed(acl, Perm.READ, [HOST, ("x509", "CN=ann,O=Example")])
    for other in ("CN=ann", "cn=ann,O=Example", "CN=ann, O=Example", ""):
        assert not allowed(acl, Perm.READ, [HOST, ("x509", other)])
