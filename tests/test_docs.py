"""What the pages say of the tree, where a program can compare the two."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_architecture import MAY_IMPORT, TOP, project_files

ROOT = Path(__file__).parents[1]
PAGES = [path for path in project_files() if path.suffix == ".md"]
CODE = [path for path in project_files() if path.suffix in (".py", ".sh", "")]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
PAGE_NAMED = re.compile(r"\bdocs/[\w/]+\.md\b")
RULE_NAMED = re.compile(r"\b(?:rules? |Violation\(\")([ACD][0-9]+)((?:(?:, | and )[ACD][0-9]+)*)")
RULE_TOLD = re.compile(r"^\| ([ACD][0-9]+) \|", re.MULTILINE)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for name, anchor in LINK.findall(text_of(page)):
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {name}#{anchor}")
    assert broken == []


def test_pages_that_code_names_exist() -> None:
    named = {name for path in CODE + PAGES for name in PAGE_NAMED.findall(text_of(path))}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_rules_that_code_names_are_told() -> None:
    """Comments, tests and checkers call guarantees by names: docs/guarantees.md has them."""
    told = RULE_TOLD.findall(text_of(ROOT / "docs" / "guarantees.md"))
    named = {
        rule
        for path in CODE
        for first, more in RULE_NAMED.findall(text_of(path))
        for rule in [first, *re.findall(r"[ACD][0-9]+", more)]
    }
    assert {"A9", "C4", "D5"} <= named <= set(told)
    assert len(told) == len(set(told))


PACKAGES = sorted(path.parent for top in TOP for path in (ROOT / top).rglob("__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_that_lists_its_modules_lists_all(package: Path) -> None:
    text = ast.get_docstring(ast.parse(text_of(package / "__init__.py"))) or ""
    listed = re.findall(r"^\s*(\w+\.py) ", text, re.MULTILINE)
    there = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert not listed or sorted(listed) == sorted(there)


def test_the_import_table_is_the_one_that_is_held() -> None:
    """Row by row: the page's packages, and those of `test_architecture.MAY_IMPORT`."""
    page = text_of(ROOT / "docs" / "architecture.md")
    table = page.partition("## Who may import whom")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (`.+?) \| (.+) \|$", table, re.MULTILINE))
    told = {
        home: whole(others)
        for packages, others in rows.items()
        for home in whole(packages)
        if "all " not in others
    }
    names = ("wire", "state", "zab", "pipeline", "storage", "replica", "admin", "recipes", "crc")
    homes = [name if name in ("wire", "recipes") else f"zkpy.{name}" for name in names]
    assert {home: told[home] for home in homes} == {home: MAY_IMPORT[home] for home in homes}
    cli = MAY_IMPORT["zkpy.cli"]
    assert told["zkpy.cli"] <= cli
    assert cli - told["zkpy.cli"] <= MAY_IMPORT["zkpy.membership"]


def whole(cell: str) -> set[str]:
    """The names in a cell: a bare one is of zkpy, but for packages outside."""
    outside = ("wire", "recipes", "cbor2", "kazoo", "click", "zlib_ng")
    names = re.findall(r"[\w.]+", cell.replace("zlib-ng", "zlib_ng"))
    return {name if name.split(".")[0] in (*outside, "zkpy") else f"zkpy.{name}" for name in names}
