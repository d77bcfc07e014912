"""The rules of the house that a parser can check.

The import table of docs/architecture.md, what the core may call, and that no
order of hashing leaks into a run.  Each rule is one function from a parsed module
to complaints, and is itself tried on lines that break it.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("wire", "zkpy", "recipes")

# --- the import table ------------------------------------------------------------

BASE = {
    f"zkpy.{name}"
    for name in "compiled config crc effects errors limits membership summary zxid".split()
}
CORE_SERVED = {"wire", "zkpy.state", "zkpy.zab", "zkpy.pipeline", "zkpy.replica"}
ALL_BUT_TOP = BASE | CORE_SERVED | {"zkpy.storage", "zkpy.admin", "zkpy.zookeeper"}

MAY_IMPORT: dict[str, set[str]] = {
    "wire": {"cbor2"},
    **{name: {"wire.codes"} | BASE for name in sorted(BASE)},
    "zkpy.crc": {"zlib_ng"},
    "zkpy.state": {"wire", "zkpy.crc", "zkpy.errors", "zkpy.zxid", "zkpy.limits"},
    "zkpy.zab": {"zkpy.zxid", "zkpy.effects", "zkpy.limits", "zkpy.summary"}
    | {"wire.peer", "wire.errors"},
    "zkpy.pipeline": {"zkpy.errors", "zkpy.zxid", "zkpy.limits", "zkpy.membership"}
    | {"wire", "zkpy.state", "zkpy.summary"},
    "zkpy.storage": {"zkpy.crc", "zkpy.errors", "zkpy.zxid", "zkpy.effects"},
    "zkpy.zookeeper": {"wire", "zkpy.state", "zkpy.errors", "zkpy.zxid"},
    "zkpy.replica": {"zkpy.errors", "zkpy.zxid", "zkpy.effects", "zkpy.limits"}
    | {"zkpy.membership", "zkpy.summary"}
    | {"wire", "zkpy.state", "zkpy.zab", "zkpy.pipeline"},
    "zkpy.admin": {"wire.codes", "zkpy.replica.status", "zkpy.config", "zkpy.summary"},
    "zkpy.server": ALL_BUT_TOP | {"h11", "uvloop"},
    "zkpy.server.tls": ALL_BUT_TOP | {"zkpy.server", "cryptography"},
    "zkpy.testing": ALL_BUT_TOP,
    "zkpy.testing.realserver": ALL_BUT_TOP | {"zkpy.server", "zkpy.testing", "kazoo"},
    "zkpy.cli": BASE
    | {"wire", "zkpy.state", "zkpy.storage", "zkpy.server", "zkpy.admin", "zkpy.testing"}
    | {"zkpy.zookeeper", "kazoo", "click"},
    "zkpy.__main__": {"zkpy.cli"},
    "zkpy": set(),
    "recipes": {"kazoo"},
}
"""Package -> what it may import besides itself, attrs and the standard library."""
TELLS_VERSION = {"zkpy.admin", "zkpy.server", "zkpy.cli"}
"""May import `zkpy` itself, which holds the version and nothing else."""

# --- what the core may use of the standard library --------------------------------

CORE = ("wire", "zkpy.membership", "zkpy.state", "zkpy.zab", "zkpy.pipeline", "zkpy.replica")
PURE_STDLIB = frozenset(
    "abc array base64 binascii bisect collections contextlib copy dataclasses enum functools "
    "hashlib heapq hmac inspect ipaddress itertools logging math operator random re string "
    "struct types typing zlib".split()
)
"""No time, no IO, no threads.  `random` for the type of the dice that are handed in."""
NEVER_IN_STORAGE = frozenset(
    "asyncio random secrets selectors socket ssl threading time uuid".split()
)
BANNED_CALLS = frozenset(
    "breakpoint compile eval exec globals hash id input open print vars __import__".split()
)
"""`hash` and `id` differ from run to run; the others are IO or reach round the types."""
COMPILES_CODECS = {"wire.jute"}
"""Generates the source of its codecs, and so compiles and executes it."""


@attrs.frozen
class Module:
    name: str
    """Dotted, a package without its `__init__`."""
    tree: ast.Module
    is_package: bool = False

    def within(self, packages: Iterable[str]) -> bool:
        return any(is_within(self.name, package) for package in packages)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def read_modules() -> list[Module]:
    return [read_module(path) for top in TOP for path in sorted((ROOT / top).rglob("*.py"))]


def read_module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, ast.parse(path.read_text(encoding="utf-8")), is_package)


MODULES = read_modules()
CORE_MODULES = [module for module in MODULES if module.within(CORE)]


def imports_of(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, wherever it stands in the module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute_source(module, node)
            yield from ((node.lineno, resolve(source, alias.name)) for alias in node.names)


def absolute_source(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    up = node.level - (1 if module.is_package else 0)
    parts = parts[: len(parts) - up]
    return ".".join([*parts, *([node.module] if node.module else [])])


def resolve(source: str, name: str) -> str:
    """`from zkpy import zxid` imports the module zkpy.zxid; `from a import f` imports a."""
    whole = f"{source}.{name}"
    path = ROOT.joinpath(*whole.split("."))
    is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
    return whole if is_module else source


# --- the rules ---------------------------------------------------------------------


def check_imports(module: Module) -> Iterator[str]:
    home = max((p for p in MAY_IMPORT if is_within(module.name, p)), key=len)
    allowed = MAY_IMPORT[home] | ({home} if home != "zkpy" else set())
    for line, name in imports_of(module):
        top = name.split(".")[0]
        if top == "attrs" or top in sys.stdlib_module_names:
            continue
        if name == "zkpy" and home in TELLS_VERSION:
            continue
        if not any(is_within(name, package) for package in allowed):
            yield f"{module.name}:{line} imports {name}"


def check_core_stdlib(module: Module) -> Iterator[str]:
    for line, name in imports_of(module):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names and top not in PURE_STDLIB:
            yield f"{module.name}:{line} imports {name}"


def check_storage_stdlib(module: Module) -> Iterator[str]:
    return banned_imports(module, NEVER_IN_STORAGE)


def check_simulator_stdlib(module: Module) -> Iterator[str]:
    """As storage, but the simulator owns the dice."""
    return banned_imports(module, NEVER_IN_STORAGE - {"random"})


def banned_imports(module: Module, banned: frozenset[str]) -> Iterator[str]:
    for line, name in imports_of(module):
        if name.split(".")[0] in banned:
            yield f"{module.name}:{line} imports {name}"


def check_dice(module: Module) -> Iterator[str]:
    """Of `random` only the class Random: the functions share one hidden global state."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and is_name(node.value, "random"):
            names = [node.attr]
        else:
            continue
        yield from (
            f"{module.name}:{node.lineno} uses random.{name}" for name in names if name != "Random"
        )
    for call in calls_in(module.tree):
        bare = ast.unparse(call.func) in ("random.Random", "Random")
        if bare and not call.args and not call.keywords:
            yield f"{module.name}:{call.lineno} makes dice without a seed"


