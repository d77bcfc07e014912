"""The example in docs/recipes/kafka.md runs as it stands, but for the address."""

import re
from pathlib import Path

from kazoo.client import KazooClient

from tests.recipes.kafka.conftest import Place

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recipes" / "kafka.md"


def test_example(place: Place) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    code = example.replace("127.0.0.1:2181", place.server.hosts + place.root)
    assert code != example
    started: list[KazooClient] = []

    def keep(client: KazooClient) -> KazooClient:
        started.append(client)
        return client

    code = code.replace("return client", "return keep(client)")
    try:
        exec(compile(code, str(PAGE), "exec"), {"keep": keep, "__name__": "example"})
    finally:
        for client in started:
            client.stop()
            client.close()
    assert len(started) == 5
