"""The loads that both servers get, and the generator (`load.c`) that makes them."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

SOURCE: Final = Path(__file__).with_name("load.c")
PATIENCE_S: Final = 600


class NoCompiler(Exception):
    """There is nothing that compiles C."""


class LoadFailed(Exception):
    """The generator measured nothing; its own words are the message."""


@attrs.frozen
class Load:
    """`options` of the generator, without hosts and times."""

    name: str
    options: str
    meaning: str


_LOADS: Final = (
    Load("get-1x1", "--mode get", "getData, one connection"),
    Load("get-16x1", "--mode get --connections 16", "getData, 16 connections"),
    Load("get-16x16", "--mode get --connections 16 --depth 16", "the same, 16 in flight on each"),
    Load("set-64x1", "--mode set --connections 64", "setData, 64 connections"),
    Load("set-16x16", "--mode set --connections 16 --depth 16", "16 connections, 16 in flight"),
    Load("create-16x16", "--mode create --connections 16 --depth 16", "creates, removed later"),
    Load("mix-64x1", "--mode mix --connections 64", "10 % setData, 90 % getData"),
    Load("mix-5000/s", "--mode mix --connections 64 --rate 5000", "the same at a fixed rate"),
    Load("watch-1000", "--mode watch --connections 1000", "one znode, 1,000 watchers"),
    Load("connect-16", "--mode connect --connections 16", "sessions opened and closed"),
)
LOADS: Final = {load.name: load for load in _LOADS}
WARMING: Final = ("get-16x16", "mix-64x1", "set-16x16")


class Generator:
    """The compiled program."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def command(
        self, hosts: Sequence[str], options: str, seconds: float, warmup: float
    ) -> list[str]:
        times = ["--seconds", str(seconds), "--warmup", str(warmup)]
        return [str(self.program), "--hosts", ",".join(hosts), *options.split(), *times]

    def run(
        self, hosts: Sequence[str], options: str, seconds: float, warmup: float = 1.0
    ) -> dict[str, Any]:
        """Its report; LoadFailed if it has none."""
        try:
            return self.finish(self.begin(hosts, options, seconds, warmup), seconds + warmup)
        except LoadFailed as error:
            raise LoadFailed(f"{options}: {error}") from error

    def begin(
        self, hosts: Sequence[str], options: str, seconds: float, warmup: float
    ) -> subprocess.Popen[str]:
        command = self.command(hosts, options, seconds, warmup)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, running: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
        try:
            out, complaints = running.communicate(timeout=seconds + PATIENCE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            raise LoadFailed("no end of it") from None
        if running.returncode:
            raise LoadFailed((complaints or out).strip())
        report: dict[str, Any] = json.loads(out)
        return report


def find_compiler() -> str:
    for candidate in (os.environ.get("CC", "cc"), "gcc", "clang"):
        if shutil.which(candidate):
            return candidate
    raise NoCompiler("no C compiler found (on Debian: apt-get install gcc libc6-dev)")


def compile_generator(directory: Path) -> Generator:
    """NoCompiler if there is none, or no headers with it."""
    program = directory / "load"
    command = [find_compiler(), "-std=c11", "-O2", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NoCompiler(f"{command[0]} cannot compile {SOURCE.name}:\n{done.stderr.strip()}")
    return Generator(program)
