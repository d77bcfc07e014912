"""Compile the core of zkpy to machine code with mypyc, into a tree of its own.

    compile_tree.py TREE                   make it, unless it is there and up to date
    compile_tree.py --check TREE           exit 0 if it is there and up to date
    compile_tree.py --test TREE [ARG ...]  make it, and run pytest on it

TREE becomes a copy of `zkpy` and `wire` with an extension module beside each source that
`COMPILED` names; whoever puts it on PYTHONPATH runs it in place of the sources.  The
sources stay what is read, tested and debugged: the tree is thrown away whole when it is
made anew, and a fingerprint in it says whether it still belongs to them.

What is compiled: the core, and what else runs for each request.  What is not: `wire.jute`,
`wire.records` and `wire.peer`, which read annotations at run time, and what waits for the
kernel or is asked once in a while.  Classes of the core are plain ones or dataclasses, whose
attributes mypyc knows; an `__init__` that `dataclass` generates stays interpreted, so those
that each request makes write theirs out (a fifth of a setData).

The tree's tests are those of what is compiled; some replace a part of the core, and are left
out (the marker `patches`).
"""

import argparse
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("wire", "zkpy")
COMPILED: Final = (
    *("wire/buffers.py", "wire/client.py", "wire/entries.py", "wire/link.py"),
    *("wire/txn.py", "wire/upper.py"),
    *("zkpy/compiled.py", "zkpy/crc.py", "zkpy/effects.py", "zkpy/summary.py", "zkpy/zxid.py"),
    "zkpy/storage/record.py",
    *("zkpy/state/*.py", "zkpy/zab/*.py", "zkpy/pipeline/*.py", "zkpy/replica/*.py"),
    *("zkpy/server/driver.py", "zkpy/server/clients.py", "zkpy/server/clock.py"),
    *("zkpy/server/ensemble.py", "zkpy/server/log_disk.py", "zkpy/server/peers.py"),
    "zkpy/admin/metrics.py",
)
"""As glob patterns."""
LEFT_OUT: Final = ("__init__.py", "status.py")
"""Names that no pattern means: there is nothing to win, and the second has attrs classes."""
FOR_TESTS: Final = ("tests", "docs", "setup.cfg")
STAMP: Final = "made-from"
JUNIT_OPTION: Final = "--junitxml="


class NoCompiler(Exception):
    """This machine lacks what a compilation needs."""


class Failed(Exception):
    """It was tried, and did not work."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    tree = options.tree.resolve()
    if options.check:
        return 0 if belongs(tree) else 1
    try:
        make(tree)
    except NoCompiler as why:
        print(f"compile: {why}", file=sys.stderr)
        return tell_skipped(options.pytest, str(why)) if options.test else 1
    except Failed as why:
        print(f"compile: {why}", file=sys.stderr)
        return 1
    return run_tests(tree, options.pytest) if options.test else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compile", description="Compile the core of zkpy.")
    parser.add_argument("--check", action="store_true", help="is TREE there and up to date?")
    parser.add_argument("--test", action="store_true", help="run the core's tests on TREE")
    parser.add_argument("tree", type=Path, metavar="TREE", help="directory to make")
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="what pytest is given")
    return parser.parse_args(arguments)


def make(tree: Path) -> None:
    """Nothing is left half made: the tree is built beside its place, then moved there."""
    require_compiler()
    tree.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{tree}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read_stamp(tree) != stamp():
            make_anew(tree)


def make_anew(tree: Path) -> None:
    made_from = stamp()
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=f"{tree.name}-") as made:
        work = Path(made) / "tree"
        copy_sources(work)
        build(work)
        if stamp() != made_from:
            raise Failed("the sources changed meanwhile; once more, please")
        (work / STAMP).write_text(json.dumps(made_from), encoding="utf-8")
        if tree.exists():
            tree.rename(Path(made) / "old")
        work.rename(tree)


# --- what it is made from


def stamp() -> dict[str, str]:
    return {
        **origin(),
        "level": opt_level(),
        "mypy": importlib.metadata.version("mypy"),
    }


def origin() -> dict[str, str]:
    """What a tree has to have in common with who runs it."""
    digest = hashlib.sha256()
    for path in [*sources(), Path(__file__).resolve()]:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return {"sources": digest.hexdigest(), "python": f"{sys.version} {suffix}"}


def belongs(tree: Path) -> bool:
    return origin().items() <= read_stamp(tree).items()


def read_stamp(tree: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((tree / STAMP).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix == ".py" or path.name == "py.typed":
                yield path


def copy_sources(tree: Path) -> None:
    for path in sources():
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


# --- building


def opt_level() -> str:
    """0 compiles in a third of the time: for tests, which ask what it does, not how fast."""
    return os.environ.get("ZKPY_COMPILE_LEVEL", "3")


def require_compiler() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise NoCompiler(f"there is no C compiler ({compiler}) here")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise NoCompiler("there is no Python.h (on Debian: apt-get install python3-dev)")


def build(tree: Path) -> None:
    """Let mypyc write C, and setuptools compile it, in a process whose directory is `tree`."""
    found = {path for pattern in COMPILED for path in tree.glob(pattern)}
    names = sorted(str(path.relative_to(tree)) for path in found if path.name not in LEFT_OUT)
    script = tree / "setup.py"
    script.write_text(_SETUP.format(names=names, level=opt_level()), encoding="utf-8")
    workers = str(os.cpu_count() or 1)
    command = [sys.executable, script.name, "-q", "build_ext", "--inplace", "--parallel", workers]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise Failed("compiling failed, see above")
    shutil.rmtree(tree / "build")
    script.unlink()


_SETUP: Final = """\
from mypyc.build import mypycify
from setuptools import setup

modules = mypycify({names}, opt_level="{level}", debug_level="0", multi_file=True)
setup(name="zkpy-compiled", packages=[], ext_modules=modules)
"""


# --- testing


def run_tests(tree: Path, arguments: list[str]) -> int:
    """From copies beside the compiled packages, or pytest would find the sources first."""
    for name in FOR_TESTS:
        copy = tree / name
        if copy.is_dir():
            shutil.rmtree(copy)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, copy)
    check = "import zkpy.compiled as it; assert it.COMPILED, 'these would be the sources'"
    subprocess.run([sys.executable, "-c", check], cwd=tree, check=True)
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=tree)


def tell_skipped(arguments: list[str], why: str) -> int:
    """One skipped test, where pytest would have told of its own (scripts/run_tox.py)."""
    for argument in arguments:
        if argument.startswith(JUNIT_OPTION):
            suite = ElementTree.Element(
                "testsuite", tests="1", skipped="1", failures="0", errors="0"
            )
            case = ElementTree.SubElement(suite, "testcase", classname="compiled", name="compiled")
            ElementTree.SubElement(case, "skipped", message=why)
            ElementTree.ElementTree(suite).write(argument.removeprefix(JUNIT_OPTION))
    return 0


if __name__ == "__main__":
    sys.exit(main())