def check_no_async(module: Module) -> Iterator[str]:
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    for node in ast.walk(module.tree):
        if isinstance(node, kinds):
            yield f"{module.name}:{node.lineno} is asynchronous"


def check_calls(module: Module) -> Iterator[str]:
    may = {"compile", "exec"} if module.name in COMPILES_CODECS else set()
    for call in calls_in(module.tree):
        if isinstance(call.func, ast.Name) and call.func.id in BANNED_CALLS - may:
            yield f"{module.name}:{call.lineno} calls {call.func.id}()"


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


# --- no order of a set ---------------------------------------------------------------

SET_TYPES = ("set", "frozenset", "Set", "MutableSet", "AbstractSet")
ORDERED_ELEMENTS = ("int", "bool")
"""Hashes of these do not differ from run to run, so neither does the order."""
SET_METHODS = frozenset("union intersection difference symmetric_difference".split())
TAKES_ORDER = frozenset("dict enumerate iter list map filter next tuple zip reversed".split())
"""Calls that let the order of what they iterate out (sorted, len, min, sum ... do not)."""


def is_risky_annotation(node: ast.AST | None) -> bool:
    """Whether an annotation is a set whose elements are not known to be ints."""
    if isinstance(node, ast.BinOp):
        return is_risky_annotation(node.left) or is_risky_annotation(node.right)
    if isinstance(node, ast.Subscript):
        base, element = node.value, node.slice
        if is_final(base):
            return is_risky_annotation(element)
        return names_set(base) and ast.unparse(element) not in ORDERED_ELEMENTS
    return node is not None and names_set(node)


