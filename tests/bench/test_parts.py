"""The parts of scripts/bench that need no second server, and its generator, where there is a cc."""

import itertools
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import big, figures, loads, peers, run
from tests.bench.figures import THROUGHPUT, ZKPY, ZOOKEEPER, Fact, Pair, Target
from tests.bench.loads import LOADS, Generator, LoadFailed, NoCompiler

# --- figures -------------------------------------------------------------------------


def report(rate: float, p99: float = 100.0, **troubles: int) -> dict[str, Any]:
    latencies = {"p50": p99 / 2, "p99": p99, "p999": p99 * 2, "max": p99 * 3}
    return {
        "ops_per_s": rate,
        "latency_us": latencies,
        **dict.fromkeys(figures.TROUBLES, 0),
        **troubles,
    }


def pair(ours: float, theirs: float) -> Pair:
    return {ZKPY: report(ours), ZOOKEEPER: report(theirs)}


def test_a_ratio_is_the_median_of_the_pairs_not_the_ratio_of_medians() -> None:
    """The machine got slower from pair to pair; zkpy was twice as fast in two of three."""
    pairs = [pair(2000, 1000), pair(600, 300), pair(100, 200)]
    assert figures.summary_of(pairs, ZKPY, THROUGHPUT) == 600
    assert figures.summary_of(pairs, ZOOKEEPER, THROUGHPUT) == 300
    assert figures.ratio_of(pairs, THROUGHPUT) == 2
    assert figures.ratio_of([*pairs, pair(3, 1)], THROUGHPUT) == 2
    assert figures.ratio_of([pair(1, 1), pair(2, 1)], THROUGHPUT) == 1.5


def test_of_the_highest_latencies_the_highest_counts() -> None:
    pairs = [{ZKPY: report(1, p99)} for p99 in (10.0, 1000.0, 20.0)]
    assert figures.summary_of(pairs, ZKPY, "max") == 3000
    assert figures.summary_of(pairs, ZKPY, "p99") == 20


def test_without_the_other_server_there_is_no_ratio() -> None:
    pairs = [{ZKPY: report(1000)}]
    assert figures.ratio_of(pairs, THROUGHPUT) is None
    assert figures.ratio_of([pair(10, 0)], THROUGHPUT) is None
    row = figures.load_row("get-1x1", pairs, figures.STANDALONE["get-1x1"])
    assert row[1:4] == ["1,000", "-", "-"]
    assert row[-1] == "p50 <= 0.6: not measured; p99 <= 1: not measured"


@pytest.mark.parametrize(
    ("target", "value", "is_met"),
    [
        (Target("p99", at_most=1), 1.0, True),
        (Target("p99", at_most=1), 1.01, False),
        (Target("ops/s", at_least=2), 2.0, True),
        (Target("ops/s", at_least=2), 1.99, False),
    ],
)
def test_targets(target: Target, value: float, is_met: bool) -> None:
    assert target.is_met(value) is is_met
    assert (": met" in target.verdict(value)) is is_met
    assert ("NOT MET" in target.verdict(value)) is not is_met


def test_targets_are_of_loads_that_exist_and_figures_that_are_measured() -> None:
    facts = {"memory at rest", "memory after", "first session"}
    for targets in (figures.STANDALONE, figures.ENSEMBLE):
        assert targets.keys() <= LOADS.keys() | facts
        for name in targets.keys() & LOADS.keys():
            for target in targets[name]:
                assert figures.ratio_of([pair(1, 1)], target.figure) == 1
    assert figures.targets_of(5) == {}


def test_what_went_wrong_stands_in_the_row() -> None:
    pairs = [{ZKPY: report(10, errors=3), ZOOKEEPER: report(10, disconnects=1)}]
    assert figures.troubles_of(pairs) == "zkpy: 3 errors, zookeeper: 1 disconnects"
    assert "TROUBLE zkpy: 3 errors" in figures.load_row("get-1x1", pairs, [])[-1]


def test_facts_are_compared_in_turn_too() -> None:
    fact = Fact("first session", "s", {ZKPY: [1.0, 2.0, 9.0], ZOOKEEPER: [2.0, 4.0, 9.0]})
    row = fact.row([Target("ratio", at_most=0.6), Target("zkpy", at_most=1)])
    assert row[:4] == ["first session, s", "2", "4", "0.5"]
    assert row[4] == "ratio <= 0.6: met (0.50); zkpy <= 1: NOT MET (2.00)"


def test_the_table_is_aligned() -> None:
    assert figures.table(("load", "/s", ""), [["a", "1,000", "met"], ["long one", "2", ""]]) == (
        "load         /s\na         1,000  met\nlong one      2"
    )


