"""The examples of docs/recipes are run, page by page, as they stand there."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import Connect
from tests.recipes.faults import until

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"


@pytest.mark.parametrize("page", ["config.md", "membership.md"])
def test_examples(page: str, connect: Connect, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    assert blocks
    client = connect()
    names: dict[str, Any] = {
        "__name__": "example",
        "client": client,
        "directory": tmp_path,
        "wait_until": until,
    }
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    for path in ("/config", "/clusters"):
        if client.exists(path):
            client.delete(path, recursive=True)
