"""What the server makes of its configuration before it starts."""

import pytest

from zkpy.config import parse, read_properties
from zkpy.limits import Limits
from zkpy.server.app import WINDOW_ALONE_BYTES, limits_of

ALONE = "dataDir=/data\nclientPort=2181"
MEMBER = f"{ALONE}\nreconfigEnabled=true\nserver.1=a:2888:3888"
MEMBERS = f"{MEMBER}\nserver.2=b:2888:3888\nserver.3=c:2888:3888"


@pytest.mark.parametrize(
    ("text", "window_bytes"),
    [(ALONE, WINDOW_ALONE_BYTES), (MEMBER, None), (MEMBERS, None)],
    ids=["alone", "one member", "three members"],
)
def test_a_server_alone_keeps_no_entries_for_others(text: str, window_bytes: int | None) -> None:
    """One that is a member may be given learners while it runs."""
    config = parse(read_properties(text, "zoo.cfg"), "zoo.cfg", 1)
    expected = Limits().window_bytes_max if window_bytes is None else window_bytes
    assert limits_of(config).window_bytes_max == expected
