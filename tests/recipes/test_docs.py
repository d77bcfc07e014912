"""The examples of README and of the recipes' pages, run from top to bottom, each page by itself."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import Connect
from tests.recipes.faults import until
from zkpy.testing.realserver import RealServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "recipes"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMES = "locks election barriers counter config membership registry tasks queue".split()


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


def test_readme(
    server: RealServer, connect: Connect, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but for the address."""
    connect().ensure_path(root)
    page = ROOT / "README.md"
    code = "\n".join(EXAMPLE.findall(page.read_text(encoding="utf-8")))
    moved = code.replace("127.0.0.1:2181", server.hosts + root)
    assert moved != code
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(moved, str(page), "exec"), names)
    names["zk"].close()  # what `stop` leaves open, the end of the process closes
    said = capsys.readouterr().out
    assert said.startswith("(b'blue', ZnodeStat(")
    assert "\nnow b'green'\n" in said
    assert "worker-0000000001" in said
