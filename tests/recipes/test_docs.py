"""The examples in the recipes' pages, run from top to bottom, each page by itself."""

import re
from pathlib import Path

import pytest

from tests.recipes.conftest import Connect

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["locks", "election", "barriers", "counter"])
def test_examples(name: str, connect: Connect, root: str) -> None:
    """With `client` and `other`, which are connected, in a place of their own."""
    client, other = connect(), connect()
    for each in (client, other):
        each.ensure_path(root)
        each.chroot = root
    page = PAGES / f"{name}.md"
    examples = EXAMPLE.findall(page.read_text(encoding="utf-8"))
    assert examples
    names: dict[str, object] = {"client": client, "other": other}
    for example in examples:
        exec(compile(example, str(page), "exec"), names)