# --- options, pairs, znodes ----------------------------------------------------------


def test_options() -> None:
    options = run.parse(["--servers", "3", "--observers", "2", "--loads", "get-1x1,set-64x1"])
    assert (options.pairs, options.seconds, options.servers, options.observers) == (5, 5.0, 3, 2)
    assert options.loads == ["get-1x1", "set-64x1"]
    assert (options.million, options.ephemerals, options.heap) == (None, None, "1000m")
    assert run.parse(["--quick"]).pairs == 1
    assert run.parse(["--million"]).million == 1_000_000
    assert run.parse(["--million", "5,000"]).heap == run.MILLION_HEAP
    assert run.parse(["--ephemerals", "--servers", "3"]).ephemerals == 200_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--servers 2", "invalid choice"),
        ("--pairs 0", "at least 1"),
        ("--loads get-1x1,got", "no load got"),
        ("--million --servers 3", "of one server"),
        ("--million --ephemerals", "not together"),
        ("--observers 1", "--servers 3 or more"),
    ],
)
def test_options_that_make_no_sense(
    arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run.parse(arguments.split())
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_names_every_load(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.parse(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out and load.meaning in out for name, load in LOADS.items())


def test_who_is_first_changes_from_pair_to_pair(tmp_path: Path) -> None:
    both = [
        peers.Peer(kind, tmp_path / kind.name)
        for kind in (peers.zkpy(), peers.zookeeper("x.jar", "1g"))
    ]
    order = itertools.count()
    first, second = (
        run.in_turn(number, both, lambda peer: {"name": peer.name, "at": next(order)})
        for number in range(2)
    )
    assert [first[ZKPY]["at"], first[ZOOKEEPER]["at"]] == [0, 1]
    assert [second[ZKPY]["at"], second[ZOOKEEPER]["at"]] == [3, 2]


def test_members_get_the_same_configuration(tmp_path: Path) -> None:
    peer = peers.Peer(peers.zkpy(), tmp_path / "x", voters=3, observers=1)
    configs = [peer._config(number, {"snapCount": "500"}).splitlines() for number in range(4)]
    members = [[line for line in config if line.startswith("server.")] for config in configs]
    assert members[0] == members[3]
    assert [line.endswith(":observer") for line in members[0]] == [False, False, False, True]
    assert all("snapCount=500" in config for config in configs)
    alone = peers.Peer(peers.zkpy(), tmp_path / "y")
    assert "server." not in alone._config(0, {})


def test_a_million_in_directories_of_a_thousand() -> None:
    batches = list(big.million_paths(2500))
    assert [len(batch) for batch in batches] == [1001, 1001, 501]
    assert batches[2][0] == "/million/0002"
    assert batches[2][-1] == "/million/0002/499"
    assert [len(batch) for batch in big.ephemeral_batches(1500)] == [1000, 500]


# --- the generator -------------------------------------------------------------------


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NoCompiler, match="no C compiler found"):
        loads.find_compiler()


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    try:
        return loads.compile_generator(tmp_path_factory.mktemp("generator"))
    except NoCompiler as error:
        pytest.skip(str(error))


def test_quantiles_are_those_of_the_samples(generator: Generator) -> None:
    dice = random.Random(1)
    samples = sorted(int(10 ** dice.uniform(2, 10)) for _ in range(20_000))
    told = quantiles(generator, samples)
    assert told["samples"] == len(samples)
    assert told["max"] == pytest.approx(samples[-1] / 1000, abs=0.06)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)):
        exact = samples[round(share * len(samples)) - 1] / 1000
        assert exact - 0.06 <= told[name] <= exact * 1.004 + 0.06


def test_quantiles_of_one_sample_and_of_none(generator: Generator) -> None:
    assert set(quantiles(generator, [5000]).values()) == {1, 5.0}
    assert set(quantiles(generator, []).values()) == {0}