def is_final(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("Final", "ClassVar")


def names_set(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and (
        ast.unparse(node).split(".")[-1] in SET_TYPES
    )


class SetOrder:
    """Names that hold sets of strings in one module, and where such a set is iterated.

    By name, not by scope: a name that is a set somewhere in the module counts as
    one everywhere in it, unless it is annotated as something else.  That errs on
    the side of a complaint, and a `sorted()` settles it.
    """

    def __init__(self, module: Module, shared: frozenset[str] = frozenset()) -> None:
        self.module = module
        self.names: set[str] = set(shared)
        for node in ast.walk(module.tree):
            self.learn(node)

    def learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.arg | ast.AnnAssign) and is_risky_annotation(node.annotation):
            self.names.add(node.arg if isinstance(node, ast.arg) else last_name(node.target))
        elif isinstance(node, ast.FunctionDef) and is_risky_annotation(node.returns):
            self.names.add(node.name)
        elif isinstance(node, ast.Assign) and self.is_set(node.value):
            self.names.update(last_name(target) for target in node.targets)

    def is_set(self, node: ast.AST) -> bool:
        match node:
            case ast.Set():
                return not all(is_int(element) for element in node.elts)
            case ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return bool(node.args)
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in SET_METHODS:
                return True
            case ast.Call():
                return last_name(node.func) in self.names
            case ast.BinOp(op=ast.Sub() | ast.BitAnd() | ast.BitOr() | ast.BitXor()):
                return any(self.is_set(s) or is_keys(s) for s in (node.left, node.right))
            case ast.Name() | ast.Attribute():
                return last_name(node) in self.names
            case ast.IfExp():
                return self.is_set(node.body) or self.is_set(node.orelse)
        return False

    def complaints(self) -> Iterator[str]:
        for node in ast.walk(self.module.tree):
            if any(self.is_set(iterated) for iterated in iterated_by(node)):
                where = f"{self.module.name}:{getattr(node, 'lineno', '?')}"
                yield f"{where} iterates a set: {ast.unparse(node).splitlines()[0]}"


def iterated_by(node: ast.AST) -> list[ast.expr]:
    """The expressions whose order this node makes visible."""
    match node:
        case ast.For():
            return [node.iter]
        case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
            return [generator.iter for generator in node.generators]
        case ast.Starred():
            return [node.value]
        case ast.Call(func=ast.Name(id=name)) if name in TAKES_ORDER:
            return node.args
        case ast.Call(func=ast.Attribute(attr="join" | "extend" | "fromkeys")):
            return node.args
        case ast.Call(func=ast.Attribute(attr="pop", value=value)) if not node.args:
            return [value]
    return []


ORDER_FREE = frozenset("all any frozenset len max min set sorted sum".split())


def strip_order_free(tree: ast.Module) -> ast.Module:
    """Without generator expressions whose consumer does not care: sorted(x for x in ...)."""

    class Strip(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.func, ast.Name) and node.func.id in ORDER_FREE:
                node.args = [
                    a.elt if isinstance(a, ast.GeneratorExp | ast.ListComp) else a
                    for a in node.args
                ]
            return node

    return Strip().visit(tree)  # type: ignore[no-any-return]


def last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def is_int(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def is_keys(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) in ("keys", "items")


def set_attributes(modules: Iterable[Module]) -> frozenset[str]:
    """Fields declared as sets in any class of the core: `state.voters` elsewhere is one too."""
    return frozenset(
        last_name(field.target)
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and is_risky_annotation(field.annotation)
    )


SHARED_SETS = set_attributes(CORE_MODULES)


def check_set_order(module: Module) -> Iterator[str]:
    stripped = Module(module.name, strip_order_free(copy_tree(module.tree)), module.is_package)
    return SetOrder(stripped, SHARED_SETS).complaints()


def copy_tree(tree: ast.Module) -> ast.Module:
    return ast.parse(ast.unparse(tree))


# --- the tests -----------------------------------------------------------------------

CORE_RULES = [check_core_stdlib, check_dice, check_no_async, check_calls, check_set_order]


def complaints(rule: object, modules: Iterable[Module]) -> list[str]:
    assert callable(rule)
    return [complaint for module in modules for complaint in rule(module)]


def test_every_package_is_seen() -> None:
    seen = {module.name for module in MODULES}
    assert set(CORE) <= seen
    assert {"recipes", "zkpy.storage", "zkpy.server", "zkpy.cli"} <= seen


def test_imports_follow_the_table() -> None:
    assert complaints(check_imports, MODULES) == []


@pytest.mark.parametrize("rule", CORE_RULES, ids=lambda rule: rule.__name__)
def test_core(rule: object) -> None:
    assert complaints(rule, CORE_MODULES) == []


def test_storage_is_synchronous_and_clockless() -> None:
    storage = [module for module in MODULES if module.within(["zkpy.storage"])]
    assert storage
    assert complaints(check_storage_stdlib, storage) == []
    assert complaints(check_no_async, storage) == []


def test_simulator_has_no_clock_and_no_sockets() -> None:
    ours = [m for m in MODULES if m.within(["zkpy.testing"]) and "realserver" not in m.name]
    assert complaints(check_dice, ours) == []
    assert complaints(check_simulator_stdlib, ours) == []


BREAKS = [
    (check_imports, "zkpy.state.x", "from zkpy.zab import zab"),
    (check_imports, "zkpy.state.x", "from zkpy import storage"),
    (check_imports, "zkpy.state.x", "from .. import storage"),
    (check_imports, "zkpy.zab.x", "import wire.records"),
    (check_imports, "wire.x", "def f() -> None:\n    import zkpy.zxid"),
    (check_imports, "recipes.x", "from wire.codes import OpCode"),
    (check_imports, "zkpy.admin.x", "import zkpy.replica.core"),
    (check_imports, "zkpy.server.x", "import zkpy.testing"),
    (check_imports, "zkpy.state.x", "from zkpy import __version__"),
    (check_imports, "zkpy.storage.x", "import kazoo"),
    (check_core_stdlib, "wire.x", "import time"),
    (check_core_stdlib, "wire.x", "from os import urandom"),
    (check_core_stdlib, "zkpy.zab.x", "import asyncio"),
    (check_storage_stdlib, "zkpy.storage.x", "import threading"),
    (check_simulator_stdlib, "zkpy.testing.x", "from time import monotonic"),
    (check_dice, "zkpy.zab.x", "import random\nx = random.random()"),
    (check_dice, "zkpy.zab.x", "from random import randrange"),
    (check_dice, "zkpy.zab.x", "import random\nx = random.Random()"),
    (check_no_async, "zkpy.zab.x", "async def f() -> None: ..."),
    (check_calls, "zkpy.zab.x", "x = hash('a')"),
    (check_calls, "zkpy.zab.x", "print('a')"),
    (check_set_order, "zkpy.zab.x", "for x in {'a', 'b'}: pass"),
    (check_set_order, "zkpy.zab.x", "def f(s: set[str]) -> None:\n    for x in s: pass"),
    (check_set_order, "zkpy.zab.x", "def f(s: set[str] | None) -> None:\n    [x for x in s]"),
    (check_set_order, "zkpy.zab.x", "class A:\n    s: frozenset[str]\ndef f(a): list(a.s)"),
    (check_set_order, "zkpy.zab.x", "s = set(names)\n', '.join(s)"),
    (check_set_order, "zkpy.zab.x", "for x in a.keys() - b.keys(): pass"),
    (check_set_order, "zkpy.zab.x", "s: set[str] = set()\ns.pop()"),
    (check_set_order, "zkpy.zab.x", "def f() -> set[str]: ...\nx = [*f()]"),
    (check_set_order, "zkpy.zab.x", "s: set[str]\nfor i, x in enumerate(s): pass"),
]


@pytest.mark.parametrize(("rule", "name", "source"), BREAKS, ids=lambda part: str(part)[:40])
def test_breach_is_found(rule: object, name: str, source: str) -> None:
    assert len(complaints(rule, [Module(name, ast.parse(source))])) == 1


KEEPS = [
    (check_imports, "zkpy.state.x", "from zkpy import zxid\nfrom . import tree\nimport attrs"),
    (check_imports, "zkpy.admin.x", "from zkpy import __version__"),
    (check_imports, "zkpy.admin.x", "from zkpy.replica.status import StatusView"),
    (check_imports, "zkpy.testing.realserver", "from zkpy.server import app"),
    (check_simulator_stdlib, "zkpy.testing.x", "import random"),
    (check_dice, "zkpy.zab.x", "import random\ndef f(r: random.Random) -> float: ..."),
    (check_calls, "wire.jute", "exec(compile(source, name, 'exec'), names)"),
    (check_set_order, "zkpy.zab.x", "def f(s: set[int]) -> None:\n    for x in s: pass"),
    (check_set_order, "zkpy.zab.x", "def f(s: set[str]) -> list[str]: return sorted(s)"),
    (check_set_order, "zkpy.zab.x", "s = {'a'}\nx = sorted(y for y in s)\nz = 'a' in s"),
    (check_set_order, "zkpy.zab.x", "d: dict[str, None]\nfor x in d: pass"),
]


@pytest.mark.parametrize(("rule", "name", "source"), KEEPS, ids=lambda part: str(part)[:40])
def test_lawful_code_is_left_alone(rule: object, name: str, source: str) -> None:
    assert complaints(rule, [Module(name, ast.parse(source))]) == []


# --- nothing of one machine --------------------------------------------------------

HERE_ONLY = [str(path) for path in (ROOT, Path.home(), Path(sys.prefix)) if len(path.parts) > 2]
MACHINE_PATH = re.compile("|".join([r"/(?:home|Users)/\w", *map(re.escape, HERE_ONLY)]))
"""Anyone's home, and where this checkout, its user and its Python happen to be."""
NOT_OURS = re.compile(r"^(?:\.(?!ci$|gitignore$)|__pycache__$|build$|dist$|data$)|\.egg-info$")
TEXT = {".py", ".md", ".txt", ".cfg", ".ini", ".toml", ".sh", ""}


def project_files() -> list[Path]:
    """What git tracks or would track; in a copy without git, all but what is git-ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in ROOT.rglob("*") if is_ours(path.relative_to(ROOT))]


def is_ours(path: Path) -> bool:
    return not any(NOT_OURS.search(part) for part in path.parts)


def machine_paths(text: str) -> list[str]:
    return [line for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_no_path_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in project_files()
        if path.suffix in TEXT and path.is_file()
        for line in machine_paths(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_machine_path_is_found() -> None:
    assert machine_paths("see /" + "home/ann/zk") == ["see /" + "home/ann/zk"]
    assert machine_paths(f"cd {ROOT}") == [f"cd {ROOT}"]
    assert machine_paths("the znode /homes and /zookeeper/config") == []
