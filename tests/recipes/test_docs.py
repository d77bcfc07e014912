"""The examples in the recipes' pages, run from top to bottom, each page by itself."""

import re
from pathlib import Path

import pytest

from tests.recipes.conftest import Connect
from tests.recipes.faults import until

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMES = ["locks", "election", "barriers", "counter", "config", "membership", "tasks", "queue"]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str, connect: Connect, root: str, tmp_path: Path) -> None:
    """With `client` and `other`, which are connected, in a place of their own; a directory."""
    client, other = connect(), connect()
    for each in (client, other):
        each.ensure_path(root)
        each.chroot = root
    page = PAGES / f"{name}.md"
    examples = EXAMPLE.findall(page.read_text(encoding="utf-8"))
    assert examples
    names: dict[str, object] = {"__name__": "example", "client": client, "other": other}
    names |= {"directory": tmp_path, "wait_until": until}
    for example in examples:
        exec(compile(example, str(page), "exec"), names)