def quantiles(generator: Generator, samples: list[int]) -> dict[str, float]:
    done = subprocess.run(
        [generator.program, "--mode", "quantiles"],
        input="\n".join(map(str, samples)),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)["latency_us"]
    return found


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "--hosts is missing"),
        ("--mode got", "no mode 'got'"),
        ("--depth x", "'x' is not a number"),
        ("--depth 0", "not a number from 1"),
        ("--seconds", "needs a value"),
        ("--colour red", "no option '--colour'"),
        ("--hosts localhost", "has no port"),
        ("--hosts a:1 --mode watch --rate 5", "--rate goes with"),
    ],
)
def test_the_generators_options(generator: Generator, arguments: str, complaint: str) -> None:
    command = [str(generator.program), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


# --- the generator and a server ------------------------------------------------------


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    started = peers.Peer(peers.zkpy(), tmp_path_factory.mktemp("peer") / "data")
    with peers.removed_after(started):
        started.start({"snapCount": str(big.SNAP_COUNT)})
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADS)
def test_every_load_works_and_leaves_nothing(
    peer: peers.Peer, generator: Generator, name: str
) -> None:
    before = big_children(peer)
    options = LOADS[name].options.replace("1000", "50")
    found = generator.run(peer.hosts, options, seconds=0.3, warmup=0.1)
    assert figures.troubles_of([{ZKPY: found}]) == ""
    assert found["ops"] > 0
    latencies = found["latency_us"]
    assert 0 < latencies["p50"] <= latencies["p99"] <= latencies["p999"] <= latencies["max"]
    assert big_children(peer) == before


def big_children(peer: peers.Peer) -> int:
    with big.Session(peer.hosts[0]) as session:
        return session.count_children("/")


@pytest.mark.slow
def test_a_stall_is_not_hidden_at_a_fixed_rate(peer: peers.Peer, generator: Generator) -> None:
    """The server stops for a while: what was due in that time waited, sent or not."""
    options = "--mode set --keys 1 --connections 4 --depth 1 --rate 400 --timeline 100"
    before = zxid_of(peer)
    running = generator.begin(peer.hosts, options, seconds=2.0, warmup=0.0)
    (server,) = peer.servers
    try:
        await_load(peer, before)
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
    finally:
        server.process.send_signal(signal.SIGCONT)
    found = generator.finish(running, 2.0)
    assert figures.troubles_of([{ZKPY: found}]) == ""
    assert found["latency_us"]["samples"] == 800
    assert 400_000 < found["latency_us"]["max"] < 2_000_000
    assert found["latency_us"]["p95"] > 200_000
    assert sum(found["timeline"]["ops"]) == 800


def await_load(peer: peers.Peer, before: int) -> None:
    """More was written than opening sessions and making one key takes: it is measuring."""
    while zxid_of(peer) < before + 40:
        assert peer.servers[0].process.poll() is None


def zxid_of(peer: peers.Peer) -> int:
    (line,) = [line for line in ask(peer, b"srvr").splitlines() if line.startswith("Zxid:")]
    return int(line.split()[1], 16)


def ask(peer: peers.Peer, word: bytes) -> str:
    with socket.create_connection(("127.0.0.1", peer.servers[0].port), 10) as asking:
        asking.sendall(word)
        return asking.makefile("rb").read().decode()


@pytest.mark.slow
def test_a_server_that_dies_is_told_of(tmp_path: Path, generator: Generator) -> None:
    alone = peers.Peer(peers.zkpy(), tmp_path / "data")
    with peers.removed_after(alone):
        alone.start()
        before = zxid_of(alone)
        options = "--mode set --keys 1 --connections 3 --rate 300"
        running = generator.begin(alone.hosts, options, 1.0, 0.0)
        await_load(alone, before)
        alone.servers[0].process.kill()
        found = generator.finish(running, 1.0)
    assert found["disconnects"] == 3
    assert found["missed"] + found["unanswered"] + found["latency_us"]["samples"] == 300
    assert found["missed"] > 0


@pytest.mark.slow
def test_nobody_there_is_told_of(tmp_path: Path, generator: Generator) -> None:
    nobody = peers.Peer(peers.zkpy(), tmp_path / "data")
    with pytest.raises(LoadFailed, match="--mode get: load: cannot connect"):
        generator.run(nobody.hosts, "--mode get", seconds=0.1)


@pytest.mark.slow
def test_a_small_million(peer: peers.Peer, generator: Generator) -> None:
    peer.stop()
    found = big.measure_million(peer, generator, count=2500, seconds=0.2, warmup=0.1)
    assert found["images"] >= 1
    reads = [each for key in ("reads_empty", "reads_full") for each in found[key].values()]
    for result in (*itertools.chain(*reads), found["during_image"]):
        assert figures.troubles_of([{ZKPY: result}]) == ""
    with big.Session(peer.hosts[0]) as session:
        assert session.count_children("/million/0001") == 1000


@pytest.mark.slow
def test_the_whole_script(tmp_path: Path, generator: Generator) -> None:
    script = Path(run.__file__)
    arguments = ["--only", "zkpy", "--quick", "--loads", "get-16x16", "--out", str(tmp_path)]
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "get-16x16" in done.stdout
    assert "memory after, MiB" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["loads-1-0.json"]
